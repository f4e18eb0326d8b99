//! The command line.

mod api;
pub mod ending;
mod worker;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use task_queue::Names;

/// A task queue behind RabbitMQ
#[derive(Parser)]
#[command(name = "task-queue", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Accept tasks over HTTP, and tell what becomes of them
    Api(api::Arguments),
    /// Work tasks
    Worker(worker::Arguments),
}

/// What both commands take.
#[derive(Args)]
struct Brokers {
    /// RabbitMQ; `?heartbeat=N` sets the seconds between signs of life
    #[arg(
        long,
        env = "TASK_QUEUE_AMQP",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    amqp: String,
    /// Redis
    #[arg(
        long,
        env = "TASK_QUEUE_REDIS",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    redis: String,
    /// What the task queue is called: the beginning of every name in both brokers
    #[arg(long, env = "TASK_QUEUE_NAME", default_value = "tasks", value_parser = names)]
    name: Names,
    /// How long ended tasks and idempotency keys are remembered
    #[arg(long, env = "TASK_QUEUE_KEEP", default_value = "24h", value_parser = some_time)]
    keep: Duration,
}

/// Does what the command line asks for. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Api(arguments) => api::run(arguments).await,
        Command::Worker(arguments) => worker::run(arguments).await,
    }
}

fn names(text: &str) -> Result<Names, String> {
    Names::new(text).map_err(|error| error.to_string())
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be more than nothing".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
