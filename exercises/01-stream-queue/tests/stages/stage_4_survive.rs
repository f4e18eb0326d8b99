//! Stage 4: what a dead worker held is handled by another, and what a living one holds is not.

use std::time::Duration;

use lab::{Check, Lab, Outcome, ensure};
use stream_queue::{Consumer, WorkOptions};

use crate::queue::{Gate, Queue, Seen, on_a_fair_clock, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_restarted_worker_finishes_its_own_entries_first,
        own_entries_are_recovered_to_the_last_page,
        a_killed_workers_entries_are_handled_again,
        abandoned_entries_are_claimed_to_the_last_page.limit_secs(90),
        a_long_running_entry_is_not_taken,
        keeping_an_entry_is_not_a_delivery,
        only_idle_entries_are_claimed,
        a_worker_that_was_paused_takes_nothing_back,
        deliveries_survive_a_killed_process,
        a_deleted_entry_stops_nobody,
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn a_restarted_worker_finishes_its_own_entries_first(lab: Lab) -> Outcome {
    lab.promise("A worker that starts again under its old name first handles what it had taken before, without waiting for the visibility timeout, and then new entries.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(7).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 4).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let mut worker = queue.worker_with(
        WorkOptions {
            visibility: HOUR,
            ..queue.options("c1")
        },
        move |entry| {
            handled.add(&entry);
            async { Ok(()) }
        },
    );
    let outcome = queue.until(&mut [&mut worker], "all seven entries to be handled: four that this consumer had taken before its restart, three new ones", || async {
        Ok(seen.distinct() == 7 && queue.pending().await?.is_empty())
    }).await;
    if let Err(failure) = outcome {
        let missing: Vec<String> = own.iter().filter(|id| !seen.has(id)).cloned().collect();
        let code = (!missing.is_empty()).then_some("SQ05");
        return Err(failure
            .code_if(code)
            .also(format!("never handled: {}", some(&missing))));
    }
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once: {:?}",
        seen.repeated()
    );
    ensure!(
        seen.ids() == ids,
        "the four entries from before the restart come first, in order; the handler saw {}",
        some(&seen.ids())
    );
    for entry in &seen.all()[..4] {
        ensure!(
            entry.deliveries == 2,
            "SQ15",
            "entry {} was delivered before the restart and again after it; the handler was told `deliveries` {}",
            entry.id,
            entry.deliveries
        );
    }
    Ok(())
}

async fn own_entries_are_recovered_to_the_last_page(lab: Lab) -> Outcome {
    lab.promise("However many entries a worker held when it died, after its restart it handles all of them, each once.");
    let queue = Queue::new(&lab).await?;
    queue.put(430).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 430).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let mut worker = queue.worker_with(
        WorkOptions {
            visibility: HOUR,
            concurrency: 10,
            ..queue.options("c1")
        },
        move |entry| {
            handled.add(&entry);
            async { Ok(()) }
        },
    );
    let outcome = queue
        .until(
            &mut [&mut worker],
            "430 entries from before the restart to be handled and acknowledged",
            || async { Ok(seen.distinct() == 430 && queue.pending().await?.is_empty()) },
        )
        .await;
    if let Err(failure) = outcome {
        let code = if seen.count() == 0 { "SQ05" } else { "SQ13" };
        return Err(failure.code_if(Some(code)).also(format!(
            "{} of {} were handled",
            seen.distinct(),
            own.len()
        )));
    }
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once: {:?}",
        &seen.repeated()[..1]
    );
    Ok(())
}

async fn a_killed_workers_entries_are_handled_again(lab: Lab) -> Outcome {
    lab.promise("When a worker's process is killed, what it was working on is handled by another worker within the visibility timeout plus one scan.");
    let queue = Queue::new(&lab).await?;
    let url = queue.redis.url();
    let doomed = lab
        .service([
            "work",
            "--redis",
            &url,
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "doomed",
            "--concurrency",
            "3",
            "--visibility",
            "700ms",
            "--exec",
            "sleep 600",
        ])
        .start()?;
    let ids = queue.put(3).await?;
    lab.eventually(
        "the first worker to have all three entries in hand",
        || async {
            doomed.expect_running()?;
            Ok((queue.pending().await?.len() == 3).then_some(()))
        },
    )
    .await
    .map_err(|failure| failure.code_if(queue.suspect()))?;
    let seen = Seen::default();
    let options = WorkOptions {
        concurrency: 3,
        visibility: Duration::from_millis(700),
        ..queue.options("heir")
    };
    let mut heir = queue.noting_worker(options, &seen);
    lab.history().fault("doomed", "SIGKILL");
    doomed.kill();
    let outcome = queue
        .until(
            &mut [&mut heir],
            "the killed worker's three entries to be handled by the other one",
            || async { Ok(seen.distinct() == 3 && queue.pending().await?.is_empty()) },
        )
        .await;
    if let Err(failure) = outcome {
        return Err(failure.also(format!(
            "handled: {} of {}; still pending: {:?}",
            seen.distinct(),
            ids.len(),
            queue.pending().await?
        )));
    }
    heir.finish(&lab).await?;
    for entry in seen.all() {
        ensure!(
            entry.deliveries >= 2,
            "SQ15",
            "entry {} was taken over from a dead worker and came with `deliveries` {}; Redis has counted at least 2",
            entry.id,
            entry.deliveries
        );
    }
    Ok(())
}

async fn abandoned_entries_are_claimed_to_the_last_page(lab: Lab) -> Outcome {
    lab.promise("However many entries a dead worker leaves, one scan after their visibility timeout all of them go to work, page after page, without waiting for the next scan in between.");
    on_a_fair_clock(&lab, [8_000, 16_000, 24_000], |visibility| {
        abandoned(lab.clone(), visibility)
    })
    .await
}

async fn abandoned(lab: Lab, visibility: Duration) -> Outcome {
    const ALL: usize = 1_500;
    let queue = Queue::new(&lab).await?;
    queue.put(ALL).await?;
    queue.create_group(&queue.group).await?;
    let left = queue.deliver_to(&queue.group, "gone", ALL).await?;
    queue.age("gone", &left, HOUR, 1).await?;
    let seen = Seen::default();
    let options = WorkOptions {
        concurrency: 10,
        visibility,
        ..queue.options("heir")
    };
    let mut heir = queue.noting_worker(options, &seen);
    // A slow machine is given as long as it gets on.
    while seen.distinct() < ALL {
        let goal = (seen.distinct() + 300).min(ALL);
        let outcome = queue
            .until(
                &mut [&mut heir],
                "300 more of a dead worker's 1,500 entries to be handled",
                || async { Ok(seen.distinct() >= goal) },
            )
            .await;
        if let Err(failure) = outcome {
            let code = (seen.count() > 0).then_some("SQ13");
            return Err(failure.code_if(code).also(format!(
                "{} of {ALL} were handled until then",
                seen.distinct()
            )));
        }
    }
    queue
        .until(
            &mut [&mut heir],
            "the last of them to be acknowledged",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await?;
    heir.finish(&lab).await?;
    let pause = seen.longest_pause();
    ensure!(
        pause < visibility / 4,
        "SQ13",
        "all {ALL} entries had been abandoned long before, and while some were left the worker did nothing for {pause:?}: it claimed a page and waited for its next scan"
    );
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once, and no handler failed or died: {:?}",
        &seen.repeated()[..1]
    );
    let odd = seen.all().into_iter().find(|entry| entry.deliveries != 2);
    if let Some(entry) = odd {
        lab::fail!(
            "SQ15",
            "entry {} was delivered to the dead worker and then to this one; the handler was told `deliveries` {}",
            entry.id,
            entry.deliveries
        );
    }
    Ok(())
}

async fn a_long_running_entry_is_not_taken(lab: Lab) -> Outcome {
    lab.promise("An entry whose handler is alive is not taken from its worker, however long the handler runs.");
    on_a_fair_clock(&lab, [600, 2_000, 6_000], |visibility| {
        long_running(lab.clone(), visibility)
    })
    .await
}

async fn long_running(lab: Lab, visibility: Duration) -> Outcome {
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let (gate, seen) = (Gate::closed(), Seen::default());
    let start = |consumer: &str| {
        let options = WorkOptions {
            visibility,
            concurrency: 2,
            ..queue.options(consumer)
        };
        queue.waiting_worker(options, &gate, &seen)
    };
    let mut busy = start("busy");
    queue
        .until(&mut [&mut busy], "the handler to start", || async {
            Ok(seen.count() == 1)
        })
        .await?;
    let mut idle = start("idle");
    lab.within(visibility * 7 / 2).await;
    ensure!(
        seen.count() == 1,
        "SQ14",
        "the handler of {id} was at work for three and a half visibility timeouts ({visibility:?} each), and its entry was given out again: {} handlers were started for it",
        seen.count()
    );
    let pending = queue.pending().await?;
    ensure!(
        pending.len() == 1 && pending[0].consumer == "busy",
        "SQ14",
        "entry {id} is being worked on by `busy`, and Redis says: {pending:?}"
    );
    gate.open();
    queue
        .until(
            &mut [&mut busy, &mut idle],
            "the entry to be acknowledged",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await?;
    busy.finish(&lab).await?;
    idle.finish(&lab).await?;
    ensure!(
        seen.count() == 1,
        "SQ14",
        "entry {id} was handled {} times",
        seen.count()
    );
    Ok(())
}

async fn keeping_an_entry_is_not_a_delivery(lab: Lab) -> Outcome {
    lab.promise("A heartbeat shows that a worker lives. It is no delivery: the broker's count stays as it is, however long the handler runs, so a long job is never mistaken for a poison one.");
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let gate = Gate::closed();
    let waiting = gate.clone();
    let options = WorkOptions {
        visibility: Duration::from_millis(400),
        ..queue.options("busy")
    };
    let mut worker = queue.worker_with(options, move |_entry| {
        let gate = waiting.clone();
        async move {
            gate.passed().await;
            Ok(())
        }
    });
    queue
        .until(&mut [&mut worker], "the entry to be in hand", || async {
            Ok(queue.pending().await?.len() == 1)
        })
        .await?;
    lab.within(Duration::from_millis(1_600)).await;
    let pending = queue.pending().await?;
    ensure!(
        pending.len() == 1,
        "entry {id} is being worked on, and Redis lists {} pending entries",
        pending.len()
    );
    ensure!(
        pending[0].deliveries == 1,
        "SQ18",
        "entry {id} was delivered once and has been worked on since; Redis now counts {} deliveries",
        pending[0].deliveries
    );
    gate.open();
    worker.finish(&lab).await?;

    // The same for the method itself, which may be called at any moment.
    let queue = Queue::new(&lab).await?;
    queue.put(2).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let ids: Vec<String> = consumer
        .read(2, Duration::from_millis(50))
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    queue.age("c1", &ids, HOUR, 1).await?;
    consumer.keep(&[]).await?;
    consumer.keep(&ids[..1]).await?;
    let idle: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
        .arg(&[&queue.stream, &queue.group, "-", "+", "10"])
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        idle.len() == 2,
        "keeping entries changed what is pending: {idle:?}"
    );
    ensure!(
        idle[0].2 < 60_000,
        "SQ14",
        "`keep` was called for {}, and Redis still counts it as idle for {} ms",
        ids[0],
        idle[0].2
    );
    ensure!(
        idle[1].2 > 60_000,
        "`keep` was not called for {}, and it is no longer idle",
        ids[1]
    );
    ensure!(
        idle[0].3 == 1,
        "SQ18",
        "`keep` was called once for {}, and its deliveries went from 1 to {}",
        ids[0],
        idle[0].3
    );
    Ok(())
}

async fn only_idle_entries_are_claimed(lab: Lab) -> Outcome {
    lab.promise("`claim_abandoned` takes only entries that have been idle for the visibility timeout, at most `max` a call; calls in a row get all of them.");
    let queue = Queue::new(&lab).await?;
    queue.put(260).await?;
    queue.create_group(&queue.group).await?;
    let ids = queue.deliver_to(&queue.group, "other", 260).await?;
    let (old, young) = ids.split_at(250);
    queue.age("other", old, HOUR * 2, 3).await?;
    let options = WorkOptions {
        visibility: HOUR,
        ..queue.options("c1")
    };
    let consumer = Consumer::connect(&options).await?;
    let mut claimed = Vec::new();
    for _ in 0..100 {
        let page = consumer.claim_abandoned(40).await?;
        ensure!(
            page.len() <= 40,
            "at most 40 entries were asked for, and {} came",
            page.len()
        );
        if page.is_empty() {
            break;
        }
        for entry in page {
            ensure!(
                entry.deliveries == 4,
                "SQ15",
                "entry {} had been delivered 3 times and is now delivered again; it came with `deliveries` {}",
                entry.id,
                entry.deliveries
            );
            ensure!(
                entry.fields.len() == 3,
                "entry {} has three fields, and came with {}",
                entry.id,
                entry.fields.len()
            );
            claimed.push(entry.id);
        }
    }
    let stolen: Vec<String> = claimed
        .iter()
        .filter(|id| young.contains(id))
        .cloned()
        .collect();
    ensure!(
        stolen.is_empty(),
        "SQ14",
        "entries that were delivered to a living worker a moment ago were claimed: {}",
        some(&stolen)
    );
    ensure!(
        claimed.len() == 250,
        "SQ13",
        "250 entries were idle for longer than the visibility timeout, and calling until nothing came gave {}",
        claimed.len()
    );
    let owners = queue.pending().await?;
    ensure!(
        owners
            .iter()
            .all(|entry| (entry.consumer == "c1") == old.contains(&entry.id)),
        "Redis lists other owners than the claims should have left"
    );
    Ok(())
}

async fn a_worker_that_was_paused_takes_nothing_back(lab: Lab) -> Outcome {
    lab.promise("A worker that was paused for longer than the visibility timeout may find that its entry is in other hands. When it wakes it takes nothing back, and what it does then spoils nothing.");
    let queue = Queue::new(&lab).await?;
    let url = queue.redis.url();
    let sleeper = lab
        .service([
            "work",
            "--redis",
            &url,
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "sleeper",
            "--visibility",
            "900ms",
            "--max-deliveries",
            "2",
            "--first-retry",
            "20ms",
            "--exec",
            "sleep 600",
        ])
        .start()?;
    let id = queue.put(1).await?.remove(0);
    lab.eventually("the first worker to have the entry in hand", || async {
        sleeper.expect_running()?;
        Ok((queue.pending().await?.len() == 1).then_some(()))
    })
    .await?;
    lab.history().fault("sleeper", "SIGSTOP");
    sleeper.pause();
    let (gate, seen) = (Gate::closed(), Seen::default());
    let (waiting, handled) = (gate.clone(), seen.clone());
    let mut heir = queue.worker_with(
        WorkOptions {
            visibility: Duration::from_millis(900),
            ..queue.options("heir")
        },
        move |entry| {
            handled.add(&entry);
            let gate = waiting.clone();
            async move {
                gate.passed().await;
                Ok(())
            }
        },
    );
    queue
        .until(
            &mut [&mut heir],
            "the entry of the paused worker to be handled by the other one",
            || async { Ok(seen.count() > 0) },
        )
        .await?;
    lab.history().fault("sleeper", "SIGCONT");
    sleeper.resume();
    // Several of the sleeper's heartbeats pass.
    lab.within(Duration::from_millis(1_500)).await;
    let pending = queue.pending().await?;
    ensure!(
        pending.len() == 1 && pending[0].consumer == "heir",
        "SQ23",
        "`heir` took {id} over and is at work on it; then the paused worker woke, and now Redis says: {pending:?}"
    );
    gate.open();
    queue
        .until(&mut [&mut heir], "the entry to be acknowledged", || async {
            Ok(queue.pending().await?.is_empty())
        })
        .await?;
    heir.finish(&lab).await?;
    sleeper.kill();
    ensure!(
        queue.dead().await?.is_empty(),
        "entry {id} was handled with success, and it is in the dead-letter stream as well"
    );
    ensure!(
        seen.count() == 1,
        "entry {id} was handled {} times after it had been taken over",
        seen.count()
    );

    // The same at the method, where the moment can be chosen.
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
    queue.age("is", &ids, Duration::ZERO, 2).await?;
    // Being told that the entry is gone is a fair answer, too.
    let _ = was.keep(&ids).await;
    let pending = queue.pending().await?;
    ensure!(
        pending.len() == 1 && pending[0].consumer == "is",
        "SQ23",
        "the entry belonged to `is`; `was` called `keep` for it, and now Redis says: {pending:?}"
    );
    Ok(())
}

async fn deliveries_survive_a_killed_process(lab: Lab) -> Outcome {
    lab.promise("The number of deliveries is the broker's: a process that dies and starts again goes on counting where it was.");
    let queue = Queue::new(&lab).await?;
    let url = queue.redis.url();
    let id = queue.put(1).await?.remove(0);
    let arguments = |exec: &'static str| {
        [
            "work",
            "--redis",
            &url,
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "c1",
            "--visibility",
            "1h",
            "--max-deliveries",
            "10",
            "--exec",
            exec,
        ]
        .map(str::to_owned)
    };
    for round in 1..=2 {
        let doomed = lab.service(arguments("sleep 600")).start()?;
        lab.eventually("the entry to be delivered once more", || async {
            doomed.expect_running()?;
            Ok(queue
                .pending()
                .await?
                .first()
                .is_some_and(|entry| entry.deliveries == round)
                .then_some(()))
        })
        .await
        .map_err(|failure| failure.code_if(Some("SQ05")))?;
        doomed.kill();
    }
    let service = lab.service(arguments("cat >/dev/null")).start()?;
    let line = service.next_json().await?;
    ensure!(
        line["id"] == id.as_str() && line["deliveries"] == 3,
        "SQ15",
        "the entry was delivered to two processes that were killed, and now to a third; the third printed {line}"
    );
    Ok(())
}

async fn a_deleted_entry_stops_nobody(lab: Lab) -> Outcome {
    lab.promise("An entry that somebody deleted from the stream while it was pending is gone. The worker passes over it and handles the others.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(12).await?;
    queue.create_group(&queue.group).await?;
    let own = queue.deliver_to(&queue.group, "c1", 4).await?;
    let left = queue.deliver_to(&queue.group, "gone", 4).await?;
    queue.age("gone", &left, HOUR, 1).await?;
    let _: u64 = redis::cmd("XDEL")
        .arg(&queue.stream)
        .arg(&[&own[1], &left[0], &left[2]])
        .query_async(&mut queue.direct())
        .await?;
    let seen = Seen::default();
    let options = WorkOptions {
        visibility: Duration::from_secs(2),
        concurrency: 2,
        ..queue.options("c1")
    };
    let mut worker = queue.noting_worker(options, &seen);
    let outcome = queue
        .until(
            &mut [&mut worker],
            "the nine entries that are still there to be handled",
            || async { Ok(seen.distinct() >= 9) },
        )
        .await;
    if let Err(failure) = outcome {
        let missing: Vec<String> = ids
            .iter()
            .filter(|id| !seen.has(id) && **id != own[1] && **id != left[0] && **id != left[2])
            .cloned()
            .collect();
        return Err(failure.also(format!("never handled: {}", some(&missing))));
    }
    ensure!(
        !seen.has(&own[1]) && !seen.has(&left[0]),
        "a deleted entry was handed to the handler"
    );
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once: {:?}",
        seen.repeated()
    );
    worker.finish(&lab).await?;
    Ok(())
}
