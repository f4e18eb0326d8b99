//! Stage 8, continued: what goes on while Redis is away.

use std::time::Duration;

use lab::faults::{Action, Trigger};
use lab::{Check, Lab, Outcome, ensure};
use serde_json::json;
use stream_queue::{Message, Producer, SendOptions, WorkOptions};

use crate::queue::{Gate, Queue, Seen};

pub fn checks() -> Vec<Check> {
    lab::checks![
        handlers_go_on_while_redis_is_away,
        a_long_outage_ends_no_worker,
        a_producer_connects_again_and_repeats_nothing,
    ]
}

async fn handlers_go_on_while_redis_is_away(lab: Lab) -> Outcome {
    lab.promise("A lost connection is no reason to start a handler again that is at work. It goes on, and what it decided is told to Redis when Redis is back.");
    let queue = Queue::new(&lab).await?;
    queue.put(3).await?;
    let (gate, seen) = (Gate::closed(), Seen::default());
    let options = WorkOptions {
        concurrency: 4,
        visibility: Duration::from_secs(30),
        ..queue.options("c1")
    };
    let mut worker = queue.waiting_worker(options, &gate, &seen);
    queue
        .until(
            &mut [&mut worker],
            "three handlers to be at work",
            || async { Ok(seen.count() == 3) },
        )
        .await?;
    let proxy = queue.redis.proxy();
    // Once they go on through a short cut, and once they end while Redis is away.
    let mark = proxy.mark();
    lab.history().fault("proxy", "cut all connections");
    proxy.cut_all();
    queue
        .until(&mut [&mut worker], "the worker to read again", || async {
            Ok(proxy.since(mark).iter().any(|e| e.is("XREADGROUP")))
        })
        .await
        .map_err(|failure| failure.code_if("SQ25"))?;
    lab.within(Duration::from_millis(500)).await;
    ensure!(
        seen.count() == 3,
        "three handlers were at work when the connections were cut; after the worker had connected again it started {} more for the same entries",
        seen.count() - 3
    );
    proxy.refuse(true);
    proxy.cut_all();
    gate.open();
    lab.within(Duration::from_millis(400)).await;
    proxy.refuse(false);
    queue
        .until(
            &mut [&mut worker],
            "the three entries to be acknowledged",
            || async { Ok(queue.pending().await?.is_empty()) },
        )
        .await
        .map_err(|failure| failure.code_if("SQ25"))?;
    worker.finish(&lab).await?;
    ensure!(
        seen.count() == 3,
        "the three handlers had succeeded while Redis was away, and {} were started again",
        seen.count() - 3
    );
    Ok(())
}

async fn a_long_outage_ends_no_worker(lab: Lab) -> Outcome {
    lab.promise("However long Redis is away, the worker tries to get back to it, with growing pauses, and goes on when it is there.");
    let queue = Queue::new(&lab).await?;
    let seen = Seen::default();
    let mut worker = queue.noting_worker(queue.options("c1"), &seen);
    queue.put(1).await?;
    queue
        .until(
            &mut [&mut worker],
            "the first entry to be handled",
            || async { Ok(seen.count() == 1) },
        )
        .await?;
    let proxy = queue.redis.proxy();
    lab.history()
        .fault("proxy", "refuses every connection for twelve seconds");
    proxy.refuse(true);
    proxy.cut_all();
    queue.put(1).await?;
    lab.within(Duration::from_secs(12)).await;
    // Growing pauses make some dozens of attempts, whatever they begin with. A loop makes as many as it can.
    let knocked = proxy.refused();
    ensure!(
        knocked < 500,
        "in twelve seconds without Redis the worker opened {knocked} connections, each refused at once: it does not pause between two attempts, and a Redis that comes back finds every worker doing the same"
    );
    proxy.refuse(false);
    queue
        .until(
            &mut [&mut worker],
            "an entry to be handled after Redis was away for twelve seconds",
            || async { Ok(seen.distinct() == 2 && queue.pending().await?.is_empty()) },
        )
        .await
        .map_err(|failure| failure.code_if("SQ25"))?;
    worker.finish(&lab).await?;
    Ok(())
}

fn order(n: usize) -> Message {
    json!({"order_id": format!("A-{n}")})
        .as_object()
        .expect("an object")
        .clone()
}

async fn a_producer_connects_again_and_repeats_nothing(lab: Lab) -> Outcome {
    lab.promise("When its connection is lost, a producer's call fails, and the next one connects again. What may have been stored already is not sent a second time: only the caller can know whether two would be wrong.");
    let queue = Queue::new(&lab).await?;
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: None,
    };
    let mut producer = Producer::connect(options).await?;
    producer.send(&order(0)).await?;
    let swallowed = queue.redis.proxy().arm(
        Trigger::request(|e| e.is("XADD") || e.is("EVALSHA") || e.is("EVAL")).nth(1),
        Action::CutAfter,
    );
    let lost = producer.send(&order(1)).await;
    ensure!(
        swallowed.has_fired(),
        "the producer sent no command to add the message, and returned {lost:?}"
    );
    let stored = queue.length().await?;
    ensure!(
        stored <= 2,
        "one message was sent, its reply got lost on the way, and the stream holds it {} times",
        stored - 1
    );
    ensure!(
        lost.is_err(),
        "the reply to a message got lost; `send` returned {lost:?}"
    );
    let mut sent = Err(());
    for _ in 0..3 {
        sent = producer.send(&order(2)).await.map_err(|_| ());
        if sent.is_ok() {
            break;
        }
    }
    ensure!(
        sent.is_ok(),
        "SQ25",
        "the connection was lost once; three calls later the producer still has none"
    );
    let batch = [order(3), order(4)];
    producer.send_batch(&batch).await?;
    let last: Vec<String> = queue
        .entries()
        .await?
        .iter()
        .rev()
        .take(3)
        .map(|entry| entry.text("order_id"))
        .collect();
    ensure!(
        last == ["A-4", "A-3", "A-2"],
        "after the connection was rebuilt, A-2, A-3 and A-4 were sent; the stream ends, newest first, with {last:?}"
    );
    Ok(())
}
