//! Stage 2: a consumer group that begins at the beginning and acknowledges after the work.

use std::time::Duration;

use lab::{Check, Lab, Outcome, ensure};
use stream_queue::Consumer;

use crate::queue::{Gate, Queue, Seen, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        entries_from_before_the_group_are_consumed,
        creating_the_group_again_keeps_its_progress,
        a_group_can_be_created_before_the_stream,
        read_returns_new_entries_in_order_and_no_more_than_asked,
        acknowledge_says_how_many_it_acknowledged,
        an_entry_stays_pending_until_its_handler_succeeded,
        a_failure_is_not_acknowledged_with_its_neighbours,
        each_entry_is_handled_once_and_in_order,
        a_quiet_hour_is_no_error,
        a_worker_that_finds_no_redis_says_so,
        zero_counts_as_one,
    ]
}

async fn entries_from_before_the_group_are_consumed(lab: Lab) -> Outcome {
    lab.promise(
        "Entries that are in the stream when the group is created are consumed like any other.",
    );
    let queue = Queue::new(&lab).await?;
    let early = queue.put(20).await?;
    let seen = Seen::default();
    let mut worker = queue.noting_worker(queue.options("c1"), &seen);
    // One more, so that a group which begins at the end has something to consume, and shows it.
    queue
        .until(
            &mut [&mut worker],
            "the worker to read from the stream",
            || async {
                Ok(queue
                    .redis
                    .proxy()
                    .log()
                    .iter()
                    .any(|e| e.is("XREADGROUP") || e.is("XREAD")))
            },
        )
        .await?;
    let late = queue.put(1).await?;
    queue
        .until(
            &mut [&mut worker],
            "the entry that was added last to be handled",
            || async { Ok(seen.has(&late[0]) || seen.count() == 21) },
        )
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    let missing: Vec<String> = early.iter().filter(|id| !seen.has(id)).cloned().collect();
    if !missing.is_empty() {
        lab::fail!(
            queue.suspect(),
            "20 entries were in the stream before the group, {} of them were never handled: {}; the one that came later was",
            missing.len(),
            some(&missing)
        );
    }
    queue
        .until(
            &mut [&mut worker],
            "every entry to be acknowledged",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn creating_the_group_again_keeps_its_progress(lab: Lab) -> Outcome {
    lab.promise("`create_group` may be called when the group is there already: it is no error, and what the group has read, and what is pending, stays. Any other refusal is an error.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(6).await?;
    let options = queue.options("c1");
    let consumer = Consumer::connect(&options).await?;
    consumer.create_group().await?;
    let read = consumer.read(4, Duration::from_millis(50)).await?;
    ensure!(
        read.len() == 4,
        "four of six new entries were asked for, and {} came",
        read.len()
    );
    consumer.acknowledge(&ids[..2]).await?;

    let again = Consumer::connect(&queue.options("c2")).await?;
    if let Err(error) = again.create_group().await {
        lab::fail!("creating a group that exists returned an error: {error}");
    }
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids[2..4],
        "entries {} were pending before the group was created again; now {} are",
        some(&ids[2..4]),
        some(&pending)
    );
    let rest: Vec<String> = again
        .read(10, Duration::from_millis(50))
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    ensure!(
        rest == ids[4..],
        "the group had two entries left to read, {}; after it was created again it reads {}",
        some(&ids[4..]),
        some(&rest)
    );

    let other = Queue::new(&lab).await?;
    let _: () = redis::cmd("SET")
        .arg(&[&other.stream, "not a stream"])
        .query_async(&mut other.direct())
        .await?;
    let refused = Consumer::connect(&other.options("c1"))
        .await?
        .create_group()
        .await;
    ensure!(
        refused.is_err(),
        "a string lives under the stream's key, and `create_group` said that all is well"
    );
    Ok(())
}

async fn a_group_can_be_created_before_the_stream(lab: Lab) -> Outcome {
    lab.promise("A worker may start before anything was ever sent: the group creates the stream.");
    let queue = Queue::new(&lab).await?;
    let seen = Seen::default();
    let mut worker = queue.noting_worker(queue.options("c1"), &seen);
    queue
        .until(
            &mut [&mut worker],
            "the worker to ask Redis for entries",
            || async {
                Ok(queue
                    .redis
                    .proxy()
                    .log()
                    .iter()
                    .any(|e| e.is("XREADGROUP") || e.is("XREAD")))
            },
        )
        .await?;
    queue.put(3).await?;
    queue
        .until(
            &mut [&mut worker],
            "the three entries sent after the worker's start to be handled",
            || async { Ok(seen.distinct() == 3) },
        )
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn read_returns_new_entries_in_order_and_no_more_than_asked(lab: Lab) -> Outcome {
    lab.promise("`read(max, wait)` returns entries that the group has delivered to nobody, oldest first, at most `max`; each is pending from then on. When there is none for `wait`, it returns an empty list.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(8).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let wait = Duration::from_millis(80);
    let first = consumer.read(3, wait).await?;
    let got: Vec<String> = first.iter().map(|entry| entry.id.clone()).collect();
    ensure!(
        got == ids[..3],
        "`read(3)` on a fresh group returned {}; the oldest three are {}",
        some(&got),
        some(&ids[..3])
    );
    for (n, entry) in first.iter().enumerate() {
        ensure!(
            entry.deliveries == 1,
            "entry {} comes for the first time, and says that it was delivered {} times",
            entry.id,
            entry.deliveries
        );
        let order = entry
            .fields
            .iter()
            .find(|(name, _)| name == b"order_id")
            .map(|(_, value)| value.clone());
        ensure!(
            order == Some(format!("A-{n}").into_bytes()),
            "entry {} should carry order_id A-{n}; its fields are {:?}",
            entry.id,
            entry.fields
        );
        ensure!(
            entry.fields.len() == 3,
            "entry {} has 3 fields, and {} came",
            entry.id,
            entry.fields.len()
        );
    }
    let pending = queue.pending_ids().await?;
    if pending != got {
        lab::fail!(
            queue.suspect(),
            "three entries were read and not acknowledged, and pending are: {}",
            some(&pending)
        );
    }
    let second: Vec<String> = consumer
        .read(50, wait)
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    ensure!(
        second == ids[3..],
        "the next read should return the other five, {}; it returned {}",
        some(&ids[3..]),
        some(&second)
    );
    let third = consumer.read(50, wait).await?;
    ensure!(
        third.is_empty(),
        "all entries were delivered, none is new, and `read` returned {} of them again",
        third.len()
    );
    for wait in [Duration::ZERO, Duration::from_micros(300)] {
        let soon = tokio::time::timeout(lab.deadline(), consumer.read(50, wait)).await;
        match soon {
            Ok(entries) => ensure!(
                entries?.is_empty(),
                "nothing new was there, and `read` returned entries"
            ),
            Err(_) => lab::fail!(
                "`read` was told to wait {wait:?} for new entries, and still waits after {:?}: in Redis, BLOCK 0 waits for ever",
                lab.deadline()
            ),
        }
    }
    // Longer than the half second after which the client's default settings give up on a reply.
    let fourth = consumer.read(50, Duration::from_millis(900)).await;
    match fourth {
        Ok(entries) => ensure!(
            entries.is_empty(),
            "nothing new was there, and `read` returned {} entries",
            entries.len()
        ),
        Err(error) => lab::fail!(
            "SQ21",
            "`read` was told to wait up to 900 ms for new entries; there were none, and it returned an error: {error}"
        ),
    }
    Ok(())
}

async fn acknowledge_says_how_many_it_acknowledged(lab: Lab) -> Outcome {
    lab.promise("`acknowledge` takes any number of ids, none included, and returns how many of them were pending until now.");
    let queue = Queue::new(&lab).await?;
    queue.put(5).await?;
    let consumer = Consumer::connect(&queue.options("c1")).await?;
    consumer.create_group().await?;
    let ids: Vec<String> = consumer
        .read(5, Duration::from_millis(80))
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    let none = consumer.acknowledge(&[]).await;
    ensure!(
        matches!(none, Ok(0)),
        "acknowledging no ids at all returned {none:?}"
    );
    let two = consumer.acknowledge(&ids[..2]).await?;
    ensure!(
        two == 2,
        "two pending entries were acknowledged, and `acknowledge` returned {two}"
    );
    let all = consumer.acknowledge(&ids).await?;
    ensure!(
        all == 3,
        "three of the five ids were still pending, and `acknowledge` returned {all}"
    );
    let left = queue.pending_ids().await?;
    ensure!(
        left.is_empty(),
        "every entry was acknowledged, and still pending are {}",
        some(&left)
    );
    Ok(())
}

async fn an_entry_stays_pending_until_its_handler_succeeded(lab: Lab) -> Outcome {
    lab.promise("An entry is acknowledged after its handler succeeded, not before: while the handler runs, Redis still lists the entry as pending.");
    let queue = Queue::new(&lab).await?;
    let gate = Gate::closed();
    let seen = Seen::default();
    let ids = queue.put(1).await?;
    let mut worker = queue.waiting_worker(queue.options("c1"), &gate, &seen);
    queue
        .until(&mut [&mut worker], "the handler to start", || async {
            Ok(seen.count() > 0)
        })
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    let pending = queue.pending_ids().await?;
    if pending != ids {
        let code = queue.suspect().unwrap_or("SQ03");
        lab::fail!(
            code,
            "the handler of {} is at work, and Redis lists as pending: {}; a crash now would lose the entry",
            ids[0],
            some(&pending)
        );
    }
    // An acknowledgement sent beside the handler needs a moment to arrive.
    lab.within(Duration::from_millis(150)).await;
    let pending = queue.pending_ids().await?;
    ensure!(
        pending == ids,
        "SQ03",
        "the handler of {} is still at work, and the entry was acknowledged meanwhile",
        ids[0]
    );
    gate.open();
    queue
        .until(
            &mut [&mut worker],
            "the entry to be acknowledged after its handler succeeded",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_failure_is_not_acknowledged_with_its_neighbours(lab: Lab) -> Outcome {
    lab.promise("An entry whose handler failed is not acknowledged, whatever becomes of the entries that were read with it.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(9).await?;
    let bad = ids[4].clone();
    let seen = Seen::default();
    let (handled, poison) = (seen.clone(), bad.clone());
    let options = stream_queue::WorkOptions {
        concurrency: 3,
        max_deliveries: 1_000,
        first_retry: Duration::from_secs(60),
        longest_retry: Duration::from_secs(60),
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        let failed = entry.id == poison;
        async move {
            if failed {
                Err("card declined".to_owned())
            } else {
                Ok(())
            }
        }
    });
    queue
        .until(
            &mut [&mut worker],
            "all nine entries to be handled, eight with success",
            || async { Ok(seen.distinct() == 9) },
        )
        .await?;
    queue
        .until(
            &mut [&mut worker],
            "the eight good entries to be acknowledged",
            || async { Ok(queue.pending().await?.len() <= 1) },
        )
        .await?;
    lab.within(Duration::from_millis(100)).await;
    let pending = queue.pending_ids().await?;
    if pending != [bad.clone()] {
        let together = queue.redis.proxy().log().iter().any(|e| {
            e.is("XACK") && e.command.len() > 4 && (3..e.command.len()).any(|i| e.arg(i) == bad)
        });
        let code = queue
            .suspect()
            .or(if together { Some("SQ11") } else { Some("SQ08") });
        lab::fail!(
            code,
            "the handler of {bad} failed, and Redis lists as pending: {}; nobody will ever handle that entry",
            some(&pending)
        );
    }
    Ok(())
}

async fn each_entry_is_handled_once_and_in_order(lab: Lab) -> Outcome {
    lab.promise("One worker without concurrency handles each entry once, in the order of the stream, and each comes as its first delivery.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(200).await?;
    let seen = Seen::default();
    let mut worker = queue.noting_worker(queue.options("c1"), &seen);
    queue
        .until(
            &mut [&mut worker],
            "200 entries to be handled and acknowledged",
            || async { Ok(seen.distinct() == 200 && queue.pending().await?.is_empty()) },
        )
        .await
        .map_err(|failure| failure.code_if(queue.suspect()))?;
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "entries were handled more than once though nothing failed: {:?}",
        seen.repeated()
    );
    ensure!(
        seen.ids() == ids,
        "the handler saw the entries in another order than the stream has them"
    );
    let odd: Vec<_> = seen
        .all()
        .into_iter()
        .filter(|entry| entry.deliveries != 1)
        .collect();
    ensure!(
        odd.is_empty(),
        "entry {} was delivered once and came with `deliveries` {}",
        odd[0].id,
        odd[0].deliveries
    );
    let entry = &seen.all()[7];
    ensure!(
        entry.fields.get("order_id").map(String::as_str) == Some("A-7") && entry.fields.len() == 3,
        "the handler of the eighth entry saw the fields {:?}",
        entry.fields
    );
    Ok(())
}

async fn a_quiet_hour_is_no_error(lab: Lab) -> Outcome {
    lab.promise("A worker that has had nothing to do for a while is still there: the next entry is handled at once, as its first delivery, and never lost in a read that was given up.");
    let queue = Queue::new(&lab).await?;
    let seen = Seen::default();
    let mut worker = queue.noting_worker(queue.options("c1"), &seen);
    // Longer than the client's default limit for a reply, which is half a second.
    lab.within(Duration::from_millis(1_300)).await;
    for round in 1..=3 {
        if worker.has_ended() {
            let result = worker.ended().await;
            lab::fail!(
                "SQ21",
                "the worker had nothing to do, and `work` returned {result:?}"
            );
        }
        let before = seen.count();
        let id = queue.put(1).await?.remove(0);
        queue
            .until(
                &mut [&mut worker],
                "an entry sent after a quiet spell to be handled",
                || async { Ok(seen.count() > before) },
            )
            .await
            .map_err(|failure| failure.code_if(queue.suspect().or(Some("SQ21"))))?;
        let entry = seen.all().pop().expect("one was just counted");
        ensure!(
            entry.id == id && entry.deliveries == 1,
            "SQ21",
            "round {round}: entry {id} should have come as its first delivery; the handler got {} with `deliveries` {}",
            entry.id,
            entry.deliveries
        );
        lab.within(Duration::from_millis(700)).await;
    }
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_worker_that_finds_no_redis_says_so(lab: Lab) -> Outcome {
    lab.promise("When Redis cannot be reached at the start, `work` returns an error instead of waiting: whoever started it with a wrong address hears of it.");
    let queue = Queue::new(&lab).await?;
    let options = stream_queue::WorkOptions {
        redis: "redis://127.0.0.1:1/".to_owned(),
        ..queue.options("c1")
    };
    let mut worker = queue.worker(options);
    match tokio::time::timeout(lab.deadline(), worker.ended()).await {
        Ok(Err(_)) => {}
        Ok(Ok(summary)) => {
            lab::fail!("no Redis listens at the address given, and `work` returned {summary:?}")
        }
        Err(_) => lab::fail!(
            "no Redis listens at the address given, and `work` had not said so after {:?}",
            lab.deadline()
        ),
    }
    let _: () = redis::cmd("SET")
        .arg(&[&queue.stream, "not a stream"])
        .query_async(&mut queue.direct())
        .await?;
    let mut worker = queue.worker(queue.options("c1"));
    match tokio::time::timeout(lab.deadline(), worker.ended()).await {
        Ok(Err(_)) => Ok(()),
        Ok(Ok(summary)) => {
            lab::fail!("the key of the stream holds a string, and `work` returned {summary:?}")
        }
        Err(_) => lab::fail!(
            "the key of the stream holds a string, and `work` had not said so after {:?}",
            lab.deadline()
        ),
    }
}

async fn zero_counts_as_one(lab: Lab) -> Outcome {
    lab.promise(
        "A `concurrency` of 0 counts as 1, and so does `max_deliveries`: each entry is handled.",
    );
    let queue = Queue::new(&lab).await?;
    queue.put(3).await?;
    let seen = Seen::default();
    let options = stream_queue::WorkOptions {
        concurrency: 0,
        max_deliveries: 0,
        ..queue.options("c1")
    };
    let mut worker = queue.noting_worker(options, &seen);
    queue
        .until(
            &mut [&mut worker],
            "three entries to be handled and acknowledged",
            || async { Ok(seen.distinct() == 3 && queue.pending().await?.is_empty()) },
        )
        .await?;
    worker.finish(&lab).await?;
    ensure!(
        queue.dead().await?.is_empty(),
        "no handler failed, and {} entries were dead-lettered",
        queue.dead().await?.len()
    );
    Ok(())
}
