//! Appending to the log, one by one and a thousand at once, beside the same commands of the client.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use event_bus::{Event, Log};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use crate::publish::event;

const STREAM: &str = "bench:events";
/// Events of one measurement.
const EVENTS: usize = 1_000;

pub fn measure(criterion: &mut Criterion, runtime: &Runtime, redis: &str) -> anyhow::Result<()> {
    let log = runtime.block_on(Log::connect(redis, STREAM))?;
    let client = redis::Client::open(redis)?;
    let raw = runtime.block_on(client.get_multiplexed_async_connection())?;
    let events = vec![event(); EVENTS];

    let mut group = criterion.benchmark_group("append 1,000 events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function(BenchmarkId::new("log", "one by one"), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let start = Instant::now();
                for event in &events {
                    log.append(event).await.expect("an id");
                }
                taken += start.elapsed();
                forget(&raw).await;
            }
            taken
        });
    });
    group.bench_function(BenchmarkId::new("XADD", "one by one"), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            let mut connection = raw.clone();
            for _ in 0..times {
                let start = Instant::now();
                for event in &events {
                    let mut command = redis::cmd("XADD");
                    command.arg(STREAM).arg("*").arg(&fields(event));
                    let _: String = command.query_async(&mut connection).await.expect("an id");
                }
                taken += start.elapsed();
                forget(&raw).await;
            }
            taken
        });
    });
    group.bench_function(BenchmarkId::new("log", "all at once"), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let start = Instant::now();
                log.append_all(&events).await.expect("ids");
                taken += start.elapsed();
                forget(&raw).await;
            }
            taken
        });
    });
    group.bench_function(BenchmarkId::new("XADD", "all at once"), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            let mut connection = raw.clone();
            for _ in 0..times {
                let start = Instant::now();
                let mut pipeline = redis::pipe();
                for event in &events {
                    pipeline
                        .cmd("XADD")
                        .arg(STREAM)
                        .arg("*")
                        .arg(&fields(event));
                }
                let _: Vec<String> = pipeline.query_async(&mut connection).await.expect("ids");
                taken += start.elapsed();
                forget(&raw).await;
            }
            taken
        });
    });
    group.finish();
    Ok(())
}

fn fields(event: &Event) -> [(&'static str, String); 3] {
    [
        ("name", event.name.clone()),
        ("data", event.data.to_string()),
        ("at", event.at.clone()),
    ]
}

async fn forget(connection: &MultiplexedConnection) {
    let mut connection = connection.clone();
    let mut command = redis::cmd("DEL");
    let deleted = command.arg(STREAM).query_async::<u64>(&mut connection);
    deleted.await.expect("a count");
}
