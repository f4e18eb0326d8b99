//! What one client that does not read does to a thousand that do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{bare, client};

const MEMBERS: usize = 1_000;
const MESSAGES: usize = 200;

/// Characters of a message: enough of them that the buffers between us and a stalled client fill up.
const LENGTH: usize = 16 * 1024;

pub async fn measure() -> anyhow::Result<()> {
    println!("stalled: {MESSAGES} messages of 16 KiB to {MEMBERS} members, until each has it");
    println!("  {:<22} {:>9} {:>9} {:>9}", "", "median", "p99", "longest");
    for stalled in [false, true] {
        let mut delays = delays(stalled).await?;
        delays.sort_unstable();
        let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
        let name = match stalled {
            false => "all read",
            true => "one of them does not",
        };
        let shown = [at(0.5), at(0.99), at(1.0)].map(|delay| delay.as_secs_f64() * 1_000.0);
        println!(
            "  {name:<22} {:>6.1} ms {:>6.1} ms {:>6.1} ms",
            shown[0], shown[1], shown[2]
        );
    }
    Ok(())
}

async fn delays(stalled: bool) -> anyhow::Result<Vec<Duration>> {
    let address = bare::chat().await?;
    // It has joined and reads no more.
    let silent = match stalled {
        true => Some(client::join(address, "stalled").await?),
        false => None,
    };
    let readers = MEMBERS - usize::from(stalled);
    let said = Arc::new(Mutex::new(Instant::now()));
    let delays = Arc::new(Mutex::new(Vec::with_capacity(readers * MESSAGES)));
    let countdown = Arc::new(client::Countdown::default());
    for n in 0..readers {
        let socket = client::join(address, &format!("m{n}")).await?;
        let (said, delays) = (Arc::clone(&said), Arc::clone(&delays));
        let countdown = Arc::clone(&countdown);
        client::read(socket, move || {
            let delay = said.lock().expect("no panic").elapsed();
            delays.lock().expect("no panic").push(delay);
            countdown.one_less();
        });
    }
    let mut speaker = client::join(address, "speaker").await?;
    let message = client::message(LENGTH);
    for _ in 0..MESSAGES {
        countdown.set(readers);
        *said.lock().expect("no panic") = Instant::now();
        client::say(&mut speaker, &message).await?;
        countdown.done().await;
    }
    drop(silent);
    let delays = std::mem::take(&mut *delays.lock().expect("no panic"));
    Ok(delays)
}
