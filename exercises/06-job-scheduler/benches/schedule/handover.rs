//! How long nobody leads: after a leader was asked to stop, and after one has died.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use job_scheduler::{CancellationToken, Lease, Names, NodeOptions, run};
use tokio::runtime::Runtime;

const LEASE: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_millis(100);

pub fn measure(
    criterion: &mut Criterion,
    runtime: &Runtime,
    amqp: &str,
    redis: &str,
    names: &Names,
) {
    let mut group =
        criterion.benchmark_group("another node leads, with a lease of 1 s and a check of 100 ms");
    for dies in [false, true] {
        let what = if dies { "a crash" } else { "a stop" };
        group.bench_function(BenchmarkId::new("after", what), |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    taken += handover(amqp, redis, names, dies).await;
                }
                taken
            });
        });
    }
    group.finish();
}

async fn handover(amqp: &str, redis: &str, names: &Names, dies: bool) -> Duration {
    let watch = Lease::connect(redis, names, "watch", LEASE);
    let watch = watch.await.expect("a lease to watch");
    let node = |id: &str| {
        let stop = CancellationToken::new();
        let options = NodeOptions {
            names: names.clone(),
            lease: LEASE,
            check: CHECK,
            ..NodeOptions::new(id, redis, amqp)
        };
        (stop.clone(), tokio::spawn(run(options, stop)))
    };
    let (stop_first, first) = node("first");
    until_led_by(&watch, "first").await;
    let (stop_second, second) = node("second");
    // It stands by once it has connected.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    if dies {
        first.abort();
    } else {
        stop_first.cancel();
    }
    until_led_by(&watch, "second").await;
    let taken = began.elapsed();
    stop_second.cancel();
    let _ = (first.await, second.await);
    taken
}

async fn until_led_by(watch: &Lease, node: &str) {
    loop {
        let holder = watch.holder().await.expect("an answer");
        if holder.is_some_and(|term| term.node == node) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
