//! `stream-queue send`: lines in, ids out.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use given::output::Output;
use stream_queue::{Message, Producer, SendOptions};

use super::lines::{self, Line};
use super::{Queue, ending};

/// How many messages one batch takes at most.
const BATCH: usize = 1_000;

#[derive(Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub queue: Queue,
    /// Wait while so many entries are not acknowledged yet by the slowest group
    #[arg(long, env = "STREAM_QUEUE_MAX_BACKLOG", value_parser = clap::value_parser!(u64).range(1..))]
    max_backlog: Option<u64>,
}

pub async fn run(args: SendArgs) -> Result<ExitCode> {
    let mut producer = Producer::connect(SendOptions {
        redis: args.queue.redis,
        stream: args.queue.stream,
        max_backlog: args.max_backlog,
    })
    .await?;
    let mut output = Output::new();
    let mut input = lines::read();
    let mut bad_lines = false;
    // A batch is what has come while the one before was on its way: a line alone goes out alone, and
    // a file in large batches.
    while let Some(first) = input.recv().await {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(line) = next {
            let Line { number, message } = line.context("reading standard input")?;
            match message {
                Ok(message) => batch.push(number, message),
                Err(wrong) => {
                    ending::complain(&format!("line {number}: {wrong}"));
                    bad_lines = true;
                }
            }
            next = if batch.messages.len() < BATCH {
                input.try_recv().ok()
            } else {
                None
            };
        }
        batch.send(&mut producer, &mut output).await?;
    }
    Ok(ExitCode::from(if bad_lines {
        ending::BAD_INPUT
    } else {
        0
    }))
}

#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    first: u64,
    last: u64,
}

impl Batch {
    fn push(&mut self, line: u64, message: Message) {
        if self.messages.is_empty() {
            self.first = line;
        }
        self.last = line;
        self.messages.push(message);
    }

    async fn send(&self, producer: &mut Producer, output: &mut Output) -> Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let ids = producer.send_batch(&self.messages).await.with_context(|| {
            let (first, last) = (self.first, self.last);
            format!("sending lines {first} to {last}: what is in the stream of them is not known, and nothing after them was sent")
        })?;
        output.text(&(ids.join("\n") + "\n")).await?;
        Ok(())
    }
}
