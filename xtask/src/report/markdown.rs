//! The report for a pull request or a mail.

use crate::model::{Grade, Verdict, words};

/// A table of the stages, then every check that does not pass.
pub fn render(grade: &Grade, timings: bool) -> String {
    let mut text = format!(
        "# {} of {} points\n\nGraded: {}\n",
        grade.points, grade.max, grade.candidate
    );
    if let Some(unjudged) = super::unjudged(grade) {
        text.push_str(&format!("\n{unjudged}\n"));
    }
    for exercise in &grade.exercises {
        text.push_str(&format!(
            "\n## {} ({}): {}/{}\n\n| | stage | points | checks |\n|---|---|--:|--:|\n",
            exercise.title, exercise.name, exercise.points, exercise.max
        ));
        for stage in &exercise.stages {
            text.push_str(&format!(
                "| {} | {} {} | {}/{} | {}/{} |\n",
                if stage.is_done() { "✓" } else { "✗" },
                stage.id,
                cell(&stage.title),
                stage.points,
                stage.max,
                stage.count(Verdict::Passed),
                stage.checks.len()
            ));
        }
        for note in &exercise.notes {
            text.push_str(&format!("\nNote: {note}.\n"));
        }
        if let Some(trouble) = &exercise.trouble {
            text.push_str(&format!("\n{}", fenced(trouble)));
            continue;
        }
        if let Some(error) = &exercise.compile_error {
            let note = error.note.as_deref().unwrap_or("it does not compile");
            text.push_str(&format!(
                "\n{}:\n\n{}",
                super::capitalized(note),
                fenced(&error.rendered)
            ));
            continue;
        }
        for (_, check) in exercise
            .checks()
            .filter(|(_, check)| check.verdict != Verdict::Passed)
        {
            let code = check
                .code
                .as_deref()
                .map(|code| format!(", {code}"))
                .unwrap_or_default();
            text.push_str(&format!(
                "\n### {} ({}{code})\n\n",
                check.title(),
                words(check.verdict)
            ));
            text.push_str(&fenced(&check.message));
            if let Some(history) = &check.history {
                text.push_str(&format!("\n{}", fenced(history)));
            }
        }
    }
    if timings {
        text.push_str(&format!("\n{}\n", super::pretty::timings(&grade.timings)));
    }
    text
}

/// A text of many lines as it is. The fence is longer than any inside it, whatever a candidate printed.
fn fenced(text: &str) -> String {
    let mut fence = "```".to_string();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

/// A text as one cell of a table.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::grade;
    use Verdict::{Failed, Passed};

    #[test]
    fn what_does_not_pass_is_shown_and_what_passes_is_not() {
        let text = render(&grade(&[&[Passed, Failed], &[Passed], &[Passed]]), true);
        assert!(text.starts_with("# 80 of 100 points"), "{text}");
        assert!(text.contains("| ✗ | 1 Send | 20/40 | 1/2 |"), "{text}");
        assert!(text.contains("### promise number 2 (failed)"), "{text}");
        assert!(!text.contains("### promise number 1"), "{text}");
    }

    #[test]
    fn a_candidate_cannot_break_out_of_a_fence_or_a_table() {
        assert!(fenced("a\n````\nb").starts_with("`````text\n"));
        assert_eq!(cell("a|b\nc"), "a\\|b c");
    }
}
