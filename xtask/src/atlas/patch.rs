//! Making a mistake: a page's diff, applied to the modules of the reference.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

/// The text of each module file by its path under the exercise's modules, such as `worker.rs`.
pub type Files = BTreeMap<String, String>;

/// One file's part of a diff.
struct FileDiff {
    path: String,
    hunks: Vec<Hunk>,
}

/// One hunk, its lines still with their leading sign.
#[derive(Default)]
struct Hunk {
    /// The line where it begins in the new file, if its header says so. A page may leave the numbers out.
    start: Option<usize>,
    lines: Vec<String>,
}

/// Applies a unified diff to `files` and returns only the files it changes.
///
/// The context decides where a hunk goes and the line numbers only where to look first, so a page outlives edits
/// elsewhere in the file. Lengths in the hunk headers are counted anew, and a bare `@@` will do where the context is unique.
///
/// # Errors
/// A file the reference does not have; a hunk whose context is not there, with the line that differs; a hunk without
/// line numbers that fits in several places; a diff that changes nothing.
pub fn apply(files: &Files, diff: &str) -> Result<Files> {
    let mut changed = Files::new();
    for part in parse(diff)? {
        let known = files.get(&part.path).with_context(|| {
            format!(
                "the diff changes {}, which the reference does not have",
                part.path
            )
        })?;
        let text = changed.remove(&part.path).unwrap_or_else(|| known.clone());
        let text = apply_file(&text, &part)?;
        ensure!(text != *known, "the diff leaves {} as it is", part.path);
        changed.insert(part.path, text);
    }
    ensure!(
        !changed.is_empty(),
        "the diff has no `--- a/FILE` and `+++ b/FILE` lines"
    );
    Ok(changed)
}

fn apply_file(text: &str, part: &FileDiff) -> Result<String> {
    let mut text = text.to_owned();
    for (number, hunk) in (1..).zip(&part.hunks) {
        let place = || format!("hunk {number} of {}", part.path);
        if hunk.start.is_none() {
            let fits = hunk.places(&text);
            ensure!(
                fits <= 1,
                "{} fits in {fits} places: give it more context, or line numbers",
                place()
            );
        }
        let unified = hunk.unified(&part.path);
        let patch = diffy::Patch::from_str(&unified).with_context(place)?;
        text = diffy::apply(&text, &patch).map_err(|_| {
            anyhow::anyhow!(
                "{} does not fit the reference any more: {}",
                place(),
                hunk.mismatch(&text)
            )
        })?;
    }
    Ok(text)
}

impl Hunk {
    /// Editors strip the one blank that stands for an empty context line; at a hunk's end an empty line is only space.
    fn mend_blank_lines(&mut self) {
        while self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        for line in self.lines.iter_mut().filter(|line| line.is_empty()) {
            line.push(' ');
        }
    }

    /// The lines it expects to find.
    fn old(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter(|line| !line.starts_with('+'))
            .map(|line| &line[1..])
            .collect()
    }

    /// In how many places of `text` it fits.
    fn places(&self, text: &str) -> usize {
        let old = self.old();
        let lines: Vec<_> = text.lines().collect();
        lines
            .windows(old.len().max(1))
            .filter(|window| *window == old)
            .count()
    }

    /// The hunk as a diff of its own, with the lengths counted from its lines.
    fn unified(&self, path: &str) -> String {
        let old = self.old().len();
        let new = self
            .lines
            .iter()
            .filter(|line| !line.starts_with('-'))
            .count();
        let start = self.start.unwrap_or(1);
        let body = self.lines.join("\n");
        format!("--- a/{path}\n+++ b/{path}\n@@ -{start},{old} +{start},{new} @@\n{body}\n")
    }

    /// Says which line spoils the best of all places.
    fn mismatch(&self, text: &str) -> String {
        let old = self.old();
        let lines: Vec<_> = text.lines().collect();
        let matched = |start: usize| {
            old.iter()
                .zip(&lines[start..])
                .take_while(|(a, b)| a == b)
                .count()
        };
        let best = (0..lines.len()).max_by_key(|start| matched(*start));
        match best.map(|start| (start, matched(start))) {
            None | Some((_, 0)) => format!(
                "its first line stands nowhere in it: `{}`",
                old.first().map_or("", |line| line.trim())
            ),
            Some((start, n)) => format!(
                "it expects `{}` where line {} says `{}`",
                old.get(n).map_or("", |line| line.trim()),
                start + n + 1,
                lines
                    .get(start + n)
                    .map_or("nothing: the file ends", |line| line.trim())
            ),
        }
    }
}

fn parse(diff: &str) -> Result<Vec<FileDiff>> {
    let mut files: Vec<FileDiff> = Vec::new();
    let mut lines = diff.lines().peekable();
    while let Some(line) = lines.next() {
        // A removed line may begin with two dashes of its own; only the pair of both lines is a header.
        let is_header =
            line.starts_with("--- ") && lines.peek().is_some_and(|next| next.starts_with("+++ "));
        if is_header {
            let header = lines.next().unwrap_or_default();
            let path = header["+++ ".len()..].trim();
            let path = path
                .strip_prefix("b/")
                .with_context(|| format!("`{header}` has to be `+++ b/FILE`"))?;
            files.push(FileDiff {
                path: path.to_owned(),
                hunks: Vec::new(),
            });
            continue;
        }
        let Some(file) = files.last_mut() else {
            if line.trim().is_empty() {
                continue;
            }
            bail!("`{line}` stands before the first `--- a/FILE` line");
        };
        if line.starts_with("@@") {
            file.hunks.push(Hunk {
                start: start_of(line),
                lines: Vec::new(),
            });
            continue;
        }
        let hunk = file
            .hunks
            .last_mut()
            .with_context(|| format!("`{line}` stands before the first `@@` of {}", file.path))?;
        match line.chars().next() {
            None => hunk.lines.push(String::new()),
            Some(' ' | '+' | '-') => hunk.lines.push(line.to_owned()),
            Some('\\') => {}
            Some(_) => bail!("`{line}` begins with neither a blank nor + nor -"),
        }
    }
    for hunk in files.iter_mut().flat_map(|file| &mut file.hunks) {
        hunk.mend_blank_lines();
    }
    Ok(files)
}

/// The line where the new part begins: 12 for `@@ -10,3 +12,4 @@`.
fn start_of(header: &str) -> Option<usize> {
    let new = header
        .split_whitespace()
        .find(|word| word.starts_with('+'))?;
    new[1..].split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let text = "fn a() {\n    one();\n\n    two();\n}\n\nfn b() {\n    one();\n}\n";
        Files::from([
            ("worker.rs".to_owned(), text.to_owned()),
            ("other.rs".to_owned(), "x\n".to_owned()),
        ])
    }

    fn problem(diff: &str) -> String {
        format!("{:#}", apply(&files(), diff).expect_err("a problem"))
    }

    #[test]
    fn several_files_are_changed_and_the_rest_left_out() {
        let diff = "--- a/worker.rs\n+++ b/worker.rs\n@@ -2,3 +2,3 @@\n     one();\n\n-    two();\n+    three();\n";
        let changed = apply(&files(), diff).expect("it fits");
        assert_eq!(changed.len(), 1);
        assert!(changed["worker.rs"].contains("one();\n\n    three();\n}"));

        let both = format!("{diff}--- a/other.rs\n+++ b/other.rs\n@@ -1 +1 @@\n-x\n+y\n");
        assert_eq!(apply(&files(), &both).expect("it fits")["other.rs"], "y\n");
    }

    #[test]
    fn wrong_numbers_do_not_matter_where_the_context_fits() {
        let diff = "--- a/worker.rs\n+++ b/worker.rs\n@@ -90,9 +90,1 @@ fn a\n-    two();\n";
        assert!(!apply(&files(), diff).expect("it fits")["worker.rs"].contains("two"));
    }

    #[test]
    fn a_bare_hunk_has_to_fit_in_one_place() {
        let head = "--- a/worker.rs\n+++ b/worker.rs\n@@\n";
        let unique = format!("{head} fn b() {{\n-    one();\n");
        assert!(apply(&files(), &unique).expect("it fits")["worker.rs"].ends_with("fn b() {\n}\n"));
        assert!(problem(&format!("{head}-    one();\n")).contains("fits in 2 places"));
    }

    #[test]
    fn a_stale_hunk_is_named_with_the_line_that_differs() {
        let diff =
            "--- a/worker.rs\n+++ b/worker.rs\n@@ -7,3 +7,3 @@\n fn b() {\n     two();\n-}\n+};\n";
        let problem = problem(diff);
        assert!(problem.contains("hunk 1 of worker.rs"), "{problem}");
        assert!(
            problem.contains("expects `two();` where line 8 says `one();`"),
            "{problem}"
        );
    }

    #[test]
    fn what_is_no_diff_is_refused() {
        assert!(problem("").contains("has no `--- a/FILE`"));
        assert!(problem("-x\n").contains("before the first"));
        assert!(problem("--- a/no.rs\n+++ b/no.rs\n@@\n-x\n").contains("no.rs"));
        assert!(problem("--- a/other.rs\n+++ b/other.rs\n@@\n x\n").contains("as it is"));
    }
}
