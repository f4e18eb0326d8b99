//! Stage 1: a connection becomes a WebSocket, messages come back, and it ends well.

use futures::{SinkExt, StreamExt};
use lab::clients::ws::{Frame, Handshake, Seen};
use lab::{Check, Lab, Outcome, ensure};
use rand::RngExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::house::{House, Node, get, roomy};
use crate::person::Person;

pub fn checks() -> Vec<Check> {
    lab::checks![
        every_message_comes_back_unchanged,
        a_fragmented_message_comes_back_whole,
        a_ping_is_answered_and_ends_nothing,
        a_close_is_answered_with_its_code,
        what_is_not_a_frame_gets_an_error_and_the_session_lives,
        a_client_in_the_middle_of_a_frame_holds_up_no_other,
        the_service_says_where_it_listens,
    ]
}

async fn every_message_comes_back_unchanged(lab: Lab) -> Outcome {
    lab.promise("`/echo` sends every text and every binary message back: unchanged, of the same kind, in order.");
    let house = House::open(roomy()).await?;
    let socket = Handshake::new(house.addr, "/echo").connect(&lab).await?;
    let texts = [
        "",
        "a",
        "naïve ☕ \u{2028} \u{1F600}",
        "null",
        "\u{0}\r\n\"{",
        "\u{feff}x",
    ];
    for text in texts {
        socket.send_text(text).await?;
        let back = socket
            .next(&format!("the echo of the text {text:?}"))
            .await?;
        ensure!(
            back == Seen::Text(text.to_owned()),
            "the text {text:?} was sent to /echo; what came back was {back}"
        );
    }
    let mut rng = lab.rng();
    for length in [0, 1, 125, 126, 127, 4_096, 65_535] {
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        socket.send(&Frame::binary(bytes.clone())).await?;
        let back = socket.next(&format!("the echo of {length} bytes")).await?;
        ensure!(
            back == Seen::Binary(bytes),
            "a binary message of {length} random bytes was sent to /echo; what came back was {back}, and not the same bytes"
        );
    }
    // Many at once: each a message of its own, in their order.
    let mut bytes = Vec::new();
    for n in 0..200 {
        let frame = match n % 2 {
            0 => Frame::text(format!("{n}")),
            _ => Frame::binary(format!("{n}")),
        };
        bytes.extend(frame.bytes());
    }
    socket.write(&bytes).await?;
    for n in 0..200 {
        let back = socket.next(&format!("the echo of message {n}")).await?;
        let expected = match n % 2 {
            0 => Seen::Text(format!("{n}")),
            _ => Seen::Binary(format!("{n}").into_bytes()),
        };
        ensure!(
            back == expected,
            "of 200 messages that were sent at once, number {n} was {expected}, and {back} came back in its place"
        );
    }
    Ok(())
}

async fn a_fragmented_message_comes_back_whole(lab: Lab) -> Outcome {
    lab.promise("A message is a message, into however many frames and packets it was cut, and whatever control frames came in between.");
    let house = House::open(roomy()).await?;
    let socket = Handshake::new(house.addr, "/echo").connect(&lab).await?;
    // Cut within the letters, with empty frames and pings in between.
    let text = "naïve ☕ 😀";
    let mut frames = vec![Frame::text("").unfinished()];
    for (n, byte) in text.bytes().enumerate() {
        frames.push(Frame::continuation([byte]).unfinished());
        if n % 4 == 0 {
            frames.push(Frame::ping(format!("p{n}")));
        }
        if n % 5 == 0 {
            frames.push(Frame::pong("nobody asked"));
        }
    }
    frames.push(Frame::continuation(""));
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    // Once in one piece, once byte by byte.
    for everywhere in [false, true] {
        let places: Vec<usize> = (1..bytes.len()).filter(|_| everywhere).collect();
        socket.write_cut(&bytes, &places).await?;
        let mut pongs = Vec::new();
        let back = loop {
            match socket.next("the echo of a fragmented text").await? {
                Seen::Pong(payload) => pongs.push(String::from_utf8_lossy(&payload).into_owned()),
                other => break other,
            }
        };
        ensure!(
            back == Seen::Text(text.to_owned()),
            "the text {text:?} was sent in {} frames; what came back was {back}",
            text.len() + 2
        );
        let last = format!("p{}", (text.len() - 1) / 4 * 4);
        ensure!(
            pongs.contains(&last),
            "pings were sent between the fragments, the last of them with the payload {last:?}; pongs came for {pongs:?}"
        );
    }
    let mut rng = lab.rng();
    for _ in 0..20 {
        let bytes: Vec<u8> = (0..rng.random_range(2..5_000))
            .map(|_| rng.random())
            .collect();
        let cut = rng.random_range(1..bytes.len());
        let frames = [
            Frame::binary(&bytes[..cut]).unfinished().bytes(),
            Frame::continuation(&bytes[cut..]).bytes(),
        ]
        .concat();
        let place = rng.random_range(1..frames.len());
        socket.write_cut(&frames, &[place]).await?;
        let back = socket
            .next("the echo of a message in two fragments")
            .await?;
        ensure!(
            back == Seen::Binary(bytes.clone()),
            "a binary message of {} bytes was sent in two fragments, cut at {cut}; what came back was {back}, and not the same bytes",
            bytes.len()
        );
    }
    Ok(())
}

async fn a_ping_is_answered_and_ends_nothing(lab: Lab) -> Outcome {
    lab.promise("A ping is answered with a pong of the same payload, a pong that nobody asked for is passed over, and the session lives on: on `/echo` and on `/ws`.");
    let house = House::open(roomy()).await?;
    for path in ["/echo", "/ws?name=ada"] {
        let socket = Handshake::new(house.addr, path).connect(&lab).await?;
        for payload in [vec![], b"alive?".to_vec(), vec![0xff; 125]] {
            socket.send(&Frame::pong("unasked")).await?;
            socket.send(&Frame::ping(payload.clone())).await?;
            let answer = socket
                .next(&format!("the pong on {path}"))
                .await
                .map_err(|failure| failure.code("CS03"))?;
            ensure!(
                answer == Seen::Pong(payload.clone()),
                "CS03",
                "on {path} a ping of {} bytes was answered with {answer}; it wants a pong with the same payload",
                payload.len()
            );
        }
        socket.send_text("still there").await?;
        let answer = socket
            .next(&format!("an answer on {path} after three pings"))
            .await
            .map_err(|failure| failure.code("CS03"))?;
        ensure!(
            matches!(answer, Seen::Text(_)),
            "CS03",
            "on {path} a text was sent after three pings, and the answer was {answer}"
        );
    }
    Ok(())
}

async fn a_close_is_answered_with_its_code(lab: Lab) -> Outcome {
    lab.promise("A close is answered by a close with the same code, and then the server ends the connection: on `/echo` and on `/ws`.");
    let house = House::open(roomy()).await?;
    for (n, code) in [Some(1000), Some(1001), Some(3000), Some(4999), None]
        .into_iter()
        .enumerate()
    {
        for path in ["/echo".to_owned(), format!("/ws?name=ada{n}")] {
            let socket = Handshake::new(house.addr, &path)
                .without_close()
                .connect(&lab)
                .await?;
            let frame = match code {
                Some(code) => Frame::close(code, "goodbye"),
                None => Frame::close_without_code(),
            };
            socket.send(&frame).await?;
            let answer = socket
                .closed(&format!("the answer to a close on {path}"))
                .await?;
            // 1000 says nothing else than no code at all.
            let right = answer == code || code.is_none() && answer == Some(1000);
            ensure!(
                right,
                "on {path} a close with the code {code:?} was answered by one with the code {answer:?}"
            );
        }
    }
    // What was sent before the close is answered before it.
    let socket = Handshake::new(house.addr, "/echo")
        .without_close()
        .connect(&lab)
        .await?;
    let bytes = [
        Frame::text("last words").bytes(),
        Frame::close(1000, "").bytes(),
    ]
    .concat();
    socket.write(&bytes).await?;
    let back = socket
        .next("the echo of what came right before the close")
        .await?;
    ensure!(
        back == Seen::Text("last words".into()),
        "a text and a close were sent together; the first that came back was {back}"
    );
    socket.closed("the answer to the close").await?;
    Ok(())
}

async fn what_is_not_a_frame_gets_an_error_and_the_session_lives(lab: Lab) -> Outcome {
    lab.promise("On `/ws` a text that is not a JSON object with a known `type` (a list, for example) is answered by an error frame, `bad_json` or `unknown_type`. The session lives on.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    let bad = [
        "",
        " ",
        "hello",
        "{",
        "[]",
        "[{\"type\":\"who\"}]",
        // A list of a frame's fields is no object, although it would be enough for some parsers.
        "[\"join\",\"tea\",null]",
        "[\"join\",\"tea\"]",
        "[\"leave\",\"tea\"]",
        "[\"say\",\"tea\",\"x\"]",
        "[\"who\",\"tea\"]",
        "null",
        "42",
        "\"join\"",
        "{}",
        "{\"type\":7}",
        "{\"type\":null}",
        "{\"typ\":\"who\"}",
        "{\"type\":\"who\"} {}",
    ];
    for text in bad {
        ada.socket.send_text(text).await?;
        ada.errs("bad_json", &format!("the text {text:?}"))
            .await
            .map_err(|failure| failure.code_if(ended(&ada).then_some("CS04")))?;
    }
    for kind in ["dance", "", "joined", "message", "JOIN"] {
        let text = format!("{{\"room\":\"tea\",\"type\":\"{kind}\"}}");
        ada.socket.send_text(&text).await?;
        ada.errs("unknown_type", &format!("the text {text}"))
            .await?;
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    ada.socket.send_text(&deep).await?;
    ada.errs("bad_json", "a text of 20,000 nested lists")
        .await?;
    let code = ada.socket.close(1000).await?;
    ensure!(
        code == Some(1000),
        "after {} bad texts the session was closed with 1000, and the answer was {code:?}",
        bad.len() + 6
    );
    Ok(())
}

/// Whether the server ended the session.
fn ended(person: &Person) -> bool {
    let over = |seen: &Seen| seen.is_final() || matches!(seen, Seen::Close(..));
    person.socket.count(over) > 0
}

async fn a_client_in_the_middle_of_a_frame_holds_up_no_other(lab: Lab) -> Outcome {
    lab.promise("Clients are served side by side: one that stops in the middle of a handshake or of a frame holds up nobody, and what it sends later is still understood.");
    let house = House::open(roomy()).await?;
    let _silent = tokio::net::TcpStream::connect(house.addr).await?;
    let slow = Handshake::new(house.addr, "/echo").connect(&lab).await?;
    let bytes = Frame::text("at last").bytes();
    slow.write(&bytes[..bytes.len() - 3]).await?;
    for n in 0..5 {
        let other = Handshake::new(house.addr, "/echo").connect(&lab).await?;
        other.send_text(&format!("{n}")).await?;
        let back = other
            .next("the echo while another client is in the middle of a frame")
            .await?;
        ensure!(
            back == Seen::Text(format!("{n}")),
            "the text \"{n}\" came back as {back}"
        );
    }
    slow.write(&bytes[bytes.len() - 3..]).await?;
    let back = slow
        .next("the echo of a frame that came in two parts")
        .await?;
    ensure!(
        back == Seen::Text("at last".into()),
        "a frame came in two parts, with a pause in between; its echo was {back}"
    );
    Ok(())
}

async fn the_service_says_where_it_listens(lab: Lab) -> Outcome {
    lab.promise("The service prints one line once it listens, `{\"listening\":\"ADDRESS:PORT\"}`, and serves there: `/healthz`, the page, and `/echo` for any WebSocket client.");
    let node = Node::start(&lab, &[]).await?;
    // Another implementation than the lab's own.
    let url = format!("ws://{}/echo", node.addr);
    let (mut other, _) = tokio_tungstenite::connect_async(url).await?;
    for text in ["one", "two ☕", ""] {
        other.send(Message::text(text)).await?;
        let waiting = tokio::time::timeout(lab.deadline(), other.next()).await;
        let Ok(Some(back)) = waiting else {
            lab::fail!("the text {text:?} was sent to /echo, and no echo came")
        };
        let back = back?;
        ensure!(
            back == Message::text(text),
            "the text {text:?} was sent to /echo, and {back:?} came back"
        );
    }
    other.close(None).await?;
    let (status, _, body) = get(&lab, node.addr, "/healthz").await?;
    ensure!(
        status == 200 && body.contains("ok"),
        "GET /healthz was answered with {status} {body:?}"
    );
    let (status, head, body) = get(&lab, node.addr, "/").await?;
    ensure!(
        status == 200 && head.contains("text/html") && !body.is_empty(),
        "GET / should be the page; the answer was {status}: {head}"
    );
    let (status, ..) = get(&lab, node.addr, "/ws?name=ada").await?;
    ensure!(
        status == 400 || status == 426,
        "GET /ws without asking for a WebSocket was answered with {status}; it wants 400 or 426"
    );
    let second = lab.service(["--listen", &node.addr.to_string()]).start()?;
    let ended = second.wait().await?;
    ensure!(
        ended.code() == Some(98),
        "a second service on the same address ended with {ended}; it wants the exit code 98"
    );
    node.service.expect_running()?;
    ensure!(
        node.service.lines().len() == 1,
        "standard output is for the one line that says where the service listens; it has {:?}",
        node.service.lines()
    );
    Ok(())
}
