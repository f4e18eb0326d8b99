//! An effect, the note that it happened, and the crash between them.

use redis::{RedisResult, Script};

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let balance = format!("{stream}:balance");
    let note = format!("{stream}:done:A-1");

    // ANCHOR: effect_first
    for delivery in 1..=2 {
        let done: bool = command(c, format!("EXISTS {note}")).await?;
        if !done {
            tell(c, format!("INCRBY {balance} 12")).await?;
            if delivery == 1 {
                continue; // The worker dies here, before it has taken the note.
            }
            tell(c, format!("SET {note} 1 EX 3600")).await?;
        }
    }
    println!(
        "effect first: balance {}",
        command::<i64>(c, format!("GET {balance}")).await?
    );
    // ANCHOR_END: effect_first

    // ANCHOR: note_first
    tell(c, format!("DEL {balance} {note}")).await?;
    for delivery in 1..=2 {
        let first: Option<String> =
            command(c, format!("SET {note} 1 NX EX 3600")).await?;
        if first.is_some() {
            if delivery == 1 {
                continue; // The worker dies here, before the effect.
            }
            tell(c, format!("INCRBY {balance} 12")).await?;
        }
    }
    let charged: Option<i64> = command(c, format!("GET {balance}")).await?;
    println!("note first: balance {}", charged.unwrap_or(0));
    // ANCHOR_END: note_first

    // ANCHOR: blind
    tell(c, format!("DEL {balance} {note}")).await?;
    for _delivery in 1..=2 {
        redis::pipe()
            .atomic()
            .cmd("SET")
            .arg(&[&note, "1", "NX", "EX", "3600"])
            .cmd("INCRBY")
            .arg(&[&balance, "12"])
            .exec_async(c)
            .await?;
    }
    println!(
        "MULTI: balance {}",
        command::<i64>(c, format!("GET {balance}")).await?
    );
    // ANCHOR_END: blind

    // ANCHOR: halfway
    tell(c, format!("DEL {balance} {note}")).await?;
    let script = Script::new(
        r"
        redis.call('SET', KEYS[1], '1')
        redis.call('INCRBY', KEYS[2], 'twelve')
        ",
    );
    let result: RedisResult<()> =
        script.key(&note).key(&balance).invoke_async(c).await;
    let noted: bool = command(c, format!("EXISTS {note}")).await?;
    println!("the script failed: {}; the note is there: {noted}", result.is_err());
    // ANCHOR_END: halfway
    Ok(())
}
