//! `cargo xtask test`: everything that CI runs.

mod anchors;
mod manifests;
mod steps;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::brokers;
use crate::candidate::Candidate;
use crate::context::Context;
use crate::exit::Exit;
use crate::images::{self, Engine};
use crate::manifest::{Broker, Exercise};
use crate::model::{Grade, Verdict};
use crate::session::{Options, Selection, Session};
use crate::system::Tool;
use crate::{run, setup, stubs, workspace_lock};
use steps::Steps;

/// What `test` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the long steps: the runner's end-to-end tests, the atlas, the ways to a broker and the book
    #[arg(long)]
    fast: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Runs `cargo xtask test`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let brokers = setup::brokers(ctx)?;
    // Asked for at once and before anything runs: nobody wants a question in the middle.
    let mut tools: Vec<_> = brokers.iter().map(|broker| Tool::Server(*broker)).collect();
    // The lab's own tests drive a browser, whatever the exercises need.
    tools.extend(setup::BROWSER);
    if !args.fast {
        tools.extend(images::tools(&brokers));
    }
    setup::components(&["rustfmt", "clippy"])?;
    setup::install(ctx, &tools, args.yes)?;

    let mut steps = Steps::new(ctx)?;
    sources(ctx, &mut steps)?;
    if !args.fast {
        containers(ctx, &mut steps, &brokers)?;
    }
    crates(ctx, &mut steps, args.fast)?;
    candidates(ctx, &mut steps, args.fast)?;
    if args.fast {
        println!(
            "\nLeft out: the runner's end-to-end tests, the atlas, the ways to a broker, the book."
        );
        println!("All of it: cargo xtask test");
    } else {
        ladder(ctx, &mut steps)?;
        steps.command(
            "book",
            run::cargo(ctx, "run", "book", false).args(["--", "--check"]),
        )?;
    }
    Ok(if steps.finish() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

/// What can be said without running anything.
fn sources(ctx: &Context, steps: &mut Steps) -> Result<()> {
    forget_candidates(ctx)?;
    steps.command(
        "format",
        &mut cargo(ctx, &["fmt", "--all", "--", "--check", "-l"]),
    )?;
    let lints = ["--locked", "--all-targets", "--quiet"];
    let deny = ["--", "-D", "warnings"];
    steps.command(
        "lints",
        cargo(ctx, &["clippy", "--workspace"])
            .args(lints)
            .args(deny),
    )?;
    for exercise in ctx.exercises()? {
        let mut command = cargo(ctx, &["clippy", "--package", exercise.name()]);
        command
            .args(["--features", "solution"])
            .args(lints)
            .args(deny);
        steps.command(
            &format!("lints of the reference {}", exercise.name()),
            &mut command,
        )?;
    }
    steps.command("stubs", &mut runner(ctx, &["stubs", "--check"])?)?;
    steps.step("manifests", || manifests::problems(ctx))?;
    Ok(())
}

/// Removes what earlier runs laid out: rustfmt follows every `#[path]`, and how a candidate is formatted is its own affair.
fn forget_candidates(ctx: &Context) -> Result<()> {
    let _lock = ctx
        .runtime()?
        .block_on(workspace_lock::for_building(ctx, || {
            println!("waiting for another run that builds in this workspace");
        }))?;
    let folder = ctx.state().join("candidate");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The tests of every crate that is not an exercise.
fn crates(ctx: &Context, steps: &mut Steps, fast: bool) -> Result<()> {
    for package in ["given", "lab", "xtask", "listings", "book"] {
        let mut command = cargo(ctx, &["test", "--locked", "--package", package]);
        steps.command(&format!("tests of {package}"), &mut command)?;
    }
    if !fast {
        let mut command = cargo(ctx, &["test", "--locked", "--package", "workbook"]);
        steps.command("tests of the runner, end to end", &mut command)?;
    }
    Ok(())
}

/// The reference passes, fresh stubs fail, and so does every mistake.
fn candidates(ctx: &Context, steps: &mut Steps, fast: bool) -> Result<()> {
    for exercise in ctx.exercises()? {
        let name = exercise.name();
        let mut unit = cargo(
            ctx,
            &["test", "--locked", "--package", name, "--lib", "--bins"],
        );
        steps.command(
            &format!("unit tests of {name}"),
            unit.args(["--features", "solution"]),
        )?;
        steps.command(
            &format!("reference of {name}"),
            &mut runner(ctx, &["grade", name, "--solution"])?,
        )?;
        steps.step(&format!("fresh stubs of {name}"), || {
            fresh_stubs(ctx, exercise)
        })?;
    }
    if !fast {
        steps.command("atlas", &mut runner(ctx, &["atlas", "--mistakes-only"])?)?;
    }
    Ok(())
}

/// Grades what a learner starts with: it has to compile, and not one check may pass.
fn fresh_stubs(ctx: &Context, exercise: &Exercise) -> Result<Vec<String>> {
    let candidate = Candidate::Modules {
        label: "fresh stubs".to_owned(),
        files: stubs::generate(ctx, exercise)?.files,
    };
    let options = Options {
        quiet: true,
        ..Options::default()
    };
    let grade = Session::new(ctx, options).grade(&candidate, &[Selection::all(exercise)])?;
    Ok(undeserved(&grade))
}

/// What is wrong with the grade of fresh stubs.
fn undeserved(grade: &Grade) -> Vec<String> {
    let mut found = Vec::new();
    for exercise in &grade.exercises {
        let errors = exercise
            .compile_error
            .iter()
            .map(|error| error.rendered.clone());
        found.extend(errors.chain(exercise.trouble.clone()));
        if exercise.checks().next().is_none() {
            found.push(format!("{} has no checks", exercise.name));
        }
        for (_, check) in exercise.checks() {
            if matches!(
                check.verdict,
                Verdict::Passed | Verdict::TooSlow | Verdict::Infrastructure
            ) {
                found.push(format!(
                    "{} {}, although nothing is written yet",
                    check.name,
                    crate::model::words(check.verdict)
                ));
            }
        }
    }
    found
}

/// The images that the tests ask for. They come before the tests: where an engine answers, it is held to be able to supply them.
fn containers(ctx: &Context, steps: &mut Steps, brokers: &[Broker]) -> Result<()> {
    if let Engine::Missing(why) = images::engine() {
        println!("No container engine answers, so no broker is tried in a container: {why}");
        return Ok(());
    }
    steps.step("images", || {
        for broker in brokers {
            images::ensure(ctx, *broker, false)?;
        }
        Ok(Vec::new())
    })
}

/// Each way in which a broker can be had supplies one that a stage passes on. One exercise stands for all that need the same brokers.
fn ladder(ctx: &Context, steps: &mut Steps) -> Result<()> {
    // A place without warm brokers: they would come before every other way.
    let state = tempfile::tempdir().context("creating a temporary folder")?;
    let concerned: Vec<_> = one_for_each_set_of_brokers(ctx.exercises()?)
        .into_iter()
        .filter_map(|exercise| Some((exercise, exercise.manifest.stages.first()?)))
        .collect();
    let has_engine = matches!(images::engine(), Engine::Ready(_));
    for (exercise, stage) in concerned {
        let label = exercise.stage_label(stage.id);
        let name = exercise.name();
        let keeper = brokers::keep(ctx, &exercise.manifest.brokers)?;
        let mut given = grade_on(ctx, state.path(), &label)?;
        let endpoints = keeper.endpoints();
        for (broker, url) in [
            (Broker::Redis, endpoints.redis),
            (Broker::Amqp, endpoints.amqp),
        ] {
            given.envs(url.map(|url| (setup::url_variable(broker), url)));
        }
        steps.command(&format!("{name} on a broker that was given"), &mut given)?;
        drop(keeper);

        if has_engine {
            let mut contained = grade_on(ctx, state.path(), &label)?;
            contained.env("WORKBOOK_BROKERS", "docker");
            steps.command(
                &format!("{name} on a broker in a container"),
                &mut contained,
            )?;
        }
        let mut native = grade_on(ctx, state.path(), &label)?;
        native.env("WORKBOOK_BROKERS", "native");
        steps.command(&format!("{name} on a broker as a process"), &mut native)?;
    }
    Ok(())
}

/// The first exercise of each set of brokers that some exercise needs, in whatever order its manifest names them.
fn one_for_each_set_of_brokers(exercises: &[Exercise]) -> Vec<&Exercise> {
    let mut seen = Vec::new();
    let mut chosen = Vec::new();
    for exercise in exercises {
        let set = brokers::wanted(&exercise.manifest.brokers);
        if !set.is_empty() && !seen.contains(&set) {
            seen.push(set);
            chosen.push(exercise);
        }
    }
    chosen
}

/// Grades a stage of the reference with no broker named yet.
fn grade_on(ctx: &Context, state: &Path, label: &str) -> Result<Command> {
    let mut command = runner(ctx, &["grade", label, "--solution"])?;
    command
        .env("WORKBOOK_STATE", state)
        .env_remove("WORKBOOK_BROKERS")
        .env_remove("REDIS_URL")
        .env_remove("AMQP_URL");
    Ok(command)
}

fn cargo(ctx: &Context, args: &[&str]) -> Command {
    let mut command = Command::new(run::program());
    command.current_dir(&ctx.root).args(args);
    command
}

/// This program again, with other arguments.
fn runner(ctx: &Context, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(lab::program().context("finding this program")?);
    command.current_dir(&ctx.root).args(args);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::graded;

    fn grade(verdicts: &[&[Verdict]]) -> Grade {
        Grade {
            points: 0,
            max: 0,
            unjudged: 0,
            candidate: String::new(),
            arguments: String::new(),
            seed: 0,
            exercises: vec![graded(verdicts)],
            timings: Default::default(),
        }
    }

    #[test]
    fn each_way_to_a_broker_is_tried_once_for_each_set_of_brokers() {
        use Broker::{Amqp, Redis};
        let sets: [&[Broker]; 7] = [
            &[],
            &[Redis],
            &[Amqp, Redis],
            &[Redis],
            &[Redis, Amqp],
            &[Amqp],
            &[Redis, Redis],
        ];
        let mut exercises = Vec::new();
        for (number, set) in (1..).zip(sets) {
            let mut exercise = crate::manifest::tests::sample();
            exercise.number = number;
            exercise.manifest.brokers = set.to_vec();
            exercises.push(exercise);
        }
        let chosen = one_for_each_set_of_brokers(&exercises);
        let numbers: Vec<_> = chosen.iter().map(|exercise| exercise.number).collect();
        assert_eq!(numbers, [2, 3, 6]);
    }

    #[test]
    fn stubs_that_fail_everything_are_as_they_should_be() {
        assert!(undeserved(&grade(&[&[Verdict::Failed], &[Verdict::Blocked]])).is_empty());
    }

    #[test]
    fn a_stub_that_passes_a_check_is_named() {
        let found = undeserved(&grade(&[&[Verdict::Failed, Verdict::Passed]]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(undeserved(&grade(&[])).len(), 1);
    }
}
