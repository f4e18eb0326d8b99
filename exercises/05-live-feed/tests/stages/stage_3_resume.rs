//! Stage 3: a client that comes back misses nothing and sees nothing twice.

use std::time::Duration;

use futures::future::try_join_all;
use lab::clients::http::HttpError;
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::feed::{Feed, events, ids, quiet, take, take_until};
use crate::sequence::{Suspects, same};

/// What a gap, or a repetition, at the seam of replay and live looks like.
pub const SEAM: Suspects = Suspects {
    missing: Some("LF01"),
    twice: Some("LF02"),
};

pub fn checks() -> Vec<Check> {
    lab::checks![
        behind_every_id_comes_exactly_the_rest,
        a_cut_at_any_byte_loses_and_repeats_nothing,
        replay_and_live_meet_without_gap_or_repetition,
        clients_that_reconnect_at_random_get_everything_once,
        a_replay_may_be_longer_than_the_queue,
        the_header_wins_over_the_address,
    ]
}

/// Room for everything that a check publishes.
fn roomy() -> Options {
    Options {
        history: 50_000,
        ..quiet()
    }
}

async fn behind_every_id_comes_exactly_the_rest(lab: Lab) -> Outcome {
    lab.promise("A client that names the last id it saw gets everything behind that event, in order, once, and then what is published from then on.");
    let feed = Feed::start(&lab, roomy()).await?;
    let posted = feed.post_many("t", 60).await?;
    let mut streams = Vec::new();
    for id in &posted {
        streams.push(feed.resume("", id).await?);
    }
    let live = feed.post("t", "live").await?;
    for (n, stream) in streams.iter_mut().enumerate() {
        let got = ids(&take_until(stream, "live").await?);
        let mut expected = posted[n + 1..].to_vec();
        expected.push(live.clone());
        same(
            &format!("the client that resumed behind {}", posted[n]),
            &expected,
            &got,
            SEAM,
        )?;
    }
    let more = streams[0]
        .next_item_within(Duration::from_millis(200))
        .await;
    ensure!(
        matches!(more, Err(HttpError::Silent { .. })),
        "LF02",
        "after all events had come once, the client got {more:?}"
    );
    Ok(())
}

async fn a_cut_at_any_byte_loses_and_repeats_nothing(lab: Lab) -> Outcome {
    lab.promise("Whatever byte the connection breaks at, a client that comes back with the last id it has, as a browser keeps it, ends with every event once, in order.");
    let feed = Feed::start(&lab, roomy()).await?;
    let first = feed.post("t", "the first").await?;
    let mut publisher = feed.publisher().await?;
    let mut expected = Vec::new();
    for data in ["", "two\nlines", "a: b\n\nc", "the last"] {
        expected.push(publisher.post("t", data).await?);
    }
    // How long the answer is, to its last event.
    let mut whole = feed.resume("", &first).await?;
    take_until(&mut whole, "the last").await?;
    let length = whole.connection().received();
    ensure!(
        whole.is_between_events(),
        "behind the last event stands the beginning of another one, and none was published"
    );
    for cut in 0..=length {
        let request = events("").header("last-event-id", &first);
        let mut connection = feed.client().connect().await?;
        connection.stop_after(cut);
        let stopped = lab::clients::sse::Stream::over(feed.client(), connection, &request).await;
        let (mut got, next) = match stopped {
            // Not even the head of the answer came.
            Err(_) => (Vec::new(), request),
            Ok(mut stream) => {
                while !matches!(stream.next().await, Err(HttpError::Stopped(_)) | Ok(None)) {}
                let got = ids(&stream.events());
                (got, stream.cut())
            }
        };
        if got.last() != expected.last() {
            let mut again = feed.open_with(&next).await?;
            got.extend(ids(&take_until(&mut again, "the last").await?));
        }
        same(
            &format!("the client that was cut after {cut} bytes"),
            &expected,
            &got,
            SEAM,
        )?;
    }
    Ok(())
}

/// Publishes until told to stop, and returns the ids.
fn publishing(
    feed: &Feed,
    who: usize,
) -> (
    tokio::sync::oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<Vec<String>, Failure>>,
) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let node = (**feed).clone();
    let task = tokio::spawn(async move {
        let mut publisher = node.publisher().await?;
        let mut ids = Vec::new();
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            ids.push(publisher.post("t", &format!("{who} {}", ids.len())).await?);
        }
        Ok(ids)
    });
    (stop, task)
}

async fn replay_and_live_meet_without_gap_or_repetition(lab: Lab) -> Outcome {
    lab.promise("At the seam between what was missed and what comes live nothing is missing and nothing is there twice, whatever is published at that very moment.");
    let options = Options {
        queue: 50_000,
        ..roomy()
    };
    let feed = Feed::start(&lab, options).await?;
    let mut posted = feed.post_many("t", 300).await?;
    let publishers: Vec<_> = (0..3).map(|who| publishing(&feed, who)).collect();
    let mut rng = lab.rng();
    let mut resumed = Vec::new();
    for _ in 0..150 {
        let behind = rng.random_range(0..posted.len());
        resumed.push((behind, feed.resume("", &posted[behind]).await?));
        // Some read at once, and some later.
        if rng.random_bool(0.5)
            && let Some((_, stream)) = resumed.last_mut()
        {
            take(stream, 1).await?;
        }
    }
    for (stop, task) in publishers {
        let _ = stop.send(());
        posted.extend(task.await??);
    }
    posted.sort_by_key(|id| crate::feed::numbers(id));
    posted.push(feed.post("t", "the end").await?);
    for (behind, stream) in &mut resumed {
        take_until(stream, "the end").await?;
        let got = ids(&stream.events());
        let who = format!("the client that resumed behind {}", posted[*behind]);
        same(&who, &posted[*behind + 1..], &got, SEAM)?;
    }
    Ok(())
}

async fn clients_that_reconnect_at_random_get_everything_once(lab: Lab) -> Outcome {
    lab.promise("Clients that lose their connection again and again while others publish, and come back each time with the last id they have, end with each event once, in order.");
    let feed = Feed::start(&lab, roomy()).await?;
    let first = feed.post("t", "the first").await?;
    let publishers: Vec<_> = (0..2).map(|who| publishing(&feed, who)).collect();
    let reading = (0..16_u64).map(|client| {
        let (feed, first) = (&feed, &first);
        let mut rng = StdRng::seed_from_u64(lab.seed().wrapping_add(client));
        async move {
            let mut got = Vec::new();
            let mut next = events("").header("last-event-id", first);
            for _ in 0..12 {
                let mut stream = feed.open_with(&next).await?;
                stream.connection().stop_after(rng.random_range(150..4_000));
                while let Ok(Some(_)) = stream.next().await {}
                got.extend(ids(&stream.events()));
                next = stream.cut();
            }
            Ok::<_, Failure>((got, next))
        }
    });
    let reading = try_join_all(reading).await;
    let mut posted = Vec::new();
    for (stop, task) in publishers {
        let _ = stop.send(());
        posted.extend(task.await??);
    }
    posted.sort_by_key(|id| crate::feed::numbers(id));
    posted.push(feed.post("t", "the end").await?);
    for (client, (mut got, next)) in reading?.into_iter().enumerate() {
        if got.last() != posted.last() {
            let mut stream = feed.open_with(&next).await?;
            got.extend(ids(&take_until(&mut stream, "the end").await?));
        }
        same(&format!("client {client}"), &posted, &got, SEAM)?;
    }
    Ok(())
}

async fn a_replay_may_be_longer_than_the_queue(lab: Lab) -> Outcome {
    lab.promise("What a client missed may be more than its queue holds: it gets all of it.");
    let options = Options {
        queue: 8,
        ..roomy()
    };
    let feed = Feed::start(&lab, options).await?;
    let posted = feed.post_many("t", 1_500).await?;
    let mut stream = feed.resume("", &posted[0]).await?;
    let got = take(&mut stream, 1_499).await?;
    same("the client", &posted[1..], &ids(&got), SEAM)?;
    let live = feed.post("t", "live").await?;
    let got = ids(&take(&mut stream, 1).await?);
    ensure!(
        got == [live.clone()],
        "after the replay came {got:?} instead of the new event {live}"
    );
    Ok(())
}

async fn the_header_wins_over_the_address(lab: Lab) -> Outcome {
    lab.promise("The last id comes in the header `Last-Event-ID`, or as `?last_event_id=`; when both are there the header counts, because a browser keeps the address and renews the header. Empty is the same as not there.");
    let feed = Feed::start(&lab, roomy()).await?;
    let posted = feed.post_many("t", 5).await?;
    let address = format!("?last_event_id={}", posted[1]);
    let empty = events(&address).header("last-event-id", "");
    let cases = [
        ("in the address alone", events(&address), 2),
        (
            "in the header alone",
            events("").header("Last-Event-ID", &posted[3]),
            4,
        ),
        (
            "in both",
            events(&address).header("last-event-id", &posted[3]),
            4,
        ),
        ("in the address, with an empty header", empty, 2),
        (
            "in the header, with an empty one in the address",
            events("?last_event_id=").header("last-event-id", &posted[1]),
            2,
        ),
    ];
    for (how, request, from) in cases {
        let mut stream = feed.open_with(&request).await?;
        let got = take(&mut stream, 5 - from).await;
        let got = got.map_err(|failure| {
            let behind = format!("the client was to resume behind number {from} of 5");
            failure.also(format!("{behind}, whose id stands {how}"))
        })?;
        same(
            &format!("with the id {how} the client"),
            &posted[from..],
            &ids(&got),
            Suspects::default(),
        )?;
    }
    let nothing = [
        ("an empty header", events("").header("last-event-id", "")),
        ("an empty parameter", events("?last_event_id=")),
        (
            "an empty header and an empty parameter",
            events("?last_event_id=").header("last-event-id", ""),
        ),
    ];
    for (what, request) in nothing {
        let mut stream = feed.open_with(&request).await?;
        let live = feed.post("t", "live").await?;
        let first = take(&mut stream, 1).await?.remove(0);
        ensure!(
            first.last_id == live,
            "a client came with {what}, which is the same as no id, and {live} was published then; the first that it got is of the type {:?} and has the id {:?}",
            first.kind,
            first.last_id
        );
    }
    Ok(())
}
