// Stub f1c6f9b8780d0ff2: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! A service: takes runs from its queue, works them, and answers. However often a run comes, it has one
//! effect; and what a leader publishes who is none any more has none.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::names::Names;
use crate::options::ServiceOptions;
use crate::report::ServiceReport;
use crate::run::Run;

/// What has become of a run at the place where its effect lands.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It has had its effect, now.
    Now,
    /// It had had its effect before, with this result.
    Before(Value),
    /// It is refused: a higher token has written for this job already.
    Stale,
}

/// The place where effects land: the stream [`P:effects`](Names::effects) in Redis. Cheap to clone; after a
/// lost connection the next call connects again.
#[derive(Debug, Clone)]
pub struct Ledger {}

impl Ledger {
    /// Connects. That a run had its effect is remembered for `keep`.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names, keep: Duration) -> Result<Ledger, Error> {
        todo!("stage 5: connect, and remember the rest")
    }

    /// Whether it makes sense to begin with a run: nothing has been written yet if the answer is none,
    /// otherwise it is what [`apply`](Self::apply) would say. Nothing changes.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn look(&self, run: &Run) -> Result<Option<Applied>, Error> {
        todo!("stage 5: the mark, and the highest token of the job")
    }

    /// Lets a run have its effect: an entry in the stream of effects, with the fields `job`,
    /// `scheduled_for` (RFC 3339), `service`, `token`, `attempt` and `result` (JSON).
    ///
    /// In the same atomic step it is looked whether the effect [was there before](Names::done), and whether
    /// a higher token has written for this job ([`P:fence`](Names::fence)): then there is none. What was
    /// there before is said even to a token that is too old. From then on the job's highest token is this
    /// run's, and the run is marked, with its result.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away. It may have had its effect then; asking again
    /// is safe.
    pub async fn apply(&self, run: &Run, result: &Value) -> Result<Applied, Error> {
        todo!("stage 5: one script: a higher token? XADD (stage 6: the mark before, and SET … PX)")
    }
}

/// Works the runs of a service until `stop`, up to `concurrency` side by side, and returns what it did.
///
/// It [adds](crate::Store::add_service) the service, and declares [what it needs](crate::declare_service).
/// For each delivery:
///
/// - If the run [had its effect before](Ledger::look), the same reply goes out again: the first one may have
///   been lost. If its token is too old, the delivery is acknowledged and forgotten: whoever leads now
///   publishes the run again.
/// - Otherwise `handler` works it. If it succeeds, the run [has its effect](Ledger::apply), unless it turns
///   out now that it is too late for that, as above. If it fails or panics, there is none.
/// - The [reply](crate::Reply) goes to the queue that the message names as `reply-to`, or else to
///   [`P.replies`](Names::replies): persistent, mandatory, confirmed, with the correlation id of the
///   message. Only then is the delivery acknowledged. If the reply could not be stored, the delivery goes
///   back to its queue.
/// - What is no run is thrown away.
///
/// While Redis or RabbitMQ is away it tries again, and nothing is acknowledged before it is done. A connection
/// that was lost is opened again.
///
/// At `stop` no more is taken. What has not begun goes back; what runs is waited for. Redis is waited for no
/// longer than some seconds then: what it could not be told goes back.
///
/// # Errors
/// At the start, at once: [`Error::Redis`], [`Error::Amqp`], [`Error::Declared`], [`Error::BadJob`] if the
/// service's name is none. None later.
pub async fn serve<F, Fut>(
    options: ServiceOptions,
    handler: F,
    stop: CancellationToken,
) -> Result<ServiceReport, Error>
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, String>> + Send + 'static,
{
    todo!(
        "stage 6: connect, consume with a prefetch, work each delivery in a task, reply, acknowledge"
    )
}
