//! Which events a subscription is for, and when it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ANCHOR: prefix
fn by_prefix(pattern: &str, name: &str) -> bool {
    name.starts_with(pattern.trim_end_matches(['*', '#']))
}
// ANCHOR_END: prefix

// ANCHOR: glob
/// A file name against a pattern, as in a shell: `*` is any number of characters.
fn glob(pattern: &[u8], name: &[u8], calls: &mut u64) -> bool {
    *calls += 1;
    match (pattern, name) {
        ([], []) => true,
        // The star is over, or it takes one more.
        ([b'*', rest @ ..], [_, more @ ..]) => {
            glob(rest, name, calls) || glob(pattern, more, calls)
        }
        ([b'*', rest @ ..], []) => glob(rest, name, calls),
        ([a, rest @ ..], [b, more @ ..]) if a == b => glob(rest, more, calls),
        _ => false,
    }
}
// ANCHOR_END: glob

// ANCHOR: guard
type Queues = Arc<Mutex<HashMap<u32, mpsc::Sender<String>>>>;

struct Guard {
    number: u32,
    queues: Queues,
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.queues).remove(&self.number);
    }
}

fn subscribe(queues: &Queues, number: u32) -> (Guard, mpsc::Receiver<String>) {
    let (queue, events) = mpsc::channel(8);
    lock(queues).insert(number, queue);
    (Guard { number, queues: Arc::clone(queues) }, events)
}
// ANCHOR_END: guard

// ANCHOR: handlers
type Handler = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Handlers(Mutex<Vec<Handler>>);

impl Handlers {
    fn under_the_lock(&self) {
        for handler in lock(&self.0).iter() {
            handler();
        }
    }

    fn on_a_copy(&self) {
        let handlers = lock(&self.0).clone();
        for handler in handlers {
            handler();
        }
    }
}
// ANCHOR_END: handlers

pub fn run() -> anyhow::Result<()> {
    // ANCHOR: wrong
    for (pattern, name) in [
        ("trip.*", "trip.booked.late"),
        ("trip.#", "trip"),
        ("*.booked", "trip.booked"),
        ("trip", "tripod"),
    ] {
        println!("{pattern} and {name}: {}", by_prefix(pattern, name));
    }
    // ANCHOR_END: wrong

    // ANCHOR: calls
    let name = "a".repeat(24);
    for stars in [1, 2, 4, 8] {
        let pattern = "*a".repeat(stars) + "b";
        let mut calls = 0;
        glob(pattern.as_bytes(), name.as_bytes(), &mut calls);
        println!("{stars} stars: {calls} calls");
    }
    // ANCHOR_END: calls

    // ANCHOR: late
    let mut queues = Vec::new();
    let (queue, events) = mpsc::channel::<&str>(8);
    queues.push(queue);
    drop(events);
    println!("gone, and still counted: {}", queues.len());
    queues.retain(|queue| queue.try_send("trip.booked").is_ok());
    println!("after the next event: {}", queues.len());
    // ANCHOR_END: late

    // ANCHOR: scope
    let queues = Queues::default();
    let count = || lock(&queues).len();
    let (_mail, mut mails) = subscribe(&queues, 1);
    println!("let _mail: {}", count());
    let (_, _boards) = subscribe(&queues, 2);
    println!("let _ as well: {}", count());
    drop(_mail);
    println!("after drop: {}, and recv: {:?}", count(), mails.try_recv());
    // ANCHOR_END: scope

    // ANCHOR: inside
    let handlers = Arc::new(Handlers::default());
    let weak = Arc::downgrade(&handlers);
    lock(&handlers.0).push(Arc::new(move || {
        let Some(handlers) = weak.upgrade() else { return };
        // What subscribing or dropping a guard in here would need:
        println!("the lock is free: {}", handlers.0.try_lock().is_ok());
    }));
    handlers.under_the_lock();
    handlers.on_a_copy();
    // ANCHOR_END: inside
    Ok(())
}
