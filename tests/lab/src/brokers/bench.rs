//! The `main` of benchmarks that need a Redis.

use std::fmt::Display;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use super::{Keeper, Wanted, keep_if_asked};

/// Runs `benches` in a runtime and with the URL of a Redis, which ends with them; what goes wrong is
/// told on standard error. It is the whole `main` of a benchmark.
pub fn with_redis<E: Display>(benches: impl FnOnce(&Runtime, &str) -> Result<(), E>) -> ExitCode {
    if let Some(code) = keep_if_asked() {
        return code;
    }
    match run(benches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run<E: Display>(benches: impl FnOnce(&Runtime, &str) -> Result<(), E>) -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let wanted = Wanted {
        redis: true,
        ..Wanted::default()
    };
    let keeper = runtime.block_on(Keeper::start(wanted));
    let keeper = keeper.map_err(|error| error.to_string())?;
    let redis = keeper.endpoints().redis;
    let redis = redis.ok_or("the keeper started no Redis")?;
    benches(&runtime, &redis).map_err(|error| format!("{error:#}"))
}
