//! Publishing so that nothing is lost: persistent, mandatory and confirmed, on a connection that is
//! opened again after it was lost. Submitters publish tasks with it, workers retries and dead letters.

// solution only
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Mutex;

use crate::connection::connect;
use crate::error::Error;
use crate::names::Names;
use crate::topology::{declare, declare_wait};

/// Makes RabbitMQ write a message to disk.
const PERSISTENT: u8 = 2;

/// A connection for publishing, and for nothing else: whatever closes its channel disturbs nobody who
/// consumes.
#[derive(Debug)]
pub(crate) struct Publisher {
    amqp: String,
    names: Names,
    /// What operators of RabbitMQ see.
    name: &'static str,
    open: Mutex<Option<Arc<Open>>>,
}

/// An open connection with a channel in confirm mode.
#[derive(Debug)]
struct Open {
    connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// Connects and declares the topology.
    pub async fn connect(amqp: &str, names: &Names, name: &'static str) -> Result<Self, Error> {
        let publisher = Publisher {
            amqp: amqp.to_owned(),
            names: names.clone(),
            name,
            open: Mutex::default(),
        };
        publisher.ready().await?;
        Ok(publisher)
    }

    /// Whether something can be published now. Connects if need be.
    pub async fn ready(&self) -> Result<(), Error> {
        self.open().await.map(|_| ())
    }

    /// Publishes a message, and returns once RabbitMQ has stored it in a queue. Calls side by side do
    /// not wait for each other's confirms. After [`Error::Away`] it is not known whether it was stored.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        id: &str,
        headers: FieldTable,
        body: &[u8],
    ) -> Result<(), Error> {
        let open = self.open().await?;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_headers(headers);
        if let Ok(id) = ShortString::try_new(id) {
            properties = properties.with_message_id(id);
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = open
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties)
            .await;
        let confirmed = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmed {
            Ok(Confirmation::Ack(None)) => Ok(()),
            // The next call declares everything again: somebody has deleted the queue or its binding.
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                self.forget(&open).await;
                Err(Error::Unroutable(returned.reply_text.to_string()))
            }
            Ok(Confirmation::Nack(None)) => Err(Error::Refused),
            Ok(Confirmation::NotRequested) => {
                self.forget(&open).await;
                Err(Error::Away("the channel does not confirm".to_owned()))
            }
            Err(error) => {
                self.forget(&open).await;
                Err(Error::Away(error.to_string()))
            }
        }
    }

    /// Declares the queue for a delay, and returns its name.
    pub async fn wait_queue(&self, delay: Duration) -> Result<String, Error> {
        let open = self.open().await?;
        let declared = declare_wait(&open.channel, &self.names, delay).await;
        if declared.is_err() {
            self.forget(&open).await;
        }
        declared
    }

    /// Closes the connection.
    pub async fn close(&self) {
        if let Some(open) = self.open.lock().await.take() {
            let _ = open.connection.close(200, "done".into()).await;
        }
    }

    async fn open(&self) -> Result<Arc<Open>, Error> {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| open.is_usable()) {
            return Ok(Arc::clone(open));
        }
        *slot = None;
        let connection = connect(&self.amqp, self.name).await?;
        let away = |error: lapin::Error| Error::Away(error.to_string());
        let channel = connection.create_channel().await.map_err(away)?;
        declare(&channel, &self.names).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(away)?;
        let open = Arc::new(Open {
            connection,
            channel,
        });
        Ok(Arc::clone(slot.insert(open)))
    }

    /// The next call opens another. Calls that wait for confirms on this one go on waiting.
    async fn forget(&self, open: &Arc<Open>) {
        let mut slot = self.open.lock().await;
        if slot.as_ref().is_some_and(|known| Arc::ptr_eq(known, open)) {
            *slot = None;
        }
    }
}

impl Open {
    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}
// end solution only
