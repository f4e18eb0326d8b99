//! Stage 7: the events live in a stream of Redis, and every node has the same.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::try_join_all;
use lab::clients::http::Request;
use lab::faults::{Action, Exchange, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;
use serde_json::json;

use crate::durable::{Durable, adds};
use crate::feed::{Feed, accepted, data, ids, numbers, take, take_until};
use crate::node::Process;
use crate::sequence::{Suspects, same};
use crate::stage_3_resume::SEAM;
use crate::stage_4_expire::reset;

pub fn checks() -> Vec<Check> {
    lab::checks![
        an_event_is_an_entry_of_the_stream,
        a_restart_loses_and_repeats_nothing,
        all_nodes_have_one_order_and_the_same_ids,
        entries_of_any_client_are_events_and_none_breaks_a_frame,
        ids_are_compared_as_numbers,
        one_reader_serves_any_number_of_clients,
        the_stream_keeps_as_many_as_the_history_and_no_more,
        what_a_node_has_not_read_yet_is_not_trimmed,
        once_the_answer_is_there_the_node_has_the_event,
        trouble_at_the_start_has_its_exit_code,
    ]
}

async fn an_event_is_an_entry_of_the_stream(lab: Lab) -> Outcome {
    lab.promise("A 201 says that the event is in the stream: one entry with the fields `topic`, `type` and `data`, whose id is the event's.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let mut stream = feed.open("").await?;
    let mut publisher = feed.publisher().await?;
    for (n, text) in ["", "plain", "two\r\nlines\n", "{\"a\":1}", "ß\0🦀"]
        .iter()
        .enumerate()
    {
        let body = json!({"topic": "orders", "type": "price", "data": text});
        let id = accepted(
            &publisher
                .request(&Request::post("/events").json(&body))
                .await?,
        )?;
        // At once: the answer says that it has happened.
        let entries = durable.entries().await?;
        let Some((stored, fields)) = entries.last().filter(|_| entries.len() == n + 1) else {
            lab::fail!(
                "LF17",
                "{} events were accepted, and the stream holds {}",
                n + 1,
                entries.len()
            )
        };
        ensure!(
            *stored == id,
            "the publisher was told the id {id}, and the entry has {stored}"
        );
        let value = |name: &str| {
            fields
                .iter()
                .find(|(field, _)| field == name)
                .map(|(_, value)| value.as_str())
        };
        ensure!(
            value("topic") == Some("orders")
                && value("type") == Some("price")
                && value("data") == Some(text),
            "the event {body} became an entry with the fields {fields:?}"
        );
        let seen = take(&mut stream, 1).await?.remove(0);
        ensure!(
            seen.last_id == id,
            "LF03",
            "the entry has the id {id}, and a client sees the event as {}",
            seen.last_id
        );
    }
    Ok(())
}

async fn a_restart_loses_and_repeats_nothing(lab: Lab) -> Outcome {
    lab.promise("A node that is killed and started again has everything that was published before: a client resumes as if nothing had happened.");
    let durable = Durable::new(&lab).await?;
    let url = durable.redis.url();
    let flags = durable.flags(&url);
    let before = Process::start(&lab, &flags).await?;
    let mut stream = before.open("").await?;
    let mut posted = before.post_many("t", 30).await?;
    let mut got = ids(&take(&mut stream, 10).await?);
    lab.history().fault("node", "killed");
    before.service.kill();
    before.service.wait().await?;
    // Ten were given out; more may have been read.
    let request = crate::feed::events("").header("last-event-id", &got[9]);
    let after = Process::start(&lab, &flags).await?;
    let mut stream = after.open_with(&request).await?;
    posted.extend(after.post_many("t", 10).await?);
    got.extend(ids(&take(&mut stream, 30).await?));
    same("the client", &posted, &got, SEAM)?;
    // What was published while no node ran is no less an event.
    after.service.kill();
    after.service.wait().await?;
    let alone = durable.add_event("*", "alone").await?;
    let again = Process::start(&lab, &flags).await?;
    let mut stream = again.resume("", &posted[39]).await?;
    let got = ids(&take(&mut stream, 1).await?);
    ensure!(
        got == [alone.clone()],
        "{alone} was added while no node ran; a client that resumed behind {} got {got:?}",
        posted[39]
    );
    Ok(())
}

async fn all_nodes_have_one_order_and_the_same_ids(lab: Lab) -> Outcome {
    lab.promise("Whatever node it is published to, an event comes to the clients of all nodes, in one order and with one id; a client may resume at any node, also in the moment in which it was told the id.");
    let durable = Durable::new(&lab).await?;
    let nodes: Vec<Feed> = try_join_all((0..3).map(|_| durable.node())).await?;
    let mut streams = try_join_all(nodes.iter().map(|node| node.open(""))).await?;
    let publishing = nodes.iter().map(|node| node.post_many("t", 40));
    let mut order = try_join_all(publishing).await?.concat();
    order.sort_by_key(|id| numbers(id));
    for (n, stream) in streams.iter_mut().enumerate() {
        let got = take(stream, 120).await?;
        same(
            &format!("the client of node {n}"),
            &order,
            &ids(&got),
            Suspects::default(),
        )?;
    }
    for n in 0..30 {
        let (here, there) = (&nodes[n % 3], &nodes[(n + 1) % 3]);
        let id = here.post("t", "before").await?;
        let mut stream = there.resume("", &id).await?;
        let next = here.post("t", "after").await?;
        let event = take(&mut stream, 1).await?.remove(0);
        ensure!(
            event.last_id == next,
            "an event was published at one node as {id}, a client resumed behind it at another, and {next} was published; the first that it got is {:?} of the type {:?}",
            event.last_id,
            event.kind
        );
    }
    Ok(())
}

async fn entries_of_any_client_are_events_and_none_breaks_a_frame(lab: Lab) -> Outcome {
    lab.promise("Whatever client of Redis added an entry with `topic`, `type` and `data`: it is an event. One that lacks them, or whose type would break a frame, is passed over, and what comes behind it arrives.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let mut live = feed.open("").await?;
    let first = durable.add_event("*", "the first").await?;
    let hostile: [&[(&str, &[u8])]; 12] = [
        &[
            ("topic", b"t"),
            ("type", b"a\n\nid: 9-9\nevent: forged"),
            ("data", b"x"),
        ],
        &[
            ("topic", b"t"),
            ("type", b"a\rdata: forged"),
            ("data", b"x"),
        ],
        &[
            ("topic", b"t\nid: 9-9"),
            ("type", b"message\r"),
            ("data", b"x"),
        ],
        &[("topic", b"t"), ("type", b"\n"), ("data", b"x")],
        &[("topic", b"t"), ("type", b"message")],
        &[("type", b"message"), ("data", b"x")],
        &[("else", b"entirely")],
        &[("", b"")],
        &[("TOPIC", b"t"), ("DATA", b"x")],
        &[
            ("topic", b"\xff\xfe"),
            ("type", b"\xff\n\n"),
            ("data", b"\xff"),
        ],
        &[("id", b"9-9"), ("event", b"reset")],
        &[("topic", b""), ("type", b"x\0\n"), ("data", b"y")],
    ];
    let mut expected = vec![first.clone()];
    for fields in hostile {
        durable.add("*", fields).await?;
        let data = "data: forged\n\nid: 9-9\r\revent: reset";
        expected.push(durable.add_event("*", data).await?);
    }
    expected.push(durable.add_event("*", "the last").await?);
    let seen = take_until(&mut live, "the last").await?;
    same(
        "the client that was connected",
        &expected,
        &ids(&seen),
        Suspects::default(),
    )?;
    ensure!(
        seen.iter().all(|event| event.kind == "message"),
        "LF06",
        "all events are of the type `message`; a client saw {:?}",
        seen.iter().map(|event| &event.kind).collect::<HashSet<_>>()
    );
    let mut resumed = feed.resume("", &first).await?;
    let got = ids(&take_until(&mut resumed, "the last").await?);
    same(
        "the client that resumed",
        &expected[1..],
        &got,
        Suspects::default(),
    )?;
    // A node that finds all that when it starts.
    let other = durable.node().await?;
    let mut resumed = other.resume("", &first).await?;
    let got = ids(&take_until(&mut resumed, "the last").await?);
    same(
        "the client that resumed at a new node",
        &expected[1..],
        &got,
        Suspects::default(),
    )
}

async fn ids_are_compared_as_numbers(lab: Lab) -> Outcome {
    lab.promise("Ids are two numbers: 5-9 comes before 5-10, and 9-1 before 10-0.");
    let durable = Durable::new(&lab).await?;
    let stored = [
        "5-9", "5-10", "5-11", "5-100", "9-1", "9-99", "10-0", "10-5", "99-0", "100-0",
    ];
    for id in stored {
        durable.add_event(id, "stored").await?;
    }
    let feed = durable.node().await?;
    let mut expected: Vec<String> = stored.iter().map(|id| (*id).to_owned()).collect();
    let mut streams = Vec::new();
    for id in stored {
        streams.push(feed.resume("", id).await?);
    }
    for id in ["100-9", "100-10", "999-999", "1000-0"] {
        durable.add_event(id, "live").await?;
        expected.push(id.to_owned());
    }
    expected.push(durable.add_event("1000-1", "the end").await?);
    let suspects = Suspects {
        missing: Some("LF14"),
        twice: Some("LF14"),
    };
    for (n, stream) in streams.iter_mut().enumerate() {
        let mut got = take_until(stream, "the end").await?;
        let reset = got[0].kind == "reset";
        ensure!(
            !reset,
            "LF14",
            "{} is in the stream, and a client that resumed behind it was reset",
            stored[n]
        );
        got.retain(|event| event.kind == "message");
        let who = format!("the client that resumed behind {}", stored[n]);
        same(&who, &expected[n + 1..], &ids(&got), suspects)?;
    }
    for (n, id) in expected.iter().enumerate().take(expected.len() - 1) {
        let mut stream = feed.resume("", id).await?;
        let got = ids(&take_until(&mut stream, "the end").await?);
        same(
            &format!("the client that resumed behind {id}"),
            &expected[n + 1..],
            &got,
            suspects,
        )?;
    }
    // 9 is above 1000 for who compares letters.
    for unknown in ["9999-0", "5-90", "99-00"] {
        let mut stream = feed.resume("", unknown).await?;
        let why = format!("{unknown} is not in the stream");
        // Other mistakes end here as well, and have a code of their own.
        let told = reset(&mut stream, &why).await;
        told.map_err(|failure| failure.code_if("LF14"))?;
    }
    Ok(())
}

async fn one_reader_serves_any_number_of_clients(lab: Lab) -> Outcome {
    lab.promise("A node asks Redis no more often for a hundred clients than for one: one reader follows the stream, and its connection alone blocks.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let proxy = durable.redis.proxy();
    let mut streams = try_join_all((0..100).map(|_| feed.open(""))).await?;
    let mark = proxy.mark();
    let mut added = Vec::new();
    for n in 0..30 {
        added.push(durable.add_event("*", &n.to_string()).await?);
        // One after the other, so that no read brings several.
        take(&mut streams[0], 1).await?;
    }
    for stream in streams.iter_mut().skip(1) {
        let got = ids(&take(stream, 30).await?);
        same(
            "one of a hundred clients",
            &added,
            &got,
            Suspects::default(),
        )?;
    }
    let commands = proxy.since(mark).len();
    ensure!(
        commands <= 300,
        "LF09",
        "30 events came to 100 clients, and the node sent {commands} commands to Redis for that"
    );
    let readers: HashSet<u64> = proxy.with_log(|log| {
        log.iter()
            .filter(|e| e.is_blocking())
            .map(|e| e.connection)
            .collect()
    });
    ensure!(
        readers.len() <= 1,
        "LF09",
        "100 clients are connected, and {} connections to Redis block",
        readers.len()
    );
    Ok(())
}

async fn the_stream_keeps_as_many_as_the_history_and_no_more(lab: Lab) -> Outcome {
    lab.promise("The stream is trimmed to the `history`, to the entry, and the ids that are known are those of its entries.");
    let durable = Durable::new(&lab).await?;
    let options = Options {
        history: 30,
        ..durable.options()
    };
    let feed = Feed::start(&lab, options.clone()).await?;
    let mut posted = feed.post_many("t", 230).await?;
    let stored = || async {
        Ok::<_, Failure>(
            durable
                .entries()
                .await?
                .into_iter()
                .map(|(id, _)| id)
                .collect::<Vec<_>>(),
        )
    };
    let newest = posted[200..].to_vec();
    let trimmed = lab
        .eventually("the stream to hold 30 entries", || async {
            Ok((stored().await?.len() <= 30).then_some(()))
        })
        .await;
    let entries = stored().await?;
    if let Err(failure) = trimmed {
        return Err(failure
            .also(format!(
                "230 events were published, 30 are to be kept, and the stream holds {}",
                entries.len()
            ))
            .code("LF16"));
    }
    same(
        "the stream",
        &newest,
        &entries,
        Suspects {
            missing: Some("LF16"),
            twice: None,
        },
    )?;
    for (n, id) in posted.clone().iter().enumerate().skip(195).take(10) {
        let mut stream = feed.resume("", id).await?;
        if n < 200 {
            let oldest = reset(&mut stream, "an entry that was trimmed").await?;
            ensure!(
                oldest.as_ref() == Some(&posted[200]),
                "the oldest entry of the stream is {}, and the reset says {oldest:?}",
                posted[200]
            );
        }
        let from = (n + 1).max(200);
        let got = ids(&take(&mut stream, 230 - from).await?);
        same(
            &format!("the client that resumed behind {id}"),
            &posted[from..],
            &got,
            Suspects::default(),
        )?;
    }
    // Also when others add to it.
    for n in 0..50 {
        posted.push(durable.add_event("*", &n.to_string()).await?);
    }
    posted.push(feed.post("t", "the end").await?);
    let trimmed = lab
        .eventually("the stream to hold 30 entries", || async {
            Ok((stored().await? == posted[251..]).then_some(()))
        })
        .await;
    trimmed.map_err(|failure| {
        failure
            .also("another client added 50 entries, and one event was published")
            .code("LF16")
    })?;
    // Entries that are no events have a place in the stream as well, and push out others.
    for _ in 0..10 {
        durable.add("*", &[("else", "entirely")]).await?;
    }
    let last = feed.post("t", "the last").await?;
    let kept = lab
        .eventually("the node to keep what the stream keeps", || async {
            let entries = stored().await?;
            let history = feed.stats().await?["history"].clone();
            let same =
                history["oldest"] == entries[0].as_str() && history["newest"] == last.as_str();
            Ok((entries.len() == 30 && same).then_some(()))
        })
        .await;
    if let Err(failure) = kept {
        let entries = stored().await?;
        let stats = feed.stats().await?;
        return Err(failure.also(format!(
            "another client added ten entries that are no events, and {last} was published; the stream keeps {} entries from {} on, and the node says {stats}",
            entries.len(),
            entries[0]
        )));
    }
    // The first that went.
    let gone = &posted[posted.len() - 20];
    let mut stream = feed.resume("", gone).await?;
    reset(
        &mut stream,
        "the entry was pushed out by others that are no events",
    )
    .await?;
    // A node that starts when the newest entries are no events counts each of them once.
    for _ in 0..10 {
        durable.add("*", &[("else", "entirely")]).await?;
    }
    let other = Feed::start(&lab, options).await?;
    for n in 0..3 {
        other.post("t", &n.to_string()).await?;
    }
    lab.eventually("the stream to hold 30 entries", || async {
        Ok((stored().await?.len() <= 30).then_some(()))
    })
    .await?;
    let count = stored().await?.len();
    ensure!(
        count == 30,
        "a node started when the ten newest entries were no events, and three events were published to it; of the 30 entries that are to be kept the stream holds {count}"
    );
    Ok(())
}

async fn what_a_node_has_not_read_yet_is_not_trimmed(lab: Lab) -> Outcome {
    lab.promise("The stream keeps the entries that the node read last. What no node has read yet is never trimmed, however fast others publish: clients that are connected get all of it.");
    let durable = Durable::new(&lab).await?;
    let options = Options {
        history: 10,
        queue: 10_000,
        ..durable.options()
    };
    let feed = Feed::start(&lab, options).await?;
    let mut stream = feed.open("").await?;
    // What this node itself publishes while its reader is behind.
    let mut posted = vec![feed.post("t", "the first").await?];
    let proxy = durable.redis.proxy();
    let held = proxy.arm(Trigger::reply(Exchange::is_blocking), Action::Hold);
    let posting: Vec<_> = (0..40)
        .map(|n| {
            let node = (*feed).clone();
            tokio::spawn(async move { node.post("t", &format!("behind {n}")).await })
        })
        .collect();
    let key = durable.stream.clone();
    let all = lab
        .eventually("40 events to be added to the stream", || async {
            Ok((proxy.count(|e| adds(e, &key) && e.succeeded()) >= 41).then_some(()))
        })
        .await;
    let entries = durable.entries().await?.len();
    held.release();
    all?;
    ensure!(
        entries >= 40,
        "the reader of the node was held up while 40 events were posted to it; it had read none of them, and the stream holds {entries} entries: the others were trimmed unread"
    );
    for task in posting {
        posted.push(task.await??);
    }
    posted.sort_by_key(|id| numbers(id));
    // What others add, more at once than one read brings.
    let mut burst = redis::pipe();
    burst.atomic();
    for n in 0..1_500 {
        let mut add = redis::cmd("XADD");
        add.arg(&[&durable.stream, "*", "topic", "t", "data"])
            .arg(n);
        burst.add_command(add);
    }
    let added: Vec<String> = burst.query_async(&mut durable.direct().await?).await?;
    posted.extend(added);
    posted.push(feed.post("t", "the end").await?);
    let seen = take_until(&mut stream, "the end").await.map_err(|failure| {
        failure.also("40 events were posted to the node and 1,500 added by another client, the history is 10; the client that was connected all the time was to get all")
    })?;
    same(
        "the client that was connected",
        &posted,
        &ids(&seen),
        Suspects::default(),
    )
}

async fn once_the_answer_is_there_the_node_has_the_event(lab: Lab) -> Outcome {
    lab.promise("Once the answer to a POST is there, this node has the event: its statistics show it, and who names its id resumes behind it.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let proxy = durable.redis.proxy();
    for _ in 0..3 {
        // What the reader reads comes late; the answer to the publisher does not.
        let slow = Action::Delay(Duration::from_millis(600));
        let late = proxy.arm(Trigger::reply(Exchange::is_blocking), slow);
        let id = feed.post("t", "x").await?;
        let newest = feed.stats().await?["history"]["newest"].clone();
        late.fired().await;
        ensure!(
            newest == id.as_str(),
            "an event was posted and answered with the id {id}; right after that the node says that its newest event is {newest}"
        );
    }
    Ok(())
}

async fn trouble_at_the_start_has_its_exit_code(lab: Lab) -> Outcome {
    lab.promise("A service that cannot start says why: 69 Redis cannot be reached, 76 something else lives under the stream's key, 77 Redis does not let it in, 98 its address is taken.");
    let durable = Durable::new(&lab).await?;
    let good = durable.redis.url();
    let node = Process::start(&lab, &durable.flags(&good)).await?;
    node.post("t", "it works").await?;
    let _: () = redis::cmd("SET")
        .arg(&[&format!("{}:other", durable.stream), "not a stream"])
        .query_async(&mut durable.direct().await?)
        .await?;
    let other = format!("{}:other", durable.stream);
    let addr = node.addr.to_string();
    let nowhere = "redis://127.0.0.1:1";
    let own = lab.own_redis().await?;
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "requirepass", "secret"])
        .query_async(&mut own.direct().await?)
        .await?;
    let locked = own.url();
    let cases = [
        (69, vec!["--redis", nowhere]),
        (76, vec!["--redis", &good, "--stream", &other]),
        (77, vec!["--redis", &locked]),
        (98, vec!["--listen", &addr]),
        (2, vec!["--history", "many"]),
    ];
    for (code, arguments) in cases {
        let mut all = arguments.clone();
        if code != 98 {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        let service = lab.service(all).start()?;
        let status = service.wait().await?;
        let said = service.stderr();
        ensure!(
            status.code() == Some(code) && !said.trim().is_empty(),
            "`live-feed {}` was to end with {code} and a reason; it ended with {status} and said {said:?}",
            arguments.join(" ")
        );
    }
    let got = data(&[take(&mut node.resume("", "0-1").await?, 2).await?.remove(1)]);
    ensure!(
        got == ["it works"],
        "a good node was disturbed: it has {got:?}"
    );
    Ok(())
}
