//! Submitting tasks: a task is accepted once RabbitMQ has it on disk and Redis knows of it, and not
//! before.

use crate::error::Error;
use crate::options::Submit;
use crate::status::Status;
use crate::task::NewTask;

// solution only
use std::sync::Arc;
use std::time::Duration;

use lapin::types::FieldTable;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::publisher::Publisher;
use crate::store::{Reserved, Store};
use crate::task::{Priority, Task, new_id};
// end solution only

/// Submits tasks, from any number of places at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Submitter {
    // solution only
    inner: Arc<Inner>,
    // end solution only
}

impl Submitter {
    /// Connects to RabbitMQ and to Redis, and [declares](crate::declare()) what is needed.
    ///
    /// # Errors
    /// At once, if one of them cannot be reached or does not let us in, and [`Error::Declared`] if a
    /// queue or an exchange is there and differs.
    pub async fn start(options: Submit) -> Result<Submitter, Error> {
        // stub stage 2: connect to both, declare the topology, put the channel into confirm mode
        let store = Store::connect(&options.redis, &options.names, options.keep).await?;
        let publisher = Publisher::connect(&options.amqp, &options.names, "task-queue api").await?;
        Ok(Submitter {
            inner: Arc::new(Inner {
                options,
                store,
                publisher,
                under_way: TaskTracker::new(),
            }),
        })
        // end stub
    }

    /// Submits a task, and returns its status once it is accepted: RabbitMQ has confirmed that a queue
    /// has stored it, and [`Store::get`](crate::Store::get) knows it. From then on it survives whatever
    /// dies. Any error means that it is not accepted; it may be done all the same if its fate is not known.
    ///
    /// The message goes to the exchange `NAME`, or `NAME.high` if its priority is high, with the kind as
    /// routing key: delivery mode 2, mandatory, content type `application/json`, the id as message id,
    /// the body of a [`Task`](crate::Task). Calls side by side do not wait for each other's confirms. A
    /// status that a worker has written already is not overwritten.
    ///
    /// With an idempotency key: all submits of a key get the status of one task, on whichever submitter
    /// and whenever they come, also all at once; its handler has one effect. A submitter that dies on the
    /// way does not spoil the key: the next submit with it makes sure that the task is with RabbitMQ,
    /// under the same id.
    ///
    /// After a lost connection it connects and declares again. It takes no longer than the
    /// `confirm_timeout`.
    ///
    /// # Errors
    /// [`Error::BadTask`] and [`Error::BadKey`] as [`NewTask::check`]; [`Error::KeyReused`] if the key
    /// stands for another task; [`Error::Unroutable`] if the message was returned; [`Error::Refused`] if
    /// RabbitMQ answered with a nack; [`Error::Unconfirmed`] if it was not accepted in time;
    /// [`Error::Stopping`] after [`stop`](Self::stop). Errors for which [`Error::is_connection`] is true
    /// if RabbitMQ or Redis is away.
    pub async fn submit(&self, task: NewTask) -> Result<Status, Error> {
        // stub stage 2: publish, wait for the confirm, then make the task known (stage 6: the key)
        let _under_way = self.inner.under_way.token();
        if self.inner.under_way.is_closed() {
            return Err(Error::Stopping);
        }
        task.check()?;
        let limit = self.inner.options.confirm_timeout;
        let patience = Instant::now() + PATIENCE.min(limit / 2);
        let accepting = self.inner.accept(task, patience);
        match tokio::time::timeout(limit, accepting).await {
            Ok(accepted) => accepted,
            Err(_) => Err(Error::Unconfirmed(limit)),
        }
        // end stub
    }

    /// Whether a task could be accepted now, as far as one can tell without submitting one: both brokers
    /// can be reached.
    ///
    /// # Errors
    /// What [`submit`](Self::submit) would fail with.
    pub async fn ready(&self) -> Result<(), Error> {
        // stub stage 8: is there a connection to RabbitMQ, or can one be had? Does Redis answer? (stage 9: not after the stop)
        if self.inner.under_way.is_closed() {
            return Err(Error::Stopping);
        }
        let asking = async {
            self.inner.publisher.ready().await?;
            self.inner.store.get("anything").await.map(|_| ())
        };
        let limit = self.inner.options.confirm_timeout;
        let late = |_| Err(Error::Unconfirmed(limit));
        tokio::time::timeout(limit, asking)
            .await
            .unwrap_or_else(late)
        // end stub
    }

    /// Takes no more tasks, waits until those on the way are accepted or not, and closes the connection.
    pub async fn stop(&self) {
        // stub stage 9: refuse what is new, wait for what is under way, close
        self.inner.under_way.close();
        self.inner.under_way.wait().await;
        self.inner.publisher.close().await;
        // end stub
    }
}

// solution only
/// How long the task of a key is left to whoever reserved it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often somebody looks whether another has accepted the task of a key.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Inner {
    options: Submit,
    store: Store,
    publisher: Publisher,
    under_way: TaskTracker,
}

impl Inner {
    /// Until `patience` is over, the task of a key is left to whoever reserved it.
    async fn accept(&self, task: NewTask, patience: Instant) -> Result<Status, Error> {
        let id = new_id();
        let Some(key) = &task.key else {
            let sent = Task::of(&task, &id);
            self.publish(&sent, task.priority).await?;
            self.store.create(&sent).await?;
            return Ok(Status::queued(&id, &task.kind));
        };
        let id = loop {
            match self.store.reserve(key, &id, &task).await? {
                Reserved::New(id) => break id,
                Reserved::Accepted(id) => return self.known(&id, &task.kind).await,
                Reserved::Pending(id) if Instant::now() >= patience => break id,
                Reserved::Pending(_) => tokio::time::sleep(LOOK).await,
            }
        };
        // Published twice it has one effect all the same: workers go by the id.
        let sent = Task::of(&task, &id);
        self.publish(&sent, task.priority).await?;
        self.store.accept(key, &sent).await?;
        self.known(&id, &task.kind).await
    }

    async fn known(&self, id: &str, kind: &str) -> Result<Status, Error> {
        let status = self.store.get(id).await?;
        Ok(status.unwrap_or_else(|| Status::queued(id, kind)))
    }

    /// Once more on another connection, if the first was lost or what it needs is gone.
    async fn publish(&self, task: &Task, priority: Priority) -> Result<(), Error> {
        let names = &self.options.names;
        let exchange = match priority {
            Priority::Normal => names.exchange(),
            Priority::High => names.high_exchange(),
        };
        let body = task.body()?;
        let once = || {
            let headers = FieldTable::default();
            self.publisher
                .publish(&exchange, &task.kind, &task.id, headers, &body)
        };
        match once().await {
            Err(Error::Away(_) | Error::Unroutable(_)) => once().await,
            ended => ended,
        }
    }
}
// end solution only
