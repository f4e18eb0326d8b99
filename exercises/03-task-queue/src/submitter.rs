// Stub e3ac6d65138763c0: this file is yours to write. `cargo xtask reset task-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Submitting tasks: a task is accepted once RabbitMQ has it on disk and Redis knows of it, and not
//! before.

use crate::error::Error;
use crate::options::Submit;
use crate::status::Status;
use crate::task::NewTask;

/// Submits tasks, from any number of places at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Submitter {}

impl Submitter {
    /// Connects to RabbitMQ and to Redis, and [declares](crate::declare()) what is needed.
    ///
    /// # Errors
    /// At once, if one of them cannot be reached or does not let us in, and [`Error::Declared`] if a
    /// queue or an exchange is there and differs.
    pub async fn start(options: Submit) -> Result<Submitter, Error> {
        todo!("stage 2: connect to both, declare the topology, put the channel into confirm mode")
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
        todo!("stage 2: publish, wait for the confirm, then make the task known (stage 6: the key)")
    }

    /// Whether a task could be accepted now, as far as one can tell without submitting one: both brokers
    /// can be reached.
    ///
    /// # Errors
    /// What [`submit`](Self::submit) would fail with.
    pub async fn ready(&self) -> Result<(), Error> {
        todo!(
            "stage 8: is there a connection to RabbitMQ, or can one be had? Does Redis answer? (stage 9: not after the stop)"
        )
    }

    /// Takes no more tasks, waits until those on the way are accepted or not, and closes the connection.
    pub async fn stop(&self) {
        todo!("stage 9: refuse what is new, wait for what is under way, close")
    }
}
