//! Submitting, one task after the other and all at once.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use futures::future::join_all;
use task_queue::Submitter;
use tokio::runtime::Runtime;

use crate::TASKS;
use crate::bare::{Bare, new_id, stored, task};

pub fn measure(criterion: &mut Criterion, runtime: &Runtime, bare: &Bare) -> anyhow::Result<()> {
    let submitter = runtime.block_on(Submitter::start(bare.submit_options()))?;
    let mut group = criterion.benchmark_group("submit 1,000 tasks");
    group.throughput(Throughput::Elements(TASKS as u64));

    macro_rules! row {
        ($who:literal, $how:literal, $work:expr) => {
            group.bench_function(BenchmarkId::new($who, $how), |bencher| {
                bencher.to_async(runtime).iter_custom(async |times| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..times {
                        let start = Instant::now();
                        $work.await;
                        taken += start.elapsed();
                        bare.empty().await;
                    }
                    taken
                });
            });
        };
    }
    row!("task-queue", "one by one", one_by_one(&submitter));
    row!("lapin and Redis", "one by one", bare_one_by_one(bare, true));
    row!("lapin", "one by one", bare_one_by_one(bare, false));
    row!("task-queue", "all at once", at_once(&submitter));
    row!("lapin and Redis", "all at once", bare_at_once(bare, true));
    row!("lapin", "all at once", bare_at_once(bare, false));
    group.finish();
    runtime.block_on(submitter.stop());
    Ok(())
}

async fn one_by_one(submitter: &Submitter) {
    for _ in 0..TASKS {
        submitter.submit(task()).await.expect("accepted");
    }
}

async fn at_once(submitter: &Submitter) {
    let submits = (0..TASKS).map(|_| submitter.submit(task()));
    for submitted in join_all(submits).await {
        submitted.expect("accepted");
    }
}

async fn bare_one_by_one(bare: &Bare, known: bool) {
    for _ in 0..TASKS {
        let id = new_id();
        stored(bare.publish(&id).await).await;
        if known {
            bare.write(&id).await;
        }
    }
}

async fn bare_at_once(bare: &Bare, known: bool) {
    let mut under_way = Vec::new();
    for _ in 0..TASKS {
        let id = new_id();
        let confirm = bare.publish(&id).await;
        under_way.push(async move {
            stored(confirm).await;
            if known {
                bare.write(&id).await;
            }
        });
    }
    join_all(under_way).await;
}
