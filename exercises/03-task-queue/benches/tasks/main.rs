//! How fast tasks are submitted and worked, beside the plain clients doing the same to the same queues.
//!
//! `cargo xtask bench task-queue`, or with brokers of your own
//! `AMQP_URL=amqp://… REDIS_URL=redis://… cargo bench -p task-queue`. It declares the task queue
//! `bench-` and a number, and deletes it at the end. Compare the rows of one run with each other, and
//! not with another machine's.

mod bare;
mod submit;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use tokio::runtime::Runtime;

use bare::Bare;

/// Tasks of one measurement.
const TASKS: usize = 1_000;

fn main() -> ExitCode {
    lab::brokers::with_brokers(run)
}

fn run(runtime: &Runtime, amqp: &str, redis: &str) -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(10))
        .configure_from_args();
    let bare = runtime.block_on(Bare::open(amqp, redis))?;
    submit::measure(&mut criterion, runtime, &bare)?;
    work::measure(&mut criterion, runtime, &bare);
    criterion.final_summary();
    runtime.block_on(bare.delete())
}
