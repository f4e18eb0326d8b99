//! How fast the queue is, beside the plain client doing the same work on the same Redis.
//!
//! `cargo xtask bench stream-queue`, or with a Redis of your own
//! `REDIS_URL=redis://… cargo bench -p stream-queue`. It writes streams named `bench:…`, and deletes
//! them. Compare the rows of one run with each other, and not with another machine's.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use stream_queue::{
    CancellationToken, Consumer, Message, Producer, SendOptions, WorkOptions, connect, work,
};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Messages of a batch.
const BATCH: usize = 1_000;
/// Messages sent one by one.
const SINGLES: usize = 100;
/// Entries consumed in one go.
const BACKLOG: usize = 20_000;
/// Entries in flight, and of one read of the plain client.
const CONCURRENCY: usize = 100;
const STREAM: &str = "bench:orders";
const GROUP: &str = "billing";

fn main() -> ExitCode {
    lab::brokers::with_redis(run)
}

fn run(runtime: &Runtime, url: &str) -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    sending(&mut criterion, runtime, url);
    consuming(&mut criterion, runtime, url);
    recovering(&mut criterion, runtime, url);
    criterion.final_summary();
    Ok(())
}

fn sending(criterion: &mut Criterion, runtime: &Runtime, url: &str) {
    let messages: Vec<Message> = (0..BATCH).map(order).collect();
    let mut group = criterion.benchmark_group("send");
    for (how, count, batched) in [("one by one", SINGLES, false), ("a batch", BATCH, true)] {
        let messages = &messages[..count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("queue", how), |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let mut producer = Producer::connect(SendOptions {
                    redis: url.to_owned(),
                    stream: STREAM.to_owned(),
                    max_backlog: None,
                })
                .await
                .expect("a producer");
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let start = Instant::now();
                    if batched {
                        producer.send_batch(messages).await.expect("ids");
                    } else {
                        for message in messages {
                            producer.send(message).await.expect("an id");
                        }
                    }
                    spent += start.elapsed();
                    forget(url).await;
                }
                spent
            });
        });
        group.bench_function(BenchmarkId::new("client", how), |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let mut connection = connect(url).await.expect("a connection");
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let start = Instant::now();
                    let part = if batched { messages.len() } else { 1 };
                    for part in messages.chunks(part) {
                        add(&mut connection, part).await;
                    }
                    spent += start.elapsed();
                    forget(url).await;
                }
                spent
            });
        });
    }
    group.finish();
}

fn consuming(criterion: &mut Criterion, runtime: &Runtime, url: &str) {
    let mut group = criterion.benchmark_group("consume and acknowledge");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(BACKLOG as u64));
    group.bench_function(BenchmarkId::new("queue", BACKLOG), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                fill(url, BACKLOG).await;
                spent += consume_with_queue(url).await;
            }
            spent
        });
    });
    group.bench_function(BenchmarkId::new("client", BACKLOG), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                fill(url, BACKLOG).await;
                spent += consume_with_client(url).await;
            }
            spent
        });
    });
    group.finish();
    runtime.block_on(forget(url));
}

/// From the start of a worker until it has acknowledged everything.
async fn consume_with_queue(url: &str) -> Duration {
    let options = WorkOptions {
        concurrency: CONCURRENCY,
        ..WorkOptions::new(url, STREAM, GROUP, "worker")
    };
    let left = Arc::new(AtomicUsize::new(BACKLOG));
    let done = Arc::new(Notify::new());
    let stop = CancellationToken::new();
    let handler = {
        let (left, done) = (Arc::clone(&left), Arc::clone(&done));
        move |_| {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                done.notify_one();
            }
            async { Ok(()) }
        }
    };
    let start = Instant::now();
    let worker = tokio::spawn(work(options, handler, stop.clone()));
    done.notified().await;
    let mut connection = connect(url).await.expect("a connection");
    while pending(&mut connection).await > 0 {}
    let spent = start.elapsed();
    stop.cancel();
    worker.await.expect("no panic").expect("a summary");
    spent
}

/// The shortest loop that does the same with the plain client, without surviving anything.
async fn consume_with_client(url: &str) -> Duration {
    let start = Instant::now();
    let mut connection = connect(url).await.expect("a connection");
    let mut done = 0;
    while done < BACKLOG {
        let reply: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
            .arg(&["GROUP", GROUP, "client", "COUNT"])
            .arg(CONCURRENCY)
            .arg(&["STREAMS", STREAM, ">"])
            .query_async(&mut connection)
            .await
            .expect("entries");
        let entries = reply.keys.into_iter().flat_map(|stream| stream.ids);
        let ids: Vec<String> = entries.map(|entry| entry.id).collect();
        done += ids.len();
        let _: u64 = redis::cmd("XACK")
            .arg(&[STREAM, GROUP])
            .arg(ids)
            .query_async(&mut connection)
            .await
            .expect("a count");
    }
    start.elapsed()
}

fn recovering(criterion: &mut Criterion, runtime: &Runtime, url: &str) {
    let mut group = criterion.benchmark_group("recover");
    for pending in [1_000, 10_000, 100_000] {
        let (abandoned, kept) = runtime.block_on(async {
            fill(url, pending).await;
            let mut connection = connect(url).await.expect("a connection");
            let _: redis::Value = redis::cmd("XREADGROUP")
                .arg(&["GROUP", GROUP, "dead", "COUNT"])
                .arg(pending)
                .arg(&["STREAMS", STREAM, ">"])
                .query_async(&mut connection)
                .await
                .expect("entries");
            let with_visibility = |visibility| WorkOptions {
                visibility,
                ..WorkOptions::new(url, STREAM, GROUP, "alive")
            };
            let abandoned = with_visibility(Duration::from_millis(1));
            let kept = with_visibility(Duration::from_secs(3_600));
            (
                Consumer::connect(&abandoned).await.expect("a consumer"),
                Consumer::connect(&kept).await.expect("a consumer"),
            )
        });
        let claim = BenchmarkId::new("claim 100 of abandoned", pending);
        group.bench_function(claim, |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let start = Instant::now();
                    let claimed = abandoned.claim_abandoned(CONCURRENCY).await;
                    spent += start.elapsed();
                    let claimed = claimed.expect("entries");
                    assert_eq!(claimed.len(), CONCURRENCY);
                    let ids = claimed.into_iter().map(|entry| entry.id).collect();
                    give_back(url, ids).await;
                }
                spent
            });
        });
        let find = BenchmarkId::new("find none abandoned in", pending);
        group.bench_function(find, |bencher| {
            bencher.to_async(runtime).iter(async || {
                let claimed = kept.claim_abandoned(CONCURRENCY).await.expect("entries");
                assert!(claimed.is_empty());
            });
        });
    }
    group.finish();
    runtime.block_on(forget(url));
}

fn order(n: usize) -> Message {
    let order = json!({"order_id": format!("A-{n}"), "user_id": 42, "amount": 12.5});
    order.as_object().cloned().unwrap_or_default()
}

/// `XADD`s in one pipeline, by the plain client. It makes its fields by itself, as any program would.
async fn add(connection: &mut MultiplexedConnection, messages: &[Message]) {
    let mut pipeline = redis::pipe();
    for message in messages {
        let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
        for (name, value) in message {
            match value.as_str() {
                Some(text) => command.arg(name).arg(text),
                None => command.arg(name).arg(value.to_string()),
            };
        }
    }
    let _: Vec<String> = pipeline.query_async(connection).await.expect("ids");
}

/// A new stream with so many entries, and its group.
async fn fill(url: &str, entries: usize) {
    forget(url).await;
    let mut connection = connect(url).await.expect("a connection");
    let messages: Vec<Message> = (0..entries).map(order).collect();
    for part in messages.chunks(BATCH) {
        add(&mut connection, part).await;
    }
    let _: () = redis::cmd("XGROUP")
        .arg(&["CREATE", STREAM, GROUP, "0"])
        .query_async(&mut connection)
        .await
        .expect("a group");
}

async fn forget(url: &str) {
    let mut connection = connect(url).await.expect("a connection");
    let _: u64 = redis::cmd("DEL")
        .arg(STREAM)
        .query_async(&mut connection)
        .await
        .expect("a count");
}

async fn pending(connection: &mut MultiplexedConnection) -> u64 {
    let (count, ..): (u64, redis::Value, redis::Value, redis::Value) = redis::cmd("XPENDING")
        .arg(&[STREAM, GROUP])
        .query_async(connection)
        .await
        .expect("a summary");
    count
}

async fn give_back(url: &str, ids: Vec<String>) {
    let mut connection = connect(url).await.expect("a connection");
    let _: redis::Value = redis::cmd("XCLAIM")
        .arg(&[STREAM, GROUP, "dead", "0"])
        .arg(ids)
        .arg(&["IDLE", "60000", "JUSTID"])
        .query_async(&mut connection)
        .await
        .expect("ids");
}
