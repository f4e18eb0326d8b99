//! `job-scheduler service`: a service for trying things out, whose runs say themselves what they want to be.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use given::output::Output;
use given::signals;
use job_scheduler::{Run, ServiceOptions, serve, time};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Brokers, some_time};

#[derive(Args)]
pub(super) struct Arguments {
    /// What the service is called
    #[arg(value_name = "NAME")]
    service: String,
    #[command(flatten)]
    brokers: Brokers,
    /// How many runs are worked side by side
    #[arg(long, env = "JOB_SCHEDULER_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How long it is remembered that a run had its effect
    #[arg(long, env = "JOB_SCHEDULER_KEEP", default_value = "24h", value_parser = some_time)]
    keep: Duration,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let stop = signals::stop()?;
    let brokers = arguments.brokers;
    let options = ServiceOptions {
        names: brokers.name,
        concurrency: arguments.concurrency,
        keep: arguments.keep,
        ..ServiceOptions::new(arguments.service, brokers.redis, brokers.amqp)
    };
    let output = Arc::new(Mutex::new(Output::new()));
    let lines = Arc::clone(&output);
    let handler = move |run: Run| work(run, Arc::clone(&lines));
    let report = serve(options, handler, stop).await?;
    let whole = json!({
        "applied": report.applied,
        "repeated": report.repeated,
        "stale": report.stale,
        "failed": report.failed,
    });
    say(&output, &whole).await;
    Ok(())
}

/// `{"sleep": "200ms"}` takes so long, `{"fail": N}` fails its first N attempts, `{"fail": "why"}` all of them,
/// `{"crash": true}` ends the process. In a workflow these stand in the payload's `payload`.
async fn work(run: Run, output: Arc<Mutex<Output>>) -> Result<Value, String> {
    let mut line = json!({
        "job": run.job,
        "scheduled_for": time::text(run.scheduled_for),
        "token": run.token,
        "attempt": run.attempt,
        "what": "began",
    });
    say(&output, &line).await;
    let outcome = wished(&run).await;
    line["what"] = json!(if outcome.is_ok() { "worked" } else { "failed" });
    say(&output, &line).await;
    outcome
}

async fn wished(run: &Run) -> Result<Value, String> {
    let wish = if run.payload["payload"].is_object() {
        &run.payload["payload"]
    } else {
        &run.payload
    };
    if let Some(time) = wish["sleep"].as_str() {
        let time = humantime::parse_duration(time).map_err(|error| error.to_string())?;
        tokio::time::sleep(time).await;
    }
    if wish["crash"] == true {
        std::process::abort();
    }
    match &wish["fail"] {
        Value::String(why) => Err(why.clone()),
        Value::Number(attempts) if attempts.as_u64() >= Some(run.attempt.into()) => {
            Err(format!("attempt {} was to fail", run.attempt))
        }
        _ => Ok(json!({"payload": run.payload})),
    }
}

/// Writes a line. Whoever started us may have closed our output; that is no reason not to work.
async fn say(output: &Mutex<Output>, line: &Value) {
    let _ = output.lock().await.json(line).await;
}
