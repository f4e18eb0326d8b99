//! Stage 6: clients that do not read, and clients that leave.

use std::time::Duration;

use lab::clients::sse::{Item, Stream};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;

use crate::feed::{Feed, Node, events, ids, quiet, take};
use crate::node::Process;
use crate::sequence::{Suspects, same};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_client_that_does_not_read_delays_nobody,
        a_slow_client_is_disconnected_and_resumes_with_everything,
        a_slow_client_is_cut_off_and_not_seen_out,
        a_long_replay_may_take_its_time_while_others_publish,
        a_short_pause_costs_nobody_the_connection,
        clients_that_leave_are_forgotten_at_once,
        clients_that_do_not_read_cost_little_memory,
    ]
}

/// A client that asks for a stream and then does not read.
async fn stalled(node: &Node, query: &str) -> Result<Stream, Failure> {
    Ok(Stream::open(&node.client().receive_buffer(4096), &events(query)).await?)
}

/// Reads every event up to `last`, coming back when the connection ends.
async fn follow(mut stream: Stream, last: &str) -> Result<Vec<String>, Failure> {
    let mut got: Vec<String> = Vec::new();
    while got.last().is_none_or(|id| id != last) {
        match stream.next().await {
            Ok(Some(event)) => got.push(event.last_id),
            Ok(None) => stream = stream.reopen().await?,
            Err(error) if error.is_gone() => stream = stream.reopen().await?,
            Err(error) => {
                return Err(Failure::from(error).also(format!("{} events had come", got.len())));
            }
        }
    }
    Ok(got)
}

/// Publishes `count` large events.
async fn publish_large(node: &Node, count: usize, size: usize) -> Result<Vec<String>, Failure> {
    let text = "x".repeat(size);
    let mut publisher = node.publisher().await?;
    let mut posted = Vec::new();
    for n in 0..count {
        let id = publisher.post("t", &text).await;
        posted.push(id.map_err(|failure| {
            failure
                .also(format!(
                    "one client does not read, and {n} events were accepted before"
                ))
                .code_if("LF10")
        })?);
    }
    Ok(posted)
}

async fn a_client_that_does_not_read_delays_nobody(lab: Lab) -> Outcome {
    lab.promise("A client that does not read delays neither who publishes nor any other client.");
    // As a process: should it block its threads, those of the check go on.
    let node = Process::start(&lab, &["--heartbeat", "1h", "--queue", "16"]).await?;
    let _stalled = stalled(&node, "").await?;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(tokio::spawn(read_on(node.open("").await?.forget_items())));
    }
    let posted = publish_large(&node, 180, 60_000).await?;
    node.post("t", "the end").await?;
    for (client, other) in others.into_iter().enumerate() {
        let got = other.await??;
        same(
            &format!("client {client}, which reads,"),
            &posted,
            &got,
            Suspects::default(),
        )?;
    }
    Ok(())
}

/// Reads all the time, up to the end, and comes back should it be held up for too long itself.
async fn read_on(mut stream: Stream) -> Result<Vec<String>, Failure> {
    let mut got = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) if event.data == "the end" => return Ok(got),
            Ok(Some(event)) => got.push(event.last_id),
            Ok(None) => stream = stream.reopen().await?,
            Err(error) if error.is_gone() => stream = stream.reopen().await?,
            Err(error) => {
                return Err(Failure::from(error)
                    .also(format!("{} events had come", got.len()))
                    .code_if("LF10"));
            }
        }
    }
}

async fn a_slow_client_is_disconnected_and_resumes_with_everything(lab: Lab) -> Outcome {
    lab.promise("When more events wait for a client than its queue holds, it is disconnected, counted in `dropped_clients` and no more in `clients`. It is never skipped ahead: coming back with its last id it gets all the rest.");
    let feed = Feed::with_small_buffers(
        &lab,
        Options {
            queue: 16,
            ..quiet()
        },
    )
    .await?;
    let mut slow = stalled(&feed, "").await?;
    feed.until_clients(1).await?;
    let mut posted = publish_large(&feed, 300, 8_000).await?;
    let dropped = feed.until_clients(0).await;
    if let Err(failure) = dropped {
        // It is still there. Has it been skipped ahead, or does everything wait for it?
        let mut got = Vec::new();
        while let Ok(Some(item)) = slow.next_item_within(Duration::from_secs(1)).await {
            if let Item::Event(event) = item {
                got.push(event.last_id);
            }
        }
        let code = if got == posted { "LF23" } else { "LF04" };
        return Err(failure
            .also("2.4 MB were published to a client that does not read, and whose queue holds 16 events of 8 kB")
            .code_if(code));
    }
    posted.push(feed.post("t", "the end").await?);
    let stats = feed.stats().await?;
    ensure!(
        stats["dropped_clients"] == 1,
        "one client was disconnected because it was too slow; the statistics say {stats}"
    );
    let got = follow(slow, &posted[300]).await?;
    same(
        "the slow client, after it came back,",
        &posted,
        &got,
        Suspects {
            missing: Some("LF04"),
            twice: Some("LF02"),
        },
    )
}

async fn a_slow_client_is_cut_off_and_not_seen_out(lab: Lab) -> Outcome {
    lab.promise("A client that is too slow is disconnected at once, in the middle of whatever it was being sent: nothing waits until it takes what its queue held, or a last word.");
    let options = Options {
        queue: 60,
        ..quiet()
    };
    let feed = Feed::with_small_buffers(&lab, options).await?;
    let mut slow = stalled(&feed, "").await?;
    feed.until_clients(1).await?;
    publish_large(&feed, 400, 8_000).await?;
    feed.until_clients(0).await?;
    // Only now it reads: the little that the system had taken already, and then no end but a break.
    let mut count = 0;
    let orderly = loop {
        match slow.next_item().await {
            Ok(Some(Item::Event(_))) => count += 1,
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(error) if error.is_gone() => break false,
            Err(error) => {
                return Err(Failure::from(error).also(format!(
                    "the client is counted no more, and its connection was to be closed; {count} events had come"
                )));
            }
        }
    };
    ensure!(
        count < 60 && !orderly,
        "a client did not read, and is counted no more; when it read again it still got {count} events of 8 kB, all that its queue held, and then {}. So its connection was open all the time, and what it cost was held until it read",
        if orderly {
            "the orderly end of its stream"
        } else {
            "the end"
        }
    );
    Ok(())
}

async fn a_long_replay_may_take_its_time_while_others_publish(lab: Lab) -> Outcome {
    lab.promise("A client that reads on while it catches up stays connected, however long that takes and however much is published meanwhile: only what came since it last took something counts as waiting.");
    let options = Options {
        queue: 100,
        ..quiet()
    };
    let feed = Feed::with_small_buffers(&lab, options).await?;
    let mut posted = publish_large(&feed, 600, 2_000).await?;
    let request = events("").header("last-event-id", &posted[0]);
    let mut stream = Stream::open(&feed.client().receive_buffer(4096), &request).await?;
    // Each time fewer than the queue holds, and all in all several times as many.
    for round in 0..4 {
        posted.extend(publish_large(&feed, 60, 2_000).await?);
        take(&mut stream, 160).await.map_err(|failure| {
            failure.also(format!(
                "a client catches up and reads 160 events after every 60 that are published, and its queue holds 100; round {round}"
            ))
        })?;
    }
    posted.push(feed.post("t", "the end").await?);
    let rest = posted.len() - 1 - stream.events().len();
    take(&mut stream, rest).await?;
    same(
        "the client that caught up",
        &posted[1..],
        &ids(&stream.events()),
        Suspects::default(),
    )?;
    let stats = feed.stats().await?;
    ensure!(
        stats["dropped_clients"] == 0,
        "nobody was too slow; the statistics say {stats}"
    );
    Ok(())
}

async fn a_short_pause_costs_nobody_the_connection(lab: Lab) -> Outcome {
    lab.promise("A client that pauses while fewer events come than its queue holds stays connected and gets all of them.");
    let feed = Feed::start(
        &lab,
        Options {
            queue: 500,
            ..quiet()
        },
    )
    .await?;
    let mut pauses = feed.open("").await?;
    let posted = feed.post_many("t", 450).await?;
    let got = take(&mut pauses, 450).await?;
    same(
        "the client that paused",
        &posted,
        &ids(&got),
        Suspects {
            missing: Some("LF04"),
            twice: None,
        },
    )?;
    let stats = feed.stats().await?;
    ensure!(
        stats["dropped_clients"] == 0 && stats["clients"] == 1,
        "450 events waited for a client whose queue holds 500; the statistics say {stats}"
    );
    Ok(())
}

async fn clients_that_leave_are_forgotten_at_once(lab: Lab) -> Outcome {
    lab.promise("A client that leaves, in whatever way and at whatever moment, is counted no more at once, and not only when the next event or heartbeat comes.");
    let feed = Feed::with_small_buffers(
        &lab,
        Options {
            history: 1_000,
            queue: 2_000,
            ..quiet()
        },
    )
    .await?;
    let posted = publish_large(&feed, 100, 8_000).await?;
    let gone = |failure: Failure, how: &str| failure.also(how).code_if("LF11");
    for round in 0..2 {
        let mut open = Vec::new();
        for _ in 0..12 {
            open.push(feed.open("").await?);
        }
        feed.until_clients(12).await?;
        for (n, mut stream) in open.into_iter().enumerate() {
            match n % 3 {
                // In order, by a reset, and in order one half after the other.
                0 => drop(stream),
                1 => drop(stream.cut()),
                _ => {
                    stream.connection().finish_writing().await?;
                    drop(stream);
                }
            }
        }
        let left = feed.until_clients(0).await;
        left.map_err(|failure| gone(failure, "12 clients came, saw nothing and left"))?;

        let request = events("").header("last-event-id", &posted[0]);
        let mut open = Vec::new();
        for _ in 0..6 {
            open.push(Stream::open(&feed.client().receive_buffer(4096), &request).await?);
        }
        feed.until_clients(6).await?;
        for (n, stream) in open.into_iter().enumerate() {
            match n % 2 == round % 2 {
                true => drop(stream),
                false => drop(stream.cut()),
            }
        }
        let left = feed.until_clients(0).await;
        left.map_err(|failure| {
            gone(
                failure,
                "6 clients left in the middle of what they had missed, without reading it",
            )
        })?;

        for _ in 0..6 {
            let mut connection = feed.client().connect().await?;
            connection.send(&events("")).await?;
            connection.reset();
            feed.request(&lab::clients::http::Request::new("HEAD", "/events"))
                .await?;
        }
        let left = feed.until_clients(0).await;
        left.map_err(|failure| {
            gone(
                failure,
                "6 clients left before they read an answer, and 6 asked for the head alone",
            )
        })?;
    }
    let stats = feed.stats().await?;
    ensure!(
        stats["dropped_clients"] == 0,
        "LF11",
        "nobody was too slow, all left by themselves; the statistics say {stats}"
    );
    Ok(())
}

async fn clients_that_do_not_read_cost_little_memory(lab: Lab) -> Outcome {
    lab.promise("What a client that does not read may take of the memory is bounded by its queue.");
    let arguments = ["--history", "10", "--queue", "8", "--heartbeat", "1h"];
    let node = Process::start(&lab, &arguments).await?;
    let text = "x".repeat(60_000);
    let mut publisher = node.publisher().await?;
    for _ in 0..20 {
        publisher.post("t", &text).await?;
    }
    let before = node.memory()?;
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(stalled(&node, "").await?);
    }
    let mut most = 0;
    for n in 0..200 {
        publisher
            .post("t", &text)
            .await
            .map_err(|failure| failure.code_if("LF10"))?;
        if n % 20 == 19 {
            most = most.max(node.memory()?.saturating_sub(before) >> 20);
        }
    }
    ensure!(
        most < 150,
        "LF23",
        "60 clients do not read; while 12 MB were published the service grew by {most} MiB"
    );
    node.until_clients(0).await.map_err(|failure| {
        failure
            .also("60 clients do not read 12 MB; their queues hold 8 events of 60 kB")
            .code_if("LF23")
    })
}
