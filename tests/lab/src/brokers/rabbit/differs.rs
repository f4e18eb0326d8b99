//! Compares what was declared with what should have been.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::{NOT_FOUND, Rabbit, code, failed, text};
use crate::Failure;

const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;

impl Rabbit {
    /// Compares a queue with what it should be: durable, with exactly these arguments. RabbitMQ itself
    /// compares, by being told to declare it. The text says what differs; a queue that is not there is
    /// told of too, and is not made.
    ///
    /// RabbitMQ does not look at every argument: see the frames of the candidate's
    /// [`queue.declare`](crate::faults::amqp::Frame::declares_queue) for the others.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn differs(
        &self,
        name: &str,
        arguments: FieldTable,
    ) -> Result<Option<String>, Failure> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.direct().await?;
        let there = channel.queue_declare(name.into(), passive, FieldTable::default());
        if let Err(error) = there.await {
            return difference(error);
        }
        let declared = channel.queue_declare(name.into(), durable, arguments);
        match declared.await {
            Ok(_) => Ok(None),
            Err(error) => difference(error),
        }
    }

    /// The same for an exchange: durable, of this kind, without arguments.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn exchange_differs(
        &self,
        name: &str,
        kind: ExchangeKind,
    ) -> Result<Option<String>, Failure> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.direct().await?;
        let table = FieldTable::default();
        for options in [passive, durable] {
            let declared =
                channel.exchange_declare(name.into(), kind.clone(), options, table.clone());
            if let Err(error) = declared.await {
                return difference(error);
            }
        }
        Ok(None)
    }
}

fn difference(error: lapin::Error) -> Result<Option<String>, Failure> {
    match code(&error) {
        Some(NOT_FOUND) => Ok(Some("it is not there".to_owned())),
        Some(RESOURCE_LOCKED) => Ok(Some(
            "it is exclusive: it belongs to one connection and ends with it".to_owned(),
        )),
        Some(PRECONDITION_FAILED) => Ok(Some(explain(&text(&error)))),
        _ => Err(failed(error)),
    }
}

/// Turns RabbitMQ's words around: what it "received" is what should have been.
fn explain(text: &str) -> String {
    let parts = || {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        let (_, rest) = rest.split_once(": received ")?;
        let (expected, found) = rest.split_once(" but current is ")?;
        Some((argument, value(expected), value(found)))
    };
    match parts() {
        Some((argument, None, Some(found))) => {
            format!("`{argument}` is `{found}`, and was not to be there")
        }
        Some((argument, Some(expected), None)) => {
            format!("`{argument}` is not there, and was to be `{expected}`")
        }
        Some((argument, Some(expected), Some(found))) => {
            format!("`{argument}` is `{found}`, and was to be `{expected}`")
        }
        _ => text.to_owned(),
    }
}

/// `none`, `'true'`, `the value '5000' of type 'signedint'`.
fn value(text: &str) -> Option<&str> {
    let text = text.trim();
    if text == "none" {
        return None;
    }
    let text = text.strip_prefix("the value ").unwrap_or(text);
    let text = text
        .rsplit_once(" of type ")
        .map_or(text, |(value, _)| value);
    Some(text.trim_matches('\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rabbitmqs_words_are_turned_around() {
        let says = |received: &str, current: &str| {
            explain(&format!(
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'it''s: a' in vhost '/': received {received} but current is {current}"
            ))
        };
        let five = "the value '5000' of type 'signedint'";
        assert_eq!(
            says(five, "none"),
            "`x-message-ttl` is not there, and was to be `5000`"
        );
        assert_eq!(
            says("none", five),
            "`x-message-ttl` is `5000`, and was not to be there"
        );
        assert_eq!(
            says("'true'", "'false'"),
            "`x-message-ttl` is `false`, and was to be `true`"
        );
        assert_eq!(explain("another text"), "another text");
    }
}
