//! `stream-queue work`: handles entries, and prints each one that was handled.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use given::output::Output;
use given::{exec, signals};
use stream_queue::{Entry, WorkOptions, work};
use tokio::sync::{Mutex, Notify};

use super::ledger::Ledger;
use super::{Queue, ending};

#[derive(Args)]
pub struct WorkArgs {
    #[command(flatten)]
    pub queue: Queue,
    /// The consumer group
    #[arg(long, env = "STREAM_QUEUE_GROUP")]
    group: String,
    /// This consumer's name: no two running processes may have the same
    #[arg(long, env = "STREAM_QUEUE_CONSUMER")]
    consumer: String,
    /// How many entries may be in flight at once
    #[arg(long, env = "STREAM_QUEUE_CONCURRENCY", default_value = "1", value_parser = at_least_one)]
    concurrency: u64,
    /// How long an entry may go without a sign of life from its consumer before others take it
    #[arg(long, env = "STREAM_QUEUE_VISIBILITY", default_value = "30s", value_parser = humantime::parse_duration)]
    visibility: Duration,
    /// How often an entry is delivered before it is given up
    #[arg(long, env = "STREAM_QUEUE_MAX_DELIVERIES", default_value = "5", value_parser = at_least_one)]
    max_deliveries: u64,
    /// The pause after an entry's first failure; it doubles with each further one
    #[arg(long, env = "STREAM_QUEUE_FIRST_RETRY", default_value = "100ms", value_parser = humantime::parse_duration)]
    first_retry: Duration,
    /// The longest pause between two attempts
    #[arg(long, env = "STREAM_QUEUE_LONGEST_RETRY", default_value = "30s", value_parser = humantime::parse_duration)]
    longest_retry: Duration,
    /// How long to wait at a stop for what is in flight
    #[arg(long, env = "STREAM_QUEUE_STOP_DEADLINE", default_value = "10s", value_parser = humantime::parse_duration)]
    stop_deadline: Duration,
    /// Handle each entry with `sh -c CMD`: its JSON line on standard input, not 0 is a failure
    #[arg(long, env = "STREAM_QUEUE_EXEC", value_name = "CMD")]
    exec: Option<String>,
    /// Append each entry's id to the Redis list KEY, once however often it is delivered
    #[arg(long, env = "STREAM_QUEUE_LEDGER", value_name = "KEY")]
    ledger: Option<String>,
}

fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".into()),
    }
}

pub async fn run(args: WorkArgs) -> Result<ExitCode> {
    let options = WorkOptions {
        concurrency: usize::try_from(args.concurrency).unwrap_or(usize::MAX),
        visibility: args.visibility,
        max_deliveries: args.max_deliveries,
        first_retry: args.first_retry,
        longest_retry: args.longest_retry,
        stop_deadline: args.stop_deadline,
        ..WorkOptions::new(
            &args.queue.redis,
            args.queue.stream,
            args.group,
            args.consumer,
        )
    };
    let handling = Arc::new(Handling {
        exec: args.exec,
        ledger: args.ledger.map(|key| Ledger::new(args.queue.redis, key)),
        output: Mutex::new(Output::new()),
        output_closed: Notify::new(),
    });
    let stop = signals::stop()?;
    let handler = {
        let handling = Arc::clone(&handling);
        move |entry| {
            let handling = Arc::clone(&handling);
            async move { handling.handle(&entry).await }
        }
    };
    tokio::select! {
        summary = work(options, handler, stop) => {
            let summary = summary?;
            if summary.left_pending > 0 {
                ending::complain(&format!("stopped with {} entries pending", summary.left_pending));
            }
        }
        // Whoever read our output has seen enough; what is in flight is for other workers.
        () = handling.output_closed.notified() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What is done with each entry.
struct Handling {
    exec: Option<String>,
    ledger: Option<Ledger>,
    output: Mutex<Output>,
    output_closed: Notify,
}

impl Handling {
    async fn handle(&self, entry: &Entry) -> Result<(), String> {
        if let Some(command) = &self.exec {
            let line = serde_json::to_string(entry).map_err(|error| error.to_string())?;
            exec::run(command, &line).await?;
        }
        if let Some(ledger) = &self.ledger {
            ledger.enter(&entry.id).await?;
        }
        if let Err(error) = self.output.lock().await.json(entry).await {
            // What could not be printed was not handled: the process ends with it unacknowledged.
            tracing::debug!(%error, "standard output is closed");
            self.output_closed.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
