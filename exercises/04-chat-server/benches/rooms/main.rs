//! How fast the server is, beside the shortest programs that do the same and survive nothing.
//!
//! `cargo xtask bench chat-server`. Servers and clients share this process and its processors, so
//! compare the rows of one run with each other, and not with another machine's.

mod bare;
mod client;
mod echo;
mod fan_out;
mod memory;
mod stalled;

use std::time::Duration;

use criterion::Criterion;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

fn main() -> anyhow::Result<()> {
    // A thousand clients are two thousand sockets here.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most)?;

    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    echo::measure(&mut criterion, &runtime)?;
    fan_out::measure(&mut criterion, &runtime)?;
    criterion.final_summary();
    if is_wanted("memory") {
        runtime.block_on(memory::measure())?;
    }
    if is_wanted("stalled") {
        runtime.block_on(stalled::measure())?;
    }
    Ok(())
}

/// Whether the filter on the command line, if there is one, lets this through. Criterion only knows of
/// its own measurements.
fn is_wanted(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    filters.next().is_none_or(|filter| name.contains(&filter))
}
