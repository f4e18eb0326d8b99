//! `cargo xtask bench`: an exercise's criterion benchmarks, with a broker for them.

use anyhow::{Context as _, Result};

use crate::brokers;
use crate::context::Context;
use crate::exit::Exit;
use crate::run;

/// What `bench` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name
    exercise: String,
    /// The reference in place of your files
    #[arg(long)]
    solution: bool,
    /// What criterion is given, after `--`: a filter, `--save-baseline NAME`, …
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask bench`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercise = ctx.exercise(&args.exercise)?;
    let keeper = brokers::keep(ctx, &exercise.manifest.brokers)?;
    let endpoints = keeper.endpoints();
    let mut command = run::cargo(ctx, "bench", exercise.name(), args.solution);
    for (variable, url) in [("REDIS_URL", endpoints.redis), ("AMQP_URL", endpoints.amqp)] {
        if let Some(url) = url {
            command.env(variable, url);
        }
    }
    let status = command
        .args(["--bench", "*", "--"])
        .args(&args.args)
        .status()
        .with_context(|| format!("running the benchmarks of {}", exercise.name()))?;
    Ok(if status.success() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}
