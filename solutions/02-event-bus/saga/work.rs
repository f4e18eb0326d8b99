// solution only
//! What the three services have in common: a state for each order, and patience.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{order, payment, shipping};
use crate::bank::Bank;
use crate::connection::Pauses;
use crate::error::Error;
use crate::event::Event;
use crate::options::{Saga, Service};
use crate::outbox::Outbox;

/// Where a service works.
pub struct Desk {
    service: Service,
    stop: CancellationToken,
    pub outbox: Outbox,
    pub bank: Bank,
}

/// What a service knows of one order.
pub struct File {
    key: String,
    version: u64,
    /// `{"state": …}` and more, or `Null` if it has not heard of the order yet.
    pub state: Value,
}

impl Desk {
    pub async fn open(
        saga: &Saga,
        service: Service,
        stop: CancellationToken,
    ) -> Result<Desk, Error> {
        Ok(Desk {
            service,
            stop,
            outbox: Outbox::connect(&saga.redis, &saga.prefix).await?,
            bank: Bank::connect(&saga.redis, &saga.prefix).await?,
        })
    }

    /// Does the service's part about an event, which may have been delivered before. It waits for a
    /// Redis that is away: that is no fault of the event.
    pub async fn work(&self, event: &Event) -> Result<(), Error> {
        let mut pauses = Pauses::new();
        loop {
            let ended = match self.service {
                Service::Order => order::work(self, event).await,
                Service::Payment => payment::work(self, event).await,
                Service::Shipping => shipping::work(self, event).await,
            };
            match ended {
                // Somebody else was first: look again what there is to do.
                Err(Error::Conflict { .. }) => {}
                Err(error) if error.is_connection() => {
                    if self
                        .stop
                        .run_until_cancelled(pauses.pause())
                        .await
                        .is_none()
                    {
                        return Err(error);
                    }
                }
                ended => return ended,
            }
        }
    }

    /// What this service knows of an order.
    pub async fn file(&self, order: &str) -> Result<File, Error> {
        let key = format!("{}:{order}", self.service.name());
        let (version, state) = self.outbox.load(&key).await?;
        Ok(File {
            key,
            version,
            state,
        })
    }

    /// Writes down what is known now, and tells of it, in one step.
    pub async fn note(&self, file: &File, state: Value, says: Option<Event>) -> Result<(), Error> {
        let events = says.as_slice();
        let committed = self.outbox.commit(&file.key, file.version, &state, events);
        committed.await.map(|_| ())
    }
}

impl File {
    /// The name of the state, empty if there is none.
    pub fn state(&self) -> &str {
        self.state["state"].as_str().unwrap_or_default()
    }
}

/// A text in the data of an event.
pub fn text<'a>(event: &'a Event, field: &str) -> Result<&'a str, Error> {
    event.data[field]
        .as_str()
        .ok_or_else(|| missing(event, field))
}

/// What to say of an event that lacks something.
pub fn missing(event: &Event, field: &str) -> Error {
    Error::BadData(format!("`{}` does not tell the {field}", event.name))
}
// end solution only
