//! `cargo xtask grade`: grade once.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::candidate::{self, Candidate};
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::manifest::{self, Exercise};
use crate::model::Grade;
use crate::progress;
use crate::report::{self, Format};
use crate::session::{Options, Selection, Session};

/// What `grade` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise (1, 01, stream-queue) or one stage of it (1.3); all exercises without it
    #[arg(value_name = "EX[.STAGE]")]
    what: Option<String>,
    /// Grade the reference instead of your files
    #[arg(long, conflicts_with = "candidate")]
    solution: bool,
    /// Grade the modules in this folder: a workspace, an exercise or a plain folder of modules; may be given several times
    #[arg(long, value_name = "DIR")]
    candidate: Vec<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also report where the time went
    #[arg(long)]
    timings: bool,
    /// The seed of every check: the same seed gives the same faults again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many checks run side by side [default: four for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Install missing brokers without asking
    #[arg(long)]
    yes: bool,
    /// Only checks with this in their name
    #[arg(long, value_name = "TEXT", hide = true)]
    check: Option<String>,
}

/// Runs `cargo xtask grade`.
pub fn run(args: Args, ctx: &Context) -> anyhow::Result<Exit> {
    let candidates = candidates(&args)?;
    let selections = candidates
        .iter()
        .map(|candidate| select(&args, ctx, candidate))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options {
        seed: args.seed,
        jobs: args.jobs.map(usize::from),
        yes: args.yes,
        quiet: false,
    };
    let session = Session::new(ctx, options);
    let mut grades = Vec::new();
    for (candidate, selections) in candidates.iter().zip(&selections) {
        let grade = session.grade(candidate, selections)?;
        refuse_empty(&grade, &args)?;
        if matches!(candidate, Candidate::WorkingCopy) && args.check.is_none() {
            progress::record(ctx, &grade)?;
        }
        grades.push(grade);
    }
    let text = report::render(ctx, &grades, args.format, args.timings)?;
    print(&text)?;
    Ok(worst(&grades))
}

fn candidates(args: &Args) -> anyhow::Result<Vec<Candidate>> {
    if args.solution {
        return Ok(vec![Candidate::Reference]);
    }
    if args.candidate.is_empty() {
        return Ok(vec![Candidate::WorkingCopy]);
    }
    args.candidate
        .iter()
        .map(|folder| {
            if !folder.is_dir() {
                return Err(Usage(format!(
                    "--candidate {}: there is no such folder. Give the folder of a workspace, of an exercise, or of its modules.",
                    folder.display()
                ))
                .into());
            }
            Ok(Candidate::Directory(folder.clone()))
        })
        .collect()
}

/// What of the candidate is graded. Every candidate is looked at before the first one is built: a misspelt folder is told at once.
fn select<'a>(
    args: &Args,
    ctx: &'a Context,
    candidate: &Candidate,
) -> anyhow::Result<Vec<Selection<'a>>> {
    let all = ctx.exercises()?;
    let named = args
        .what
        .as_deref()
        .map(|what| manifest::find_stage(all, what))
        .transpose()?;
    let exercises: Vec<&Exercise> = match (named, candidate) {
        (Some((exercise, _)), Candidate::Directory(folder)) => {
            candidate::read(folder, exercise)?;
            vec![exercise]
        }
        (Some((exercise, _)), _) => vec![exercise],
        (None, Candidate::Directory(folder)) => candidate::exercises_in(folder, all)?,
        (None, _) => all.iter().collect(),
    };
    Ok(exercises
        .into_iter()
        .map(|exercise| Selection {
            exercise,
            stage: named.and_then(|(_, stage)| stage).map(|stage| stage.id),
            check: args.check.clone(),
        })
        .collect())
}

/// Nothing to judge is nobody's success.
fn refuse_empty(grade: &Grade, args: &Args) -> anyhow::Result<()> {
    let mut stages = grade.exercises.iter().flat_map(|exercise| &exercise.stages);
    if stages.any(|stage| !stage.checks.is_empty())
        || grade
            .exercises
            .iter()
            .any(|exercise| exercise.trouble.is_some())
    {
        return Ok(());
    }
    Err(Usage(match &args.check {
        Some(part) => format!("no check has `{part}` in its name."),
        None => format!(
            "{} has no checks to grade.",
            args.what.as_deref().unwrap_or("the workbook")
        ),
    })
    .into())
}

/// What could not be judged weighs most: the numbers are not final then.
fn worst(grades: &[Grade]) -> Exit {
    let exits: Vec<Exit> = grades.iter().map(Grade::exit).collect();
    [Exit::Infrastructure, Exit::Failed]
        .into_iter()
        .find(|exit| exits.contains(exit))
        .unwrap_or(Exit::Passed)
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing the report to standard output")
        }
        _ => Ok(()),
    }
}
