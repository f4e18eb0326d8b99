//! Stage 8: topics, and their end.

use std::time::Duration;

use lab::clients::http::{HttpError, Request};
use lab::clients::sse::{Item, Stream};
use lab::faults::{Action, Exchange, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;

use crate::durable::Durable;
use crate::feed::{Feed, Node, accepted, data, events, ids, posting, quiet, take, take_until};
use crate::sequence::{Suspects, same};
use crate::stage_4_expire::reset;

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_topics_stream_has_its_events_and_no_others,
        an_id_of_another_topic_is_good_to_resume_from,
        other_topics_put_off_no_heartbeat_and_fill_no_queue,
        other_topics_do_not_make_a_client_slow,
        a_finished_topic_ends_its_streams_behind_the_last_event,
        who_still_catches_up_gets_all_of_a_topic_before_its_end,
        who_comes_to_a_finished_topic_gets_the_rest_and_then_204,
        a_topic_is_finished_on_all_nodes_and_for_good,
        a_topic_stays_finished_when_its_entries_are_trimmed,
        a_topic_ends_behind_what_stands_before_its_end,
    ]
}

async fn a_topics_stream_has_its_events_and_no_others(lab: Lab) -> Outcome {
    lab.promise("With `?topic=` a stream has the events of this topic and no others, in order, live and replayed. Without it, all. A topic that cannot be one is refused with 422.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut all = feed.open("").await?;
    let mut topics = Vec::new();
    for topic in ["a", "b", "a.b"] {
        topics.push((topic, feed.open(&format!("?topic={topic}")).await?));
    }
    let mut publisher = feed.publisher().await?;
    let mut posted = Vec::new();
    for n in 0..60 {
        let topic = ["a", "b", "a.b", "A"][n % 4];
        posted.push((topic, publisher.post(topic, &n.to_string()).await?));
    }
    let of = |topic: &str| {
        let own = posted.iter().filter(|(other, _)| *other == topic);
        own.map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    let every: Vec<String> = posted.iter().map(|(_, id)| id.clone()).collect();
    same(
        "a stream without a topic",
        &every,
        &ids(&take(&mut all, 60).await?),
        Suspects::default(),
    )?;
    for (topic, stream) in &mut topics {
        let got = ids(&take(stream, 15).await?);
        same(
            &format!("the stream of topic {topic}"),
            &of(topic),
            &got,
            Suspects::default(),
        )?;
    }
    let first = posted[0].1.clone();
    let mut resumed = feed.resume("?topic=b", &first).await?;
    let mut got = take(&mut resumed, 15).await?;
    let mut expected = of("b");
    feed.post("a", "not for b").await?;
    expected.push(feed.post("b", "for b").await?);
    got.extend(take(&mut resumed, 1).await?);
    same(
        "the resumed stream of topic b",
        &expected,
        &ids(&got),
        Suspects::default(),
    )?;
    let long = "x".repeat(65);
    for bad in ["", "a%20b", "%0A", "%C3%A4", &long, "a,b"] {
        let refused = feed.refused(&events(&format!("?topic={bad}"))).await?;
        ensure!(
            refused.status == 422,
            "`?topic={bad}` was to be refused with 422, and the answer is {}",
            refused.summary()
        );
    }
    Ok(())
}

async fn an_id_of_another_topic_is_good_to_resume_from(lab: Lab) -> Outcome {
    lab.promise("A client of one topic may resume behind any event that is kept, also one of another topic; a reset names the oldest event of all.");
    let feed = Feed::start(
        &lab,
        Options {
            history: 40,
            ..quiet()
        },
    )
    .await?;
    let mut posted = Vec::new();
    for n in 0..60 {
        let topic = if n % 3 == 0 { "a" } else { "b" };
        posted.push(feed.post(topic, &n.to_string()).await?);
    }
    let of_a = |from: usize| {
        (from..60)
            .filter(|n| n % 3 == 0)
            .map(|n| posted[n].clone())
            .collect::<Vec<_>>()
    };
    for (n, id) in posted.iter().enumerate().take(57).skip(20) {
        let mut stream = feed.resume("?topic=a", id).await?;
        let expected = of_a(n + 1);
        let got = take(&mut stream, expected.len()).await?;
        ensure!(
            got[0].kind != "reset",
            "LF21",
            "{id} is kept; a client of topic `a` that resumed behind it was reset"
        );
        same(
            &format!("a client of topic a behind number {}", n + 1),
            &expected,
            &ids(&got),
            Suspects::default(),
        )?;
    }
    let mut stream = feed.resume("?topic=a", &posted[5]).await?;
    let oldest = reset(&mut stream, "an id that is not kept").await?;
    ensure!(
        oldest.as_ref() == Some(&posted[20]),
        "the oldest event that is kept is {}, of topic b; a client of topic a was told {oldest:?}",
        posted[20]
    );
    let got = ids(&take(&mut stream, of_a(20).len()).await?);
    same(
        "a client of topic a after a reset",
        &of_a(20),
        &got,
        Suspects::default(),
    )
}

async fn other_topics_put_off_no_heartbeat_and_fill_no_queue(lab: Lab) -> Outcome {
    lab.promise("What is published in other topics is nothing to a stream: its heartbeat comes all the same, and its queue stays empty.");
    let options = Options {
        heartbeat: Duration::from_millis(200),
        queue: 5,
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    let mut stream = feed.open("?topic=quiet").await?;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let node = (*feed).clone();
    let publishing = tokio::spawn(async move {
        let mut publisher = node.publisher().await?;
        let mut count = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            publisher.post("busy", "x").await?;
            count += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Failure>(count)
    });
    let mut comments = 0;
    while comments < 3 {
        match stream.next_item().await.map_err(|error| {
            Failure::from(error)
                .also(format!(
                    "{comments} heartbeats had come, while another topic was busy"
                ))
                .code_if("LF15")
        })? {
            Some(Item::Comment(_)) => comments += 1,
            Some(Item::Retry(_)) => {}
            other => lab::fail!(
                "nothing was published in topic `quiet`, and its stream brought {other:?}"
            ),
        }
    }
    let _ = stop.send(());
    let others = publishing.await??;
    let stats = feed.stats().await?;
    ensure!(
        stats["dropped_clients"] == 0 && stats["clients"] == 1,
        "{others} events were published in another topic; the statistics say {stats}"
    );
    Ok(())
}

async fn other_topics_do_not_make_a_client_slow(lab: Lab) -> Outcome {
    lab.promise("Only events of its own topic wait for a client. However much is published in others, it is not too slow, also when it does not read at present, live or in the middle of what it missed.");
    let options = Options {
        queue: 60,
        ..quiet()
    };
    let feed = Feed::with_small_buffers(&lab, options).await?;
    let text = "x".repeat(8_000);
    let mut publisher = feed.publisher().await?;
    let mut posted = Vec::new();
    for _ in 0..300 {
        posted.push(publisher.post("own", &text).await?);
    }
    let client = feed.client().receive_buffer(4096);
    let missed = events("?topic=own").header("last-event-id", &posted[0]);
    let mut catching_up = Stream::open(&client, &missed).await?;
    let mut live = Stream::open(&client, &events("?topic=own")).await?;
    // Enough to fill the system's buffers, not enough to fill a queue.
    for _ in 0..40 {
        posted.push(publisher.post("own", &text).await?);
    }
    for _ in 0..300 {
        publisher.post("other", "x").await?;
    }
    let stats = feed.stats().await?;
    ensure!(
        stats["clients"] == 2 && stats["dropped_clients"] == 0,
        "40 events of their topic wait for two clients whose queues hold 60, and 300 of another topic were published; the statistics say {stats}"
    );
    posted.push(publisher.post("own", "the end").await?);
    for (who, stream, from) in [
        ("the client that was live", &mut live, 300),
        ("the client that was catching up", &mut catching_up, 1),
    ] {
        let got = take(stream, posted.len() - from).await?;
        same(who, &posted[from..], &ids(&got), Suspects::default())?;
    }
    Ok(())
}

async fn finish(node: &Node, topic: &str) -> Outcome {
    let response = node
        .request(&Request::delete(format!("/topics/{topic}")))
        .await?;
    ensure!(
        response.status == 204,
        "`DELETE /topics/{topic}` was answered with {} instead of 204",
        response.summary()
    );
    Ok(())
}

/// What a stream still brings until its orderly end.
async fn to_the_end(stream: &mut Stream, what: &str) -> Result<Vec<String>, Failure> {
    match stream.rest().await {
        Ok(events) => Ok(ids(&events)),
        Err(error) => Err(Failure::from(error)
            .also(format!(
                "{what}, and its stream was to come to its orderly end"
            ))
            .code_if("LF24")),
    }
}

async fn a_finished_topic_ends_its_streams_behind_the_last_event(lab: Lab) -> Outcome {
    lab.promise("When a topic is finished its streams end in order, behind everything that was published before. Other streams go on and see nothing of it. Nothing can be published to it any more: 409.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut ending = Vec::new();
    for _ in 0..5 {
        ending.push(feed.open("?topic=a").await?);
    }
    let (mut all, mut other) = (feed.open("").await?, feed.open("?topic=b").await?);
    let posted = feed.post_many("a", 50).await?;
    finish(&feed, "a").await?;
    let refused = feed.request(&posting("a", "too late")).await?;
    ensure!(
        refused.status == 409,
        "topic a is finished; an event for it was answered with {}",
        refused.summary()
    );
    for stream in &mut ending {
        let got = to_the_end(stream, "the topic is finished").await?;
        same(
            "a stream of the finished topic",
            &posted,
            &got,
            Suspects {
                missing: Some("LF19"),
                twice: None,
            },
        )?;
    }
    finish(&feed, "a").await?;
    finish(&feed, "never-used").await?;
    let b = feed.post("b", "goes on").await?;
    let got = ids(&take(&mut other, 1).await?);
    ensure!(
        got == [b.clone()],
        "topic b is not finished; its stream brought {got:?} instead of {b}"
    );
    let mut expected = posted.clone();
    expected.push(b);
    let got = ids(&take_until(&mut all, "goes on").await?);
    same(
        "the stream without a topic",
        &expected,
        &got,
        Suspects::default(),
    )?;
    feed.until_clients(2).await.map_err(|failure| {
        failure
            .also("five streams of a finished topic have ended")
            .code_if("LF11")
    })?;
    let bad = feed.request(&Request::delete("/topics/a%20b")).await?;
    ensure!(
        bad.status == 422,
        "`DELETE /topics/a%20b` was answered with {}",
        bad.summary()
    );
    Ok(())
}

async fn who_still_catches_up_gets_all_of_a_topic_before_its_end(lab: Lab) -> Outcome {
    lab.promise("When a topic is finished while a client still catches up on it, that stream ends behind the last event, and not before.");
    let feed = Feed::with_small_buffers(&lab, quiet()).await?;
    let text = "x".repeat(8_000);
    let mut publisher = feed.publisher().await?;
    let mut posted = Vec::new();
    for _ in 0..300 {
        posted.push(publisher.post("a", &text).await?);
    }
    let request = events("?topic=a").header("last-event-id", &posted[0]);
    let mut stream = Stream::open(&feed.client().receive_buffer(4096), &request).await?;
    finish(&feed, "a").await?;
    let got = to_the_end(&mut stream, "the topic is finished").await?;
    same(
        "the client that was still catching up",
        &posted[1..],
        &got,
        Suspects::default(),
    )?;
    is_over(&feed, &stream.next_request()).await
}

/// Asks for a stream of a topic that has nothing left.
async fn is_over(node: &Node, request: &Request) -> Outcome {
    let response = node.refused(request).await;
    let response = response.map_err(|failure| {
        failure
            .also("the topic is finished and the client has all of it: 204 tells a browser not to come again, and an empty stream to come again at once")
            .code_if("LF24")
    })?;
    ensure!(
        response.status == 204 && response.body.is_empty(),
        "LF24",
        "the topic is finished and the client has all of it; the answer was to be 204, which tells a browser not to come again, and is {}",
        response.summary()
    );
    Ok(())
}

async fn who_comes_to_a_finished_topic_gets_the_rest_and_then_204(lab: Lab) -> Outcome {
    lab.promise("A client that comes to a finished topic gets what it missed and then the end; when there is nothing left for it, 204.");
    let feed = Feed::start(
        &lab,
        Options {
            history: 30,
            ..quiet()
        },
    )
    .await?;
    let posted = feed.post_many("a", 10).await?;
    let other = feed.post("b", "another topic").await?;
    finish(&feed, "a").await?;
    for (n, id) in posted.iter().enumerate().take(9) {
        let opened = Stream::open(
            &feed.client(),
            &events("?topic=a").header("last-event-id", id),
        )
        .await;
        let mut stream = opened.map_err(|error| {
            Failure::from(error).also(format!(
                "the client that comes behind {id} has not seen all of the topic"
            ))
        })?;
        let got = to_the_end(&mut stream, "the topic is finished").await?;
        same(
            &format!("the client that came behind {id}"),
            &posted[n + 1..],
            &got,
            Suspects::default(),
        )?;
        // What a browser does then.
        is_over(&feed, &stream.next_request()).await?;
    }
    is_over(&feed, &events("?topic=a")).await?;
    is_over(&feed, &events("?topic=a").header("last-event-id", &other)).await?;
    finish(&feed, "never-used").await?;
    is_over(&feed, &events("?topic=never-used")).await?;
    let clients = feed.clients().await?;
    ensure!(
        clients == 0,
        "LF11",
        "all streams have ended, and others were answered with 204; the statistics count {clients} clients"
    );
    // Who lost everything is reset all the same, as long as there is something of the topic.
    let mut stream = feed.resume("?topic=a", "1-1").await?;
    reset(&mut stream, "an unknown id").await?;
    let got = to_the_end(&mut stream, "the topic is finished").await?;
    same(
        "the client that was reset",
        &posted,
        &got,
        Suspects::default(),
    )?;
    let mut all = feed.resume("", &posted[9]).await?;
    let got = data(&take(&mut all, 1).await?);
    ensure!(
        got == ["another topic"],
        "a stream without a topic brought {got:?}"
    );
    let quiet = all.next_item_within(Duration::from_millis(200)).await;
    ensure!(
        matches!(quiet, Err(HttpError::Silent { .. })),
        "a stream without a topic brought {quiet:?} although nothing was published"
    );
    Ok(())
}

async fn a_topic_is_finished_on_all_nodes_and_for_good(lab: Lab) -> Outcome {
    lab.promise("With Redis a topic that is finished at one node is finished at all, each seeing the end behind what was published before, and stays so over restarts.");
    let durable = Durable::new(&lab).await?;
    let (here, there) = (durable.node().await?, durable.node().await?);
    let mut streams = [here.open("?topic=a").await?, there.open("?topic=a").await?];
    let mut all = there.open("").await?;
    let mut posted = here.post_many("a", 20).await?;
    posted.extend(there.post_many("a", 20).await?);
    finish(&here, "a").await?;
    for (n, stream) in streams.iter_mut().enumerate() {
        let got = to_the_end(
            stream,
            "the topic was finished at another node, or at this one",
        )
        .await?;
        same(
            &format!("the stream at node {n}"),
            &posted,
            &got,
            Suspects {
                missing: Some("LF19"),
                twice: None,
            },
        )?;
    }
    let late = there.request(&posting("a", "too late")).await?;
    ensure!(
        late.status == 409,
        "the topic was finished at another node; an event for it was answered with {}",
        late.summary()
    );
    accepted(&there.request(&posting("b", "goes on")).await?)?;
    let got = take_until(&mut all, "goes on").await?;
    ensure!(
        got.len() == 41,
        "40 events of topic a and one of topic b were published; the stream without a topic brought {}",
        got.len()
    );
    drop((here, there));
    let again = durable.node().await?;
    let late = again.request(&posting("a", "too late")).await?;
    ensure!(
        late.status == 409,
        "the topic was finished before the restart; an event for it was answered with {}",
        late.summary()
    );
    is_over(
        &again,
        &events("?topic=a").header("last-event-id", &posted[39]),
    )
    .await?;
    let mut stream = again.resume("?topic=a", &posted[30]).await?;
    let got = to_the_end(&mut stream, "the topic is finished").await?;
    same(
        "the client that came after the restart",
        &posted[31..],
        &got,
        Suspects::default(),
    )
}

async fn a_topic_stays_finished_when_its_entries_are_trimmed(lab: Lab) -> Outcome {
    lab.promise("A finished topic stays finished on every node, also when all its entries are trimmed and the node is started again.");
    let durable = Durable::new(&lab).await?;
    let options = || Options {
        history: 10,
        ..durable.options()
    };
    let feed = Feed::start(&lab, options()).await?;
    let own = feed.post_many("a", 3).await?;
    finish(&feed, "a").await?;
    // All of the topic, and its end, leave the stream.
    let others = feed.post_many("b", 30).await?;
    drop(feed);
    for when in ["was started again", "was started once more"] {
        let feed = Feed::start(&lab, options()).await?;
        let refused = feed.request(&posting("a", "too late")).await?;
        ensure!(
            refused.status == 409,
            "topic a was finished, its end is trimmed, the node {when}; an event for the topic was answered with {}",
            refused.summary()
        );
        for request in [
            events("?topic=a"),
            events("?topic=a").header("last-event-id", &others[29]),
            events("?topic=a").header("last-event-id", &own[2]),
        ] {
            is_over(&feed, &request).await.map_err(|mut failure| {
                // It does tell of an end, or it would not have come so far.
                failure.code = None;
                failure.also(format!("its end is trimmed, and the node {when}"))
            })?;
        }
        // Once more is no mistake.
        finish(&feed, "a").await?;
    }
    Ok(())
}

async fn a_topic_ends_behind_what_stands_before_its_end(lab: Lab) -> Outcome {
    lab.promise("With Redis a topic ends where its end stands in the stream: what was published before, also at other nodes, comes before it, however far the node's reader is behind.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let mut stream = feed.open("?topic=t").await?;
    let mut posted = vec![feed.post("t", "the first").await?];
    let held = durable
        .redis
        .proxy()
        .arm(Trigger::reply(Exchange::is_blocking), Action::Hold);
    for n in 0..5 {
        posted.push(durable.add_event("*", &n.to_string()).await?);
    }
    // The answer may come now, or when the reader has come so far.
    let node = (*feed).clone();
    let mut finishing = tokio::spawn(async move { finish(&node, "t").await });
    let early = tokio::time::timeout(Duration::from_secs(1), &mut finishing).await;
    held.release();
    match early {
        Ok(done) => done??,
        Err(_) => finishing.await??,
    }
    let got = to_the_end(&mut stream, "the topic is finished").await?;
    same(
        "the stream of the topic, which was finished while the node's reader was behind,",
        &posted,
        &got,
        Suspects::default(),
    )
}
