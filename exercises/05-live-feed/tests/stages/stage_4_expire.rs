//! Stage 4: the history has an end, and a client that comes too late is told.

use lab::clients::http::Request;
use lab::clients::sse::{Event, Stream};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;
use serde_json::{Value, json};

use crate::feed::{Feed, Node, events, ids, quiet, take, take_until};
use crate::node::Process;
use crate::sequence::{Suspects, same};

pub fn checks() -> Vec<Check> {
    lab::checks![
        exactly_the_ids_of_kept_events_are_known,
        whatever_is_no_known_id_is_answered_with_a_reset,
        a_reset_names_the_oldest_event_and_leaves_the_id_alone,
        an_id_from_before_a_restart_is_not_known,
        a_reader_that_is_overtaken_is_told_or_misses_nothing,
        memory_does_not_grow_with_what_is_published.limit_secs(120),
    ]
}

fn keeping(history: usize) -> Options {
    Options { history, ..quiet() }
}

/// Reads a reset and returns the id that it names.
pub async fn reset(stream: &mut Stream, why: &str) -> Result<Option<String>, Failure> {
    let event = take(stream, 1).await;
    let event = event.map_err(|failure| {
        failure
            .also(format!("{why}: a reset was to come"))
            .code_if("LF12")
    })?;
    named(&event[0], why)
}

fn named(event: &Event, why: &str) -> Result<Option<String>, Failure> {
    ensure!(
        event.kind == "reset",
        "LF12",
        "{why}: the first event was to be a `reset`, and it is of the type {:?} with the id {:?}",
        event.kind,
        event.last_id
    );
    ensure!(
        event.id.is_none(),
        "{why}: the reset has the id {:?}, and it was to have none",
        event.id
    );
    let body: Option<Value> = serde_json::from_str(&event.data).ok();
    match body.as_ref().map(|body| &body["oldest"]) {
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Null) if event.data.contains("oldest") => Ok(None),
        _ => Err(Failure::observed(format!(
            "{why}: the data of the reset was to be {{\"oldest\":ID}}, and it is {:?}",
            event.data
        ))
        .code("LF13")),
    }
}

async fn exactly_the_ids_of_kept_events_are_known(lab: Lab) -> Outcome {
    lab.promise("The newest `history` events are kept and no others. Behind the id of a kept event a client resumes; every other id is answered with a reset, all that is kept, and then what is new.");
    let feed = Feed::start(&lab, keeping(20)).await?;
    let posted = feed.post_many("t", 50).await?;
    let mut streams = Vec::new();
    for id in &posted {
        streams.push(feed.resume("", id).await?);
    }
    // With this one event more the oldest goes, after everybody has subscribed.
    let live = feed.post("t", "live").await?;
    for (n, stream) in streams.iter_mut().enumerate() {
        let got = take_until(stream, "live").await?;
        let was_reset = got[0].kind == "reset";
        if n < 30 {
            let code = if got[0].last_id == posted[n + 1] {
                "LF08"
            } else {
                "LF12"
            };
            ensure!(
                was_reset,
                code,
                "50 events were published, 20 are kept; the client that named number {} was not told that it missed some, its first event is {:?}",
                n + 1,
                got[0].last_id
            );
            let oldest = named(&got[0], "an id that is not kept any more")?;
            ensure!(
                oldest.as_ref() == Some(&posted[30]),
                "the oldest event that is kept is {}, and the reset says {oldest:?}",
                posted[30]
            );
        } else {
            ensure!(
                !was_reset,
                "50 events were published, 20 are kept; the client that named number {} was reset",
                n + 1
            );
        }
        let from = if n < 30 { 30 } else { n + 1 };
        let mut expected = posted[from..].to_vec();
        expected.push(live.clone());
        let got = ids(&got[usize::from(was_reset)..]);
        same(
            &format!("the client that named number {}", n + 1),
            &expected,
            &got,
            Suspects::default(),
        )?;
    }
    let history = feed.stats().await?["history"].clone();
    ensure!(
        history == json!({"events": 20, "oldest": posted[31], "newest": live}),
        "LF08",
        "51 events were published and 20 are to be kept, {} to {live}; the statistics say {history}",
        posted[31]
    );
    Ok(())
}

async fn whatever_is_no_known_id_is_answered_with_a_reset(lab: Lab) -> Outcome {
    lab.promise("An id that is malformed, that never was, though it may lie between two that are kept, or that is above the newest is unknown: reset, everything that is kept, then live.");
    let feed = Feed::start(&lab, keeping(100)).await?;
    let mut posted = feed.post_many("t", 4).await?;
    // In another millisecond, so that there are ids between two events.
    lab.within(std::time::Duration::from_millis(5)).await;
    posted.push(feed.post("t", "the fifth").await?);
    let between = posted[3].split('-').next().unwrap_or_default();
    let between = format!("{between}-99999");
    let ms: u64 = posted[4]
        .split('-')
        .next()
        .and_then(|ms| ms.parse().ok())
        .unwrap_or_default();
    let above = format!("{}-0", ms + 1_000_000);
    let above_in_number = format!("{ms}-99999");
    let before = format!("{}-0", ms - 1_000_000);
    let huge = "99999999999999999999999-0";
    let odd = [
        "0-0",
        "0",
        "1-1",
        "abc",
        "-",
        "1-",
        "-1",
        "1-2-3",
        "1.5-0",
        "0x1-0",
        "%",
        "\u{661}-\u{661}",
        "18446744073709551615-18446744073709551615",
        huge,
        &above,
        &above_in_number,
        &between,
        &before,
        "null",
        "undefined",
        "*",
        "$",
        "+",
        "(1-0",
        "1-0;DROP",
        &posted[0][1..],
        &posted[4][..posted[4].len() - 1],
    ];
    for (n, id) in odd.iter().enumerate() {
        // Both ways in which it can come.
        let request = match n % 2 == 0 || id.contains(['%', '+', ';']) {
            true => events("").header("last-event-id", *id),
            false => events(&format!("?last_event_id={}", percent(id))),
        };
        let why = format!("the id {id:?}");
        everything_after_a_reset(&feed, &request, &why, &posted).await?;
    }
    for id in ["\u{661}-\u{661}", "\u{fc}"] {
        let request = events("").header("last-event-id", id);
        let why = format!("the header `Last-Event-ID` with {id:?}, bytes that are no ASCII");
        let told = everything_after_a_reset(&feed, &request, &why, &posted).await;
        told.map_err(|mut failure| {
            // It knows resets, or it would not have come so far.
            failure.code = None;
            failure.also("such a header is an id that nobody knows, and not no id")
        })?;
    }
    Ok(())
}

/// A client that comes with this is reset and gets all that is kept.
async fn everything_after_a_reset(
    node: &Node,
    request: &Request,
    why: &str,
    kept: &[String],
) -> Outcome {
    let mut stream = node.open_with(request).await?;
    let oldest = reset(&mut stream, why).await?;
    ensure!(
        oldest.as_ref() == kept.first(),
        "{why}: the oldest event that is kept is {:?}, and the reset says {oldest:?}",
        kept.first()
    );
    let got = ids(&take(&mut stream, kept.len()).await?);
    let who = format!("the client that came with {why}");
    same(&who, kept, &got, Suspects::default())
}

/// The text as it may stand in an address.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn a_reset_names_the_oldest_event_and_leaves_the_id_alone(lab: Lab) -> Outcome {
    lab.promise("A reset is an event of the type `reset` with the data `{\"oldest\":ID}`, null when nothing is kept, and without an id.");
    let feed = Feed::start(&lab, keeping(100)).await?;
    let mut stream = feed.resume("", "7-7").await?;
    let oldest = reset(&mut stream, "nothing was published yet").await?;
    ensure!(
        oldest.is_none(),
        "nothing is kept, and the reset says that the oldest event is {oldest:?}"
    );
    ensure!(
        stream.last_id() == "7-7",
        "a client came with the id 7-7 and was reset; now it has the last id {:?}",
        stream.last_id()
    );
    let first = feed.post("t", "first").await?;
    let got = ids(&take(&mut stream, 1).await?);
    ensure!(
        got == [first.clone()],
        "after a reset on an empty history the first event was to be {first}, and it is {got:?}"
    );
    let mut stream = feed.resume("", "7-7").await?;
    let oldest = reset(&mut stream, "one event is kept").await?;
    ensure!(
        oldest.as_ref() == Some(&first),
        "LF13",
        "the only event that is kept is {first}; the reset says {oldest:?}"
    );
    Ok(())
}

async fn an_id_from_before_a_restart_is_not_known(lab: Lab) -> Outcome {
    lab.promise("Without Redis a restart forgets everything. A client that comes with an id from before is told so by a reset, and then gets all that there is.");
    let before = Feed::start(&lab, keeping(100)).await?;
    let old = before.post_many("t", 10).await?;
    drop(before);
    // Ids count milliseconds, and no process starts anew within one.
    lab.within(std::time::Duration::from_millis(20)).await;
    let after = Feed::start(&lab, keeping(100)).await?;
    let new = after.post_many("t", 10).await?;
    for id in &old {
        let mut stream = after.resume("", id).await?;
        let oldest = reset(
            &mut stream,
            &format!("the id {id} is from before the restart"),
        )
        .await?;
        ensure!(
            oldest.as_ref() == Some(&new[0]),
            "the oldest event since the restart is {}, and the reset says {oldest:?}",
            new[0]
        );
        let got = ids(&take(&mut stream, 10).await?);
        same(
            "the client from before the restart",
            &new,
            &got,
            Suspects::default(),
        )?;
    }
    Ok(())
}

async fn a_reader_that_is_overtaken_is_told_or_misses_nothing(lab: Lab) -> Outcome {
    lab.promise("A client may lose its place while it still reads what it missed, because events go out of the history meanwhile. It is never skipped ahead in silence: it gets everything, or its connection ends and it is reset when it comes back.");
    let options = Options {
        history: 400,
        queue: 100_000,
        ..quiet()
    };
    let feed = Feed::with_small_buffers(&lab, options).await?;
    let text = "x".repeat(4_000);
    let mut publisher = feed.publisher().await?;
    let mut posted = Vec::new();
    for _ in 0..400 {
        posted.push(publisher.post("t", &text).await?);
    }
    let request = events("").header("last-event-id", &posted[0]);
    let mut stream = Stream::open(&feed.client().receive_buffer(4096), &request).await?;
    // Nobody reads yet, and the whole history is replaced.
    for _ in 0..800 {
        posted.push(publisher.post("t", &text).await?);
    }
    posted.push(publisher.post("t", "the end").await?);
    let mut got = Vec::new();
    let mut resets = 0;
    while got.last() != posted.last() {
        match stream.next().await {
            Ok(Some(event)) if event.kind == "reset" => {
                resets += 1;
                let oldest = named(&event, "the client came back")?;
                let position = posted.iter().position(|id| Some(id) == oldest.as_ref());
                let Some(position) = position else {
                    lab::fail!("the reset names {oldest:?}, which was never published")
                };
                // What follows begins there.
                got = posted[..position].to_vec();
            }
            Ok(Some(event)) => got.push(event.last_id),
            Ok(None) => stream = stream.reopen().await?,
            Err(error) if error.is_gone() => stream = stream.reopen().await?,
            Err(error) => return Err(error.into()),
        }
        ensure!(
            got.len() <= posted.len() && resets < 10,
            "{} events were published; the client got {} and was reset {resets} times",
            posted.len(),
            got.len()
        );
    }
    let expected = if resets == 0 {
        &posted[1..]
    } else {
        &posted[..]
    };
    same(
        "the client that read slowly",
        expected,
        &got,
        Suspects {
            missing: Some("LF04"),
            twice: None,
        },
    )
}

async fn memory_does_not_grow_with_what_is_published(lab: Lab) -> Outcome {
    lab.promise("Only the newest events take memory: publishing for ever does not fill it.");
    let node = Process::start(&lab, &["--history", "10", "--heartbeat", "1h"]).await?;
    let text = "x".repeat(60_000);
    let mut publisher = node.publisher().await?;
    for _ in 0..50 {
        publisher.post("t", &text).await?;
    }
    let before = node.memory()?;
    for _ in 0..700 {
        publisher.post("t", &text).await?;
    }
    let grown = node.memory()?.saturating_sub(before) >> 20;
    ensure!(
        grown < 20,
        "LF08",
        "10 events are to be kept; while 40 MiB of others were published the service grew by {grown} MiB"
    );
    Ok(())
}
