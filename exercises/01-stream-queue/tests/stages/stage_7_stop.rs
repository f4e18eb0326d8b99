//! Stage 7: stopping is part of the protocol. Nothing is lost, nothing is left lying about.

use std::time::Duration;

use lab::faults::{Action, Trigger};
use lab::{Check, Lab, Outcome, ensure};
use stream_queue::{Consumer, WorkOptions};

use crate::queue::{Gate, Queue, Seen, delivers, some, sound, undisturbed};

pub fn checks() -> Vec<Check> {
    lab::checks![
        what_is_in_flight_is_finished_and_nothing_new_is_begun,
        sigterm_ends_the_service_with_nothing_pending,
        a_handler_that_never_ends_is_left_after_the_deadline,
        a_consumer_with_pending_entries_is_never_deleted,
        a_stop_does_not_wait_for_a_retry,
        a_retry_that_falls_due_while_stopping_is_left_to_others,
        an_entry_that_arrives_while_stopping_is_not_left_pending,
        an_idle_worker_stops_too,
        a_stop_without_redis_keeps_its_deadline,
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn what_is_in_flight_is_finished_and_nothing_new_is_begun(lab: Lab) -> Outcome {
    lab.promise("When it is asked to stop, a worker finishes what its handlers have begun, acknowledges it, begins nothing new, and leaves nothing pending.");
    let queue = Queue::new(&lab).await?;
    queue.put(12).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let mut worker = queue.waiting_worker(
        WorkOptions {
            concurrency: 3,
            ..queue.options("c1")
        },
        &gate,
        &seen,
    );
    queue
        .until(
            &mut [&mut worker],
            "three handlers to be at work",
            || async { Ok(seen.count() == 3) },
        )
        .await?;
    worker.stop();
    lab.within(Duration::from_millis(150)).await;
    ensure!(
        !worker.has_ended(),
        "three handlers were at work, `stop_deadline` is 10 s, and `work` returned without waiting for them"
    );
    gate.open();
    let summary = worker.finish(&lab).await?;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending.is_empty(),
        "the worker has stopped, and {} entries are pending: {}",
        pending.len(),
        some(&pending)
    );
    ensure!(
        seen.count() == 3,
        "three handlers were at work when the worker was asked to stop; it began {} more",
        seen.count() - 3
    );
    ensure!(
        queue.undelivered().await? == 9,
        "nine entries should be left for other workers; {} are",
        queue.undelivered().await?
    );
    ensure!(
        summary.handled == 3 && summary.left_pending == 0,
        "three entries were handled and none left; the summary says {summary:?}"
    );
    Ok(())
}

async fn sigterm_ends_the_service_with_nothing_pending(lab: Lab) -> Outcome {
    lab.promise("On SIGTERM the service finishes what it has in hand, prints it, leaves nothing pending and ends with exit code 0.");
    let queue = Queue::new(&lab).await?;
    let url = queue.redis.url();
    let service = lab
        .service([
            "work",
            "--redis",
            &url,
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "c1",
            "--concurrency",
            "4",
            "--exec",
            "cat >/dev/null; sleep 0.4",
        ])
        .start()?;
    queue.put(40).await?;
    lab.eventually("four commands to be at work", || async {
        service.expect_running()?;
        Ok((queue.pending().await?.len() == 4).then_some(()))
    })
    .await?;
    lab.history().fault("c1", "SIGTERM");
    service.terminate();
    let status = service.wait().await?;
    ensure!(
        status.code() == Some(0),
        "after SIGTERM the service ended with {status}; it said: {}",
        service.stderr()
    );
    let pending = queue.pending_ids().await?;
    ensure!(
        pending.is_empty(),
        "the service has ended, and {} entries are pending: {}",
        pending.len(),
        some(&pending)
    );
    let taken = 40 - queue.undelivered().await?;
    ensure!(
        service.json_lines().len() == taken,
        "{taken} entries were taken and acknowledged, and {} lines were printed",
        service.json_lines().len()
    );
    ensure!(
        taken < 40,
        "after SIGTERM the service went on until all 40 entries were done"
    );
    Ok(())
}

async fn a_handler_that_never_ends_is_left_after_the_deadline(lab: Lab) -> Outcome {
    lab.promise("A handler that does not end within `stop_deadline` is left behind: `work` returns, and the entry stays pending for another worker.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(2).await?;
    let seen = Seen::default();
    let (started, hangs) = (seen.clone(), ids[0].clone());
    let options = WorkOptions {
        concurrency: 2,
        stop_deadline: Duration::from_millis(500),
        visibility: Duration::from_secs(1),
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        started.add(&entry);
        let hangs = entry.id == hangs;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    queue
        .until(
            &mut [&mut worker],
            "one entry to be handled and the other to hang",
            || async { Ok(seen.count() == 2 && queue.pending_ids().await? == ids[..1]) },
        )
        .await?;
    let summary = worker.finish(&lab).await?;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids[..1],
        "SQ10",
        "the handler of {} never ended, so the entry is still to be handled; pending are: {}",
        ids[0],
        some(&pending)
    );
    ensure!(
        summary.handled == 1 && summary.left_pending == 1,
        "one entry was handled and one left pending; the summary says {summary:?}"
    );
    ensure!(
        queue.dead().await?.is_empty(),
        "the entry that was left behind is in the dead-letter stream"
    );
    // Another worker finds it.
    let heir_seen = Seen::default();
    let handled = heir_seen.clone();
    let mut heir = queue.worker_with(
        WorkOptions {
            visibility: Duration::from_secs(1),
            ..queue.options("heir")
        },
        move |entry| {
            handled.add(&entry);
            async { Ok(()) }
        },
    );
    queue
        .until(
            &mut [&mut heir],
            "the entry that was left behind to be handled by another worker",
            || async { Ok(heir_seen.has(&ids[0]) && queue.pending().await?.is_empty()) },
        )
        .await
        .map_err(|failure| failure.code_if(Some("SQ10")))?;
    heir.finish(&lab).await?;
    Ok(())
}

async fn a_consumer_with_pending_entries_is_never_deleted(lab: Lab) -> Outcome {
    lab.promise("Deleting a consumer deletes its pending list, and with it the only trace of what it had taken. `leave` deletes a consumer without pending entries and returns true; with pending entries it returns false and changes nothing.");
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
    consumer.acknowledge(&ids[..1]).await?;
    let left = consumer.leave().await?;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids[1..],
        "SQ10",
        "one entry was pending when its consumer left; now pending are: {}",
        some(&pending)
    );
    ensure!(
        !left,
        "`leave` returned true, and the consumer has a pending entry"
    );
    consumer.acknowledge(&ids).await?;
    ensure!(
        consumer.leave().await?,
        "nothing was pending, and `leave` returned false"
    );
    let info: redis::streams::StreamInfoConsumersReply = redis::cmd("XINFO")
        .arg(&["CONSUMERS", &queue.stream, &queue.group])
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        info.consumers.is_empty(),
        "`leave` returned true, and Redis still lists the consumer"
    );
    let stranger = Consumer::connect(&queue.options("stranger")).await?;
    ensure!(
        stranger.leave().await?,
        "a consumer that never read anything is not in the group, and `leave` returned false"
    );
    // An entry that is delivered in the very moment: the test and the deletion are one step.
    for nth in 1..=4 {
        let queue = Queue::new(&lab).await?;
        let consumer = Consumer::connect(&queue.options("c1")).await?;
        consumer.create_group().await?;
        let _ = consumer.read(1, Duration::from_millis(5)).await?;
        let held = queue
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let leaving = tokio::spawn({
            let consumer = consumer.clone();
            async move { consumer.leave().await }
        });
        if undisturbed(&held, &leaving).await {
            sound(nth, leaving).await?;
            break;
        }
        queue.put(1).await?;
        let taken = queue.deliver_to(&queue.group, "c1", 1).await?;
        held.release();
        let answer = leaving.await;
        let pending = queue.pending_ids().await?;
        ensure!(
            pending == taken,
            "SQ10",
            "an entry was delivered while `leave` was under way (before its command {nth}); `leave` returned {answer:?}, and pending are: {}",
            some(&pending)
        );
    }
    Ok(())
}

async fn a_stop_does_not_wait_for_a_retry(lab: Lab) -> Outcome {
    lab.promise("An entry that waits for its next try is not in flight: a worker that stops does not wait for it, keeps it pending for others and does not give it up before its time.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(2).await?;
    let seen = Seen::default();
    let (started, bad) = (seen.clone(), ids[0].clone());
    let options = WorkOptions {
        first_retry: HOUR,
        longest_retry: HOUR,
        max_deliveries: 5,
        stop_deadline: Duration::from_secs(1),
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        started.add(&entry);
        let fails = entry.id == bad;
        async move {
            if fails {
                Err("not now".to_owned())
            } else {
                Ok(())
            }
        }
    });
    queue
        .until(
            &mut [&mut worker],
            "one entry to fail and the other to be acknowledged",
            || async { Ok(seen.distinct() == 2 && queue.pending_ids().await? == ids[..1]) },
        )
        .await?;
    worker.finish(&lab).await?;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids[..1],
        "SQ10",
        "entry {} waits for its second delivery; after the worker stopped, pending are: {}",
        ids[0],
        some(&pending)
    );
    ensure!(
        queue.dead().await?.is_empty(),
        "an entry that had four deliveries left was dead-lettered when the worker stopped"
    );
    Ok(())
}

async fn a_retry_that_falls_due_while_stopping_is_left_to_others(lab: Lab) -> Outcome {
    lab.promise("A worker that was asked to stop begins nothing any more, no next try either: the entry stays pending for others.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(2).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let (waiting, started, bad) = (gate.clone(), seen.clone(), ids[0].clone());
    let delay = Duration::from_millis(400);
    let options = WorkOptions {
        concurrency: 2,
        first_retry: delay,
        longest_retry: delay,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        started.add(&entry);
        let (gate, fails) = (waiting.clone(), entry.id == bad);
        async move {
            if fails {
                return Err("not now".to_owned());
            }
            gate.passed().await;
            Ok(())
        }
    });
    queue
        .until(
            &mut [&mut worker],
            "one entry to fail and the other to be at work",
            || async { Ok(seen.distinct() == 2) },
        )
        .await?;
    let tries = || seen.ids().iter().filter(|id| **id == ids[0]).count();
    worker.stop();
    let before = tries();
    lab.within(delay * 3).await;
    let begun = tries() - before;
    gate.open();
    worker.finish(&lab).await?;
    // The stop may come while a try is just being begun.
    ensure!(
        begun <= 1,
        "while the worker was stopping it began {begun} more tries of {}",
        ids[0]
    );
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids[..1],
        "entry {} waits for its next try at another worker; pending are: {}",
        ids[0],
        some(&pending)
    );
    Ok(())
}

async fn an_entry_that_arrives_while_stopping_is_not_left_pending(lab: Lab) -> Outcome {
    lab.promise("An entry that Redis delivers in the very moment in which the worker is asked to stop is not left pending in a read that nobody listens to any more.");
    let queue = Queue::new(&lab).await?;
    let seen = Seen::default();
    let started = seen.clone();
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 2,
            ..queue.options("c1")
        },
        move |entry| {
            started.add(&entry);
            async { Ok(()) }
        },
    );
    let proxy = queue.redis.proxy();
    queue
        .until(
            &mut [&mut worker],
            "the worker to wait for new entries",
            || async { Ok(proxy.log().iter().any(|e| e.is("XREADGROUP"))) },
        )
        .await?;
    // Redis has delivered the entry; its reply is still on the way when the stop comes.
    let delivery = proxy.arm(
        Trigger::reply(|e| e.is("XREADGROUP") && delivers(e)).nth(1),
        Action::Hold,
    );
    let id = queue.put(1).await?.remove(0);
    queue
        .until(&mut [&mut worker], "Redis to deliver the entry", || async {
            Ok(delivery.has_fired())
        })
        .await?;
    worker.stop();
    lab.within(Duration::from_millis(200)).await;
    delivery.release();
    worker.finish(&lab).await?;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending.is_empty(),
        "SQ24",
        "entry {id} was delivered just when the worker was asked to stop; `work` has returned, the handler {} it, and it is still pending",
        if seen.has(&id) {
            "has seen"
        } else {
            "never saw"
        }
    );
    Ok(())
}

async fn an_idle_worker_stops_too(lab: Lab) -> Outcome {
    lab.promise("A worker that waits for new entries ends within its deadline, although nothing comes, and leaves no consumer with pending entries behind.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(3).await?;
    let mut worker = queue.worker(WorkOptions {
        stop_deadline: Duration::from_secs(3),
        ..queue.options("c1")
    });
    queue
        .until(
            &mut [&mut worker],
            "three entries to be acknowledged",
            || async { Ok(queue.undelivered().await? == 0 && queue.pending().await?.is_empty()) },
        )
        .await?;
    lab.within(Duration::from_millis(100)).await;
    let summary = worker.finish(&lab).await?;
    ensure!(
        summary.handled == ids.len() as u64
            && summary.left_pending == 0
            && summary.dead_lettered == 0,
        "three entries were handled; the summary says {summary:?}"
    );
    let info: redis::streams::StreamInfoConsumersReply = redis::cmd("XINFO")
        .arg(&["CONSUMERS", &queue.stream, &queue.group])
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        info.consumers.is_empty(),
        "the worker stopped with nothing pending, and its consumer is still in the group: {} of them",
        info.consumers.len()
    );
    Ok(())
}

async fn a_stop_without_redis_keeps_its_deadline(lab: Lab) -> Outcome {
    lab.promise("A worker that is asked to stop while Redis is away does not wait until it is back: it returns within its deadline.");
    let queue = Queue::new(&lab).await?;
    queue.put(3).await?;
    let options = WorkOptions {
        stop_deadline: Duration::from_millis(600),
        ..queue.options("c1")
    };
    let mut worker = queue.worker(options);
    queue
        .until(
            &mut [&mut worker],
            "three entries to be acknowledged",
            || async { Ok(queue.undelivered().await? == 0 && queue.pending().await?.is_empty()) },
        )
        .await?;
    let proxy = queue.redis.proxy();
    lab.history().fault("proxy", "refuses every connection");
    proxy.refuse(true);
    proxy.cut_all();
    lab.within(Duration::from_millis(200)).await;
    worker.finish(&lab).await?;
    Ok(())
}
