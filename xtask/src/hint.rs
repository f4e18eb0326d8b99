//! `cargo xtask hint`: one more step of a stage's ladder of hints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::explain::wrap_lines;
use crate::manifest::{self, Exercise, Stage};
use crate::stubs;

/// What `hint` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The stage, such as 1.3
    stage: String,
    /// Every hint of the stage at once
    #[arg(long)]
    all: bool,
}

/// How many hints of each stage were shown, by `exercise.stage`.
type Shown = BTreeMap<String, usize>;

/// Runs `cargo xtask hint`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let (exercise, stage) = manifest::find_stage(ctx.exercises()?, &args.stage)?;
    let stage = stage.ok_or_else(|| {
        Usage(format!(
            "a hint is for one stage: `cargo xtask hint {}`",
            exercise.stage_label(1)
        ))
    })?;
    let memory = memory(ctx);
    let mut shown = read(&memory);
    let key = format!("{}.{}", exercise.name(), stage.id);
    let before = shown.get(&key).copied().unwrap_or_default();
    let next = next(stage.hints.len(), before, args.all);

    println!("{} {}", exercise.stage_label(stage.id), stage.title);
    if next.is_empty() {
        println!("{}", no_more(exercise, stage));
        return Ok(Exit::Passed);
    }
    let end = next.end;
    for number in next {
        let text = wrap_lines(&stage.hints[number], ctx.terminal.width);
        println!("\nHint {} of {}\n{text}", number + 1, stage.hints.len());
    }
    if end < stage.hints.len() {
        println!(
            "\nThe next one: cargo xtask hint {}",
            exercise.stage_label(stage.id)
        );
    }
    shown.insert(key, end.max(before));
    let text = serde_json::to_string_pretty(&shown).context("writing down the hints shown")?;
    stubs::write_file(&memory, &text)?;
    Ok(Exit::Passed)
}

/// Which hints to show, of `count`, when `shown` of them were shown before.
fn next(count: usize, shown: usize, all: bool) -> std::ops::Range<usize> {
    if all {
        0..count
    } else {
        shown.min(count)..(shown + 1).min(count)
    }
}

fn no_more(exercise: &Exercise, stage: &Stage) -> String {
    let label = exercise.stage_label(stage.id);
    format!(
        "\nThat was the last hint. What else helps:\n\
         - the chapter: chapters/src/{}, section \"{}\" (cargo xtask book --open)\n\
         - the mistakes others made here: cargo xtask explain\n\
         - the hints once more: cargo xtask hint {label} --all\n\
         - the reference, when you have tried: cargo xtask diff {}",
        exercise.manifest.chapter,
        stage.anchor,
        exercise.name()
    )
}

fn memory(ctx: &Context) -> PathBuf {
    ctx.state().join("hints.json")
}

/// What was shown before. A file that is missing or spoilt only means that the ladder begins again.
fn read(memory: &Path) -> Shown {
    fs::read_to_string(memory)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_goes_up_one_step_at_a_time_and_ends() {
        assert_eq!(next(3, 0, false), 0..1);
        assert_eq!(next(3, 2, false), 2..3);
        assert!(next(3, 3, false).is_empty());
        assert!(next(0, 0, false).is_empty());
        // The manifest may have lost a hint since.
        assert!(next(2, 3, false).is_empty());
        assert_eq!(next(3, 2, true), 0..3);
    }
}
