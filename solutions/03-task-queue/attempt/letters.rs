//! Copies of a message: for another attempt, and for the dead letters.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use tracing::warn;

use super::{LeftToOthers, Workshop};
use crate::connection::Pauses;
use crate::error::Error;
use crate::task::Task;

/// How many attempts had been made when a message was published.
const ATTEMPTS: &str = "x-attempts";
/// Why a message is a dead letter.
const REASON: &str = "x-reason";

/// What a message says of attempts that were made before; 0 if it says nothing.
pub(super) fn attempts(properties: &BasicProperties) -> u32 {
    let headers = properties.headers().as_ref();
    let value = headers.and_then(|headers| headers.inner().get(ATTEMPTS));
    let number = match value {
        Some(AMQPValue::ShortShortInt(number)) => i64::from(*number),
        Some(AMQPValue::ShortShortUInt(number)) => i64::from(*number),
        Some(AMQPValue::ShortInt(number)) => i64::from(*number),
        Some(AMQPValue::ShortUInt(number)) => i64::from(*number),
        Some(AMQPValue::LongInt(number)) => i64::from(*number),
        Some(AMQPValue::LongUInt(number)) => i64::from(*number),
        Some(AMQPValue::LongLongInt(number)) => *number,
        _ => 0,
    };
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

impl Workshop {
    /// Publishes the message for the next attempt, to come back after the delay.
    pub(super) async fn publish_again(
        &self,
        delivery: &Delivery,
        task: &Task,
        attempt: u32,
        delay: Duration,
    ) -> Result<(), LeftToOthers> {
        let headers = || counted(attempt);
        let once = || async {
            let queue = self.publisher.wait_queue(delay).await?;
            let body = &delivery.data;
            self.publisher
                .publish("", &queue, &task.id, headers(), body)
                .await
        };
        self.published(delivery, once).await
    }

    /// Publishes the message to the dead letters.
    pub(super) async fn bury(
        &self,
        delivery: &Delivery,
        id: &str,
        attempts: u32,
        reason: &str,
    ) -> Result<(), LeftToOthers> {
        let exchange = self.options.names.dead_exchange();
        let once = || async {
            let mut headers = counted(attempts);
            headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
            let (key, body) = (delivery.routing_key.as_str(), &delivery.data);
            self.publisher
                .publish(&exchange, key, id, headers, body)
                .await
        };
        self.published(delivery, once).await
    }

    /// Tries until it is published; or until the delivery is not ours any more, since then it comes again,
    /// and whoever gets it does the same.
    async fn published<F>(
        &self,
        delivery: &Delivery,
        once: impl Fn() -> F,
    ) -> Result<(), LeftToOthers>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let trying = async {
            let mut pauses = Pauses::new();
            while delivery.acker.usable() {
                match once().await {
                    Ok(()) => return Ok(()),
                    Err(error) => warn!("cannot publish yet: {error}"),
                }
                pauses.pause().await;
            }
            Err(LeftToOthers)
        };
        let published = self.cut.run_until_cancelled(trying).await;
        published.unwrap_or(Err(LeftToOthers))
    }
}

fn counted(attempts: u32) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts.into()));
    headers
}
