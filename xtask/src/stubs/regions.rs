//! From a reference module to the learner's stub, as a function of its text.
//!
//! A reference module marks the parts that a learner writes:
//!
//! ```text
//!     // stub stage 2: XREADGROUP for new entries only
//!     …the reference's body…
//!     // end stub
//! ```
//!
//! becomes `todo!("stage 2: XREADGROUP for new entries only")`, and what stands between `// solution only` and
//! `// end solution only` vanishes. Everything else, signatures and documentation above all, is kept as it is, and so
//! exists once.

use std::fmt;

/// The width at which rustfmt breaks a line. A generated stub has to look as rustfmt would leave it.
const WIDTH: usize = 100;

/// The stub of one reference module.
#[derive(Debug, PartialEq, Eq)]
pub struct Stub {
    /// The stub's text without its header. Empty if the learner needs no such file at all.
    pub text: String,
    /// The stage of every `todo!`, in order of appearance.
    pub stages: Vec<u32>,
}

/// A marker that cannot be understood, with the line of the reference module it stands in.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// What a line of a reference module says to the generator.
enum Marker<'a> {
    Stub(&'a str),
    EndStub,
    SolutionOnly,
    EndSolutionOnly,
    None,
}

/// The region that a line stands in, with the line of the marker that opened it.
#[derive(Clone, Copy)]
enum Region {
    Shared,
    Stub(usize),
    SolutionOnly(usize),
}

/// Generates the stub of a reference module.
///
/// `stages` are the stage numbers that the exercise's manifest knows; a marker with another number is a problem.
///
/// # Errors
/// Every marker that is unbalanced, misplaced, without a text or of an unknown stage, not only the first one.
pub fn generate(source: &str, stages: &[u32]) -> Result<Stub, Vec<Problem>> {
    let mut text = Lines::default();
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let mut region = Region::Shared;
    let mut problem = |line, what: String| problems.push(Problem { line, what });

    for (number, line) in (1..).zip(source.lines()) {
        let marker = marker(line);
        match (marker, region) {
            (Marker::None, Region::Shared) => text.push(line),
            (Marker::None, _) => {}
            (Marker::Stub(rest), Region::Shared) => {
                region = Region::Stub(number);
                match todo_of(rest, stages) {
                    Ok((stage, what)) => {
                        found.push(stage);
                        text.push_todo(indentation(line), stage, what);
                    }
                    Err(what) => problem(number, what),
                }
            }
            (Marker::SolutionOnly, Region::Shared) => region = Region::SolutionOnly(number),
            (Marker::EndStub, Region::Stub(_))
            | (Marker::EndSolutionOnly, Region::SolutionOnly(_)) => {
                region = Region::Shared;
            }
            (Marker::EndStub, Region::Shared) => problem(
                number,
                "`// end stub` without a `// stub stage N: …` before it".into(),
            ),
            (Marker::EndSolutionOnly, Region::Shared) => problem(
                number,
                "`// end solution only` without a `// solution only` before it".into(),
            ),
            (_, Region::Stub(open)) => problem(
                number,
                format!(
                    "the region that `// stub` opened in line {open} ends with `// end stub` first"
                ),
            ),
            (_, Region::SolutionOnly(open)) => problem(
                number,
                format!(
                    "the region that `// solution only` opened in line {open} ends with `// end solution only` first"
                ),
            ),
        }
    }
    match region {
        Region::Shared => {}
        Region::Stub(open) => problem(open, "this `// stub` has no `// end stub`".into()),
        Region::SolutionOnly(open) => {
            problem(
                open,
                "this `// solution only` has no `// end solution only`".into(),
            );
        }
    }
    if problems.is_empty() {
        Ok(Stub {
            text: text.finish(),
            stages: found,
        })
    } else {
        Err(problems)
    }
}

/// Reads a line as a marker. Only a comment that stands alone in its line is one.
fn marker(line: &str) -> Marker<'_> {
    let Some(comment) = line.trim().strip_prefix("//") else {
        return Marker::None;
    };
    match comment.trim() {
        "end stub" => Marker::EndStub,
        "solution only" => Marker::SolutionOnly,
        "end solution only" => Marker::EndSolutionOnly,
        "stub" => Marker::Stub(""),
        // A documentation comment that begins with the word is prose.
        other if !comment.starts_with(['/', '!']) => match other.strip_prefix("stub ") {
            Some(rest) => Marker::Stub(rest.trim()),
            None => Marker::None,
        },
        _ => Marker::None,
    }
}

/// Takes `stage 2: what to do` apart.
fn todo_of<'a>(rest: &'a str, stages: &[u32]) -> Result<(u32, &'a str), String> {
    let form = "write `// stub stage N: what to do`";
    let (head, what) = rest
        .split_once(':')
        .ok_or_else(|| format!("a stub without a text: {form}"))?;
    let stage = head
        .strip_prefix("stage ")
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| format!("a stub without a stage: {form}"))?;
    if !stages.contains(&stage) {
        return Err(format!("stage {stage} is not in exercise.toml"));
    }
    match what.trim() {
        "" => Err(format!("a stub without a text: {form}")),
        what => Ok((stage, what)),
    }
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// The stub's lines. Closes the gaps that removed regions leave, so that the result is what rustfmt would print.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn push(&mut self, line: &str) {
        let line = line.trim_end();
        let last = self.0.last().map(String::as_str);
        if line.is_empty() {
            // No two blank lines in a row, none at the beginning of the file or of a block.
            if last.is_some_and(|last| !last.is_empty() && !last.ends_with('{')) {
                self.0.push(String::new());
            }
            return;
        }
        if line.trim_start().starts_with('}') {
            if last == Some("") {
                self.0.pop();
            }
            if let Some(open) = self.0.last_mut().filter(|open| is_open_item(open, line)) {
                open.push_str(line.trim_start());
                return;
            }
        }
        self.0.push(line.to_owned());
    }

    fn push_todo(&mut self, indentation: &str, stage: u32, what: &str) {
        let text = what
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('{', "{{")
            .replace('}', "}}");
        let line = format!("{indentation}todo!(\"stage {stage}: {text}\")");
        if line.chars().count() <= WIDTH {
            self.push(&line);
        } else {
            self.push(&format!("{indentation}todo!("));
            self.push(&format!("{indentation}    \"stage {stage}: {text}\""));
            self.push(&format!("{indentation})"));
        }
    }

    fn finish(mut self) -> String {
        while self.0.last().is_some_and(String::is_empty) {
            self.0.pop();
        }
        let mut text = self.0.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// Whether `open` is the head of a block that `close` ends, with nothing between: rustfmt writes `struct Producer {}`.
fn is_open_item(open: &str, close: &str) -> bool {
    open.ends_with('{')
        && indentation(open) == indentation(close)
        && !open.trim_start().starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: &[u32] = &[1, 2, 3];

    fn stub(source: &str) -> Stub {
        generate(source, STAGES).expect("a stub")
    }

    fn problems(source: &str) -> Vec<String> {
        let problems = generate(source, STAGES).expect_err("problems");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_region_becomes_a_todo_with_the_indentation_of_its_marker() {
        let source = "/// Reads.\npub fn read() -> u8 {\n    // stub stage 2: read one\n    let x = 1;\n\n    x\n    // end stub\n}\n";
        let stub = stub(source);
        assert_eq!(
            stub.text,
            "/// Reads.\npub fn read() -> u8 {\n    todo!(\"stage 2: read one\")\n}\n"
        );
        assert_eq!(stub.stages, [2]);
    }

    #[test]
    fn solution_only_parts_vanish_and_leave_no_gap() {
        let source = "use a::B;\n// solution only\nuse c::D;\n// end solution only\n\nfn a() {}\n\n// solution only\nfn helper() {}\n// end solution only\n\nfn b() {}\n\n// solution only\nfn last() {}\n// end solution only\n";
        assert_eq!(stub(source).text, "use a::B;\n\nfn a() {}\n\nfn b() {}\n");
    }

    #[test]
    fn a_block_that_loses_all_it_held_closes_on_its_line() {
        let source = "pub struct Producer {\n    // solution only\n    connection: u8,\n    // end solution only\n}\n";
        assert_eq!(stub(source).text, "pub struct Producer {}\n");
    }

    #[test]
    fn a_block_keeps_no_blank_line_at_its_edges() {
        let source = "impl A {\n    // solution only\n    fn x() {}\n    // end solution only\n\n    fn y() {}\n\n    // solution only\n    fn z() {}\n    // end solution only\n}\n";
        assert_eq!(stub(source).text, "impl A {\n    fn y() {}\n}\n");
    }

    #[test]
    fn a_file_that_is_the_solution_alone_has_no_stub() {
        let stub = stub("// solution only\nfn helper() {}\n// end solution only\n");
        assert_eq!(stub.text, "");
    }

    #[test]
    fn a_long_text_is_broken_as_rustfmt_breaks_it() {
        let what = "x".repeat(90);
        let stub = stub(&format!(
            "fn a() {{\n    // stub stage 1: {what}\n    // end stub\n}}\n"
        ));
        assert_eq!(
            stub.text,
            format!("fn a() {{\n    todo!(\n        \"stage 1: {what}\"\n    )\n}}\n")
        );
    }

    #[test]
    fn a_text_may_hold_braces_quotes_and_backslashes() {
        let stub = stub("// stub stage 1: {\"a\": '\\n'}\n// end stub\n");
        assert_eq!(stub.text, "todo!(\"stage 1: {{\\\"a\\\": '\\\\n'}}\")\n");
    }

    #[test]
    fn prose_that_mentions_a_stub_is_no_marker() {
        let source = "/// stub stage 9: prose\n// stubborn\nlet a = 1; // end stub\n";
        assert_eq!(stub(source).text, source);
    }

    #[test]
    fn unbalanced_markers_are_named_by_line() {
        assert_eq!(
            problems("a\n// stub stage 1: a\n"),
            ["2: this `// stub` has no `// end stub`"]
        );
        assert_eq!(
            problems("// end stub\n"),
            ["1: `// end stub` without a `// stub stage N: …` before it"]
        );
        assert_eq!(
            problems("// end solution only\n"),
            ["1: `// end solution only` without a `// solution only` before it"]
        );
        assert_eq!(
            problems("\n// solution only\n"),
            ["2: this `// solution only` has no `// end solution only`"]
        );
        assert_eq!(
            problems("// stub stage 1: a\n// stub stage 2: b\n// end stub\n"),
            ["2: the region that `// stub` opened in line 1 ends with `// end stub` first"]
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let found = problems(
            "// stub stage 7: a\n// end stub\n// stub stage 1:\n// end stub\n// stub 1: a\n// end stub\n",
        );
        assert_eq!(
            found,
            [
                "1: stage 7 is not in exercise.toml",
                "3: a stub without a text: write `// stub stage N: what to do`",
                "5: a stub without a stage: write `// stub stage N: what to do`",
            ]
        );
    }
}
