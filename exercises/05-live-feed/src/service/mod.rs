//! The command line, and a node's life from the first signal to the last.

pub mod ending;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use given::signals;
use live_feed::{Options, serve};
use serde_json::json;
use tokio::net::TcpListener;

/// A live feed over Server-Sent Events
#[derive(Parser)]
#[command(name = "live-feed", version)]
pub struct Cli {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, env = "LIVE_FEED_LISTEN", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Keep the events in Redis, for any number of nodes; without it, in memory
    #[arg(long, env = "LIVE_FEED_REDIS", hide_env_values = true)]
    redis: Option<String>,
    /// The key of the Redis stream
    #[arg(long, env = "LIVE_FEED_STREAM", default_value = "feed")]
    stream: String,
    /// How many events to keep for clients that come back
    #[arg(long, env = "LIVE_FEED_HISTORY", default_value_t = 10_000)]
    history: usize,
    /// Send a comment when nothing else was sent for so long
    #[arg(long, env = "LIVE_FEED_HEARTBEAT", default_value = "15s", value_parser = some_time)]
    heartbeat: Duration,
    /// How long clients are asked to wait before they connect again
    #[arg(long, env = "LIVE_FEED_RETRY", default_value = "2s", value_parser = humantime::parse_duration)]
    retry: Duration,
    /// How many streams may be open at once
    #[arg(long, env = "LIVE_FEED_MAX_CLIENTS", default_value_t = 10_000)]
    max_clients: usize,
    /// How many events may wait for one client before it is disconnected
    #[arg(long, env = "LIVE_FEED_QUEUE", default_value = "256", value_parser = queue_length)]
    queue: usize,
    /// Let in only those who show this token
    #[arg(long, env = "LIVE_FEED_TOKEN", hide_env_values = true, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    token: Option<String>,
    /// How long to wait at a stop until all clients have their last events
    #[arg(long, env = "LIVE_FEED_STOP_DEADLINE", default_value = "5s", value_parser = humantime::parse_duration)]
    stop_deadline: Duration,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be more than nothing".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn queue_length(text: &str) -> Result<usize, String> {
    // A longer channel than this panics.
    let most = tokio::sync::Semaphore::MAX_PERMITS;
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) if number > most => Err(format!("must be at most {most}")),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".into()),
    }
}

/// Runs a node until SIGTERM or SIGINT. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<()> {
    let stop = signals::stop()?;
    let listener = TcpListener::bind(cli.listen)
        .await
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    let address = listener.local_addr().context("reading our own address")?;
    let options = Options {
        redis: cli.redis,
        stream: cli.stream.clone(),
        history: cli.history,
        heartbeat: cli.heartbeat,
        retry: cli.retry,
        max_clients: cli.max_clients,
        queue: cli.queue,
        token: cli.token,
        stop_deadline: cli.stop_deadline,
    };
    // Whoever started us may have closed our output; that is no reason not to work.
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        json!({"listening": address.to_string()})
    );
    match serve(listener, options, stop).await {
        Ok(summary) => {
            if summary.cut_off > 0 {
                let count = summary.cut_off;
                ending::complain(&format!("{count} connections were cut off at the deadline"));
            }
            Ok(())
        }
        Err(error) if error.to_string().contains("WRONGTYPE") => Err(error).context(format!(
            "the key `{}` in Redis, or `{0}:finished`, holds something else; give another --stream",
            cli.stream
        )),
        Err(error) => Err(error.into()),
    }
}
