//! Stage 6: the stream does not grow for ever, and what is not acknowledged is never cut off.

use std::time::Duration;

use lab::faults::{Action, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::json;
use stream_queue::{Message, Producer, SendOptions, WorkOptions, backlog, trim};

use crate::queue::{Queue, some, sound, undisturbed};

pub fn checks() -> Vec<Check> {
    lab::checks![
        what_every_group_has_acknowledged_is_trimmed,
        what_any_group_still_needs_is_kept,
        without_a_group_nothing_is_trimmed,
        a_worker_trims_while_it_runs_and_never_too_much,
        the_backlog_is_what_the_slowest_group_has_before_it,
        a_producer_waits_while_the_backlog_is_full,
        acknowledged_entries_are_no_backlog,
        ids_are_compared_as_numbers,
        trimming_is_one_step,
        sending_trims_nothing,
        several_producers_share_one_limit,
    ]
}

async fn what_every_group_has_acknowledged_is_trimmed(lab: Lab) -> Outcome {
    lab.promise("`trim` removes what every group has acknowledged (up to 200 entries may stay, since Redis trims whole nodes faster than single entries) and returns how many it removed.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(2_000).await?;
    for group in ["a", "b"] {
        queue.create_group(group).await?;
        queue.deliver_to(group, "c", 2_000).await?;
        queue.acknowledge(group, &ids).await?;
    }
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let removed = trim(&mut connection, &queue.stream).await?;
    let left = queue.length().await?;
    ensure!(
        left <= 200,
        "two groups have acknowledged all 2,000 entries; `trim` left {left} of them"
    );
    ensure!(
        removed == 2_000 - left,
        "2,000 entries were there and {left} are left; `trim` said that it removed {removed}"
    );
    Ok(())
}

async fn what_any_group_still_needs_is_kept(lab: Lab) -> Outcome {
    lab.promise("`trim` never removes an entry that is pending in some group, or that some group has not read yet, however old it is.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(1_500).await?;
    // `fast` has finished everything. `slow` has finished the first 600 but one, and read 900.
    queue.create_group("fast").await?;
    queue.deliver_to("fast", "c", 1_500).await?;
    queue.acknowledge("fast", &ids).await?;
    queue.create_group("slow").await?;
    queue.deliver_to("slow", "c", 900).await?;
    queue.acknowledge("slow", &ids[..300]).await?;
    queue.acknowledge("slow", &ids[301..600]).await?;
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let still_there = |needed: Vec<String>, why: &'static str| {
        let queue = &queue;
        async move {
            let there: std::collections::HashSet<String> = queue
                .entries()
                .await?
                .into_iter()
                .map(|entry| entry.id)
                .collect();
            let cut: Vec<String> = needed
                .into_iter()
                .filter(|id| !there.contains(id))
                .collect();
            ensure!(
                cut.is_empty(),
                "SQ09",
                "{} entries that {why} were removed: {}",
                cut.len(),
                some(&cut)
            );
            Ok::<(), Failure>(())
        }
    };
    trim(&mut connection, &queue.stream).await?;
    still_there(
        ids[300..].to_vec(),
        "are pending in group `slow`, or newer than its oldest pending one,",
    )
    .await?;
    ensure!(
        queue.length().await? <= 1_200 + 200,
        "every group has acknowledged the first 300 entries; `trim` left {} of 1,500",
        queue.length().await?
    );

    queue.acknowledge("slow", &ids[300..900]).await?;
    trim(&mut connection, &queue.stream).await?;
    still_there(ids[900..].to_vec(), "group `slow` has not read yet").await?;
    // A group that has read nothing needs everything that is there.
    let there = queue.entries().await?.len();
    queue.create_group("new").await?;
    trim(&mut connection, &queue.stream).await?;
    ensure!(
        queue.entries().await?.len() == there,
        "SQ09",
        "group `new` has read nothing; there were {there} entries for it, and `trim` left {}",
        queue.entries().await?.len()
    );
    Ok(())
}

async fn without_a_group_nothing_is_trimmed(lab: Lab) -> Outcome {
    lab.promise(
        "A stream that no group reads yet is left alone, and so is one that does not exist.",
    );
    let queue = Queue::new(&lab).await?;
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let none = trim(&mut connection, &queue.stream).await;
    ensure!(
        matches!(none, Ok(0)),
        "trimming a stream that does not exist returned {none:?}"
    );
    queue.put(700).await?;
    let none = trim(&mut connection, &queue.stream).await;
    ensure!(
        matches!(none, Ok(0)) && queue.length().await? == 700,
        "SQ09",
        "nobody has read the 700 entries of this stream; `trim` returned {none:?} and left {}",
        queue.length().await?
    );
    Ok(())
}

async fn a_worker_trims_while_it_runs_and_never_too_much(lab: Lab) -> Outcome {
    lab.promise("A running worker trims by itself, some seconds at the latest after it acknowledged something, and leaves what another group has not finished.");
    let queue = Queue::new(&lab).await?;
    queue.create_group("archive").await?;
    let ids = queue.put(3_000).await?;
    let options = WorkOptions {
        concurrency: 50,
        visibility: Duration::from_millis(800),
        ..queue.options("c1")
    };
    let mut worker = queue.worker(options);
    queue
        .until(
            &mut [&mut worker],
            "3,000 entries to be handled and acknowledged",
            || async { Ok(queue.undelivered().await? == 0 && queue.pending().await?.is_empty()) },
        )
        .await?;
    lab.within(Duration::from_millis(1_700)).await;
    ensure!(
        queue.length().await? == 3_000,
        "SQ09",
        "group `archive` has not read one of the 3,000 entries, and only {} are left",
        queue.length().await?
    );
    queue.deliver_to("archive", "c", 3_000).await?;
    queue.acknowledge("archive", &ids).await?;
    // The worker trims after it has acknowledged something; these give it the occasion.
    queue.put(5).await?;
    queue
        .until(
            &mut [&mut worker],
            "five later entries to be acknowledged, and the stream to become short now that both groups are done with the rest",
            || async {
                Ok(queue.undelivered().await? == 0
                    && queue.pending().await?.is_empty()
                    && queue.length().await? <= 205)
            },
        )
        .await
        .map_err(|failure| failure.also("the stream was not trimmed"))?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn the_backlog_is_what_the_slowest_group_has_before_it(lab: Lab) -> Outcome {
    lab.promise("`backlog` counts, for the group that is furthest behind, the entries it has not acknowledged: pending and not yet delivered. Without a group it is the stream's length.");
    let queue = Queue::new(&lab).await?;
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let expect = |expected: u64, got: u64, when: &str| -> Outcome {
        ensure!(
            got == expected,
            "SQ26",
            "{when}: the backlog is {expected}; `backlog` says {got}"
        );
        Ok(())
    };
    expect(
        0,
        backlog(&mut connection, &queue.stream).await?,
        "no stream",
    )?;
    let ids = queue.put(10).await?;
    expect(
        10,
        backlog(&mut connection, &queue.stream).await?,
        "ten entries and no group",
    )?;
    queue.create_group("a").await?;
    expect(
        10,
        backlog(&mut connection, &queue.stream).await?,
        "a group that has read nothing",
    )?;
    queue.deliver_to("a", "c", 7).await?;
    expect(
        10,
        backlog(&mut connection, &queue.stream).await?,
        "seven delivered and none acknowledged",
    )?;
    queue.acknowledge("a", &ids[..5]).await?;
    expect(
        5,
        backlog(&mut connection, &queue.stream).await?,
        "seven of ten delivered, five acknowledged",
    )?;
    queue.create_group("b").await?;
    queue.deliver_to("b", "c", 10).await?;
    queue.acknowledge("b", &ids[..2]).await?;
    expect(
        8,
        backlog(&mut connection, &queue.stream).await?,
        "group `a` has 5 before it and group `b` 8",
    )?;
    queue.acknowledge("b", &ids).await?;
    expect(
        5,
        backlog(&mut connection, &queue.stream).await?,
        "group `a` has 5 before it and group `b` none",
    )?;
    // After a deletion in the middle Redis cannot tell a group's lag and answers nil.
    let _: u64 = redis::cmd("XDEL")
        .arg(&[&queue.stream, &ids[8]])
        .query_async(&mut queue.direct())
        .await?;
    expect(
        4,
        backlog(&mut connection, &queue.stream).await?,
        "one of the three entries that `a` has not read was deleted",
    )?;
    // And after deletions in the right places it answers a number that is wrong.
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(10).await?;
    queue.create_group("a").await?;
    queue.deliver_to("a", "c", 2).await?;
    for id in &ids[2..5] {
        let _: u64 = redis::cmd("XDEL")
            .arg(&[&queue.stream, id])
            .query_async(&mut queue.direct())
            .await?;
    }
    queue.deliver_to("a", "c", 3).await?;
    queue.acknowledge("a", &ids).await?;
    expect(
        2,
        backlog(&mut connection, &queue.stream).await?,
        "ten entries of which three were deleted and five acknowledged (`lag` says otherwise)",
    )?;
    Ok(())
}

fn order(n: usize) -> Message {
    json!({"order_id": format!("A-{n}")})
        .as_object()
        .expect("an object")
        .clone()
}

async fn a_producer_waits_while_the_backlog_is_full(lab: Lab) -> Outcome {
    lab.promise("A producer with `max_backlog` 10 waits while ten entries are not acknowledged, alone or in a batch, and goes on when consumers have made room. Nothing is refused and nothing lost.");
    let queue = Queue::new(&lab).await?;
    queue.create_group(&queue.group).await?;
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: Some(10),
    };
    let mut producer = Producer::connect(options).await?;
    let mut sending = tokio::spawn(async move {
        for n in 0..8 {
            producer.send(&order(n)).await?;
        }
        let batch: Vec<Message> = (8..45).map(order).collect();
        producer.send_batch(&batch).await?;
        for n in 45..50 {
            producer.send(&order(n)).await?;
        }
        Ok::<_, stream_queue::Error>(())
    });
    let mut done = 0usize;
    while done < 50 {
        let expected = (done + 10).min(50);
        let waited = tokio::select! {
            waited = lab.eventually("the producer to fill the backlog up to its limit", || async {
                Ok((queue.length().await? as usize >= expected).then_some(()))
            }) => waited,
            result = &mut sending, if expected < 50 => match result {
                Ok(outcome) => {
                    let code = (queue.length().await? as usize > expected).then_some("SQ26");
                    return Err(Failure::observed(format!("with {done} entries acknowledged the producer was done with all 50 ({outcome:?}); the backlog is {}", queue.length().await? as usize - done)).code_if(code));
                }
                Err(gone) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
                Err(gone) => return Err(gone.into()),
            },
        };
        if let Err(failure) = waited {
            return Err(failure.code_if(Some("SQ26")).also(format!(
                "{done} entries are acknowledged and {} were sent: there is room for more",
                queue.length().await?
            )));
        }
        lab.within(Duration::from_millis(60)).await;
        let sent = queue.length().await? as usize;
        ensure!(
            sent - done <= 10,
            "SQ26",
            "`max_backlog` is 10, and {} entries are not acknowledged",
            sent - done
        );
        let taken = queue.deliver_to(&queue.group, "c", 4).await?;
        queue.acknowledge(&queue.group, &taken).await?;
        done += taken.len();
    }
    if let Ok(result) = tokio::time::timeout(lab.deadline(), &mut sending).await {
        result??;
    }
    let orders: Vec<String> = queue
        .entries()
        .await?
        .iter()
        .map(|entry| entry.text("order_id"))
        .collect();
    ensure!(
        orders == (0..50).map(|n| format!("A-{n}")).collect::<Vec<_>>(),
        "50 messages were sent, and the stream holds {} in this order: {}",
        orders.len(),
        some(&orders)
    );
    Ok(())
}

async fn acknowledged_entries_are_no_backlog(lab: Lab) -> Outcome {
    lab.promise("Entries that every group has acknowledged are no backlog, even while they are still in the stream: a producer with room goes on at once.");
    let queue = Queue::new(&lab).await?;
    queue.create_group(&queue.group).await?;
    let ids = queue.put(120).await?;
    queue.deliver_to(&queue.group, "c", 120).await?;
    queue.acknowledge(&queue.group, &ids).await?;
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: Some(10),
    };
    let mut producer = Producer::connect(options).await?;
    let five = [order(0), order(1), order(2), order(3), order(4)];
    match tokio::time::timeout(lab.deadline(), producer.send_batch(&five)).await {
        Ok(sent) => {
            ensure!(
                sent?.len() == 5,
                "five messages were sent, and not five ids came back"
            );
        }
        Err(_) => lab::fail!(
            "SQ26",
            "120 entries are in the stream, all acknowledged, so the backlog is 0; the producer (`max_backlog` 10) still waits"
        ),
    }
    // Zero counts as one: a producer that may never send would be of no use.
    let queue = Queue::new(&lab).await?;
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: Some(0),
    };
    let mut producer = Producer::connect(options).await?;
    match tokio::time::timeout(lab.deadline(), producer.send(&order(0))).await {
        Ok(sent) => {
            sent?;
            Ok(())
        }
        Err(_) => lab::fail!(
            "SQ26",
            "`max_backlog` 0 counts as 1 and nothing waits in the stream; the producer still does"
        ),
    }
}

async fn ids_are_compared_as_numbers(lab: Lab) -> Outcome {
    lab.promise("Which of two entries is older is a matter of numbers: 9-0 comes before 10-0, and 5-9 before 5-10.");
    for (older, newer) in [("9-0", "10-0"), ("5-9", "5-10")] {
        let queue = Queue::new(&lab).await?;
        for id in ["1-0", "2-0", "3-0", older, newer] {
            let _: String = redis::cmd("XADD")
                .arg(&[&queue.stream, id, "n", id])
                .query_async(&mut queue.direct())
                .await?;
        }
        let all: Vec<String> = ["1-0", "2-0", "3-0", older, newer]
            .map(str::to_owned)
            .into();
        for (group, done) in [("a", &all[..3]), ("b", &all[..4])] {
            queue.create_group(group).await?;
            queue.deliver_to(group, "c", 5).await?;
            queue.acknowledge(group, done).await?;
        }
        let mut connection = stream_queue::connect(&queue.redis.url()).await?;
        trim(&mut connection, &queue.stream).await?;
        let left: Vec<String> = queue
            .entries()
            .await?
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        ensure!(
            left.contains(&all[3]) && left.contains(&all[4]),
            "SQ09",
            "{older} is pending in one group and {newer} in another; after `trim` the stream holds {}",
            some(&left)
        );
    }
    Ok(())
}

async fn trimming_is_one_step(lab: Lab) -> Outcome {
    lab.promise("`trim` looks at the groups and removes in one step: a group that is created, or put back, in between loses nothing.");
    for nth in 1..=8 {
        let queue = Queue::new(&lab).await?;
        let ids = queue.put(1_000).await?;
        queue.create_group("done").await?;
        queue.deliver_to("done", "c", 1_000).await?;
        queue.acknowledge("done", &ids).await?;
        let mut connection = stream_queue::connect(&queue.redis.url()).await?;
        let held = queue
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let stream = queue.stream.clone();
        let trimming = tokio::spawn(async move { trim(&mut connection, &stream).await });
        if undisturbed(&held, &trimming).await {
            sound(nth, trimming).await?;
            break;
        }
        let there = queue.length().await?;
        queue.create_group("new").await?;
        held.release();
        let _ = trimming.await?;
        ensure!(
            queue.length().await? == there,
            "SQ09",
            "group `new` was created at the beginning just before command {nth} of `trim`, when the stream held {there} entries; `trim` removed {} that it has not read",
            there - queue.length().await?
        );
    }
    Ok(())
}

async fn sending_trims_nothing(lab: Lab) -> Outcome {
    lab.promise("A producer only adds. How long the stream may be is not for it to decide: it does not know what the groups still need.");
    let queue = Queue::new(&lab).await?;
    queue.put(20_000).await?;
    for max_backlog in [None, Some(100_000)] {
        let options = SendOptions {
            redis: queue.redis.url(),
            stream: queue.stream.clone(),
            max_backlog,
        };
        let mut producer = Producer::connect(options).await?;
        producer.send(&order(0)).await?;
        let batch: Vec<Message> = (0..200).map(order).collect();
        producer.send_batch(&batch).await?;
    }
    ensure!(
        queue.length().await? == 20_402,
        "SQ09",
        "20,402 entries were added, nobody has read one, and the stream holds {}",
        queue.length().await?
    );
    let capped = queue
        .redis
        .proxy()
        .log()
        .into_iter()
        .find(|e| e.is("XADD") && e.option("MAXLEN").is_some());
    if let Some(command) = capped {
        lab::fail!(
            "SQ09",
            "`{}` removes the oldest entries when there are more than so many, whoever still needs them",
            command
                .args(0)
                .into_iter()
                .take(6)
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    Ok(())
}

async fn several_producers_share_one_limit(lab: Lab) -> Outcome {
    lab.promise("The limit holds for the stream, not for each producer: with `max_backlog` 10 and six producers that send at the same moment, no more than ten entries wait.");
    for _ in 0..4 {
        let queue = Queue::new(&lab).await?;
        queue.create_group(&queue.group).await?;
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(6));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let options = SendOptions {
                redis: queue.redis.url(),
                stream: queue.stream.clone(),
                max_backlog: Some(10),
            };
            let mut producer = Producer::connect(options).await?;
            let barrier = barrier.clone();
            senders.spawn(async move {
                barrier.wait().await;
                let batch: Vec<Message> = (0..8).map(order).collect();
                producer.send_batch(&batch).await
            });
        }
        lab.eventually("the producers to fill the backlog", || async {
            Ok((queue.length().await? >= 10).then_some(()))
        })
        .await?;
        lab.within(Duration::from_millis(150)).await;
        let sent = queue.length().await?;
        ensure!(
            sent <= 10,
            "SQ26",
            "`max_backlog` is 10, nobody has read an entry, and six producers together have sent {sent}: each looked for room before the others had taken it"
        );
    }
    Ok(())
}
