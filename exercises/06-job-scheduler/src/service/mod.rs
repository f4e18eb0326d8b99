//! The command line.

pub mod ending;
mod node;
mod worker;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use job_scheduler::Names;

/// A distributed job scheduler
#[derive(Parser)]
#[command(name = "job-scheduler", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be one of the nodes: take jobs over HTTP, and lead if nobody else does
    Node(node::Arguments),
    /// Be a service: work what is scheduled for it
    Service(worker::Arguments),
}

/// What both commands take.
#[derive(Args)]
struct Brokers {
    /// Redis
    #[arg(
        long,
        env = "JOB_SCHEDULER_REDIS",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    redis: String,
    /// RabbitMQ; `?heartbeat=N` sets the seconds between signs of life
    #[arg(
        long,
        env = "JOB_SCHEDULER_AMQP",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    amqp: String,
    /// What the scheduler is called: the beginning of every name in both brokers
    #[arg(long, env = "JOB_SCHEDULER_NAME", default_value = "jobs", value_parser = names)]
    name: Names,
}

/// Does what the command line asks for. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Node(arguments) => node::run(arguments).await,
        Command::Service(arguments) => worker::run(arguments).await,
    }
}

fn names(text: &str) -> Result<Names, String> {
    Names::new(text).map_err(|error| error.to_string())
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < Duration::from_millis(1) => Err("must be a millisecond or more".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
