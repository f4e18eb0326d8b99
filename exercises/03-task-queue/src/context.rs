//! Handlers: the functions that do the work, and what they are given.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::task::Task;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// No attempt ever will.
    #[error("{0}")]
    Permanent(String),
}

/// One attempt at a task, as its handler sees it. Clones are the same attempt.
#[derive(Debug, Clone)]
pub struct Context {
    task: Arc<Task>,
    attempt: u32,
    progress: watch::Sender<u8>,
    cancelled: CancellationToken,
}

impl Context {
    /// The attempt with this number, counted from 1. `cancelled` tells the handler that nobody wants its
    /// result any more. The receiver gets each change of the progress; it begins at 0.
    pub fn new(
        task: Task,
        attempt: u32,
        cancelled: CancellationToken,
    ) -> (Context, watch::Receiver<u8>) {
        let (progress, receiver) = watch::channel(0);
        let context = Context {
            task: Arc::new(task),
            attempt,
            progress,
            cancelled,
        };
        (context, receiver)
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.task.id
    }

    /// The task's kind.
    pub fn kind(&self) -> &str {
        &self.task.kind
    }

    /// What the handler is to work on.
    pub fn payload(&self) -> &Value {
        &self.task.payload
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says how far the work is, in percent: more than 100 counts as 100, less than was said before is
    /// passed over. Does not wait, so it may be called from any thread.
    pub fn progress(&self, percent: u8) {
        self.progress.send_if_modified(|known| {
            let percent = percent.min(100);
            let is_more = percent > *known;
            if is_more {
                *known = percent;
            }
            is_more
        });
    }

    /// Whether nobody wants the result any more. For code that cannot be dropped at an `await`.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Ends when nobody wants the result any more.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

/// What a handler returns.
pub type Outcome = Result<Value, Failure>;

type Handler = Arc<dyn Fn(Context) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Handlers by the kind of task they do.
#[derive(Clone, Default)]
pub struct Handlers(BTreeMap<String, Handler>);

impl Handlers {
    /// None yet.
    pub fn new() -> Handlers {
        Handlers::default()
    }

    /// Adds the handler of a kind; it takes the place of one that was there.
    pub fn on<F, R>(mut self, kind: impl Into<String>, handler: F) -> Handlers
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let handler = move |context| handler(context).boxed();
        self.0.insert(kind.into(), Arc::new(handler));
        self
    }

    /// The kinds that have a handler, in alphabetical order.
    pub fn kinds(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Whether there is a handler for this kind.
    pub fn knows(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// Calls the handler of the context's kind. The call itself may panic, and so may the future; a kind
    /// without a handler is a permanent failure.
    pub fn call(&self, context: Context) -> BoxFuture<'static, Outcome> {
        match self.0.get(context.kind()) {
            Some(handler) => handler(context),
            None => {
                let why = format!("nobody here does tasks of the kind `{}`", context.kind());
                futures::future::ready(Err(Failure::Permanent(why))).boxed()
            }
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handlers").field(&self.kinds()).finish()
    }
}
