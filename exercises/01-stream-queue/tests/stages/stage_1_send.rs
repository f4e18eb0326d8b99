//! Stage 1: a message becomes an entry, and its id comes back.

use lab::{Check, Lab, Outcome, ensure};
use serde_json::{Value, json};
use stream_queue::{Message, Producer, SendOptions};

use crate::queue::Queue;

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_message_becomes_one_entry_with_a_field_for_each_key,
        the_id_that_comes_back_is_the_entrys,
        a_batch_keeps_its_order_and_returns_every_id,
        a_batch_goes_out_pipelined,
        a_message_without_fields_is_refused_and_nothing_is_stored,
        what_redis_refuses_is_an_error_and_not_a_panic,
        the_service_prints_one_id_a_line_in_order,
        a_bad_line_is_reported_and_the_lines_after_it_are_sent,
    ]
}

async fn producer(queue: &Queue) -> Result<Producer, lab::Failure> {
    let options = SendOptions {
        redis: queue.redis.url(),
        stream: queue.stream.clone(),
        max_backlog: None,
    };
    Ok(Producer::connect(options).await?)
}

fn message(value: Value) -> Message {
    value.as_object().expect("the lab sends objects").clone()
}

fn order(n: usize) -> Message {
    message(json!({"order_id": format!("A-{n}"), "user_id": 42, "amount": 12.5}))
}

async fn a_message_becomes_one_entry_with_a_field_for_each_key(lab: Lab) -> Outcome {
    lab.promise("One message becomes one entry. Each top-level key is one field: strings stand as they are, every other value as JSON.");
    let queue = Queue::new(&lab).await?;
    let sent = message(json!({
        "order_id": "A-17", "digits": "42", "empty": "", "text": "naïve ☕ \"quoted\"\r\nand a second line",
        "user_id": 42, "amount": 12.5, "receipt": 9_007_199_254_740_993u64, "gift": true, "note": null,
        "lines": [{"sku": "X1", "count": 2}, "loose"], "address": {"city": "Lyon", "zip": "69001"},
    }));
    producer(&queue).await?.send(&sent).await?;

    let entries = queue.entries().await?;
    ensure!(
        entries.len() == 1,
        "one message was sent, and the stream holds {} entries",
        entries.len()
    );
    let stored = &entries[0];
    for (key, value) in &sent {
        let Some(bytes) = stored.fields.get(key.as_bytes()) else {
            lab::fail!(
                "the message has the key `{key}`, and the entry has no such field; it has {:?}",
                stored
                    .fields
                    .keys()
                    .map(|k| String::from_utf8_lossy(k))
                    .collect::<Vec<_>>()
            );
        };
        let text = String::from_utf8_lossy(bytes);
        match value {
            Value::String(expected) => ensure!(
                text == expected.as_str(),
                "the string under `{key}` was {expected:?} and is stored as {text:?}; strings are stored as they are, without JSON quotes"
            ),
            other => ensure!(
                serde_json::from_str::<Value>(&text).ok().as_ref() == Some(other),
                "the value under `{key}` was {other} and is stored as {text:?}, which is not that value as JSON"
            ),
        }
    }
    ensure!(
        stored.fields.len() == sent.len(),
        "the message has {} keys and the entry {} fields",
        sent.len(),
        stored.fields.len()
    );
    let names: Vec<(String, Vec<(String, String)>)> = redis::cmd("XRANGE")
        .arg(&[&queue.stream, "-", "+"])
        .query_async(&mut queue.direct())
        .await?;
    let names: Vec<&String> = names[0].1.iter().map(|(name, _)| name).collect();
    ensure!(
        names.iter().copied().eq(sent.keys()),
        "the message's keys come in the order {:?}; the entry's fields in the order {names:?}",
        sent.keys().collect::<Vec<_>>()
    );
    Ok(())
}

async fn the_id_that_comes_back_is_the_entrys(lab: Lab) -> Outcome {
    lab.promise("`send` returns the id that Redis gave the entry.");
    let queue = Queue::new(&lab).await?;
    let mut producer = producer(&queue).await?;
    for n in 0..5 {
        let id = producer.send(&order(n)).await?;
        let last = queue.entries().await?.pop();
        let Some(last) = last else {
            lab::fail!("`send` returned {id:?}, and the stream is empty")
        };
        ensure!(
            last.id == id,
            "`send` returned {id:?}; the newest entry in the stream has the id {:?}",
            last.id
        );
        ensure!(
            last.text("order_id") == format!("A-{n}"),
            "entry {id} holds order {:?} instead of A-{n}",
            last.text("order_id")
        );
    }
    Ok(())
}

async fn a_batch_keeps_its_order_and_returns_every_id(lab: Lab) -> Outcome {
    lab.promise("`send_batch` stores the messages in the order given and returns one id for each, in that order.");
    let queue = Queue::new(&lab).await?;
    let mut producer = producer(&queue).await?;
    let none = producer.send_batch(&[]).await?;
    ensure!(
        none.is_empty(),
        "an empty batch returned {} ids",
        none.len()
    );

    let batch: Vec<Message> = (0..1_257).map(order).collect();
    let ids = producer.send_batch(&batch).await?;
    let entries = queue.entries().await?;
    ensure!(
        entries.len() == batch.len(),
        "{} messages were sent in one batch, and the stream holds {}",
        batch.len(),
        entries.len()
    );
    ensure!(
        ids.len() == batch.len(),
        "{} messages were sent in one batch, and {} ids came back",
        batch.len(),
        ids.len()
    );
    for (n, entry) in entries.iter().enumerate() {
        ensure!(
            entry.text("order_id") == format!("A-{n}"),
            "position {n} of the stream holds order {:?}; the batch had A-{n} there",
            entry.text("order_id")
        );
        ensure!(
            entry.id == ids[n],
            "id {n} of the batch is {:?}; the entry at that position is {:?}",
            ids[n],
            entry.id
        );
    }
    Ok(())
}

async fn a_batch_goes_out_pipelined(lab: Lab) -> Outcome {
    lab.promise("`send_batch` does not wait for one reply before it sends the next message: 500 messages take at most 25 round trips.");
    let queue = Queue::new(&lab).await?;
    let mut producer = producer(&queue).await?;
    producer.send(&order(0)).await?;
    let before = queue.redis.proxy().round_trips();
    let batch: Vec<Message> = (0..500).map(order).collect();
    producer.send_batch(&batch).await?;
    let trips = queue.redis.proxy().round_trips() - before;
    ensure!(
        queue.length().await? == 501,
        "the stream holds {} entries after 501 messages",
        queue.length().await?
    );
    ensure!(
        trips <= 25,
        "SQ17",
        "a batch of 500 messages took {trips} round trips between client and Redis"
    );
    Ok(())
}

async fn a_message_without_fields_is_refused_and_nothing_is_stored(lab: Lab) -> Outcome {
    lab.promise("A message without keys cannot become an entry: `send` refuses it, and `send_batch` refuses the whole batch before anything is stored.");
    let queue = Queue::new(&lab).await?;
    let mut producer = producer(&queue).await?;
    ensure!(
        producer.send(&Message::new()).await.is_err(),
        "`send` accepted a message without a key"
    );
    let batch = [order(1), order(2), Message::new(), order(3)];
    ensure!(
        producer.send_batch(&batch).await.is_err(),
        "`send_batch` accepted a batch whose third message has no key"
    );
    ensure!(
        queue.length().await? == 0,
        "the refused messages left {} entries in the stream",
        queue.length().await?
    );
    let mut large: Vec<Message> = (0..2_500).map(order).collect();
    large.push(Message::new());
    ensure!(
        producer.send_batch(&large).await.is_err(),
        "`send_batch` accepted a batch whose last message has no key"
    );
    ensure!(
        queue.length().await? == 0,
        "the last of 2,501 messages has no key, and {} others were stored before it was refused",
        queue.length().await?
    );
    producer.send(&order(4)).await?;
    ensure!(
        queue.length().await? == 1,
        "a good message after the refused ones was not stored"
    );
    Ok(())
}

async fn what_redis_refuses_is_an_error_and_not_a_panic(lab: Lab) -> Outcome {
    lab.promise("When Redis refuses (another type of value lives under the stream's key), `send` and `send_batch` return the error, and the value there stays as it was.");
    let queue = Queue::new(&lab).await?;
    let _: () = redis::cmd("SET")
        .arg(&[&queue.stream, "not a stream"])
        .query_async(&mut queue.direct())
        .await?;
    let mut producer = producer(&queue).await?;
    let one = producer.send(&order(1)).await;
    ensure!(
        one.is_err(),
        "`send` to a key that holds a string returned {one:?}"
    );
    let many = producer.send_batch(&[order(1), order(2)]).await;
    ensure!(
        many.is_err(),
        "`send_batch` to a key that holds a string returned {many:?}"
    );
    let value: String = redis::cmd("GET")
        .arg(&queue.stream)
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        value == "not a stream",
        "the value under the stream's key was overwritten with {value:?}"
    );
    Ok(())
}

async fn the_service_prints_one_id_a_line_in_order(lab: Lab) -> Outcome {
    lab.promise("`stream-queue send` prints one id for each line it reads, in order.");
    let queue = Queue::new(&lab).await?;
    let service = lab
        .service([
            "send",
            "--redis",
            &queue.redis.url(),
            "--stream",
            &queue.stream,
        ])
        .start()?;
    for n in 0..60 {
        service
            .write_line(&format!(r#"{{"order_id":"A-{n}","user_id":42}}"#))
            .await?;
    }
    service.close_stdin();
    let status = service.wait().await?;
    ensure!(
        status.code() == Some(0),
        "the service ended with {status}; it said: {}",
        service.stderr()
    );
    let printed = service.lines();
    let stored: Vec<String> = queue
        .entries()
        .await?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    ensure!(
        stored.len() == 60,
        "60 lines went in, and the stream holds {} entries",
        stored.len()
    );
    ensure!(
        printed == stored,
        "the ids printed are not the ids stored, in order: printed {} lines, first {:?}; first stored {:?}",
        printed.len(),
        printed.first(),
        stored.first()
    );
    Ok(())
}

async fn a_bad_line_is_reported_and_the_lines_after_it_are_sent(lab: Lab) -> Outcome {
    lab.promise("A line that is no message is reported with its number; the lines before and after it are sent all the same, and the exit code is 65.");
    let queue = Queue::new(&lab).await?;
    let service = lab
        .service([
            "send",
            "--redis",
            &queue.redis.url(),
            "--stream",
            &queue.stream,
        ])
        .start()?;
    let long = format!(r#"{{"long":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let lines = [
        r#"{"order_id":"A-0"}"#,
        "not json",
        r#"{"order_id":"A-1"}"#,
        "[1,2]",
        "{}",
        r#""text""#,
        &long,
        r#"{"order_id":"A-2","nested":{"a":[1,{"b":null}]}}"#,
    ];
    for line in lines {
        service.write_line(line).await?;
    }
    service.close_stdin();
    let status = service.wait().await?;
    let said = service.stderr();
    ensure!(
        status.code() == Some(65),
        "the service ended with {status} after bad lines; it said: {said}"
    );
    let entries = queue.entries().await?;
    let orders: Vec<String> = entries.iter().map(|entry| entry.text("order_id")).collect();
    ensure!(
        orders == ["A-0", "A-1", "A-2"],
        "the good lines were A-0, A-1, A-2; stored are {orders:?}"
    );
    ensure!(
        service.lines().len() == 3,
        "three good lines, and {} ids were printed",
        service.lines().len()
    );
    for number in [2, 4, 5, 6, 7] {
        ensure!(
            said.contains(&format!("line {number}")),
            "line {number} is bad, and nothing on standard error names it: {said}"
        );
    }
    ensure!(
        entries[2].text("nested") == r#"{"a":[1,{"b":null}]}"#,
        "the nested value is stored as {:?}",
        entries[2].text("nested")
    );
    Ok(())
}
