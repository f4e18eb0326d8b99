//! What the service can do, as its command line tells it.

mod dead;
pub mod ending;
mod ledger;
mod lines;
mod send;
mod stats;
mod work;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// A message queue on Redis Streams
#[derive(Parser)]
#[command(name = "stream-queue", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send each JSON object on a line of standard input; print one id a line
    Send(send::SendArgs),
    /// Handle entries until SIGTERM or SIGINT; print a JSON line for each entry handled
    Work(work::WorkArgs),
    /// Print one JSON object: the stream, its groups and consumers, its backlog
    Stats(Queue),
    /// List, retry or drop what was given up
    Dead {
        #[command(subcommand)]
        action: dead::Action,
    },
}

/// Which queue.
#[derive(Args, Clone)]
pub struct Queue {
    /// The address of Redis
    #[arg(
        long,
        env = "STREAM_QUEUE_REDIS",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis: String,
    /// The stream
    #[arg(long, env = "STREAM_QUEUE_STREAM")]
    pub stream: String,
}

/// Runs a command to its end. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let stream = cli.command.queue().stream.clone();
    let ended = match cli.command {
        Command::Send(args) => send::run(args).await,
        Command::Work(args) => work::run(args).await,
        Command::Stats(queue) => stats::run(queue).await,
        Command::Dead { action } => dead::run(action).await,
    };
    ended.map_err(|error| match format!("{error:#}").contains("WRONGTYPE") {
        true => error.context(format!(
            "the key `{stream}` in Redis holds something else than a stream; give another --stream"
        )),
        false => error,
    })
}

impl Command {
    fn queue(&self) -> &Queue {
        match self {
            Command::Send(args) => &args.queue,
            Command::Work(args) => &args.queue,
            Command::Stats(queue) => queue,
            Command::Dead { action } => action.queue(),
        }
    }
}
