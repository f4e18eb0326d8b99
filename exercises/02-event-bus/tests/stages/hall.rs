//! A bus with listeners whose calls are written down, and publishers that are not waited for for ever.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use event_bus::{BoxError, Bus, Error, Event, HandlerError, Published, Subscribe, Subscription};
use lab::history::What;
use lab::{Failure, Lab, Outcome};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::heard::{Errors, Heard, Key, id};

pub type Handling = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
pub type Work = Arc<dyn Fn(Arc<Event>) -> Handling + Send + Sync>;

/// A bus of this check's own.
#[derive(Clone)]
pub struct Hall {
    pub lab: Lab,
    pub bus: Bus,
    /// The name of the events that most checks are content with.
    pub name: String,
}

/// A subscription whose calls are written down in `heard`.
pub struct Listener {
    pub heard: Heard,
    pub guard: Subscription,
}

impl Hall {
    pub fn new(lab: &Lab) -> Hall {
        Hall {
            lab: lab.clone(),
            bus: Bus::new(),
            name: lab.unique("order.placed"),
        }
    }

    /// Event `n` of publisher `by`, under the hall's name.
    pub fn event(&self, by: u64, n: u64) -> Event {
        event(&self.name, by, n)
    }

    /// Subscribes to the hall's name.
    pub fn listen<F, Fut>(
        &self,
        who: &str,
        options: Subscribe,
        work: F,
    ) -> Result<Listener, Failure>
    where
        F: Fn(Arc<Event>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.listen_to(who, &self.name, options, work)
    }

    /// Subscribes to `pattern`; what the handler does goes into the check's history.
    pub fn listen_to<F, Fut>(
        &self,
        who: &str,
        pattern: &str,
        options: Subscribe,
        work: F,
    ) -> Result<Listener, Failure>
    where
        F: Fn(Arc<Event>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let heard = Heard::new(&self.lab, who);
        let work: Work = Arc::new(move |event| Box::pin(work(event)));
        let noting = heard.clone();
        let handler: Work = Arc::new(move |event| {
            let call = noting.begin(&event);
            let working = work(event);
            Box::pin(async move {
                let outcome = working.await;
                call.ended(outcome.is_ok());
                outcome
            })
        });
        let guard = self.subscribe(pattern, options, handler)?;
        Ok(Listener { heard, guard })
    }

    /// The candidate's `subscribe` is generic. It is compiled for this one type of handler, and not
    /// once for every check, so that a learner who saved a file waits less.
    pub fn subscribe(
        &self,
        pattern: &str,
        options: Subscribe,
        handler: Work,
    ) -> Result<Subscription, Failure> {
        subscribe(&self.bus, pattern, options, handler).map_err(|error| {
            Failure::observed(format!("`subscribe` to `{pattern}` failed: {error}"))
        })
    }

    /// A listener that handles each event at once.
    pub fn quick(&self, who: &str) -> Result<Listener, Failure> {
        self.listen(who, Subscribe::default(), |_event| async { Ok(()) })
    }

    /// A listener whose every call waits at the gate.
    pub fn gated(&self, who: &str, options: Subscribe, gate: &Gate) -> Result<Listener, Failure> {
        let gate = gate.clone();
        self.listen(who, options, move |_event| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                Ok(())
            }
        })
    }

    /// Collects what the error hook is told.
    pub fn errors(&self) -> Errors {
        let errors = Errors::default();
        let told = errors.clone();
        self.bus
            .on_error(move |error: &HandlerError| told.add(error));
        errors
    }

    /// Begins to publish in a task of its own.
    pub fn publishing(&self, event: Event) -> Publishing {
        let bus = self.bus.clone();
        let label = id(crate::heard::key(&event));
        self.lab.history().record("publisher", What::Sent, &label);
        Publishing {
            lab: self.lab.clone(),
            label,
            task: tokio::spawn(async move { bus.publish(event).await }),
        }
    }

    /// Publishes, which must succeed and must not take for ever.
    pub async fn publish(&self, event: Event) -> Result<Published, Failure> {
        self.publishing(event).done().await
    }

    /// Publishes events `from` to `to` of publisher `by`, one after the other.
    pub async fn publish_all(&self, by: u64, from: u64, to: u64) -> Outcome {
        for n in from..=to {
            self.publish(self.event(by, n)).await?;
        }
        Ok(())
    }

    /// Publishes events 1 to `count` of publisher `by` in one task, without a line in the history for each.
    pub fn stream(&self, by: u64, count: u64) -> JoinHandle<Result<(), Error>> {
        let (bus, name) = (self.bus.clone(), self.name.clone());
        tokio::spawn(async move {
            for n in 1..=count {
                bus.publish(event(&name, by, n)).await?;
            }
            Ok(())
        })
    }
}

/// See [`Hall::subscribe`].
pub fn subscribe(
    bus: &Bus,
    pattern: &str,
    options: Subscribe,
    handler: Work,
) -> Result<Subscription, Error> {
    bus.subscribe(pattern, options, move |event| handler(event))
}

/// Event `n` of publisher `by`.
pub fn event(name: &str, by: u64, n: u64) -> Event {
    Event::new(name, serde_json::json!({"by": by, "n": n})).expect("a good name and plain data")
}

/// A publish that is under way.
pub struct Publishing {
    lab: Lab,
    label: String,
    task: JoinHandle<Result<Published, Error>>,
}

impl Publishing {
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Gives up, as a `select!` or a timeout around `publish` would.
    pub async fn abandon(mut self) {
        self.task.abort();
        // Whether it was aborted or had ended just before is the same here.
        let _ = (&mut self.task).await;
    }

    /// What `publish` returned, once it has.
    pub async fn result(mut self) -> Result<Result<Published, Error>, Failure> {
        let what = format!("`publish` of event {} to return", self.label);
        timely(&self.lab, &what, &mut self.task).await
    }

    /// The same where nothing but success will do.
    pub async fn done(self) -> Result<Published, Failure> {
        let label = self.label.clone();
        self.result().await?.map_err(|error| {
            Failure::observed(format!("`publish` of event {label} failed: {error}"))
        })
    }
}

/// Waits for a task, but not for ever. Its panic is said as what it is.
pub async fn timely<T>(lab: &Lab, what: &str, task: &mut JoinHandle<T>) -> Result<T, Failure> {
    let limit = lab.deadline() + lab.stalled();
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(gone)) => Err(Failure::observed(format!(
            "while waiting for {what}, the candidate's code ended with: {gone}"
        ))),
        Err(_) => Err(Failure::observed(format!(
            "waited {limit:.0?} for {what}, in vain"
        ))),
    }
}

/// A gate that handlers wait at. Each call takes one passage.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    /// Lets so many calls pass, those at work and those to come.
    pub fn let_through(&self, calls: usize) {
        self.0.add_permits(calls);
    }

    pub fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets nobody pass any more.
    pub fn close(&self) {
        self.0.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub async fn passed(&self) {
        // The semaphore is never closed.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Long enough for what must not happen to happen on an idle machine.
pub const A_WHILE: Duration = Duration::from_millis(150);

/// Options with this capacity and nothing that ends a call.
pub fn room_for(capacity: usize, overflow: event_bus::Overflow) -> Subscribe {
    Subscribe {
        capacity,
        overflow,
        timeout: None,
    }
}

/// Runs a part of a check on a runtime with so many worker threads.
pub async fn on_threads<Fut>(threads: usize, part: Fut) -> Outcome
where
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build();
        let outcome = match runtime {
            Ok(runtime) => {
                let outcome = runtime.block_on(async {
                    match tokio::spawn(part).await {
                        Ok(outcome) => outcome,
                        Err(gone) => Err(Failure::observed(format!("the check ended: {gone}"))),
                    }
                });
                // A handler that blocks its thread must not keep the check.
                runtime.shutdown_background();
                outcome
            }
            Err(error) => Err(Failure::infrastructure(format!("no runtime: {error}"))),
        };
        let _ = tell.send(outcome);
    });
    told.await
        .unwrap_or_else(|_| Err(Failure::infrastructure("the check's own thread ended")))
}

/// The keys that one publisher's events 1 to `count` have.
pub fn keys(by: u64, count: u64) -> Vec<Key> {
    (1..=count).map(|n| (by, n)).collect()
}
