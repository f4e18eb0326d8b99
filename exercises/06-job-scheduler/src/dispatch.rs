// Stub 3554195064737bba: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! From the schedule to the services, and their replies back: what is declared in RabbitMQ, and how runs are
//! published so that none is lost.

use lapin::Channel;

use crate::error::Error;
use crate::names::Names;
use crate::run::Run;

/// Declares what nodes need: the durable topic exchange [`P`](Names::exchange), and the durable quorum queue
/// [`P.replies`](Names::replies). Declaring again changes nothing.
///
/// # Errors
/// [`Error::Declared`] if one is there and differs, with its name; it is left as it is.
/// [`Error::Away`] if RabbitMQ does not answer.
pub async fn declare(channel: &Channel, names: &Names) -> Result<(), Error> {
    todo!("stage 3: the exchange, and a quorum queue")
}

/// Declares what a service needs, and what nodes need: its durable quorum queue
/// [`P.service.NAME`](Names::queue), bound to the exchange with its [key](Names::key).
///
/// # Errors
/// As [`declare`].
pub async fn declare_service(channel: &Channel, names: &Names, service: &str) -> Result<(), Error> {
    todo!("stage 3: as above, and a queue with its binding")
}

/// Publishes runs, on a connection of its own. Once that is lost, every call fails.
#[derive(Debug)]
pub struct Dispatcher {}

impl Dispatcher {
    /// Connects and [declares](declare).
    ///
    /// # Errors
    /// [`Error::Amqp`] if RabbitMQ does not let us connect, and those of [`declare`].
    pub async fn connect(amqp: &str, names: &Names) -> Result<Dispatcher, Error> {
        todo!("stage 3: a connection, a channel in confirm mode, declare")
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
        todo!("stage 3: publish all, then wait for all confirms, and see what came back")
    }
}
