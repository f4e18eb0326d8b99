//! What a page costs, with few jobs in the schedule and with many.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use job_scheduler::Claim;
use tokio::runtime::Runtime;

use crate::PAGE;
use crate::bare::{Bare, past};

pub fn measure(criterion: &mut Criterion, runtime: &Runtime, bare: &Bare) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("claim a page of 100");
    group.throughput(Throughput::Elements(PAGE as u64));
    let mut there = 0;
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        runtime.block_on(grow(bare, there, size))?;
        there = size;
        group.bench_function(BenchmarkId::new("jobs in the schedule", size), |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    bare.fill(PAGE).await;
                    let began = Instant::now();
                    claim(bare).await;
                    taken += began.elapsed();
                }
                taken
            });
        });
    }
    group.finish();
    Ok(())
}

/// Others that are not due for a long time.
async fn grow(bare: &Bare, from: usize, to: usize) -> anyhow::Result<()> {
    let mut client = bare.client.clone();
    let numbers: Vec<usize> = (from..to).collect();
    for part in numbers.chunks(10_000) {
        let mut add = redis::cmd("ZADD");
        add.arg(bare.names.due());
        for n in part {
            add.arg(4_000_000_000_000_u64 + *n as u64)
                .arg(format!("later-{n}"));
        }
        add.query_async::<u64>(&mut client).await?;
    }
    Ok(())
}

async fn claim(bare: &Bare) {
    let due = bare.store.due(past(), PAGE).await.expect("a page");
    let claims: Vec<Claim> = due
        .into_iter()
        .map(|due| Claim {
            job: due.job.name,
            at: due.at,
            runs: vec![due.at],
            next: None,
        })
        .collect();
    let counted = bare.store.claim(&bare.term, &claims, 3).await;
    assert_eq!(counted.expect("claimed"), PAGE);
}
