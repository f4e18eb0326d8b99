//! From the first publish until every subscriber has handled every event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use event_bus::{Bus, Event, Subscribe};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, broadcast, mpsc};

/// Events of one measurement.
const EVENTS: usize = 1_000;
/// How many may wait for one subscriber.
const CAPACITY: usize = 1_024;
const NAME: &str = "order.placed";

pub fn measure(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("publish 1,000 events");
    for subscribers in [1, 10, 100] {
        group.throughput(Throughput::Elements((EVENTS * subscribers) as u64));
        group.bench_function(BenchmarkId::new("bus", subscribers), |bencher| {
            bencher
                .to_async(runtime)
                .iter_custom(|times| bus(times, subscribers));
        });
        group.bench_function(BenchmarkId::new("broadcast", subscribers), |bencher| {
            bencher
                .to_async(runtime)
                .iter_custom(|times| by_broadcast(times, subscribers));
        });
        group.bench_function(BenchmarkId::new("mpsc", subscribers), |bencher| {
            bencher
                .to_async(runtime)
                .iter_custom(|times| by_mpsc(times, subscribers));
        });
    }
    group.finish();
}

async fn bus(times: u64, subscribers: usize) -> Duration {
    let count = Arc::new(Count::default());
    let bus = Bus::new();
    for _ in 0..subscribers {
        let count = Arc::clone(&count);
        let options = Subscribe {
            capacity: CAPACITY,
            ..Subscribe::default()
        };
        let handler = move |event: Arc<Event>| {
            let count = Arc::clone(&count);
            async move {
                count.add(&event);
                Ok(())
            }
        };
        bus.subscribe(NAME, options, handler)
            .expect("a subscription")
            .keep();
    }
    let event = event();
    let start = Instant::now();
    for _ in 0..times {
        for _ in 0..EVENTS {
            bus.publish(event.clone()).await.expect("published");
        }
        count.wait_for(EVENTS * subscribers).await;
    }
    start.elapsed()
}

/// One channel for all. It never waits, so it has to be large enough.
async fn by_broadcast(times: u64, subscribers: usize) -> Duration {
    let count = Arc::new(Count::default());
    let (sender, _) = broadcast::channel::<Arc<Event>>(EVENTS);
    for _ in 0..subscribers {
        let (mut receiver, count) = (sender.subscribe(), Arc::clone(&count));
        tokio::spawn(async move {
            while let Ok(event) = receiver.recv().await {
                count.add(&event);
            }
        });
    }
    let event = event();
    let start = Instant::now();
    for _ in 0..times {
        for _ in 0..EVENTS {
            sender.send(Arc::new(event.clone())).expect("receivers");
        }
        count.wait_for(EVENTS * subscribers).await;
    }
    start.elapsed()
}

/// A channel for each subscriber.
async fn by_mpsc(times: u64, subscribers: usize) -> Duration {
    let count = Arc::new(Count::default());
    let mut senders = Vec::new();
    for _ in 0..subscribers {
        let (sender, mut receiver) = mpsc::channel::<Arc<Event>>(CAPACITY);
        let count = Arc::clone(&count);
        senders.push(sender);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                count.add(&event);
            }
        });
    }
    let event = event();
    let start = Instant::now();
    for _ in 0..times {
        for _ in 0..EVENTS {
            let event = Arc::new(event.clone());
            for sender in &senders {
                sender.send(Arc::clone(&event)).await.expect("a receiver");
            }
        }
        count.wait_for(EVENTS * subscribers).await;
    }
    start.elapsed()
}

pub fn event() -> Event {
    let data = json!({"order": "A-1763917200", "amount": 1299, "item": "tea"});
    Event::new(NAME, data).expect("an event")
}

/// How many events were handled since somebody last waited for all of them.
#[derive(Default)]
struct Count {
    handled: AtomicUsize,
    changed: Notify,
}

impl Count {
    fn add(&self, event: &Event) {
        std::hint::black_box(&event.data);
        // Once in a thousand is enough to be woken, since the last of them is a thousandth.
        if (self.handled.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(EVENTS) {
            self.changed.notify_one();
        }
    }

    async fn wait_for(&self, all: usize) {
        while self.handled.load(Ordering::Acquire) < all {
            self.changed.notified().await;
        }
        self.handled.store(0, Ordering::Release);
    }
}
