//! A reply that never comes says nothing about what happened.

use std::time::Instant;

use lab::faults::{Action, Proxy, Trigger};
use redis::RedisResult;

use crate::orders::{command, connect};

pub async fn run(redis: &str, stream: &str) -> anyhow::Result<()> {
    // ANCHOR: reply
    let proxy = Proxy::start(redis, Instant::now())?;
    // Redis carries the first XADD out, and its reply is lost with the connection.
    let fault = proxy.arm(Trigger::reply(|e| e.is("XADD")), Action::CutAfter);

    let line = format!("XADD {stream} * order A-1");
    let mut connection = connect(&proxy.url()).await?;
    let first: RedisResult<String> = command(&mut connection, &line).await;
    println!("first try failed: {}; cut: {}", first.is_err(), fault.has_fired());

    // A careful producer tries again.
    let mut connection = connect(&proxy.url()).await?;
    let second: RedisResult<String> = command(&mut connection, &line).await;
    println!("second try failed: {}", second.is_err());

    let mut direct = connect(redis).await?;
    let length: u64 = command(&mut direct, format!("XLEN {stream}")).await?;
    println!("A-1 is in the stream {length} times");
    // ANCHOR_END: reply
    Ok(())
}
