//! Stage 6: one that does not read harms nobody but itself.

use std::time::{Duration, Instant};

use chat_server::{Options, encodings};
use lab::clients::ws::Seen;
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::json;

use crate::house::{END, House, Node, knock, on_a_fair_clock, roomy};
use crate::person::{Person, is, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_stalled_reader_delays_nobody,
        // It may have to be asked three times, and each time waits for the slow consumer to leave.
        a_slow_consumer_is_closed_with_1013_after_whole_frames.limit_secs(180),
        memory_stays_bounded_with_stalled_clients,
        a_message_is_encoded_once_for_all,
        who_pauses_and_catches_up_stays,
        a_stalled_client_can_still_be_given_up,
        a_stalled_client_that_is_cut_leaves,
    ]
}

/// How much more is said than before everybody who reads has heard it: less than any queue here.
const WINDOW: usize = 16;

/// Somebody whose connection holds next to nothing, and who does not read after joining.
async fn stalled(lab: &Lab, house: std::net::SocketAddr, name: &str) -> Result<Person, Failure> {
    let handshake = knock(house, name)
        .receive_buffer(4_096)
        .without_pongs()
        .without_close();
    let person = Person::through(lab, &handshake, name).await?;
    person.join("tea").await?;
    person.socket.stop_reading();
    lab.history().fault(name, "stops reading");
    Ok(person)
}

/// A text that can be told from the others and has this many bytes.
fn text(n: usize, bytes: usize) -> String {
    format!("{n}:{}", "x".repeat(bytes))
}

/// The number in front of a text.
fn number(frame: &serde_json::Value) -> Option<usize> {
    frame["text"].as_str()?.split(':').next()?.parse().ok()
}

/// Says `count` messages of this size, never further ahead of the readers than the window.
async fn paced(sender: &Person, readers: &[&Person], count: usize, bytes: usize) -> Outcome {
    let before: Vec<usize> = readers
        .iter()
        .map(|reader| reader.messages().len())
        .collect();
    for n in 0..count {
        sender.say("tea", &text(n, bytes)).await?;
        if (n + 1) % WINDOW == 0 || n + 1 == count {
            for (reader, before) in readers.iter().zip(&before) {
                reader.has_heard(before + n + 1).await?;
            }
        }
    }
    Ok(())
}

async fn a_stalled_reader_delays_nobody(lab: Lab) -> Outcome {
    lab.promise("One member that does not read delays nobody: all the others get everything, can join, leave and ask, in its room and in others.");
    let house = House::open(Options {
        queue: 64,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let mut asleep = Vec::new();
    for n in 0..2 {
        asleep.push(stalled(&lab, house.addr, &format!("asleep{n}")).await?);
    }
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    paced(&ada, &[&bob, &cem], 120, 30_000)
        .await
        .map_err(|failure| failure.code("CS01"))?;
    bob.say("tea", "now me").await?;
    ada.until("ada to hear bob while another member is stalled", |f| {
        f["text"] == "now me"
    })
    .await
    .map_err(|failure| failure.code("CS01"))?;
    let dai = Person::in_room(&lab, house.addr, "dai", "cake").await?;
    dai.join("tea").await?;
    dai.leave("tea").await?;
    for (n, message) in bob.messages().iter().enumerate() {
        ensure!(
            number(message) == Some(n),
            "bob should hear message {n} next, and heard {}",
            short(message)
        );
    }
    Ok(())
}

async fn a_slow_consumer_is_closed_with_1013_after_whole_frames(lab: Lab) -> Outcome {
    lab.promise("A client for which more than `queue` frames would have to wait is closed with 1013. If it begins to read again soon, it sees whole frames, in order and without a hole, then the close, then the end. It leaves its rooms at once.");
    on_a_fair_clock(&lab, [4_000, 4_000, 8_000], |_| {
        let lab = lab.clone();
        async move {
            let house = House::open(Options { queue: 32, ..roomy() }).await?;
            let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
            let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
            let asleep = stalled(&lab, house.addr, "asleep").await?;
            let mut said = 0;
            let mut looked = 0;
            // Only what is new: to read all that bob heard after each message takes longer and longer.
            let mut somebody_left = || {
                let new = bob.socket.log_after(looked);
                looked += new.len();
                let mut new = new.iter();
                new.any(|record| matches!(&record.seen, Seen::Text(text) if text.contains("\"left\"")))
            };
            // More than the queue and the buffers of a connection hold.
            while !somebody_left() && said < 64 {
                ada.say("tea", &text(said, 40_000)).await?;
                said += 1;
                if said % WINDOW == 0 {
                    bob.has_heard(said).await?;
                }
            }
            let full = Instant::now();
            bob.sees_leave("asleep", "tea").await.map_err(|failure| {
                failure.code("CS02").also(format!(
                    "it reads nothing, its queue takes 32 frames, and after {said} messages of 40 KB it is still a member"
                ))
            })?;
            let took = full.elapsed();
            // It may have five seconds to read its Close frame.
            ensure!(
                took < Duration::from_millis(2_500),
                "a member reads nothing, its queue takes 32 frames, and after {said} messages of 40 KB it took another {took:.1?} until it left: who is too slow leaves at once, and is then given time to read why"
            );
            asleep.socket.read_on();
            let end = asleep
                .socket
                .ended("the connection of the slow consumer to end")
                .await
                .map_err(|failure| failure.code_if("CS12"))?;
            let log = asleep.socket.log();
            let close = log.iter().find_map(|record| match &record.seen {
                Seen::Close(code, _) => Some(*code),
                _ => None,
            });
            ensure!(
                close == Some(Some(1013)),
                "CS12",
                "a client that was too slow should be closed with 1013; it read on, and saw {}, then {end}",
                match close {
                    Some(code) => format!("a close with the code {code:?}"),
                    None => "no close".to_owned(),
                }
            );
            for (n, message) in asleep.messages().iter().enumerate() {
                ensure!(
                    number(message) == Some(n),
                    "the slow consumer read on; message {n} was to come next, and it got {}",
                    short(message)
                );
            }
            ensure!(
                bob.leaves_of("asleep", "tea") == 1,
                "the slow consumer left once; bob was told {} times",
                bob.leaves_of("asleep", "tea")
            );
            Ok(())
        }
    })
    .await
}

async fn memory_stays_bounded_with_stalled_clients(lab: Lab) -> Outcome {
    lab.promise("Memory is bounded, however much is said to clients that do not read.");
    const STALLED: usize = 12;
    let arguments = [
        "--queue",
        "16",
        "--history",
        "10",
        "--rate",
        "0",
        "--heartbeat",
        "1h",
    ];
    let node = Node::start(&lab, &arguments).await?;
    let ada = Person::in_room(&lab, node.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, node.addr, "bob", "tea").await?;
    // What the first messages cost is no growth.
    let said = 40;
    for n in 0..said {
        ada.say("tea", &text(n, 30_000)).await?;
        bob.has_heard(n + 1).await?;
    }
    let mut asleep = Vec::new();
    for n in 0..STALLED {
        asleep.push(stalled(&lab, node.addr, &format!("asleep{n}")).await?);
    }
    let before = node.resident()?;
    const MEGABYTES: usize = 28;
    let count = MEGABYTES * 1_000_000 / 30_000;
    for n in 0..count {
        ada.say("tea", &text(n, 30_000)).await?;
        if n % 8 == 7 || n + 1 == count {
            bob.has_heard(said + n + 1).await?;
        }
    }
    let after = node.resident()?;
    let grown = after.saturating_sub(before) / 1024;
    lab.history().note(
        "node",
        &format!("{} MiB before, {} MiB after", before / 1024, after / 1024),
    );
    ensure!(
        grown < 18,
        "CS02",
        "{MEGABYTES} MB were said to {STALLED} clients that do not read and whose queues take 16 frames; the service has {grown} MiB more in use than before"
    );
    node.service.expect_running()?;
    drop(asleep);
    Ok(())
}

async fn a_message_is_encoded_once_for_all(lab: Lab) -> Outcome {
    lab.promise("A message is encoded once, however many members get it.");
    let house = House::open(roomy()).await?;
    for members in [2, 40] {
        let room = format!("room-{members}");
        let ada = Person::in_room(&lab, house.addr, &format!("ada{members}"), &room).await?;
        let mut others = Vec::new();
        for n in 1..members {
            others
                .push(Person::in_room(&lab, house.addr, &format!("p{members}-{n}"), &room).await?);
        }
        let is_told = |f: &serde_json::Value| is(f, "joined");
        lab.eventually("everybody to be told of everybody", || async {
            Ok((ada.frames().iter().filter(|f| is_told(f)).count() == members).then_some(()))
        })
        .await?;
        let before = encodings();
        const SAID: usize = 20;
        for n in 0..SAID {
            ada.say(&room, &n.to_string()).await?;
        }
        for other in &others {
            other.has_heard(SAID).await?;
        }
        let count = encodings() - before;
        ensure!(
            count as usize <= SAID,
            "CS08",
            "{SAID} messages were said to {members} members, and frames were encoded {count} times"
        );
    }
    Ok(())
}

async fn who_pauses_and_catches_up_stays(lab: Lab) -> Outcome {
    lab.promise("A client that pauses for a while, and for which no more than `queue` frames wait, stays and gets everything, in order.");
    let house = House::open(Options {
        queue: 128,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let slow = stalled(&lab, house.addr, "slow").await?;
    // More than the buffers of the connection hold, and fewer frames than may wait.
    for round in 0..2 {
        let heard = bob.messages().len();
        for n in 0..100 {
            ada.say("tea", &text(n, 20_000)).await?;
        }
        bob.has_heard(heard + 100).await?;
        lab.within(Duration::from_millis(300)).await;
        slow.socket.read_on();
        slow.has_heard(heard + 100).await.map_err(|failure| {
            failure.also(format!(
                "100 messages waited for it, where 128 may (round {})",
                round + 1
            ))
        })?;
        slow.socket.stop_reading();
    }
    for (n, message) in slow.messages().iter().enumerate() {
        ensure!(
            number(message) == Some(n % 100),
            "message {n} was to come next, and the client that had paused got {}",
            short(message)
        );
    }
    ensure!(
        bob.leaves_of("slow", "tea") == 0,
        "a client that paused and caught up was announced as gone"
    );
    Ok(())
}

async fn a_stalled_client_can_still_be_given_up(lab: Lab) -> Outcome {
    lab.promise("A client that neither reads nor says anything is given up by the heartbeat, also when so much waits to be written to it that nothing can be written any more.");
    on_a_fair_clock(&lab, [600, 2_000, 6_000], |heartbeat| {
        let lab = lab.clone();
        async move {
            let house = House::open(Options {
                heartbeat,
                ..roomy()
            })
            .await?;
            let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
            let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
            let _asleep = stalled(&lab, house.addr, "asleep").await?;
            paced(&ada, &[&bob], 100, 30_000).await?;
            bob.sees_leave("asleep", "tea").await.map_err(|failure| {
                if failure.observed.contains(END) {
                    return failure.also("bob reads, and answers each ping");
                }
                failure
                    .also("the member's buffers are full, it answers no ping, and is not given up")
            })
        }
    })
    .await
}

async fn a_stalled_client_that_is_cut_leaves(lab: Lab) -> Outcome {
    lab.promise("When the connection of a stalled client is cut, it leaves at once, however much waits for it.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let asleep = stalled(&lab, house.addr, "asleep").await?;
    paced(&ada, &[&bob], 64, 30_000).await?;
    asleep.socket.cut().await;
    bob.sees_leave("asleep", "tea")
        .await
        .map_err(|failure| failure.also("its connection was cut while much waited for it"))?;
    ada.ask(json!({"type": "who", "room": "tea"})).await?;
    ada.until("the answer to `who`", |f| is(f, "members"))
        .await?;
    Ok(())
}
