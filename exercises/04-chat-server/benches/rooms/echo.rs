//! Round trips of one client.

use std::net::SocketAddr;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use futures::StreamExt as _;
use tokio::runtime::Runtime;

use crate::{bare, client};

pub fn measure(criterion: &mut Criterion, runtime: &Runtime) -> anyhow::Result<()> {
    let servers: [(&str, SocketAddr); 3] = [
        ("chat-server", runtime.block_on(bare::chat())?),
        ("axum", runtime.block_on(bare::axum_echo())?),
        (
            "tokio-tungstenite",
            runtime.block_on(bare::tungstenite_echo())?,
        ),
    ];
    let mut group = criterion.benchmark_group("echo");
    group.throughput(Throughput::Elements(1));
    for length in [64, 16 * 1024] {
        let text = "x".repeat(length);
        for (server, address) in servers {
            group.bench_function(BenchmarkId::new(server, length), |bencher| {
                bencher.to_async(runtime).iter_custom(async |times| {
                    let mut socket = client::connect(address, "/echo").await.expect("a socket");
                    let start = Instant::now();
                    for _ in 0..times {
                        client::say(&mut socket, &text).await.expect("a connection");
                        let back = socket.next().await.expect("an echo").expect("a message");
                        assert_eq!(back.len(), length);
                    }
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
    Ok(())
}
