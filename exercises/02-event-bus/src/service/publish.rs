//! `event-bus publish`: one event into the log.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use event_bus::{Event, Log};
use given::output::Output;
use serde_json::Value;

use super::Redis;

#[derive(Args)]
pub struct PublishArgs {
    #[command(flatten)]
    redis: Redis,
    /// The stream that is the log
    #[arg(long, env = "EVENT_BUS_LOG")]
    log: String,
    /// What happened, such as order.placed
    #[arg(value_parser = event_name)]
    name: String,
    /// What there is to know about it
    #[arg(value_name = "JSON", value_parser = json)]
    data: Value,
}

fn event_name(text: &str) -> Result<String, String> {
    let checked = Event::new(text, ());
    checked
        .map(|event| event.name)
        .map_err(|error| error.to_string())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

pub async fn run(args: PublishArgs) -> Result<ExitCode> {
    let event = Event::new(args.name, args.data)?;
    let log = Log::connect(&args.redis.redis, &args.log).await?;
    let id = log.append(&event).await?;
    Output::new().text(&format!("{id}\n")).await?;
    Ok(ExitCode::SUCCESS)
}
