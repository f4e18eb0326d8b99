//! `cargo xtask reset`: an exercise from the beginning, the old work kept.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::exit::Exit;
use crate::manifest::Exercise;
use crate::stubs;

/// What `reset` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name
    exercise: String,
}

/// Runs `cargo xtask reset`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercise = ctx.exercise(&args.exercise)?;
    let src = exercise.path.join("src");
    let fresh = stubs::generate(ctx, exercise)?.files;
    let old = stubs::modules(exercise, &src)?;
    if old == fresh {
        println!("{} is at its beginning already.", exercise.name());
        return Ok(Exit::Passed);
    }
    // The copy is complete before the first file changes: whatever goes wrong then, nothing is lost.
    let backup = ctx
        .state()
        .join("backups")
        .join(now())
        .join(&exercise.folder);
    for (path, text) in &old {
        stubs::write_file(&backup.join(path), text)?;
    }
    remove_modules(exercise, &src)?;
    for (path, text) in &fresh {
        stubs::write_file(&src.join(path), text)?;
    }
    println!("{} starts again: {} stubs.", exercise.name(), fresh.len());
    if !old.is_empty() {
        println!("Your files are kept in {}", ctx.shown(&backup));
    }
    Ok(Exit::Passed)
}

/// Removes the learner's modules, so that a file of theirs that no stub replaces does not stay behind.
fn remove_modules(exercise: &Exercise, src: &Path) -> Result<()> {
    for path in stubs::modules(exercise, src)?.keys() {
        let file = src.join(path);
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    Ok(())
}

/// The time as the name of a folder: `2026-03-01T12-30-05.123Z`.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now())
        .to_string()
        .replace(':', "-")
}
