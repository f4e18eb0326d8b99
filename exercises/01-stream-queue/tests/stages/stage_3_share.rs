//! Stage 3: several consumers, several entries in flight each, and a bound on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Check, Lab, Outcome, ensure};
use stream_queue::WorkOptions;

use crate::queue::{Gate, Queue, Seen, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        two_workers_share_the_entries,
        three_service_processes_share_the_entries,
        as_many_handlers_run_as_were_asked_for,
        no_more_is_taken_than_can_be_worked_on,
        a_slow_entry_holds_up_no_other,
        an_acknowledgement_does_not_wait_behind_a_blocking_read,
        every_entry_is_handled_once_under_concurrency,
    ]
}

async fn two_workers_share_the_entries(lab: Lab) -> Outcome {
    lab.promise("Two consumers of one group share the entries: both get work, and each entry goes to one of them.");
    let queue = Queue::new(&lab).await?;
    queue.put(100).await?;
    let gate = Gate::closed();
    let (one, two) = (Seen::default(), Seen::default());
    let start =
        |consumer: &str, seen: &Seen| queue.waiting_worker(queue.options(consumer), &gate, seen);
    let mut first = start("c1", &one);
    let mut second = start("c2", &two);
    queue
        .until(
            &mut [&mut first, &mut second],
            "both workers to have an entry in hand, while neither finishes its own",
            || async { Ok(one.count() > 0 && two.count() > 0) },
        )
        .await
        .map_err(|failure| failure.code_if(queue.suspect().or(Some("SQ20"))))?;
    gate.open();
    queue
        .until(
            &mut [&mut first, &mut second],
            "all 100 entries to be handled and acknowledged",
            || async { Ok(one.count() + two.count() >= 100 && queue.pending().await?.is_empty()) },
        )
        .await?;
    first.finish(&lab).await?;
    second.finish(&lab).await?;
    let both: Vec<String> = one.ids().into_iter().filter(|id| two.has(id)).collect();
    if !both.is_empty() {
        lab::fail!(
            queue.suspect(),
            "{} entries were handled by both workers: {}",
            both.len(),
            some(&both)
        );
    }
    ensure!(
        one.count() + two.count() == 100,
        "100 entries were sent, and handlers were started {} times",
        one.count() + two.count()
    );
    Ok(())
}

async fn three_service_processes_share_the_entries(lab: Lab) -> Outcome {
    lab.promise(
        "Three `stream-queue work` processes of one group print every entry once between them.",
    );
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(300).await?;
    let url = queue.redis.url();
    let mut services = Vec::new();
    for consumer in ["c1", "c2", "c3"] {
        services.push(
            lab.service([
                "work",
                "--redis",
                &url,
                "--stream",
                &queue.stream,
                "--group",
                &queue.group,
                "--consumer",
                consumer,
                "--concurrency",
                "4",
            ])
            .start()?,
        );
    }
    let printed = || {
        services
            .iter()
            .flat_map(|service| service.json_lines())
            .filter_map(|line| line["id"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let printed = &printed;
    lab.eventually(
        "300 lines to be printed and nothing to be pending",
        || async {
            for service in &services {
                service.expect_running()?;
            }
            Ok((printed().len() >= 300 && queue.pending().await?.is_empty()).then_some(()))
        },
    )
    .await
    .map_err(|failure| failure.code_if(queue.suspect()))?;
    let mut lines = printed();
    lines.sort();
    let mut expected = ids.clone();
    expected.sort();
    if lines != expected {
        lab::fail!(
            queue.suspect(),
            "300 entries were sent; the three processes printed {} lines, and they are not each id once",
            lines.len()
        );
    }
    let line = services
        .iter()
        .flat_map(|service| service.json_lines())
        .next()
        .unwrap_or_default();
    ensure!(
        line["deliveries"] == 1 && line["fields"]["user_id"] == "42",
        "a line should carry id, fields and deliveries; the first is {line}"
    );
    Ok(())
}

async fn as_many_handlers_run_as_were_asked_for(lab: Lab) -> Outcome {
    lab.promise("With `concurrency` 4, four handlers run at once when there is work for them.");
    let queue = Queue::new(&lab).await?;
    queue.put(12).await?;
    let running = Arc::new(AtomicUsize::new(0));
    let gate = Gate::closed();
    let (count, waiting) = (Arc::clone(&running), gate.clone());
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 4,
            ..queue.options("c1")
        },
        move |_entry| {
            count.fetch_add(1, Ordering::SeqCst);
            let gate = waiting.clone();
            async move {
                gate.passed().await;
                Ok(())
            }
        },
    );
    let outcome = queue
        .until(
            &mut [&mut worker],
            "four handlers to be at work at once",
            || async { Ok(running.load(Ordering::SeqCst) >= 4) },
        )
        .await;
    if let Err(failure) = outcome {
        return Err(failure.also(format!(
            "{} of 4 handlers were running, and the others never started while those ran",
            running.load(Ordering::SeqCst)
        )));
    }
    gate.open();
    queue
        .until(
            &mut [&mut worker],
            "all twelve entries to be acknowledged",
            || async {
                Ok(running.load(Ordering::SeqCst) == 12 && queue.pending().await?.is_empty())
            },
        )
        .await?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn no_more_is_taken_than_can_be_worked_on(lab: Lab) -> Outcome {
    lab.promise("A worker with `concurrency` 3 never runs more than three handlers, and never takes more entries from Redis than it has handlers free: what it cannot work on stays there for others.");
    let queue = Queue::new(&lab).await?;
    queue.put(40).await?;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let gate = Gate::closed();
    let (now, peak, waiting) = (Arc::clone(&running), Arc::clone(&most), gate.clone());
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 3,
            ..queue.options("c1")
        },
        move |_entry| {
            let (now, peak, gate) = (Arc::clone(&now), Arc::clone(&peak), waiting.clone());
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.passed().await;
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        },
    );
    queue
        .until(
            &mut [&mut worker],
            "three handlers to be at work",
            || async { Ok(running.load(Ordering::SeqCst) >= 3) },
        )
        .await?;
    // All three wait at the gate: whatever is taken now is taken beyond the bound.
    lab.within(Duration::from_millis(400)).await;
    ensure!(
        most.load(Ordering::SeqCst) <= 3,
        "SQ20",
        "{} handlers ran at once",
        most.load(Ordering::SeqCst)
    );
    let taken = queue.pending_ids().await?;
    ensure!(
        taken.len() <= 3,
        "SQ20",
        "three handlers are at work and none has finished; the worker has taken {} entries from Redis, so {} wait inside it, where no other worker can get them",
        taken.len(),
        taken.len() - 3
    );
    gate.open();
    queue
        .until(
            &mut [&mut worker],
            "all 40 entries to be acknowledged",
            || async { Ok(queue.pending().await?.is_empty() && queue.undelivered().await? == 0) },
        )
        .await?;
    worker.finish(&lab).await?;
    ensure!(
        most.load(Ordering::SeqCst) <= 3,
        "SQ20",
        "{} handlers ran at once",
        most.load(Ordering::SeqCst)
    );
    Ok(())
}

async fn a_slow_entry_holds_up_no_other(lab: Lab) -> Outcome {
    lab.promise("While one handler takes its time, the other slots go on: with `concurrency` 2 and one entry that does not end, all the others are handled and acknowledged.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(25).await?;
    let (slow, gate, seen) = (ids[0].clone(), Gate::closed(), Seen::default());
    let (waiting, handled, first) = (gate.clone(), seen.clone(), slow.clone());
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 2,
            ..queue.options("c1")
        },
        move |entry| {
            let (gate, handled, is_slow) = (waiting.clone(), handled.clone(), entry.id == first);
            async move {
                if is_slow {
                    gate.passed().await;
                }
                handled.add(&entry);
                Ok(())
            }
        },
    );
    let outcome = queue.until(&mut [&mut worker], "the 24 other entries to be handled and acknowledged while the first one is still at work", || async {
        Ok(seen.distinct() == 24 && queue.pending_ids().await? == [slow.clone()])
    }).await;
    if let Err(failure) = outcome {
        let code = (seen.count() < 24).then_some("SQ22");
        return Err(failure.code_if(code).also(format!(
            "{} of the 24 others were handled; {} are pending",
            seen.distinct(),
            queue.pending().await?.len()
        )));
    }
    gate.open();
    queue
        .until(
            &mut [&mut worker],
            "the slow entry to be acknowledged in the end",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn an_acknowledgement_does_not_wait_behind_a_blocking_read(lab: Lab) -> Outcome {
    lab.promise("The blocking read has a connection of its own: nothing else is sent on a connection that waits for new entries, so an acknowledgement reaches Redis when the work is done and not when the next entry comes.");
    let queue = Queue::new(&lab).await?;
    let id = queue.put(1).await?.remove(0);
    let (gate, seen) = (Gate::closed(), Seen::default());
    let mut worker = queue.waiting_worker(
        WorkOptions {
            concurrency: 2,
            ..queue.options("c1")
        },
        &gate,
        &seen,
    );
    queue
        .until(&mut [&mut worker], "the handler to start", || async {
            Ok(seen.count() == 1)
        })
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    // The second slot is free, so the worker asks for more and waits.
    let mark = queue.redis.proxy().mark();
    queue
        .until(
            &mut [&mut worker],
            "the worker to ask for a second entry while the first is at work",
            || async {
                Ok(queue.redis.proxy().is_blocked()
                    || queue
                        .redis
                        .proxy()
                        .since(mark)
                        .iter()
                        .any(|e| e.is("XREADGROUP")))
            },
        )
        .await
        .map_err(|failure| failure.code_if(Some("SQ22")))?;
    gate.open();
    let outcome = queue
        .until(
            &mut [&mut worker],
            "the entry to be acknowledged, with no further entry coming",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await;
    let behind = queue.redis.proxy().while_blocked();
    if let Some(late) = behind.first() {
        lab::fail!(
            "SQ06",
            "{} for {id} was sent on connection {} while a blocking read was waiting there: Redis answers it only after the read has ended",
            late.name(),
            late.connection
        );
    }
    outcome?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn every_entry_is_handled_once_under_concurrency(lab: Lab) -> Outcome {
    lab.promise("With eight handlers side by side each entry is still handled once, acknowledged once, and only after its handler succeeded.");
    let queue = Queue::new(&lab).await?;
    queue.put(600).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 8,
            ..queue.options("c1")
        },
        move |entry| {
            handled.add(&entry);
            async {
                tokio::task::yield_now().await;
                Ok(())
            }
        },
    );
    queue
        .until(
            &mut [&mut worker],
            "600 entries to be handled and acknowledged",
            || async { Ok(seen.distinct() == 600 && queue.pending().await?.is_empty()) },
        )
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "nothing failed, and entries were handled more than once: {:?}",
        seen.repeated()
    );
    let history = lab.history();
    history.absorb(queue.redis.proxy(), &queue.stream, &queue.group);
    // What a candidate did inside scripts shows in the state, not on the wire.
    history
        .absorb_state(&mut queue.direct(), &queue.stream, &queue.group)
        .await?;
    history.require_code(lab::history::acknowledged_only_after_success, "SQ03")?;
    history.require(lab::history::nothing_lost)
}
