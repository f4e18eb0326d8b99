//! Orders from standard input, and what became of them.

use std::collections::HashMap;
use std::io::{self, BufRead as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use event_bus::{Order, Saga, place};
use given::output::Output;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::endings::{Ending, Endings};
use crate::service::ending;

/// How many orders may be read ahead.
const AHEAD: usize = 100;
/// The pause before an order is placed again, or the log is asked again, after Redis was away.
const PAUSE: Duration = Duration::from_millis(200);

/// Places every order on standard input, prints each one's ending, and is done when all have ended.
pub async fn place_and_print(saga: &Saga) -> Result<ExitCode> {
    let mut lines = read();
    let mut endings = Endings::open(saga).await?;
    let mut output = Output::new();
    let mut bad_lines = false;
    let mut input_ended = false;
    // How often each order was asked for, and is to be told of.
    let mut open: HashMap<String, usize> = HashMap::new();
    // Orders that ended, by id: an order that is placed again has ended already, perhaps.
    let mut ended: HashMap<String, Ending> = HashMap::new();
    while !(input_ended && open.is_empty()) {
        tokio::select! {
            line = lines.recv(), if !input_ended => match line {
                None => input_ended = true,
                Some(line) => match line.context("reading standard input")? {
                    (number, Err(wrong)) => {
                        ending::complain(&format!("line {number}: {wrong}"));
                        bad_lines = true;
                    }
                    (_, Ok(order)) => {
                        place_surely(saga, &order).await?;
                        match ended.get(&order.id) {
                            Some(ending) => output.json(ending).await?,
                            None => *open.entry(order.id).or_default() += 1,
                        }
                    }
                }
            },
            news = endings.next() => for ending in news? {
                for _ in 0..open.remove(&ending.order).unwrap_or_default() {
                    output.json(&ending).await?;
                }
                ended.insert(ending.order.clone(), ending);
            },
        }
    }
    let code = if bad_lines { ending::BAD_INPUT } else { 0 };
    Ok(ExitCode::from(code))
}

/// An order may be placed again, so whatever happened to the attempt before does not matter.
async fn place_surely(saga: &Saga, order: &Order) -> Result<()> {
    loop {
        match place(saga, order).await {
            Err(error) if error.is_connection() => sleep(PAUSE).await,
            placed => return Ok(placed?),
        }
    }
}

type Line = (u64, Result<Order, String>);

/// Reads standard input on a thread of its own. The thread cannot be interrupted while it waits for
/// input, and so must not be one that the runtime waits for.
fn read() -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for (number, line) in (1..).zip(io::stdin().lock().lines()) {
            let line = match line {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Ok((number, parse(&text))),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn parse(text: &str) -> Result<Order, String> {
    serde_json::from_str(text).map_err(|error| format!("not an order: {error}"))
}
