//! Stage 5, continued: dead letters are complete, and retries leave other workers' entries alone.

use std::sync::Arc;
use std::time::Duration;

use lab::{Check, Failure, Lab, Outcome, ensure};
use stream_queue::{Consumer, DeadLetters, WorkOptions};

use crate::queue::{Gate, Queue, Seen, on_a_fair_clock};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_dead_letter_is_the_entry_byte_for_byte,
        dead_letters_are_never_trimmed,
        a_refused_dead_letter_leaves_the_entry_pending,
        an_entry_in_other_hands_is_not_given_up,
        a_retry_leaves_an_entry_in_other_hands_alone,
        an_entry_that_waits_for_its_retry_is_kept,
        a_panic_before_the_first_await_is_a_failure_too,
        a_retry_takes_the_slot_of_the_read_under_way,
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The newest entry's fields as a list: names may repeat, and order counts.
async fn newest(queue: &Queue, stream: &str) -> Result<Pairs, Failure> {
    let mut rows: Vec<(String, Pairs)> = redis::cmd("XREVRANGE")
        .arg(&[stream, "+", "-", "COUNT", "1"])
        .query_async(&mut queue.direct())
        .await?;
    Ok(rows.pop().map(|(_, pairs)| pairs).unwrap_or_default())
}

fn shown(pairs: &Pairs) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
        .collect::<Vec<_>>()
        .join(" ")
}

async fn a_dead_letter_is_the_entry_byte_for_byte(lab: Lab) -> Outcome {
    lab.promise("A dead letter has all fields of the entry, byte for byte and in their order, names that repeat included, and after them `_id`, `_deliveries` and `_reason`. A retry puts back exactly what was there.");
    let queue = Queue::new(&lab).await?;
    let original: Pairs = [
        (&b"size"[..], &b"1"[..]),
        (b"scan", b"\xff\x00\x80"),
        (b"size", b"2"),
        (b"_id", b"mine"),
        (b"_reason", b"a field of the sender"),
        (b"", b""),
    ]
    .map(|(name, value)| (name.to_vec(), value.to_vec()))
    .to_vec();
    let mut add = redis::cmd("XADD");
    add.arg(&queue.stream).arg("*");
    for (name, value) in &original {
        add.arg(name).arg(value);
    }
    let id: String = add.query_async(&mut queue.direct()).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let Some(entry) = consumer.read(1, Duration::from_millis(50)).await?.pop() else {
        lab::fail!("one entry was in the stream, and `read` returned none")
    };
    consumer.dead_letter(&entry, "gave up").await?;
    let letter = newest(&queue, &queue.dead_stream()).await?;
    let mut expected = original.clone();
    for (name, value) in [
        ("_id", id.as_str()),
        ("_deliveries", "1"),
        ("_reason", "gave up"),
    ] {
        expected.push((name.into(), value.into()));
    }
    ensure!(
        letter == expected,
        "the entry was\n{}\nand its dead letter is\n{}\nwhere this was promised:\n{}",
        shown(&original),
        shown(&letter),
        shown(&expected)
    );
    let mut letters = DeadLetters::connect(&queue.redis.url(), &queue.stream).await?;
    let Some(listed) = letters.list(10).await?.pop() else {
        lab::fail!("one dead letter is there, and `list` is empty")
    };
    ensure!(
        listed.original_id == id && listed.reason == "gave up" && listed.deliveries == 1,
        "the entry had fields `_id` and `_reason` of its own; the letter is listed as {} with the reason {:?}, and it is {id}, \"gave up\"",
        listed.original_id,
        listed.reason
    );
    letters.retry(&listed.id).await?;
    let back = newest(&queue, &queue.stream).await?;
    ensure!(
        back == original,
        "the entry was\n{}\nand after a retry it is\n{}",
        shown(&original),
        shown(&back)
    );
    Ok(())
}

async fn dead_letters_are_never_trimmed(lab: Lab) -> Outcome {
    lab.promise(
        "A dead letter stays until somebody retries or drops it. Another one does not push it out.",
    );
    let queue = Queue::new(&lab).await?;
    let old = queue.on_stream(&queue.dead_stream());
    old.put(20_000).await?;
    queue.put(1).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    for entry in consumer.read(1, Duration::from_millis(50)).await? {
        consumer.dead_letter(&entry, "gave up").await?;
    }
    let there = old.length().await?;
    ensure!(
        there == 20_001,
        "SQ09",
        "20,000 dead letters were there, one more was added, and now there are {there}"
    );
    Ok(())
}

async fn a_refused_dead_letter_leaves_the_entry_pending(lab: Lab) -> Outcome {
    lab.promise("When Redis refuses the dead letter (something else lives under that key), the entry is not acknowledged either: the error is returned, and the entry stays pending.");
    let queue = Queue::new(&lab).await?;
    queue.put(1).await?;
    let _: () = redis::cmd("SET")
        .arg(&[&queue.dead_stream(), "no stream"])
        .query_async(&mut queue.direct())
        .await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let Some(entry) = consumer.read(1, Duration::from_millis(50)).await?.pop() else {
        lab::fail!("one entry was in the stream, and `read` returned none")
    };
    let moved = consumer.dead_letter(&entry, "gave up").await;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == [entry.id.clone()],
        "SQ19",
        "a string lives under the dead letters' key, so entry {} could not be moved; it is not pending any more either, and so it is lost",
        entry.id
    );
    ensure!(
        moved.is_err(),
        "the entry could not be moved, and `dead_letter` returned {moved:?}"
    );
    Ok(())
}

async fn an_entry_in_other_hands_is_not_given_up(lab: Lab) -> Outcome {
    lab.promise("A worker gives up only what is its own: when another consumer has taken the entry, that one decides. `dead_letter` returns false and changes nothing.");
    let queue = Queue::new(&lab).await?;
    queue.put(1).await?;
    let was = Consumer::connect(&queue.options("was")).await?;
    was.create_group().await?;
    let Some(entry) = was.read(1, Duration::from_millis(50)).await?.pop() else {
        lab::fail!("one entry was in the stream, and `read` returned none")
    };
    queue
        .age("is", std::slice::from_ref(&entry.id), Duration::ZERO, 2)
        .await?;
    let moved = was.dead_letter(&entry, "gave up").await?;
    let (dead, pending) = (queue.dead().await?.len(), queue.pending().await?);
    ensure!(
        dead == 0 && pending.len() == 1 && pending[0].consumer == "is",
        "SQ23",
        "`is` has taken {} over and is at work on it; `dead_letter` of `was` moved it away: {dead} dead letters, pending: {pending:?}",
        entry.id
    );
    ensure!(
        !moved,
        "`dead_letter` returned true for an entry that belongs to another consumer"
    );
    Ok(())
}

async fn a_retry_leaves_an_entry_in_other_hands_alone(lab: Lab) -> Outcome {
    lab.promise("When the time for a retry has come and another consumer holds the entry by then, it is left to that one.");
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let seen = Seen::default();
    let handled = seen.clone();
    let delay = Duration::from_millis(900);
    let options = WorkOptions {
        first_retry: delay,
        longest_retry: delay,
        ..queue.options("was")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        async { Err("not now".to_owned()) }
    });
    queue
        .until(&mut [&mut worker], "the first try to fail", || async {
            Ok(seen.count() == 1)
        })
        .await?;
    queue
        .age("is", std::slice::from_ref(&id), Duration::ZERO, 2)
        .await?;
    if seen.count() > 1 {
        return Err(Failure::infrastructure(
            "the machine was held up for longer than the pause before the retry; run it again",
        ));
    }
    lab.within(delay * 5 / 2).await;
    let pending = queue.pending().await?;
    ensure!(
        seen.count() == 1 && pending.len() == 1 && pending[0].consumer == "is",
        "SQ23",
        "`is` took {id} over while `was` waited to try it again; `was` started its handler {} times in all, and Redis says {pending:?}",
        seen.count()
    );
    Ok(())
}

async fn an_entry_that_waits_for_its_retry_is_kept(lab: Lab) -> Outcome {
    lab.promise("An entry that waits for its next try belongs to a living worker: it is kept like one that is at work, so that nobody takes it for abandoned, and its delay holds.");
    on_a_fair_clock(&lab, [600, 2_000, 6_000], |visibility| {
        waiting(lab.clone(), visibility)
    })
    .await
}

async fn waiting(lab: Lab, visibility: Duration) -> Outcome {
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let seen = Seen::default();
    let start = |consumer: &str| {
        let seen = seen.clone();
        let options = WorkOptions {
            visibility,
            first_retry: HOUR,
            longest_retry: HOUR,
            ..queue.options(consumer)
        };
        queue.worker_with(options, move |entry| {
            seen.add(&entry);
            async { Err("not now".to_owned()) }
        })
    };
    let mut first = start("first");
    queue
        .until(&mut [&mut first], "the first try to fail", || async {
            Ok(seen.count() == 1)
        })
        .await?;
    let _second = start("second");
    lab.within(visibility * 7 / 2).await;
    let pending = queue.pending().await?;
    ensure!(
        seen.count() == 1
            && pending.len() == 1
            && pending[0].consumer == "first"
            && pending[0].deliveries == 1,
        "SQ14",
        "entry {id} failed once and waits an hour for its next try at `first`, which is alive; after three and a half visibility timeouts its handler was started {} times, and Redis says {pending:?}",
        seen.count()
    );
    Ok(())
}

async fn a_panic_before_the_first_await_is_a_failure_too(lab: Lab) -> Outcome {
    lab.promise("A handler may panic as soon as it is called, before it returns its future. That is a failed delivery as well, with the panic's text as the reason.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(4).await?;
    let bad = ids[1].clone();
    let options = WorkOptions {
        max_deliveries: 2,
        first_retry: Duration::from_millis(20),
        ..queue.options("c1")
    };
    let mut worker = queue.worker_called(
        options,
        Arc::new(move |entry| {
            if entry.id == bad {
                let order = entry.fields.get("order_id").cloned().unwrap_or_default();
                panic!("no such order: {order}");
            }
            Box::pin(async { Ok(()) })
        }),
    );
    queue.until(&mut [&mut worker], "three entries to be acknowledged, and the one whose handler panics when called to be dead-lettered", || async {
        Ok(queue.dead().await?.len() == 1 && queue.pending().await?.is_empty() && queue.undelivered().await? == 0)
    }).await?;
    worker.finish(&lab).await?;
    let letter = &queue.dead().await?[0];
    ensure!(
        letter.text("_id") == ids[1] && letter.text("_reason").contains("no such order: A-1"),
        "the handler of {} panicked with \"no such order: A-1\"; the dead letter says `_id` {:?}, `_reason` {:?}",
        ids[1],
        letter.text("_id"),
        letter.text("_reason")
    );
    Ok(())
}

async fn a_retry_takes_the_slot_of_the_read_under_way(lab: Lab) -> Outcome {
    lab.promise("Never more than `concurrency` entries are at work in a worker or delivered to it for the first time: a retry that falls due while a read is under way needs a slot, and the read may bring an entry at any moment.");
    let queue = Queue::new(&lab).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let (waiting, started) = (gate.clone(), seen.clone());
    let options = WorkOptions {
        first_retry: Duration::from_millis(300),
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        started.add(&entry);
        let gate = waiting.clone();
        async move {
            if entry.deliveries == 1 {
                return Err("not at the first try".to_owned());
            }
            gate.passed().await;
            Ok(())
        }
    });
    queue.put(1).await?;
    queue
        .until(
            &mut [&mut worker],
            "the second try to be at work",
            || async { Ok(seen.count() == 2) },
        )
        .await?;
    queue.waits_without_a_slot("c1").await?;
    gate.open();
    worker.finish(&lab).await?;
    Ok(())
}
