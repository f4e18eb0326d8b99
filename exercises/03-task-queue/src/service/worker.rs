//! `task-queue worker`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use given::output::Output;
use given::signals;
use serde_json::{Value, json};
use task_queue::{Context, Handlers, KINDS, Outcome, Retry, Work, handlers, work};
use tokio::sync::Mutex;

use super::{Brokers, some_time};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    brokers: Brokers,
    /// How many tasks run side by side
    #[arg(long, env = "TASK_QUEUE_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How often a task is attempted at most
    #[arg(long, env = "TASK_QUEUE_ATTEMPTS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// The pause after the first attempt; it doubles with each
    #[arg(long, env = "TASK_QUEUE_RETRY_DELAY", default_value = "1s", value_parser = some_time)]
    retry_delay: Duration,
    /// The longest pause between attempts
    #[arg(long, env = "TASK_QUEUE_RETRY_LONGEST", default_value = "1m", value_parser = some_time)]
    retry_longest: Duration,
    /// How long a stop waits for tasks that run
    #[arg(long, env = "TASK_QUEUE_GRACE", default_value = "30s", value_parser = humantime::parse_duration)]
    grace: Duration,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let stop = signals::stop()?;
    let brokers = arguments.brokers;
    let options = Work {
        names: brokers.name,
        concurrency: arguments.concurrency,
        retry: Retry {
            attempts: arguments.attempts,
            first: arguments.retry_delay,
            longest: arguments.retry_longest,
        },
        grace: arguments.grace,
        keep: brokers.keep,
        ..Work::new(brokers.amqp, brokers.redis)
    };
    let output = Arc::new(Mutex::new(Output::new()));
    let worked = work(options, told(handlers(), &output), stop).await?;
    let whole = json!({
        "succeeded": worked.succeeded,
        "failed": worked.failed,
        "retried": worked.retried,
        "returned": worked.returned,
    });
    say(&output, &whole).await;
    Ok(())
}

/// The same handlers, with a line on standard output when an attempt begins and when it ends.
fn told(handlers: Handlers, output: &Arc<Mutex<Output>>) -> Handlers {
    let mut told = Handlers::new();
    for kind in KINDS {
        let (handlers, output) = (handlers.clone(), Arc::clone(output));
        told = told.on(kind, move |context| {
            attempt(handlers.clone(), Arc::clone(&output), context)
        });
    }
    told
}

async fn attempt(handlers: Handlers, output: Arc<Mutex<Output>>, context: Context) -> Outcome {
    let mut line = json!({
        "id": context.id(),
        "kind": context.kind(),
        "attempt": context.attempt(),
        "what": "began",
        "error": null,
    });
    say(&output, &line).await;
    let outcome = handlers.call(context).await;
    match &outcome {
        Ok(_) => line["what"] = json!("succeeded"),
        Err(failure) => {
            line["what"] = json!("failed");
            line["error"] = json!(failure.to_string());
        }
    }
    say(&output, &line).await;
    outcome
}

/// Writes a line. Whoever started us may have closed our output; that is no reason not to work.
async fn say(output: &Mutex<Output>, line: &Value) {
    let _ = output.lock().await.json(line).await;
}
