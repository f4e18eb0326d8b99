//! From the schedule to confirmed messages.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use job_scheduler::{Claim, Dispatcher, plan, time};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::bare::{Bare, past};
use crate::{JOBS, PAGE};

pub fn measure(criterion: &mut Criterion, runtime: &Runtime, bare: &Bare) -> anyhow::Result<()> {
    let dispatcher = Mutex::new(runtime.block_on(bare.dispatcher())?);
    let mut group = criterion.benchmark_group("work off 1,000 due jobs");
    group.throughput(Throughput::Elements(JOBS as u64));
    group.bench_function("job-scheduler", |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                bare.fill(JOBS).await;
                let mut dispatcher = dispatcher.lock().await;
                let began = Instant::now();
                work_off(bare, &mut dispatcher).await;
                taken += began.elapsed();
                bare.empty().await;
            }
            taken
        });
    });
    group.bench_function("plain clients", |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                bare.fill_bare(JOBS).await;
                let began = Instant::now();
                while bare.work_page().await > 0 {}
                taken += began.elapsed();
                bare.empty().await;
            }
            taken
        });
    });
    group.finish();
    Ok(())
}

/// What a leader does.
async fn work_off(bare: &Bare, dispatcher: &mut Dispatcher) {
    let now = past();
    let later = time::from_millis(now.timestamp_millis() + 300_000);
    loop {
        let due = bare.store.due(now, PAGE).await.expect("a page");
        let claims: Vec<Claim> = due
            .iter()
            .map(|due| {
                let late = Duration::from_secs(10);
                let plan = plan(&due.job.schedule, due.job.misfire, due.at, now, late);
                Claim {
                    job: due.job.name.clone(),
                    at: due.at,
                    runs: plan.runs,
                    next: plan.next,
                }
            })
            .collect();
        if !claims.is_empty() {
            let claimed = bare.store.claim(&bare.term, &claims, 3).await;
            claimed.expect("claimed");
        }
        let runs = bare.store.open(&bare.term, now, PAGE).await.expect("runs");
        if runs.is_empty() {
            return;
        }
        let outcomes = dispatcher.publish(&runs).await.expect("published");
        assert!(outcomes.iter().all(Result::is_ok));
        let noted = bare.store.published(&bare.term, &runs, later).await;
        noted.expect("noted");
    }
}
