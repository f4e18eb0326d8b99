//! Stage 9: speed is a matter of round trips, and those can be counted.

use std::time::{Duration, Instant};

use lab::{Check, Lab, Outcome, ensure};
use serde_json::json;
use stream_queue::{Message, Producer, SendOptions, WorkOptions};
use tokio::sync::Mutex;

use crate::queue::{Queue, Seen, on_a_fair_clock};

pub fn checks() -> Vec<Check> {
    lab::checks![
        ten_thousand_messages_are_sent_in_few_round_trips,
        the_service_sends_ten_thousand_lines_in_few_round_trips,
        ten_thousand_entries_are_read_and_acknowledged_in_few_round_trips,
        an_idle_worker_is_quiet,
        a_lone_acknowledgement_is_not_kept_waiting_for_others,
    ]
}

fn order(n: usize) -> Message {
    json!({"order_id": format!("A-{n}"), "user_id": 42, "amount": 12.5})
        .as_object()
        .expect("an object")
        .clone()
}

async fn ten_thousand_messages_are_sent_in_few_round_trips(lab: Lab) -> Outcome {
    lab.promise(
        "A batch of 10,000 messages takes at most 200 round trips, and its ids come back in order.",
    );
    let queue = Queue::new(&lab).await?;
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: None,
    };
    let mut producer = Producer::connect(options).await?;
    let before = queue.redis.proxy().round_trips();
    let batch: Vec<Message> = (0..10_000).map(order).collect();
    let ids = producer.send_batch(&batch).await?;
    let trips = queue.redis.proxy().round_trips() - before;
    let stored: Vec<String> = queue
        .entries()
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    ensure!(
        stored == ids,
        "10,000 messages were sent; the stream holds {} entries, and {} ids came back",
        stored.len(),
        ids.len()
    );
    ensure!(
        trips <= 200,
        "SQ17",
        "10,000 messages took {trips} round trips"
    );
    Ok(())
}

async fn the_service_sends_ten_thousand_lines_in_few_round_trips(lab: Lab) -> Outcome {
    lab.promise("`stream-queue send` reads on while there is input: 10,000 lines take at most 500 round trips, with a limited backlog as well.");
    let queue = Queue::new(&lab).await?;
    queue.create_group(&queue.group).await?;
    let service = lab
        .service([
            "send",
            "--redis",
            &queue.redis.url(),
            "--stream",
            &queue.stream,
            "--max-backlog",
            "50000",
        ])
        .start()?;
    let lines: String = (0..10_000)
        .map(|n| format!("{{\"order_id\":\"A-{n}\"}}\n"))
        .collect();
    service.write_line(lines.trim_end()).await?;
    service.close_stdin();
    let status = service.wait().await?;
    ensure!(
        status.code() == Some(0),
        "the service ended with {status}; it said: {}",
        service.stderr()
    );
    let stored: Vec<String> = queue
        .entries()
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    ensure!(
        stored.len() == 10_000 && stored == service.lines(),
        "10,000 lines went in; {} entries are stored and {} ids printed",
        stored.len(),
        service.lines().len()
    );
    let trips = queue.redis.proxy().round_trips();
    ensure!(
        trips <= 500,
        "SQ17",
        "10,000 lines took {trips} round trips"
    );
    Ok(())
}

async fn ten_thousand_entries_are_read_and_acknowledged_in_few_round_trips(lab: Lab) -> Outcome {
    lab.promise("A worker with `concurrency` 100 and a backlog of 10,000 entries reads and acknowledges many at a time: at most one round trip for every four entries in all, each entry handled once.");
    let queue = Queue::new(&lab).await?;
    queue.put(10_000).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let mut worker = queue.worker_with(
        WorkOptions {
            concurrency: 100,
            ..queue.options("c1")
        },
        move |entry| {
            handled.add(&entry);
            async { Ok(()) }
        },
    );
    queue
        .until(
            &mut [&mut worker],
            "10,000 entries to be handled and acknowledged",
            || async {
                Ok(seen.count() >= 10_000
                    && queue.pending().await?.is_empty()
                    && queue.undelivered().await? == 0)
            },
        )
        .await?;
    let log = queue.redis.proxy().log();
    let trips = queue.redis.proxy().round_trips();
    worker.finish(&lab).await?;
    ensure!(
        seen.repeated().is_empty(),
        "nothing failed, and entries were handled more than once: {:?}",
        &seen.repeated()[..1]
    );
    let reads = log.iter().filter(|e| e.is("XREADGROUP")).count();
    let acknowledgements = log.iter().filter(|e| e.is("XACK")).count();
    ensure!(
        trips <= 2_500,
        "SQ17",
        "10,000 entries took {trips} round trips: {reads} reads and {acknowledgements} acknowledgements among them"
    );
    Ok(())
}

async fn an_idle_worker_is_quiet(lab: Lab) -> Outcome {
    lab.promise("A worker with nothing to do waits in Redis for the next entry. It does not ask again and again: fewer than 20 commands a second.");
    let queue = Queue::new(&lab).await?;
    queue.put(5).await?;
    let mut worker = queue.worker(WorkOptions {
        concurrency: 4,
        ..queue.options("c1")
    });
    queue
        .until(
            &mut [&mut worker],
            "five entries to be acknowledged",
            || async { Ok(queue.undelivered().await? == 0 && queue.pending().await?.is_empty()) },
        )
        .await?;
    lab.within(Duration::from_millis(300)).await;
    let mark = queue.redis.proxy().mark();
    lab.within(Duration::from_secs(2)).await;
    let asked = queue.redis.proxy().since(mark);
    let mut names: Vec<String> = asked.iter().map(|e| e.name()).collect();
    names.sort();
    names.dedup();
    ensure!(
        asked.len() < 40,
        "SQ17",
        "in two seconds without an entry the worker sent {} commands ({})",
        asked.len(),
        names.join(", ")
    );
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_lone_acknowledgement_is_not_kept_waiting_for_others(lab: Lab) -> Outcome {
    lab.promise(
        "Acknowledgements may travel together, but none waits for company that does not come: a single entry in a quiet stream is acknowledged within milliseconds.",
    );
    let queue = Queue::new(&lab).await?;
    let worker = Mutex::new(queue.worker(WorkOptions {
        concurrency: 100,
        ..queue.options("c1")
    }));
    let worked = on_a_fair_clock(&lab, [60, 150, 300], async |limit| {
        // The quickest of some: what waits for company is late each time.
        let mut quickest = Duration::MAX;
        for count in [1, 2, 1, 1, 1] {
            let sent = Instant::now();
            queue.put(count).await?;
            queue
                .until(
                    &mut [&mut *worker.lock().await],
                    "a few entries to be acknowledged although no others come",
                    || async {
                        Ok(queue.undelivered().await? == 0 && queue.pending().await?.is_empty())
                    },
                )
                .await?;
            quickest = quickest.min(sent.elapsed());
        }
        ensure!(
            quickest <= limit,
            "five times an entry or two came into the quiet stream; the handler takes no time, and the quickest acknowledgement was there after {quickest:.0?}"
        );
        Ok(())
    })
    .await;
    worked?;
    worker.into_inner().finish(&lab).await?;
    Ok(())
}
