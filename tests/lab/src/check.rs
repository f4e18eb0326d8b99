//! A check: a promise as an async function, with the name and the limit it runs under.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{Failure, Lab};

/// What a check says: nothing to object to, or what it saw.
pub type Outcome = Result<(), Failure>;

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One check of a stage. Made by [`checks!`](crate::checks).
#[derive(Clone)]
pub struct Check {
    pub(crate) name: &'static str,
    pub(crate) limit: Duration,
    run: Arc<dyn Fn(Lab) -> Running + Send + Sync>,
}

impl Check {
    /// A check called `name`, which may take 60 seconds.
    pub fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: Fn(Lab) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Check {
            name,
            limit: Duration::from_secs(60),
            run: Arc::new(move |lab| Box::pin(run(lab))),
        }
    }

    /// Sets the time after which the check is given up as too slow, in seconds on an idle
    /// machine. The patience of the run multiplies it. It is there to end what would never end:
    /// no check measures speed.
    pub fn limit_secs(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// The name of the function.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn run(&self, lab: Lab) -> Running {
        (self.run)(lab)
    }
}

/// Lists the checks of a stage: `checks![one_promise, another.limit_secs(120)]`.
#[macro_export]
macro_rules! checks {
    ($($name:ident $(. $setting:ident ( $value:expr ))*),* $(,)?) => {
        vec![$($crate::Check::new(stringify!($name), $name)$(.$setting($value))*),*]
    };
}
