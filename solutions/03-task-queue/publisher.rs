//! Publishing so that nothing is lost: persistent, mandatory and confirmed, on a connection that is
//! opened again after it was lost. Submitters publish tasks with it, workers retries and dead letters.

// solution only
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::connection::connect;
use crate::error::Error;
use crate::names::Names;
use crate::topology::{declare, declare_wait};

#[path = "publisher/post.rs"]
mod post;
use post::Post;

/// Makes RabbitMQ write a message to disk.
const PERSISTENT: u8 = 2;
/// How long connecting and declaring may take together.
const OPEN: Duration = Duration::from_secs(30);
/// How long a connection that may be dead is given to close.
const CLOSE: Duration = Duration::from_secs(2);

/// A connection for publishing, and for nothing else: whatever closes its channel disturbs nobody who
/// consumes, and a RabbitMQ that is short of memory takes no messages here and still takes
/// acknowledgements elsewhere.
#[derive(Debug)]
pub(crate) struct Publisher {
    amqp: String,
    names: Names,
    /// What operators of RabbitMQ see.
    name: &'static str,
    open: Arc<Mutex<Option<Arc<Open>>>>,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    connection: Connection,
    post: Post,
    /// Delays whose queue is declared.
    delays: Mutex<HashSet<Duration>>,
}

impl Publisher {
    /// Connects and declares the topology.
    pub async fn connect(amqp: &str, names: &Names, name: &'static str) -> Result<Self, Error> {
        let publisher = Publisher {
            amqp: amqp.to_owned(),
            names: names.clone(),
            name,
            open: Arc::default(),
        };
        publisher.ready().await?;
        Ok(publisher)
    }

    /// Whether something can be published now. Connects if need be.
    pub async fn ready(&self) -> Result<(), Error> {
        self.accepting().await.map(|_| ())
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
        let open = self.accepting().await?;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_headers(headers);
        if let Ok(id) = ShortString::try_new(id) {
            properties = properties.with_message_id(id);
        }
        let published = open.post.send(exchange, key, properties, body).await;
        // The connection is lost, or somebody has deleted the queue or its binding: the next call
        // declares everything again.
        if let Err(Error::Away(_) | Error::Unroutable(_)) = published {
            self.forget(&open).await;
        }
        published
    }

    /// Declares the queue for a delay, and returns its name.
    pub async fn wait_queue(&self, delay: Duration) -> Result<String, Error> {
        let open = self.open().await?;
        let mut declared = open.delays.lock().await;
        if !declared.contains(&delay) {
            // On a channel of its own: if the queue is there and differs, RabbitMQ closes the channel.
            let channel = channel(&open.connection).await?;
            declare_wait(&channel, &self.names, delay).await?;
            declared.insert(delay);
        }
        Ok(self.names.wait_queue(delay))
    }

    /// Closes the connection.
    pub async fn close(&self) {
        if let Some(open) = self.open.lock().await.take() {
            let closed = open.connection.close(200, "done".into());
            let _ = tokio::time::timeout(CLOSE, closed).await;
        }
    }

    /// A connection on which RabbitMQ takes messages.
    async fn accepting(&self) -> Result<Arc<Open>, Error> {
        let open = self.open().await?;
        // Messages would pile up here until it has room for them.
        if open.connection.status().blocked() {
            let why = "it is short of memory or disk, and takes no messages";
            return Err(Error::Away(why.to_owned()));
        }
        Ok(open)
    }

    /// The connection that there is, or a new one.
    async fn open(&self) -> Result<Arc<Open>, Error> {
        let slot = Arc::clone(&self.open).lock_owned().await;
        if let Some(open) = slot.as_ref().filter(|open| open.is_usable()) {
            return Ok(Arc::clone(open));
        }
        // In a task of its own: if whoever waits gives up, the next one finds the connection here, and
        // not one more that is half open.
        let opening = Open::again(slot, self.amqp.clone(), self.names.clone(), self.name);
        let opened = tokio::spawn(opening).await;
        opened.unwrap_or_else(|error| Err(Error::Away(error.to_string())))
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
    async fn again(
        mut slot: OwnedMutexGuard<Option<Arc<Open>>>,
        amqp: String,
        names: Names,
        name: &'static str,
    ) -> Result<Arc<Open>, Error> {
        *slot = None;
        let late = |_| Err(Error::Away(format!("no answer within {OPEN:?}")));
        let opened = tokio::time::timeout(OPEN, Open::new(&amqp, &names, name)).await;
        let open = Arc::new(opened.unwrap_or_else(late)?);
        Ok(Arc::clone(slot.insert(open)))
    }

    async fn new(amqp: &str, names: &Names, name: &str) -> Result<Open, Error> {
        let connection = connect(amqp, name).await?;
        let channel = channel(&connection).await?;
        declare(&channel, names).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(away)?;
        Ok(Open {
            connection,
            post: Post::on(channel),
            delays: Mutex::default(),
        })
    }

    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.post.is_open()
    }
}

async fn channel(connection: &Connection) -> Result<Channel, Error> {
    connection.create_channel().await.map_err(away)
}

fn away(error: lapin::Error) -> Error {
    Error::Away(error.to_string())
}
// end solution only
