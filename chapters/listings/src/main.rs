//! `cargo run -p listings -- NAME` runs one listing of the book.

use std::process::ExitCode;

use anyhow::Context;
use lab::brokers::{Keeper, Wanted, keep_if_asked};

fn main() -> anyhow::Result<ExitCode> {
    // The lab starts a Redis by running this program once more.
    if let Some(kept) = keep_if_asked() {
        return Ok(kept);
    }
    let names = listings::NAMES.join(", ");
    let name = std::env::args()
        .nth(1)
        .with_context(|| format!("which listing? one of {names}"))?;
    tokio::runtime::Runtime::new()
        .context("starting Tokio")?
        .block_on(run(&name))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(name: &str) -> anyhow::Result<()> {
    let keeper = Keeper::start(Wanted {
        redis: true,
        amqp: name.starts_with("mq_"),
        ..Wanted::default()
    })
    .await?;
    let endpoints = keeper.endpoints();
    let redis =
        endpoints.redis.context("the lab promised a Redis and gave none")?;
    let amqp = endpoints.amqp.unwrap_or_default();
    // A stream of its own, so that a Redis with other things in it stays as it is.
    let stream = format!("listing:{name}:{}", std::process::id());
    let result = listings::run(name, &redis, &amqp, &stream)
        .await
        .with_context(|| format!("running {name} against {redis}"));
    listings::orders::clean_up(&redis, &stream).await.ok();
    result
}
