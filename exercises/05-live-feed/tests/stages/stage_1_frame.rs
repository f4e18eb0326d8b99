//! Stage 1: an event as bytes that cannot be misread, and a stream that begins.

use std::time::Duration;

use lab::clients::http::{HttpError, Request};
use lab::clients::sse::{Item, Parser};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::{Event, Options, frame};
use rand::RngExt as _;
use serde_json::json;

use crate::feed::{Feed, accepted, begin, numbers, posting, quiet};
use crate::texts;

pub fn checks() -> Vec<Check> {
    lab::checks![
        any_text_arrives_as_it_was_sent,
        frames_follow_each_other_however_they_are_cut,
        a_frame_gives_the_id_and_the_type,
        what_would_break_a_frame_is_refused,
        a_stream_begins_at_once_with_retry_and_stays_open,
        an_event_is_accepted_with_an_id_that_rises,
        a_bad_event_is_refused_with_its_reason,
    ]
}

fn event(id: &str, kind: &str, data: &str) -> Event {
    Event {
        id: id.to_owned(),
        kind: kind.to_owned(),
        topic: "t".to_owned(),
        data: data.to_owned(),
    }
}

/// What a browser makes of these bytes.
fn parse(bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    Parser::default().feed(bytes, &mut items);
    items
}

/// The one event that a frame consists of, as a browser sees it.
fn framed(id: &str, kind: &str, data: &str) -> Result<lab::clients::sse::Event, Failure> {
    let bytes = frame(&event(id, kind, data))?;
    let shown = bytes.escape_ascii();
    match parse(&bytes).as_slice() {
        [Item::Event(event)] => Ok(event.clone()),
        other => Err(Failure::observed(format!(
            "the data {data:?} became the frame \"{shown}\", and a browser reads that as {other:?}, which is not one event"
        ))
        .code_if(data.contains(['\n', '\r']).then_some("LF06"))),
    }
}

fn arrives(data: &str) -> Outcome {
    let seen = framed("1700000000000-3", "price", data)?;
    ensure!(
        seen.data == texts::arrives(data),
        data.contains(['\n', '\r']).then_some("LF06"),
        "the data {data:?} arrived as {:?}; a browser sees CR and CR LF as LF, and everything else unchanged",
        seen.data
    );
    ensure!(
        seen.id.as_deref() == Some("1700000000000-3")
            && seen.given_kind.as_deref() == Some("price"),
        data.contains(['\n', '\r']).then_some("LF06"),
        "with the data {data:?} the event arrived with the id {:?} and the type {:?}",
        seen.id,
        seen.given_kind
    );
    Ok(())
}

async fn any_text_arrives_as_it_was_sent(lab: Lab) -> Outcome {
    lab.promise("Any text arrives as it was sent: leading spaces, empty lines, line ends at the end, NUL, U+2028, a byte order mark. Only CR and CR LF arrive as LF, because the format has no way to carry them.");
    for text in texts::NASTY {
        arrives(text)?;
    }
    let mut rng = lab.rng();
    for _ in 0..2_000 {
        arrives(&texts::any(&mut rng))?;
    }
    arrives(&"a long line ".repeat(5_000))?;
    arrives(&"line\n".repeat(5_000))
}

async fn frames_follow_each_other_however_they_are_cut(lab: Lab) -> Outcome {
    lab.promise(
        "Frames one behind the other are read as the same events, in pieces of whatever size.",
    );
    let mut rng = lab.rng();
    let mut bytes = Vec::new();
    let mut sent = Vec::new();
    for n in 0..300 {
        let text = texts::any(&mut rng);
        bytes.extend_from_slice(&frame(&event(&format!("17-{n}"), "message", &text))?);
        sent.push(texts::arrives(&text));
    }
    let (mut parser, mut items, mut rest) = (Parser::default(), Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.random_range(1..=rest.len().min(30)));
        parser.feed(piece, &mut items);
        rest = behind;
    }
    ensure!(
        items.len() == sent.len(),
        "LF06",
        "300 frames were sent, and {} things were read",
        items.len()
    );
    for (n, (item, text)) in items.iter().zip(&sent).enumerate() {
        let whole = matches!(item, Item::Event(event) if event.data == *text && event.last_id == format!("17-{n}"));
        ensure!(
            whole,
            "LF06",
            "frame {n} has the data {text:?} and was read as {item:?}"
        );
    }
    Ok(())
}

async fn a_frame_gives_the_id_and_the_type(lab: Lab) -> Outcome {
    lab.promise("A frame is `id:`, `event:` (always given, also for `message`), at least one `data:` line, an empty line; what stands in id and type arrives.");
    for (id, kind) in [
        ("1-0", "message"),
        ("18446744073709551615-18446744073709551615", "a.b_c-d"),
        (" 1-0", " leading"),
        ("a: b", "c: d"),
        ("ß", "\u{2028}"),
    ] {
        let seen = framed(id, kind, "")?;
        ensure!(
            seen.id.as_deref() == Some(id) && seen.given_kind.as_deref() == Some(kind),
            "id {id:?} and type {kind:?} arrived as {:?} and {:?}",
            seen.id,
            seen.given_kind
        );
    }
    Ok(())
}

async fn what_would_break_a_frame_is_refused(lab: Lab) -> Outcome {
    lab.promise("`frame` refuses an id or a type with a CR, an LF or a NUL in it: a receiver would take the rest for another field, or not take the id at all.");
    for bad in [
        "\n",
        "\r",
        "\r\n",
        "1-0\n",
        "\n1-0",
        "1-0\ndata: forged",
        "1\r\rdata: x",
    ] {
        ensure!(
            frame(&event(bad, "message", "x")).is_err(),
            "`frame` took the id {bad:?}"
        );
        ensure!(
            frame(&event("1-0", bad, "x")).is_err(),
            "`frame` took the type {bad:?}"
        );
    }
    ensure!(
        frame(&event("1-0\0", "message", "x")).is_err(),
        "`frame` took the id \"1-0\\0\""
    );
    ensure!(
        frame(&event("1-0", "mess\0age", "x")).is_err(),
        "`frame` took the type \"mess\\0age\""
    );
    // What is harmless is not refused.
    framed("1-0", "message", "x")?;
    Ok(())
}

async fn a_stream_begins_at_once_with_retry_and_stays_open(lab: Lab) -> Outcome {
    lab.promise("`GET /events` answers 200 with `text/event-stream`, sends `retry:` and an empty line at once, so that the client sees itself connected, and stays open.");
    let options = Options {
        retry: Duration::from_millis(1234),
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    let mut stream = feed.open("").await?;
    ensure!(
        stream.head().header("content-length").is_none(),
        "the answer to `GET /events` has a content length"
    );
    let retry = begin(&mut stream).await?;
    ensure!(
        retry == Duration::from_millis(1234),
        "`options.retry` is 1.234 s, and the stream says {retry:?}"
    );
    // It is read without the line that might still be missing: is the empty one there?
    lab.eventually("the empty line behind `retry:`", || {
        let whole = stream
            .connection()
            .raw()
            .windows(13)
            .any(|part| part == b"retry: 1234\n\n")
            || stream
                .connection()
                .raw()
                .windows(13)
                .any(|part| part == b"retry:1234\n\n");
        async move { Ok(whole.then_some(())) }
    })
    .await?;
    let more = stream.next_item_within(Duration::from_millis(300)).await;
    ensure!(
        matches!(more, Err(HttpError::Silent { .. })),
        "nothing was published; after `retry:` came {more:?}"
    );
    let head = feed.request(&Request::new("HEAD", "/events")).await?;
    ensure!(
        head.status == 200 && head.header("content-type") == stream.head().header("content-type"),
        "`HEAD /events` was answered with {} and the type {:?}",
        head.status,
        head.header("content-type")
    );
    Ok(())
}

async fn an_event_is_accepted_with_an_id_that_rises(lab: Lab) -> Outcome {
    lab.promise("`POST /events` answers 201 with `{\"id\"}`: `milliseconds-number`, greater than every id before, compared as two numbers.");
    let feed = Feed::start(&lab, quiet()).await?;
    let ids = feed.post_many("t", 200).await?;
    for id in &ids {
        ensure!(
            numbers(id).is_some(),
            "an event got the id {id:?}, which is not two numbers with a `-` between"
        );
    }
    for pair in ids.windows(2) {
        ensure!(
            numbers(&pair[0]) < numbers(&pair[1]),
            "an event got the id {}, and the one after it {}",
            pair[0],
            pair[1]
        );
    }
    Ok(())
}

async fn a_bad_event_is_refused_with_its_reason(lab: Lab) -> Outcome {
    lab.promise("What is no event is refused: 400 not JSON, 413 larger than 64 KiB, 415 another content type, 422 a wrong field, 405 another method; the body is `{\"code\",\"detail\"}`. A good event is accepted.");
    let feed = Feed::start(&lab, quiet()).await?;
    let raw = |body: &str| {
        Request::post("/events")
            .header("content-type", "application/json")
            .body(body)
    };
    let long = "x".repeat(65);
    let good = [
        posting("t", "text"),
        Request::post("/events")
            .json(&json!({"topic": "x".repeat(64), "type": "a-b_c.9", "data": {"a": [1, null]}})),
        raw(r#"{"topic":"t"}"#).set_header("content-type", "application/json; charset=utf-8"),
        posting("t", "x".repeat(60 * 1024)),
    ];
    for request in good {
        accepted(&feed.request(&request).await?)?;
    }
    let bad = [
        (400, raw("{")),
        (400, raw("")),
        (413, posting("t", "x".repeat(65 * 1024))),
        (
            415,
            raw(r#"{"topic":"t"}"#).set_header("content-type", "text/plain"),
        ),
        (415, raw(r#"{"topic":"t"}"#).without_header("content-type")),
        (422, raw(r#"{"data":"x"}"#)),
        (422, raw(r#"{"topic":"a b"}"#)),
        (422, raw(r#"{"topic":""}"#)),
        (422, posting(&long, "x")),
        (422, raw(r#"{"topic":"t","type":"a\nb"}"#)),
        (405, Request::new("PUT", "/events")),
        (405, Request::delete("/events")),
    ];
    for (status, request) in bad {
        let response = feed.request(&request).await?;
        let told = response
            .json()
            .is_some_and(|body| body["code"].is_string() && body["detail"].is_string());
        ensure!(
            response.status == status && told,
            "{} {} was to be refused with {status} and a body `{{\"code\",\"detail\"}}`; the answer is {}",
            request.method(),
            request.target(),
            response.summary()
        );
    }
    Ok(())
}
