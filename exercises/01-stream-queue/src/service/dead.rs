//! `stream-queue dead`: what was given up.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use given::output::Output;
use stream_queue::DeadLetters;

use super::{Queue, ending};

#[derive(Subcommand)]
pub enum Action {
    /// Print a JSON line for each dead letter, the oldest first
    List {
        #[command(flatten)]
        queue: Queue,
        /// Print no more than so many
        #[arg(long, default_value_t = 1_000_000)]
        max: usize,
    },
    /// Put dead letters back into the stream; print the new ids
    Retry(Chosen),
    /// Remove dead letters for good; print their ids
    Drop(Chosen),
}

#[derive(Args)]
pub struct Chosen {
    #[command(flatten)]
    queue: Queue,
    /// All that are there now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Ids, as `dead list` prints them
    #[arg(value_name = "ID", required_unless_present = "all", value_parser = entry_id)]
    ids: Vec<String>,
}

impl Action {
    /// Which queue it is about.
    pub fn queue(&self) -> &Queue {
        match self {
            Action::List { queue, .. } => queue,
            Action::Retry(chosen) | Action::Drop(chosen) => &chosen.queue,
        }
    }
}

pub async fn run(action: Action) -> Result<ExitCode> {
    let mut output = Output::new();
    match action {
        Action::List { queue, max } => {
            let mut letters = DeadLetters::connect(&queue.redis, &queue.stream).await?;
            for letter in letters.list(max).await? {
                output.json(&letter).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Retry(chosen) => {
            let (mut letters, ids) = chosen.open().await?;
            let mut missing = false;
            for id in ids {
                match letters.retry(&id).await? {
                    Some(new) => output.text(&format!("{new}\n")).await?,
                    None => missing |= not_there(&id),
                }
            }
            Ok(ending_of(missing && !chosen.all))
        }
        Action::Drop(chosen) => {
            let (mut letters, ids) = chosen.open().await?;
            let mut missing = false;
            for id in ids {
                if letters.drop(&id).await? {
                    output.text(&format!("{id}\n")).await?;
                } else {
                    missing |= not_there(&id);
                }
            }
            Ok(ending_of(missing && !chosen.all))
        }
    }
}

impl Chosen {
    async fn open(&self) -> Result<(DeadLetters, Vec<String>)> {
        let mut letters = DeadLetters::connect(&self.queue.redis, &self.queue.stream).await?;
        let ids = if self.all {
            let all = letters.list(usize::MAX).await?;
            all.into_iter().map(|letter| letter.id).collect()
        } else {
            self.ids.clone()
        };
        Ok((letters, ids))
    }
}

/// An id is `milliseconds-sequence`.
fn entry_id(text: &str) -> Result<String, String> {
    let parts = text.split_once('-').unwrap_or((text, "0"));
    match (parts.0.parse::<u64>(), parts.1.parse::<u64>()) {
        (Ok(_), Ok(_)) => Ok(text.to_owned()),
        _ => Err("an entry id looks like 1763917200000-0".into()),
    }
}

fn not_there(id: &str) -> bool {
    ending::complain(&format!("{id}: no such dead letter"));
    true
}

fn ending_of(missing: bool) -> ExitCode {
    ExitCode::from(if missing { ending::BAD_INPUT } else { 0 })
}
