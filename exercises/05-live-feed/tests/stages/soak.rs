//! Stage 6, continued: very many clients that come and go while very much is published.
//!
//! `WORKBOOK_SOAK=1 cargo test -p live-feed --test stages -- five_hundred` publishes 20,000 events
//! instead of a few hundred; that takes minutes.

use futures::future::try_join_all;
use lab::clients::sse::Stream;
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::feed::{Feed, Node, events, numbers, quiet};

pub fn checks() -> Vec<Check> {
    let mut checks =
        lab::checks![five_hundred_clients_that_come_and_go_get_every_event_once.limit_secs(60)];
    if soaking() {
        checks = checks
            .into_iter()
            .map(|check| check.limit_secs(1800))
            .collect();
    }
    checks
}

fn soaking() -> bool {
    std::env::var_os("WORKBOOK_SOAK").is_some()
}

/// An id as two numbers: ten million of them are to fit into the memory.
type Id = (u64, u64);

async fn five_hundred_clients_that_come_and_go_get_every_event_once(lab: Lab) -> Outcome {
    lab.promise("Five hundred clients that lose their connection at random, while others publish as fast as they can, end with every event once, in order.");
    lab::clients::http::open_many_files()?;
    let count = if soaking() { 20_000 } else { 300 };
    let options = Options {
        history: count + 10,
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    let first = feed.post("t", "the first").await?;
    let clients: Vec<_> = (0..500)
        .map(|client| {
            let seed = lab.seed().wrapping_add(client);
            tokio::spawn(come_and_go(
                (*feed).clone(),
                first.clone(),
                StdRng::seed_from_u64(seed),
            ))
        })
        .collect();
    let publishing = (0..2).map(|_| async {
        let mut publisher = feed.publisher().await?;
        let mut posted = Vec::new();
        for n in 0..count / 2 {
            let id = publisher.post("t", &n.to_string()).await?;
            posted.push(numbers(&id).unwrap_or_default());
        }
        Ok::<_, Failure>(posted)
    });
    let mut posted = try_join_all(publishing).await?.concat();
    posted.sort_unstable();
    let last = feed.post("t", "the end").await?;
    posted.push(numbers(&last).unwrap_or_default());
    let mut times = 0;
    for (client, task) in clients.into_iter().enumerate() {
        let (got, connections) = task.await??;
        times += connections;
        if got == posted {
            continue;
        }
        let at = got
            .iter()
            .zip(&posted)
            .position(|(one, other)| one != other);
        let at = at.unwrap_or_else(|| got.len().min(posted.len()));
        let code = match got.get(at) {
            Some(id) if got[..at].contains(id) => "LF02",
            _ => "LF01",
        };
        lab::fail!(
            code,
            "client {client} got {} events over {connections} connections where {} were published; at position {at} came {:?}, to come was {:?}",
            got.len(),
            posted.len(),
            got.get(at),
            posted.get(at)
        );
    }
    ensure!(
        times > 500,
        "no client lost its connection; nothing was shown"
    );
    feed.until_clients(0)
        .await
        .map_err(|failure| failure.code_if("LF11"))
}

/// Reads on over many connections, each of which it ends at some byte. How many there were.
async fn come_and_go(
    node: Node,
    first: String,
    mut rng: StdRng,
) -> Result<(Vec<Id>, usize), Failure> {
    let client = node.client().forget_bytes();
    let mut next = events("").header("last-event-id", first);
    let mut got = Vec::new();
    let mut connections = 0;
    loop {
        let mut stream = Stream::open(&client, &next).await?.forget_items();
        connections += 1;
        stream
            .connection()
            .stop_after(rng.random_range(300..20_000));
        // It ends at the byte, or because it was too slow and the node disconnected it.
        while let Ok(Some(event)) = stream.next().await {
            got.push(numbers(&event.last_id).unwrap_or_default());
            if event.data == "the end" {
                return Ok((got, connections));
            }
        }
        // What was read and not given out counts as seen, as far as the client goes.
        next = match rng.random_bool(0.5) {
            true => stream.cut(),
            false => stream.next_request(),
        };
    }
}
