//! Stage 8: state and events in one step, and a relay that takes the events to the log.

use std::time::Duration;

use event_bus::{CancellationToken, Error, Event, Outbox, Relay, Relayed, relay};
use lab::{Check, Failure, Lab, Outcome, Redis, Service, ensure};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::hall::timely;
use crate::stored::{Entry, entries_of, some, until_loaded, while_it_moves};
use lab::crash::{Crash, Point, walk};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_commit_writes_state_and_events,
        what_is_not_there_has_version_0,
        a_conflict_writes_nothing,
        many_writers_lose_no_change,
        a_commit_happens_as_a_whole_or_not_at_all.limit_secs(180),
        a_lost_answer_is_an_error_and_no_conflict,
        the_relay_appends_each_event_once_in_order,
        a_relay_that_dies_loses_nothing_and_repeats_nothing.limit_secs(180),
        a_relay_that_loses_its_connection_goes_on.limit_secs(180),
        several_relays_append_each_event_once,
        a_relay_that_was_held_up_repeats_nothing.limit_secs(180),
        the_log_may_be_on_another_redis,
        a_relay_waits_for_the_log_to_come_back,
        a_stopped_relay_leaves_nothing_half_done,
        a_relay_with_nothing_to_do_waits_in_redis,
        without_redis_there_is_no_relay,
    ]
}

/// A prefix and a log that no other check uses.
#[derive(Clone)]
struct House {
    lab: Lab,
    redis: Redis,
    prefix: String,
    log: String,
}

impl House {
    async fn new(lab: &Lab) -> Result<House, Failure> {
        Ok(House {
            lab: lab.clone(),
            redis: lab.redis().await?,
            prefix: lab.unique("shop"),
            log: lab.unique("events"),
        })
    }

    /// The same through a proxy of its own.
    async fn through_another_proxy(&self) -> Result<House, Failure> {
        Ok(House {
            redis: self.lab.redis().await?,
            ..self.clone()
        })
    }

    async fn outbox(&self) -> Result<Outbox, Failure> {
        Ok(Outbox::connect(&self.redis.url(), &self.prefix).await?)
    }

    fn outbox_stream(&self) -> String {
        format!("{}:outbox", self.prefix)
    }

    /// What waits in the outbox.
    async fn waiting(&self) -> Result<Vec<Entry>, Failure> {
        entries_of(&self.redis, &self.outbox_stream()).await
    }

    /// The numbers of the events in the log.
    async fn logged(&self) -> Result<Vec<u64>, Failure> {
        let entries = entries_of(&self.redis, &self.log).await?;
        Ok(entries.iter().map(Entry::n).collect())
    }

    /// The state of a key as Redis holds it: its fields.
    async fn stored(&self, key: &str) -> Result<Vec<(String, String)>, Failure> {
        let key = format!("{}:state:{key}", self.prefix);
        let fields: std::collections::BTreeMap<String, String> = redis::cmd("HGETALL")
            .arg(&key)
            .query_async(&mut self.redis.direct().await?)
            .await?;
        Ok(fields.into_iter().collect())
    }

    /// Writes the events `from` to `to` into the outbox, past the candidate.
    async fn put(&self, from: u64, to: u64) -> Outcome {
        let mut pipe = redis::pipe();
        for n in from..=to {
            pipe.cmd("XADD")
                .arg(&[&self.outbox_stream(), "*", "name", "order.placed", "data"])
                .arg(format!("{{\"n\":{n}}}"))
                .arg(&["at", "2026-03-01T12:00:00.000Z"])
                .ignore();
        }
        let _: () = pipe.query_async(&mut self.redis.direct().await?).await?;
        Ok(())
    }

    fn options(&self) -> Relay {
        Relay {
            redis: self.redis.url(),
            prefix: self.prefix.clone(),
            log_redis: None,
            log: self.log.clone(),
            batch: 100,
        }
    }

    fn relay(&self, options: Relay) -> Relaying {
        let stop = CancellationToken::new();
        Relaying {
            task: tokio::spawn(relay(options, stop.clone())),
            stop,
            _redis: self.redis.clone(),
        }
    }

    /// `event-bus relay` as a process.
    fn service(&self) -> Result<Service, Failure> {
        let url = self.redis.url();
        self.lab
            .service([
                "relay",
                "--redis",
                &url,
                "--prefix",
                &self.prefix,
                "--log",
                &self.log,
            ])
            .start()
    }

    /// Waits until the outbox is empty, or the fault has struck.
    async fn until_empty_or(&self, fault: Option<&lab::faults::Fault>) -> Result<bool, Failure> {
        let moves = || async { Ok((self.waiting().await?.len(), self.logged().await?.len())) };
        while_it_moves(&self.lab, "the outbox to be empty", moves, || async {
            if fault.is_some_and(lab::faults::Fault::has_fired) {
                return Ok(Some(true));
            }
            Ok(self.waiting().await?.is_empty().then_some(false))
        })
        .await
    }

    /// Holds the log to the events 1 to `count`, each once, in order.
    async fn once_in_order(&self, count: u64) -> Outcome {
        let logged = self.logged().await?;
        let expected: Vec<u64> = (1..=count).collect();
        if logged == expected {
            return Ok(());
        }
        let lost: Vec<u64> = expected
            .iter()
            .copied()
            .filter(|n| !logged.contains(n))
            .collect();
        let code = match (lost.is_empty(), logged.len() > expected.len()) {
            (false, _) => Some("EB20"),
            (true, true) => Some("EB21"),
            _ => None,
        };
        lab::fail!(
            code,
            "the events 1 to {count} were in the outbox; the log holds {}; never appended: {}",
            some(&logged),
            some(&lost)
        );
    }
}

/// A running `relay`.
struct Relaying {
    task: JoinHandle<Result<Relayed, Error>>,
    stop: CancellationToken,
    /// Its proxy lasts as long as it does.
    _redis: Redis,
}

impl Relaying {
    async fn finish(mut self, lab: &Lab) -> Result<Relayed, Failure> {
        self.stop.cancel();
        let ended = timely(lab, "`relay` to return after its stop", &mut self.task).await?;
        ended.map_err(|error| {
            Failure::observed(format!(
                "`relay` was asked to stop and returned an error: {error}"
            ))
        })
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn numbered(n: u64) -> Result<Event, Failure> {
    Ok(Event::new("order.placed", json!({"n": n}))?)
}

async fn a_commit_writes_state_and_events(lab: Lab) -> Outcome {
    lab.promise("`commit` writes the state with its version and the events into the outbox, in their order; `load` gives back what was committed.");
    let house = House::new(&lab).await?;
    let outbox = house.outbox().await?;
    let state = json!({"order": "A-1 \"ä\"", "lines": [1, 2.5, null], "open": true});
    let events: Vec<Event> = (1..=3).map(numbered).collect::<Result<_, _>>()?;
    let version = outbox.commit("order:A-1", 0, &state, &events).await?;
    ensure!(
        version == 1,
        "the first commit of a key returned version {version}"
    );
    let loaded = outbox.load("order:A-1").await?;
    ensure!(
        loaded == (1, state.clone()),
        "committed was {state} as version 1, and `load` gives {loaded:?}"
    );
    let stored = house.stored("order:A-1").await?;
    let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(
        names == ["state", "version"]
            && serde_json::from_str::<serde_json::Value>(&stored[0].1).ok() == Some(state.clone())
            && stored[1].1 == "1",
        "the state of order:A-1 is {state}, version 1; in Redis is {stored:?}"
    );
    let more = vec![numbered(4)?];
    let version = outbox.commit("order:A-1", 1, &json!("paid"), &more).await?;
    // Another key has versions of its own, and a commit may have no events.
    let other = outbox.commit("order:A-2", 0, &json!(null), &[]).await?;
    ensure!(
        version == 2 && other == 1,
        "the second commit of one key and the first of another returned the versions {version} and {other}"
    );
    let waiting = house.waiting().await?;
    let ns: Vec<u64> = waiting.iter().map(Entry::n).collect();
    ensure!(
        ns == [1, 2, 3, 4],
        "the events 1 to 4 were committed; the outbox holds {}",
        some(&ns)
    );
    for (entry, event) in waiting.iter().zip(events.iter().chain(&more)) {
        ensure!(
            entry.names() == ["at", "data", "name"]
                && entry.text("name") == event.name
                && entry.text("at") == event.at
                && entry.data() == event.data,
            "committed was {event:?}; the outbox holds {entry:?}"
        );
    }
    // However many there are.
    let many: Vec<Event> = (5..=5_004).map(numbered).collect::<Result<_, _>>()?;
    outbox.commit("order:A-1", 2, &json!("sent"), &many).await?;
    let ns: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    ensure!(
        ns == (1..=5_004).collect::<Vec<_>>(),
        "5,000 events were committed at once behind four; the outbox holds {}",
        some(&ns)
    );
    Ok(())
}

async fn what_is_not_there_has_version_0(lab: Lab) -> Outcome {
    lab.promise(
        "`load` of a key that nobody has committed gives version 0 and null, and leaves no trace.",
    );
    let house = House::new(&lab).await?;
    let outbox = house.outbox().await?;
    let loaded = outbox.load("order:none").await?;
    ensure!(
        loaded == (0, serde_json::Value::Null),
        "nobody has committed order:none, and `load` gives {loaded:?}"
    );
    let stored = house.stored("order:none").await?;
    ensure!(stored.is_empty(), "`load` has written {stored:?}");
    Ok(())
}

async fn a_conflict_writes_nothing(lab: Lab) -> Outcome {
    lab.promise("A commit with a version that is not the one that is there is a `Conflict`, and writes neither state nor event.");
    let house = House::new(&lab).await?;
    let outbox = house.outbox().await?;
    let other = house.outbox().await?;
    outbox
        .commit("order:A-1", 0, &json!(1), &[numbered(1)?])
        .await?;
    other
        .commit("order:A-1", 1, &json!(2), &[numbered(2)?])
        .await?;
    for (key, version) in [
        ("order:A-1", 0),
        ("order:A-1", 1),
        ("order:A-1", 3),
        ("order:A-2", 1),
        ("order:A-2", u64::MAX),
    ] {
        let committed = outbox
            .commit(key, version, &json!("wrong"), &[numbered(99)?])
            .await;
        ensure!(
            matches!(committed, Err(Error::Conflict { .. })),
            "order:A-1 has version 2 and order:A-2 is not there; a commit of {key} on version {version} returned {committed:?}"
        );
    }
    let (loaded, none) = (
        outbox.load("order:A-1").await?,
        outbox.load("order:A-2").await?,
    );
    ensure!(
        loaded == (2, json!(2)) && none == (0, serde_json::Value::Null),
        "EB19",
        "five commits were conflicts, and the states are {loaded:?} and {none:?}"
    );
    let ns: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    ensure!(
        ns == [1, 2],
        "EB19",
        "five commits were conflicts, and the outbox holds {}",
        some(&ns)
    );
    // The same outbox goes on to work.
    outbox
        .commit("order:A-1", 2, &json!(3), &[numbered(3)?])
        .await?;
    Ok(())
}

async fn many_writers_lose_no_change(lab: Lab) -> Outcome {
    lab.promise("Of writers that start from the same version one wins and the others are told: no change is lost, and each has its event once, in the order of the versions.");
    let house = House::new(&lab).await?;
    let one = std::sync::Arc::new(house.outbox().await?);
    let mut writers = Vec::new();
    for writer in 0..6 {
        // Some share a connection, some have their own.
        let outbox = match writer % 2 {
            0 => std::sync::Arc::clone(&one),
            _ => std::sync::Arc::new(house.outbox().await?),
        };
        writers.push(tokio::spawn(async move {
            let mut done = 0;
            while done < 15 {
                let (version, state) = outbox.load("counter").await?;
                let count = state.as_u64().unwrap_or(0) + 1;
                let event = [numbered(count)?];
                match outbox
                    .commit("counter", version, &json!(count), &event)
                    .await
                {
                    Ok(_) => done += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(Failure::from(error)),
                }
            }
            Ok(())
        }));
    }
    let count = || async { Ok(one.load("counter").await?) };
    let what = "six writers to have counted fifteen times each";
    while_it_moves(&lab, what, count, || async {
        Ok(writers.iter().all(JoinHandle::is_finished).then_some(()))
    })
    .await?;
    for writer in &mut writers {
        timely(&lab, "a writer to be done", writer).await??;
    }
    let loaded = one.load("counter").await?;
    ensure!(
        loaded == (90, json!(90)),
        "EB19",
        "six writers have counted fifteen times each, and the state is {loaded:?}"
    );
    let ns: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    ensure!(
        ns == (1..=90).collect::<Vec<_>>(),
        "EB19",
        "each of 90 changes has an event; the outbox holds {}",
        some(&ns)
    );
    Ok(())
}

async fn a_commit_happens_as_a_whole_or_not_at_all(lab: Lab) -> Outcome {
    lab.promise("Whatever happens to a commit, at whichever command: the state and all its events are there, or neither.");
    let (walking, crashes) = (
        lab.clone(),
        [Crash::CutBefore, Crash::CutAfter, Crash::KillAfter],
    );
    walk(&lab, &crashes, 18, move |point| {
        whole_commit(walking.clone(), point)
    })
    .await
}

async fn whole_commit(lab: Lab, point: Point) -> Result<bool, Failure> {
    let house = House::new(&lab).await?;
    let before = house.outbox().await?;
    before.commit("order:A-1", 0, &json!(0), &[]).await?;
    let events = vec![numbered(1)?, numbered(2)?, numbered(3)?];
    let outbox = house.outbox().await?;
    let fault = point.arm(&house.redis);
    let mut committing =
        tokio::spawn(async move { outbox.commit("order:A-1", 1, &json!("new"), &events).await });
    let kills = point.crash == Crash::KillAfter;
    let committed = if kills {
        lab.eventually("the commit to be done or held up", || async {
            Ok((fault.has_fired() || committing.is_finished()).then_some(()))
        })
        .await?;
        if committing.is_finished() {
            fault.disarm();
            return Ok(false);
        }
        committing.abort();
        let _ = (&mut committing).await;
        point.after_the_kill(&fault);
        // What was sent arrives after its sender is gone.
        lab.within(Duration::from_millis(30)).await;
        None
    } else {
        Some(timely(&lab, "`commit` to return", &mut committing).await?)
    };
    let struck = !fault.disarm();
    let (version, state) = house
        .through_another_proxy()
        .await?
        .outbox()
        .await?
        .load("order:A-1")
        .await?;
    let ns: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    let whole = (version, &state, ns.as_slice()) == (2, &json!("new"), &[1, 2, 3]);
    let nothing = (version, &state, ns.as_slice()) == (1, &json!(0), &[]);
    ensure!(
        whole || nothing,
        "EB19",
        "a commit of a state and the events 1 to 3 was disturbed; afterwards the state is {state} in version {version}, and the outbox holds {}; {}",
        some(&ns),
        point.blame(&house.redis)
    );
    if let Some(committed) = committed {
        ensure!(
            committed.is_err() || whole,
            "EB19",
            "`commit` returned {committed:?}, and afterwards the state is {state} in version {version}"
        );
        ensure!(
            struck || committed.is_ok(),
            "nothing was disturbed, and `commit` returned {committed:?}"
        );
    }
    Ok(struck)
}

async fn a_lost_answer_is_an_error_and_no_conflict(lab: Lab) -> Outcome {
    lab.promise("When the answer to a commit is lost, its effect is unknown: that is an error, and no `Conflict`, which would say that nothing was written. The next call connects again.");
    let house = House::new(&lab).await?;
    let outbox = house.outbox().await?;
    outbox
        .commit("order:A-1", 0, &json!(1), &[numbered(1)?])
        .await?;
    let writes = |e: &lab::faults::Exchange| {
        ["EVAL", "EVALSHA", "FCALL", "EXEC"]
            .iter()
            .any(|name| e.is(name))
    };
    let fault = house.redis.proxy().arm(
        lab::faults::Trigger::request(writes),
        lab::faults::Action::CutAfter,
    );
    let committed = outbox
        .commit("order:A-1", 1, &json!(2), &[numbered(2)?])
        .await;
    ensure!(
        fault.has_fired(),
        "EB19",
        "the commit sent neither a script nor a transaction, and returned {committed:?}"
    );
    ensure!(
        committed.is_err() && !matches!(committed, Err(Error::Conflict { .. })),
        "the commit took effect and its answer was lost; `commit` returned {committed:?}"
    );
    let mut loaded = None;
    for _ in 0..3 {
        loaded = outbox.load("order:A-1").await.ok();
        if loaded.is_some() {
            break;
        }
    }
    ensure!(
        loaded == Some((2, json!(2))),
        "the connection was lost once; three calls later `load` gives {loaded:?}"
    );
    let ns: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    ensure!(
        ns == [1, 2],
        "two commits took effect, once each; the outbox holds {}",
        some(&ns)
    );
    Ok(())
}

async fn the_relay_appends_each_event_once_in_order(lab: Lab) -> Outcome {
    lab.promise("The relay appends what is in the outbox to the log, once, in order, with the fields as they are, and removes it; and goes on with what comes. `LOG:relayed:PREFIX` holds the id of the last one.");
    let house = House::new(&lab).await?;
    let outbox = house.outbox().await?;
    let event = Event::new("order.placed", json!({"n": 1, "text": "ä \"\n"}))?;
    outbox
        .commit("order:A-1", 0, &json!(1), std::slice::from_ref(&event))
        .await?;
    house.put(2, 255).await?;
    let last = house.waiting().await?.pop();
    let relaying = house.relay(Relay {
        batch: 50,
        ..house.options()
    });
    house.until_empty_or(None).await?;
    house.once_in_order(255).await?;
    let marker: Option<String> = redis::cmd("GET")
        .arg(format!("{}:relayed:{}", house.log, house.prefix))
        .query_async(&mut house.redis.direct().await?)
        .await?;
    ensure!(
        marker == last.as_ref().map(|entry| entry.id.clone()),
        "the last entry of the outbox was {:?}; `{}:relayed:{}` holds {marker:?}",
        last.map(|entry| entry.id),
        house.log,
        house.prefix
    );
    let first = entries_of(&house.redis, &house.log).await?.swap_remove(0);
    ensure!(
        first.names() == ["at", "data", "name"]
            && first.count == 3
            && first.text("name") == event.name
            && first.text("at") == event.at
            && first.data() == event.data,
        "committed was {event:?}; the log holds {first:?}"
    );
    house.put(256, 258).await?;
    house.until_empty_or(None).await?;
    house.once_in_order(258).await?;
    let relayed = relaying.finish(&lab).await?;
    ensure!(
        relayed.published == 258,
        "258 events were appended, and `relay` returned {relayed:?}"
    );
    Ok(())
}

async fn a_relay_that_dies_loses_nothing_and_repeats_nothing(lab: Lab) -> Outcome {
    lab.promise("A relay that is killed between any two commands loses nothing and repeats nothing: after the next start the log holds each event once, in order.");
    let (walking, crashes) = (lab.clone(), [Crash::KillBefore, Crash::KillAfter]);
    walk(&lab, &crashes, 36, move |point| {
        killed_relay(walking.clone(), point)
    })
    .await
}

async fn killed_relay(lab: Lab, point: Point) -> Result<bool, Failure> {
    let house = House::new(&lab).await?;
    house.put(1, 3).await?;
    let fault = point.arm(&house.redis);
    let first = house.service()?;
    if !house.until_empty_or(Some(&fault)).await? && fault.disarm() {
        house.once_in_order(3).await?;
        return Ok(false);
    }
    first.kill();
    first.wait().await?;
    point.after_the_kill(&fault);
    let blamed = |failure: Failure| failure.also(point.blame(&house.redis));
    let again = house.through_another_proxy().await?;
    again.put(4, 5).await?;
    let second = again.relay(Relay {
        batch: 2,
        ..again.options()
    });
    again.until_empty_or(None).await.map_err(blamed)?;
    again.once_in_order(5).await.map_err(blamed)?;
    second.finish(&lab).await?;
    Ok(true)
}

async fn a_relay_that_loses_its_connection_goes_on(lab: Lab) -> Outcome {
    lab.promise("Whichever command loses its connection, before it arrives or before its answer does: the relay connects again by itself, and the log holds each event once, in order.");
    let (walking, crashes) = (lab.clone(), [Crash::CutBefore, Crash::CutAfter]);
    walk(&lab, &crashes, 36, move |point| {
        cut_relay(walking.clone(), point)
    })
    .await
}

async fn cut_relay(lab: Lab, point: Point) -> Result<bool, Failure> {
    let house = House::new(&lab).await?;
    house.put(1, 5).await?;
    let fault = point.arm(&house.redis);
    let options = Relay {
        batch: 2,
        ..house.options()
    };
    let mut relaying = house.relay(options.clone());
    let blamed = |failure: Failure| failure.also(point.blame(&house.redis));
    lab.eventually("the outbox to be empty", || async {
        Ok((house.waiting().await?.is_empty() || relaying.task.is_finished()).then_some(()))
    })
    .await
    .map_err(blamed)?;
    let struck = !fault.disarm();
    if relaying.task.is_finished() {
        let ended = (&mut relaying.task).await?;
        // Connecting itself may fail when the very first commands are lost.
        ensure!(
            struck && matches!(&ended, Err(error) if error.is_connection()),
            "`relay` ended by itself with {ended:?}; {}",
            point.blame(&house.redis)
        );
        relaying = house.relay(options);
    }
    house.until_empty_or(None).await.map_err(blamed)?;
    house.once_in_order(5).await.map_err(blamed)?;
    relaying.finish(&lab).await?;
    Ok(struck)
}

async fn several_relays_append_each_event_once(lab: Lab) -> Outcome {
    lab.promise("Several relays at once, coming and going, append each event once, in order, while others write.");
    let house = House::new(&lab).await?;
    let mut relays = Vec::new();
    for batch in [1, 3, 100] {
        let own = house.through_another_proxy().await?;
        relays.push(own.relay(Relay {
            batch,
            ..own.options()
        }));
    }
    for round in 0..12 {
        house.put(round * 10 + 1, round * 10 + 10).await?;
        if round % 3 == 1 {
            // One dies wherever it is, another takes its place.
            let gone = relays.remove(0);
            gone.task.abort();
            let own = house.through_another_proxy().await?;
            relays.push(own.relay(own.options()));
        }
    }
    house.until_empty_or(None).await?;
    house.once_in_order(120).await?;
    for relaying in relays {
        relaying.finish(&lab).await?;
    }
    house.once_in_order(120).await
}

async fn a_relay_that_was_held_up_repeats_nothing(lab: Lab) -> Outcome {
    lab.promise("A relay that was paused in the middle, while another one did its work, repeats nothing and removes nothing of others when it goes on.");
    let (walking, crashes) = (lab.clone(), [Crash::KillBefore]);
    walk(&lab, &crashes, 36, move |point| {
        held_relay(walking.clone(), point)
    })
    .await
}

async fn held_relay(lab: Lab, point: Point) -> Result<bool, Failure> {
    let house = House::new(&lab).await?;
    house.put(1, 3).await?;
    let fault = point.arm(&house.redis);
    let paused = house.relay(house.options());
    if !house.until_empty_or(Some(&fault)).await? && fault.disarm() {
        return Ok(false);
    }
    // Its command is on the way and arrives later: for the broker it stands still here.
    let blamed = |failure: Failure| failure.also(point.blame(&house.redis));
    let other = house.through_another_proxy().await?;
    let working = other.relay(other.options());
    other.until_empty_or(None).await.map_err(blamed)?;
    other.once_in_order(3).await.map_err(blamed)?;
    working.finish(&lab).await?;
    // What comes now is the first one's again.
    other.put(4, 6).await?;
    fault.release();
    other.until_empty_or(None).await.map_err(blamed)?;
    other.once_in_order(6).await.map_err(blamed)?;
    paused.finish(&lab).await?;
    Ok(true)
}

async fn the_log_may_be_on_another_redis(lab: Lab) -> Outcome {
    lab.promise("With `log_redis` the log, and the mark of how far it is, are on another Redis than the outbox; each event is appended once all the same, wherever a connection is cut.");
    let far = lab.own_redis().await?;
    let house = House::new(&lab).await?;
    house.put(1, 4).await?;
    // Every command that reaches the log's Redis is cut once before and once after.
    let relaying = house.relay(Relay {
        log_redis: Some(far.url()),
        batch: 2,
        ..house.options()
    });
    house.until_empty_or(None).await?;
    let mut expected = 4;
    for (nth, crash) in [
        (1, Crash::CutAfter),
        (1, Crash::CutBefore),
        (2, Crash::CutAfter),
        (2, Crash::CutBefore),
    ] {
        let fault = Point { nth, crash }.arm(&far);
        house.put(expected + 1, expected + 5).await?;
        expected += 5;
        house.until_empty_or(None).await?;
        fault.disarm();
    }
    let ns: Vec<u64> = entries_of(&far, &house.log)
        .await?
        .iter()
        .map(Entry::n)
        .collect();
    let code = (ns.len() as u64 > expected).then_some("EB21");
    ensure!(
        ns == (1..=expected).collect::<Vec<_>>(),
        code,
        "the events 1 to {expected} were in the outbox; the log on the other Redis holds {}",
        some(&ns)
    );
    let here = house.logged().await?;
    ensure!(
        here.is_empty(),
        "the log is on another Redis, and the outbox's one has it as well, with {}",
        some(&here)
    );
    let marker = format!("{}:relayed:{}", house.log, house.prefix);
    let (there, not_here): (Option<String>, bool) = (
        redis::cmd("GET")
            .arg(&marker)
            .query_async(&mut far.direct().await?)
            .await?,
        redis::cmd("EXISTS")
            .arg(&marker)
            .query_async(&mut house.redis.direct().await?)
            .await?,
    );
    ensure!(
        there.is_some() && !not_here,
        "`{marker}` is {there:?} in the log's Redis; in the outbox's one it is {}",
        if not_here { "there too" } else { "not there" }
    );
    relaying.finish(&lab).await?;
    Ok(())
}

async fn a_relay_waits_for_the_log_to_come_back(lab: Lab) -> Outcome {
    lab.promise("While the log's Redis is away the events stay in the outbox; when it is back they are appended, once, in order.");
    let far = lab.own_redis().await?;
    let house = House::new(&lab).await?;
    house.put(1, 2).await?;
    let relaying = house.relay(Relay {
        log_redis: Some(far.url()),
        ..house.options()
    });
    house.until_empty_or(None).await?;
    far.kill().await?;
    lab.history().fault("the log's Redis", "SIGKILL");
    house.put(3, 6).await?;
    lab.within(Duration::from_millis(400)).await;
    let waiting: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
    ensure!(
        waiting == [3, 4, 5, 6],
        "EB20",
        "the log's Redis is away; the outbox holds {} of the events 3 to 6",
        some(&waiting)
    );
    far.start().await?;
    until_loaded(&lab, &far).await?;
    house.until_empty_or(None).await?;
    let ns: Vec<u64> = entries_of(&far, &house.log)
        .await?
        .iter()
        .map(Entry::n)
        .collect();
    ensure!(
        ns == [1, 2, 3, 4, 5, 6],
        "the events 1 to 6 were in the outbox; the log holds {}",
        some(&ns)
    );
    relaying.finish(&lab).await?;
    Ok(())
}

async fn a_stopped_relay_leaves_nothing_half_done(lab: Lab) -> Outcome {
    lab.promise("A stop leaves nothing half done: what was appended is out of the outbox and counted, the rest is still in it.");
    let house = House::new(&lab).await?;
    house.put(1, 60).await?;
    for after in [1, 2, 4, 7, 11] {
        let before = house.logged().await?.len() as u64;
        let options = Relay {
            batch: 3,
            ..house.options()
        };
        // In the middle: when its so many-th command is sent.
        let fault = Point {
            nth: after,
            crash: Crash::KillBefore,
        }
        .arm(&house.redis);
        let relaying = house.relay(options);
        lab.eventually("the relay to be at work", || async {
            let all = house.waiting().await?.is_empty();
            Ok((fault.has_fired() || all).then_some(()))
        })
        .await?;
        relaying.stop.cancel();
        fault.release();
        let relayed = relaying.finish(&lab).await?;
        let logged = house.logged().await?;
        let waiting: Vec<u64> = house.waiting().await?.iter().map(Entry::n).collect();
        let both: Vec<u64> = logged.iter().chain(&waiting).copied().collect();
        ensure!(
            both == (1..=60).collect::<Vec<_>>(),
            "after a stop the log holds {}, and the outbox {}",
            some(&logged),
            some(&waiting)
        );
        ensure!(
            relayed.published == logged.len() as u64 - before,
            "the relay has appended {} events and returned {relayed:?}",
            logged.len() as u64 - before
        );
    }
    Ok(())
}

async fn a_relay_with_nothing_to_do_waits_in_redis(lab: Lab) -> Outcome {
    lab.promise("With nothing to do the relay waits in a blocking read, on a connection that nothing else is sent on; a stop ends that wait.");
    let house = House::new(&lab).await?;
    let relaying = house.relay(house.options());
    for n in 1..=3 {
        lab.eventually("the relay to wait in a blocking read", || async {
            Ok(house.redis.proxy().is_blocked().then_some(()))
        })
        .await?;
        house.put(n, n).await?;
        house.until_empty_or(None).await?;
    }
    let behind = house.redis.proxy().while_blocked();
    ensure!(
        behind.is_empty(),
        "{} was sent on a connection on which a blocking read was waiting: it waits as long as that does",
        behind[0].name()
    );
    lab.within(Duration::from_millis(200)).await;
    lab.forget_stalls();
    let asked = std::time::Instant::now();
    relaying.finish(&lab).await?;
    let took = asked.elapsed();
    ensure!(
        took < Duration::from_secs(3) + lab.stalled() * 10,
        "the relay had nothing to do, and returned {took:.1?} after its stop"
    );
    house.once_in_order(3).await
}

async fn without_redis_there_is_no_relay(lab: Lab) -> Outcome {
    lab.promise("Where either Redis cannot be reached at the start, `relay` and `Outbox::connect` say so at once: `Connect`, and exit code 69.");
    let (house, far) = (House::new(&lab).await?, lab.redis().await?);
    far.proxy().refuse(true);
    let options = Relay {
        log_redis: Some(far.url()),
        ..house.options()
    };
    let mut relaying = house.relay(options);
    let ended = timely(
        &lab,
        "`relay` to say that there is no Redis",
        &mut relaying.task,
    )
    .await?;
    ensure!(
        matches!(ended, Err(Error::Connect { .. })),
        "the log's Redis refuses every connection, and `relay` returned {ended:?}"
    );
    house.redis.proxy().refuse(true);
    let mut relaying = house.relay(house.options());
    let ended = timely(
        &lab,
        "`relay` to say that there is no Redis",
        &mut relaying.task,
    )
    .await?;
    ensure!(
        matches!(ended, Err(Error::Connect { .. })),
        "every connection is refused, and `relay` returned {ended:?}"
    );
    let connected = Outbox::connect(&house.redis.url(), &house.prefix).await;
    ensure!(
        matches!(connected, Err(Error::Connect { .. })),
        "every connection is refused, and `Outbox::connect` returned {:?}",
        connected.map(|_| "an outbox")
    );
    let service = house.service()?;
    let status = service.wait().await?;
    ensure!(
        status.code() == Some(69),
        "every connection is refused, and `event-bus relay` ended with {status}; it said: {}",
        service.stderr()
    );
    Ok(())
}
