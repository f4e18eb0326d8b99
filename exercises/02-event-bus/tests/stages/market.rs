//! Orders, the services that serve them, and what has to be true of each order in the end.

use std::collections::BTreeMap;

use event_bus::{CancellationToken, Error, Order, Relay, Saga, Service, place, relay, serve};
use lab::{Failure, Lab, Outcome, Redis, ensure};
use tokio::task::JoinHandle;

use crate::stored::{Entry, Journal, entries_of, while_it_moves};

/// A saga that no other check uses.
#[derive(Clone)]
pub struct Market {
    pub lab: Lab,
    pub redis: Redis,
    pub prefix: String,
    pub log: String,
}

pub const SERVICES: [Service; 3] = Service::ALL;

/// How an order has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    /// The bank declines.
    Declined,
    /// Shipping refuses, and the money goes back.
    Refused,
}

/// Order `n`, which will end like that. Its amount is its own, so that the bank's ledger tells whose
/// an entry is.
pub fn order(n: u64, end: End) -> Order {
    let (amount, item) = match end {
        End::Completed => (n, "tea"),
        End::Declined => (1_000 + n, "tea"),
        End::Refused => (n, "nothing"),
    };
    Order {
        id: format!("A-{n}"),
        amount,
        item: item.into(),
    }
}

impl Market {
    pub async fn new(lab: &Lab) -> Result<Market, Failure> {
        let market = Market {
            lab: lab.clone(),
            redis: lab.redis().await?,
            prefix: lab.unique("shop"),
            log: lab.unique("events"),
        };
        lab.watch(&market.redis, &market.log, "payment");
        Ok(market)
    }

    /// The same through a proxy of its own.
    pub async fn through_another_proxy(&self) -> Result<Market, Failure> {
        Ok(Market {
            redis: self.lab.redis().await?,
            ..self.clone()
        })
    }

    pub fn saga(&self) -> Saga {
        Saga {
            redis: self.redis.url(),
            prefix: self.prefix.clone(),
            log: self.log.clone(),
        }
    }

    pub async fn place(&self, order: &Order) -> Outcome {
        place(&self.saga(), order).await.map_err(|error| {
            Failure::observed(format!("placing order {} failed: {error}", order.id))
        })
    }

    /// Starts these services in this process.
    pub fn serve(&self, services: &[Service]) -> Vec<Serving> {
        let start = |service: &Service| {
            let stop = CancellationToken::new();
            Serving {
                service: *service,
                task: tokio::spawn(serve(self.saga(), *service, stop.clone())),
                stop,
            }
        };
        services.iter().map(start).collect()
    }

    /// Starts a relay in this process; it ends with what is returned.
    pub fn relay(&self) -> impl Drop + use<> {
        let stop = CancellationToken::new();
        let options = Relay {
            redis: self.redis.url(),
            prefix: self.prefix.clone(),
            log_redis: None,
            log: self.log.clone(),
            batch: 100,
        };
        tokio::spawn(relay(options, stop.clone()));
        stop.drop_guard()
    }

    /// Starts one service as a process.
    pub fn process(&self, service: Service) -> Result<lab::Service, Failure> {
        let url = self.redis.url();
        self.lab
            .service([
                "saga-demo",
                "--redis",
                &url,
                "--prefix",
                &self.prefix,
                "--log",
                &self.log,
                "--service",
                service.name(),
            ])
            .start()
    }

    pub async fn logged(&self) -> Result<Vec<Entry>, Failure> {
        entries_of(&self.redis, &self.log).await
    }

    fn journal(&self, service: Service) -> Journal {
        Journal {
            lab: self.lab.clone(),
            redis: self.redis.clone(),
            log: self.log.clone(),
            group: service.name().into(),
        }
    }

    /// Whether every service has dealt with everything, and nothing waits in the outbox.
    pub async fn is_quiet(&self) -> Result<bool, Failure> {
        let before = self.logged().await?.len();
        for service in SERVICES {
            if !self.journal(service).is_done().await? {
                return Ok(false);
            }
        }
        let outbox = entries_of(&self.redis, &format!("{}:outbox", self.prefix)).await?;
        Ok(outbox.is_empty() && before > 0 && self.logged().await?.len() == before)
    }

    /// How far everybody is.
    pub async fn places(&self) -> Result<impl PartialEq + use<>, Failure> {
        let mut places = Vec::new();
        for service in SERVICES {
            places.push(self.journal(service).place().await?);
        }
        Ok((self.logged().await?.len(), places))
    }

    /// Waits until so many orders have ended and nobody has anything left to do, or the fault struck.
    pub async fn until_over(
        &self,
        orders: usize,
        fault: Option<&lab::faults::Fault>,
    ) -> Result<bool, Failure> {
        let look = || async {
            if fault.is_some_and(lab::faults::Fault::has_fired) {
                return Ok(Some(true));
            }
            let ended = self.logged().await?;
            let ended = ended.iter().filter(|entry| ends(&entry.text("name")));
            Ok((ended.count() >= orders && self.is_quiet().await?).then_some(false))
        };
        let what = format!("{orders} orders to end and every service to be done");
        let outcome = while_it_moves(&self.lab, &what, || self.places(), look).await;
        match outcome {
            Ok(struck) => Ok(struck),
            Err(failure) => Err(failure.also(format!("the log holds {}", self.story().await?))),
        }
    }

    /// The log as a reader wants it.
    pub async fn story(&self) -> Result<String, Failure> {
        let logged = self.logged().await?;
        let told: Vec<String> = logged
            .iter()
            .map(|entry| format!("{} {}", entry.data()["order"], entry.text("name")))
            .collect();
        Ok(match told.len() {
            0..=24 => told.join(", "),
            many => format!("{}, … ({many} in all)", told[..24].join(", ")),
        })
    }

    /// Holds every order to what has to be true of it in the end.
    pub async fn holds(&self, orders: &[(Order, End)]) -> Outcome {
        self.holds_beside_nonsense(orders).await?;
        for service in SERVICES {
            let dead = self.journal(service).dead().await?;
            ensure!(
                dead.is_empty(),
                "the {} service has given up {} events: {dead:?}",
                service.name(),
                dead.len()
            );
        }
        Ok(())
    }

    /// The same where some of the log was to be set aside.
    pub async fn holds_beside_nonsense(&self, orders: &[(Order, End)]) -> Outcome {
        let logged = self.logged().await?;
        let ledger = entries_of(&self.redis, &format!("{}:bank:ledger", self.prefix)).await?;
        for (order, end) in orders {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let own: Vec<String> = logged
                .iter()
                .filter(|entry| entry.data()["order"] == order.id.as_str())
                .map(|entry| entry.text("name"))
                .collect();
            for name in &own {
                *counts.entry(name.clone()).or_default() += 1;
            }
            let said = |name: &str| counts.get(name).copied().unwrap_or(0);
            let booked = |kind: &str| {
                let entries = ledger.iter().filter(|entry| {
                    entry.text("kind") == kind && entry.text("amount") == order.amount.to_string()
                });
                entries.count()
            };
            let (charged, returned) = (booked("charge"), booked("return"));
            let (completed, cancelled) = (said("order.completed"), said("order.cancelled"));
            let expected = match end {
                End::Completed => (1, 0),
                _ => (0, 1),
            };
            let repeated = (completed + cancelled > 1 || returned > 1).then_some("EB23");
            ensure!(
                (completed, cancelled) == expected,
                repeated,
                "order {} was to be {end:?}; in the log are `order.completed` {completed} times and `order.cancelled` {cancelled} times: {own:?}",
                order.id
            );
            let (charges, returns, shipments) = match end {
                End::Completed => (1, 0, 1),
                End::Declined => (0, 0, 0),
                End::Refused => (1, 1, 0),
            };
            let code = (charged > charges).then_some("EB22").or(repeated);
            ensure!(
                charged == charges && returned == returns,
                code,
                "order {} ended {end:?}: the bank was to charge {charges} times and give back {returns} times; its ledger has {charged} charges and {returned} returns",
                order.id
            );
            ensure!(
                said("shipping.sent") == shipments,
                "order {} ended {end:?} with {} shipments: {own:?}",
                order.id,
                said("shipping.sent")
            );
            let place = |name: &str| own.iter().position(|other| other == name);
            let cause = match end {
                End::Completed => [
                    "order.placed",
                    "payment.taken",
                    "shipping.sent",
                    "order.completed",
                ]
                .as_slice(),
                End::Declined => &["order.placed", "payment.declined", "order.cancelled"],
                End::Refused => &[
                    "order.placed",
                    "payment.taken",
                    "shipping.refused",
                    "payment.returned",
                    "order.cancelled",
                ],
            };
            let places: Vec<Option<usize>> = cause.iter().map(|name| place(name)).collect();
            ensure!(
                places.iter().all(Option::is_some) && places.is_sorted(),
                "order {} ended {end:?}; {cause:?} were to happen one after the other, and the log says {own:?}",
                order.id
            );
        }
        Ok(())
    }
}

/// Whether an event ends an order.
pub fn ends(name: &str) -> bool {
    ["order.completed", "order.cancelled"].contains(&name)
}

/// A service that is running in this process.
pub struct Serving {
    pub service: Service,
    pub task: JoinHandle<Result<(), Error>>,
    stop: CancellationToken,
}

impl Serving {
    pub async fn finish(mut self, lab: &Lab) -> Outcome {
        self.stop.cancel();
        let what = format!(
            "the {} service to return after its stop",
            self.service.name()
        );
        let ended = crate::hall::timely(lab, &what, &mut self.task).await?;
        ended.map_err(|error| {
            Failure::observed(format!(
                "the {} service was asked to stop and returned an error: {error}",
                self.service.name()
            ))
        })
    }

    /// Ends it wherever it is.
    pub async fn abort(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}
