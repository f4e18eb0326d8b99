//! How fast the bus is, beside tokio's broadcast channel and a plain channel for each subscriber; how
//! fast the log is, beside plain XADD; and what a subscriber that hangs costs in memory.
//!
//! `cargo xtask bench event-bus`, or with a Redis of your own
//! `REDIS_URL=redis://… cargo bench -p event-bus`. It writes the stream `bench:events` and deletes it.
//! Compare the rows of one run with each other, and not with another machine's.

mod log;
mod memory;
mod publish;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    lab::brokers::with_redis(run)
}

fn run(runtime: &Runtime, redis: &str) -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    publish::measure(&mut criterion, runtime);
    log::measure(&mut criterion, runtime, redis)?;
    criterion.final_summary();
    runtime.block_on(memory::measure())
}
