//! Checks what the pages include. mdBook leaves out silently what it does not find.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{Problem, files_below};

/// One `{{#include …}}` in a page.
#[derive(Debug, PartialEq)]
struct Include {
    line: usize,
    path: String,
    anchor: Option<String>,
}

/// Checks that every included file and anchor exists, and that every file in
/// `listings/src` and `listings/output` is shown by some page.
pub fn check(source: &Path, listings: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut shown = BTreeSet::new();
    for page in files_below(source)? {
        if page.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let text = read(&page)?;
        for include in includes(&text) {
            let folder = page.parent().unwrap_or(source);
            let file = folder.join(&include.path);
            match file.canonicalize() {
                Ok(file) => {
                    if let Some(what) = anchor_problem(&file, &include)? {
                        problems.push(problem(&page, include.line, what));
                    }
                    shown.insert(file);
                }
                Err(_) => {
                    let what = format!("there is no file {} to include", include.path);
                    problems.push(problem(&page, include.line, what));
                }
            }
        }
    }
    for folder in ["src", "output"] {
        for file in files_below(&listings.join(folder))? {
            // main.rs and lib.rs hold the listings together; they are none.
            let holds_together = ["main.rs", "lib.rs"]
                .iter()
                .any(|name| file == listings.join("src").join(name));
            let full = file
                .canonicalize()
                .with_context(|| format!("finding {}", file.display()))?;
            if !holds_together && !shown.contains(&full) {
                let what = "no page includes this listing".to_owned();
                problems.push(problem(&file, 1, what));
            }
        }
    }
    Ok(problems)
}

fn problem(file: &Path, line: usize, what: String) -> Problem {
    Problem {
        file: file.to_path_buf(),
        line,
        what,
    }
}

fn read(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn includes(text: &str) -> Vec<Include> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some(start) = rest.find("{{#") {
            let escaped = rest[..start].ends_with('\\');
            let inner = &rest[start + 3..];
            let end = inner.find("}}").unwrap_or(inner.len());
            let mut words = inner[..end].split_whitespace();
            let directive = words.next().unwrap_or_default();
            if let (true, false, Some(target)) =
                (directive.ends_with("include"), escaped, words.next())
            {
                let (path, anchor) = match target.split_once(':') {
                    Some((path, anchor)) => (path, Some(anchor.to_owned())),
                    None => (target, None),
                };
                found.push(Include {
                    line: index + 1,
                    path: path.to_owned(),
                    anchor,
                });
            }
            rest = &inner[end..];
        }
    }
    found
}

/// What is wrong with an include's anchor, if anything is.
fn anchor_problem(file: &PathBuf, include: &Include) -> Result<Option<String>> {
    let Some(anchor) = &include.anchor else {
        return Ok(None);
    };
    // `file:10:20` is a range of lines. It goes wrong as soon as the listing changes.
    if anchor.starts_with(|c: char| c.is_ascii_digit() || c == ':') {
        return Ok(Some(format!(
            "{}:{anchor} names lines by number; name an anchor",
            include.path
        )));
    }
    let text = read(file)?;
    let mut inside = false;
    let mut lines = 0;
    for line in text.lines() {
        if marks(line, "ANCHOR_END:", anchor) {
            return Ok(
                (lines == 0).then(|| format!("the anchor {anchor} in {} is empty", include.path))
            );
        }
        if inside {
            lines += 1;
        }
        inside |= marks(line, "ANCHOR:", anchor);
    }
    Ok(Some(if inside {
        format!("the anchor {anchor} in {} has no end", include.path)
    } else {
        format!("there is no anchor {anchor} in {}", include.path)
    }))
}

/// Whether `line` holds this kind of mark for exactly this anchor.
fn marks(line: &str, kind: &str, anchor: &str) -> bool {
    line.split_once(kind)
        .is_some_and(|(_, name)| name.trim() == anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_with_line_and_anchor() {
        let found = includes("one\n{{#include ../a.rs:b}} {{#include c.txt}}\n\\{{#include no}}");
        assert_eq!(
            found,
            [
                Include {
                    line: 2,
                    path: "../a.rs".into(),
                    anchor: Some("b".into())
                },
                Include {
                    line: 2,
                    path: "c.txt".into(),
                    anchor: None
                },
            ]
        );
    }

    #[test]
    fn an_unclosed_and_an_empty_anchor_are_problems() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("a.rs");
        std::fs::write(
            &file,
            "// ANCHOR: open\nx\n// ANCHOR: void\n// ANCHOR_END: void\n",
        )?;
        let with = |anchor: &str| Include {
            line: 1,
            path: "a.rs".into(),
            anchor: Some(anchor.into()),
        };
        let open = anchor_problem(&file, &with("open"))?.unwrap_or_default();
        assert!(open.contains("has no end"), "{open}");
        let void = anchor_problem(&file, &with("void"))?.unwrap_or_default();
        assert!(void.contains("is empty"), "{void}");
        let gone = anchor_problem(&file, &with("gone"))?.unwrap_or_default();
        assert!(gone.contains("no anchor"), "{gone}");
        Ok(())
    }
}
