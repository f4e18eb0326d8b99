//! Stage 9: an end in time, with everything said.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use lab::clients::http::{Client, HttpError, Request};
use lab::clients::sse::Stream;
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;

use crate::durable::Durable;
use crate::feed::{Feed, accepted, begin, events, ids, on_a_fair_clock, posting, quiet, take};
use crate::node::Process;
use crate::sequence::{Suspects, same};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_thousand_streams_end_in_order_although_one_client_does_not_read,
        what_was_accepted_is_delivered_before_the_end,
        nothing_is_accepted_that_nobody_gets,
        a_client_that_does_not_read_delays_a_stop_to_the_deadline_at_most,
        an_idle_node_stops_at_once_and_leaves_its_address,
        a_stop_does_not_wait_for_redis,
    ]
}

/// What a stream that is told of the end brings: events, and then its proper end.
async fn to_the_end(mut stream: Stream) -> Result<Vec<String>, Failure> {
    match stream.rest().await {
        Ok(events) => Ok(ids(&events)),
        Err(error) => {
            let code = if error.is_gone() { "LF19" } else { "LF18" };
            Err(Failure::from(error)
                .also("the node was asked to stop, and each stream was to come to its proper end")
                .code_if(code))
        }
    }
}

async fn a_thousand_streams_end_in_order_although_one_client_does_not_read(lab: Lab) -> Outcome {
    lab.promise("On SIGTERM every stream comes to its proper end, a thousand of them, and the service ends with 0 within its deadline, also when one client does not read.");
    lab::clients::http::open_many_files()?;
    let arguments = [
        "--heartbeat",
        "1h",
        "--stop-deadline",
        "3s",
        "--queue",
        "100000",
    ];
    let node = Process::start(&lab, &arguments).await?;
    let client = node.client().forget_bytes();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let opening =
            (0..50).map(|_| async move { Stream::open(&client, &events("?topic=t")).await });
        streams.extend(try_join_all(opening).await?);
    }
    let stalled =
        Stream::open(&node.client().receive_buffer(4096), &events("?topic=large")).await?;
    let mut publisher = node.publisher().await?;
    let text = "x".repeat(60_000);
    for _ in 0..150 {
        publisher.post("large", &text).await?;
    }
    let last = publisher.post("t", "the last").await?;
    node.until_clients(1001).await?;
    lab.history().note("node", "SIGTERM");
    node.service.terminate();
    for (n, got) in join_all(streams.into_iter().map(to_the_end))
        .await
        .into_iter()
        .enumerate()
    {
        let got = got?;
        ensure!(
            got == [last.clone()],
            "LF19",
            "{last} was published before the stop; stream {n} brought {got:?} and ended"
        );
    }
    let status = node.service.wait().await;
    let status = status.map_err(|failure| {
        failure
            .also("all clients had their end, but one that does not read")
            .code_if("LF18")
    })?;
    ensure!(
        status.code() == Some(0),
        "the service ended with {status} after SIGTERM; it said: {}",
        node.service.stderr()
    );
    drop(stalled);
    let lines = node.service.lines();
    ensure!(
        lines.len() == 1,
        "the service prints one line, where it listens; it printed {lines:?}"
    );
    Ok(())
}

async fn what_was_accepted_is_delivered_before_the_end(lab: Lab) -> Outcome {
    lab.promise("Every event that was accepted before the stop reaches the clients that are connected, before the end of their streams: also those that still read what they missed.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut posted = feed.post_many("t", 2_000).await?;
    let mut live = Vec::new();
    for _ in 0..10 {
        live.push(feed.open("").await?);
    }
    let behind = feed.resume("", &posted[0]).await?;
    let more = feed.post_many("t", 150).await?;
    posted.extend(more.clone());
    feed.ask_to_stop();
    let suspects = Suspects {
        missing: Some("LF19"),
        twice: None,
    };
    let behind = tokio::spawn(to_the_end(behind));
    for got in join_all(live.into_iter().map(to_the_end)).await {
        same("a client", &more, &got?, suspects)?;
    }
    same(
        "the client that had missed two thousand",
        &posted[1..],
        &behind.await??,
        suspects,
    )?;
    let summary = feed.ended().await?;
    stopped_in_the_middle_of_a_replay(&lab).await?;
    ensure!(
        summary.published == 2_150 && summary.cut_off == 0,
        "2,150 events were accepted and every client got its end; the summary says {summary:?}"
    );
    Ok(())
}

/// The system takes little for this client, so most is still in the history when the stop comes.
async fn stopped_in_the_middle_of_a_replay(lab: &Lab) -> Outcome {
    let options = Options {
        stop_deadline: Duration::from_secs(3600),
        ..quiet()
    };
    let feed = Feed::with_small_buffers(lab, options).await?;
    let text = "x".repeat(8_000);
    let mut publisher = feed.publisher().await?;
    let mut posted = Vec::new();
    for _ in 0..300 {
        posted.push(publisher.post("t", &text).await?);
    }
    let request = events("").header("last-event-id", &posted[0]);
    let mut behind = Stream::open(&feed.client().receive_buffer(4096), &request).await?;
    take(&mut behind, 1).await?;
    feed.ask_to_stop();
    let got = to_the_end(behind).await?;
    same(
        "the client that was in the middle of what it had missed when the stop came",
        &posted[2..],
        &got,
        Suspects {
            missing: Some("LF19"),
            twice: None,
        },
    )?;
    drop(publisher);
    feed.ended().await?;
    Ok(())
}

async fn nothing_is_accepted_that_nobody_gets(lab: Lab) -> Outcome {
    lab.promise("An event that is accepted while the node is stopping reaches the clients as well; one that would not is refused.");
    for _ in 0..4 {
        let feed = Feed::start(&lab, quiet()).await?;
        let mut streams = try_join_all((0..4).map(|_| feed.open(""))).await?;
        for stream in &mut streams {
            begin(stream).await?;
        }
        let publishing: Vec<_> = (0..4)
            .map(|_| {
                let node = (*feed).clone();
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    let Ok(mut publisher) = node.publisher().await else {
                        return got;
                    };
                    // Until it is refused, or the connection ends.
                    while let Ok(response) = publisher.request(&posting("t", "x")).await {
                        match accepted(&response) {
                            Ok(id) => got.push(id),
                            Err(_) => break,
                        }
                    }
                    got
                })
            })
            .collect();
        // Some go through before the stop comes.
        take(&mut streams[0], 20).await?;
        feed.ask_to_stop();
        let mut all: Vec<Vec<String>> = Vec::new();
        for mut stream in streams {
            stream.rest().await?;
            all.push(ids(&stream.events()));
        }
        let mut posted: Vec<String> = join_all(publishing)
            .await
            .into_iter()
            .filter_map(Result::ok)
            .flatten()
            .collect();
        posted.sort_by_key(|id| crate::feed::numbers(id));
        for got in &all {
            let missing = posted.iter().filter(|id| !got.contains(id)).count();
            ensure!(
                missing == 0,
                "LF19",
                "{} events were accepted until the node had stopped; a client that was connected all the time did not get {missing} of them",
                posted.len()
            );
        }
        feed.ended().await?;
    }
    Ok(())
}

async fn a_client_that_does_not_read_delays_a_stop_to_the_deadline_at_most(lab: Lab) -> Outcome {
    lab.promise("`serve` returns as soon as all clients have their end, and at the deadline in any case: who is still connected then is cut off and counted.");
    on_a_fair_clock(&lab, [1_000, 3_000, 6_000], |stop_deadline| {
        let lab = lab.clone();
        async move {
            let options = Options {
                stop_deadline,
                queue: 10_000,
                ..quiet()
            };
            let feed = Feed::with_small_buffers(&lab, options).await?;
            let stalled = Stream::open(&feed.client().receive_buffer(4096), &events("")).await?;
            let mut silent = feed.client().connect().await?;
            silent
                .write(b"POST /events HTTP/1.1\r\nhost: x\r\n")
                .await?;
            let text = "x".repeat(30_000);
            let mut publisher = feed.publisher().await?;
            for _ in 0..100 {
                publisher.post("t", &text).await?;
            }
            let asked = Instant::now();
            feed.ask_to_stop();
            let summary = feed
                .ended()
                .await
                .map_err(|failure| failure.code_if("LF18"))?;
            let took = asked.elapsed();
            ensure!(
                summary.cut_off >= 1 && summary.published == 100,
                "one client did not read three megabytes, and 100 events were accepted; the summary says {summary:?}"
            );
            ensure!(
                took < stop_deadline * 17 / 10,
                "`stop_deadline` is {stop_deadline:?}, one client does not read, and `serve` returned {took:.1?} after it was asked to stop"
            );
            drop(stalled);
            Ok(())
        }
    })
    .await
}

async fn an_idle_node_stops_at_once_and_leaves_its_address(lab: Lab) -> Outcome {
    lab.promise("When `serve` has returned its address is free and nothing of it runs any more; a deadline that is far away is not waited for.");
    let options = Options {
        stop_deadline: Duration::from_secs(3600),
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    let addr = feed.addr;
    let mut idle = feed.client().connect().await?;
    idle.request(&Request::get("/healthz")).await?;
    let stream = feed.open("").await?;
    feed.ask_to_stop();
    to_the_end(stream).await?;
    feed.ended().await.map_err(|failure| {
        failure.also("the deadline is an hour away, one stream was open and has its end, one connection is idle").code_if("LF18")
    })?;
    idle.closed().await?;
    let again = Client::new(addr, lab.deadline()).connect().await;
    ensure!(
        matches!(again, Err(HttpError::Connect { .. })),
        "`serve` has returned, and somebody still listens at its address"
    );
    for signal in ["-TERM", "-INT"] {
        let node = Process::start(&lab, &["--stop-deadline", "1h"]).await?;
        accepted(&node.request(&posting("t", "x")).await?)?;
        node.signal(signal)?;
        let status = node.service.wait().await?;
        ensure!(
            status.code() == Some(0),
            "the service ended with {status}; it said: {}",
            node.service.stderr()
        );
    }
    Ok(())
}

async fn a_stop_does_not_wait_for_redis(lab: Lab) -> Outcome {
    lab.promise("A node that is asked to stop while Redis is away, or does not answer, stops all the same, within its deadline, and tells its clients.");
    let durable = Durable::new(&lab).await?;
    let options = || Options {
        stop_deadline: Duration::from_secs(1),
        ..durable.options()
    };
    let proxy = durable.redis.proxy();
    for how in ["cannot be reached", "does not answer"] {
        let feed = Feed::start(&lab, options()).await?;
        let mut stream = feed.open("").await?;
        let id = feed.post("t", "x").await?;
        take(&mut stream, 1).await?;
        lab.history().fault("redis", how);
        match how {
            "does not answer" => proxy.stall(true),
            _ => {
                proxy.refuse(true);
                proxy.cut_all();
            }
        }
        feed.ask_to_stop();
        let got = to_the_end(stream).await?;
        ensure!(
            got.is_empty(),
            "the client had {id} already, and got {got:?} again"
        );
        feed.ended()
            .await
            .map_err(|failure| failure.also(format!("Redis {how}")))?;
        proxy.stall(false);
        proxy.refuse(false);
    }
    Ok(())
}
