//! Copies of a message: for another attempt, and for the dead letters.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use tracing::warn;

use super::{LeftToOthers, Workshop};
use crate::connection::Pauses;

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
    /// Publishes the message for the next attempt, to come back after the delay. Tries until it is
    /// published.
    pub(super) async fn publish_again(
        &self,
        delivery: &Delivery,
        id: &str,
        attempt: u32,
        delay: Duration,
    ) {
        let mut pauses = Pauses::new();
        loop {
            let queue = self.publisher.wait_queue(delay).await;
            let published = match &queue {
                Ok(queue) => {
                    let headers = counted(attempt);
                    let body = &delivery.data;
                    self.publisher.publish("", queue, id, headers, body).await
                }
                Err(_) => queue.map(drop),
            };
            match published {
                Ok(()) => return,
                Err(error) => warn!("cannot publish {id} for its next attempt yet: {error}"),
            }
            pauses.pause().await;
        }
    }

    /// Publishes the message to the dead letters. Tries until it is published; or until the delivery is
    /// not ours any more, since then it comes again, and whoever gets it does the same.
    pub(super) async fn bury(
        &self,
        delivery: &Delivery,
        id: &str,
        attempts: u32,
        reason: &str,
    ) -> Result<(), LeftToOthers> {
        let exchange = self.options.names.dead_exchange();
        let trying = async {
            let mut pauses = Pauses::new();
            while delivery.acker.usable() {
                let mut headers = counted(attempts);
                headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
                let (key, body) = (delivery.routing_key.as_str(), &delivery.data);
                let published = self.publisher.publish(&exchange, key, id, headers, body);
                match published.await {
                    Ok(()) => return Ok(()),
                    Err(error) => warn!("cannot publish the dead letter {id} yet: {error}"),
                }
                pauses.pause().await;
            }
            Err(LeftToOthers)
        };
        let buried = self.cut.run_until_cancelled(trying).await;
        buried.unwrap_or(Err(LeftToOthers))?;
        self.counts.failed();
        Ok(())
    }
}

fn counted(attempts: u32) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts.into()));
    headers
}
