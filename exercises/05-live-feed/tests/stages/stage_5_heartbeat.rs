//! Stage 5: a stream that stays open when nothing happens, and is handed on at once when something does.

use std::time::{Duration, Instant};

use lab::clients::sse::{Item, Stream};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;

use crate::feed::{Feed, Node, begin, events, ids, on_a_fair_clock, quiet, take};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_quiet_stream_gets_comments_and_nothing_else,
        a_heartbeat_moves_no_id,
        a_busy_stream_gets_no_heartbeat,
        silence_is_counted_from_the_last_event,
        nobody_on_the_way_may_keep_or_collect_a_stream,
    ]
}

fn beating(heartbeat: Duration) -> Options {
    Options {
        heartbeat,
        ..quiet()
    }
}

/// Waits for so many comments; anything else fails.
async fn comments(stream: &mut Stream, count: usize) -> Outcome {
    for nth in 0..count {
        match stream.next_item().await {
            Ok(Some(Item::Comment(_))) => {}
            Ok(Some(Item::Event(event))) => {
                return Err(Failure::observed(format!(
                    "nothing was published, and after {nth} comments came an event of the type {:?} with the id {:?} and the data {:?}",
                    event.kind, event.last_id, event.data
                ))
                .code("LF05"));
            }
            Ok(Some(other)) => lab::fail!("nothing was published, and {other:?} came"),
            Ok(None) => lab::fail!("the stream ended although nobody asked for that"),
            Err(error) => {
                return Err(Failure::from(error).also(format!("{nth} comments had come")));
            }
        }
    }
    Ok(())
}

async fn a_quiet_stream_gets_comments_and_nothing_else(lab: Lab) -> Outcome {
    lab.promise("When nothing was sent for `heartbeat`, a comment is sent, again and again: no event, which a page would see.");
    let feed = Feed::start(&lab, beating(Duration::from_millis(60))).await?;
    let mut plain = feed.open("").await?;
    begin(&mut plain).await?;
    comments(&mut plain, 4).await?;
    // Between events as well, and also after a resume and after a reset.
    let id = feed.post("t", "x").await?;
    let mut resumed = feed.resume("", &id).await?;
    let mut lost = feed.resume("", "1-1").await?;
    while !matches!(plain.next_item().await?, Some(Item::Event(_)) | None) {}
    take(&mut lost, 2).await?;
    begin(&mut resumed).await?;
    for stream in [&mut plain, &mut resumed, &mut lost] {
        comments(stream, 3).await?;
    }
    Ok(())
}

async fn a_heartbeat_moves_no_id(lab: Lab) -> Outcome {
    lab.promise("A heartbeat changes nothing of what a client knows: it resumes behind the last event that it saw.");
    let feed = Feed::start(&lab, beating(Duration::from_millis(40))).await?;
    let mut stream = feed.open("").await?;
    let first = feed.post("t", "x").await?;
    take(&mut stream, 1).await?;
    comments(&mut stream, 5).await?;
    ensure!(
        stream.last_id() == first,
        "LF05",
        "the client saw the event {first} and five heartbeats; now it has the last id {:?}",
        stream.last_id()
    );
    let next = stream.cut();
    let second = feed.post("t", "y").await?;
    let mut stream = feed.open_with(&next).await?;
    let got = ids(&take(&mut stream, 1).await?);
    ensure!(
        got == [second.clone()],
        "LF05",
        "the client came back behind {first}; it got {got:?} instead of {second}"
    );
    Ok(())
}

async fn a_busy_stream_gets_no_heartbeat(lab: Lab) -> Outcome {
    lab.promise("A heartbeat is sent when nothing else was for so long, and not when there are events anyway.");
    for millis in [500, 1_500, 5_000] {
        let heartbeat = Duration::from_millis(millis);
        let feed = Feed::start(&lab, beating(heartbeat)).await?;
        let (comments, longest) = busy(&feed, heartbeat).await?;
        if longest < heartbeat * 8 / 10 {
            ensure!(
                comments == 0,
                "between two events there were {longest:?} at most, the heartbeat is {heartbeat:?}, and {comments} comments came in the time of three heartbeats"
            );
            return Ok(());
        }
    }
    Err(Failure::infrastructure(
        "the machine held this check up again and again; run it again when less is going on",
    ))
}

/// Publishes for three heartbeats. How many comments came, and the longest time between two events.
async fn busy(node: &Node, heartbeat: Duration) -> Result<(usize, Duration), Failure> {
    let mut stream = node.open("").await?;
    let mut publisher = node.publisher().await?;
    let (start, mut sent, mut longest, mut count) =
        (Instant::now(), Instant::now(), Duration::ZERO, 0);
    while start.elapsed() < heartbeat * 3 {
        publisher.post("t", "x").await?;
        count += 1;
        // From before the last event went out until after this one did.
        longest = longest.max(sent.elapsed());
        sent = Instant::now();
        node.lab.within(heartbeat / 10).await;
    }
    take(&mut stream, count).await?;
    let comments = stream
        .log()
        .iter()
        .filter(|(_, item)| matches!(item, Item::Comment(_)))
        .count();
    Ok((comments, longest + heartbeat / 10))
}

async fn silence_is_counted_from_the_last_event(lab: Lab) -> Outcome {
    lab.promise("A comment comes when nothing was sent for `heartbeat`, counted from the last thing that was sent: no silence is longer, whenever the event before it came.");
    on_a_fair_clock(&lab, [800, 2_500, 6_000], |heartbeat| {
        let lab = lab.clone();
        async move {
            let feed = Feed::start(&lab, beating(heartbeat)).await?;
            let mut stream = feed.open("").await?;
            begin(&mut stream).await?;
            for _ in 0..2 {
                comments(&mut stream, 1).await?;
                lab.within(heartbeat / 5).await;
                feed.post("t", "x").await?;
                while !matches!(stream.next_item().await?, Some(Item::Event(_)) | None) {}
                let silent = Instant::now();
                comments(&mut stream, 1).await?;
                let silent = silent.elapsed();
                ensure!(
                    silent < heartbeat * 15 / 10,
                    "the heartbeat is {heartbeat:?}; an event came, then nothing was published, and the first comment came {silent:.1?} after the event"
                );
            }
            Ok(())
        }
    })
    .await
}

async fn nobody_on_the_way_may_keep_or_collect_a_stream(lab: Lab) -> Outcome {
    lab.promise("The headers keep caches and proxies from holding a stream back: `cache-control: no-store, no-transform`, `x-accel-buffering: no`, and the stream is not compressed.");
    let feed = Feed::start(&lab, quiet()).await?;
    let id = feed.post("t", "x").await?;
    let requests = [
        ("a new stream", events("")),
        ("a stream of one topic", events("?topic=t")),
        ("a resumed stream", events("").header("last-event-id", &id)),
        ("a reset stream", events("").header("last-event-id", "1-1")),
        (
            "a stream that may be compressed",
            events("").header("accept-encoding", "gzip, br, deflate"),
        ),
    ];
    for (what, request) in requests {
        let stream = feed.open_with(&request).await?;
        let headers = &stream.head().headers;
        ensure!(
            headers.lists("cache-control", "no-store")
                && headers.lists("cache-control", "no-transform"),
            "LF07",
            "{what} has cache-control: {:?}",
            headers.get("cache-control")
        );
        ensure!(
            headers.lists("x-accel-buffering", "no"),
            "LF07",
            "{what} has x-accel-buffering: {:?}",
            headers.get("x-accel-buffering")
        );
        ensure!(
            headers
                .get("content-encoding")
                .is_none_or(|coding| coding == "identity"),
            "{what} is compressed: {:?}",
            headers.get("content-encoding")
        );
    }
    Ok(())
}
