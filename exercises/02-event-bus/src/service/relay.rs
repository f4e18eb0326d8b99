//! `event-bus relay`: from an outbox into a log.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use event_bus::{Relay, relay};
use given::signals;

use super::{Redis, at_least_one};

#[derive(Args)]
pub struct RelayArgs {
    #[command(flatten)]
    redis: Redis,
    /// The outbox is the stream PREFIX:outbox
    #[arg(long, env = "EVENT_BUS_PREFIX")]
    prefix: String,
    /// The stream that is the log
    #[arg(long, env = "EVENT_BUS_LOG")]
    log: String,
    /// The address of the Redis with the log, if it is another
    #[arg(long, env = "EVENT_BUS_LOG_REDIS", hide_env_values = true)]
    log_redis: Option<String>,
    /// How many entries are relayed at once
    #[arg(long, env = "EVENT_BUS_BATCH", default_value = "100", value_parser = at_least_one)]
    batch: usize,
}

pub async fn run(args: RelayArgs) -> Result<ExitCode> {
    let options = Relay {
        log_redis: args.log_redis,
        batch: args.batch,
        ..Relay::new(args.redis.redis, args.prefix, args.log)
    };
    relay(options, signals::stop()?).await?;
    Ok(ExitCode::SUCCESS)
}
