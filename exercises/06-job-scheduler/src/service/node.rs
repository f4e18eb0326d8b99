//! `job-scheduler node`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use given::signals;
use job_scheduler::{CancellationToken, Lease, NodeOptions, Retry, Store, serve_api};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Brokers, some_time};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    brokers: Brokers,
    /// Where to listen; port 0 takes any that is free
    #[arg(long, env = "JOB_SCHEDULER_LISTEN", default_value = "127.0.0.1:8086")]
    listen: SocketAddr,
    /// What this node is called; no other that runs may be called the same. Host and process, unless told
    /// otherwise
    #[arg(long, env = "JOB_SCHEDULER_ID")]
    id: Option<String>,
    /// How long a leader leads without a sign of life
    #[arg(long, env = "JOB_SCHEDULER_LEASE", default_value = "5s", value_parser = some_time)]
    lease: Duration,
    /// How often the others look whether there is a leader, and the leader whether there is work
    #[arg(long, env = "JOB_SCHEDULER_CHECK", default_value = "250ms", value_parser = some_time)]
    check: Duration,
    /// What is later than this is a misfire
    #[arg(long, env = "JOB_SCHEDULER_LATE", default_value = "10s", value_parser = humantime::parse_duration)]
    late: Duration,
    /// How many attempts a run has
    #[arg(long, env = "JOB_SCHEDULER_ATTEMPTS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// The pause after the first attempt; it doubles with each
    #[arg(long, env = "JOB_SCHEDULER_RETRY_DELAY", default_value = "1s", value_parser = some_time)]
    retry_delay: Duration,
    /// The longest pause between attempts
    #[arg(long, env = "JOB_SCHEDULER_RETRY_LONGEST", default_value = "1m", value_parser = some_time)]
    retry_longest: Duration,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let stop = signals::stop()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr().context("reading our own address")?;
    let brokers = arguments.brokers;
    let id = arguments.id.unwrap_or_else(some_id);
    let store = Store::connect(&brokers.redis, &brokers.name).await?;
    let lease = Lease::connect(&brokers.redis, &brokers.name, &id, arguments.lease).await?;
    let options = NodeOptions {
        names: brokers.name,
        lease: arguments.lease,
        check: arguments.check,
        late: arguments.late,
        retry: Retry {
            attempts: arguments.attempts,
            first: arguments.retry_delay,
            longest: arguments.retry_longest,
        },
        ..NodeOptions::new(&id, brokers.redis, brokers.amqp)
    };
    // Whoever started us may have closed our output; that is no reason not to work.
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        json!({"listening": address.to_string(), "id": id})
    );
    // Whichever ends first ends the other: a node that cannot start has nothing to answer.
    let whole = CancellationToken::new();
    let ends = whole.clone();
    let node = async {
        let _ends = ends.drop_guard();
        job_scheduler::run(options, stop.clone()).await
    };
    let (reported, served) = tokio::join!(node, serve_api(listener, store, lease, whole.clone()));
    let report = reported?;
    served.context("answering requests")?;
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        json!({"terms": report.terms, "published": report.published, "replies": report.replies})
    );
    Ok(())
}

/// Host and process, as far as a name may have it.
fn some_id() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let host: String = host.chars().filter(fits).take(60).collect();
    format!("{host}-{}", std::process::id())
        .trim_start_matches('-')
        .to_owned()
}
