//! Stage 7: numbers, and coming back without a gap and without a duplicate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat_server::Options;
use futures::future::{join_all, try_join_all};
use lab::history::What;
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::house::{House, enter_when_free, knock, roomy};
use crate::person::{Person, is, seq, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        all_members_see_one_order_numbered_without_gaps,
        who_comes_back_misses_nothing_and_sees_nothing_twice,
        a_replay_comes_before_what_is_said_meanwhile,
        what_is_said_during_a_replay_follows_it_once,
        a_replay_repeats_what_was_said_to_the_letter,
        without_since_there_is_nothing_old,
        what_is_no_longer_kept_is_said_to_be_missing,
        joining_again_replays_to_that_client_alone,
        a_second_replay_takes_the_place_of_the_first,
        a_replay_longer_than_the_queue_arrives_whole,
        a_replay_leaves_room_for_other_rooms,
        a_room_that_everybody_left_keeps_what_was_said,
        empty_rooms_are_kept_up_to_a_thousand,
    ]
}

async fn all_members_see_one_order_numbered_without_gaps(lab: Lab) -> Outcome {
    lab.promise("The messages of each room are numbered 1, 2, 3 …, without gaps, each room for itself. However many speak at once, all members see them in that order.");
    let house = House::open(roomy()).await?;
    let members = try_join_all((0..6).map(|n| {
        let lab = lab.clone();
        async move {
            let person = Person::enter(&lab, house.addr, &format!("p{n}")).await?;
            person.join("tea").await?;
            person.join("cake").await?;
            Ok::<_, Failure>(person)
        }
    }))
    .await?;
    const EACH: usize = 40;
    let saying = members.iter().map(async |member| {
        for n in 0..EACH {
            member.say("tea", &format!("{}-{n}", member.name)).await?;
            member.say("cake", &format!("{}-{n}", member.name)).await?;
        }
        member.has_heard(2 * 5 * EACH).await
    });
    join_all(saying)
        .await
        .into_iter()
        .collect::<Result<(), _>>()?;
    for room in ["tea", "cake"] {
        let mut numbered: BTreeMap<u64, (String, String)> = BTreeMap::new();
        for member in &members {
            let mut last = 0;
            for message in member.messages().iter().filter(|m| m["room"] == room) {
                let number = seq(message);
                ensure!(
                    number > last,
                    "{} saw message number {last} of `{room}`, and then number {number}",
                    member.name
                );
                last = number;
                let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                let said = (text("from"), text("text"));
                let known = numbered.entry(number).or_insert_with(|| said.clone());
                ensure!(
                    *known == said,
                    "message number {number} of `{room}` is {known:?} for one member, and {said:?} for {}",
                    member.name
                );
            }
        }
        let numbers: Vec<u64> = numbered.keys().copied().collect();
        let expected: Vec<u64> = (1..=(6 * EACH) as u64).collect();
        ensure!(
            numbers == expected,
            "{} messages were said in `{room}`; their numbers should be 1 to {}, and are {} numbers from {:?} to {:?}",
            6 * EACH,
            6 * EACH,
            numbers.len(),
            numbers.first(),
            numbers.last()
        );
    }
    let late = Person::enter(&lab, house.addr, "late").await?;
    for room in ["tea", "cake"] {
        let joined = late.join(room).await?;
        ensure!(
            seq(&joined) == (6 * EACH) as u64,
            "`joined` tells the number of the last message, which is {}; it says {}",
            6 * EACH,
            joined["seq"]
        );
    }
    let joined = late.join("empty").await?;
    ensure!(
        joined["seq"] == 0,
        "in a room where nothing was said yet `joined` has the `seq` 0; it has {}",
        joined["seq"]
    );
    Ok(())
}

/// How long people who talk pause after ten messages.
const QUICK: Duration = Duration::from_millis(4);
const CALM: Duration = Duration::from_millis(25);

/// People who talk all the while, until they are stopped.
struct Talk {
    stop: Arc<AtomicBool>,
    talking: Vec<JoinHandle<Result<Person, Failure>>>,
}

impl Talk {
    async fn begin(
        lab: &Lab,
        addr: SocketAddr,
        people: usize,
        pause: Duration,
    ) -> Result<Talk, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut talking = Vec::new();
        for n in 0..people {
            let person = Person::in_room(lab, addr, &format!("talker{n}"), "tea").await?;
            let stop = Arc::clone(&stop);
            talking.push(tokio::spawn(async move {
                for n in 0_usize.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    person.say("tea", &n.to_string()).await?;
                    // In bursts, so that much of it falls together with what the others do; and never
                    // further ahead than a slow machine can follow: the answer comes after all that was
                    // said before.
                    if n % 10 == 9 {
                        person.who("tea").await?;
                        tokio::time::sleep(pause).await;
                    }
                }
                // When this is answered, nothing is under way any more.
                person.who("tea").await?;
                Ok(person)
            }));
        }
        Ok(Talk { stop, talking })
    }

    /// Ends it, and gives the number of the last message.
    async fn end(self, lab: &Lab, addr: SocketAddr) -> Result<u64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut people = Vec::new();
        for talking in self.talking {
            people.push(talking.await??);
        }
        let last = Person::in_room(lab, addr, "last", "tea").await?;
        last.say("tea", "the end").await?;
        // What each of them hears last is the last.
        let heard = people[0]
            .until("the last message", |f| f["from"] == "last")
            .await?;
        Ok(seq(&heard))
    }
}

/// Holds numbers that a client got, in order, to "each once, none left out".
fn in_sequence(lab: &Lab, who: &str, before: u64, messages: &[Value]) -> Result<u64, Failure> {
    let numbers: Vec<u64> = messages.iter().map(seq).collect();
    for number in &numbers {
        let what = What::Delivered { deliveries: 0 };
        lab.history().record(who, what, &number.to_string());
    }
    let mut last = before;
    for (n, number) in numbers.iter().copied().enumerate() {
        if number == last + 1 {
            last = number;
            continue;
        }
        let twice = numbers[..n].contains(&number) || numbers[n + 1..].contains(&number);
        if number <= last || twice {
            lab::fail!(
                "CS17",
                "{who} had seen the messages up to number {last}; the next that it got was number {number}, which it got twice"
            );
        }
        let late = numbers[n + 1..].contains(&(last + 1));
        let missing = (!late).then_some("CS10");
        lab::fail!(
            missing,
            "{who} had seen the messages up to number {last}; the next that it got was number {number}, no `gap` was said, and number {} came {}",
            last + 1,
            if late { "later" } else { "never" }
        );
    }
    Ok(last)
}

async fn who_comes_back_misses_nothing_and_sees_nothing_twice(lab: Lab) -> Outcome {
    lab.promise("A client that is cut off at any moment and joins again with the number of the last message it has seen gets every message once, in order, while others go on talking.");
    let house = House::open(roomy()).await?;
    let talk = Talk::begin(&lab, house.addr, 3, QUICK).await?;
    let mut rng = lab.rng();
    let mut last = 0;
    for round in 0..25 {
        let name = format!("bob{round}");
        let bob = Person::enter(&lab, house.addr, &name).await?;
        bob.join_since("tea", last).await?;
        lab.history()
            .note(&name, &format!("joined with since {last}"));
        bob.has_heard(rng.random_range(1..30)).await?;
        // Not at the end of a message, but wherever it happens to be.
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..2_000))).await;
        let seen = bob.messages();
        bob.socket.cut().await;
        lab.history().fault(&name, "cut off");
        last = in_sequence(&lab, &name, last, &seen)?;
    }
    let all = talk.end(&lab, house.addr).await?;
    let bob = Person::enter(&lab, house.addr, "bob-at-last").await?;
    bob.join_since("tea", last).await?;
    if all > last {
        bob.has_heard((all - last) as usize).await?;
    }
    let last = in_sequence(&lab, "bob-at-last", last, &bob.messages())?;
    ensure!(
        last == all,
        "{all} messages were said; the client that came back again and again has seen those up to number {last}"
    );
    Ok(())
}

async fn a_replay_comes_before_what_is_said_meanwhile(lab: Lab) -> Outcome {
    lab.promise("Who joins with `since` sees first `joined`, then what is kept after that number, in order, then what is said from then on, while others go on talking.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for n in 0..300 {
        ada.say("tea", &n.to_string()).await?;
    }
    bob.has_heard(300).await?;
    let talk = Talk::begin(&lab, house.addr, 3, QUICK).await?;
    let coming = (0..8).map(async |n| {
        let since = 35 * n;
        let person = Person::enter(&lab, house.addr, &format!("c{n}")).await?;
        person
            .ask(json!({"type": "join", "room": "tea", "since": since}))
            .await?;
        person.has_heard(300 - since as usize + 60).await?;
        Ok::<_, Failure>((since, person))
    });
    let came = join_all(coming).await;
    talk.end(&lab, house.addr).await?;
    for one in came {
        let (since, person) = one?;
        let frames = person.frames();
        let first = &frames[0];
        ensure!(
            is(first, "joined") && first["name"] == *person.name,
            "the first frame after a join should be `joined`; {} got {}",
            person.name,
            short(first)
        );
        ensure!(
            seq(first) >= 300,
            "300 messages had been said, and `joined` says that the last one is number {}",
            first["seq"]
        );
        in_sequence(&lab, &person.name, since, &person.messages())?;
    }
    Ok(())
}

async fn what_is_said_during_a_replay_follows_it_once(lab: Lab) -> Outcome {
    lab.promise("What is said while a replay is under way, because its reader is slow, follows the replay: each message once, none left out.");
    let house = House::open(Options {
        queue: 128,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    // More than the buffers of a connection hold.
    const OLD: usize = 300;
    for n in 0..OLD {
        ada.say("tea", &format!("{n} {}", "x".repeat(20_000)))
            .await?;
        if n % 50 == 49 {
            cem.has_heard(n + 1).await?;
        }
    }
    let handshake = knock(house.addr, "bob").receive_buffer(4_096);
    let bob = Person::through(&lab, &handshake, "bob").await?;
    bob.socket.stop_reading();
    lab.history().fault("bob", "reads nothing for a while");
    bob.ask(json!({"type": "join", "room": "tea", "since": 0}))
        .await?;
    ada.until("ada to be told that bob joined", |f| {
        is(f, "joined") && f["name"] == "bob"
    })
    .await?;
    lab.within(Duration::from_millis(200)).await;
    const NEW: usize = 30;
    for n in 0..NEW {
        ada.say("tea", &format!("new {n}")).await?;
    }
    cem.has_heard(OLD + NEW).await?;
    bob.socket.read_on();
    let all = bob.has_heard(OLD + NEW).await;
    // What comes twice may come after that.
    lab.within(Duration::from_millis(300)).await;
    let last = in_sequence(&lab, "bob", 0, &bob.messages())?;
    // In sequence as far as it goes: then what was said meanwhile is missing.
    all.map_err(|failure| failure.code_if((last == OLD as u64).then_some("CS10")))
}

async fn a_replay_repeats_what_was_said_to_the_letter(lab: Lab) -> Outcome {
    lab.promise("A replayed message is the one that was said: the same text, sender, time and number. A client's own messages are among them.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let texts = [
        "one",
        "naïve ☕ 😀 \"quoted\" \\ \u{0}",
        "</script>",
        " ",
        "{\"type\":\"left\"}",
    ];
    for (n, text) in texts.iter().enumerate() {
        let text = if *text == " " { "x\n y" } else { text };
        let (from, to) = if n % 2 == 0 {
            (&ada, &bob)
        } else {
            (&bob, &ada)
        };
        from.say("tea", text).await?;
        to.until("the other to hear it", |f| f["text"] == text)
            .await?;
    }
    let mut live: Vec<Value> = ada.messages().into_iter().chain(bob.messages()).collect();
    live.sort_by_key(seq);
    let again = Person::enter(&lab, house.addr, "again").await?;
    again.join_since("tea", 0).await?;
    again.has_heard(texts.len()).await?;
    let replayed = again.messages();
    for (live, replayed) in live.iter().zip(&replayed) {
        ensure!(
            live == replayed,
            "what was said as {} was replayed as {}",
            short(live),
            short(replayed)
        );
    }
    ada.socket.close(1000).await?;
    let ada = enter_when_free(&lab, house.addr, "ada").await?;
    ada.join_since("tea", 0).await?;
    ada.has_heard(texts.len()).await.map_err(|failure| {
        failure.also(
            "its own messages belong to a replay too: a page that was loaded anew has lost them",
        )
    })?;
    Ok(())
}

async fn without_since_there_is_nothing_old(lab: Lab) -> Outcome {
    lab.promise("Who joins without `since` gets what is said from then on, and nothing old. With the number of the last message it is the same.");
    let house = House::open(roomy()).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for n in 0..5 {
        ada.say("tea", &format!("old {n}")).await?;
    }
    bob.has_heard(5).await?;
    let new = Person::enter(&lab, house.addr, "new").await?;
    let joined = new.join("tea").await?;
    let up_to_date = Person::enter(&lab, house.addr, "up-to-date").await?;
    up_to_date.join_since("tea", 5).await?;
    ensure!(
        joined["seq"] == 5,
        "five messages were said; `joined` has the `seq` {}",
        joined["seq"]
    );
    ada.say("tea", "new").await?;
    new.until("the next message", |f| is(f, "message") || is(f, "error"))
        .await?;
    up_to_date
        .until("the next message", |f| is(f, "message") || is(f, "error"))
        .await?;
    for person in [new, up_to_date] {
        let heard = person.messages();
        ensure!(
            heard.len() == 1 && heard[0]["text"] == "new" && heard[0]["seq"] == 6,
            "{} was to get the sixth message alone; it got {}",
            person.name,
            short(&json!(person.frames()))
        );
    }
    Ok(())
}

async fn what_is_no_longer_kept_is_said_to_be_missing(lab: Lab) -> Outcome {
    lab.promise("When messages after `since` are not kept any more, or `since` is a number that was not given yet, an error `gap` with the room and the number that follows comes between `joined` and the messages; and then everything that is kept.");
    let house = House::open(Options {
        history: 10,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    for n in 1..=30 {
        ada.say("tea", &n.to_string()).await?;
    }
    bob.has_heard(30).await?;
    // since, whether there is a gap, the first number that follows
    for (since, gap, first) in [
        (0, true, 21),
        (5, true, 21),
        (19, true, 21),
        (20, false, 21),
        (25, false, 26),
        (30, false, 31),
        (31, true, 21),
        (9_000, true, 21),
    ] {
        let person = Person::enter(&lab, house.addr, &format!("since-{since}")).await?;
        person.join_since("tea", since).await?;
        if gap {
            let error = person
                .errs("gap", &format!("a join with since {since}"))
                .await
                .map_err(|failure| {
                    failure
                        .code("CS22")
                        .also("messages 1 to 20 are not kept any more")
                })?;
            ensure!(
                error["room"] == "tea" && error["oldest"] == 21,
                "the oldest message that is kept is number 21; the error `gap` of a join with since {since} is {}",
                short(&error)
            );
        }
        for number in first..=30 {
            let frame = person
                .next(&format!("message {number} after a join with since {since}"))
                .await?;
            ensure!(
                is(&frame, "message") && seq(&frame) == number,
                "after a join with since {since} message {number} was to come next; it was {}",
                short(&frame)
            );
        }
        person.leave("tea").await?;
        let odd = person
            .frames()
            .into_iter()
            .rfind(|f| is(f, "message") && seq(f) > 30);
        ensure!(odd.is_none(), "a message that nobody said was replayed");
    }
    let person = Person::enter(&lab, house.addr, "elsewhere").await?;
    person.join_since("empty", 0).await?;
    ensure!(
        person.who("empty").await? == ["elsewhere"]
            && !person.frames().iter().any(|f| is(f, "error")),
        "in a room where nothing was said a join with since 0 misses nothing; what came is {}",
        short(&json!(person.frames()))
    );
    // Who has seen messages in a room that has none knows of some that are lost.
    let person = Person::enter(&lab, house.addr, "from-before").await?;
    person.join_since("empty", 7).await?;
    let error = person
        .errs(
            "gap",
            "a join with since 7 in a room where nothing was said",
        )
        .await
        .map_err(|failure| failure.code("CS22"))?;
    ensure!(
        error["room"] == "empty" && error["oldest"] == 1,
        "in a room where nothing was said number 1 comes next; the error `gap` of a join with since 7 is {}",
        short(&error)
    );
    Ok(())
}

async fn joining_again_replays_to_that_client_alone(lab: Lab) -> Outcome {
    lab.promise("Joining a room that one is in with `since` is acknowledged and replayed to that client alone. After each acknowledgement the messages follow from that number on, each once, however much is said meanwhile.");
    let house = House::open(roomy()).await?;
    // Each join has what waits for bob sent once more: in a quick talk a slow machine would never end.
    let talk = Talk::begin(&lab, house.addr, 3, CALM).await?;
    let bob = Person::in_room(&lab, house.addr, "bob", "tea").await?;
    let mut since = Vec::new();
    for _ in 0..12 {
        let number = bob.last_heard();
        since.push(number);
        bob.join_since("tea", number).await?;
        bob.has_heard(bob.count_heard() + 8).await?;
    }
    let all = talk.end(&lab, house.addr).await?;
    bob.until("bob to get the last message", |f| {
        seq(f) == all && is(f, "message")
    })
    .await?;
    let is_ack = |frame: &Value| is(frame, "joined") && frame["name"] == "bob";
    let frames = bob.frames();
    let parts: Vec<&[Value]> = frames.split(|frame| is_ack(frame)).collect();
    ensure!(
        parts.len() == since.len() + 2,
        "bob joined {} times, and was told {} times that he is in",
        since.len() + 1,
        parts.len() - 1
    );
    for (part, since) in parts[2..].iter().zip(&since) {
        let messages: Vec<Value> = part.iter().filter(|f| is(f, "message")).cloned().collect();
        in_sequence(&lab, "bob", *since, &messages)?;
    }
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    bob.join_since("tea", 0).await?;
    bob.say("tea", "the very end").await?;
    cem.until("cem to hear bob", |f| f["text"] == "the very end")
        .await?;
    let told = cem.frames().into_iter().find(&is_ack);
    ensure!(
        told.is_none(),
        "bob joined a room in which he was already, and another member was told so"
    );
    Ok(())
}

async fn a_second_replay_takes_the_place_of_the_first(lab: Lab) -> Outcome {
    lab.promise("Who asks for a replay while one is still under way is acknowledged again, and from there on gets every message after `since` once: the first replay is over.");
    let house = House::open(Options {
        queue: 32,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    // More than the buffers of a connection hold.
    const OLD: usize = 100;
    for n in 0..OLD {
        ada.say("tea", &format!("{n} {}", "x".repeat(20_000)))
            .await?;
    }
    ensure!(ada.who("tea").await? == ["ada"], "`who` was not answered");
    let handshake = knock(house.addr, "bob").receive_buffer(4_096);
    let bob = Person::through(&lab, &handshake, "bob").await?;
    bob.socket.stop_reading();
    lab.history().fault("bob", "reads nothing for a while");
    for _ in 0..2 {
        bob.ask(json!({"type": "join", "room": "tea", "since": 0}))
            .await?;
        lab.within(Duration::from_millis(300)).await;
    }
    bob.socket.read_on();
    let after_both = || {
        let mut frames = bob.frames();
        let acknowledged = |frame: &&Value| is(frame, "joined") && frame["name"] == "bob";
        let twice = frames.iter().filter(acknowledged).count() == 2;
        let second = frames.iter().rposition(|frame| acknowledged(&frame));
        let mut after = frames.split_off(second.filter(|_| twice).unwrap_or(frames.len()));
        after.retain(|frame| is(frame, "message"));
        after
    };
    lab.eventually(
        "bob to get the last message after he asked twice",
        || async {
            Ok(after_both()
                .iter()
                .any(|m| seq(m) == OLD as u64)
                .then_some(()))
        },
    )
    .await?;
    // What comes twice may come after that.
    lab.within(Duration::from_millis(300)).await;
    in_sequence(&lab, "bob", 0, &after_both())?;
    Ok(())
}

async fn a_replay_longer_than_the_queue_arrives_whole(lab: Lab) -> Outcome {
    lab.promise("A client that reads gets its whole replay, also when that is far longer than the queue, and is not taken for a slow one.");
    let house = House::open(Options {
        queue: 16,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    for n in 0..400 {
        ada.say("tea", &format!("{n} {}", "x".repeat(2_000)))
            .await?;
    }
    ensure!(ada.who("tea").await? == ["ada"], "`who` was not answered");
    let bob = Person::enter(&lab, house.addr, "bob").await?;
    bob.join_since("tea", 0).await?;
    bob.has_heard(400).await?;
    in_sequence(&lab, "bob", 0, &bob.messages())?;
    ada.say("tea", "and live").await?;
    bob.until("bob to hear what is said after his replay", |f| {
        f["text"] == "and live"
    })
    .await?;
    Ok(())
}

async fn a_replay_leaves_room_for_other_rooms(lab: Lab) -> Outcome {
    lab.promise("A replay leaves half of the queue free for what comes in between: a client that pauses while one is under way is not taken for a slow one as soon as something is said in another of its rooms.");
    const QUEUE: usize = 64;
    let house = House::open(Options {
        queue: QUEUE,
        ..roomy()
    })
    .await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    ada.join("cake").await?;
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    cem.join("cake").await?;
    // More than the buffers of a connection and the queue hold.
    const OLD: usize = 300;
    for n in 0..OLD {
        ada.say("tea", &format!("{n} {}", "x".repeat(20_000)))
            .await?;
        if n % 50 == 49 {
            cem.has_heard(n + 1).await?;
        }
    }
    let handshake = knock(house.addr, "bob").receive_buffer(4_096);
    let bob = Person::through(&lab, &handshake, "bob").await?;
    bob.join("cake").await?;
    bob.socket.stop_reading();
    lab.history().fault("bob", "reads nothing for a while");
    bob.ask(json!({"type": "join", "room": "tea", "since": 0}))
        .await?;
    ada.until("ada to be told that bob joined", |f| {
        is(f, "joined") && f["name"] == "bob" && f["room"] == "tea"
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    const LIVE: usize = QUEUE / 4;
    for n in 0..LIVE {
        ada.say("cake", &format!("live {n}")).await?;
        lab.within(Duration::from_millis(30)).await;
    }
    cem.has_heard(OLD + LIVE).await?;
    bob.socket.read_on();
    bob.has_heard(OLD + LIVE).await.map_err(|failure| {
        failure.also(format!(
            "the queue takes {QUEUE} frames, and {LIVE} came from another room while a replay waited for a client that had paused"
        ))
    })?;
    let mut messages = bob.messages();
    messages.retain(|message| message["room"] == "tea");
    in_sequence(&lab, "bob", 0, &messages)?;
    Ok(())
}

async fn a_room_that_everybody_left_keeps_what_was_said(lab: Lab) -> Outcome {
    lab.promise("The history of a room outlives its members: who comes back to a room that everybody has left gets what was said there, and the numbers go on.");
    let house = House::open(roomy()).await?;
    for (n, way) in ["by `leave`", "with their connections"]
        .into_iter()
        .enumerate()
    {
        let room = format!("room-{n}");
        let mut ada = Person::in_room(&lab, house.addr, &format!("ada{n}"), &room).await?;
        let mut bob = Person::in_room(&lab, house.addr, &format!("bob{n}"), &room).await?;
        for n in 1..=5 {
            ada.say(&room, &n.to_string()).await?;
        }
        bob.has_heard(5).await?;
        if way == "by `leave`" {
            ada.leave(&room).await?;
            bob.leave(&room).await?;
        } else {
            let names = (ada.name.clone(), bob.name.clone());
            ada.socket.close(1000).await?;
            bob.socket.close(1000).await?;
            ada = enter_when_free(&lab, house.addr, &names.0).await?;
            bob = enter_when_free(&lab, house.addr, &names.1).await?;
        }
        let joined = bob.join_since(&room, 2).await?;
        ensure!(
            seq(&joined) == 5,
            "five messages were said in a room, everybody left {way}, and the next who joins is told that the last number is {}",
            joined["seq"]
        );
        ada.join(&room).await?;
        ada.say(&room, "6").await?;
        for number in 3..=6 {
            let what = format!("message {number} in a room that everybody had left {way}");
            let frame = bob
                .until(&what, |f| is(f, "message") || is(f, "error"))
                .await?;
            ensure!(
                is(&frame, "message") && seq(&frame) == number,
                "everybody left a room {way}; who came back with since 2 was to get message {number} next, and got {}",
                short(&frame)
            );
        }
    }
    Ok(())
}

async fn empty_rooms_are_kept_up_to_a_thousand(lab: Lab) -> Outcome {
    lab.promise("Rooms that everybody left are kept, but a thousand of them at most: a client that goes through more and more rooms fills nobody's memory.");
    let house = House::open(roomy()).await?;
    let ada = Person::enter(&lab, house.addr, "ada").await?;
    // One room is one room, however often it is left.
    const ROOMS: usize = 1_200;
    ada.join("tea").await?;
    ada.say("tea", "x").await?;
    for n in 0..ROOMS {
        ada.ask(json!({"type": "leave", "room": "tea"})).await?;
        ada.ask(json!({"type": "join", "room": "tea"})).await?;
        if n % 50 == 49 {
            ada.who("tea").await?;
        }
    }
    let last = ada.frames().into_iter().rfind(|f| is(f, "joined"));
    ensure!(
        last.as_ref().map(seq) == Some(1),
        "one message was said in a room, which was then left and joined {ROOMS} times; the last `joined` is {}",
        last.map(|f| short(&f)).unwrap_or_default()
    );
    let before = ROOMS + 1;
    for n in 0..ROOMS {
        let room = format!("room-{n}");
        ada.ask(json!({"type": "join", "room": room})).await?;
        ada.say(&room, "x").await?;
        ada.ask(json!({"type": "leave", "room": room})).await?;
        if n % 50 == 49 {
            ada.sees_leave("ada", &room).await?;
        }
    }
    // The last one first: looking at a room must not push out the next.
    for n in (0..ROOMS).rev() {
        let room = format!("room-{n}");
        ada.ask(json!({"type": "join", "room": room})).await?;
        ada.ask(json!({"type": "leave", "room": room})).await?;
        if n % 50 == 0 {
            ada.sees_leave("ada", &room).await?;
        }
    }
    let joined: Vec<u64> = ada
        .frames()
        .iter()
        .filter(|f| is(f, "joined"))
        .skip(before + ROOMS)
        .map(seq)
        .collect();
    let kept = joined.iter().filter(|seq| **seq > 0).count();
    ensure!(
        joined.len() == ROOMS && joined[0] == 1,
        "the room that was left last has one message, and who joins it again is told that its last number is {:?}",
        joined.first()
    );
    ensure!(
        kept <= 1_000,
        "one message was said in each of {ROOMS} rooms, and everybody left; {kept} of them still know their last number, where a thousand may be kept"
    );
    Ok(())
}
