//! Exchanges and queues: what RabbitMQ has to have before anything can be submitted or worked.

use std::time::Duration;

use lapin::Channel;

use crate::error::Error;
use crate::names::Names;

// solution only
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use given::amqp::{is_declared_otherwise, reply};
// end solution only

/// Declares what tasks need, all of it durable:
///
/// - the topic exchanges `NAME` and `NAME.high`, the fanout exchange `NAME.dead`;
/// - the quorum queues `NAME` and `NAME.high`, each bound with `#` to the exchange of its name, with the
///   arguments `x-queue-type` `quorum`, `x-dead-letter-exchange` `NAME.dead`,
///   `x-dead-letter-strategy` `at-least-once` and `x-overflow` `reject-publish`, which that strategy needs;
/// - the quorum queue `NAME.dead`, bound to `NAME.dead`.
///
/// Declaring it again changes nothing. Nothing is deleted, whatever is there. In AMQP:
/// `exchange.declare`, `queue.declare`, `queue.bind`.
///
/// # Errors
/// [`Error::Declared`] if one of them is there with another type or other arguments; it names the one.
/// The channel is closed then, by RabbitMQ. [`Error::Away`] if the connection is lost, or the channel
/// was closed before.
pub async fn declare(channel: &Channel, names: &Names) -> Result<(), Error> {
    // stub stage 1: three exchanges, three queues, three bindings
    exchange(channel, &names.exchange(), ExchangeKind::Topic).await?;
    exchange(channel, &names.high_exchange(), ExchangeKind::Topic).await?;
    exchange(channel, &names.dead_exchange(), ExchangeKind::Fanout).await?;
    let dead = arguments([]);
    queue(channel, &names.dead_queue(), dead).await?;
    bind(channel, &names.dead_queue(), &names.dead_exchange()).await?;
    for (name, source) in [
        (names.queue(), names.exchange()),
        (names.high_queue(), names.high_exchange()),
    ] {
        let dead_letters = [("x-dead-letter-exchange", text(&names.dead_exchange()))];
        queue(channel, &name, nothing_lost(arguments(dead_letters))).await?;
        bind(channel, &name, &source).await?;
    }
    Ok(())
    // end stub
}

/// Declares the queue in which a task waits for so long before it comes back to the queue `NAME`, and
/// returns its name, `NAME.retry.MS`.
///
/// A durable quorum queue whose messages all live equally long: `x-message-ttl` is the delay in
/// milliseconds, `x-dead-letter-exchange` is the default exchange, `""`, and `x-dead-letter-routing-key`
/// is `NAME`. `x-dead-letter-strategy` and `x-overflow` are as in [`declare`]: without them a
/// restart of RabbitMQ may lose what is on its way from here. One queue for each delay: in a queue with
/// different times to live the short ones wait behind the long ones.
///
/// # Errors
/// As [`declare`].
pub async fn declare_wait(
    channel: &Channel,
    names: &Names,
    delay: Duration,
) -> Result<String, Error> {
    // stub stage 4: one queue with a time to live, that dead-letters into the work queue
    let name = names.wait_queue(delay);
    let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let back = arguments([
        ("x-message-ttl", AMQPValue::LongLongInt(millis)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&names.queue())),
    ]);
    queue(channel, &name, nothing_lost(back)).await?;
    Ok(name)
    // end stub
}

// solution only
async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), Error> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    declared
        .await
        .map_err(|error| why(&error, format!("the exchange `{name}`")))
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Error> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name.into(), options, arguments).await;
    declared.map_err(|error| why(&error, format!("the queue `{name}`")))?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str) -> Result<(), Error> {
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound
        .await
        .map_err(|error| why(&error, format!("the binding of the queue `{queue}`")))
}

/// The arguments of a quorum queue, and these.
fn arguments<const N: usize>(more: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    for (name, value) in more {
        table.insert(name.into(), value);
    }
    table
}

/// Dead letters are confirmed by the queue they go to before they leave this one.
fn nothing_lost(mut arguments: FieldTable) -> FieldTable {
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn why(error: &lapin::Error, what: String) -> Error {
    if is_declared_otherwise(error) {
        let why = reply(error).map_or(String::new(), |(_, why)| why);
        Error::Declared { what, why }
    } else {
        Error::Away(format!("declaring {what}: {error}"))
    }
}
// end solution only
