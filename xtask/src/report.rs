//! Reports of grades, one module a format. All of them write the whole report at once, to standard output.

mod csv;
mod json;
mod junit;
mod markdown;
mod paint;
mod pretty;
mod table;

use crate::context::Context;
use crate::model::Grade;

pub use paint::Paint;

/// The formats of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people at a terminal
    #[default]
    Pretty,
    /// One object; fields are added, never taken away
    Json,
    /// For CI systems
    Junit,
    /// For a pull request or a mail
    Markdown,
    /// A line for each candidate
    Csv,
}

/// The report of one or several grades in the format, ending with a newline.
pub fn render(
    ctx: &Context,
    grades: &[Grade],
    format: Format,
    timings: bool,
) -> anyhow::Result<String> {
    Ok(match (format, grades) {
        (Format::Pretty, [grade]) => pretty::render(ctx, grade, timings),
        (Format::Pretty, grades) => table::plain(grades),
        (Format::Json, [grade]) => json::one(grade)?,
        (Format::Json, grades) => json::several(grades)?,
        (Format::Junit, grades) => junit::render(grades)?,
        (Format::Markdown, [grade]) => markdown::render(grade, timings),
        (Format::Markdown, grades) => table::markdown(grades),
        (Format::Csv, grades) => csv::render(grades),
    })
}

/// A remark with a capital letter, for the beginning of a sentence.
pub fn capitalized(remark: &str) -> String {
    let mut letters = remark.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// What stands for points that nobody could judge, if there are any.
pub fn unjudged(grade: &Grade) -> Option<String> {
    if grade.unjudged == 0 {
        return None;
    }
    let why = grade
        .exercises
        .iter()
        .flat_map(|exercise| exercise.checks())
        .find(|(_, check)| check.verdict == crate::model::Verdict::Infrastructure)
        .map(|(_, check)| {
            check
                .message
                .lines()
                .next()
                .unwrap_or_default()
                .trim_end_matches(['.', ':'])
        })
        .unwrap_or("nothing could be run");
    let points = if grade.unjudged == 1 {
        "1 point".to_string()
    } else {
        format!("{} points", grade.unjudged)
    };
    Some(format!(
        "{points} could not be judged: {why}. Nothing is taken from you; run again."
    ))
}
