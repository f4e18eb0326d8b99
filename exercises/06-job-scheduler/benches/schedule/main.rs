//! How fast due jobs are worked off, beside the plain clients, and what a page costs in schedules of all
//! sizes.
//!
//! `cargo xtask bench job-scheduler`, or with brokers of your own
//! `AMQP_URL=amqp://… REDIS_URL=redis://… cargo bench -p job-scheduler`. It uses the scheduler `bench-` and a
//! number, and deletes what it has made at the end. Compare the rows of one run with each other, and not with
//! another machine's.

mod bare;
mod dispatch;
mod handover;
mod size;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use job_scheduler::Names;
use tokio::runtime::Runtime;

use bare::Bare;

/// Jobs of one measurement.
const JOBS: usize = 1_000;
/// Jobs in one step.
const PAGE: usize = 100;

fn main() -> ExitCode {
    lab::brokers::with_brokers(run)
}

fn run(runtime: &Runtime, amqp: &str, redis: &str) -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let bare = runtime.block_on(Bare::open(amqp, redis))?;
    dispatch::measure(&mut criterion, runtime, &bare)?;
    size::measure(&mut criterion, runtime, &bare)?;
    handover::measure(&mut criterion, runtime, amqp, redis, &handed(&bare.names)?);
    criterion.final_summary();
    runtime.block_on(bare.delete())
}

/// Nobody leads there yet.
fn handed(names: &Names) -> anyhow::Result<Names> {
    Ok(Names::new(&format!("{names}.handed"))?)
}
