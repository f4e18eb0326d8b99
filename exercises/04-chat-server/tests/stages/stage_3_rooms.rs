//! Stage 3: many rooms, each with its own members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::RngExt as _;
use serde_json::json;

use crate::house::{House, listed, roomy};
use crate::person::{Person, is, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_message_never_reaches_another_room,
        any_mix_of_joins_leaves_and_messages_keeps_rooms_apart,
        who_lists_the_members_of_one_room_sorted,
        a_leave_is_acknowledged_and_announced_once,
        only_members_may_say_ask_and_leave,
        a_connection_that_ends_leaves_all_its_rooms,
        joins_and_leaves_of_many_at_once_are_told_in_turn,
    ]
}

async fn a_message_never_reaches_another_room(lab: Lab) -> Outcome {
    lab.promise("What is said in a room reaches the members of that room and nobody else, also when they are members of several rooms.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    let bob = Person::enter(&lab, house.addr, "bob").await?;
    let cem = Person::enter(&lab, house.addr, "cem").await?;
    for (person, rooms) in [
        (&ada, &["tea", "tea-2"][..]),
        (&bob, &["tea"]),
        (&cem, &["tea-2", "Tea"]),
    ] {
        for room in rooms {
            person.join(room).await?;
        }
    }
    ada.say("tea", "for bob").await?;
    ada.say("tea-2", "for cem").await?;
    ada.say("tea", "for bob again").await?;
    for text in ["for bob", "for bob again"] {
        bob.hears("tea", "ada", text).await?;
    }
    cem.hears("tea-2", "ada", "for cem").await?;
    lab.within(Duration::from_millis(100)).await;
    for (person, room) in [(&bob, "tea"), (&cem, "tea-2")] {
        let stray = person.messages().into_iter().find(|m| m["room"] != room);
        ensure!(
            stray.is_none(),
            "{} got a message of a room it is not in: {}",
            person.name,
            stray.map(|m| short(&m)).unwrap_or_default()
        );
        let count = person.messages().len();
        let expected = if room == "tea" { 2 } else { 1 };
        ensure!(
            count == expected,
            "{} is in {room}, where {expected} messages were said, and got {count}",
            person.name
        );
    }
    let told = bob.frames().into_iter().find(|f| f["room"] != "tea");
    ensure!(
        told.is_none(),
        "bob is in `tea` alone, and was told {}",
        told.map(|f| short(&f)).unwrap_or_default()
    );
    Ok(())
}

async fn any_mix_of_joins_leaves_and_messages_keeps_rooms_apart(lab: Lab) -> Outcome {
    lab.promise("However members come and go, each message reaches exactly those that are members of its room when it is said, except its sender.");
    let house = House::open(roomy()).await?;
    let mut rng = lab.rng();
    let rooms = ["red", "green", "blue"];
    let mut people = Vec::new();
    for n in 0..5 {
        people.push(Person::enter(&lab, house.addr, &format!("p{n}")).await?);
    }
    let mut members: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    // For each person the messages that it has to get, in order.
    let mut expected: Vec<Vec<(String, String)>> = vec![Vec::new(); people.len()];
    for step in 0..150 {
        let who = rng.random_range(0..people.len());
        let room = rooms[rng.random_range(0..rooms.len())];
        let inside = members.entry(room).or_default();
        match rng.random_range(0..4) {
            0 => {
                people[who].join(room).await?;
                inside.insert(who);
            }
            1 if inside.contains(&who) => {
                people[who].leave(room).await?;
                inside.remove(&who);
            }
            _ if inside.contains(&who) => {
                let text = format!("step {step} in {room}");
                people[who].say(room, &text).await?;
                for other in inside.iter().filter(|other| **other != who) {
                    expected[*other].push((room.to_owned(), text.clone()));
                }
                // The next step comes when this one is through: also if nobody is there to hear it.
                people[who].who(room).await?;
                for other in inside.iter().filter(|other| **other != who) {
                    people[*other].has_heard(expected[*other].len()).await?;
                }
            }
            _ => {}
        }
    }
    lab.within(Duration::from_millis(100)).await;
    for (person, expected) in people.iter().zip(&expected) {
        let heard: Vec<(String, String)> = person
            .messages()
            .iter()
            .map(|m| {
                let text = |key: &str| m[key].as_str().unwrap_or_default().to_owned();
                (text("room"), text("text"))
            })
            .collect();
        let wrong = heard.iter().zip(expected).position(|(a, b)| a != b);
        let at = wrong.unwrap_or(heard.len().min(expected.len()));
        ensure!(
            heard == *expected,
            "{} should have heard {} messages and heard {}; the first difference is at number {}: expected {:?}, heard {:?} (seed {})",
            person.name,
            expected.len(),
            heard.len(),
            at + 1,
            expected.get(at),
            heard.get(at),
            lab.seed()
        );
    }
    Ok(())
}

async fn who_lists_the_members_of_one_room_sorted(lab: Lab) -> Outcome {
    lab.promise("`who` is answered, to the one who asked alone, with the names of all members of that room, sorted.");
    let house = House::open(roomy()).await?;
    let mut people = Vec::new();
    for name in ["mia", "bob", "zoe", "ada", "kai"] {
        people.push(Person::in_room(&lab, house.addr, name, "tea").await?);
    }
    people[0].join("other").await?;
    let lonely = Person::in_room(&lab, house.addr, "lonely", "empty").await?;
    let listing = people[2].who("tea").await?;
    ensure!(
        listing == ["ada", "bob", "kai", "mia", "zoe"],
        "in `tea` are ada, bob, kai, mia and zoe; `who` says {}",
        listed(&listing)
    );
    ensure!(
        people[0].who("other").await? == ["mia"] && lonely.who("empty").await? == ["lonely"],
        "a room with one member is not listed as such"
    );
    people[3].leave("tea").await?;
    let listing = people[2].who("tea").await?;
    ensure!(
        listing == ["bob", "kai", "mia", "zoe"],
        "ada left `tea`; `who` says {}",
        listed(&listing)
    );
    let gone = people.remove(1);
    gone.socket.cut().await;
    people[1].sees_leave("bob", "tea").await?;
    let listing = people[1].who("tea").await?;
    ensure!(
        listing == ["kai", "mia", "zoe"],
        "bob's connection was cut; `who` says {}",
        listed(&listing)
    );
    let asked = people.iter().filter(|p| p.name != "zoe" && p.name != "mia");
    for person in asked {
        ensure!(
            !person.frames().iter().any(|f| is(f, "members")),
            "{} never asked, and was sent a list of members",
            person.name
        );
    }
    Ok(())
}

async fn a_leave_is_acknowledged_and_announced_once(lab: Lab) -> Outcome {
    lab.promise("`leave` is acknowledged to the one who leaves by the same `left` that the others get, once. From then on it gets nothing of that room, and its other rooms go on.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for person in [&ada, &bob] {
        person.join("cake").await?;
    }
    bob.leave("tea").await?;
    ada.sees_leave("bob", "tea").await?;
    ada.say("tea", "alone").await?;
    ada.say("cake", "together").await?;
    bob.until("bob to hear what is said in the room he stayed in", |f| {
        f["text"] == "together"
    })
    .await?;
    lab.within(Duration::from_millis(100)).await;
    ensure!(
        !bob.messages().iter().any(|m| m["room"] == "tea"),
        "bob had left `tea`, and got a message that was said there"
    );
    // He comes back, and leaves with his connection.
    bob.join("tea").await?;
    ada.until("ada to be told that bob is back", |f| {
        is(f, "joined") && f["name"] == "bob" && f["room"] == "tea"
    })
    .await?;
    bob.leave("tea").await?;
    ada.sees_leave("bob", "tea").await?;
    bob.socket.hang_up().await;
    ada.sees_leave("bob", "cake").await?;
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    cem.say("tea", "the end").await?;
    ada.until("ada to hear cem", |f| f["from"] == "cem").await?;
    ensure!(
        ada.leaves_of("bob", "tea") == 2 && ada.leaves_of("bob", "cake") == 1,
        "bob left `tea` twice, and `cake` once with his connection; ada was told {} and {} times",
        ada.leaves_of("bob", "tea"),
        ada.leaves_of("bob", "cake")
    );
    Ok(())
}

async fn only_members_may_say_ask_and_leave(lab: Lab) -> Outcome {
    lab.promise("Who is not in a room may not say anything there, ask who is in it, or leave it: the answer is the error `not_a_member`, the session lives on, and nobody in the room notices.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "cake").await?;
    for room in ["tea", "nowhere"] {
        for frame in [
            json!({"type": "say", "room": room, "text": "let me in"}),
            json!({"type": "who", "room": room}),
            json!({"type": "leave", "room": room}),
        ] {
            bob.ask(frame.clone()).await?;
            bob.errs("not_a_member", &frame.to_string()).await?;
        }
    }
    bob.leave("cake").await?;
    bob.say("cake", "once more").await?;
    bob.errs("not_a_member", "a message to a room that was left")
        .await?;
    bob.join("tea").await?;
    bob.say("tea", "here I am").await?;
    let told = ada.next("ada to be told that bob joined").await?;
    ensure!(
        is(&told, "joined") && told["name"] == "bob",
        "bob was refused three times and then joined; the first frame that ada got of it is {}",
        short(&told)
    );
    ada.hears("tea", "bob", "here I am").await?;
    Ok(())
}

async fn a_connection_that_ends_leaves_all_its_rooms(lab: Lab) -> Outcome {
    lab.promise("A connection that ends leaves each of its rooms, in each once.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    let bob = Person::enter(&lab, house.addr, "bob").await?;
    let rooms: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        ada.join(room).await?;
        bob.join(room).await?;
    }
    bob.leave("room-3").await?;
    bob.socket.cut().await;
    lab.eventually("ada to be told that bob left every room", || async {
        let left = rooms.iter().all(|room| ada.leaves_of("bob", room) >= 1);
        Ok(left.then_some(()))
    })
    .await
    .map_err(|failure| failure.code("CS05"))?;
    for room in &rooms {
        ensure!(
            ada.leaves_of("bob", room) == 1,
            "bob left {room} once, and ada was told {} times",
            ada.leaves_of("bob", room)
        );
        let listing = ada.who(room).await?;
        ensure!(
            listing == ["ada"],
            "bob is gone; in {room} are, according to `who`: {}",
            listed(&listing)
        );
    }
    Ok(())
}

async fn joins_and_leaves_of_many_at_once_are_told_in_turn(lab: Lab) -> Outcome {
    lab.promise("However many come and go at the same time, a member sees each of them join before it leaves and leave before it joins again; and in the end what it was told is what `who` says.");
    let house = House::open(roomy()).await?;
    let watcher = Person::in_room(&lab, house.addr, "watcher", "tea").await?;
    let coming = (0..10).map(|n| {
        let (lab, addr) = (lab.clone(), house.addr);
        tokio::spawn(async move {
            let person = Person::enter(&lab, addr, &format!("p{n}")).await?;
            for _ in 0..8 {
                person.join("tea").await?;
                person.leave("tea").await?;
            }
            if n % 2 == 0 {
                person.join("tea").await?;
            }
            Ok::<_, Failure>(person)
        })
    });
    let mut people = Vec::new();
    for person in futures::future::join_all(coming).await {
        people.push(person??);
    }
    lab.eventually("the watcher to be told of every join and leave", || async {
        let frames = watcher.frames();
        let told = frames.iter().filter(|f| is(f, "joined") || is(f, "left"));
        // Itself, ten people eight times in and out, five of them in once more.
        Ok((told.count() >= 1 + 160 + 5).then_some(()))
    })
    .await?;
    let mut inside = BTreeSet::new();
    for frame in watcher.frames() {
        let name = frame["name"].as_str().unwrap_or_default().to_owned();
        let in_turn = match frame["type"].as_str() {
            Some("joined") => inside.insert(name.clone()),
            Some("left") => inside.remove(&name),
            _ => true,
        };
        ensure!(
            in_turn,
            "the watcher was told twice in a row that {name} {}",
            frame["type"]
        );
    }
    let told: Vec<String> = inside.into_iter().collect();
    let listing = watcher.who("tea").await?;
    ensure!(
        listing == told,
        "by what the watcher was told, in the room are {}; `who` says {}",
        listed(&told),
        listed(&listing)
    );
    Ok(())
}
