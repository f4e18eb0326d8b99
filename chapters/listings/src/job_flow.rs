//! Two steps end at the same moment, on two nodes.

use anyhow::Result;
use redis::Script;
use serde_json::{Value, json};

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let flow = format!("{stream}:flow");
    // ANCHOR: lost
    let fresh = json!({"pay": "running", "pack": "running", "ship": "waiting"});
    tell(c, format!("HSET {flow} version 1 state {fresh}")).await?;
    let read = format!("HGET {flow} state");
    let ann: String = command(c, &read).await?;
    let bob: String = command(c, &read).await?;
    for (text, step) in [(ann, "pay"), (bob, "pack")] {
        let mut state: Value = serde_json::from_str(&text)?;
        state[step] = json!("done");
        tell(c, format!("HSET {flow} state {state}")).await?;
    }
    let state: String = command(c, &read).await?;
    println!("{state}");
    // ANCHOR_END: lost
    tell(c, format!("HSET {flow} version 1 state {fresh}")).await?;
    // ANCHOR: version
    let write = Script::new(
        "if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
         redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'state', ARGV[2])
         return 1",
    );
    let load = format!("HMGET {flow} version state");
    let mut seen: Vec<(u64, String)> = Vec::new();
    for _ in ["ann", "bob"] {
        seen.push(command(c, &load).await?);
    }
    for ((mut version, mut text), step) in seen.into_iter().zip(["pay", "pack"]) {
        loop {
            let mut state: Value = serde_json::from_str(&text)?;
            state[step] = json!("done");
            if state["pay"] == "done" && state["pack"] == "done" {
                state["ship"] = json!("running");
            }
            let mut call = write.key(&flow);
            call.arg(version).arg(state.to_string());
            if call.invoke_async(c).await? {
                println!("{step}: {state}");
                break;
            }
            println!("{step}: another was faster");
            (version, text) = command(c, &load).await?;
        }
    }
    // ANCHOR_END: version
    tell(c, format!("DEL {flow}")).await?;
    Ok(())
}
