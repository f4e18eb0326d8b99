//! Stage 9: a stop is announced, bounded, and loses nothing that was accepted.

use std::time::{Duration, Instant};

use chat_server::Options;
use futures::future::{join_all, try_join_all};
use lab::clients::ws::{Answer, Handshake, Seen};
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::json;

use crate::house::{House, Node, enter_when_free, knock, on_a_fair_clock, roomy};
use crate::person::Person;

pub fn checks() -> Vec<Check> {
    lab::checks![
        everybody_is_told_goodbye_with_1001,
        stalled_clients_do_not_hold_up_the_stop_for_ever,
        what_was_accepted_before_the_stop_is_delivered,
        a_slow_reader_gets_what_was_accepted_before_its_goodbye,
        everybody_leaves_at_the_beginning_of_a_stop,
        nobody_is_let_in_while_it_stops,
        members_of_a_node_that_stops_leave,
        a_stop_without_redis_keeps_its_deadline,
        sigterm_ends_the_service_with_exit_code_0,
    ]
}

/// Waits for the close of a client that reads, and holds it to 1001.
async fn told_goodbye(who: &str, person: &Person) -> Outcome {
    let code = person
        .socket
        .closed(&format!("{who} to be told goodbye"))
        .await
        .map_err(|failure| failure.code("CS06"))?;
    ensure!(
        code == Some(1001),
        "CS06",
        "the server stopped, and {who} was closed with {code:?}; it wants 1001"
    );
    Ok(())
}

/// Somebody who takes nothing any more, with so much on the way that nothing more can be written.
async fn stalled(lab: &Lab, house: &House, name: &str) -> Result<Person, Failure> {
    let handshake = knock(house.addr, name)
        .receive_buffer(4_096)
        .without_pongs()
        .without_close();
    let person = Person::through(lab, &handshake, name).await?;
    person.join("loud").await?;
    person.socket.stop_reading();
    Ok(person)
}

async fn fill(lab: &Lab, house: &House) -> Outcome {
    let loud = Person::in_room(lab, house.addr, "loud", "loud").await?;
    let reader = Person::in_room(lab, house.addr, "reader", "loud").await?;
    for n in 0..60 {
        loud.say("loud", &format!("{n} {}", "x".repeat(40_000)))
            .await?;
    }
    reader.has_heard(60).await
}

async fn everybody_is_told_goodbye_with_1001(lab: Lab) -> Outcome {
    lab.promise("At a stop every client is told goodbye with 1001, on `/echo` too, however many there are, and `serve` returns when they are gone. Clients that do not read do not keep the others from it.");
    let options = Options {
        stop_deadline: Duration::from_secs(2),
        ..roomy()
    };
    let mut house = House::open(options).await?;
    let mut asleep = Vec::new();
    for n in 0..3 {
        asleep.push(stalled(&lab, &house, &format!("asleep{n}")).await?);
    }
    fill(&lab, &house).await?;
    let mut people = Vec::new();
    for chunk in (0..200).collect::<Vec<_>>().chunks(20) {
        let coming = chunk.iter().map(async |n| {
            let room = format!("room{}", n % 10);
            Person::in_room(&lab, house.addr, &format!("p{n}"), &room).await
        });
        people.extend(try_join_all(coming).await?);
    }
    let echo = Handshake::new(house.addr, "/echo").connect(&lab).await?;
    let echo = Person::on(echo, "the client of /echo", &lab);
    lab.history().fault("node", "asked to stop");
    house.stop();
    let told = join_all(
        people
            .iter()
            .chain([&echo])
            .map(|person| told_goodbye(&person.name, person)),
    )
    .await;
    let missed: Vec<_> = told.into_iter().filter_map(Result::err).collect();
    if let Some(first) = missed.first() {
        return Err(first
            .clone()
            .also(format!("so it was for {} of 201 clients", missed.len())));
    }
    house
        .ended(&lab, "`serve` to return after everybody was told")
        .await
        .map_err(|f| f.code("CS23"))?;
    Ok(())
}

async fn stalled_clients_do_not_hold_up_the_stop_for_ever(lab: Lab) -> Outcome {
    lab.promise("`serve` returns within `stop_deadline`, also when clients read nothing, answer nothing, or are in the middle of a handshake.");
    on_a_fair_clock(&lab, [1_000, 1_000, 4_000], |stop_deadline| {
        let lab = lab.clone();
        async move {
            let mut house = House::open(Options { stop_deadline, ..roomy() }).await?;
            let _silent = tokio::net::TcpStream::connect(house.addr).await?;
            let _asleep = stalled(&lab, &house, "asleep").await?;
            let mute = knock(house.addr, "mute").without_close().connect(&lab).await?;
            fill(&lab, &house).await?;
            let began = Instant::now();
            house.stop();
            house
                .ended(&lab, "`serve` to return although a client does not read")
                .await
                .map_err(|failure| failure.code("CS23"))?;
            let took = began.elapsed();
            // Far more than any machine needs for the last steps, when it was not held up.
            ensure!(
                took < stop_deadline + Duration::from_millis(2_500),
                "CS23",
                "`stop_deadline` is {stop_deadline:?}, a client does not read, and `serve` returned {took:.1?} after it was asked to stop"
            );
            let code = mute.closed("the goodbye of a client that reads and does not answer").await?;
            ensure!(
                code == Some(1001),
                "CS06",
                "a client that reads was not told goodbye with 1001, but with {code:?}"
            );
            Ok(())
        }
    })
    .await
}

async fn what_was_accepted_before_the_stop_is_delivered(lab: Lab) -> Outcome {
    lab.promise("What was said before the stop reaches the members before their goodbye.");
    for round in 0..5 {
        let mut house = House::open(roomy()).await?;
        let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
        let mut others = Vec::new();
        for n in 0..5 {
            others.push(Person::in_room(&lab, house.addr, &format!("p{n}"), "tea").await?);
        }
        const SAID: usize = 40;
        for n in 0..SAID {
            ada.say("tea", &format!("{n} {}", "x".repeat(3_000)))
                .await?;
        }
        // The answer says that all before it was obeyed.
        ada.who("tea").await?;
        house.stop();
        for other in &others {
            told_goodbye(&other.name, other).await?;
            let heard = other.messages().len();
            ensure!(
                heard == SAID,
                "{SAID} messages were accepted before the stop; {} was told goodbye after {heard} of them (round {round})",
                other.name
            );
        }
        drop((ada, others));
        house.ended(&lab, "`serve` to return").await?;
    }
    Ok(())
}

async fn a_slow_reader_gets_what_was_accepted_before_its_goodbye(lab: Lab) -> Outcome {
    lab.promise("What was said before the stop also reaches a member that did not read for a while and reads on when the stop comes: whole and in order, before its goodbye.");
    // Where exactly the writer is when the stop comes is chance.
    for _ in 0..2 {
        // The reader has five seconds, which a machine that is held up may use up.
        on_a_fair_clock(&lab, [4_000, 4_000, 4_000], |_| {
            a_stop_while_one_does_not_read(lab.clone())
        })
        .await?;
    }
    Ok(())
}

async fn a_stop_while_one_does_not_read(lab: Lab) -> Outcome {
    let options = Options {
        stop_deadline: Duration::from_secs(20),
        ..roomy()
    };
    let mut house = House::open(options).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    let handshake = knock(house.addr, "bob").receive_buffer(4_096);
    let bob = Person::through(&lab, &handshake, "bob").await?;
    bob.join("tea").await?;
    bob.socket.stop_reading();
    // More than a connection holds.
    const SAID: usize = 60;
    for n in 0..SAID {
        ada.say("tea", &format!("{n} {}", "x".repeat(40_000)))
            .await?;
    }
    cem.has_heard(SAID).await?;
    // So that the stop finds a writer that was in the middle of many frames.
    bob.socket.read_on();
    bob.has_heard(1).await?;
    bob.socket.stop_reading();
    lab.within(Duration::from_millis(50)).await;
    house.stop();
    told_goodbye("cem", &cem).await?;
    bob.socket.read_on();
    told_goodbye("bob", &bob).await?;
    let heard: Vec<usize> = bob
        .messages()
        .iter()
        .filter_map(|m| m["text"].as_str()?.split(' ').next()?.parse().ok())
        .collect();
    // Some are missing, and later ones are there.
    let hole = !heard.iter().copied().eq(0..heard.len());
    ensure!(
        heard.iter().copied().eq(0..SAID),
        hole.then_some("CS26"),
        "{SAID} messages were accepted before the stop, numbers 0 to {}; bob, who read on when it came, got {} of them before his goodbye: {heard:?}",
        SAID - 1,
        heard.len()
    );
    drop((ada, bob, cem));
    house.ended(&lab, "`serve` to return").await?;
    Ok(())
}

async fn everybody_leaves_at_the_beginning_of_a_stop(lab: Lab) -> Outcome {
    lab.promise("At a stop everybody leaves at once, also who does not read the goodbye: members on other nodes are told, and the name is free, while that connection is still being given up.");
    on_a_fair_clock(&lab, [4_000, 4_000, 8_000], |stop_deadline| {
        let lab = lab.clone();
        async move {
            let (one, two) = (lab.redis().await?, lab.redis().await?);
            let prefix = lab.unique("chat");
            let options = |url: String| Options {
                redis: Some(url),
                prefix: prefix.clone(),
                stop_deadline,
                ..roomy()
            };
            let staying = House::open(options(one.url())).await?;
            let mut going = House::open(options(two.url())).await?;
            let ada = Person::in_room(&lab, staying.addr, "ada", "tea").await?;
            let asleep = stalled(&lab, &going, "asleep").await?;
            asleep.ask(json!({"type": "join", "room": "tea"})).await?;
            ada.until("ada to be told that asleep joined", |f| f["name"] == "asleep")
                .await?;
            fill(&lab, &going).await?;
            lab.history().fault("node of asleep", "asked to stop");
            let began = Instant::now();
            going.stop();
            ada.sees_leave("asleep", "tea").await?;
            let took = began.elapsed();
            // A client that does not read may be waited for as long, or for five seconds.
            let late = stop_deadline.min(Duration::from_secs(5)) / 2;
            ensure!(
                took < late,
                "a node was asked to stop; its client that does not read left {took:.1?} later: it leaves before it is told goodbye, not when it was given up"
            );
            enter_when_free(&lab, staying.addr, "asleep").await?;
            going.ended(&lab, "`serve` to return").await?;
            Ok(())
        }
    })
    .await
}

async fn nobody_is_let_in_while_it_stops(lab: Lab) -> Outcome {
    lab.promise("A node that stops lets nobody in any more: a new connection is refused, or answered with 503.");
    let options = Options {
        stop_deadline: Duration::from_secs(2),
        ..roomy()
    };
    let mut house = House::open(options).await?;
    // Holds up the stop, so that there is something to look at.
    let _asleep = stalled(&lab, &house, "asleep").await?;
    fill(&lab, &house).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let open = knock(house.addr, "late").open().await?;
    house.stop();
    told_goodbye("ada", &ada).await?;
    let mut streams = vec![Some(open)];
    for _ in 0..3 {
        streams.push(knock(house.addr, "new").open().await.ok());
    }
    for stream in streams.into_iter().flatten() {
        // Whoever gets no answer, or only the end of the connection, was not let in.
        let asking = knock(house.addr, "new").ask_over(stream, &lab).await;
        match asking {
            Ok(Answer::Upgraded(_)) => {
                lab::fail!("a client was let in after the node was asked to stop")
            }
            Ok(Answer::Refused(refused)) => ensure!(
                refused.status == 503,
                "while it stopped the node answered a handshake with {} {}",
                refused.status,
                refused.body
            ),
            Err(_) => {}
        }
    }
    house.ended(&lab, "`serve` to return").await?;
    Ok(())
}

async fn members_of_a_node_that_stops_leave(lab: Lab) -> Outcome {
    lab.promise("With several nodes, the members of one that stops have left, their names are free, and the node has left, when its `serve` has returned: nobody has to wait for a lease to run out.");
    let (one, two) = (lab.redis().await?, lab.redis().await?);
    let prefix = lab.unique("chat");
    let options = |url: String| Options {
        redis: Some(url),
        prefix: prefix.clone(),
        ..roomy()
    };
    let staying = House::open(options(one.url())).await?;
    let mut going = House::open(options(two.url())).await?;
    let ada = Person::in_room(&lab, staying.addr, "ada", "tea").await?;
    let bob = Person::in_room(&lab, going.addr, "bob", "tea").await?;
    let cem = Person::in_room(&lab, going.addr, "cem", "tea").await?;
    // One that keeps its connection for a while after its goodbye.
    let mute = knock(going.addr, "mute")
        .without_close()
        .connect(&lab)
        .await?;
    going.stop();
    told_goodbye("bob", &bob).await?;
    told_goodbye("cem", &cem).await?;
    drop((bob, cem));
    going.ended(&lab, "`serve` to return").await?;
    drop(mute);
    let nodes: Vec<String> = redis::cmd("ZRANGE")
        .arg(format!("{prefix}:nodes"))
        .arg(&["0", "-1"])
        .query_async(&mut one.direct().await?)
        .await?;
    ensure!(
        nodes.len() == 1,
        "of two nodes one has stopped, and its `serve` has returned; {} nodes are still registered in {prefix}:nodes",
        nodes.len()
    );
    match knock(staying.addr, "bob").ask(&lab).await? {
        Answer::Upgraded(_) => {}
        Answer::Refused(refused) => lab::fail!(
            "bob's node had stopped, and his name was refused at another node with {} {}",
            refused.status,
            refused.body
        ),
    }
    for name in ["bob", "cem"] {
        ada.socket
            .next_where(
                &format!("ada to be told that {name} left"),
                |seen| matches!(seen, Seen::Text(text) if text.contains("\"left\"")),
            )
            .await?;
    }
    for name in ["bob", "cem"] {
        ensure!(
            ada.leaves_of(name, "tea") == 1,
            "{name} left with its node, and ada was told {} times",
            ada.leaves_of(name, "tea")
        );
    }
    Ok(())
}

async fn a_stop_without_redis_keeps_its_deadline(lab: Lab) -> Outcome {
    lab.promise("A node stops within its deadline, and tells everybody goodbye, also while Redis does not answer.");
    let redis = lab.redis().await?;
    let options = Options {
        redis: Some(redis.url()),
        prefix: lab.unique("chat"),
        stop_deadline: Duration::from_secs(2),
        ..roomy()
    };
    let mut house = House::open(options).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    lab.history()
        .fault("network", "Redis is not heard any more");
    redis.proxy().stall(true);
    house.stop();
    told_goodbye("ada", &ada).await?;
    drop(ada);
    house
        .ended(&lab, "`serve` to return although Redis does not answer")
        .await?;
    Ok(())
}

async fn sigterm_ends_the_service_with_exit_code_0(lab: Lab) -> Outcome {
    lab.promise(
        "On SIGTERM, and on Ctrl-C, the service says goodbye with 1001 and ends with exit code 0.",
    );
    for signal in ["SIGTERM", "SIGINT"] {
        let node = Node::start(&lab, &["--stop-deadline", "1s"]).await?;
        let ada = Person::in_room(&lab, node.addr, "ada", "tea").await?;
        let bob = Person::in_room(&lab, node.addr, "bob", "tea").await?;
        let mute = knock(node.addr, "mute")
            .without_close()
            .connect(&lab)
            .await?;
        ada.say("tea", "quickly").await?;
        bob.until("bob to hear ada", |f| f["text"] == "quickly")
            .await?;
        match signal {
            "SIGTERM" => node.service.terminate(),
            _ => interrupt(&node),
        }
        for person in [&ada, &bob] {
            told_goodbye(&person.name, person).await?;
        }
        mute.closed("the goodbye of a client that does not answer it")
            .await?;
        let status = node.service.wait().await?;
        ensure!(
            status.code() == Some(0),
            "after {signal} the service ended with {status}; it said: {}",
            node.service.stderr()
        );
    }
    Ok(())
}

fn interrupt(node: &Node) {
    // A signal of its own, because the lab's handle knows the others only.
    let _ = std::process::Command::new("kill")
        .args(["-INT", &node.service.pid().to_string()])
        .status();
}
