//! Stage 4: what a server does not take, and how it says so.

use std::time::{Duration, Instant};

use chat_server::{Options, token};
use lab::clients::ws::{Frame, Handshake, Seen};
use lab::{Check, Lab, Outcome, ensure};
use serde_json::{Value, json};

use crate::house::{House, Node, knock, knock_with, refused, roomy};
use crate::person::{Person, is, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_message_over_the_limit_is_closed_with_1009,
        text_that_is_not_utf8_is_closed_with_1007,
        a_broken_protocol_is_closed_with_1002,
        a_foreign_origin_is_refused_before_the_upgrade,
        a_token_is_checked_before_the_upgrade,
        names_that_are_none_are_refused,
        rooms_and_texts_that_are_none_get_an_error,
        the_rate_limit_is_each_clients_own,
        what_is_over_the_rate_is_dropped_and_said,
        whatever_is_in_a_message_it_counts_against_the_rate,
        no_burst_follows_another_at_once,
        a_client_is_in_fifty_rooms_at_most,
        nothing_that_is_said_becomes_anything_else,
        secrets_are_in_no_log,
    ]
}

async fn a_message_over_the_limit_is_closed_with_1009(lab: Lab) -> Outcome {
    lab.promise("A message may have `max_message` bytes of payload, all fragments together. One byte more, and the connection is closed with 1009: as soon as it is known, not when all has come.");
    let limit = 5_000;
    let house = House::open(Options {
        max_message: limit,
        ..roomy()
    })
    .await?;
    let echo = Handshake::new(house.addr, "/echo");
    let socket = echo.connect(&lab).await?;
    let whole = vec![1; limit];
    socket.send(&Frame::binary(whole.clone())).await?;
    socket
        .send(&Frame::binary(&whole[..limit / 2]).unfinished())
        .await?;
    socket
        .send(&Frame::continuation(&whole[limit / 2..]))
        .await?;
    for what in ["in one frame", "in two"] {
        let back = socket
            .next("the echo of a message of just the size allowed")
            .await?;
        ensure!(
            back == Seen::Binary(whole.clone()),
            "a message of exactly {limit} bytes {what} should be taken; what came back was {back}"
        );
    }
    let too_big: [(&str, Vec<Frame>); 4] = [
        (
            "one frame of one byte too many",
            vec![Frame::binary(vec![1; limit + 1])],
        ),
        (
            "a text of one byte too many",
            vec![Frame::text(vec![b'a'; limit + 1])],
        ),
        (
            "two fragments that are too much together",
            vec![
                Frame::binary(&whole[..]).unfinished(),
                Frame::continuation(vec![1; 1]),
            ],
        ),
        (
            "the header of a frame of a gigabyte, of which nothing comes",
            vec![Frame::binary(vec![]).claiming(1 << 30)],
        ),
    ];
    for (n, (what, frames)) in too_big.iter().enumerate() {
        for path in ["/echo".to_owned(), format!("/ws?name=ada{n}")] {
            let socket = Handshake::new(house.addr, &path).connect(&lab).await?;
            for frame in frames {
                // A server may be quicker than we are.
                let _ = socket.send(frame).await;
            }
            let code = socket
                .closed(&format!("the close after {what} on {path}"))
                .await
                .map_err(|failure| failure.code("CS19"))?;
            ensure!(
                code == Some(1009),
                "on {path} {what}: closed with {code:?}; it wants 1009"
            );
        }
    }
    Ok(())
}

async fn text_that_is_not_utf8_is_closed_with_1007(lab: Lab) -> Outcome {
    lab.promise("A text message has to be UTF-8 as a whole. One that is not is closed with 1007, and reaches nobody.");
    let house = House::open(roomy()).await?;
    let watcher = Person::in_room(&lab, house.addr, "watcher", "tea").await?;
    let bad: [(&str, Vec<Frame>); 7] = [
        ("a byte that never occurs", vec![Frame::text([0xff])]),
        ("a continuation byte alone", vec![Frame::text([b'a', 0x80])]),
        ("an overlong slash", vec![Frame::text([0xc0, 0xaf])]),
        (
            "half of a surrogate pair",
            vec![Frame::text([0xed, 0xa0, 0x80])],
        ),
        (
            "beyond the last character",
            vec![Frame::text([0xf4, 0x90, 0x80, 0x80])],
        ),
        (
            "a letter that is not finished",
            vec![Frame::text([b'a', 0xe2, 0x82])],
        ),
        (
            "a letter that goes on wrongly in the next fragment",
            vec![
                Frame::text([0xc3]).unfinished(),
                Frame::continuation([0x28]),
            ],
        ),
    ];
    for (n, (what, frames)) in bad.iter().enumerate() {
        for path in ["/echo".to_owned(), format!("/ws?name=ada{n}")] {
            let socket = Handshake::new(house.addr, &path).connect(&lab).await?;
            for frame in frames {
                let _ = socket.send(frame).await;
            }
            let code = socket
                .closed(&format!(
                    "the close after text that is not UTF-8 ({what}) on {path}"
                ))
                .await?;
            ensure!(
                code == Some(1007),
                "on {path} a text that is not UTF-8 ({what}): closed with {code:?}; it wants 1007"
            );
        }
    }
    ensure!(
        watcher.messages().is_empty(),
        "a text that is not UTF-8 reached somebody"
    );
    Ok(())
}

async fn a_broken_protocol_is_closed_with_1002(lab: Lab) -> Outcome {
    lab.promise("Frames that RFC 6455 forbids (unmasked, reserved bits and opcodes, fragmented or long control frames, fragments out of order, impossible close codes) end the connection with 1002; others are not touched.");
    let house = House::open(roomy()).await?;
    let bystander = Handshake::new(house.addr, "/echo").connect(&lab).await?;
    let begun = Frame::text("begun").unfinished();
    let mut bad: Vec<(String, Vec<Frame>)> = vec![
        (
            "a frame that is not masked".into(),
            vec![Frame::text("x").unmasked()],
        ),
        (
            "a fragmented ping".into(),
            vec![Frame::ping("x").unfinished()],
        ),
        (
            "a ping of 126 bytes".into(),
            vec![Frame::ping(vec![0; 126])],
        ),
        (
            "a continuation of nothing".into(),
            vec![Frame::continuation("x")],
        ),
        (
            "a new text before the last was finished".into(),
            vec![begun, Frame::text("new")],
        ),
        ("a close of one byte".into(), vec![Frame::new(8, [3])]),
    ];
    for bit in [4, 2, 1] {
        bad.push((
            format!("reserved bits {bit:03b}"),
            vec![Frame::text("x").reserved(bit)],
        ));
    }
    for opcode in [3, 7, 0xb, 0xf] {
        bad.push((
            format!("the reserved opcode {opcode:#x}"),
            vec![Frame::new(opcode, "x")],
        ));
    }
    for code in [0, 999, 1005, 1006] {
        bad.push((
            format!("a close with the code {code}"),
            vec![Frame::close(code, "")],
        ));
    }
    for (n, (what, frames)) in bad.iter().enumerate() {
        for path in ["/echo".to_owned(), format!("/ws?name=ada{n}")] {
            let socket = Handshake::new(house.addr, &path).connect(&lab).await?;
            for frame in frames {
                let _ = socket.send(frame).await;
            }
            let code = socket
                .closed(&format!("the close after {what} on {path}"))
                .await?;
            ensure!(
                code == Some(1002),
                "on {path} {what}: closed with {code:?}; it wants 1002"
            );
        }
    }
    bystander.send_text("still here").await?;
    let back = bystander
        .next("the echo of a client that did nothing wrong")
        .await?;
    ensure!(
        back == Seen::Text("still here".into()),
        "others broke the protocol, and a client that did not got {back}"
    );
    Ok(())
}

async fn a_foreign_origin_is_refused_before_the_upgrade(lab: Lab) -> Outcome {
    lab.promise("With `origins` set, a handshake whose `Origin` is none of them is refused with 403 and `forbidden_origin`, before the upgrade. One without an `Origin` comes from no browser, and is let in.");
    let options = Options {
        origins: vec![
            "https://chat.example".into(),
            "http://localhost:8080".into(),
        ],
        ..roomy()
    };
    let house = House::open(options).await?;
    for (n, origin) in ["https://chat.example", "http://localhost:8080"]
        .iter()
        .enumerate()
    {
        let handshake = knock(house.addr, &format!("ours{n}")).origin(*origin);
        handshake.connect(&lab).await?;
    }
    knock(house.addr, "program").connect(&lab).await?;
    let foreign = [
        "https://evil.example",
        "http://chat.example",
        "https://chat.example:8443",
        "https://chat.example.evil.example",
        "https://evil.example/https://chat.example",
        "https://xchat.example",
        "http://localhost",
        "null",
        "",
    ];
    for origin in foreign {
        let handshake = knock(house.addr, "ada").origin(origin);
        refused(
            &lab,
            &handshake,
            &format!("the origin {origin:?}"),
            403,
            "forbidden_origin",
        )
        .await?;
    }
    // The origin comes first.
    let handshake = knock(house.addr, "").origin("https://evil.example");
    refused(
        &lab,
        &handshake,
        "a foreign origin and a bad name",
        403,
        "forbidden_origin",
    )
    .await?;
    knock(house.addr, "ada").connect(&lab).await?;
    let open = House::open(roomy()).await?;
    knock(open.addr, "ada")
        .origin("https://anywhere.example")
        .connect(&lab)
        .await?;
    Ok(())
}

async fn a_token_is_checked_before_the_upgrade(lab: Lab) -> Outcome {
    lab.promise("With a secret set, who has not the token of its name is refused with 401 and `unauthorized`, before the upgrade, and takes no name. The token is the HMAC-SHA-256 of the name under the secret, in lower-case hexadecimal digits.");
    let known = token("key", "The quick brown fox jumps over the lazy dog");
    ensure!(
        known == "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
        "the HMAC-SHA-256 of the sentence about the fox under `key` begins with f7bc83f4…; `token` gave {known:?}"
    );
    let options = Options {
        token_secret: Some("s3cret".into()),
        ..roomy()
    };
    let house = House::open(options).await?;
    let right = token("s3cret", "ada");
    let wrong = [
        String::new(),
        "0".repeat(64),
        token("s3cret", "bob"),
        token("other", "ada"),
        right[..63].to_owned(),
        right[..1].to_owned(),
        format!("{right}0"),
        format!("{right}\u{0}"),
        format!(" {right}"),
    ];
    for wrong in &wrong {
        let what = format!("the token {wrong:?}");
        refused(
            &lab,
            &knock_with(house.addr, "ada", wrong),
            &what,
            401,
            "unauthorized",
        )
        .await
        .map_err(|failure| upgraded(failure, "CS09"))?;
    }
    refused(
        &lab,
        &knock(house.addr, "ada"),
        "no token",
        401,
        "unauthorized",
    )
    .await
    .map_err(|failure| upgraded(failure, "CS09"))?;
    let ada = knock_with(house.addr, "ada", &right).connect(&lab).await?;
    // Whether a name is taken is no business of somebody without a token.
    refused(
        &lab,
        &knock(house.addr, "ada"),
        "no token, and a name that is taken",
        401,
        "unauthorized",
    )
    .await?;
    refused(
        &lab,
        &knock_with(house.addr, "ada", &right),
        "a right token, and a name that is taken",
        409,
        "name_taken",
    )
    .await?;
    refused(
        &lab,
        &knock_with(house.addr, "a b", &right),
        "a bad name",
        400,
        "bad_name",
    )
    .await?;
    let unicode = "Zoë-Ω";
    knock_with(house.addr, unicode, &token("s3cret", unicode))
        .connect(&lab)
        .await?;
    drop(ada);
    // The command prints the same.
    let command = lab
        .service(["token", "--token-secret", "s3cret", unicode])
        .start()?;
    let status = command.wait().await?;
    let printed = command.lines().join("\n");
    ensure!(
        status.code() == Some(0) && printed == token("s3cret", unicode),
        "`chat-server token` should print the token of the name and end with 0; it printed {printed:?} and ended with {status}"
    );
    Ok(())
}

/// Names the mistake if the connection was upgraded.
fn upgraded(failure: lab::Failure, code: &'static str) -> lab::Failure {
    let is_so = failure.observed.contains("was upgraded");
    failure.code_if(is_so.then_some(code))
}

async fn names_that_are_none_are_refused(lab: Lab) -> Outcome {
    lab.promise("A name is 1 to 32 characters: letters and digits of any script, `-`, `_` and `.`. Anything else is refused with 400 and `bad_name`, before the upgrade.");
    let house = House::open(roomy()).await?;
    let long = "Ω".repeat(32);
    for good in ["a", "A-b_c.9", "Zoë", "李雷", "Юля", "٣७", &long] {
        knock(house.addr, good).connect(&lab).await?;
    }
    let too_long = "a".repeat(33);
    let far_too_long = "Ω".repeat(1_000);
    for bad in [
        "",
        " ",
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "a\u{0}",
        "a/b",
        "a:b",
        "<b>",
        "\"",
        "a\u{a0}b",
        "\u{200b}",
        "\u{202e}a",
        "😀",
        "{}",
        &too_long,
        &far_too_long,
    ] {
        let shown: String = bad.chars().take(40).collect();
        refused(
            &lab,
            &knock(house.addr, bad),
            &format!("the name {shown:?}"),
            400,
            "bad_name",
        )
        .await?;
    }
    refused(
        &lab,
        &Handshake::new(house.addr, "/ws"),
        "no name at all",
        400,
        "bad_name",
    )
    .await?;
    refused(
        &lab,
        &Handshake::new(house.addr, "/ws?Name=ada"),
        "no name, but a `Name`",
        400,
        "bad_name",
    )
    .await?;
    Ok(())
}

async fn rooms_and_texts_that_are_none_get_an_error(lab: Lab) -> Outcome {
    lab.promise("A room's name is 1 to 64 characters as in names, a text has something else in it than white space, fields have their types, and `/ws` takes no binary messages. Each breach gets an error frame, which repeats at most 100 characters of what was sent; the session lives on.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let long_room = "Ω".repeat(64);
    ada.until("ada to be told that bob joined", |f| {
        is(f, "joined") && f["name"] == "bob"
    })
    .await?;
    ada.join(&long_room).await?;
    let junk = "j".repeat(5_000);
    let bad = [
        (json!({"type": "join", "room": ""}), "bad_room"),
        (json!({"type": "join", "room": "a b"}), "bad_room"),
        (json!({"type": "join", "room": "a\nb"}), "bad_room"),
        (json!({"type": "join", "room": "a:b"}), "bad_room"),
        (json!({"type": "join", "room": "*"}), "bad_room"),
        (json!({"type": "join", "room": "Ω".repeat(65)}), "bad_room"),
        (json!({"type": "join", "room": junk}), "bad_room"),
        (
            json!({"type": "say", "room": "tea", "text": ""}),
            "bad_text",
        ),
        (
            json!({"type": "say", "room": "tea", "text": " \t\n\u{3000}"}),
            "bad_text",
        ),
        (json!({"type": "join"}), "bad_json"),
        (json!({"type": "join", "room": 7}), "bad_json"),
        (json!({"type": "join", "room": null}), "bad_json"),
        (json!({"type": "join", "room": ["tea"]}), "bad_json"),
        (
            json!({"type": "join", "room": "tea", "since": -1}),
            "bad_json",
        ),
        (
            json!({"type": "join", "room": "tea", "since": "3"}),
            "bad_json",
        ),
        (
            json!({"type": "join", "room": "tea", "since": 1.5}),
            "bad_json",
        ),
        (json!({"type": "say", "room": "tea"}), "bad_json"),
        (
            json!({"type": "say", "room": "tea", "text": {"a": 1}}),
            "bad_json",
        ),
        (json!({"type": junk}), "unknown_type"),
        (json!({"type": "who"}), "bad_json"),
        (json!({"type": "leave", "room": true}), "bad_json"),
        (Value::String(junk.clone()), "bad_json"),
    ];
    for (frame, code) in &bad {
        ada.ask(frame.clone()).await?;
        let error = ada.errs(code, &short(frame)).await?;
        let repeated = error.to_string().matches('j').count();
        ensure!(
            repeated <= 110 && error.to_string().len() < 1_000,
            "an error frame may repeat 100 characters of what the client sent; after 5,000 it was {}",
            short(&error)
        );
    }
    ada.socket
        .send(&Frame::binary(r#"{"type":"who","room":"tea"}"#))
        .await?;
    ada.errs("binary", "a binary message").await?;
    // Fields that nobody knows are passed over.
    ada.ask(
        json!({"text": "still here", "room": "tea", "mood": {"a": [1]}, "type": "say", "seq": 9}),
    )
    .await?;
    bob.hears("tea", "ada", "still here").await?;
    Ok(())
}

/// The messages a second of these checks.
const RATE: u32 = 5;

async fn the_rate_limit_is_each_clients_own(lab: Lab) -> Outcome {
    lab.promise("Every client has its own rate: what one sends too much is no reason to refuse another, and many who each keep to it may send more together than one may.");
    let house = House::open(Options {
        rate: RATE,
        ..roomy()
    })
    .await?;
    let mut clients = Vec::new();
    let flood = Person::in_room(&lab, house.addr, "flood", "tea").await?;
    for n in 0..8 {
        clients.push(Person::in_room(&lab, house.addr, &format!("p{n}"), "tea").await?);
    }
    for _ in 0..50 {
        flood.say("tea", "too much").await?;
    }
    flood
        .until("the client that floods to be told so", |f| {
            f["code"] == "rate_limited"
        })
        .await?;
    // One join and six messages each: below the burst of ten, and 56 together.
    for client in &clients {
        for n in 0..6 {
            client.say("tea", &format!("{n}")).await?;
        }
    }
    for client in &clients {
        let others = |m: &&Value| m["from"] != "flood";
        lab.eventually(&format!("{} to hear what the others said", client.name), || async {
            let limited = client.frames().iter().any(|f| f["code"] == "rate_limited");
            if limited {
                lab::fail!(
                    "CS13",
                    "{} sent 7 messages, where {} at once are allowed, and was told `rate_limited`",
                    client.name,
                    2 * RATE
                );
            }
            Ok((client.messages().iter().filter(others).count() == 42).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn what_is_over_the_rate_is_dropped_and_said(lab: Lab) -> Outcome {
    lab.promise("A client may send `rate` messages a second, and twice as many at once. What is over that is answered with `rate_limited` and dropped, not done later. Afterwards it may send again.");
    let house = House::open(Options {
        rate: RATE,
        ..roomy()
    })
    .await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let began = Instant::now();
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    const SENT: usize = 60;
    for n in 0..SENT {
        ada.say("tea", &format!("flood {n}")).await?;
    }
    let limited = || {
        let frames = ada.frames();
        frames
            .iter()
            .filter(|f| f["code"] == "rate_limited")
            .count()
    };
    let heard = || {
        bob.messages()
            .iter()
            .filter(|m| m["text"].as_str().is_some_and(|t| t.starts_with("flood")))
            .count()
    };
    lab.eventually(
        "each of 60 messages to be heard by bob or answered with `rate_limited`",
        || async { Ok((limited() + heard() >= SENT).then_some(())) },
    )
    .await?;
    let took = began.elapsed().as_secs_f64();
    let most = (2.0 * f64::from(RATE) + took * f64::from(RATE)).ceil() as usize;
    // The join counts, too.
    let fewest = 2 * RATE as usize - 1;
    let (count, refused) = (heard(), limited());
    ensure!(
        count + refused == SENT,
        "{SENT} messages were sent; {count} were heard and {refused} refused, so some were both"
    );
    ensure!(
        (fewest..=most).contains(&count),
        "with a rate of {RATE} a second, {} may be sent at once and, in the {took:.1} s that this took, {most} at most; of {SENT} messages {count} were accepted",
        2 * RATE
    );
    // A client that was quiet may send again, and what was refused has not been kept for it.
    let mut n = 0;
    lab.eventually("ada to be heard again after a pause", || {
        n += 1;
        let text = format!("again {n}");
        let (ada, bob) = (&ada, &bob);
        async move {
            ada.say("tea", &text).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(bob
                .messages()
                .iter()
                .any(|m| m["text"].as_str().is_some_and(|t| t.starts_with("again")))
                .then_some(()))
        }
    })
    .await?;
    ensure!(
        heard() == count,
        "of {SENT} messages {refused} were refused, and later {} of those were heard all the same",
        heard() - count
    );
    // Control frames are not messages.
    for _ in 0..40 {
        bob.socket.send(&Frame::ping("")).await?;
    }
    ensure!(
        bob.who("tea").await? == ["ada", "bob"],
        "`who` was not answered with both members"
    );
    Ok(())
}

async fn whatever_is_in_a_message_it_counts_against_the_rate(lab: Lab) -> Outcome {
    lab.promise("The rate is one of messages, whatever is in them: one that is no JSON, binary, or refused for another reason counts like any other. What is over the rate is answered with `rate_limited`, and nothing is done with it.");
    const SENT: usize = 60;
    const RATE: u32 = 2;
    let house = House::open(Options {
        rate: RATE,
        ..roomy()
    })
    .await?;
    let kinds = [
        ("texts that are no JSON", Frame::text("junk"), "bad_json"),
        (
            "frames of an unknown type",
            Frame::text(r#"{"type":"dance"}"#),
            "unknown_type",
        ),
        ("binary messages", Frame::binary([1, 2, 3]), "binary"),
        (
            "joins of a room that is none",
            Frame::text(r#"{"type":"join","room":"a b"}"#),
            "bad_room",
        ),
        (
            "questions about a room that it is not in",
            Frame::text(r#"{"type":"who","room":"tea"}"#),
            "not_a_member",
        ),
    ];
    for (n, (what, frame, code)) in kinds.iter().enumerate() {
        let ada = Person::enter(&lab, house.addr, &format!("ada{n}")).await?;
        let answers = |code: &str| {
            let frames = ada.frames();
            frames.iter().filter(|f| f["code"] == code).count()
        };
        let began = Instant::now();
        for _ in 0..SENT {
            ada.socket.send(frame).await?;
        }
        lab.eventually(
            &format!("{SENT} {what} to be answered by errors"),
            || async { Ok((answers(code) + answers("rate_limited") >= SENT).then_some(())) },
        )
        .await?;
        let took = began.elapsed().as_secs_f64();
        let most = (2.0 * f64::from(RATE) + took * f64::from(RATE)).ceil() as usize;
        let (looked_at, limited) = (answers(code), answers("rate_limited"));
        ensure!(
            looked_at <= most,
            "a client with a rate of {RATE} a second sent {SENT} {what} within {took:.1} s; {looked_at} of them were answered with `{code}`, where at most {most} may be looked at, and {limited} with `rate_limited`"
        );
        ensure!(
            looked_at >= 2 * RATE as usize,
            "{} messages may come at once; of {SENT} {what} {limited} were answered with `rate_limited`",
            2 * RATE
        );
    }
    Ok(())
}

async fn no_burst_follows_another_at_once(lab: Lab) -> Outcome {
    lab.promise("Twice the rate may come at once after a rest of two seconds; after that what may come grows with the time, by `rate` each second. Nobody gets a second burst because the first fell at the end of a stretch of time that is counted by itself.");
    const RATE: u32 = 20;
    let house = House::open(Options {
        rate: RATE,
        ..roomy()
    })
    .await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    // The pause before it puts each burst at another place in whatever is counted.
    let talking = [500, 900, 1_300, 1_700].map(|pause| {
        let lab = &lab;
        let addr = house.addr;
        async move {
            let person = Person::in_room(lab, addr, &format!("p{pause}"), "tea").await?;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let began = Instant::now();
            let mut sent = Vec::new();
            // Whenever more is let through, it is let through at once.
            while began.elapsed() < Duration::from_millis(1_300) {
                for _ in 0..2 * RATE {
                    let text = sent.len().to_string();
                    sent.push(Instant::now());
                    person.say("tea", &text).await?;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, lab::Failure>((person, pause, sent))
        }
    });
    for talked in futures::future::join_all(talking).await {
        let (person, pause, sent) = talked?;
        let heard = || {
            let log = bob.socket.log().into_iter();
            let heard = log.filter_map(|record| {
                let Seen::Text(text) = record.seen else {
                    return None;
                };
                let frame: Value = serde_json::from_str(&text).ok()?;
                let number = frame["text"].as_str()?.parse::<usize>().ok()?;
                (frame["from"] == *person.name).then_some((number, record.at))
            });
            heard.collect::<Vec<_>>()
        };
        lab.eventually(
            "each message to be heard by bob or answered with `rate_limited`",
            || async {
                let frames = person.frames();
                let limited = frames.iter().filter(|f| f["code"] == "rate_limited");
                Ok((limited.count() + heard().len() >= sent.len()).then_some(()))
            },
        )
        .await?;
        let heard = heard();
        for (n, (first, _)) in heard.iter().enumerate() {
            for (count, (_, at)) in heard[n..].iter().enumerate() {
                // No less than the time between the server's looks at these two.
                let within = at.saturating_duration_since(sent[*first]).as_secs_f64();
                // A bucket may be filled in steps.
                let most = f64::from(RATE) * (2.0 + within + 0.25) + 1.0;
                ensure!(
                    (count as f64) < most,
                    "the rate is {RATE} a second, and {} messages may come at once; a client that had rested for {pause} ms got {} through within {:.0} ms, as if the count had begun anew in between",
                    2 * RATE,
                    count + 1,
                    within * 1_000.0
                );
            }
        }
    }
    Ok(())
}

async fn a_client_is_in_fifty_rooms_at_most(lab: Lab) -> Outcome {
    lab.promise("A client can be in 50 rooms at once. One more is refused with `too_many_rooms`; joining one of the fifty again is not, and who leaves one may join another.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    for n in 0..50 {
        ada.join(&format!("room-{n}")).await?;
    }
    for _ in 0..2 {
        ada.ask(json!({"type": "join", "room": "one-more"})).await?;
        ada.errs("too_many_rooms", "joining the 51st room").await?;
    }
    ada.join("room-7").await?;
    ada.leave("room-8").await?;
    ada.join("one-more").await?;
    ensure!(
        ada.who("one-more").await? == ["ada"],
        "ada joined `one-more`, and is not listed there"
    );
    Ok(())
}

async fn nothing_that_is_said_becomes_anything_else(lab: Lab) -> Outcome {
    lab.promise("A text is a text: whatever it contains, it arrives as exactly that in one `message`, and never as another frame or as markup of the server's.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let texts = [
        r#"","from":"root","text":""#,
        r#""}{"type":"left","room":"tea","name":"bob"}"#,
        "\n{\"type\":\"left\",\"room\":\"tea\",\"name\":\"bob\"}\n",
        "</script><img src=x onerror=alert(1)>",
        "\u{0}\u{1}\u{1b}[2J\u{7f}\u{9f}",
        "\u{2028}\u{2029}\u{feff}\u{202e}",
        "\r\nXADD chat:room:tea * from root\r\n",
        "%s%n{}{0}$1\\u0041",
    ];
    for text in texts {
        ada.say("tea", text).await?;
        let frame = bob.hears("tea", "ada", text).await?;
        let object = frame.as_object().map_or(0, serde_json::Map::len);
        ensure!(
            object == 6,
            "a `message` has type, room, from, text, seq and at; this one has {object} fields: {}",
            short(&frame)
        );
    }
    Ok(())
}

async fn secrets_are_in_no_log(lab: Lab) -> Outcome {
    lab.promise("Neither a token nor the secret that it is made with ever stands in the log, however much is logged.");
    let secret = "s3cret-of-this-check";
    let node = Node::start_talkative(&lab, &["--token-secret", secret]).await?;
    let good = token(secret, "ada");
    let bad = "b4d70ken".repeat(8);
    let ada = knock_with(node.addr, "ada", &good).connect(&lab).await?;
    refused(
        &lab,
        &knock_with(node.addr, "bob", &bad),
        "a wrong token",
        401,
        "unauthorized",
    )
    .await?;
    refused(
        &lab,
        &knock_with(node.addr, "ada", &good),
        "a name that is taken",
        409,
        "name_taken",
    )
    .await?;
    refused(
        &lab,
        &knock_with(node.addr, "", &good),
        "a bad name",
        400,
        "bad_name",
    )
    .await?;
    ada.send(&Frame::text("x").unmasked()).await?;
    ada.closed("the close after a breach of the protocol")
        .await?;
    node.service.kill();
    node.service.wait().await?;
    let said = format!(
        "{}\n{}",
        node.service.lines().join("\n"),
        node.service.stderr()
    );
    for (what, word) in [
        ("the secret", secret),
        ("a right token", good.as_str()),
        ("a wrong token", bad.as_str()),
    ] {
        let line = said.lines().find(|line| line.contains(word));
        ensure!(
            line.is_none(),
            "{what} stands in what the service printed: {}",
            line.unwrap_or_default().replace(word, "***")
        );
    }
    Ok(())
}
