//! One page of the atlas: a mistake, told for a reader and written down precisely enough to be built and judged.
//!
//! ````text
//! # SQ03: Acknowledges before the work
//!
//! Caught by: `stage_2_consume::entries_are_acknowledged_after_the_handler`
//!
//! …what one sees, why it is tempting, what it costs, the fix…
//!
//! ```diff
//! --- a/worker.rs
//! +++ b/worker.rs
//! @@ -10,3 +10,3 @@
//! …
//! ```
//! ````

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// Where the pages stand, below the root of the workbook.
pub const FOLDER: &str = "chapters/src/atlas";

/// The line that names the check.
const CAUGHT_BY: &str = "Caught by:";

/// A page of the atlas, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Where it stands.
    pub path: PathBuf,
    /// The mistake's code, such as `SQ03`.
    pub code: String,
    /// What the mistake does, in a few words.
    pub title: String,
    /// The full name of the check that has to catch it.
    pub caught_by: String,
    /// A unified diff against the reference modules that makes the mistake; none in a page that is still being written.
    pub diff: Option<String>,
    /// The whole page.
    pub text: String,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// Names the page and the part that is missing, doubled or misspelt.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(path, text).with_context(|| format!("{}", path.display()))
    }

    fn parse(path: &Path, text: String) -> Result<Self> {
        let heading = text.lines().find(|line| !line.trim().is_empty());
        let (code, title) = heading
            .and_then(|line| line.strip_prefix("# "))
            .and_then(|line| line.split_once(": "))
            .context("the first line has to be `# CODE: Title`")?;
        ensure!(
            is_code(code),
            "`{code}` is no code: two capital letters and two digits"
        );
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        ensure!(
            file.starts_with(&format!("{code}-")),
            "the page of {code} has to be named {code}-….md"
        );
        let page = Self {
            path: path.to_owned(),
            code: code.to_owned(),
            title: title.trim().to_owned(),
            caught_by: caught_by(&text)?,
            diff: diff(&text)?,
            text: String::new(),
        };
        Ok(Self { text, ..page })
    }

    /// The letters that name the exercise: `SQ` for `SQ03`.
    pub fn exercise_code(&self) -> &str {
        self.code.trim_end_matches(|c: char| c.is_ascii_digit())
    }
}

/// Reads every page of the atlas in `dir`, by code.
///
/// A file whose name does not begin with a code (the index of the atlas) is none.
///
/// # Errors
/// The first page that cannot be read; a code that two pages claim.
pub fn read_all(dir: &Path) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("reading {}", dir.display()))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".md") && name.split_once('-').is_some_and(|(code, _)| is_code(code)) {
            pages.push(Page::read(&path)?);
        }
    }
    pages.sort_by(|a: &Page, b| a.code.cmp(&b.code));
    for pair in pages.windows(2) {
        if pair[0].code == pair[1].code {
            bail!(
                "{} and {} both claim {}",
                pair[0].path.display(),
                pair[1].path.display(),
                pair[0].code
            );
        }
    }
    Ok(pages)
}

/// Whether `text` is a code of the atlas: two capital letters and two digits.
pub fn is_code(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 4
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..].iter().all(u8::is_ascii_digit)
}

fn caught_by(text: &str) -> Result<String> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(CAUGHT_BY));
    let form = "write `Caught by:` and the check's name in backticks, `stage_N_….::a_promise`";
    let name = lines.next().context(form)?;
    ensure!(
        lines.next().is_none(),
        "a page has one `{CAUGHT_BY}` line, this one has several"
    );
    let name = name
        .trim()
        .strip_prefix('`')
        .and_then(|name| name.strip_suffix('`'))
        .context(form)?;
    ensure!(name.contains("::"), "{form}");
    Ok(name.to_owned())
}

fn diff(text: &str) -> Result<Option<String>> {
    let mut diffs = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_end() == "```diff" {
            let body: Vec<_> = lines
                .by_ref()
                .take_while(|line| line.trim_end() != "```")
                .collect();
            diffs.push(body.join("\n") + "\n");
        }
    }
    ensure!(
        diffs.len() <= 1,
        "a page has one ```diff block, this one has {}; fence the fix as ```rust instead",
        diffs.len()
    );
    Ok(diffs.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# SQ03: Acknowledges before the work\n\nCaught by: `stage_2_consume::after`\n\nA story.\n\n```diff\n--- a/worker.rs\n+++ b/worker.rs\n@@ -1 +1 @@\n-a\n+b\n```\n\nThe end.\n";

    fn parse(text: &str) -> Result<Page> {
        Page::parse(Path::new("atlas/SQ03-acks.md"), text.to_owned())
    }

    fn problem(text: &str) -> String {
        parse(text).expect_err("a problem").to_string()
    }

    #[test]
    fn a_page_is_read() {
        let page = parse(PAGE).expect("a page");
        assert_eq!(page.code, "SQ03");
        assert_eq!(page.exercise_code(), "SQ");
        assert_eq!(page.title, "Acknowledges before the work");
        assert_eq!(page.caught_by, "stage_2_consume::after");
        assert_eq!(
            page.diff.as_deref(),
            Some("--- a/worker.rs\n+++ b/worker.rs\n@@ -1 +1 @@\n-a\n+b\n")
        );
        assert_eq!(page.text, PAGE);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(problem("Title\n").contains("# CODE: Title"));
        assert!(problem(&PAGE.replace("SQ03", "S3")).contains("is no code"));
        assert!(problem(&PAGE.replace("SQ03", "SQ04")).contains("SQ04-"));
        assert!(problem(&PAGE.replace("Caught by", "Seen by")).contains("Caught by:"));
        let two = PAGE.replace("The end.", "```diff\n-a\n```");
        assert!(problem(&two).contains("this one has 2"));
        assert!(problem(&format!("{PAGE}{PAGE}")).contains("several"));
    }

    #[test]
    fn a_page_may_still_lack_its_diff() {
        let page = parse(&PAGE.replace("```diff", "```")).expect("a page");
        assert_eq!(page.diff, None);
    }

    #[test]
    fn a_code_is_two_letters_and_two_digits() {
        assert!(is_code("SQ03"));
        for other in ["sq03", "SQ3", "SQ003", "SQ0a", "", "éé"] {
            assert!(!is_code(other), "{other}");
        }
    }
}
