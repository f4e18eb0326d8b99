//! Runs every listing against a real Redis and a real RabbitMQ, and compares what it prints with what the book shows.
//!
//! An id such as `1732406400000-0` differs from run to run, so ids are compared as `ID`. The lines
//! with `ANCHOR` in `output/*.txt` only cut the text for the pages.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use lab::brokers::{Keeper, Wanted, keep_if_asked};

fn main() -> ExitCode {
    if let Some(kept) = keep_if_asked() {
        return kept;
    }
    // cargo passes a filter on as the first argument that is no option.
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    match run(filter.as_deref().unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(filter: &str) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting Tokio")?;
    let keeper = runtime.block_on(Keeper::start(Wanted {
        redis: true,
        amqp: true,
        browser: false,
    }))?;
    let endpoints = keeper.endpoints();
    let redis =
        endpoints.redis.context("the lab promised a Redis and gave none")?;
    let amqp =
        endpoints.amqp.context("the lab promised a RabbitMQ and gave none")?;
    let mut failed = Vec::new();
    for name in listings::NAMES.iter().filter(|name| name.contains(filter)) {
        match compare(name, &redis, &amqp) {
            Ok(()) => println!("{name} ... ok"),
            Err(error) => {
                println!("{name} ... FAILED");
                failed.push(format!("{name}: {error:#}"));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

fn compare(name: &str, redis: &str, amqp: &str) -> Result<()> {
    let file = format!("{}/output/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let shown = std::fs::read_to_string(&file)
        .with_context(|| format!("reading {file}"))?;
    let shown: Vec<String> =
        shown.lines().filter(|line| !line.contains("ANCHOR")).map(masked).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_listings"))
        .arg(name)
        .env("REDIS_URL", redis)
        .env("AMQP_URL", amqp)
        .output()
        .context("starting the listing")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {errors}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let printed: Vec<String> = text.lines().map(masked).collect();
    ensure!(
        printed == shown,
        "it prints\n{}\nand {file} shows\n{}",
        printed.join("\n"),
        shown.join("\n")
    );
    Ok(())
}

/// The line with every stream id replaced by `ID`: two numbers with a hyphen, the first of 13 digits.
fn masked(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = |from: usize| {
            rest[from..].bytes().take_while(u8::is_ascii_digit).count()
        };
        let first = digits(start);
        let hyphen = start + first;
        let second =
            if rest[hyphen..].starts_with('-') { digits(hyphen + 1) } else { 0 };
        text.push_str(&rest[..start]);
        let end = if first == 13 && second > 0 {
            text.push_str("ID");
            hyphen + 1 + second
        } else {
            text.push_str(&rest[start..hyphen]);
            hyphen
        };
        rest = &rest[end..];
    }
    text + rest
}
