//! `cargo xtask diff`: the learner's modules against the reference.

use anyhow::Result;
use owo_colors::OwoColorize as _;
use similar::TextDiff;

use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::stubs;

/// What `diff` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name
    exercise: String,
    /// Only this module, such as `worker`
    module: Option<String>,
}

/// Runs `cargo xtask diff`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercise = ctx.exercise(&args.exercise)?;
    let known = &exercise.manifest.modules;
    let wanted = args.module.as_deref().map(|m| m.trim_end_matches(".rs"));
    if let Some(module) = wanted
        && !known.iter().any(|known| known == module)
    {
        return Err(Usage(format!(
            "{} has no module `{module}`; it has {}",
            exercise.name(),
            known.join(", ")
        ))
        .into());
    }
    let yours = stubs::modules(exercise, &exercise.path.join("src"))?;
    let reference = stubs::reference(exercise)?;
    let mut paths: Vec<_> = yours.keys().chain(reference.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut differ = false;
    for path in paths {
        let module = path.split(['/', '.']).next().unwrap_or_default();
        if wanted.is_some_and(|wanted| wanted != module) {
            continue;
        }
        let old = yours.get(path).map_or("", String::as_str);
        let new = reference.get(path).map_or("", String::as_str);
        if old != new {
            differ = true;
            let (yours, theirs) = (format!("yours/{path}"), format!("reference/{path}"));
            print!(
                "{}",
                unified(&yours, old, &theirs, new, ctx.terminal.colour)
            );
        }
    }
    if !differ {
        println!("Yours and the reference are the same.");
    }
    Ok(Exit::Passed)
}

/// A unified diff of two texts, coloured if `colour`. Empty if they are equal.
pub fn unified(old_name: &str, old: &str, new_name: &str, new: &str, colour: bool) -> String {
    let diff = TextDiff::from_lines(old, new);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(old_name, new_name)
        .to_string();
    if colour { coloured(&text) } else { text }
}

/// Colours the lines of a unified diff by their sign.
pub fn coloured(diff: &str) -> String {
    let lines = diff.lines().map(|line| match line.as_bytes() {
        [b'-', b'-', b'-', b' ', ..] | [b'+', b'+', b'+', b' ', ..] => line.bold().to_string(),
        [b'@', ..] => line.cyan().to_string(),
        [b'-', ..] => line.red().to_string(),
        [b'+', ..] => line.green().to_string(),
        _ => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_diff() {
        assert_eq!(unified("a", "x\n", "b", "x\n", false), "");
    }

    #[test]
    fn a_diff_names_both_sides_and_keeps_context() {
        assert_eq!(
            unified("a", "1\n2\n", "b", "1\n3\n", false),
            "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n"
        );
    }

    #[test]
    fn colour_adds_escapes_and_nothing_else() {
        let coloured = unified("a", "1\n", "b", "2\n", true);
        assert!(coloured.contains("\u{1b}[31m-1"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[32m+2"), "{coloured:?}");
    }
}
