//! Stage 5: retries that end, and a place for what cannot be handled.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::faults::{Action, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure};
use stream_queue::{Consumer, DeadLetters, RawEntry, WorkOptions, retry_delay};

use crate::queue::{Queue, Seen, some, sound, undisturbed};

pub fn checks() -> Vec<Check> {
    lab::checks![
        delays_double_up_to_the_longest,
        a_failing_entry_is_tried_as_often_as_allowed_and_then_dead_lettered,
        a_retry_waits_for_its_delay,
        a_poison_entry_holds_up_no_other,
        what_cannot_be_decoded_goes_there_at_once,
        an_entry_that_kills_its_workers_is_given_up,
        dead_lettering_is_one_step_at_every_crash_point,
        an_entry_that_is_no_longer_pending_is_not_dead_lettered,
        dead_letters_can_be_listed_retried_and_dropped,
        a_panic_is_a_failure_like_any_other,
        a_command_that_fails_is_a_failed_delivery,
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn delays_double_up_to_the_longest(lab: Lab) -> Outcome {
    lab.promise("`retry_delay` is at least `first_retry`, doubled with every delivery, at most half as much again, and never above `longest_retry`, for any count.");
    let options = WorkOptions {
        first_retry: Duration::from_millis(100),
        longest_retry: Duration::from_secs(20),
        ..WorkOptions::new("redis://127.0.0.1", "s", "g", "c")
    };
    for deliveries in (1..=70).chain([1_000, u64::from(u32::MAX) + 1, u64::MAX]) {
        let factor = 2f64.powi(i32::try_from(deliveries - 1).unwrap_or(i32::MAX));
        let least = options.first_retry.as_secs_f64() * factor;
        let least = least.min(options.longest_retry.as_secs_f64());
        let most = (least * 1.5).min(options.longest_retry.as_secs_f64());
        for _ in 0..20 {
            let delay = retry_delay(&options, deliveries).as_secs_f64();
            ensure!(
                delay > least - 0.000_5 && delay < most + 0.000_5,
                "after delivery {deliveries} the delay was {delay:.4} s; with 100 ms doubled each time and 20 s at most it is between {least:.4} s and {most:.4} s"
            );
        }
    }
    let delays: std::collections::HashSet<Duration> =
        (0..50).map(|_| retry_delay(&options, 4)).collect();
    ensure!(
        delays.len() > 1,
        "fifty delays after delivery 4 were all the same, {:?}; a random part keeps entries that failed together from coming back together",
        retry_delay(&options, 4)
    );
    Ok(())
}

/// A worker whose handler always fails with `reason`.
fn failing(
    queue: &Queue,
    options: WorkOptions,
    seen: &Seen,
    reason: &'static str,
) -> crate::queue::Worker {
    let handled = seen.clone();
    queue.worker_with(options, move |entry| {
        handled.add(&entry);
        async move { Err(reason.to_owned()) }
    })
}

async fn a_failing_entry_is_tried_as_often_as_allowed_and_then_dead_lettered(lab: Lab) -> Outcome {
    lab.promise("An entry that fails every time is delivered `max_deliveries` times, counted by Redis. Then it is in the dead-letter stream, with its fields, its id, the count and the reason, and no longer pending: never both, never neither.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(2).await?;
    let seen = Seen::default();
    let options = WorkOptions {
        max_deliveries: 3,
        first_retry: Duration::from_millis(30),
        concurrency: 2,
        ..queue.options("c1")
    };
    let mut worker = failing(&queue, options, &seen, "card declined: limit");
    let outcome = queue.until(&mut [&mut worker], "both entries to be tried three times, dead-lettered and acknowledged", || async {
        if seen.count() > 6 {
            return Err(Failure::observed(format!("`max_deliveries` is 3, and the handlers of two entries were started {} times", seen.count())).code("SQ12"));
        }
        Ok(queue.dead().await?.len() >= 2 && queue.pending().await?.is_empty())
    }).await;
    if let Err(failure) = outcome {
        let (dead, pending, tries) = (
            queue.dead().await?.len(),
            queue.pending().await?,
            seen.count(),
        );
        let in_place = seen.all().iter().skip(2).any(|entry| entry.deliveries == 1);
        let code = match (dead, pending.len()) {
            (0, 0) => Some("SQ08"),
            (2.., 1..) => Some("SQ07"),
            (_, 1..) if in_place => Some("SQ12"),
            _ => None,
        };
        return Err(failure.code_if(code).also(format!(
            "handlers started: {tries}; dead letters: {dead}; still pending: {}",
            pending
                .iter()
                .map(|entry| format!("{} after {} deliveries", entry.id, entry.deliveries))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    worker.finish(&lab).await?;
    for id in &ids {
        let counts: Vec<u64> = seen
            .all()
            .into_iter()
            .filter(|entry| entry.id == *id)
            .map(|entry| entry.deliveries)
            .collect();
        let code = if counts.iter().all(|count| *count == 1) {
            "SQ12"
        } else {
            "SQ15"
        };
        ensure!(
            counts == [1, 2, 3],
            code,
            "entry {id} should be tried with `deliveries` 1, 2 and 3; its handler saw {counts:?}"
        );
    }
    let dead = queue.dead().await?;
    ensure!(
        dead.len() == 2,
        "SQ19",
        "two entries failed, and the dead-letter stream holds {}",
        dead.len()
    );
    for letter in &dead {
        let id = letter.text("_id");
        ensure!(
            ids.contains(&id),
            "a dead letter says `_id` {id:?}, which is no entry of this stream"
        );
        ensure!(
            letter.text("_deliveries") == "3",
            "entry {id} was delivered three times; its dead letter says `_deliveries` {:?}",
            letter.text("_deliveries")
        );
        ensure!(
            letter.text("_reason").contains("card declined: limit"),
            "the handler failed with \"card declined: limit\"; the dead letter says `_reason` {:?}",
            letter.text("_reason")
        );
        ensure!(
            letter.text("user_id") == "42"
                && letter.text("amount") == "12.50"
                && letter.text("order_id").starts_with("A-")
                && letter.fields.len() == 6,
            "a dead letter carries the original fields and `_id`, `_deliveries`, `_reason`; this one has {:?}",
            letter
                .fields
                .keys()
                .map(|name| String::from_utf8_lossy(name))
                .collect::<Vec<_>>()
        );
    }
    Ok(())
}

async fn a_retry_waits_for_its_delay(lab: Lab) -> Outcome {
    lab.promise("Between a failed delivery and the next one lies at least the delay for that count, so a struggling service is given time.");
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let first = Duration::from_millis(80);
    let failed: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
    let times = Arc::clone(&failed);
    let options = WorkOptions {
        max_deliveries: 4,
        first_retry: first,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |_entry| {
        let times = Arc::clone(&times);
        async move {
            let now = Instant::now();
            times
                .lock()
                .expect("no panic under this lock")
                .push((now, now));
            Err("not now".to_owned())
        }
    });
    queue
        .until(
            &mut [&mut worker],
            "the entry to be tried four times",
            || async { Ok(failed.lock().expect("no panic under this lock").len() >= 4) },
        )
        .await?;
    let times = failed.lock().expect("no panic under this lock").clone();
    for (n, pair) in times.windows(2).enumerate() {
        let gap = pair[1].0 - pair[0].1;
        let least = first * 2u32.pow(n as u32);
        ensure!(
            gap + Duration::from_millis(2) >= least,
            "SQ12",
            "delivery {} of {id} came {gap:?} after the one before had failed; with `first_retry` {first:?} it waits at least {least:?}",
            n + 2
        );
    }
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_poison_entry_holds_up_no_other(lab: Lab) -> Outcome {
    lab.promise("While failed entries wait for their next try, the others are handled, even by a worker with a single slot.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(24).await?;
    let poison: Vec<String> = ids[..4].to_vec();
    let seen = Seen::default();
    let (handled, bad) = (seen.clone(), poison.clone());
    let options = WorkOptions {
        first_retry: HOUR,
        longest_retry: HOUR,
        max_deliveries: 3,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        let fails = bad.contains(&entry.id);
        async move {
            if fails {
                Err("never works".to_owned())
            } else {
                Ok(())
            }
        }
    });
    let outcome = queue.until(&mut [&mut worker], "20 good entries to be handled and acknowledged, behind four that failed and wait an hour for their next try", || async {
        Ok(seen.distinct() == 24 && queue.pending().await?.len() <= 4)
    }).await;
    if let Err(failure) = outcome {
        return Err(failure
            .code_if(Some("SQ12"))
            .also(format!("{} of 24 entries were started", seen.distinct())));
    }
    let waiting = queue.pending_ids().await?;
    ensure!(
        waiting == poison,
        "SQ08",
        "the four failed entries {} wait for their next try; pending are {}",
        some(&poison),
        some(&waiting)
    );
    ensure!(
        seen.repeated().is_empty(),
        "SQ12",
        "the next try was an hour away, and handlers were started again: {:?}",
        seen.repeated()
    );
    Ok(())
}

async fn what_cannot_be_decoded_goes_there_at_once(lab: Lab) -> Outcome {
    lab.promise("An entry that cannot be decoded (bytes that are no UTF-8) will not get better: it goes to the dead-letter stream at its first delivery, byte for byte, and no handler sees it.");
    let queue = Queue::new(&lab).await?;
    let good = queue.put(1).await?;
    let bytes: &[u8] = b"\xff\xfe\x00raw\x80";
    let bad: String = redis::cmd("XADD")
        .arg(&queue.stream)
        .arg("*")
        .arg("order_id")
        .arg("A-9")
        .arg("scan")
        .arg(bytes)
        .query_async(&mut queue.direct())
        .await?;
    let more = queue.put(2).await?;
    let seen = Seen::default();
    let options = WorkOptions {
        first_retry: HOUR,
        longest_retry: HOUR,
        ..queue.options("c1")
    };
    let mut worker = queue.noting_worker(options, &seen);
    let outcome = queue
        .until(
            &mut [&mut worker],
            "three good entries to be handled, and the undecodable one to be dead-lettered",
            || async {
                Ok(seen.distinct() == 3
                    && queue.dead().await?.len() == 1
                    && queue.pending().await?.is_empty())
            },
        )
        .await;
    if let Err(failure) = outcome {
        let (dead, pending) = (queue.dead().await?.len(), queue.pending_ids().await?);
        let code = match (dead, pending.len()) {
            (0, 0) => Some("SQ08"),
            (1.., 1..) => Some("SQ07"),
            _ => None,
        };
        return Err(failure.code_if(code).also(format!(
            "handled {} of {} good ones; dead letters: {dead}; pending: {}",
            seen.distinct(),
            good.len() + more.len(),
            some(&pending)
        )));
    }
    worker.finish(&lab).await?;
    ensure!(
        !seen.has(&bad),
        "the handler was given entry {bad}, which cannot be decoded"
    );
    let letter = &queue.dead().await?[0];
    ensure!(
        letter.fields.get(b"scan".as_slice()).map(Vec::as_slice) == Some(bytes),
        "the field `scan` held {bytes:?}; in the dead letter it is {:?}",
        letter.fields.get(b"scan".as_slice())
    );
    ensure!(
        letter.text("_id") == bad
            && letter.text("_deliveries") == "1"
            && !letter.text("_reason").is_empty(),
        "the dead letter should name entry {bad}, one delivery and a reason; it says `_id` {:?}, `_deliveries` {:?}, `_reason` {:?}",
        letter.text("_id"),
        letter.text("_deliveries"),
        letter.text("_reason")
    );
    Ok(())
}

async fn an_entry_that_kills_its_workers_is_given_up(lab: Lab) -> Outcome {
    lab.promise("An entry whose worker died on each of `max_deliveries` deliveries is dead-lettered without another try, by whoever finds it: at a restart, or among the abandoned.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(3).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 1).await?;
    let left = queue.deliver_to(&queue.group, "gone", 1).await?;
    queue.age("c1", &own, HOUR, 3).await?;
    queue.age("gone", &left, HOUR, 3).await?;
    let seen = Seen::default();
    let options = WorkOptions {
        max_deliveries: 3,
        visibility: Duration::from_secs(2),
        ..queue.options("c1")
    };
    let mut worker = queue.noting_worker(options, &seen);
    let outcome = queue.until(&mut [&mut worker], "the two entries that were delivered three times already to be dead-lettered, and the fresh one to be handled", || async {
        Ok(queue.pending().await?.is_empty() && queue.undelivered().await? == 0 && seen.has(&ids[2]))
    }).await;
    let tried: Vec<String> = seen.ids().into_iter().filter(|id| *id != ids[2]).collect();
    ensure!(
        tried.is_empty(),
        "SQ15",
        "entries that had been delivered three times of three were given to the handler once more: {}",
        some(&tried)
    );
    if let Err(failure) = outcome {
        return Err(failure.also(format!(
            "dead letters: {}; pending: {:?}",
            queue.dead().await?.len(),
            queue.pending().await?
        )));
    }
    worker.finish(&lab).await?;
    let mut dead: Vec<String> = queue
        .dead()
        .await?
        .iter()
        .map(|letter| letter.text("_id"))
        .collect();
    dead.sort();
    ensure!(
        dead == ids[..2],
        "SQ08",
        "entries {} were given up; the dead-letter stream names {}",
        some(&ids[..2]),
        some(&dead)
    );
    ensure!(
        queue
            .dead()
            .await?
            .iter()
            .all(|letter| !letter.text("_reason").is_empty()),
        "a dead letter has no `_reason`"
    );
    Ok(())
}

/// Puts one entry on a fresh queue and reads it as `c1`, ready to be given up.
async fn one_in_hand(lab: &Lab) -> Result<(Queue, Consumer, RawEntry), Failure> {
    let queue = Queue::new(lab).await?;
    queue.put(1).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let Some(entry) = consumer.read(1, Duration::from_millis(50)).await?.pop() else {
        return Err(Failure::observed(
            "one entry was in the stream, and `read` returned none",
        ));
    };
    Ok((queue, consumer, entry))
}

async fn dead_lettering_is_one_step_at_every_crash_point(lab: Lab) -> Outcome {
    lab.promise("Moving an entry to the dead-letter stream and acknowledging it is one atomic step: wherever the connection breaks, the entry is in one place, and trying again never makes two.");
    for action in [Action::CutBefore, Action::CutAfter] {
        for nth in 1..=12 {
            let (queue, consumer, entry) = one_in_hand(&lab).await?;
            let fault = queue
                .redis
                .proxy()
                .arm(Trigger::request(|_| true).nth(nth), action);
            let at = format!("{action:?} at command {nth} of `dead_letter`");
            lab.history().fault("proxy", &at);
            let first = consumer.dead_letter(&entry, "gave up").await;
            if !fault.has_fired() {
                fault.disarm();
                ensure!(nth > 1, "`dead_letter` sent no command at all");
                ensure!(
                    first? && queue.dead().await?.len() == 1,
                    "`dead_letter` succeeded and the dead-letter stream is empty"
                );
                break;
            }
            let (dead, pending) = (queue.dead().await?.len(), queue.pending().await?.len());
            ensure!(
                (dead, pending) != (1, 1),
                "SQ19",
                "{at}: the entry is in the dead-letter stream and still pending, so it will be handled again"
            );
            ensure!(
                (dead, pending) != (0, 0),
                "SQ19",
                "{at}: the entry is no longer pending and not in the dead-letter stream: it is lost"
            );
            // Whoever comes next finishes the job.
            let next = Consumer::connect(&queue.options("c1")).await?;
            next.dead_letter(&entry, "gave up").await?;
            let (dead, pending) = (queue.dead().await?.len(), queue.pending().await?.len());
            ensure!(
                (dead, pending) == (1, 0),
                "SQ19",
                "{at}, and then tried again: {dead} dead letters and {pending} pending, where one dead letter should be"
            );
        }
    }
    Ok(())
}

async fn an_entry_that_is_no_longer_pending_is_not_dead_lettered(lab: Lab) -> Outcome {
    lab.promise("`dead_letter` returns true when it moved the entry. When the entry is not pending any more, because another worker has finished it, it returns false and adds nothing.");
    let (queue, consumer, entry) = one_in_hand(&lab).await?;
    queue
        .acknowledge(&queue.group, std::slice::from_ref(&entry.id))
        .await?;
    let moved = consumer.dead_letter(&entry, "gave up").await?;
    let dead = queue.dead().await?.len();
    ensure!(
        dead == 0,
        "SQ19",
        "another worker had handled and acknowledged {}; `dead_letter` added it to the dead-letter stream all the same",
        entry.id
    );
    ensure!(
        !moved,
        "`dead_letter` returned true for an entry that was not pending any more"
    );
    let (queue, consumer, entry) = one_in_hand(&lab).await?;
    ensure!(
        consumer.dead_letter(&entry, "gave up").await?,
        "`dead_letter` returned false for an entry that was pending"
    );
    ensure!(
        queue.dead().await?.len() == 1 && queue.pending().await?.is_empty(),
        "after `dead_letter` returned true: {} dead letters, {} pending",
        queue.dead().await?.len(),
        queue.pending().await?.len()
    );
    Ok(())
}

async fn dead_letters_can_be_listed_retried_and_dropped(lab: Lab) -> Outcome {
    lab.promise("Dead letters can be listed, put back into the stream with just their original fields, or dropped; a retry is one atomic step, and an id that is not there is no error.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(3).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    for entry in consumer.read(3, Duration::from_millis(50)).await? {
        consumer
            .dead_letter(&entry, &format!("reason of {}", entry.id))
            .await?;
    }
    let mut letters = DeadLetters::connect(&queue.redis.url(), &queue.stream).await?;
    let two = letters.list(2).await?;
    ensure!(
        two.len() == 2,
        "three dead letters are there, two were asked for, {} came",
        two.len()
    );
    let listed = letters.list(100).await?;
    let names: Vec<String> = listed
        .iter()
        .map(|letter| letter.original_id.clone())
        .collect();
    ensure!(
        names == ids,
        "the dead letters are, oldest first, {}; listed were {}",
        some(&ids),
        some(&names)
    );
    ensure!(
        listed[1].reason == format!("reason of {}", ids[1]) && listed[1].deliveries == 1,
        "the second letter is listed with reason {:?} and {} deliveries",
        listed[1].reason,
        listed[1].deliveries
    );
    let length = queue.length().await?;
    let back = letters.retry(&listed[1].id).await?;
    let newest = queue.entries().await?.pop();
    let Some(newest) = newest.filter(|_| back.is_some()) else {
        lab::fail!(
            "`retry` returned {back:?}; the stream ends with {:?}",
            queue.entries().await?.pop()
        )
    };
    ensure!(
        Some(&newest.id) == back.as_ref() && queue.length().await? == length + 1,
        "`retry` returned {back:?}, and the newest entry of the stream is {}",
        newest.id
    );
    ensure!(
        newest.fields.len() == 3
            && newest.text("order_id") == "A-1"
            && newest.text("amount") == "12.50",
        "an entry that is retried has its original fields and nothing else; it has {:?}",
        newest
            .fields
            .keys()
            .map(|name| String::from_utf8_lossy(name))
            .collect::<Vec<_>>()
    );
    ensure!(
        queue.dead().await?.len() == 2,
        "SQ19",
        "a retried letter is still in the dead-letter stream"
    );
    ensure!(
        letters.retry(&listed[1].id).await?.is_none(),
        "retrying the same letter again should return None"
    );
    ensure!(
        queue.length().await? == length + 1,
        "retrying a letter that is gone added an entry"
    );
    ensure!(
        letters.drop(&listed[0].id).await?,
        "`drop` of a letter that is there returned false"
    );
    ensure!(
        !letters.drop(&listed[0].id).await?,
        "`drop` of a letter that is gone returned true"
    );
    let left: Vec<String> = queue
        .dead()
        .await?
        .iter()
        .map(|letter| letter.text("_id"))
        .collect();
    ensure!(
        left == ids[2..],
        "one letter should be left, {}; there are {}",
        ids[2],
        some(&left)
    );

    // Somebody drops the letter just when it is retried: then it is dropped, or back, and not both.
    for nth in 1..=6 {
        let (queue, consumer, entry) = one_in_hand(&lab).await?;
        consumer.dead_letter(&entry, "gave up").await?;
        let letter = queue.dead().await?[0].id.clone();
        let mut letters = DeadLetters::connect(&queue.redis.url(), &queue.stream).await?;
        let held = queue
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let retrying = tokio::spawn({
            let letter = letter.clone();
            async move { letters.retry(&letter).await }
        });
        if undisturbed(&held, &retrying).await {
            sound(nth, retrying).await?;
            break;
        }
        let dropped: u64 = redis::cmd("XDEL")
            .arg(&[&queue.dead_stream(), &letter])
            .query_async(&mut queue.direct())
            .await?;
        held.release();
        let _ = retrying.await?;
        let back = queue.length().await? - 1;
        ensure!(
            dropped + back <= 1,
            "SQ19",
            "the letter was dropped just before command {nth} of `retry`, which put it back into the stream all the same"
        );
    }
    // A retry that is cut off leaves the letter in one place.
    let letter = listed[2].id.clone();
    for action in [Action::CutBefore, Action::CutAfter] {
        for nth in 1..=12 {
            let before = queue.dead().await?.len();
            if before == 0 {
                break;
            }
            let start = queue.length().await?;
            let mut letters = DeadLetters::connect(&queue.redis.url(), &queue.stream).await?;
            let fault = queue
                .redis
                .proxy()
                .arm(Trigger::request(|_| true).nth(nth), action);
            let _ = letters.retry(&letter).await;
            fault.disarm();
            let (dead, added) = (queue.dead().await?.len(), queue.length().await? - start);
            ensure!(
                dead as u64 + added == 1,
                "SQ19",
                "{action:?} at command {nth} of `retry`: the letter is {dead} times in the dead-letter stream and {added} times back in the stream"
            );
            if !fault.has_fired() {
                break;
            }
        }
    }
    Ok(())
}

async fn a_panic_is_a_failure_like_any_other(lab: Lab) -> Outcome {
    lab.promise("A handler that panics has failed: the entry is retried and given up like any other, and the worker lives on.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(5).await?;
    let seen = Seen::default();
    let (handled, bad) = (seen.clone(), ids[1].clone());
    let options = WorkOptions {
        max_deliveries: 2,
        first_retry: Duration::from_millis(20),
        concurrency: 2,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        let panics = entry.id == bad;
        async move {
            assert!(!panics, "handler bug 4711");
            Ok(())
        }
    });
    queue.until(&mut [&mut worker], "four entries to be handled, and the one whose handler panics to be dead-lettered after two deliveries", || async {
        Ok(seen.distinct() == 5 && queue.dead().await?.len() == 1 && queue.pending().await?.is_empty())
    }).await?;
    worker.finish(&lab).await?;
    let letter = &queue.dead().await?[0];
    ensure!(
        letter.text("_id") == ids[1] && letter.text("_deliveries") == "2",
        "the dead letter names entry {:?} after {:?} deliveries",
        letter.text("_id"),
        letter.text("_deliveries")
    );
    ensure!(
        letter.text("_reason").contains("panic"),
        "the handler panicked, and the dead letter's reason is {:?}",
        letter.text("_reason")
    );
    Ok(())
}

async fn a_command_that_fails_is_a_failed_delivery(lab: Lab) -> Outcome {
    lab.promise("With `--exec CMD` an exit code other than zero is a failure: it is retried, and the dead letter names it. What succeeded is printed, what failed is not.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(3).await?;
    let command = "grep -q '\"A-1\"' && exit 3 || exit 0";
    let service = lab
        .service([
            "work",
            "--redis",
            &queue.redis.url(),
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "c1",
            "--max-deliveries",
            "2",
            "--first-retry",
            "20ms",
            "--exec",
            command,
        ])
        .start()?;
    lab.eventually(
        "two entries to be printed, and the third to be dead-lettered",
        || async {
            service.expect_running()?;
            Ok((service.json_lines().len() >= 2
                && queue.dead().await?.len() == 1
                && queue.pending().await?.is_empty())
            .then_some(()))
        },
    )
    .await?;
    let printed: Vec<String> = service
        .json_lines()
        .iter()
        .filter_map(|line| line["id"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        !printed.contains(&ids[1]) && printed.len() == 2,
        "entries {} and {} succeeded; printed were {}",
        ids[0],
        ids[2],
        some(&printed)
    );
    let letter = &queue.dead().await?[0];
    ensure!(
        letter.text("_id") == ids[1]
            && letter.text("_deliveries") == "2"
            && letter.text("_reason").contains('3'),
        "the command ended with exit code 3 twice; the dead letter says `_id` {:?}, `_deliveries` {:?}, `_reason` {:?}",
        letter.text("_id"),
        letter.text("_deliveries"),
        letter.text("_reason")
    );
    Ok(())
}
