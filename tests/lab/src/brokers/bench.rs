//! The `main` of benchmarks that need brokers.

use std::fmt::Display;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use super::{Endpoints, Keeper, Wanted, keep_if_asked};

/// Runs `benches` in a runtime and with the URL of a Redis, which ends with them; what goes wrong is
/// told on standard error. It is the whole `main` of a benchmark.
pub fn with_redis<E: Display>(benches: impl FnOnce(&Runtime, &str) -> Result<(), E>) -> ExitCode {
    let wanted = Wanted {
        redis: true,
        ..Wanted::default()
    };
    finish(wanted, |runtime, endpoints| {
        let redis = endpoints.redis.ok_or("the keeper started no Redis")?;
        benches(runtime, &redis).map_err(|error| format!("{error:#}"))
    })
}

/// The same with the URLs of a RabbitMQ and of a Redis, in this order.
pub fn with_brokers<E: Display>(
    benches: impl FnOnce(&Runtime, &str, &str) -> Result<(), E>,
) -> ExitCode {
    let wanted = Wanted {
        redis: true,
        amqp: true,
        ..Wanted::default()
    };
    finish(wanted, |runtime, endpoints| {
        let amqp = endpoints.amqp.ok_or("the keeper started no RabbitMQ")?;
        let redis = endpoints.redis.ok_or("the keeper started no Redis")?;
        benches(runtime, &amqp, &redis).map_err(|error| format!("{error:#}"))
    })
}

fn finish(
    wanted: Wanted,
    benches: impl FnOnce(&Runtime, Endpoints) -> Result<(), String>,
) -> ExitCode {
    if let Some(code) = keep_if_asked() {
        return code;
    }
    match run(wanted, benches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    wanted: Wanted,
    benches: impl FnOnce(&Runtime, Endpoints) -> Result<(), String>,
) -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let keeper = runtime.block_on(Keeper::start(wanted));
    let keeper = keeper.map_err(|error| error.to_string())?;
    benches(&runtime, keeper.endpoints())
}
