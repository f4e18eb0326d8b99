//! From the schedule to the services, and their replies back: what is declared in RabbitMQ, and how runs are
//! published so that none is lost.

use lapin::Channel;

use crate::error::Error;
use crate::names::Names;
use crate::run::Run;

// solution only
use std::collections::HashSet;
use std::time::Duration;

use given::amqp::{is_declared_otherwise, reply};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ExchangeKind};

use crate::connection::{channel, connect};
// end solution only

/// Declares what nodes need: the durable topic exchange [`P`](Names::exchange), and the durable quorum queue
/// [`P.replies`](Names::replies). Declaring again changes nothing.
///
/// # Errors
/// [`Error::Declared`] if one is there and differs, with its name; it is left as it is.
/// [`Error::Away`] if RabbitMQ does not answer.
pub async fn declare(channel: &Channel, names: &Names) -> Result<(), Error> {
    // stub stage 3: the exchange, and a quorum queue
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let name = names.exchange();
    let table = FieldTable::default();
    let declared =
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, options, table);
    declared
        .await
        .map_err(|error| why(&error, format!("the exchange `{name}`")))?;
    queue(channel, &names.replies()).await
    // end stub
}

/// Declares what a service needs, and what nodes need: its durable quorum queue
/// [`P.service.NAME`](Names::queue), bound to the exchange with its [key](Names::key).
///
/// # Errors
/// As [`declare`].
pub async fn declare_service(channel: &Channel, names: &Names, service: &str) -> Result<(), Error> {
    // stub stage 3: as above, and a queue with its binding
    declare(channel, names).await?;
    let name = names.queue(service);
    queue(channel, &name).await?;
    let bound = channel.queue_bind(
        name.as_str().into(),
        names.exchange().into(),
        names.key(service).into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound
        .await
        .map_err(|error| why(&error, format!("the binding of the queue `{name}`")))
    // end stub
}

/// Publishes runs, on a connection of its own. Once that is lost, every call fails.
#[derive(Debug)]
pub struct Dispatcher {
    // solution only
    _connection: Connection,
    channel: Channel,
    names: Names,
    // end solution only
}

impl Dispatcher {
    /// Connects and [declares](declare).
    ///
    /// # Errors
    /// [`Error::Amqp`] if RabbitMQ does not let us connect, and those of [`declare`].
    pub async fn connect(amqp: &str, names: &Names) -> Result<Dispatcher, Error> {
        // stub stage 3: a connection, a channel in confirm mode, declare
        let connection = connect(amqp, "job-scheduler: dispatch").await?;
        let channel = channel(&connection).await?;
        declare(&channel, names).await?;
        let confirmed = channel.confirm_select(ConfirmSelectOptions::default());
        confirmed.await.map_err(away)?;
        Ok(Dispatcher {
            _connection: connection,
            channel,
            names: names.clone(),
        })
        // end stub
    }

    /// Publishes runs, each to its [service](Run::service): persistent, mandatory and confirmed, with the
    /// content type `application/json`, the run's [id](Run::id) as the message id and the correlation id, and
    /// the queue of replies as `reply-to`. All go out before the first confirm is waited for.
    ///
    /// What is to become of each is said in the order of `runs`: it is stored in the queue of its service, or
    /// [`Error::Unroutable`] if there is no such queue. The runs of one call are looked at together: the
    /// client library hands out a message that came back with whatever confirm comes next, which may be
    /// another message's.
    ///
    /// # Errors
    /// [`Error::Away`] if the connection is lost or RabbitMQ has not confirmed all within ten seconds: then it
    /// is not known which of them are stored.
    pub async fn publish(&mut self, runs: &[Run]) -> Result<Vec<Result<(), Error>>, Error> {
        // stub stage 3: publish all, then wait for all confirms, and see what came back
        let all = async {
            let mut confirms = Vec::with_capacity(runs.len());
            for run in runs {
                confirms.push(self.send(run).await?);
            }
            let mut returned = HashSet::new();
            let mut refused = false;
            for confirm in confirms {
                match confirm.await.map_err(away)? {
                    Confirmation::Ack(None) => {}
                    Confirmation::Ack(Some(message)) => {
                        let id = message.delivery.properties.message_id().clone();
                        returned.insert(id.unwrap_or_default().to_string());
                    }
                    Confirmation::Nack(_) | Confirmation::NotRequested => refused = true,
                }
            }
            if refused {
                return Err(Error::Away("it did not take a message".to_owned()));
            }
            let outcome = |run: &Run| match returned.contains(&run.id()) {
                true => Err(Error::Unroutable(run.service.clone())),
                false => Ok(()),
            };
            Ok(runs.iter().map(outcome).collect())
        };
        let late = |_| Err(Error::Away(format!("no confirm within {CONFIRM:?}")));
        tokio::time::timeout(CONFIRM, all)
            .await
            .unwrap_or_else(late)
        // end stub
    }
}

// solution only
/// How long RabbitMQ may take to confirm.
const CONFIRM: Duration = Duration::from_secs(10);
/// Makes RabbitMQ write a message to disk.
pub(crate) const PERSISTENT: u8 = 2;

impl Dispatcher {
    async fn send(&self, run: &Run) -> Result<lapin::PublisherConfirm, Error> {
        let id = run.id();
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(id.as_str().into())
            .with_correlation_id(id.into())
            .with_reply_to(self.names.replies().into());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = (self.names.exchange(), self.names.key(&run.service));
        let body = run.body();
        let sent =
            self.channel
                .basic_publish(exchange.into(), key.into(), options, &body, properties);
        sent.await.map_err(away)
    }
}

pub(crate) fn away(error: lapin::Error) -> Error {
    Error::Away(error.to_string())
}

async fn queue(channel: &Channel, name: &str) -> Result<(), Error> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut table = FieldTable::default();
    table.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let declared = channel.queue_declare(name.into(), options, table).await;
    declared.map_err(|error| why(&error, format!("the queue `{name}`")))?;
    Ok(())
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
