//! `event-bus saga-demo`: the services of the saga, alone or together with somebody who orders.

mod endings;
mod orders;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use event_bus::{CancellationToken, Error, Relay, Saga, Service, relay, serve};
use given::signals;
use tokio::task::JoinSet;

use super::Redis;

#[derive(Args)]
pub struct SagaArgs {
    #[command(flatten)]
    redis: Redis,
    /// The prefix of the services' states, of the outbox and of the bank
    #[arg(long, env = "EVENT_BUS_PREFIX", default_value = "saga")]
    prefix: String,
    /// The stream that is the log
    #[arg(long, env = "EVENT_BUS_LOG", default_value = "saga:log")]
    log: String,
    /// Only run this, until SIGTERM or SIGINT; may be given several times
    #[arg(long = "service", env = "EVENT_BUS_SERVICE", value_delimiter = ',')]
    services: Vec<Part>,
}

/// What can run in a process of its own.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Order,
    Payment,
    Shipping,
    Relay,
}

const ALL: [Part; 4] = [Part::Order, Part::Payment, Part::Shipping, Part::Relay];

pub async fn run(args: SagaArgs) -> Result<ExitCode> {
    let saga = Saga {
        redis: args.redis.redis,
        prefix: args.prefix,
        log: args.log,
    };
    let stop = signals::stop()?;
    let alone = args.services.is_empty();
    let parts = if alone { &ALL[..] } else { &args.services };
    let mut running = JoinSet::new();
    for part in parts {
        running.spawn(part.run(saga.clone(), stop.clone()));
    }
    let mut ended = Ok(ExitCode::SUCCESS);
    if alone {
        ended = tokio::select! {
            ended = orders::place_and_print(&saga) => ended,
            () = stop.cancelled() => ended,
            Some(failed) = running.join_next() => failed.context("a service panicked")?
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into),
        };
        stop.cancel();
    }
    while let Some(service) = running.join_next().await {
        // One that fails takes the others with it.
        stop.cancel();
        let service = service.context("a service panicked")?;
        if ended.is_ok() {
            ended = ended.and(service.map(|()| ExitCode::SUCCESS).map_err(Into::into));
        }
    }
    ended
}

impl Part {
    async fn run(self, saga: Saga, stop: CancellationToken) -> Result<(), Error> {
        match self {
            Part::Order => serve(saga, Service::Order, stop).await,
            Part::Payment => serve(saga, Service::Payment, stop).await,
            Part::Shipping => serve(saga, Service::Shipping, stop).await,
            Part::Relay => {
                let options = Relay::new(saga.redis, saga.prefix, saga.log);
                relay(options, stop).await.map(|_| ())
            }
        }
    }
}
