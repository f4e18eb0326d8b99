//! What the service can do, as its command line tells it.

pub mod ending;
mod publish;
mod relay;
mod saga_demo;
mod subscribe;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Events that outlive the process: a log in Redis, followers, an outbox, and a saga on top
#[derive(Parser)]
#[command(name = "event-bus", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Append an event to the log; print its id
    Publish(publish::PublishArgs),
    /// Follow the log until SIGTERM or SIGINT; print a JSON line for each event
    Subscribe(subscribe::SubscribeArgs),
    /// Publish what services have put into their outbox, until SIGTERM or SIGINT
    Relay(relay::RelayArgs),
    /// Run order, payment, shipping and a relay; read orders, print what became of them
    SagaDemo(saga_demo::SagaArgs),
}

/// Which Redis.
#[derive(Args, Clone)]
pub struct Redis {
    /// The address of Redis
    #[arg(
        long,
        env = "EVENT_BUS_REDIS",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis: String,
}

/// Runs a command to its end. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let ended = match cli.command {
        Command::Publish(args) => publish::run(args).await,
        Command::Subscribe(args) => subscribe::run(args).await,
        Command::Relay(args) => relay::run(args).await,
        Command::SagaDemo(args) => saga_demo::run(args).await,
    };
    ended.map_err(|error| match format!("{error:#}").contains("WRONGTYPE") {
        true => {
            error.context("a key in Redis holds something else; give another --log or --prefix")
        }
        false => error,
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".into()),
    }
}
