// solution only
//! The error hook of a bus.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;

use crate::report::HandlerError;

type Told = Arc<dyn Fn(&HandlerError) + Send + Sync>;

/// Who is told, if anybody.
#[derive(Default)]
pub struct Hook(RwLock<Option<Told>>);

impl Hook {
    pub fn set(&self, told: Told) {
        let before = self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(told);
        // Only now, without the lock: it may hold anything.
        drop(before);
    }

    /// Tells, in the caller's task and with no lock held.
    pub fn tell(&self, error: &HandlerError) {
        let told = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match told {
            // A panic has been reported by the panic hook. It is nobody else's affair.
            Some(told) => drop(catch_unwind(AssertUnwindSafe(|| told(error)))),
            None => tracing::warn!("{error}"),
        }
    }

    /// Tells in a task of its own: whoever publishes does not wait for the hook.
    pub fn tell_later(self: &Arc<Self>, runtime: &Handle, error: HandlerError) {
        let hook = Arc::clone(self);
        runtime.spawn(async move { hook.tell(&error) });
    }
}
// end solution only
