//! `task-queue api`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use given::signals;
use serde_json::json;
use task_queue::{Api, Store, Submit, Submitter, serve};
use tokio::net::TcpListener;

use super::{Brokers, some_time};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    brokers: Brokers,
    /// Where to listen; port 0 takes any that is free
    #[arg(long, env = "TASK_QUEUE_LISTEN", default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
    /// The largest body, in bytes or with KiB or MiB
    #[arg(long, env = "TASK_QUEUE_MAX_BODY", default_value = "1MiB", value_parser = size)]
    max_body: usize,
    /// How long a submit may take
    #[arg(long, env = "TASK_QUEUE_CONFIRM_TIMEOUT", default_value = "5s", value_parser = some_time)]
    confirm_timeout: Duration,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let stop = signals::stop()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr().context("reading our own address")?;
    let brokers = arguments.brokers;
    let store = Store::connect(&brokers.redis, &brokers.name, brokers.keep).await?;
    let submitter = Submitter::start(Submit {
        names: brokers.name,
        confirm_timeout: arguments.confirm_timeout,
        keep: brokers.keep,
        ..Submit::new(brokers.amqp, brokers.redis)
    })
    .await?;
    // Whoever started us may have closed our output; that is no reason not to work.
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        json!({"listening": address.to_string()})
    );
    let api = Api {
        max_body: arguments.max_body,
    };
    serve(listener, submitter, store, api, stop)
        .await
        .context("answering requests")?;
    Ok(())
}

/// Bytes: a number, or one followed by KiB or MiB.
fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = match text {
        _ if text.ends_with("KiB") => (text.trim_end_matches("KiB"), 1024),
        _ if text.ends_with("MiB") => (text.trim_end_matches("MiB"), 1024 * 1024),
        _ => (text, 1),
    };
    let number: usize = number
        .trim()
        .parse()
        .map_err(|_| "not a size, such as 65536, 64KiB or 1MiB")?;
    number
        .checked_mul(unit)
        .filter(|&size| size > 0)
        .ok_or_else(|| "not a size that can be".to_owned())
}
