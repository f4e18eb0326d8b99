//! Several candidates at once: a line for each.

use crate::model::{Grade, Verdict};

const TITLES: [&str; 6] = [
    "candidate",
    "points",
    "passed",
    "not passed",
    "unjudged",
    "remark",
];

fn row(grade: &Grade) -> [String; 6] {
    let checks: usize = grade
        .exercises
        .iter()
        .flat_map(|exercise| &exercise.stages)
        .map(|stage| stage.checks.len())
        .sum();
    let (passed, open) = (
        grade.count(Verdict::Passed),
        grade.count(Verdict::Infrastructure),
    );
    let trouble = grade.exercises.iter().find_map(|exercise| {
        let broken = exercise.compile_error.as_ref().map(|error| error.summary());
        broken.or_else(|| exercise.trouble.as_ref()?.lines().next().map(String::from))
    });
    [
        grade.candidate.clone(),
        format!("{}/{}", grade.points, grade.max),
        passed.to_string(),
        (checks - passed - open).to_string(),
        grade.unjudged.to_string(),
        trouble.unwrap_or_default(),
    ]
}

/// Columns for a terminal.
pub fn plain(grades: &[Grade]) -> String {
    let rows: Vec<[String; 6]> = std::iter::once(TITLES.map(String::from))
        .chain(grades.iter().map(row))
        .collect();
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (field, &width))| match column {
                0 | 5 => format!("{field:width$}"),
                _ => format!("{field:>width$}"),
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The same as a table in Markdown.
pub fn markdown(grades: &[Grade]) -> String {
    let mut text = format!("| {} |\n|---|--:|--:|--:|--:|---|\n", TITLES.join(" | "));
    for grade in grades {
        let fields = row(grade).map(|field| super::markdown::cell(&field));
        text.push_str(&format!("| {} |\n", fields.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::grade;
    use Verdict::{Failed, Passed};

    #[test]
    fn a_line_for_each_candidate() {
        let grades = [
            grade(&[&[Passed], &[Passed], &[Failed]]),
            grade(&[&[Passed], &[Passed], &[Passed]]),
        ];
        let text = plain(&grades);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(1).unwrap().contains("70/100"), "{text}");
        assert_eq!(markdown(&grades).lines().count(), 4);
    }
}
