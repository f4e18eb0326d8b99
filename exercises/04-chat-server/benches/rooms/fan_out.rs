//! From one client's message until the last other member has it.

use std::net::SocketAddr;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use futures::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::{bare, client};

/// Characters of a message.
const LENGTH: usize = 200;

pub fn measure(criterion: &mut Criterion, runtime: &Runtime) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("fan-out");
    group.sampling_mode(SamplingMode::Flat);
    for members in [10, 100, 1_000] {
        group.throughput(Throughput::Elements(members as u64));
        for server in ["chat-server", "axum"] {
            let (speaker, listeners, copies) = runtime.block_on(room(server, members))?;
            let countdown = client::listen(listeners);
            // The bare server sends it its own messages too, and would stop when nobody reads them.
            let (speaker, own) = speaker.split();
            client::read(own, || {});
            let speaker = Mutex::new(speaker);
            let message = client::message(LENGTH);
            group.bench_function(BenchmarkId::new(server, members), |bencher| {
                bencher.to_async(runtime).iter_custom(async |times| {
                    let mut speaker = speaker.lock().await;
                    let start = Instant::now();
                    for _ in 0..times {
                        countdown.set(copies);
                        client::say(&mut *speaker, &message)
                            .await
                            .expect("a connection");
                        countdown.done().await;
                    }
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
    Ok(())
}

/// A speaker, the listeners, and how many of them hear a message.
async fn room(
    server: &str,
    members: usize,
) -> anyhow::Result<(client::Socket, Vec<client::Socket>, usize)> {
    let chat = server == "chat-server";
    let address: SocketAddr = match chat {
        true => bare::chat().await?,
        false => bare::axum_room().await?,
    };
    let mut sockets = Vec::new();
    for member in 0..=members {
        sockets.push(match chat {
            true => client::join(address, &format!("m{member}")).await?,
            false => client::connect(address, "/ws").await?,
        });
        // What the joins caused is read by the listeners, which do not count it.
    }
    let speaker = sockets.pop().ok_or_else(|| anyhow::anyhow!("nobody"))?;
    Ok((speaker, sockets, members))
}
