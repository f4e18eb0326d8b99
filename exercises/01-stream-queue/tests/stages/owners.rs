//! Stage 4, continued: whose an entry is, when two want it and when there are many.

use std::time::Duration;

use lab::faults::{Action, Trigger};
use lab::{Check, Lab, Outcome, ensure};
use stream_queue::{Consumer, WorkOptions};

use crate::queue::{Gate, Queue, Seen, some, sound, undisturbed};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_claim_does_not_overtake_a_heartbeat,
        a_heartbeat_does_not_overtake_a_claim,
        a_heartbeat_reaches_every_entry,
        own_entries_are_not_abandoned,
        deleted_entries_hide_no_others,
        what_was_left_is_taken_as_slots_are_free,
        a_claim_takes_the_slot_of_the_read_under_way,
        abandoned_entries_do_not_wait_for_a_quiet_moment.limit_secs(90),
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn a_claim_does_not_overtake_a_heartbeat(lab: Lab) -> Outcome {
    lab.promise("Whether an entry is abandoned is decided in the step that takes it: an owner that shows a sign of life just before keeps it.");
    for nth in 1..=6 {
        let queue = Queue::new(&lab).await?;
        queue.put(1).await?;
        queue.create_group(&queue.group).await?;
        let ids = queue.deliver_to(&queue.group, "owner", 1).await?;
        queue.age("owner", &ids, HOUR * 2, 1).await?;
        let options = WorkOptions {
            visibility: HOUR,
            ..queue.options("c1")
        };
        let consumer = Consumer::connect(&options).await?;
        let held = queue
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let claiming = tokio::spawn(async move { consumer.claim_abandoned(10).await });
        if undisturbed(&held, &claiming).await {
            sound(nth, claiming).await?;
            break;
        }
        queue.age("owner", &ids, Duration::ZERO, 1).await?;
        held.release();
        let claimed = claiming.await?;
        let pending = queue.pending().await?;
        ensure!(
            pending.len() == 1 && pending[0].consumer == "owner",
            "SQ14",
            "`owner` kept its entry just before command {nth} of `claim_abandoned`, which then took it all the same; Redis says {pending:?}, and the call returned {claimed:?}"
        );
    }
    Ok(())
}

async fn a_heartbeat_does_not_overtake_a_claim(lab: Lab) -> Outcome {
    lab.promise("`keep` looks whose the entry is and resets its idle time in one step: an entry that another consumer takes in between stays with that one.");
    for nth in 1..=6 {
        let queue = Queue::new(&lab).await?;
        queue.put(1).await?;
        let was = Consumer::connect(&queue.options("was")).await?;
        was.create_group().await?;
        let ids: Vec<String> = was
            .read(1, Duration::from_millis(50))
            .await?
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        let held = queue
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let keeping = tokio::spawn({
            let ids = ids.clone();
            async move { was.keep(&ids).await }
        });
        if undisturbed(&held, &keeping).await {
            sound(nth, keeping).await?;
            break;
        }
        queue.age("is", &ids, Duration::ZERO, 2).await?;
        held.release();
        let _ = keeping.await?;
        let pending = queue.pending().await?;
        ensure!(
            pending.len() == 1 && pending[0].consumer == "is",
            "SQ23",
            "`is` took the entry just before command {nth} of `keep` by `was`, and now Redis says {pending:?}"
        );
    }
    Ok(())
}

async fn a_heartbeat_reaches_every_entry(lab: Lab) -> Outcome {
    lab.promise("`keep` keeps all the entries it is given, however many.");
    let queue = Queue::new(&lab).await?;
    queue.put(1_300).await?;
    queue.create_group(&queue.group).await?;
    let ids = queue.deliver_to(&queue.group, "c1", 1_300).await?;
    queue.age("c1", &ids, HOUR, 1).await?;
    Consumer::connect(&queue.options("c1"))
        .await?
        .keep(&ids)
        .await?;
    let idle: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
        .arg(&[
            &queue.stream,
            &queue.group,
            "IDLE",
            "600000",
            "-",
            "+",
            "2000",
        ])
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        idle.is_empty(),
        "SQ14",
        "`keep` was called with 1,300 entries, and {} of them still count as idle for an hour, {} the first",
        idle.len(),
        idle[0].0
    );
    Ok(())
}

async fn own_entries_are_not_abandoned(lab: Lab) -> Outcome {
    lab.promise("`claim_abandoned` takes entries of other consumers. The caller's own are in its hands already, however idle Redis thinks they are.");
    let queue = Queue::new(&lab).await?;
    queue.put(8).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 4).await?;
    let others = queue.deliver_to(&queue.group, "gone", 4).await?;
    queue.age("c1", &own, HOUR * 2, 1).await?;
    queue.age("gone", &others, HOUR * 2, 1).await?;
    let consumer = Consumer::connect(&WorkOptions {
        visibility: HOUR,
        ..queue.options("c1")
    })
    .await?;
    let mut claimed: Vec<String> = Vec::new();
    loop {
        let page = consumer.claim_abandoned(3).await?;
        if page.is_empty() {
            break;
        }
        claimed.extend(page.into_iter().map(|entry| entry.id));
        ensure!(
            claimed.len() <= 8,
            "`claim_abandoned` returns the same entries again and again: {}",
            some(&claimed)
        );
    }
    ensure!(
        claimed == others,
        "SQ14",
        "abandoned were {}; `claim_abandoned` of `c1`, which holds {}, returned {}",
        some(&others),
        some(&own),
        some(&claimed)
    );
    Ok(())
}

async fn deleted_entries_hide_no_others(lab: Lab) -> Outcome {
    lab.promise("Entries that were deleted from the stream while pending are passed over, however many stand in a row: `own_pending` and `claim_abandoned` return nothing only when there is nothing more.");
    for own in [true, false] {
        let queue = Queue::new(&lab).await?;
        queue.put(760).await?;
        queue.create_group(&queue.group).await?;
        let ids = queue
            .deliver_to(&queue.group, if own { "c1" } else { "gone" }, 760)
            .await?;
        queue
            .age(if own { "c1" } else { "gone" }, &ids, HOUR * 2, 1)
            .await?;
        let _: u64 = redis::cmd("XDEL")
            .arg(&queue.stream)
            .arg(&ids[..700])
            .query_async(&mut queue.direct())
            .await?;
        let consumer = Consumer::connect(&WorkOptions {
            visibility: HOUR,
            ..queue.options("c1")
        })
        .await?;
        let (name, mut got, mut after) = (
            if own {
                "own_pending"
            } else {
                "claim_abandoned"
            },
            Vec::new(),
            "0".to_owned(),
        );
        for _ in 0..200 {
            let page = if own {
                consumer.own_pending(&after, 20).await?
            } else {
                consumer.claim_abandoned(20).await?
            };
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            got.extend(page.into_iter().map(|entry| entry.id));
        }
        ensure!(
            got == ids[700..],
            "SQ13",
            "of 760 pending entries the oldest 700 were deleted, and 60 are there; calling `{name}` until it returned nothing gave {} of them",
            got.len()
        );
    }
    Ok(())
}

async fn what_was_left_is_taken_as_slots_are_free(lab: Lab) -> Outcome {
    lab.promise("What was left by a former life or by others is taken like anything else: as slots are free. With `concurrency` 3 no more than three entries are delivered again while three handlers are at work; the others keep their count and stay free for other workers.");
    let queue = Queue::new(&lab).await?;
    queue.put(120).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 60).await?;
    let left = queue.deliver_to(&queue.group, "gone", 60).await?;
    queue.age("c1", &own, Duration::ZERO, 1).await?;
    queue.age("gone", &left, HOUR, 1).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let options = WorkOptions {
        concurrency: 3,
        visibility: Duration::from_secs(2),
        ..queue.options("c1")
    };
    let mut worker = queue.waiting_worker(options, &gate, &seen);
    queue
        .until(
            &mut [&mut worker],
            "three handlers to be at work",
            || async { Ok(seen.count() >= 3) },
        )
        .await?;
    lab.within(Duration::from_millis(1_500)).await;
    let again = queue
        .pending()
        .await?
        .into_iter()
        .filter(|entry| entry.deliveries > 1)
        .count();
    ensure!(
        again <= 3,
        "SQ20",
        "three handlers are at work, and {again} entries were delivered again; those that wait inside the worker are one delivery nearer to being given up, without anyone having tried them"
    );
    gate.open();
    queue
        .until(
            &mut [&mut worker],
            "all 120 entries to be handled and acknowledged",
            || async { Ok(seen.distinct() == 120 && queue.pending().await?.is_empty()) },
        )
        .await?;
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once: {:?}",
        &seen.repeated()[..1]
    );
    let odd = seen.all().into_iter().find(|entry| entry.deliveries != 2);
    if let Some(entry) = odd {
        lab::fail!(
            "SQ15",
            "entry {} was delivered once before and now again; the handler was told `deliveries` {}",
            entry.id,
            entry.deliveries
        );
    }
    Ok(())
}

async fn a_claim_takes_the_slot_of_the_read_under_way(lab: Lab) -> Outcome {
    lab.promise("Never more than `concurrency` entries are delivered to a worker at once, wherever they come from: what it takes over while a read is under way needs a slot, and the read may bring an entry at any moment.");
    let queue = Queue::new(&lab).await?;
    queue.put(1).await?;
    queue.create_group(&queue.group).await?;
    let left = queue.deliver_to(&queue.group, "gone", 1).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let options = WorkOptions {
        visibility: Duration::from_millis(600),
        ..queue.options("c1")
    };
    let mut worker = queue.waiting_worker(options, &gate, &seen);
    queue
        .until(&mut [&mut worker], "the worker to read", || async {
            Ok(queue.redis.proxy().is_blocked())
        })
        .await?;
    // Now it is abandoned, and the worker waits in its read.
    queue.age("gone", &left, HOUR, 1).await?;
    queue
        .until(
            &mut [&mut worker],
            "the abandoned entry to be at work",
            || async { Ok(seen.has(&left[0])) },
        )
        .await?;
    queue.waits_without_a_slot("c1").await?;
    gate.open();
    worker.finish(&lab).await?;
    Ok(())
}

async fn abandoned_entries_do_not_wait_for_a_quiet_moment(lab: Lab) -> Outcome {
    lab.promise("A busy worker scans as well: entries that others abandoned go to work within the visibility timeout plus one scan, although new ones never stop coming.");
    let queue = Queue::new(&lab).await?;
    queue.put(20).await?;
    queue.create_group(&queue.group).await?;
    let left = queue.deliver_to(&queue.group, "gone", 20).await?;
    queue.age("gone", &left, HOUR, 1).await?;
    queue.put(6_000).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let options = WorkOptions {
        concurrency: 4,
        visibility: Duration::from_secs(1),
        ..queue.options("heir")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        async {
            tokio::time::sleep(Duration::from_millis(4)).await;
            Ok(())
        }
    });
    let all_back = || left.iter().all(|id| seen.has(id));
    let mut before = 0;
    while !all_back() {
        // As long as new entries are handled, time goes by for everybody.
        let goal = before + 500;
        queue
            .until(&mut [&mut worker], "work to go on", || async {
                Ok(seen.count() >= goal || all_back())
            })
            .await?;
        before = seen.count();
        if !all_back() {
            ensure!(
                queue.undelivered().await? > 0,
                "SQ13",
                "20 entries had been abandoned before the worker began, with a visibility timeout of 1 s. It has gone through 6,000 new ones since, and {} of the 20 still wait",
                left.iter().filter(|id| !seen.has(id)).count()
            );
        }
    }
    Ok(())
}
