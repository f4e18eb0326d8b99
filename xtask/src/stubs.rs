//! `cargo xtask stubs`: writes the learner's modules from the reference.

mod header;
mod regions;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::diff;
use crate::exit::Exit;
use crate::manifest::Exercise;

pub use header::is_untouched;

/// What `stubs` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name; all of them without it
    exercise: Option<String>,
    /// Change nothing; show what is stale and exit with 1
    #[arg(long, conflicts_with = "force")]
    check: bool,
    /// Overwrite also modules that somebody has worked in
    #[arg(long)]
    force: bool,
    /// Write them into this folder instead, over whatever is there: to hand them out, for example
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "force"], requires = "exercise")]
    into: Option<PathBuf>,
}

/// The text of each module file by its path, such as `worker.rs` or `worker/slots.rs`.
pub type Modules = BTreeMap<String, String>;

/// The generated stubs of an exercise.
pub struct Stubs {
    /// The stub files, complete with their header.
    pub files: Modules,
    /// The stage of every `todo!` by the file it stands in.
    pub stages: BTreeMap<String, Vec<u32>>,
}

/// Runs `cargo xtask stubs`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercises = match &args.exercise {
        Some(name) => vec![ctx.exercise(name)?],
        None => ctx.exercises()?.iter().collect(),
    };
    let mut exit = Exit::Passed;
    for exercise in exercises {
        let stubs = generate(ctx, exercise)?;
        let ended = if let Some(folder) = &args.into {
            hand_out(folder, &stubs)?
        } else if args.check {
            check(ctx, exercise, &stubs)?
        } else {
            write(ctx, exercise, &stubs, args.force)?
        };
        if ended != Exit::Passed {
            exit = ended;
        }
    }
    Ok(exit)
}

/// Writes the stubs into a folder that is no part of the workspace.
fn hand_out(folder: &Path, stubs: &Stubs) -> Result<Exit> {
    for (path, text) in &stubs.files {
        write_file(&folder.join(path), text)?;
    }
    println!("{} stubs are in {}", stubs.files.len(), folder.display());
    Ok(Exit::Passed)
}

/// Generates the stubs of an exercise from its reference, without touching any file.
///
/// # Errors
/// Every marker in the reference that cannot be understood, as `file:line: what`.
pub fn generate(ctx: &Context, exercise: &Exercise) -> Result<Stubs> {
    let known: Vec<u32> = exercise.manifest.stages.iter().map(|s| s.id).collect();
    let mut stubs = Stubs {
        files: Modules::new(),
        stages: BTreeMap::new(),
    };
    let mut problems = Vec::new();
    for (path, source) in reference(exercise)? {
        let shown = ctx.shown(&exercise.solution.join(&path));
        match regions::generate(&source, &known) {
            Err(found) => problems.extend(found.iter().map(|problem| format!("{shown}:{problem}"))),
            // A helper file of the reference alone: the learner decides how to split the work.
            Ok(stub) if stub.text.is_empty() => {}
            Ok(stub) if stub.stages.is_empty() && path.contains('/') => {}
            Ok(stub) => {
                let text = header::with_header(exercise.name(), &stub.text);
                stubs.files.insert(path.clone(), text);
                stubs.stages.insert(path, stub.stages);
            }
        }
    }
    if problems.is_empty() {
        Ok(stubs)
    } else {
        bail!(
            "the stub markers of the reference:\n{}",
            problems.join("\n")
        )
    }
}

/// The reference's module files.
///
/// # Errors
/// Names a module of the manifest that the reference lacks.
pub fn reference(exercise: &Exercise) -> Result<Modules> {
    let files = modules(exercise, &exercise.solution)?;
    for module in &exercise.manifest.modules {
        if !files.contains_key(&format!("{module}.rs")) {
            bail!(
                "exercise.toml of {} names the module `{module}`, but {} is not there",
                exercise.name(),
                exercise.solution.join(format!("{module}.rs")).display()
            );
        }
    }
    Ok(files)
}

/// The learner's module files in `dir`: `NAME.rs` and everything under `NAME/` of each module of the manifest, where present.
pub fn modules(exercise: &Exercise, dir: &Path) -> Result<Modules> {
    let mut files = Modules::new();
    for module in &exercise.manifest.modules {
        collect(dir, &format!("{module}.rs"), &mut files)?;
        collect(dir, module, &mut files)?;
    }
    Ok(files)
}

fn collect(dir: &Path, name: &str, files: &mut Modules) -> Result<()> {
    let path = dir.join(name);
    if path.is_dir() {
        let entries = fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", path.display()))?;
            let child = entry.file_name().to_string_lossy().into_owned();
            collect(dir, &format!("{name}/{child}"), files)?;
        }
    } else if path.is_file() && name.ends_with(".rs") {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        files.insert(name.to_owned(), text);
    }
    Ok(())
}

/// Shows what differs between the stubs on disk and the ones the reference makes.
fn check(ctx: &Context, exercise: &Exercise, stubs: &Stubs) -> Result<Exit> {
    let src = exercise.path.join("src");
    let present = modules(exercise, &src)?;
    let mut stale = 0;
    let mut edited = false;
    for (path, text) in &stubs.files {
        let old = present.get(path).map_or("", String::as_str);
        if old == text {
            continue;
        }
        stale += 1;
        edited |= !old.is_empty() && !is_untouched(old);
        let shown = ctx.shown(&src.join(path));
        println!(
            "{}",
            diff::unified(&shown, old, "generated", text, ctx.terminal.colour)
        );
    }
    if stale == 0 {
        println!(
            "{}: {} stubs are up to date",
            exercise.name(),
            stubs.files.len()
        );
        return Ok(Exit::Passed);
    }
    let force = if edited { " --force" } else { "" };
    println!(
        "{}: {stale} of {} stubs are not what the reference makes.\n\
         Write them anew: cargo xtask stubs {}{force}",
        exercise.name(),
        stubs.files.len(),
        exercise.name()
    );
    Ok(Exit::Failed)
}

/// Writes the stubs that differ, unless somebody's work would be lost.
fn write(ctx: &Context, exercise: &Exercise, stubs: &Stubs, force: bool) -> Result<Exit> {
    let src = exercise.path.join("src");
    let present = modules(exercise, &src)?;
    let mut refused = 0;
    for (path, text) in &stubs.files {
        let file = src.join(path);
        match present.get(path) {
            Some(old) if old == text => continue,
            Some(old) if !force && !is_untouched(old) => {
                refused += 1;
                println!("kept   {} (somebody has worked in it)", ctx.shown(&file));
                continue;
            }
            _ => {}
        }
        write_file(&file, text)?;
        println!("wrote  {}", ctx.shown(&file));
    }
    if refused == 0 {
        println!(
            "{}: {} stubs are up to date",
            exercise.name(),
            stubs.files.len()
        );
        return Ok(Exit::Passed);
    }
    println!(
        "{}: to overwrite the kept files too: cargo xtask stubs {} --force\n\
         To start the exercise again with a backup of them: cargo xtask reset {}",
        exercise.name(),
        exercise.name(),
        exercise.name()
    );
    Ok(Exit::Failed)
}

/// Writes a file and the folders above it.
pub fn write_file(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
