//! `cargo xtask run`: an exercise's service, as a user of it would start it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use lab::brokers::warm;

use crate::context::Context;
use crate::exit::Exit;

/// What `run` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name
    exercise: String,
    /// The reference in place of your files
    #[arg(long)]
    solution: bool,
    /// What the service is given, after `--`
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask run`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercise = ctx.exercise(&args.exercise)?;
    let mut command = cargo(ctx, "run", exercise.name(), args.solution);
    // Warm brokers are used unless the caller names others: a flag wins over the environment.
    if let Some(warm) = ctx.runtime()?.block_on(warm::status()) {
        let prefix = exercise.name().to_uppercase().replace('-', "_");
        let urls = [("REDIS", warm.redis()), ("AMQP", warm.amqp())];
        for (broker, served) in urls {
            let variable = format!("{prefix}_{broker}");
            if let Some(served) = served
                && std::env::var_os(&variable).is_none()
            {
                command.env(variable, &served.url);
            }
        }
    }
    // In place of this process: signals and standard input then reach the service as if it had been started directly.
    let error = command.arg("--").args(&args.args).exec();
    Err(error).with_context(|| format!("running {}", exercise.name()))
}

/// A quiet cargo command for the crate of an exercise.
pub fn cargo(ctx: &Context, verb: &str, crate_name: &str, solution: bool) -> Command {
    let mut command = Command::new(program());
    command
        .current_dir(&ctx.root)
        .args([verb, "--quiet", "--package", crate_name]);
    if solution {
        command.args(["--features", "solution"]);
    }
    command
}

/// The cargo that started this program, or the one on `PATH`.
pub fn program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
