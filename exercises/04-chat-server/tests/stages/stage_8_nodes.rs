//! Stage 8: many nodes, one chat.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_server::Options;
use futures::future::{join_all, try_join_all};
use lab::clients::ws::{Answer, Frame, Seen};
use lab::faults::{Action, Trigger};
use lab::history::What;
use lab::{Check, Failure, Lab, Outcome, Redis, ensure};
use serde_json::json;

use crate::house::{House, Node, enter_when_free, knock, listed, refused, roomy};
use crate::person::{Person, is, seq, short};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_message_reaches_every_node_once_and_not_its_sender,
        numbers_are_the_same_on_all_nodes,
        who_and_names_are_the_same_on_all_nodes,
        a_race_for_a_name_over_two_nodes_has_one_winner,
        who_has_closed_can_come_back_at_once,
        a_dead_nodes_members_leave,
        a_paused_node_that_was_taken_for_dead_comes_back_well,
        what_was_said_while_a_node_was_cut_off_arrives,
        a_node_that_slept_while_the_log_was_cut_skips_nothing,
        a_message_whose_reply_is_lost_is_said_once,
        a_node_that_finds_the_log_cut_takes_the_history,
        nothing_accepted_is_lost_when_redis_dies,
        history_outlives_the_nodes,
        rooms_are_streams_under_the_prefix,
        a_node_does_not_start_without_its_redis,
    ]
}

/// Some nodes on the shared Redis, each behind a proxy of its own.
struct Cluster {
    nodes: Vec<House>,
    redis: Vec<Redis>,
    prefix: String,
}

impl Cluster {
    async fn of(lab: &Lab, count: usize) -> Result<Cluster, Failure> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            redis: Vec::new(),
            prefix: lab.unique("chat"),
        };
        for _ in 0..count {
            let redis = lab.redis().await?;
            cluster
                .nodes
                .push(House::open(cluster.options(redis.url())).await?);
            cluster.redis.push(redis);
        }
        Ok(cluster)
    }

    fn options(&self, url: String) -> Options {
        Options {
            redis: Some(url),
            prefix: self.prefix.clone(),
            ..roomy()
        }
    }
}

/// The numbers and texts of what somebody heard, which have to rise.
fn heard(lab: &Lab, person: &Person) -> Result<Vec<(u64, String)>, Failure> {
    let mut last = 0;
    let mut all = Vec::new();
    for message in person.messages() {
        let number = seq(&message);
        lab.history().record(
            &person.name,
            What::Delivered { deliveries: 0 },
            &number.to_string(),
        );
        ensure!(
            number > last,
            (number == last).then_some("CS18"),
            "{} got message number {last}, and then number {number}",
            person.name
        );
        last = number;
        all.push((
            number,
            message["text"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    Ok(all)
}

async fn a_message_reaches_every_node_once_and_not_its_sender(lab: Lab) -> Outcome {
    lab.promise("A message reaches every other member of its room, on whatever node that is, exactly once; and not its sender.");
    let cluster = Cluster::of(&lab, 3).await?;
    let mut people = Vec::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        for m in 0..2 {
            people.push(Person::in_room(&lab, node.addr, &format!("p{n}-{m}"), "tea").await?);
        }
    }
    let elsewhere = Person::in_room(&lab, cluster.nodes[1].addr, "elsewhere", "cake").await?;
    for round in 0..4 {
        for person in &people {
            person
                .say("tea", &format!("{} {round}", person.name))
                .await?;
        }
    }
    for person in &people {
        person.has_heard(4 * 5).await?;
    }
    let late = Person::in_room(&lab, cluster.nodes[2].addr, "late", "tea").await?;
    late.say("tea", "the end").await?;
    for person in &people {
        person
            .until(&format!("{} to hear the last message", person.name), |f| {
                f["text"] == "the end"
            })
            .await?;
        let own = person.messages().iter().any(|m| m["from"] == *person.name);
        ensure!(!own, "CS18", "{} got its own message back", person.name);
        let count = heard(&lab, person)?.len();
        ensure!(
            count == 21,
            "the other five said 20 messages, and one came at the end; {} got {count}",
            person.name
        );
    }
    ensure!(
        elsewhere.messages().is_empty(),
        "a member of another room got a message"
    );
    Ok(())
}

async fn numbers_are_the_same_on_all_nodes(lab: Lab) -> Outcome {
    lab.promise("A message has the same number on every node: 1, 2, 3 … in each room, however many speak at once on however many nodes; and all see them in that order.");
    let cluster = Cluster::of(&lab, 2).await?;
    let people = try_join_all((0..6).map(|n| {
        let (lab, addr) = (lab.clone(), cluster.nodes[n % 2].addr);
        async move { Person::in_room(&lab, addr, &format!("p{n}"), "tea").await }
    }))
    .await?;
    const EACH: usize = 25;
    let saying = people.iter().map(async |person| {
        for n in 0..EACH {
            person.say("tea", &format!("{} {n}", person.name)).await?;
        }
        person.has_heard(5 * EACH).await
    });
    join_all(saying)
        .await
        .into_iter()
        .collect::<Result<(), _>>()?;
    let mut numbered: BTreeMap<u64, String> = BTreeMap::new();
    for person in &people {
        let mut last = 0;
        for message in person.messages() {
            let number = seq(&message);
            ensure!(
                number > last,
                "CS15",
                "{} got message number {last}, and then number {number}",
                person.name
            );
            last = number;
            let text = message["text"].as_str().unwrap_or_default().to_owned();
            let known = numbered.entry(number).or_insert_with(|| text.clone());
            ensure!(
                *known == text,
                "CS15",
                "message number {number} is {known:?} for one member, and {text:?} for {}",
                person.name
            );
        }
    }
    let numbers: Vec<u64> = numbered.keys().copied().collect();
    let all = (6 * EACH) as u64;
    ensure!(
        numbers.iter().copied().eq(1..=all),
        "CS15",
        "{all} messages were said, so their numbers should be 1 to {all}; there are {} from {:?} to {:?}",
        numbers.len(),
        numbers.first(),
        numbers.last()
    );
    Ok(())
}

async fn who_and_names_are_the_same_on_all_nodes(lab: Lab) -> Outcome {
    lab.promise("`who` lists the members on all nodes. Joins and leaves are told to members on all nodes, once. A name that is taken on one node is taken on all, and free on all when its connection has ended.");
    let cluster = Cluster::of(&lab, 2).await?;
    let (one, two) = (cluster.nodes[0].addr, cluster.nodes[1].addr);
    let ada = Person::in_room(&lab, one, "ada", "tea").await?;
    let bob = Person::in_room(&lab, two, "bob", "tea").await?;
    ada.until("ada to be told that bob joined at another node", |f| {
        is(f, "joined") && f["name"] == "bob"
    })
    .await?;
    for person in [&ada, &bob] {
        let listing = person.who("tea").await?;
        ensure!(
            listing == ["ada", "bob"],
            (listing == [person.name.as_str()]).then_some("CS24"),
            "ada is in `tea` at one node and bob at another; {} is told {}",
            person.name,
            listed(&listing)
        );
    }
    for (addr, name) in [(one, "bob"), (two, "ada")] {
        refused(
            &lab,
            &knock(addr, name),
            "a name that is taken at another node",
            409,
            "name_taken",
        )
        .await?;
    }
    bob.leave("tea").await?;
    ada.sees_leave("bob", "tea").await?;
    bob.join("tea").await?;
    bob.socket.cut().await;
    ada.sees_leave("bob", "tea").await?;
    let again = enter_when_free(&lab, one, "bob").await?;
    again.join("tea").await?;
    refused(
        &lab,
        &knock(two, "bob"),
        "the name `bob`, taken anew",
        409,
        "name_taken",
    )
    .await?;
    let listing = ada.who("tea").await?;
    ensure!(
        listing == ["ada", "bob"],
        "ada and bob are in `tea`; `who` says {}",
        listed(&listing)
    );
    again.say("tea", "the end").await?;
    ada.until("ada to hear bob", |f| is(f, "message")).await?;
    ensure!(
        ada.leaves_of("bob", "tea") == 2,
        "bob left twice, and a member on another node was told {} times",
        ada.leaves_of("bob", "tea")
    );
    Ok(())
}

async fn a_race_for_a_name_over_two_nodes_has_one_winner(lab: Lab) -> Outcome {
    lab.promise("Of forty connections that ask two nodes for the same name at the same moment exactly one gets it.");
    let cluster = Cluster::of(&lab, 2).await?;
    for round in 0..4 {
        let name = format!("winner{round}");
        let asking = (0..40).map(|n| {
            let (handshake, lab) = (knock(cluster.nodes[n % 2].addr, &name), lab.clone());
            tokio::spawn(async move { handshake.ask(&lab).await })
        });
        let mut winners = Vec::new();
        for answer in join_all(asking).await {
            match answer?? {
                Answer::Upgraded(socket) => winners.push(socket),
                Answer::Refused(refused) => ensure!(
                    refused.status == 409,
                    "of forty handshakes for one name one was answered with {} {}",
                    refused.status,
                    refused.body
                ),
            }
        }
        ensure!(
            winners.len() == 1,
            (winners.len() > 1).then_some("CS11"),
            "forty connections asked two nodes for the name `{name}`, and {} got it",
            winners.len()
        );
    }
    Ok(())
}

async fn who_has_closed_can_come_back_at_once(lab: Lab) -> Outcome {
    lab.promise("When a close is answered, the name is free on all nodes and the client has left its rooms: a page that is loaded anew gets its name.");
    let cluster = Cluster::of(&lab, 2).await?;
    let ada = Person::in_room(&lab, cluster.nodes[1].addr, "ada", "tea").await?;
    for node in [0, 1, 0] {
        let name = lab.unique("bob");
        let handshake = knock(cluster.nodes[0].addr, &name).without_close();
        let bob = Person::through(&lab, &handshake, &name).await?;
        bob.join("tea").await?;
        ada.until("ada to be told that bob joined", |f| f["name"] == *name)
            .await?;
        // What gives the name back takes its time.
        let wanted = name.clone();
        let _slow = cluster.redis[0].proxy().arm(
            Trigger::request(move |command| command.args(0).contains(&wanted.as_str())),
            Action::Delay(Duration::from_millis(700)),
        );
        bob.socket.send(&Frame::close(1000, "")).await?;
        bob.socket
            .next_where("the answer to a close", |seen| {
                matches!(seen, Seen::Close(..))
            })
            .await?;
        match knock(cluster.nodes[node].addr, &name).ask(&lab).await? {
            Answer::Upgraded(_) => {}
            Answer::Refused(refused) => lab::fail!(
                "a client closed, and its Close was answered; at {} its name was then refused with {} {}: the answer comes when the name is free",
                if node == 0 {
                    "the same node"
                } else {
                    "another node"
                },
                refused.status,
                refused.body
            ),
        }
    }
    Ok(())
}

/// Arguments of a node as a process.
fn arguments<'a>(url: &'a str, prefix: &'a str) -> [&'a str; 8] {
    [
        "--redis",
        url,
        "--prefix",
        prefix,
        "--rate",
        "0",
        "--heartbeat",
        "1h",
    ]
}

async fn a_dead_nodes_members_leave(lab: Lab) -> Outcome {
    lab.promise("When a node is killed, its members leave within a few seconds, each told once; `who` does not list them any more, and their names are free.");
    let cluster = Cluster::of(&lab, 2).await?;
    let redis = lab.redis().await?;
    let doomed = Node::start(&lab, &arguments(&redis.url(), &cluster.prefix)).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let eve = Person::in_room(&lab, cluster.nodes[1].addr, "eve", "tea").await?;
    let bob = Person::in_room(&lab, doomed.addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, doomed.addr, "cem", "tea").await?;
    bob.join("cake").await?;
    bob.say("tea", "hello from the third node").await?;
    ada.until("ada to hear bob", |f| is(f, "message")).await?;
    lab.history().fault("node of bob and cem", "killed");
    doomed.service.kill();
    doomed.service.wait().await?;
    for name in ["bob", "cem"] {
        lab.eventually(
            &format!("ada and eve to be told that {name} left with its node"),
            || async {
                Ok(
                    (ada.leaves_of(name, "tea") > 0 && eve.leaves_of(name, "tea") > 0)
                        .then_some(()),
                )
            },
        )
        .await
        .map_err(|failure| failure.code("CS21"))?;
    }
    let listing = ada.who("tea").await?;
    ensure!(
        listing == ["ada", "eve"],
        "CS21",
        "the node of bob and cem is dead; `who` says {}",
        listed(&listing)
    );
    let again = enter_when_free(&lab, cluster.nodes[1].addr, "bob")
        .await
        .map_err(|failure| failure.code("CS21"))?;
    again.join("tea").await?;
    again.say("tea", "back").await?;
    for person in [&ada, &eve] {
        person
            .until("the others to hear bob again", |f| f["text"] == "back")
            .await?;
        for name in ["bob", "cem"] {
            ensure!(
                person.leaves_of(name, "tea") == 1,
                "{name} left with its node, and {} was told {} times",
                person.name,
                person.leaves_of(name, "tea")
            );
        }
    }
    drop(cem);
    Ok(())
}

async fn a_paused_node_that_was_taken_for_dead_comes_back_well(lab: Lab) -> Outcome {
    lab.promise("A node that was paused for so long that the others took it for dead comes back well: its clients are members again, with all that was said meanwhile, or their connections end. Whose name was given to somebody else meanwhile has to go.");
    let cluster = Cluster::of(&lab, 1).await?;
    let redis = lab.redis().await?;
    let node = Node::start(&lab, &arguments(&redis.url(), &cluster.prefix)).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, node.addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, node.addr, "cem", "tea").await?;
    ada.say("tea", "before").await?;
    cem.until("cem to hear ada", |f| f["text"] == "before")
        .await?;
    lab.history().fault("node of bob and cem", "paused");
    node.service.pause();
    for name in ["bob", "cem"] {
        lab.eventually(
            &format!("ada to be told that {name} left: its node is paused"),
            || async { Ok((ada.leaves_of(name, "tea") > 0).then_some(())) },
        )
        .await
        .map_err(|failure| failure.code("CS21"))?;
    }
    let heir = enter_when_free(&lab, cluster.nodes[0].addr, "bob").await?;
    heir.join("tea").await?;
    for n in 0..10 {
        ada.say("tea", &format!("meanwhile {n}")).await?;
    }
    heir.has_heard(10).await?;
    lab.history().fault("node of bob and cem", "goes on");
    node.service.resume();
    bob.socket
        .next_where(
            "the connection of the first bob to end: his name belongs to another now",
            |seen| seen.is_final(),
        )
        .await?;
    let gone = |person: &Person| person.socket.count(Seen::is_final) > 0;
    lab.eventually(
        "cem to be a member again, or to lose the connection",
        || async {
            if gone(&cem) {
                return Ok(Some(()));
            }
            Ok(ada
                .who("tea")
                .await?
                .contains(&"cem".to_owned())
                .then_some(()))
        },
    )
    .await?;
    ada.say("tea", "after").await?;
    heir.until("the new bob to hear ada", |f| f["text"] == "after")
        .await?;
    lab.eventually(
        "cem to hear what was said, or to lose the connection",
        || async {
            Ok((gone(&cem) || cem.messages().iter().any(|m| m["text"] == "after")).then_some(()))
        },
    )
    .await?;
    let texts: Vec<String> = heard(&lab, &cem)?
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let whole = [
        &["before".to_owned()][..],
        &(0..10)
            .map(|n| format!("meanwhile {n}"))
            .collect::<Vec<_>>(),
        &["after".to_owned()],
    ]
    .concat();
    ensure!(
        if gone(&cem) {
            whole.starts_with(&texts)
        } else {
            texts == whole
        },
        "cem's node was paused and went on; of what was said before, meanwhile and after he got {texts:?}"
    );
    let expected: &[&str] = if gone(&cem) {
        &["ada", "bob"]
    } else {
        &["ada", "bob", "cem"]
    };
    lab.eventually(
        &format!(
            "both nodes to agree that in the room are {}",
            listed(expected)
        ),
        || async {
            let mut agree = ada.who("tea").await? == expected;
            if !gone(&cem) {
                agree &= cem.who("tea").await? == expected;
            }
            Ok(agree.then_some(()))
        },
    )
    .await?;
    Ok(())
}

async fn what_was_said_while_a_node_was_cut_off_arrives(lab: Lab) -> Outcome {
    lab.promise("A node whose connection to Redis was lost catches up with what was said meanwhile, in order, each message once. What is said to it while it is cut off is heard by all, or answered with `unavailable`.");
    let cluster = Cluster::of(&lab, 2).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, cluster.nodes[1].addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, cluster.nodes[1].addr, "cem", "tea").await?;
    let proxy = cluster.redis[1].proxy();
    let mut said = 0;
    let mut own = 0;
    for outage in [
        "cut and back at once",
        "cut, and away for a while",
        "cut, and away once more",
    ] {
        for _ in 0..5 {
            ada.say("tea", &format!("ada {said}")).await?;
            said += 1;
        }
        proxy.refuse(outage != "cut and back at once");
        proxy.cut_all();
        for _ in 0..10 {
            ada.say("tea", &format!("ada {said}")).await?;
            said += 1;
        }
        if outage != "cut and back at once" {
            for _ in 0..3 {
                bob.say("tea", &format!("bob {own}")).await?;
                own += 1;
            }
            lab.within(Duration::from_millis(300)).await;
        }
        proxy.refuse(false);
        for _ in 0..5 {
            ada.say("tea", &format!("ada {said}")).await?;
            said += 1;
        }
        lab.eventually(
            "cem, whose node was cut off, to hear everything that ada said",
            || async {
                let from_ada = cem.messages().iter().filter(|m| m["from"] == "ada").count();
                Ok((from_ada >= said).then_some(()))
            },
        )
        .await
        .map_err(|failure| {
            failure
                .code("CS20")
                .also(format!("the connection was {outage}"))
        })?;
        // Every message of bob was refused, or is heard by both others.
        lab.eventually(
            "each of bob's messages to be refused as `unavailable`, or heard by ada and cem",
            || async {
                let refused = bob
                    .frames()
                    .iter()
                    .filter(|f| f["code"] == "unavailable")
                    .count();
                let of_bob =
                    |p: &Person| p.messages().iter().filter(|m| m["from"] == "bob").count();
                Ok((refused + of_bob(&ada) >= own && refused + of_bob(&cem) >= own).then_some(()))
            },
        )
        .await?;
    }
    for person in [&ada, &bob, &cem] {
        let all = heard(&lab, person)?;
        let from_ada: Vec<&str> = all
            .iter()
            .map(|(_, text)| text.as_str())
            .filter(|t| t.starts_with("ada"))
            .collect();
        let expected: Vec<String> = (0..said).map(|n| format!("ada {n}")).collect();
        ensure!(
            person.name == "ada" || from_ada == expected,
            "CS20",
            "ada said {said} messages; {} got {} of them, and not each once in order",
            person.name,
            from_ada.len()
        );
    }
    Ok(())
}

/// Other rooms of other nodes: so much happens there that the log is cut by all that it had before.
async fn much_happens_elsewhere(redis: &Redis, prefix: &str) -> Outcome {
    let log = format!("{prefix}:log");
    let mut connection = redis.direct().await?;
    // The id of an entry, or nothing.
    type Entries = Vec<(String, BTreeMap<String, String>)>;
    let id = |entries: &Entries| {
        let (time, count) = entries.first()?.0.split_once('-')?;
        Some((time.parse::<u64>().ok()?, count.parse::<u64>().ok()?))
    };
    let last: Entries = redis::cmd("XREVRANGE")
        .arg(&[&log, "+", "-", "COUNT", "1"])
        .query_async(&mut connection)
        .await?;
    let () = redis::Script::new(
        "for n = 1, 10500 do
           redis.call('XADD', KEYS[1], 'MAXLEN', '~', '10000', '*', 'type', 'message', 'room', 'elsewhere',
             'seq', n, 'from', 'somebody', 'text', 'x', 'at', '2025-01-01T00:00:00Z', 'node', 'elsewhere')
         end",
    )
    .key(&log)
    .invoke_async(&mut connection)
    .await?;
    let first: Entries = redis::cmd("XRANGE")
        .arg(&[&log, "-", "+", "COUNT", "1"])
        .query_async(&mut connection)
        .await?;
    if id(&first) <= id(&last) {
        return Err(Failure::infrastructure(
            "this Redis did not cut the log although it was asked to",
        ));
    }
    Ok(())
}

async fn a_node_that_slept_while_the_log_was_cut_skips_nothing(lab: Lab) -> Outcome {
    lab.promise("A node whose process was paused, and whose connections were not lost, goes on well, also when the log was cut meanwhile by more than it had read: its members get every message that is kept, once and in order, or their connections end.");
    let cluster = Cluster::of(&lab, 1).await?;
    let redis = lab.redis().await?;
    let node = Node::start(&lab, &arguments(&redis.url(), &cluster.prefix)).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let eve = Person::in_room(&lab, cluster.nodes[0].addr, "eve", "tea").await?;
    let bob = Person::in_room(&lab, node.addr, "bob", "tea").await?;
    let gone = || bob.socket.count(Seen::is_final) > 0;
    let mut said = Vec::new();
    // More than once: whoever happens to connect again meanwhile looks for its place because of that.
    for round in 0..2 {
        for moment in ["before", "meanwhile", "after"] {
            match moment {
                "meanwhile" => {
                    bob.has_heard(said.len()).await?;
                    lab.history().fault("node of bob", "paused");
                    node.service.pause();
                }
                // At once: the longer the pause, the more likely is a connection that is given up.
                "after" => {
                    much_happens_elsewhere(&redis, &cluster.prefix).await?;
                    lab.history().fault("log", "cut");
                    node.service.resume();
                    lab.history().fault("node of bob", "goes on");
                }
                _ => {}
            }
            for n in 0..5 {
                let text = format!("{moment} {round}.{n}");
                ada.say("tea", &text).await?;
                said.push(text);
            }
            eve.has_heard(said.len()).await?;
        }
        let last = said.last().cloned().unwrap_or_default();
        lab.eventually(
            "bob to hear what is said after his node went on, or to lose the connection",
            || async {
                Ok((gone() || bob.messages().iter().any(|m| m["text"] == *last)).then_some(()))
            },
        )
        .await
        .map_err(|failure| failure.code("CS25"))?;
        let texts: Vec<String> = heard(&lab, &bob)?
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        let missed: Vec<&String> = said.iter().filter(|text| !texts.contains(text)).collect();
        if gone() {
            ensure!(
                said.starts_with(&texts),
                "bob's connection ended after his node was paused; before that messages were left out: he got {texts:?}"
            );
            return Ok(());
        }
        ensure!(
            missed.is_empty(),
            "CS25",
            "bob's node was paused, and the log was cut; all messages are kept in the room, and bob, who is still connected, never got {missed:?}"
        );
        ensure!(texts == said, "ada said {said:?}; bob got {texts:?}");
    }
    Ok(())
}

async fn a_message_whose_reply_is_lost_is_said_once(lab: Lab) -> Outcome {
    lab.promise("A message that Redis has taken, and whose reply was lost with the connection, is tried again and counts once.");
    let cluster = Cluster::of(&lab, 2).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, cluster.nodes[0].addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, cluster.nodes[1].addr, "cem", "tea").await?;
    ada.say("tea", "before").await?;
    cem.has_heard(1).await?;
    for round in 0..3 {
        let text = format!("once {round}");
        let marked = text.clone();
        let lost = cluster.redis[0].proxy().arm(
            Trigger::request(move |command| {
                command.args(0).iter().any(|word| word.contains(&marked))
            }),
            Action::CutAfter,
        );
        ada.say("tea", &text).await?;
        lab.eventually("the message to go to Redis", || async {
            Ok(lost.has_fired().then_some(()))
        })
        .await?;
        let last = format!("after {round}");
        lab.eventually("ada to be heard after the connection was lost", || async {
            ada.say("tea", &last).await?;
            lab.within(Duration::from_millis(100)).await;
            let heard = |person: &Person| person.messages().iter().any(|m| m["text"] == *last);
            Ok((heard(&bob) && heard(&cem)).then_some(()))
        })
        .await?;
        for person in [&bob, &cem] {
            let times = person
                .messages()
                .iter()
                .filter(|m| m["text"] == *text)
                .count();
            ensure!(
                times == 1,
                "the reply to a message of ada was lost after Redis had taken it, and the connection was back at once; {} heard it {times} times",
                person.name
            );
        }
    }
    Ok(())
}

async fn a_node_that_finds_the_log_cut_takes_the_history(lab: Lab) -> Outcome {
    lab.promise("The log is cut at some ten thousand entries. A node that was cut off for so long that what it has not read is gone from the log goes on at its end, and its members get what they missed from the history of the room.");
    let cluster = Cluster::of(&lab, 2).await?;
    let ada = Person::in_room(&lab, cluster.nodes[0].addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, cluster.nodes[0].addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, cluster.nodes[1].addr, "cem", "tea").await?;
    ada.say("tea", "0").await?;
    cem.has_heard(1).await?;
    let proxy = cluster.redis[1].proxy();
    lab.history().fault("node of cem", "cut off from Redis");
    proxy.refuse(true);
    proxy.cut_all();
    const SAID: usize = 30;
    for n in 1..SAID {
        ada.say("tea", &n.to_string()).await?;
    }
    bob.has_heard(SAID).await?;
    lab.history().fault("Redis", "the log is cut");
    let key = format!("{}:log", cluster.prefix);
    redis::cmd("XTRIM")
        .arg(&[&key, "MAXLEN", "2"])
        .exec_async(&mut cluster.redis[0].direct().await?)
        .await?;
    proxy.refuse(false);
    lab.eventually("cem to hear what was said while his node was cut off", || async {
        Ok((cem.messages().len() >= SAID).then_some(()))
    })
    .await
    .map_err(|failure| {
        failure.code("CS20").also(format!(
            "what his node had not read was gone from the log, and kept in the room; he heard {} of {SAID} messages",
            cem.messages().len()
        ))
    })?;
    ada.say("tea", "live").await?;
    cem.until("cem to hear what is said after that", |f| {
        f["text"] == "live"
    })
    .await?;
    let numbers: Vec<u64> = heard(&lab, &cem)?.into_iter().map(|(n, _)| n).collect();
    ensure!(
        numbers.iter().copied().eq(1..=SAID as u64 + 1),
        "cem was to hear messages 1 to {}, each once; he heard {numbers:?}",
        SAID + 1
    );
    Ok(())
}

async fn nothing_accepted_is_lost_when_redis_dies(lab: Lab) -> Outcome {
    lab.promise("When Redis is killed and started again, no message that was accepted is lost or doubled, numbers go on without a gap, members stay members, and meanwhile messages are refused with `unavailable` and newcomers with 503.");
    let redis = lab.own_redis().await?;
    let prefix = lab.unique("chat");
    let options = || Options {
        redis: Some(redis.url()),
        prefix: prefix.clone(),
        ..roomy()
    };
    let one = House::open(options()).await?;
    let two = House::open(options()).await?;
    let ada = Person::in_room(&lab, one.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, two.addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, one.addr, "cem", "tea").await?;
    let refusals = || {
        ada.frames()
            .iter()
            .filter(|f| f["code"] == "unavailable")
            .count()
    };
    let mut accepted = Vec::new();
    let mut away = false;
    for n in 0..60 {
        let text = format!("message {n}");
        let before = refusals();
        ada.say("tea", &text).await?;
        let taken = lab
            .eventually(
                "a message to be heard at the other node, or refused as `unavailable`",
                || async {
                    let heard = bob.messages().iter().any(|m| m["text"] == *text);
                    if heard {
                        return Ok(Some(true));
                    }
                    Ok((refusals() > before).then_some(false))
                },
            )
            .await?;
        if taken {
            accepted.push(text);
        }
        if n == 20 {
            lab.history().fault("Redis", "killed");
            redis.kill().await?;
            away = true;
        }
        if away && !taken {
            let answer = refused(
                &lab,
                &knock(one.addr, "dai"),
                "a newcomer while Redis is away",
                503,
                "unavailable",
            )
            .await?;
            ensure!(
                answer.header("retry-after").is_some(),
                "a 503 says when to try again: it has no Retry-After"
            );
            lab.history().fault("Redis", "started again");
            redis.start().await?;
            away = false;
            lab.within(Duration::from_millis(200)).await;
        }
        if n > 21 && !taken {
            lab.within(Duration::from_millis(100)).await;
        }
    }
    ensure!(
        accepted.len() > 21,
        "Redis is back, and no message is accepted any more"
    );
    for person in [&bob, &cem] {
        lab.eventually(
            &format!("{} to hear everything that was accepted", person.name),
            || async {
                let texts: Vec<String> = person
                    .messages()
                    .iter()
                    .map(|m| m["text"].as_str().unwrap_or_default().to_owned())
                    .collect();
                Ok(accepted
                    .iter()
                    .all(|text| texts.contains(text))
                    .then_some(()))
            },
        )
        .await
        .map_err(|failure| failure.code("CS20"))?;
        let all = heard(&lab, person)?;
        for (n, (number, text)) in all.iter().enumerate() {
            ensure!(
                *number == n as u64 + 1,
                "{} got {text:?} as number {number}; number {} was to come next",
                person.name,
                n + 1
            );
            let times = all.iter().filter(|(_, other)| other == text).count();
            ensure!(times == 1, "{} got {text:?} {times} times", person.name);
        }
    }
    lab.eventually("`who` to list ada, bob and cem on both nodes", || async {
        let everybody = ["ada", "bob", "cem"];
        let same =
            |names: Result<Vec<String>, Failure>| names.is_ok_and(|names| names == everybody);
        Ok((same(ada.who("tea").await) && same(bob.who("tea").await)).then_some(()))
    })
    .await?;
    Ok(())
}

async fn history_outlives_the_nodes(lab: Lab) -> Outcome {
    lab.promise("History lives in Redis: who comes back after all nodes were started anew gets what was said before, and the numbers go on.");
    let redis = lab.redis().await?;
    let prefix = lab.unique("chat");
    let first = Node::start(&lab, &arguments(&redis.url(), &prefix)).await?;
    let ada = Person::in_room(&lab, first.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, first.addr, "bob", "tea").await?;
    for n in 1..=20 {
        ada.say("tea", &n.to_string()).await?;
    }
    bob.has_heard(20).await?;
    let live = bob.messages();
    first.service.kill();
    first.service.wait().await?;
    let second = Node::start(&lab, &arguments(&redis.url(), &prefix)).await?;
    let bob = enter_when_free(&lab, second.addr, "bob").await?;
    let joined = bob.join_since("tea", 7).await?;
    ensure!(
        joined["seq"] == 20,
        "20 messages were said before the node was started anew; `joined` has the `seq` {}",
        joined["seq"]
    );
    for expected in &live[7..] {
        // The members of the dead node may be announced as gone in between.
        let frame = bob
            .until(&format!("message {}", expected["seq"]), |f| {
                is(f, "message") || is(f, "error")
            })
            .await?;
        ensure!(
            frame == *expected,
            "{} was said before the node was started anew; replayed was {}",
            short(expected),
            short(&frame)
        );
    }
    let cem = Person::in_room(&lab, second.addr, "cem", "tea").await?;
    cem.say("tea", "new").await?;
    let next = bob.until("the next message", |f| is(f, "message")).await?;
    ensure!(
        seq(&next) == 21,
        "after number 20 comes 21; the next message was {}",
        short(&next)
    );
    Ok(())
}

async fn rooms_are_streams_under_the_prefix(lab: Lab) -> Outcome {
    lab.promise("Each room is a Redis stream `PREFIX:room:ROOM` whose entries have the fields seq, from, text, at and node, no longer than the history, and is gone after a week of silence; and every key begins with the prefix, so that two chats can share a Redis.");
    let redis = lab.redis().await?;
    let prefixes = [lab.unique("chat"), lab.unique("chat")];
    let mut houses = Vec::new();
    for prefix in &prefixes {
        let options = Options {
            redis: Some(redis.url()),
            prefix: prefix.clone(),
            history: 20,
            ..roomy()
        };
        houses.push(House::open(options).await?);
    }
    let ada = Person::in_room(&lab, houses[0].addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, houses[0].addr, "bob", "tea").await?;
    let other = Person::in_room(&lab, houses[1].addr, "ada", "tea").await?;
    for n in 1..=50 {
        ada.say("tea", &format!("text {n}")).await?;
    }
    bob.has_heard(50).await?;
    let key = format!("{}:room:tea", prefixes[0]);
    type Entries = Vec<(String, BTreeMap<String, String>)>;
    let entries: Entries = redis::cmd("XRANGE")
        .arg(&[&key, "-", "+"])
        .query_async(&mut redis.direct().await?)
        .await?;
    ensure!(
        entries.len() == 20,
        "50 messages were said and 20 are to be kept; the stream {key} has {} entries",
        entries.len()
    );
    for ((_, fields), number) in entries.iter().zip(31..) {
        let right = fields.get("seq").map(String::as_str) == Some(number.to_string().as_str())
            && fields.get("from").map(String::as_str) == Some("ada")
            && fields.get("text") == Some(&format!("text {number}"))
            && fields.contains_key("at")
            && fields.contains_key("node");
        ensure!(
            right,
            "the entry of message {number} has the fields {fields:?}"
        );
    }
    let lifetime: i64 = redis::cmd("TTL")
        .arg(&key)
        .query_async(&mut redis.direct().await?)
        .await?;
    let week = 7 * 24 * 60 * 60;
    ensure!(
        (week - 3_600..=week).contains(&lifetime),
        "a room is gone after a week of silence; {key} goes {}",
        match lifetime {
            ..0 => "never".to_owned(),
            _ => format!("in {lifetime} seconds"),
        }
    );
    ensure!(
        other.who("tea").await? == ["ada"] && other.messages().is_empty(),
        "two chats with prefixes of their own share a Redis, and one sees the other"
    );
    let foreign = redis.proxy().log().into_iter().find(|exchange| {
        let keyed = [
            "XADD", "SET", "HSET", "SADD", "ZADD", "PUBLISH", "XREAD", "GET", "SMEMBERS",
            "HGETALL", "DEL", "SREM", "ZREM", "HDEL", "EXPIRE", "PEXPIRE",
        ];
        keyed.iter().any(|name| exchange.is(name))
            && !exchange.is("XREAD")
            && !prefixes
                .iter()
                .any(|prefix| exchange.arg(1).starts_with(&format!("{prefix}:")))
    });
    ensure!(
        foreign.is_none(),
        "every key begins with the prefix; this one does not: {}",
        foreign
            .map(|e| format!("{} {}", e.name(), e.arg(1)))
            .unwrap_or_default()
    );
    Ok(())
}

async fn a_node_does_not_start_without_its_redis(lab: Lab) -> Outcome {
    lab.promise("A node that cannot reach its Redis at the start does not serve: the service ends with exit code 69, and says why without the password.");
    // It works with a Redis that is there.
    let redis = lab.redis().await?;
    let prefix = lab.unique("chat");
    let node = Node::start(&lab, &arguments(&redis.url(), &prefix)).await?;
    let ada = Person::in_room(&lab, node.addr, "ada", "tea").await?;
    ada.ask(json!({"type": "who", "room": "tea"})).await?;
    ada.until("the answer to `who`", |f| is(f, "members"))
        .await?;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = closed.local_addr()?.port();
    drop(closed);
    let url = format!("redis://:s3cret@127.0.0.1:{port}");
    let service = lab
        .service(["--listen", "127.0.0.1:0", "--redis", &url])
        .start()?;
    let status = service.wait().await?;
    ensure!(
        status.code() == Some(69),
        "without its Redis the service ended with {status}; it wants 69. It said: {}",
        service.stderr()
    );
    ensure!(
        !service.stderr().contains("s3cret"),
        "the password stands in what the service says"
    );
    Ok(())
}
