//! Builds the book and checks what it built.
//!
//! `cargo run -p book` writes the pages to `chapters/book`; `cargo run -p book -- --check`
//! builds into a temporary directory and keeps nothing. Either way every internal link,
//! anchor, image and include is checked, and a listing that no page shows is an error.
//! Exit codes: 0 all well, 1 something is broken, 2 wrong usage.

mod html;
mod includes;
mod links;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use mdbook_driver::MDBook;
use mdbook_driver::book::BookItem;

/// Build the book and check its links, anchors, images and includes.
#[derive(Parser)]
struct Arguments {
    /// Build into a temporary directory, check, and keep nothing.
    #[arg(long)]
    check: bool,
}

/// Something that is broken, and where to mend it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file to open.
    pub file: PathBuf,
    /// The line in it, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// The pages of a built book and where their sources lie.
pub struct Pages {
    /// The folder of the Markdown files.
    pub source: PathBuf,
    /// The folder of the HTML files.
    pub output: PathBuf,
    /// Every page that `SUMMARY.md` names, relative to `source`.
    pub pages: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("{} broken in the book", problems.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the book was not built: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Problem>> {
    let chapters = chapters_folder()?;
    let temporary = if arguments.check {
        Some(tempfile::tempdir().context("creating a temporary directory for the build")?)
    } else {
        None
    };
    let output = match &temporary {
        Some(folder) => folder.path().join("book"),
        None => chapters.join("book"),
    };

    // Broken includes are found first: mdBook would leave a gap in the page and go on.
    let source = chapters.join("src");
    let mut problems = includes::check(&source, &chapters.join("listings"))?;
    let pages = build(&chapters, &output)?;
    problems.extend(links::check(&pages)?);
    problems.extend(pages_without_summary(&pages)?);

    let here = std::env::current_dir().unwrap_or_default();
    for problem in &mut problems {
        if let Ok(short) = problem.file.strip_prefix(&here) {
            problem.file = short.to_path_buf();
        }
    }
    problems.sort();
    problems.dedup();
    if problems.is_empty() {
        if arguments.check {
            println!("{} pages, nothing broken", pages.pages.len());
        } else {
            println!(
                "{} pages in {}",
                pages.pages.len(),
                output.join("index.html").display()
            );
        }
    }
    Ok(problems)
}

/// `chapters/`, the folder above this crate.
fn chapters_folder() -> Result<PathBuf> {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapters = this_crate
        .parent()
        .ok_or_else(|| anyhow!("{} has no folder above it", this_crate.display()))?;
    if !chapters.join("book.toml").is_file() {
        return Err(anyhow!(
            "there is no book.toml in {}; was the workspace moved after this program was built? \
             `cargo build -p book` in the new place mends it",
            chapters.display()
        ));
    }
    Ok(chapters.to_path_buf())
}

fn build(chapters: &Path, output: &Path) -> Result<Pages> {
    let mut book = MDBook::load(chapters)
        .with_context(|| format!("reading the book in {}", chapters.display()))?;
    book.config.build.build_dir = output.to_path_buf();
    book.build()
        .with_context(|| format!("writing the pages to {}", output.display()))?;
    let pages = book
        .iter()
        .filter_map(|item| match item {
            BookItem::Chapter(chapter) => chapter.source_path.clone(),
            _ => None,
        })
        .collect();
    Ok(Pages {
        source: book.source_dir(),
        output: output.to_path_buf(),
        pages,
    })
}

/// Markdown files that nobody can reach, because `SUMMARY.md` does not name them.
fn pages_without_summary(pages: &Pages) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for file in files_below(&pages.source)? {
        let relative = file.strip_prefix(&pages.source).unwrap_or(&file);
        let is_page = relative.extension().is_some_and(|e| e == "md");
        if is_page
            && relative != Path::new("SUMMARY.md")
            && !pages.pages.iter().any(|page| page == relative)
        {
            problems.push(Problem {
                file: file.clone(),
                line: 1,
                what: "SUMMARY.md does not name this page".to_owned(),
            });
        }
    }
    Ok(problems)
}

/// Every file below `folder`, in a fixed order; none if there is no such folder.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        if !folder.is_dir() {
            continue;
        }
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("listing {}", folder.display()))?
                .path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
