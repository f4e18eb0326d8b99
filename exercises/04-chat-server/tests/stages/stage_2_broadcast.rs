//! Stage 2: what one says in a room reaches every other member, and members have names.

use std::collections::BTreeMap;

use futures::future::{join_all, try_join_all};
use lab::clients::ws::{Answer, Frame};
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::house::{House, enter_when_free, is_utc_time, knock, refused, roomy};
use crate::person::{Person, is, short};

/// How often a name is fought for.
const ROUNDS: usize = 200;

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_message_reaches_every_other_member_and_not_its_sender,
        who_joins_is_announced_and_acknowledged,
        one_senders_messages_arrive_complete_and_in_order,
        a_name_belongs_to_one_connection,
        a_race_for_a_name_has_one_winner,
        a_client_that_vanishes_in_the_handshake_leaves_its_name_free,
        a_member_leaves_once_however_its_connection_ends,
        joining_twice_is_acknowledged_and_not_announced,
    ]
}

async fn a_message_reaches_every_other_member_and_not_its_sender(lab: Lab) -> Outcome {
    lab.promise("What a member says reaches every other member of the room, as it was said, with its room, sender and time. The sender does not get it.");
    let house = House::open(roomy()).await?;
    let names = ["ada", "bob", "cem", "dai"];
    let mut members = Vec::new();
    for name in names {
        members.push(Person::in_room(&lab, house.addr, name, "tea").await?);
    }
    for (n, member) in members.iter().enumerate() {
        for other in &names[n + 1..] {
            member
                .until(
                    &format!("{} to be told that {other} joined", member.name),
                    |f| is(f, "joined") && f["name"] == *other,
                )
                .await?;
        }
    }
    let texts = [
        "hello",
        "naïve ☕ 😀 \"quoted\" \\ \u{7}\n\tnew line",
        "<script>alert(1)</script>",
        " x ",
    ];
    for (n, text) in texts.iter().enumerate() {
        members[n].say("tea", text).await?;
        for (other, member) in members.iter().enumerate() {
            if other == n {
                continue;
            }
            // A frame that comes before is one that this member should not have got: its own message.
            let frame = member
                .hears("tea", names[n], text)
                .await
                .map_err(|failure| own_echo(failure, member))?;
            ensure!(
                is_utc_time(&frame["at"]),
                "`at` should be a time in RFC 3339 and UTC, such as 2025-11-24T20:15:00Z; it is {}",
                frame["at"]
            );
        }
    }
    // The last sender hears the next message of another, and nothing before it.
    members[0].say("tea", "the end").await?;
    for member in &members[1..] {
        member
            .hears("tea", "ada", "the end")
            .await
            .map_err(|failure| own_echo(failure, member))?;
    }
    members[1].say("tea", "really").await?;
    members[0]
        .hears("tea", "bob", "really")
        .await
        .map_err(|failure| own_echo(failure, &members[0]))?;
    Ok(())
}

/// Names the mistake if the member has heard itself.
fn own_echo(failure: Failure, member: &Person) -> Failure {
    let own = member.messages().iter().any(|m| m["from"] == *member.name);
    failure.code_if(own.then_some("CS07"))
}

async fn who_joins_is_announced_and_acknowledged(lab: Lab) -> Outcome {
    lab.promise("When somebody joins, every member is told, the new one too: for it, that is the acknowledgement. Who is connected and has not joined is told nothing. A new member gets what is said from then on.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    let outside = Person::enter(&lab, house.addr, "outside").await?;
    ada.ask(json!({"type": "join", "room": "tea", "colour": "green", "since_when": [1]}))
        .await?;
    let joined = ada.next("the acknowledgement of the first join").await?;
    ensure!(
        is(&joined, "joined") && joined["room"] == "tea" && joined["name"] == "ada",
        "the first answer to a join should be `joined` with the room and the name; it was {}",
        short(&joined)
    );
    ada.say("tea", "nobody hears this").await?;
    // The answer to this says that what came before it was obeyed.
    ada.socket.send_text("not json").await?;
    ada.errs("bad_json", "a text that is not JSON").await?;
    let bob = Person::enter(&lab, house.addr, "bob").await?;
    bob.join("tea").await?;
    let told = ada.next("ada to be told that bob joined").await?;
    ensure!(
        is(&told, "joined") && told["room"] == "tea" && told["name"] == "bob",
        "bob joined; the next frame that ada got was {}",
        short(&told)
    );
    ada.say("tea", "bob hears this").await?;
    bob.hears("tea", "ada", "bob hears this").await?;
    lab.within(std::time::Duration::from_millis(100)).await;
    ensure!(
        outside.frames().is_empty(),
        "somebody who joined no room was told {}",
        short(&outside.frames()[0])
    );
    Ok(())
}

async fn one_senders_messages_arrive_complete_and_in_order(lab: Lab) -> Outcome {
    lab.promise("Of what one member says each other member gets everything, once, in the order in which it was said; however many speak at the same time.");
    let house = House::open(roomy()).await?;
    let names = ["ada", "bob", "cem", "dai"];
    let members =
        try_join_all(names.map(|name| Person::in_room(&lab, house.addr, name, "tea"))).await?;
    const EACH: usize = 150;
    let saying = members.iter().map(async |member| {
        for n in 0..EACH {
            member.say("tea", &n.to_string()).await?;
        }
        Ok::<_, Failure>(())
    });
    let hearing = members.iter().map(|member| member.has_heard(3 * EACH));
    let (said, heard) = tokio::join!(join_all(saying), join_all(hearing));
    said.into_iter().chain(heard).collect::<Result<(), _>>()?;
    for member in &members {
        let mut by_sender: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in member.messages() {
            let from = message["from"].as_str().unwrap_or_default().to_owned();
            let text = message["text"].as_str().unwrap_or_default().to_owned();
            by_sender.entry(from).or_default().push(text);
        }
        for (from, texts) in by_sender {
            let expected: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
            let code = (from == member.name).then_some("CS07");
            ensure!(
                texts == expected,
                code,
                "{from} said the numbers 0 to {}; {} heard {} of them, and not just these in this order: {:?} …",
                EACH - 1,
                member.name,
                texts.len(),
                &texts[..texts.len().min(12)]
            );
        }
    }
    Ok(())
}

async fn a_name_belongs_to_one_connection(lab: Lab) -> Outcome {
    lab.promise("A name that somebody is connected under is refused to others, before the upgrade, with 409 and `name_taken`. It is free again when that connection has ended.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for _ in 0..3 {
        refused(
            &lab,
            &knock(house.addr, "ada"),
            "the name `ada` is taken",
            409,
            "name_taken",
        )
        .await
        .map_err(|failure| failure.code("CS11"))?;
    }
    // Those that were refused have not taken the name from its owner, nor freed it.
    bob.say("tea", "still there?").await?;
    ada.until(
        "ada to hear bob after others had tried to take her name",
        |f| f["text"] == "still there?",
    )
    .await?;
    ada.socket.close(1000).await?;
    let again = enter_when_free(&lab, house.addr, "ada").await?;
    again.join("tea").await?;
    refused(
        &lab,
        &knock(house.addr, "ada"),
        "the name `ada` is taken again",
        409,
        "name_taken",
    )
    .await?;
    Ok(())
}

async fn a_race_for_a_name_has_one_winner(lab: Lab) -> Outcome {
    lab.promise(
        "Of the connections that ask for the same name at the same moment exactly one gets it.",
    );
    let house = House::open(roomy()).await?;
    // What is open between a look and a grip is some microseconds long, and only the first of a crowd
    // can fall into it: so many small crowds, and a large one.
    for round in 0..ROUNDS {
        let crowd = if round == 0 { 50 } else { 6 };
        let name = format!("winner{round}");
        let mut winners = Vec::new();
        for answer in knock(house.addr, &name).ask_together(crowd, &lab).await? {
            match answer {
                Answer::Upgraded(socket) => winners.push(socket),
                Answer::Refused(refused) => ensure!(
                    refused.status == 409,
                    "of {crowd} handshakes for the same name one was answered with {} {}",
                    refused.status,
                    refused.body
                ),
            }
        }
        ensure!(
            winners.len() == 1,
            (winners.len() > 1).then_some("CS11"),
            "{crowd} connections asked for the name `{name}` at once, and {} got it",
            winners.len()
        );
    }
    Ok(())
}

async fn a_client_that_vanishes_in_the_handshake_leaves_its_name_free(lab: Lab) -> Outcome {
    lab.promise("A client that asks for a name and is gone before it has the answer holds the name no longer than its connection.");
    let house = House::open(roomy()).await?;
    for n in 0..30 {
        let name = format!("shy{n}");
        let mut stream = knock(house.addr, &name).open().await?;
        let request = format!(
            "GET /ws?name={name} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            house.addr
        );
        stream.write_all(request.as_bytes()).await?;
        if n % 3 == 0 {
            // Dropped otherwise, which is an end in order.
            stream.set_zero_linger()?;
        }
        if n % 2 == 0 {
            // It may have been let in by then.
            tokio::time::sleep(std::time::Duration::from_micros(200 * n)).await;
        }
        drop(stream);
    }
    for n in 0..30 {
        let person = enter_when_free(&lab, house.addr, &format!("shy{n}")).await?;
        person.join("tea").await?;
    }
    Ok(())
}

async fn a_member_leaves_once_however_its_connection_ends(lab: Lab) -> Outcome {
    lab.promise("However a member's connection ends, the others are told once that it left, and its name is free again: after a close, without one, in the middle of a frame, by a reset, or because it broke the protocol.");
    let house = House::open(roomy()).await?;
    let watcher = Person::in_room(&lab, house.addr, "watcher", "tea").await?;
    let ways = [
        "close",
        "hang-up",
        "cut",
        "cut-in-a-frame",
        "cut-in-a-message",
        "half-close",
        "nonsense",
        "not-text",
    ];
    for way in ways {
        let member = Person::in_room(&lab, house.addr, way, "tea").await?;
        watcher
            .until(&format!("the watcher to be told that {way} joined"), |f| {
                is(f, "joined") && f["name"] == way
            })
            .await?;
        lab.history()
            .fault(way, &format!("the connection ends: {way}"));
        let mut kept = None;
        match way {
            "close" => drop(member.socket.close(1000).await?),
            "hang-up" => member.socket.hang_up().await,
            "cut" => member.socket.cut().await,
            "cut-in-a-frame" => {
                let bytes = Frame::text(r#"{"type":"say","room":"tea","text":"half"}"#).bytes();
                member.socket.write(&bytes[..bytes.len() / 2]).await?;
                member.socket.cut().await;
            }
            "cut-in-a-message" => {
                let begun = Frame::text(r#"{"type":"say","#).unfinished();
                member.socket.send(&begun).await?;
                member.socket.hang_up().await;
            }
            "half-close" => {
                member.socket.half_close().await;
                kept = Some(member);
            }
            "nonsense" => {
                member.socket.write(b"GET / HTTP/1.1\r\n\r\n").await?;
                kept = Some(member);
            }
            _ => {
                member.socket.send(&Frame::text([0xff, 0xfe])).await?;
                kept = Some(member);
            }
        }
        let told = watcher
            .next(&format!("the watcher to be told that {way} left"))
            .await
            .map_err(|failure| failure.code("CS05"))?;
        ensure!(
            is(&told, "left") && told["room"] == "tea" && told["name"] == way,
            "the connection of `{way}` ended; the next frame that another member got was {}",
            short(&told)
        );
        let again = enter_when_free(&lab, house.addr, way).await?;
        drop((kept, again));
    }
    // What comes next is the next thing, and not a second `left`.
    let last = Person::in_room(&lab, house.addr, "last", "tea").await?;
    last.say("tea", "the end").await?;
    watcher
        .until("the watcher to hear the last message", |f| is(f, "message"))
        .await?;
    for way in ways {
        let times = watcher.leaves_of(way, "tea");
        ensure!(
            times == 1,
            "`{way}` was a member once, and its leaving was announced {times} times"
        );
    }
    Ok(())
}

async fn joining_twice_is_acknowledged_and_not_announced(lab: Lab) -> Outcome {
    lab.promise("Joining a room that one is in is acknowledged to that client alone. It gets what is said there once, as before, and leaves once.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for _ in 0..3 {
        bob.join("tea").await?;
    }
    ada.say("tea", "once").await?;
    bob.hears("tea", "ada", "once").await?;
    ada.say("tea", "and once more").await?;
    bob.hears("tea", "ada", "and once more").await?;
    bob.say("tea", "heard").await?;
    ada.until("ada to hear bob", |f| is(f, "message")).await?;
    let announced = joins_of(&ada, "bob");
    ensure!(
        announced == 1,
        "bob joined a room in which he was already; the other member was told {announced} times that he joined"
    );
    bob.socket.close(1000).await?;
    ada.sees_leave("bob", "tea").await?;
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    cem.say("tea", "the end").await?;
    ada.until("ada to hear cem", |f| f["from"] == "cem").await?;
    ensure!(
        ada.leaves_of("bob", "tea") == 1,
        "bob had joined several times and left once; it was announced {} times",
        ada.leaves_of("bob", "tea")
    );
    Ok(())
}

fn joins_of(person: &Person, name: &str) -> usize {
    let frames: Vec<Value> = person.frames();
    frames
        .iter()
        .filter(|f| is(f, "joined") && f["name"] == name)
        .count()
}
