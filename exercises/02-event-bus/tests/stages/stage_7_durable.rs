//! Stage 7: events that outlive the process, in a Redis Stream.

use std::time::{Duration, Instant};

use event_bus::{BoxError, Error, Event, Follow, Log, Start, follow};
use lab::{Check, Lab, Outcome, ensure};

use crate::hall::{A_WHILE, Gate, timely};
use crate::stored::{Journal, n_of, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        an_event_is_one_entry_with_three_fields,
        a_batch_is_one_round_trip_in_order,
        a_new_group_begins_at_the_beginning,
        every_group_gets_every_event,
        what_does_not_match_is_acknowledged_without_a_call,
        an_event_is_acknowledged_after_its_handler,
        own_pending_entries_come_first_all_of_them,
        a_failed_event_comes_again_and_nothing_overtakes_it,
        the_delay_doubles_with_each_attempt,
        what_fails_for_good_is_set_aside,
        what_is_no_event_is_set_aside_at_once,
        replay_begins_at_the_id_or_the_time,
        replay_gives_up_what_was_pending,
        replay_begins_once,
        a_stop_lets_the_call_end_and_no_other_begin,
        a_stop_between_two_attempts_leaves_the_event_for_the_next_time,
        a_stop_does_not_wait_for_events,
        without_redis_nothing_is_followed,
    ]
}

async fn an_event_is_one_entry_with_three_fields(lab: Lab) -> Outcome {
    lab.promise("An appended event is one entry with exactly the fields `name`, `data` (JSON) and `at`, and the answer is the entry's id.");
    let journal = Journal::new(&lab).await?;
    let log = Log::connect(&journal.redis.url(), &journal.log).await?;
    let data = serde_json::json!({"order": "A-1 \"ä\"\n", "lines": [1, null, {"x": 2.5}]});
    for data in [data, serde_json::json!("text"), serde_json::json!(null)] {
        let event = Event::new("order.placed", &data)?;
        let id = log.append(&event).await?;
        let entries = journal.entries().await?;
        let last = entries.last().cloned();
        let Some(entry) = last else {
            lab::fail!("an event was appended, and the log is empty");
        };
        ensure!(
            entry.id == id,
            "the last entry of the log is {}, and `append` returned {id}",
            entry.id
        );
        ensure!(
            entry.names() == ["at", "data", "name"] && entry.count == 3,
            "entry {id} has the fields {:?}",
            entry.names()
        );
        let stored: Option<serde_json::Value> = serde_json::from_str(&entry.text("data")).ok();
        ensure!(
            entry.text("name") == "order.placed"
                && entry.text("at") == event.at
                && stored.as_ref() == Some(&data),
            "appended was {event:?}, and entry {id} holds {:?}, {:?}, {:?}",
            entry.text("name"),
            entry.text("data"),
            entry.text("at")
        );
    }
    let entries = journal.entries().await?;
    ensure!(
        entries.len() == 3,
        "three events were appended, and the log has {} entries",
        entries.len()
    );
    Ok(())
}

async fn a_batch_is_one_round_trip_in_order(lab: Lab) -> Outcome {
    lab.promise("`append_all` appends all events in their order, in one round trip, and returns their ids in that order.");
    let journal = Journal::new(&lab).await?;
    let log = Log::connect(&journal.redis.url(), &journal.log).await?;
    log.append(&Event::new("order.placed", serde_json::json!({"n": 0}))?)
        .await?;
    let events = (1..=250)
        .map(|n| Event::new("order.placed", serde_json::json!({"n": n})))
        .collect::<Result<Vec<_>, _>>()?;
    let before = journal.redis.proxy().round_trips();
    let ids = log.append_all(&events).await?;
    let trips = journal.redis.proxy().round_trips() - before;
    ensure!(
        trips == 1,
        "250 events were appended in {trips} round trips"
    );
    let entries = journal.entries().await?.split_off(1);
    let ns: Vec<u64> = entries.iter().map(crate::stored::Entry::n).collect();
    ensure!(
        ns == (1..=250).collect::<Vec<_>>(),
        "appended were the events 1 to 250; the log holds {}",
        some(&ns)
    );
    let stored: Vec<&String> = entries.iter().map(|entry| &entry.id).collect();
    ensure!(
        ids.iter().collect::<Vec<_>>() == stored,
        "`append_all` returned other ids than the 250 entries have, or in another order"
    );
    Ok(())
}

async fn a_new_group_begins_at_the_beginning(lab: Lab) -> Outcome {
    lab.promise("A new group gets what was in the log before it was there, then what comes. A log that is not there yet is followed as well.");
    let journal = Journal::new(&lab).await?;
    journal.put(1, 5).await?;
    let follower = journal.follower(journal.options());
    journal
        .until("the five events from before", &follower, || async {
            Ok(follower.seen.count() >= 5)
        })
        .await?;
    let ids = journal.put(6, 8).await?;
    journal
        .until(
            "three more events to be handled and acknowledged",
            &follower,
            || async { Ok(follower.seen.count() >= 8 && journal.is_done().await?) },
        )
        .await?;
    ensure!(
        follower.seen.ns() == (1..=8).collect::<Vec<_>>(),
        "the log holds the events 1 to 8; the handler was called for {}",
        some(&follower.seen.ns())
    );
    let consumers: Vec<std::collections::HashMap<String, redis::Value>> = redis::cmd("XINFO")
        .arg(&["CONSUMERS", &journal.log, &journal.group])
        .query_async(&mut journal.direct().await?)
        .await?;
    let named: Vec<String> = consumers
        .iter()
        .filter_map(|consumer| redis::from_redis_value(consumer.get("name")?.clone()).ok())
        .collect();
    ensure!(
        named == [journal.group.clone()],
        "the group's one consumer has the group's name, `{}`; Redis knows {named:?}",
        journal.group
    );
    let last = follower.seen.all().pop();
    ensure!(
        last.as_ref().is_some_and(|stored| stored.id == ids[2]
            && stored.event.name == "order.placed"
            && stored.event.at == "2026-03-01T12:00:00.000Z"
            && n_of(&stored.event) == 8),
        "entry {} was event 8; the handler got {last:?}",
        ids[2]
    );
    let followed = follower.finish(&lab).await?;
    ensure!(
        followed.handled == 8 && followed.set_aside == 0,
        "eight events were handled, and `follow` returned {followed:?}"
    );
    let empty = Journal {
        log: lab.unique("empty"),
        ..journal.clone()
    };
    let follower = empty.follower(empty.options());
    lab.eventually(
        "the group to be created on a log that is not there yet",
        || empty.read_up_to(),
    )
    .await?;
    empty.put(1, 2).await?;
    empty
        .until("two events to be handled", &follower, || async {
            Ok(follower.seen.count() >= 2)
        })
        .await?;
    follower.finish(&lab).await?;
    Ok(())
}

async fn every_group_gets_every_event(lab: Lab) -> Outcome {
    lab.promise("Each group gets every event and remembers for itself how far it is: a group that stopped goes on there.");
    let one = Journal::new(&lab).await?;
    let two = one.for_group(&lab.unique("bills"));
    one.put(1, 10).await?;
    let first = one.follower(one.options());
    one.until("ten events in the first group", &first, || async {
        Ok(first.seen.count() >= 10)
    })
    .await?;
    first.finish(&lab).await?;
    one.put(11, 15).await?;
    let (first, second) = (one.follower(one.options()), two.follower(two.options()));
    one.until("five more events in the first group", &first, || async {
        Ok(first.seen.count() >= 5 && one.is_done().await?)
    })
    .await?;
    two.until("fifteen events in the second group", &second, || async {
        Ok(second.seen.count() >= 15 && two.is_done().await?)
    })
    .await?;
    let (ns_one, ns_two) = (first.seen.ns(), second.seen.ns());
    ensure!(
        ns_one == (11..=15).collect::<Vec<_>>(),
        "the first group had acknowledged the events 1 to 10 of 15 when it was started again; it was called for {}",
        some(&ns_one)
    );
    ensure!(
        ns_two == (1..=15).collect::<Vec<_>>(),
        "the second group is new, and the log holds the events 1 to 15; it was called for {}",
        some(&ns_two)
    );
    first.finish(&lab).await?;
    second.finish(&lab).await?;
    Ok(())
}

async fn what_does_not_match_is_acknowledged_without_a_call(lab: Lab) -> Outcome {
    lab.promise("Events that the pattern does not match are acknowledged without a call.");
    let journal = Journal::new(&lab).await?;
    for n in 1..=60 {
        let name = [
            "order.placed",
            "payment.taken",
            "order.placed.late",
            "order",
        ][n as usize % 4];
        journal.add_event(name, n).await?;
    }
    let follower = journal.follower(Follow {
        pattern: "order.*".into(),
        ..journal.options()
    });
    journal
        .until(
            "sixty events to be handled or passed over",
            &follower,
            || async { Ok(follower.seen.count() >= 15 && journal.is_done().await?) },
        )
        .await?;
    let expected: Vec<u64> = (1..=60).filter(|n| n % 4 == 0).collect();
    ensure!(
        follower.seen.ns() == expected,
        "EB12",
        "`order.*` matches every fourth event; the handler was called for {}",
        some(&follower.seen.ns())
    );
    let followed = follower.finish(&lab).await?;
    ensure!(
        followed.set_aside == 0 && journal.dead().await?.is_empty(),
        "nothing failed, and `follow` returned {followed:?}"
    );
    Ok(())
}

async fn an_event_is_acknowledged_after_its_handler(lab: Lab) -> Outcome {
    lab.promise(
        "An event is acknowledged after its handler has returned Ok, and one after the other.",
    );
    let journal = Journal::new(&lab).await?;
    let ids = journal.put(1, 4).await?;
    let gate = Gate::closed();
    let waiting = gate.clone();
    let follower = journal.follower_with(journal.options(), move |_stored, _times| {
        let gate = waiting.clone();
        async move {
            gate.passed().await;
            Ok(())
        }
    });
    for n in 1..=4 {
        journal
            .until(
                "the next event to come to its handler",
                &follower,
                || async { Ok(follower.seen.count() >= n) },
            )
            .await?;
        let acknowledged = || async {
            let pending = journal.pending().await?;
            let read = journal.read_up_to().await?.unwrap_or_default();
            // What was delivered and is not pending.
            let gone = ids
                .iter()
                .filter(|id| !pending.contains(id) && later(&read, id));
            Ok::<Vec<String>, lab::Failure>(gone.cloned().collect())
        };
        lab.eventually("the events before it to be acknowledged", || async {
            Ok((acknowledged().await?.len() + 1 >= n).then_some(()))
        })
        .await?;
        lab.within(Duration::from_millis(60)).await;
        let gone = acknowledged().await?;
        ensure!(
            gone.len() == n - 1,
            "EB15",
            "event {n} is in its handler, and acknowledged are {gone:?}"
        );
        ensure!(
            follower.seen.count() == n,
            "event {n} is in its handler, and {} calls have begun",
            follower.seen.count()
        );
        gate.let_through(1);
    }
    journal
        .until("the last event to be acknowledged", &follower, || async {
            journal.is_done().await
        })
        .await?;
    follower.finish(&lab).await?;
    Ok(())
}

/// Whether the group, having read up to `read`, has read `id`.
fn later(read: &str, id: &str) -> bool {
    let parts = |id: &str| -> (u64, u64) {
        let (ms, n) = id.split_once('-').unwrap_or((id, "0"));
        (ms.parse().unwrap_or(0), n.parse().unwrap_or(0))
    };
    parts(read) >= parts(id)
}

async fn own_pending_entries_come_first_all_of_them(lab: Lab) -> Outcome {
    lab.promise("After a crash the group's own pending events come first, all of them, in order, also when they are more than a batch and some are no longer in the log; then what is new.");
    for batch in [100, 10] {
        let journal = Journal::new(&lab).await?;
        let ids = journal.put(1, 250).await?;
        journal.deliver(230).await?;
        // Somebody trimmed two of them away; nobody can handle those.
        let _: u64 = redis::cmd("XDEL")
            .arg(&[&journal.log, &ids[0], &ids[119]])
            .query_async(&mut journal.direct().await?)
            .await?;
        let follower = journal.follower(Follow {
            batch,
            ..journal.options()
        });
        let outcome = journal
            .until(
                "230 pending events, but two that are deleted, and 20 new ones to be handled",
                &follower,
                || async { Ok(follower.seen.count() >= 248) },
            )
            .await;
        let expected: Vec<u64> = (1..=250).filter(|n| ![1, 120].contains(n)).collect();
        let seen = follower.seen.ns();
        if outcome.is_err() || seen != expected {
            let code = (!seen.iter().any(|n| (2..=230).contains(n))).then_some("EB17");
            lab::fail!(
                code,
                "the events 1 to 230 were pending (1 and 120 deleted), 231 to 250 new; the batch is {batch}; the handler was called {} times, for {}",
                seen.len(),
                some(&seen)
            );
        }
        follower.finish(&lab).await?;
    }
    Ok(())
}

async fn a_failed_event_comes_again_and_nothing_overtakes_it(lab: Lab) -> Outcome {
    lab.promise("An event whose handler failed or panicked comes again after a delay, and no later event comes before it. It is acknowledged when its handler has returned Ok.");
    let journal = Journal::new(&lab).await?;
    journal.put(1, 6).await?;
    let follower = journal.follower_with(journal.options(), |stored, times| {
        let n = n_of(&stored.event);
        if n == 4 && times == 1 {
            panic!("in the call for event 4");
        }
        async move {
            match (n, times) {
                (2, 1..=3) => Err(BoxError::from("not yet")),
                (4, 2) => panic!("in the future for event 4"),
                _ => Ok(()),
            }
        }
    });
    let outcome = journal
        .until(
            "six events to be handled, some in several attempts",
            &follower,
            || async { Ok(follower.seen.count() >= 11 && journal.is_done().await?) },
        )
        .await;
    let (seen, expected) = (follower.seen.ns(), vec![1, 2, 2, 2, 2, 3, 4, 4, 4, 5, 6]);
    if seen != expected {
        let first_later = seen.iter().position(|n| *n > 2).unwrap_or(seen.len());
        let skipped = seen[..first_later].iter().filter(|n| **n == 2).count() < 4;
        let ended = follower.task.is_finished();
        lab::fail!(
            (skipped && !ended).then_some("EB18"),
            "event 2 fails three times and event 4 panics twice; the handler was called for {}{}",
            some(&seen),
            if ended {
                ", and `follow` has ended"
            } else {
                ""
            }
        );
    }
    outcome?;
    let followed = follower.finish(&lab).await?;
    ensure!(
        followed.handled == 6 && followed.set_aside == 0 && journal.dead().await?.is_empty(),
        "all six events were handled in the end, and `follow` returned {followed:?}"
    );
    Ok(())
}

async fn the_delay_doubles_with_each_attempt(lab: Lab) -> Outcome {
    lab.promise("Between two attempts the delay passes, and it doubles with each: no attempt comes earlier.");
    let journal = Journal::new(&lab).await?;
    journal.put(1, 1).await?;
    let times: std::sync::Arc<std::sync::Mutex<Vec<Instant>>> = Default::default();
    let noted = times.clone();
    let follower = journal.follower_with(
        Follow {
            retry_delay: Duration::from_millis(40),
            attempts: 4,
            ..journal.options()
        },
        move |_stored, _times| {
            noted.lock().expect("not poisoned").push(Instant::now());
            async { Err(BoxError::from("no")) }
        },
    );
    journal
        .until(
            "the event to be set aside after four attempts",
            &follower,
            || async { Ok(journal.dead().await?.len() == 1) },
        )
        .await?;
    let times = times.lock().expect("not poisoned").clone();
    ensure!(
        times.len() == 4,
        "four attempts were allowed, and there were {}",
        times.len()
    );
    for (n, pair) in times.windows(2).enumerate() {
        let least = Duration::from_millis(40 << n);
        let waited = pair[1] - pair[0];
        // A timer may be early by the tick it is rounded to.
        ensure!(
            waited + Duration::from_millis(2) >= least,
            "the delay is 40 ms and doubles; attempt {} came {waited:?} after attempt {}",
            n + 2,
            n + 1
        );
    }
    follower.finish(&lab).await?;
    Ok(())
}

async fn what_fails_for_good_is_set_aside(lab: Lab) -> Outcome {
    lab.promise("After `attempts` calls an event goes to the stream `LOG:dead:GROUP`, with its fields, `_id` and `_reason`, is acknowledged, and the next one is handled.");
    let journal = Journal::new(&lab).await?;
    let ids = journal.put(1, 4).await?;
    let follower = journal.follower_with(
        Follow {
            attempts: 3,
            ..journal.options()
        },
        |stored, _times| async move {
            match n_of(&stored.event) {
                2 => Err(BoxError::from("no such street")),
                3 => panic!("lost for words"),
                _ => Ok(()),
            }
        },
    );
    let outcome = journal
        .until(
            "four events to be handled or set aside",
            &follower,
            || async { Ok(follower.seen.count() >= 8 && journal.is_done().await?) },
        )
        .await;
    let seen = follower.seen.ns();
    ensure!(
        seen == [1, 2, 2, 2, 3, 3, 3, 4],
        "the events 2 and 3 never succeed, and three attempts are allowed; the handler was called for {}",
        some(&seen)
    );
    outcome?;
    let followed = follower.finish(&lab).await?;
    ensure!(
        followed.handled == 2 && followed.set_aside == 2,
        "two events were handled and two set aside, and `follow` returned {followed:?}"
    );
    let dead = journal.dead().await?;
    ensure!(
        dead.len() == 2,
        "two events never succeeded, and `{}` has {} entries",
        journal.dead_stream(),
        dead.len()
    );
    for (entry, (n, reason)) in dead
        .iter()
        .zip([(2, "no such street"), (3, "lost for words")])
    {
        ensure!(
            entry.names() == ["_id", "_reason", "at", "data", "name"] && entry.count == 5,
            "a set aside event has the fields {:?}",
            entry.names()
        );
        ensure!(
            entry.text("_id") == ids[n as usize - 1]
                && entry.n() == n
                && entry.text("name") == "order.placed"
                && entry.text("at") == "2026-03-01T12:00:00.000Z",
            "event {n} ({}) was set aside as {entry:?}",
            ids[n as usize - 1]
        );
        ensure!(
            entry.text("_reason").contains(reason),
            "event {n} failed with `{reason}`, and the reason says `{}`",
            entry.text("_reason")
        );
    }
    ensure!(
        journal.entries().await?.len() == 4,
        "what was set aside stays in the log, which other groups read; it holds {} of four",
        journal.entries().await?.len()
    );
    Ok(())
}

async fn what_is_no_event_is_set_aside_at_once(lab: Lab) -> Outcome {
    lab.promise("An entry that is no event (fields missing, bad JSON), whoever wrote it, is set aside without a call and with its fields as they were, and following goes on.");
    let journal = Journal::new(&lab).await?;
    let at = ("at", b"2026-03-01T12:00:00.000Z".as_slice());
    let name = ("name", b"order.placed".as_slice());
    let broken: [Vec<(&str, &[u8])>; 6] = [
        vec![("order_id", b"A-1"), ("user_id", b"42")],
        vec![("data", b"{}"), at],
        vec![name, at],
        vec![name, ("data", b"{}")],
        vec![name, ("data", b"{\"n\": 1"), at],
        vec![name, ("data", b"\"\xff\xfe\""), at],
    ];
    let mut ids = Vec::new();
    for (n, fields) in broken.iter().enumerate() {
        journal.put(n as u64 + 1, n as u64 + 1).await?;
        ids.push(journal.add("*", fields).await?);
    }
    journal.put(7, 7).await?;
    // A delay would show: broken entries have no second attempt.
    let follower = journal.follower(Follow {
        retry_delay: Duration::from_secs(3_600),
        ..journal.options()
    });
    journal
        .until(
            "seven events to be handled and six broken entries set aside",
            &follower,
            || async { Ok(follower.seen.count() >= 7 && journal.is_done().await?) },
        )
        .await?;
    ensure!(
        follower.seen.ns() == (1..=7).collect::<Vec<_>>(),
        "seven entries are events; the handler was called for {}",
        some(&follower.seen.ns())
    );
    let followed = follower.finish(&lab).await?;
    ensure!(
        followed.handled == 7 && followed.set_aside == 6,
        "seven events and six broken entries, and `follow` returned {followed:?}"
    );
    let dead = journal.dead().await?;
    ensure!(
        dead.len() == 6,
        "six entries are no events, and `{}` has {} entries",
        journal.dead_stream(),
        dead.len()
    );
    for ((entry, id), fields) in dead.iter().zip(&ids).zip(&broken) {
        let kept = fields
            .iter()
            .all(|(name, value)| entry.fields.get(*name).is_some_and(|v| v == value));
        ensure!(
            entry.text("_id") == *id && kept && entry.count == fields.len() + 2,
            "entry {id} is no event and was set aside as {entry:?}"
        );
        ensure!(
            !entry.text("_reason").is_empty(),
            "entry {id} was set aside without a reason"
        );
    }
    Ok(())
}

/// Ten events, one a second from 2023-11-14T22:13:20Z on, the fifth second twice.
async fn ten_seconds(journal: &Journal) -> Outcome {
    for n in 1..=9_u64 {
        let ms = 1_700_000_000_000 + (n - 1) * 1_000;
        journal
            .add_event_at(&format!("{ms}-0"), "order.placed", n)
            .await?;
        if n == 5 {
            journal
                .add_event_at(&format!("{ms}-7"), "order.placed", 55)
                .await?;
        }
    }
    Ok(())
}

async fn replay_begins_at_the_id_or_the_time(lab: Lab) -> Outcome {
    lab.promise("With `from` a group begins at that id or time, inclusive, whether it is new or had gone on further.");
    let all = [1, 2, 3, 4, 5, 55, 6, 7, 8, 9];
    let id = |text: &str| Start::Id(text.into());
    let time = |text: &str| Start::Time(text.into());
    for (from, skipped) in [
        (id("1700000004000-0"), 4),
        (id("1700000004000"), 4),
        (id("1700000004000-1"), 5),
        (id("0"), 0),
        (id("1700000008000-1"), 10),
        (time("2023-11-14T22:13:24Z"), 4),
        (time("2023-11-14T23:13:24.000+01:00"), 4),
        (time("2023-11-14T22:13:24.001Z"), 6),
        (time("2020-01-01T00:00:00Z"), 0),
    ] {
        let journal = Journal::new(&lab).await?;
        ten_seconds(&journal).await?;
        // Once as a new group, once as one that had everything.
        for round in ["new", "done with everything"] {
            let follower = journal.follower(Follow {
                from: Some(from.clone()),
                batch: 3,
                ..journal.options()
            });
            journal
                .until("the events from there on", &follower, || async {
                    Ok(follower.seen.count() >= 10 - skipped && journal.is_done().await?)
                })
                .await
                .map_err(|failure| failure.also(format!("the group is {round}, from {from:?}")))?;
            lab.within(Duration::from_millis(20)).await;
            ensure!(
                follower.seen.ns() == all[skipped..],
                "the group is {round} and is to begin at {from:?}; the handler was called for {}",
                some(&follower.seen.ns())
            );
            follower.finish(&lab).await?;
        }
    }
    Ok(())
}

async fn replay_gives_up_what_was_pending(lab: Lab) -> Outcome {
    lab.promise("With `from`, what is pending from before is given up: it is acknowledged, and comes only if it is in what is replayed, in its place.");
    for (from, expected) in [
        ("1700000007000-0", vec![8, 9]),
        ("1700000001000-0", vec![2, 3, 4, 5, 55, 6, 7, 8, 9]),
    ] {
        let journal = Journal::new(&lab).await?;
        ten_seconds(&journal).await?;
        journal.deliver(5).await?;
        let follower = journal.follower(Follow {
            from: Some(Start::Id(from.into())),
            ..journal.options()
        });
        journal
            .until(
                "the replayed events, and nothing pending",
                &follower,
                || async {
                    Ok(follower.seen.count() >= expected.len() && journal.is_done().await?)
                },
            )
            .await?;
        ensure!(
            follower.seen.ns() == expected,
            "the events 1 to 5 were pending, and the group is to begin at {from}; the handler was called for {}",
            some(&follower.seen.ns())
        );
        follower.finish(&lab).await?;
    }
    Ok(())
}

async fn replay_begins_once(lab: Lab) -> Outcome {
    lab.promise(
        "`from` is for the start: after a lost connection the follower goes on where it was.",
    );
    let journal = Journal::new(&lab).await?;
    ten_seconds(&journal).await?;
    let follower = journal.follower(Follow {
        from: Some(Start::Id("1700000006000-0".into())),
        ..journal.options()
    });
    for (n, expected) in [(1, 3), (2, 4), (3, 5)] {
        journal
            .until("the events from there on", &follower, || async {
                Ok(follower.seen.count() >= expected && journal.is_done().await?)
            })
            .await?;
        let mark = journal.redis.proxy().mark();
        journal.redis.proxy().cut_all();
        journal
            .until("the follower to read again", &follower, || async {
                let reads = journal.redis.proxy().since(mark);
                Ok(reads.iter().any(|e| e.is("XREADGROUP")))
            })
            .await?;
        journal.put(9 + n, 9 + n).await?;
    }
    journal
        .until("the last event", &follower, || async {
            Ok(follower.seen.ns().contains(&12) && journal.is_done().await?)
        })
        .await?;
    ensure!(
        follower.seen.ns() == [7, 8, 9, 10, 11, 12],
        "it was to begin at event 7, and its connections were cut three times; the handler was called for {}",
        some(&follower.seen.ns())
    );
    follower.finish(&lab).await?;
    Ok(())
}

async fn a_stop_lets_the_call_end_and_no_other_begin(lab: Lab) -> Outcome {
    lab.promise(
        "A stop lets the running call end; what was handled is acknowledged, and nothing else.",
    );
    let journal = Journal::new(&lab).await?;
    let ids = journal.put(1, 20).await?;
    let gate = Gate::closed();
    let waiting = gate.clone();
    let mut follower = journal.follower_with(journal.options(), move |_stored, _times| {
        let gate = waiting.clone();
        async move {
            gate.passed().await;
            Ok(())
        }
    });
    gate.let_through(3);
    journal
        .until(
            "three events to be handled and the fourth to be in its handler",
            &follower,
            || async { Ok(follower.seen.count() >= 4) },
        )
        .await?;
    follower.stop();
    lab.within(A_WHILE).await;
    ensure!(
        !follower.task.is_finished(),
        "`follow` was asked to stop and returned, although a call was running"
    );
    gate.open();
    let followed = timely(
        &lab,
        "`follow` to return after its running call",
        &mut follower.task,
    )
    .await??;
    let seen = follower.seen.ns();
    ensure!(
        seen == [1, 2, 3, 4],
        "it was asked to stop while event 4 was in its handler; the handler was called for {}",
        some(&seen)
    );
    let (pending, read) = (
        journal.pending().await?,
        journal.read_up_to().await?.unwrap_or_default(),
    );
    let acknowledged = ids
        .iter()
        .filter(|id| later(&read, id) && !pending.contains(id))
        .count();
    ensure!(
        acknowledged == 4 && followed.handled == 4,
        "EB15",
        "four events were handled before the stop; acknowledged are {acknowledged}, and `follow` returned {followed:?}"
    );
    let next = journal.follower(journal.options());
    journal
        .until("the other sixteen after a start", &next, || async {
            Ok(next.seen.count() >= 16 && journal.is_done().await?)
        })
        .await?;
    ensure!(
        next.seen.ns() == (5..=20).collect::<Vec<_>>(),
        "EB17",
        "the events 1 to 4 were acknowledged; after the next start the handler was called for {}",
        some(&next.seen.ns())
    );
    next.finish(&lab).await?;
    Ok(())
}

async fn a_stop_between_two_attempts_leaves_the_event_for_the_next_time(lab: Lab) -> Outcome {
    lab.promise("A stop while a failed event waits for its next attempt does not wait for it: the event is not acknowledged, and whoever follows next gets it, and then those after it.");
    let journal = Journal::new(&lab).await?;
    let ids = journal.put(1, 3).await?;
    let options = Follow {
        attempts: 5,
        // Longer than anybody waits.
        retry_delay: Duration::from_secs(600),
        ..journal.options()
    };
    let mut follower = journal.follower_with(options, |_stored, _times| async move {
        Err(BoxError::from("not today"))
    });
    journal
        .until("the first event to fail once", &follower, || async {
            Ok(follower.seen.count() >= 1)
        })
        .await?;
    lab.within(A_WHILE).await;
    follower.stop();
    timely(
        &lab,
        "`follow` to return, although an event waits for its next attempt",
        &mut follower.task,
    )
    .await??;
    let pending = journal.pending().await?;
    ensure!(
        pending.contains(&ids[0]),
        "event 1 had failed once and waited for its next attempt; after the stop it is not pending any more: it was acknowledged, and is lost"
    );
    let next = journal.follower_with(journal.options(), |_stored, _times| async move { Ok(()) });
    journal
        .until(
            "the three events to be handled by the next",
            &next,
            || async { Ok(next.seen.count() >= 3) },
        )
        .await?;
    let seen = next.seen.ns();
    ensure!(
        seen == [1, 2, 3],
        "whoever followed next was given {}",
        some(&seen)
    );
    Ok(())
}

async fn a_stop_does_not_wait_for_events(lab: Lab) -> Outcome {
    lab.promise("A stop returns within a second: while nothing comes, between two attempts, and while Redis is away.");
    // A fair second: longer by what this machine was held up.
    let journal = Journal::new(&lab).await?;
    journal.put(1, 1).await?;
    for situation in [
        "nothing comes",
        "a retry is due in ten seconds",
        "Redis is away",
    ] {
        let own = journal.for_group(&lab.unique("group"));
        let fails = situation.starts_with("a retry");
        let follower = own.follower_with(
            Follow {
                retry_delay: Duration::from_secs(10),
                ..own.options()
            },
            move |_stored, _times| async move {
                match fails {
                    true => Err(BoxError::from("no")),
                    false => Ok(()),
                }
            },
        );
        own.until("the first event to come", &follower, || async {
            Ok(follower.seen.count() == 1 && (fails || own.is_done().await?))
        })
        .await?;
        if situation.starts_with("Redis") {
            own.redis.proxy().refuse(true);
            own.redis.proxy().cut_all();
        }
        lab.within(Duration::from_millis(300)).await;
        lab.forget_stalls();
        let asked = Instant::now();
        follower.finish(&lab).await?;
        let took = asked.elapsed();
        own.redis.proxy().refuse(false);
        ensure!(
            took < Duration::from_millis(1_500) * 2 + lab.stalled() * 10,
            "{situation}, and `follow` returned {took:.1?} after its stop"
        );
    }
    Ok(())
}

async fn without_redis_nothing_is_followed(lab: Lab) -> Outcome {
    lab.promise("Where there is no Redis, `follow`, `Log::connect` and the service say so at once: `Connect`, and exit code 69.");
    let journal = Journal::new(&lab).await?;
    journal.redis.proxy().refuse(true);
    let mut following = tokio::spawn(follow(
        journal.options(),
        |_stored| async { Ok(()) },
        event_bus::CancellationToken::new(),
    ));
    let followed = timely(
        &lab,
        "`follow` to say that there is no Redis",
        &mut following,
    )
    .await?;
    ensure!(
        matches!(followed, Err(Error::Connect { .. })),
        "every connection is refused, and `follow` returned {followed:?}"
    );
    let connected = Log::connect(&journal.redis.url(), &journal.log).await;
    ensure!(
        matches!(connected, Err(Error::Connect { .. })),
        "every connection is refused, and `Log::connect` returned {:?}",
        connected.map(|_| "a log")
    );
    let subscriber = journal.subscriber(&[])?;
    let status = subscriber.wait().await?;
    ensure!(
        status.code() == Some(69),
        "every connection is refused, and `event-bus subscribe` ended with {status}; it said: {}",
        subscriber.stderr()
    );
    Ok(())
}
