//! `cargo xtask`: the runner of the workbook. This file is the command line; each command lives in a module of its own.

mod atlas;
mod bench;
mod book;
mod brokers;
mod build;
mod candidate;
mod checks;
mod context;
mod diff;
mod display;
mod doctor;
mod durations;
mod environment;
mod exit;
mod explain;
mod grade;
mod hint;
mod home;
mod images;
mod interrupt;
mod manifest;
mod model;
mod progress;
mod report;
mod reset;
mod run;
mod score;
mod session;
mod setup;
mod store;
mod stubs;
mod system;
mod test;
mod verdict;
mod watch;
mod workspace_lock;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;
use exit::Exit;

/// Messages in Flight: a workbook on asynchronous and distributed processing that grades itself.
///
/// Without a command: where you are, and the next step.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Grade once
    Grade(grade::Args),
    /// Grade again at every save, and move on when a stage is green
    Watch(watch::Args),
    /// The next hint for a stage, from a nudge to nearly the code
    Hint(hint::Args),
    /// The story of a mistake: how it shows, what it costs, how to mend it
    Explain(explain::Args),
    /// Start an exercise again; keeps a backup of your files
    Reset(reset::Args),
    /// Your files against the reference
    Diff(diff::Args),
    /// Run an exercise's service
    Run(run::Args),
    /// Measure an exercise with criterion
    Bench(bench::Args),
    /// Brokers that stay warm between grades
    Brokers(brokers::Args),
    /// What is missing on this machine, and the command that mends it
    Doctor(doctor::Args),
    /// Install what is missing
    Setup(setup::Args),
    /// Build the pinned broker images from the distribution's packages
    Images(images::Args),
    /// Build the book
    Book(book::Args),
    /// Generate the learner's files from the reference
    Stubs(stubs::Args),
    /// Grade every mistake of the atlas: each must be caught and diagnosed
    Atlas(atlas::Args),
    /// Everything that CI runs
    Test(test::Args),
}

fn main() -> ExitCode {
    // The process that holds the brokers is this same program, started again by it.
    if let Some(code) = lab::brokers::keep_if_asked() {
        return code;
    }
    let line = CommandLine::parse();
    let ended = Context::detect().and_then(|ctx| dispatch(line.command, &ctx));
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::of_error(&error);
            if exit != Exit::Interrupted {
                eprintln!("error: {}", one_message(&error));
            }
            exit.into()
        }
    }
}

fn dispatch(command: Option<Command>, ctx: &Context) -> anyhow::Result<Exit> {
    match command {
        None => home::run(ctx),
        Some(Command::Grade(args)) => grade::run(args, ctx),
        Some(Command::Watch(args)) => watch::run(args, ctx),
        Some(Command::Hint(args)) => hint::run(args, ctx),
        Some(Command::Explain(args)) => explain::run(args, ctx),
        Some(Command::Reset(args)) => reset::run(args, ctx),
        Some(Command::Diff(args)) => diff::run(args, ctx),
        Some(Command::Run(args)) => run::run(args, ctx),
        Some(Command::Bench(args)) => bench::run(args, ctx),
        Some(Command::Brokers(args)) => brokers::run(args, ctx),
        Some(Command::Doctor(args)) => doctor::run(args, ctx),
        Some(Command::Setup(args)) => setup::run(args, ctx),
        Some(Command::Images(args)) => images::run(args, ctx),
        Some(Command::Book(args)) => book::run(args, ctx),
        Some(Command::Stubs(args)) => stubs::run(args, ctx),
        Some(Command::Atlas(args)) => atlas::run(args, ctx),
        Some(Command::Test(args)) => test::run(args, ctx),
    }
}

/// What was being done, then why it failed, one line each.
fn one_message(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
    }
    lines.join("\n  because: ")
}
