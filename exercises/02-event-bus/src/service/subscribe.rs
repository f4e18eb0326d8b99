//! `event-bus subscribe`: follows the log, and prints each event that was handled.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use event_bus::{BoxError, Follow, Pattern, Start, Stored, follow};
use given::output::Output;
use given::{exec, signals};
use tokio::sync::{Mutex, Notify};

use super::{Redis, at_least_one, ending};

#[derive(Args)]
pub struct SubscribeArgs {
    #[command(flatten)]
    redis: Redis,
    /// The stream that is the log
    #[arg(long, env = "EVENT_BUS_LOG")]
    log: String,
    /// The consumer group: no two running processes may have the same
    #[arg(long, env = "EVENT_BUS_GROUP")]
    group: String,
    /// Which events: a name, in which a word may be * (one word) or # (any number of words)
    #[arg(value_parser = pattern)]
    pattern: String,
    /// Begin here, whatever the group has seen: an entry's id, or a time such as 2026-11-25T08:00:00Z
    #[arg(long, env = "EVENT_BUS_FROM", value_name = "ID|TIME")]
    from: Option<Start>,
    /// How often an event is tried before it is set aside
    #[arg(long, env = "EVENT_BUS_ATTEMPTS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// The pause after an event's first failure; it doubles with each further one, up to 10 s
    #[arg(long, env = "EVENT_BUS_RETRY_DELAY", default_value = "200ms", value_parser = humantime::parse_duration)]
    retry_delay: Duration,
    /// How many entries one read brings at most
    #[arg(long, env = "EVENT_BUS_BATCH", default_value = "100", value_parser = at_least_one)]
    batch: usize,
    /// Handle each event with `sh -c CMD`: its JSON line on standard input, not 0 is a failure
    #[arg(long, env = "EVENT_BUS_EXEC", value_name = "CMD")]
    exec: Option<String>,
}

fn pattern(text: &str) -> Result<String, String> {
    match Pattern::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub async fn run(args: SubscribeArgs) -> Result<ExitCode> {
    let options = Follow {
        from: args.from,
        attempts: args.attempts,
        retry_delay: args.retry_delay,
        batch: args.batch,
        ..Follow::new(args.redis.redis, args.log, args.group, args.pattern)
    };
    let handling = Arc::new(Handling {
        exec: args.exec,
        output: Mutex::new(Output::new()),
        output_closed: Notify::new(),
    });
    let stop = signals::stop()?;
    let handler = {
        let handling = Arc::clone(&handling);
        move |stored| {
            let handling = Arc::clone(&handling);
            async move { handling.handle(&stored).await }
        }
    };
    tokio::select! {
        followed = follow(options, handler, stop) => {
            let set_aside = followed?.set_aside;
            if set_aside > 0 {
                ending::complain(&format!("{set_aside} events were set aside"));
            }
        }
        // Whoever read our output has seen enough.
        () = handling.output_closed.notified() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What is done with each event.
struct Handling {
    exec: Option<String>,
    output: Mutex<Output>,
    output_closed: Notify,
}

impl Handling {
    async fn handle(&self, stored: &Stored) -> Result<(), BoxError> {
        if let Some(command) = &self.exec {
            let line = serde_json::to_string(stored)?;
            exec::run(command, &line).await?;
        }
        if let Err(error) = self.output.lock().await.json(stored).await {
            // What could not be printed was not handled: the process ends with it unacknowledged.
            tracing::debug!(%error, "standard output is closed");
            self.output_closed.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
