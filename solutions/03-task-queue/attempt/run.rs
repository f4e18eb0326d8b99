//! One attempt while it runs.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{LeftToOthers, Workshop};
use crate::context::{Context, Failure, Outcome};
use crate::task::Task;

/// How often an attempt writes its progress, gives a sign of life, and asks whether it still counts.
const LOOK: Duration = Duration::from_millis(250);

/// An attempt that was begun.
pub(super) struct Running<'a> {
    workshop: &'a Workshop,
    task: &'a Task,
    attempt: u32,
    context: Context,
    cancelled: CancellationToken,
    progress: watch::Receiver<u8>,
}

impl<'a> Running<'a> {
    pub fn new(workshop: &'a Workshop, task: &'a Task, attempt: u32) -> Running<'a> {
        let cancelled = CancellationToken::new();
        let (context, progress) = Context::new(task.clone(), attempt, cancelled.clone());
        Running {
            workshop,
            task,
            attempt,
            context,
            cancelled,
            progress,
        }
    }

    /// What the handler says. Nothing if the attempt does not count any more.
    pub async fn outcome(&self) -> Result<Option<Outcome>, LeftToOthers> {
        let handlers = &self.workshop.handlers;
        let context = self.context.clone();
        // However it ends: code that cannot be dropped has to hear of it.
        let _told = self.cancelled.clone().drop_guard();
        let handler = AssertUnwindSafe(async { handlers.call(context).await }).catch_unwind();
        let in_time = async {
            tokio::select! {
                outcome = handler => outcome.unwrap_or_else(|panic| {
                    let why = format!("the handler panicked: {}", text_of(&*panic));
                    Err(Failure::Retry(why))
                }),
                () = until(self.task.deadline) => {
                    Err(Failure::Permanent("its deadline passed while it ran".to_owned()))
                }
            }
        };
        tokio::select! {
            biased;
            outcome = in_time => Ok(Some(outcome)),
            () = self.watch() => Ok(None),
            () = self.workshop.cut.cancelled() => Err(LeftToOthers),
        }
    }

    /// What comes of some work. Meanwhile the attempt gives signs of life.
    pub async fn alive<T>(&self, work: impl Future<Output = T>) -> Result<T, LeftToOthers> {
        let signs = async {
            self.watch().await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            never = signs => match never {},
            () = self.workshop.cut.cancelled() => Err(LeftToOthers),
        }
    }

    /// Writes the progress, and ends when the attempt does not count any more.
    async fn watch(&self) {
        let id = &self.task.id;
        loop {
            tokio::time::sleep(LOOK).await;
            let percent = *self.progress.borrow();
            match self
                .workshop
                .store
                .progress(id, self.attempt, percent)
                .await
            {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => warn!("cannot write the progress of {id}: {error}"),
            }
        }
    }
}

/// Ends at that time; never, if there is none.
async fn until(deadline: Option<SystemTime>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.duration_since(SystemTime::now());
            tokio::time::sleep(left.unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
