//! Working tasks that wait, with a handler that does nothing: from the first to the last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use serde_json::json;
use task_queue::{CancellationToken, Context, Handlers, work};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::TASKS;
use crate::bare::{Bare, no_arguments};

pub fn measure(criterion: &mut Criterion, runtime: &Runtime, bare: &Bare) {
    let mut group = criterion.benchmark_group("work 1,000 tasks");
    group.throughput(Throughput::Elements(TASKS as u64));
    for prefetch in [1, 10, 100] {
        macro_rules! row {
            ($who:literal, $work:expr) => {
                group.bench_function(BenchmarkId::new($who, prefetch), |bencher| {
                    bencher.to_async(runtime).iter_custom(async |times| {
                        let mut taken = Duration::ZERO;
                        for _ in 0..times {
                            bare.fill().await;
                            taken += $work.await;
                        }
                        taken
                    });
                });
            };
        }
        row!("task-queue", worked(bare, prefetch));
        row!("lapin and Redis", consumed(bare, prefetch, true));
        row!("lapin", consumed(bare, prefetch, false));
    }
    group.finish();
}

/// Connecting is not measured.
#[derive(Default)]
struct Clock {
    began: OnceLock<Instant>,
    count: AtomicUsize,
    all: Notify,
}

impl Clock {
    fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    fn count(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == TASKS {
            self.all.notify_one();
        }
    }

    async fn taken(&self) -> Duration {
        self.all.notified().await;
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }
}

async fn worked(bare: &Bare, concurrency: u16) -> Duration {
    let clock = Arc::new(Clock::default());
    let seen = Arc::clone(&clock);
    let handlers = Handlers::new().on("nothing", move |_: Context| {
        seen.begin();
        seen.count();
        async { Ok(json!(null)) }
    });
    let stop = CancellationToken::new();
    let working = tokio::spawn(work(bare.work_options(concurrency), handlers, stop.clone()));
    let taken = clock.taken().await;
    stop.cancel();
    working.await.expect("no panic").expect("worked");
    taken
}

/// With the two steps in Redis, or without.
async fn consumed(bare: &Bare, prefetch: u16, known: bool) -> Duration {
    let clock = Clock::default();
    let channel = bare.connection.create_channel().await.expect("a channel");
    let limited = channel.basic_qos(prefetch, BasicQosOptions::default());
    limited.await.expect("a prefetch");
    let options = BasicConsumeOptions::default();
    let queue = bare.names.queue();
    let deliveries = channel.basic_consume(queue.into(), "".into(), options, no_arguments());
    let deliveries = deliveries.await.expect("a consumer");
    let limit = usize::from(prefetch);
    let working = deliveries.for_each_concurrent(limit, async |delivery| {
        clock.begin();
        let delivery = delivery.expect("a delivery");
        if known {
            let task = task_queue::Task::read(&delivery.data).expect("a task");
            bare.begin(&task.id).await;
            bare.end(&task.id).await;
        }
        let acked = delivery.acker.ack(BasicAckOptions::default());
        acked.await.expect("acknowledged");
        clock.count();
    });
    tokio::select! {
        taken = clock.taken() => taken,
        () = working => Duration::ZERO,
    }
}
