//! An idempotency key, looked up and then written; and in one step.

use anyhow::Result;
use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::orders::{command, connect};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c: &mut MultiplexedConnection = &mut connection;
    let (loose, strict) = (format!("{stream}:loose"), format!("{stream}:strict"));
    // ANCHOR: two_steps
    // Two requests with the same key, at the same moment.
    let ann: Option<String> = command(c, format!("GET {loose}")).await?;
    let bob: Option<String> = command(c, format!("GET {loose}")).await?;
    for (who, known) in [("ann", ann), ("bob", bob)] {
        if known.is_none() {
            let _: String =
                command(c, format!("SET {loose} order-of-{who}")).await?;
            println!("{who}: order-of-{who} is printed");
        }
    }
    // ANCHOR_END: two_steps
    // ANCHOR: one_step
    let reserve = Script::new(
        "redis.call('SET', KEYS[1], ARGV[1], 'NX')
         return redis.call('GET', KEYS[1])",
    );
    for who in ["ann", "bob"] {
        let mut call = reserve.key(&strict);
        let order: String =
            call.arg(format!("order-of-{who}")).invoke_async(c).await?;
        println!("{who}: it is {order}");
    }
    // ANCHOR_END: one_step
    let _: u32 = command(c, format!("DEL {loose} {strict}")).await?;
    Ok(())
}
