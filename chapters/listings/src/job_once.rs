//! A run that comes three times.

use anyhow::Result;
use redis::Script;

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let sent = format!("{stream}:sent");
    // ANCHOR: once
    let apply = Script::new(
        "local before = redis.call('GET', KEYS[1])
         if before then return {'before', before} end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', 86400000)
         redis.call('RPUSH', KEYS[2], ARGV[1])
         return {'now', ARGV[1]}",
    );
    // The id of a run is the job and the time: whoever publishes it again
    // cannot help but use the same.
    for (run, result) in
        [("report@60", "mail-1"), ("report@60", "mail-2"), ("report@120", "mail-3")]
    {
        let mut call = apply.key(format!("{stream}:done:{run}"));
        let (when, what): (String, String) =
            call.key(&sent).arg(result).invoke_async(c).await?;
        println!("{run}: {what}, {when}");
    }
    let all: Vec<String> = command(c, format!("LRANGE {sent} 0 -1")).await?;
    println!("sent: {}", all.join(", "));
    // ANCHOR_END: once
    for run in ["report@60", "report@120"] {
        tell(c, format!("DEL {stream}:done:{run} {sent}")).await?;
    }
    Ok(())
}
