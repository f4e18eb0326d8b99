//! What handlers and the error hook were told, in order.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use event_bus::{Event, HandlerError, HandlerFailure};
use lab::history::What;
use lab::{Failure, Lab, Outcome};

/// Publisher and number of an event.
pub type Key = (u64, u64);

/// Lines in the history beyond which nobody reads it.
const LINES: usize = 400;

/// The key in an event's data.
pub fn key(event: &Event) -> Key {
    let number = |field: &str| event.data[field].as_u64().unwrap_or_default();
    (number("by"), number("n"))
}

/// How messages call an event: `1-3` is the third one of publisher 1.
pub fn id((by, n): Key) -> String {
    format!("{by}-{n}")
}

/// At most five of them, for a message a person reads.
pub fn some(keys: &[Key]) -> String {
    let names: Vec<String> = keys.iter().copied().map(id).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        few if few.len() <= 5 => few.join(", "),
        many => format!("{}, … ({} in all)", many[..5].join(", "), many.len()),
    }
}

/// The calls of one handler.
#[derive(Clone)]
pub struct Heard {
    lab: Lab,
    who: Arc<str>,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Default)]
struct Calls {
    begun: Vec<Key>,
    ended: Vec<Key>,
    at_work: usize,
    most_at_work: usize,
    events: Vec<Weak<Event>>,
}

impl Heard {
    pub fn new(lab: &Lab, who: &str) -> Heard {
        Heard {
            lab: lab.clone(),
            who: who.into(),
            calls: Arc::default(),
        }
    }

    /// A call begins; it is over when what this returns is dropped.
    pub fn begin(&self, event: &Arc<Event>) -> Call {
        let key = key(event);
        let mut calls = self.lock();
        if calls.begun.len() < LINES {
            let started = What::Started { deliveries: 0 };
            self.lab.history().record(&self.who, started, &id(key));
        }
        calls.begun.push(key);
        calls.events.push(Arc::downgrade(event));
        calls.at_work += 1;
        calls.most_at_work = calls.most_at_work.max(calls.at_work);
        Call {
            heard: self.clone(),
            key,
        }
    }

    fn end(&self, key: Key, well: bool) {
        let mut calls = self.lock();
        if calls.ended.len() < LINES {
            let what = if well { What::Succeeded } else { What::Failed };
            self.lab.history().record(&self.who, what, &id(key));
        }
        calls.ended.push(key);
    }

    /// What the calls that have begun were about, in order.
    pub fn begun(&self) -> Vec<Key> {
        self.lock().begun.clone()
    }

    /// What the calls that have ended were about, in order.
    pub fn ended(&self) -> Vec<Key> {
        self.lock().ended.clone()
    }

    pub fn count(&self) -> usize {
        self.lock().begun.len()
    }

    /// How many calls were at work at the same time, at most.
    pub fn most_at_work(&self) -> usize {
        self.lock().most_at_work
    }

    /// How many of the events that this handler was given are still held by somebody.
    pub fn alive(&self) -> usize {
        let calls = self.lock();
        calls.events.iter().filter(|e| e.strong_count() > 0).count()
    }

    /// Waits until `count` calls have begun.
    pub async fn until_begun(&self, count: usize) -> Outcome {
        let what = format!("{} calls of {}'s handler to begin", count, self.who);
        self.until(&what, |calls| calls.begun.len() >= count).await
    }

    /// Waits until `count` calls have ended.
    pub async fn until_ended(&self, count: usize) -> Outcome {
        let what = format!("{} calls of {}'s handler to end", count, self.who);
        self.until(&what, |calls| calls.ended.len() >= count).await
    }

    async fn until(&self, what: &str, reached: impl Fn(&Calls) -> bool) -> Outcome {
        // Who gets on is given more time: only standing still is held against it.
        loop {
            let before = self.count();
            let look = || async { Ok(reached(&self.lock()).then_some(())) };
            match self.lab.eventually(what, look).await {
                Err(_) if self.count() > before => {}
                Err(failure) => {
                    let calls = self.lock();
                    return Err(failure.also(format!(
                        "{} calls have begun and {} have ended; the last begun: {}",
                        calls.begun.len(),
                        calls.ended.len(),
                        calls.begun.last().copied().map_or("none".into(), id)
                    )));
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Holds what was begun to exactly these events in this order. What came as a whole, in another
    /// order, is a mistake of its own.
    pub fn exactly(&self, expected: &[Key], code: impl lab::Code) -> Outcome {
        let begun = self.begun();
        if begun == expected {
            return Ok(());
        }
        let code = match begun.len() == expected.len() && missing(expected, &begun).is_empty() {
            true => Some("EB04"),
            false => code.code(),
        };
        let at = begun.iter().zip(expected).position(|(a, b)| a != b);
        let at = at.unwrap_or(begun.len().min(expected.len()));
        let said = |keys: &[Key]| keys.get(at).copied().map_or("nothing".to_owned(), id);
        Err(Failure::observed(format!(
            "{} was called {} times where {} events were published for it; call {} was to be for {} and was for {}",
            self.who,
            begun.len(),
            expected.len(),
            at + 1,
            said(expected),
            said(&begun),
        ))
        .code_if(code))
    }

    /// Holds what was begun to these events, each once, and each publisher's in its order.
    pub fn in_order_of_publishers(&self, expected: &[Key], code: impl lab::Code) -> Outcome {
        let begun = self.begun();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (by, n) in &begun {
            let before = last.insert(*by, *n);
            if before.is_some_and(|before| before >= *n) {
                return Err(Failure::observed(format!(
                    "{} was called for event {} after it had been called for event {}, which the same publisher published later",
                    self.who,
                    id((*by, *n)),
                    id((*by, before.unwrap_or_default()))
                ))
                .code_if(code));
            }
        }
        let missing = missing(expected, &begun);
        lab::ensure!(
            missing.is_empty() && begun.len() == expected.len(),
            "{} was called for {} of {} events; not for {}",
            self.who,
            begun.len(),
            expected.len(),
            some(&missing)
        );
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that has begun.
pub struct Call {
    heard: Heard,
    key: Key,
}

impl Call {
    /// It ended by itself.
    pub fn ended(self, well: bool) {
        self.heard.end(self.key, well);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.heard.lock().at_work -= 1;
    }
}

/// What of `expected` is not in `found`.
pub fn missing(expected: &[Key], found: &[Key]) -> Vec<Key> {
    let found: HashSet<&Key> = found.iter().collect();
    let lost = expected.iter().filter(|key| !found.contains(key));
    lost.copied().collect()
}

/// Pattern, event and failure. The event itself is not kept: who counts the living would count it.
pub type Told = (String, Key, HandlerFailure);

/// What the error hook was told.
#[derive(Clone, Default)]
pub struct Errors(Arc<Mutex<Vec<Told>>>);

impl Errors {
    pub fn add(&self, error: &HandlerError) {
        let told = (
            error.pattern.clone(),
            key(&error.event),
            error.failure.clone(),
        );
        self.lock().push(told);
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Pattern, event and failure of each, by event: nobody promises in which order the hook is told.
    pub fn all(&self) -> Vec<Told> {
        let mut told = self.lock().clone();
        told.sort_by_key(|told| told.1);
        told
    }

    /// Waits until the hook was told of `count` failures.
    pub async fn until(&self, lab: &Lab, count: usize) -> Outcome {
        let what = format!("the error hook to be told of {count} failures");
        lab.eventually(&what, || async {
            Ok((self.count() >= count).then_some(()))
        })
        .await
        .map_err(|failure| failure.also(format!("it was told of {}", self.count())))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts how many clones of it live: captured by a handler it tells when that is gone.
#[derive(Clone, Default)]
pub struct Token(Arc<()>);

impl Token {
    /// How many others there are.
    pub fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Waits until this is the last one.
    pub async fn until_alone(&self, lab: &Lab, what: &str) -> Outcome {
        lab.eventually(what, || async { Ok((self.others() == 0).then_some(())) })
            .await
    }
}
