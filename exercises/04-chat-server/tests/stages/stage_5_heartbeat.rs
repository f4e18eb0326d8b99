//! Stage 5: finding out that somebody is gone although the connection does not say so.
//!
//! What has to do with time is counted in pings: who is pinged every interval and given up after two
//! silent ones sees two or three pings, however slow the machine is.

use std::time::Duration;

use chat_server::Options;
use lab::clients::ws::{Frame, Seen};
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::json;

use crate::house::{END, House, enter_when_free, knock, listed, on_a_fair_clock, roomy};
use crate::person::{Person, is, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_ping_comes_every_interval,
        a_silent_peer_is_gone_and_its_presence_with_it,
        a_quiet_client_that_answers_pings_stays,
        any_frame_is_a_sign_of_life,
        a_peer_that_falls_silent_later_is_gone_too,
    ]
}

/// Intervals to try, in ms.
const INTERVALS: [u64; 3] = [150, 800, 4_000];

async fn house(heartbeat: Duration) -> Result<House, Failure> {
    House::open(Options {
        heartbeat,
        ..roomy()
    })
    .await
}

fn pings(person: &Person) -> usize {
    person.socket.count(|seen| matches!(seen, Seen::Ping(_)))
}

async fn sees_pings(lab: &Lab, person: &Person, count: usize) -> Outcome {
    lab.eventually(
        &format!("{} to be pinged {count} times", person.name),
        || async {
            let gone = person
                .socket
                .log()
                .into_iter()
                .map(|r| r.seen)
                .find(|seen| seen.is_final() || matches!(seen, Seen::Close(..)));
            match gone {
                Some(gone) => Err(Failure::observed(format!(
                    "{} is alive, and after {} pings saw {gone}",
                    person.name,
                    pings(person)
                ))),
                None => Ok((pings(person) >= count).then_some(())),
            }
        },
    )
    .await
}

async fn a_ping_comes_every_interval(lab: Lab) -> Outcome {
    lab.promise("A client is pinged every `heartbeat`, whether it is quiet or not; and not much more often.");
    on_a_fair_clock(&lab, INTERVALS, |interval| {
        let lab = lab.clone();
        async move {
            let house = house(interval).await?;
            let quiet = Person::in_room(&lab, house.addr, "quiet", "tea").await?;
            let busy = Person::in_room(&lab, house.addr, "busy", "tea").await?;
            while pings(&quiet) < 5 {
                busy.say("tea", "and another thing").await?;
                lab.within(interval / 10).await;
                sees_pings(&lab, &quiet, usize::from(pings(&quiet) > 0)).await?;
                if quiet.messages().len() > 120 {
                    lab::fail!("a client got 120 messages, a tenth of an interval apart, and {} pings", pings(&quiet));
                }
            }
            ensure!(
                pings(&busy) >= 3,
                "a quiet client was pinged 5 times, and one that says something all the time {} times",
                pings(&busy)
            );
            let times: Vec<_> = quiet.socket.log().into_iter().filter(|r| matches!(r.seen, Seen::Ping(_))).map(|r| r.at).collect();
            let took = times[4] - times[0];
            ensure!(
                took > interval * 2,
                "the heartbeat is {interval:?}; five pings came within {took:?}"
            );
            Ok(())
        }
    })
    .await?;
    let house = house(Duration::from_secs(3_600)).await?;
    let quiet = Person::in_room(&lab, house.addr, "quiet", "tea").await?;
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        pings(&quiet) <= 1,
        "the heartbeat is an hour; a client was pinged {} times within a second",
        pings(&quiet)
    );
    Ok(())
}

async fn a_silent_peer_is_gone_and_its_presence_with_it(lab: Lab) -> Outcome {
    lab.promise("A peer of which nothing was heard for two intervals is gone: its connection is ended, the others are told once that it left, `who` does not list it, and its name is free.");
    on_a_fair_clock(&lab, INTERVALS, |interval| {
        let lab = lab.clone();
        async move {
            let house = house(interval).await?;
            let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
            let handshake = knock(house.addr, "silent").without_pongs().without_close();
            let silent = Person::through(&lab, &handshake, "silent").await?;
            silent.join("tea").await?;
            silent.join("cake").await?;
            lab.history().fault("silent", "says nothing any more, and keeps its connection");
            ada.sees_leave("silent", "tea").await.map_err(|failure| {
                let code = ended(&silent).then_some("CS16");
                failure.code_if(code)
            })?;
            silent
                .socket
                .ended("the server to end the connection of a silent peer")
                .await?;
            let count = pings(&silent);
            ensure!(
                (1..=4).contains(&count),
                "a peer that never answers should be given up after two intervals; it was pinged {count} times before"
            );
            let listing = ada.who("tea").await?;
            ensure!(
                listing == ["ada"],
                "CS16",
                "the silent peer was given up; `who` says {}",
                listed(&listing)
            );
            let again = enter_when_free(&lab, house.addr, "silent")
                .await
                .map_err(|failure| failure.code("CS16"))?;
            again.join("tea").await?;
            again.say("tea", "back").await?;
            ada.until("ada to hear the one that came back", |f| f["text"] == "back").await?;
            ensure!(
                ada.leaves_of("silent", "tea") == 1,
                "the silent peer left once, and that was announced {} times",
                ada.leaves_of("silent", "tea")
            );
            Ok(())
        }
    })
    .await
}

fn ended(person: &Person) -> bool {
    person.socket.count(Seen::is_final) > 0
}

async fn a_quiet_client_that_answers_pings_stays(lab: Lab) -> Outcome {
    lab.promise("A client that says nothing and answers pings stays, for ever.");
    on_a_fair_clock(&lab, INTERVALS, |interval| {
        let lab = lab.clone();
        async move {
            let house = house(interval).await?;
            let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
            let quiet = Person::in_room(&lab, house.addr, "quiet", "tea").await?;
            sees_pings(&lab, &quiet, 8)
                .await
                .map_err(|failure| failure.code("CS14"))?;
            ada.say("tea", "still there?").await?;
            quiet
                .until("the quiet client to hear ada", |f| {
                    f["text"] == "still there?"
                })
                .await
                .map_err(|failure| failure.code("CS14"))?;
            ensure!(
                ada.leaves_of("quiet", "tea") == 0,
                "CS14",
                "the quiet client answers its pings, and was announced as gone"
            );
            Ok(())
        }
    })
    .await
}

async fn any_frame_is_a_sign_of_life(lab: Lab) -> Outcome {
    lab.promise("Any frame is a sign of life, not only a pong: a message, even a bad one, a ping, a pong that nobody asked for.");
    on_a_fair_clock(&lab, INTERVALS, |interval| {
        let lab = lab.clone();
        async move {
            let house = house(interval).await?;
            let ways = [
                ("text", Frame::text(r#"{"type":"say","room":"tea","text":"x"}"#)),
                ("bad", Frame::text("not json")),
                ("ping", Frame::ping("x")),
                ("pong", Frame::pong("x")),
            ];
            let mut people = Vec::new();
            for (name, frame) in ways {
                let handshake = knock(house.addr, name).without_pongs();
                let person = Person::through(&lab, &handshake, name).await?;
                person.join("tea").await?;
                people.push((person, frame));
            }
            let mut rounds = 0;
            while let Some((ignored, _)) = people.iter().find(|(person, _)| pings(person) < 7) {
                rounds += 1;
                ensure!(
                    rounds < 60,
                    "{} sends a frame four times in each interval; {} intervals have passed, and it was pinged {} times",
                    ignored.name,
                    rounds / 4,
                    pings(ignored)
                );
                for (person, frame) in &people {
                    let alive = person.socket.send(frame).await.is_ok() && !ended(person);
                    ensure!(
                        alive,
                        "a client that does not answer pings, and sends a frame ({}) four times in each interval, {END} after {} pings",
                        person.name,
                        pings(person)
                    );
                }
                lab.within(interval / 4).await;
            }
            Ok(())
        }
    })
    .await
}

async fn a_peer_that_falls_silent_later_is_gone_too(lab: Lab) -> Outcome {
    lab.promise("A peer that was alive for a long time and then falls silent is given up in the same time, also when others talk to it all the while.");
    on_a_fair_clock(&lab, INTERVALS, |interval| {
        let lab = lab.clone();
        async move {
            let house = house(interval).await?;
            let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
            let handshake = knock(house.addr, "bob").without_close();
            let bob = Person::through(&lab, &handshake, "bob").await?;
            bob.join("tea").await?;
            sees_pings(&lab, &bob, 4).await?;
            bob.ask(json!({"type": "who", "room": "tea"})).await?;
            bob.socket.answer_pings(false);
            lab.history().fault("bob", "answers no ping any more");
            let before = pings(&bob);
            // What the server sends to it is no sign of life of it.
            while !ended(&bob) {
                ada.say("tea", "are you there?").await?;
                lab.within(interval / 5).await;
                ensure!(
                    pings(&bob) <= before + 4,
                    "a peer fell silent; it was pinged {} times since, and is still not given up",
                    pings(&bob) - before
                );
                if bob.messages().len() > 1_000 {
                    lab::fail!("a peer fell silent; a thousand messages later it is still connected, and not pinged");
                }
            }
            ada.sees_leave("bob", "tea").await?;
            let left = ada.frames().into_iter().rfind(|f| is(f, "left"));
            ensure!(
                ada.leaves_of("bob", "tea") == 1,
                "bob left once, and that was announced {} times, last by {}",
                ada.leaves_of("bob", "tea"),
                left.map(|f| short(&f)).unwrap_or_default()
            );
            Ok(())
        }
    })
    .await
}
