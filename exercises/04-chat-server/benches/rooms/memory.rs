//! What a client costs in memory: the service as a process of its own, before and after a thousand.

use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::client;

const CLIENTS: usize = 1_000;

pub async fn measure() -> anyhow::Result<()> {
    let mut service = Command::new(env!("CARGO_BIN_EXE_chat-server"))
        .args(["--listen", "127.0.0.1:0", "--queue", "2048"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = service.stdout.take().context("the service's output")?;
    let first = BufReader::new(output).lines().next_line().await?;
    let first: serde_json::Value = serde_json::from_str(&first.context("a first line")?)?;
    let address = first["listening"].as_str().context("an address")?.parse()?;
    let process = service.id().context("a process")?;

    let before = resident(process).await?;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(client::connect(address, &format!("/ws?name=m{n}")).await?);
    }
    let connected = resident(process).await?;
    // Each in a room with nine others, so that no queue fills with announcements.
    for (n, socket) in clients.iter_mut().enumerate() {
        let join = format!(r#"{{"type":"join","room":"r{}"}}"#, n / 10);
        client::say(socket, &join).await?;
    }
    let mut last = client::connect(address, "/ws?name=last").await?;
    client::say(&mut last, r#"{"type":"join","room":"last"}"#).await?;
    futures::StreamExt::next(&mut last).await;
    let joined = resident(process).await?;

    println!("memory: {CLIENTS} clients, resident size of the service");
    println!("  alone               {:>8.1} MiB", before as f64 / 1024.0);
    for (what, size) in [("for each connected", connected), ("and in a room", joined)] {
        let each = size.saturating_sub(before) as f64 / CLIENTS as f64;
        println!("  {what:<19} {each:>8.1} KiB");
    }
    Ok(())
}

/// The resident size of a process in KiB.
async fn resident(process: u32) -> anyhow::Result<u64> {
    let process = process.to_string();
    let shown = Command::new("ps")
        .args(["-o", "rss=", "-p", &process])
        .output()
        .await?;
    Ok(String::from_utf8(shown.stdout)?.trim().parse()?)
}
