//! `chat-server`: serves until SIGTERM or SIGINT.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use chat_server::{Error, Options, serve};
use clap::Args;
use given::signals;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Secret, ending, size};

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "CHAT_SERVER_LISTEN", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: String,
    /// The address of Redis, which nodes share; without it the node is alone
    #[arg(
        long,
        env = "CHAT_SERVER_REDIS",
        hide_env_values = true,
        value_name = "URL"
    )]
    redis: Option<Secret>,
    /// What every key in Redis begins with
    #[arg(long, env = "CHAT_SERVER_PREFIX", default_value = "chat", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    prefix: String,
    /// Let nobody in without the token that `chat-server token` makes with this secret
    #[arg(
        long,
        env = "CHAT_SERVER_TOKEN_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    token_secret: Option<Secret>,
    /// Let only pages of this origin connect, such as https://chat.example; may be given again
    #[arg(
        long = "origin",
        env = "CHAT_SERVER_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    origins: Vec<String>,
    /// How often a client is pinged; a silent one is gone after twice as long
    #[arg(long, env = "CHAT_SERVER_HEARTBEAT", default_value = "25s", value_parser = some_time)]
    heartbeat: Duration,
    /// The largest message of a client
    #[arg(long, env = "CHAT_SERVER_MAX_MESSAGE", default_value = "64KiB", value_name = "SIZE", value_parser = size::parse)]
    max_message: usize,
    /// Messages a second of one client, with bursts of twice as many; 0 for no limit
    #[arg(
        long,
        env = "CHAT_SERVER_RATE",
        default_value = "100",
        value_name = "N"
    )]
    rate: u32,
    /// Frames that may wait for one client before it is too slow
    #[arg(long, env = "CHAT_SERVER_QUEUE", default_value = "256", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// Messages kept for each room
    #[arg(
        long,
        env = "CHAT_SERVER_HISTORY",
        default_value = "1000",
        value_name = "N"
    )]
    history: u32,
    /// How long a stop may take
    #[arg(long, env = "CHAT_SERVER_STOP_DEADLINE", default_value = "5s", value_parser = humantime::parse_duration)]
    stop_deadline: Duration,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < Duration::from_millis(1) => Err("must be at least 1ms".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// An address to listen on: a host, which may be a name, and a port.
fn address(text: &str) -> Result<String, String> {
    let host_and_port = text.rsplit_once(':');
    match host_and_port {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("give HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080".into()),
    }
}

pub async fn run(args: ServeArgs) -> Result<ExitCode> {
    let stop = signals::stop()?;
    let options = Options {
        redis: args.redis.map(|url| url.0),
        prefix: args.prefix,
        token_secret: args.token_secret.map(|secret| secret.0),
        origins: args.origins,
        heartbeat: args.heartbeat,
        max_message: args.max_message,
        rate: args.rate,
        queue: args.queue as usize,
        history: args.history as usize,
        stop_deadline: args.stop_deadline,
    };
    let unheard = |source| Error::Listen {
        address: args.listen.clone(),
        source,
    };
    let listener = TcpListener::bind(&args.listen).await.map_err(unheard)?;
    if let Some(url) = &options.redis {
        // Who reads our first line may rely on it.
        chat_server::reach(url).await?;
    }
    let listening = listener.local_addr().map_err(unheard)?;
    ending::print(&json!({ "listening": listening }));
    let summary = serve(listener, options, stop).await?;
    tracing::info!(?summary, "stopped");
    if summary.cut > 0 {
        ending::complain(&format!(
            "cut {} connections at the stop deadline",
            summary.cut
        ));
    }
    Ok(ExitCode::SUCCESS)
}
