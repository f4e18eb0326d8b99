//! Stage 6: an end in order, with a deadline and a report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_bus::{BoxError, Bus, Error, Overflow, Report, Subscribe};
use futures::future::poll_immediate;
use lab::{Check, Failure, FairClock, Lab, Outcome, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::hall::{A_WHILE, Gate, Hall, event, keys, on_threads, room_for, subscribe, timely};
use crate::heard::{Key, Token, key, missing, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        shutdown_handles_what_waits,
        from_the_call_on_the_bus_is_closed,
        nothing_waits_and_shutdown_returns_at_once,
        at_the_deadline_what_is_left_is_reported,
        shutdown_returns_at_its_deadline_and_not_long_after,
        a_blocked_thread_does_not_hold_up_the_deadline,
        publishers_that_wait_for_room_are_drained_or_told,
        a_second_shutdown_returns_with_the_first,
        failures_do_not_stop_the_draining,
        every_accepted_event_is_accounted_for,
        the_last_bus_takes_everything_with_it,
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

fn shutting_down(bus: &Bus, deadline: Duration) -> JoinHandle<Report> {
    let bus = bus.clone();
    tokio::spawn(async move { bus.shutdown(deadline).await })
}

/// Waits until `publish` says that the bus is closed.
async fn until_closed(hall: &Hall) -> Outcome {
    let name = hall.lab.unique("nobody.listens");
    hall.lab
        .eventually("`publish` to say that the bus is closed", || async {
            let refused = hall.publishing(event(&name, 9, 9)).result().await?;
            Ok(matches!(refused, Err(Error::Closed)).then_some(()))
        })
        .await
}

/// Each subscription's pattern, waiting and interrupted, sorted.
fn left(report: &Report) -> Vec<(String, u64, u64)> {
    let mut left: Vec<_> = report
        .subscriptions
        .iter()
        .map(|one| (one.pattern.clone(), one.waiting, one.interrupted))
        .collect();
    left.sort();
    left
}

async fn shutdown_handles_what_waits(lab: Lab) -> Outcome {
    lab.promise("After the call of `shutdown` what waits is still handled. When all is, it returns, before its deadline, and the report is complete.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let one = hall.gated("one", Subscribe::default(), &gate)?;
    let two = hall.gated("two", room_for(100, Overflow::DropOldest), &gate)?;
    let three = hall.gated("three", Subscribe::default(), &gate)?;
    let three = {
        // A kept subscription is drained like any other.
        three.guard.keep();
        three.heard
    };
    hall.publish_all(1, 1, 60).await?;
    one.heard.until_begun(1).await?;
    let mut ending = shutting_down(&hall.bus, HOUR);
    until_closed(&hall).await?;
    lab.within(A_WHILE).await;
    ensure!(
        !ending.is_finished(),
        "EB13",
        "180 events wait or are being handled, and `shutdown` has returned"
    );
    gate.open();
    let report = timely(&lab, "`shutdown` to return", &mut ending).await?;
    for heard in [&one.heard, &two.heard, &three] {
        let ended = heard.ended();
        ensure!(
            ended == keys(1, 60),
            "EB13",
            "`shutdown` has returned long before its deadline, and of 60 events published before it one subscriber has handled {}",
            some(&ended)
        );
    }
    ensure!(
        report.is_complete() && report.subscriptions.is_empty(),
        "everything was handled, and the report is {report:?}"
    );
    Ok(())
}

async fn from_the_call_on_the_bus_is_closed(lab: Lab) -> Outcome {
    lab.promise("From the call of `shutdown` on `publish` and `subscribe` give `Closed`, through every clone, in handlers as well, and afterwards too.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let (bus, name, waiting) = (hall.bus.clone(), hall.name.clone(), gate.clone());
    let said = Arc::new(std::sync::Mutex::new(None));
    let noted = said.clone();
    let listener = hall.listen("A", Subscribe::default(), move |_event| {
        let (bus, name, gate, noted) = (bus.clone(), name.clone(), waiting.clone(), noted.clone());
        async move {
            gate.passed().await;
            let published = bus.publish(event(&name, 2, 1)).await;
            *noted.lock().expect("not poisoned") = Some(published);
            Ok(())
        }
    })?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    let clone = hall.bus.clone();
    let mut ending = Box::pin(hall.bus.shutdown(HOUR));
    // Polled once: it has been called now.
    ensure!(
        poll_immediate(&mut ending).await.is_none(),
        "EB13",
        "a call is at work, and `shutdown` has returned at once"
    );
    for bus in [&hall.bus, &clone] {
        closed(&hall, bus, "while `shutdown` waits for a call to end").await?;
    }
    gate.open();
    let ended = tokio::time::timeout(lab.deadline(), ending).await;
    ensure!(
        ended.is_ok(),
        "the last call has ended, and `shutdown` does not return"
    );
    {
        let said = said.lock().expect("not poisoned");
        ensure!(
            matches!(&*said, Some(Err(Error::Closed))),
            "a handler published while `shutdown` was waiting for it; the result was {said:?}"
        );
    }
    closed(&hall, &clone, "after `shutdown`").await?;
    listener.heard.exactly(&[(1, 1)], None)
}

/// Holds a bus to being closed.
async fn closed(hall: &Hall, bus: &Bus, when: &str) -> Outcome {
    let one = Hall {
        bus: bus.clone(),
        ..hall.clone()
    };
    let published = one.publishing(one.event(3, 1)).result().await?;
    ensure!(
        matches!(published, Err(Error::Closed)),
        "{when}, `publish` returned {published:?}"
    );
    let handler: crate::hall::Work = Arc::new(|_event| Box::pin(async { Ok(()) }));
    let subscribed = subscribe(bus, &hall.name, Subscribe::default(), handler);
    ensure!(
        matches!(subscribed, Err(Error::Closed)),
        "{when}, `subscribe` returned {:?}",
        subscribed.map(|_| "a subscription")
    );
    Ok(())
}

async fn nothing_waits_and_shutdown_returns_at_once(lab: Lab) -> Outcome {
    lab.promise("Where nothing waits and nothing is at work `shutdown` returns at once, whatever its deadline.");
    let empty = Hall::new(&lab);
    let report = timely(
        &lab,
        "`shutdown` of a bus without subscriptions to return",
        &mut shutting_down(&empty.bus, HOUR),
    )
    .await?;
    ensure!(
        report.is_complete(),
        "nothing was published, and the report is {report:?}"
    );
    let hall = Hall::new(&lab);
    let idle = hall.quick("idle")?;
    let busy = hall.quick("busy")?;
    let dropped = hall.quick("dropped")?;
    hall.publish_all(1, 1, 10).await?;
    busy.heard.until_ended(10).await?;
    idle.heard.until_ended(10).await?;
    drop(dropped.guard);
    let report = timely(
        &lab,
        "`shutdown` of an idle bus to return",
        &mut shutting_down(&hall.bus, HOUR),
    )
    .await?;
    ensure!(
        report.is_complete(),
        "everything was handled, and the report is {report:?}"
    );
    let stats = idle.guard.stats();
    ensure!(
        stats.handled == 10 && stats.waiting == 0,
        "ten events were handled before `shutdown`, and the stats are {stats:?}"
    );
    Ok(())
}

async fn at_the_deadline_what_is_left_is_reported(lab: Lab) -> Outcome {
    lab.promise("At the deadline, and not before, calls are cut off and `shutdown` returns, also when a handler hangs. The report says for each subscription what was not begun and what was cut off.");
    let hall = Hall::new(&lab);
    let (token, gate) = (Token::default(), Gate::closed());
    let held = token.clone();
    let hung = hall.listen("hung", room_for(64, Overflow::Block), move |_event| {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending().await
        }
    })?;
    let quick = hall.quick("quick")?;
    // Its handler hangs at the last event: nothing waits, one is cut off.
    let other = lab.unique("order.shipped");
    let last = hall.listen_to("last", &other, Subscribe::default(), |event| async move {
        if key(&event).1 == 3 {
            std::future::pending::<()>().await;
        }
        Ok(())
    })?;
    // Its queue overflows before and while: what is dropped is not reported as waiting.
    let third = lab.unique("order.paid");
    let oldest = {
        let gate = gate.clone();
        hall.listen_to(
            "oldest",
            &third,
            room_for(2, Overflow::DropOldest),
            move |_event| {
                let gate = gate.clone();
                async move {
                    gate.passed().await;
                    Ok(())
                }
            },
        )?
    };
    hall.publish_all(1, 1, 6).await?;
    for n in 1..=3 {
        hall.publish(event(&other, 2, n)).await?;
    }
    hall.publish(event(&third, 3, 1)).await?;
    oldest.heard.until_begun(1).await?;
    for n in 2..=5 {
        hall.publish(event(&third, 3, n)).await?;
    }
    hung.heard.until_begun(1).await?;
    last.heard.until_begun(3).await?;
    let deadline = Duration::from_millis(400);
    let began = Instant::now();
    let report = timely(
        &lab,
        "`shutdown` to return after its deadline of 400 ms; a handler hangs",
        &mut shutting_down(&hall.bus, deadline),
    )
    .await?;
    ensure!(
        began.elapsed() >= deadline,
        "EB13",
        "`shutdown` was given {deadline:?}, a call was at work, and it returned after {:?}",
        began.elapsed()
    );
    let mut expected = vec![(hall.name.clone(), 5, 1), (other, 0, 1), (third, 2, 1)];
    expected.sort();
    ensure!(
        left(&report) == expected && !report.is_complete(),
        "EB14",
        "as (pattern, waiting, interrupted) was left {expected:?}, and the report is {report:?}"
    );
    quick.heard.exactly(&keys(1, 6), None)?;
    lab.eventually("the call that hung to be cut off", || async {
        Ok((token.others() <= 1).then_some(()))
    })
    .await?;
    gate.open();
    lab.within(A_WHILE).await;
    for (listener, begun) in [(&hung, 1), (&last, 3), (&oldest, 1)] {
        ensure!(
            listener.heard.count() == begun,
            "`shutdown` has returned, and {} calls began after that",
            listener.heard.count() - begun
        );
    }
    ensure!(
        oldest.heard.ended().is_empty(),
        "`shutdown` reported a call as interrupted, and it went on to its end"
    );
    Ok(())
}

async fn shutdown_returns_at_its_deadline_and_not_long_after(lab: Lab) -> Outcome {
    lab.promise(
        "`shutdown` returns at its deadline, or within a moment of it, when a handler hangs.",
    );
    let check = async |deadline: Duration| {
        let hall = Hall::new(&lab);
        let hung = hall.listen("hung", room_for(16, Overflow::Block), |_event| async {
            std::future::pending().await
        })?;
        hall.publish_all(1, 1, 3).await?;
        hung.heard.until_begun(1).await?;
        let began = Instant::now();
        timely(
            &lab,
            "`shutdown` to return",
            &mut shutting_down(&hall.bus, deadline),
        )
        .await?;
        let took = began.elapsed();
        ensure!(
            took >= deadline && took <= deadline * 2,
            "a handler hangs, the deadline is {deadline:?}, and `shutdown` returned after {took:.0?}"
        );
        Ok(())
    };
    FairClock::stalls_beyond(4)
        .run(&lab, [300, 1_000, 3_000], check)
        .await
}

async fn a_blocked_thread_does_not_hold_up_the_deadline(lab: Lab) -> Outcome {
    lab.promise("`shutdown` returns at its deadline also where a handler blocks its thread.");
    on_threads(3, blocked(lab)).await
}

async fn blocked(lab: Lab) -> Outcome {
    let hall = Hall::new(&lab);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let listener = hall.listen("blocking", room_for(16, Overflow::Block), move |_event| {
        let released = Arc::clone(&released);
        async move {
            let _ = released.lock().map(|released| released.recv());
            Ok(())
        }
    })?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    lab.within(Duration::from_millis(50)).await;
    hall.publish_all(1, 2, 4).await?;
    let report = timely(
        &lab,
        "`shutdown` to return after its deadline of 200 ms; a handler blocks its thread",
        &mut shutting_down(&hall.bus, Duration::from_millis(200)),
    )
    .await?;
    ensure!(
        left(&report) == [(hall.name.clone(), 3, 1)],
        "EB14",
        "one call was at work and three events waited, and the report is {report:?}"
    );
    drop(release);
    lab.within(A_WHILE).await;
    listener.heard.exactly(&[(1, 1)], None)
}

async fn publishers_that_wait_for_room_are_drained_or_told(lab: Lab) -> Outcome {
    lab.promise("A publish that waits for room when `shutdown` is called gets the room while draining, and its event is handled, or ends with `Closed`. None waits for ever.");
    for opens in [true, false] {
        waiting_publishers(&lab, opens).await?;
    }
    Ok(())
}

async fn waiting_publishers(lab: &Lab, opens: bool) -> Outcome {
    let hall = Hall::new(lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(1, Overflow::Block), &gate)?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    hall.publish(hall.event(1, 2)).await?;
    let waiting: Vec<_> = (2..=9)
        .map(|by| hall.publishing(hall.event(by, 1)))
        .collect();
    lab.within(A_WHILE).await;
    let deadline = if opens { HOUR } else { A_WHILE };
    let mut ending = shutting_down(&hall.bus, deadline);
    until_closed(&hall).await?;
    if opens {
        gate.open();
    }
    let mut accepted = vec![(1, 1), (1, 2)];
    for (by, publishing) in (2..=9).zip(waiting) {
        match publishing.result().await? {
            Ok(_) => accepted.push((by, 1)),
            Err(Error::Closed) => {}
            Err(error) => lab::fail!(
                "event {by}-1 waited for room when `shutdown` was called; `publish` returned the error: {error}"
            ),
        }
    }
    let report = timely(lab, "`shutdown` to return", &mut ending).await?;
    let lost = missing(&accepted, &listener.heard.ended());
    let told: u64 = report
        .subscriptions
        .iter()
        .map(|one| one.waiting + one.interrupted)
        .sum();
    if opens {
        ensure!(
            report.is_complete() && lost.is_empty(),
            "EB13",
            "`publish` had returned Ok for {}, which were not handled; the report is {report:?}",
            some(&lost)
        );
    } else {
        ensure!(
            told >= lost.len() as u64 && told >= 2,
            "EB14",
            "the handler hung; `publish` had returned Ok for {}, none was handled, and the report is {report:?}",
            some(&lost)
        );
    }
    Ok(())
}

async fn a_second_shutdown_returns_with_the_first(lab: Lab) -> Outcome {
    lab.promise("A second `shutdown` at the same time returns when the first one does, and its report is empty: nothing is reported twice.");
    for hangs in [false, true] {
        let hall = Hall::new(&lab);
        let gate = Gate::closed();
        let listener = hall.gated("A", Subscribe::default(), &gate)?;
        hall.publish_all(1, 1, 4).await?;
        listener.heard.until_begun(1).await?;
        let deadline = if hangs {
            Duration::from_millis(400)
        } else {
            HOUR
        };
        let mut first = shutting_down(&hall.bus, deadline);
        until_closed(&hall).await?;
        // Its own deadline changes nothing.
        let mut second = shutting_down(&hall.bus, if hangs { HOUR } else { deadline });
        lab.within(A_WHILE).await;
        ensure!(
            !second.is_finished() || first.is_finished(),
            "the first `shutdown` waits for a call to end, and the second has returned"
        );
        if !hangs {
            gate.open();
        }
        let one = timely(&lab, "the first `shutdown` to return", &mut first).await?;
        let two = timely(
            &lab,
            "the second `shutdown` to return with the first",
            &mut second,
        )
        .await?;
        let expected = match hangs {
            true => vec![(hall.name.clone(), 3, 1)],
            false => Vec::new(),
        };
        ensure!(
            left(&one) == expected,
            "EB14",
            "as (pattern, waiting, interrupted) was left {expected:?}, and the report is {one:?}"
        );
        ensure!(
            two.is_complete(),
            "the first `shutdown` has the report, and the second one says {two:?}"
        );
        let third = timely(
            &lab,
            "a `shutdown` after the end to return",
            &mut shutting_down(&hall.bus, HOUR),
        )
        .await?;
        ensure!(
            third.is_complete(),
            "everything was reported before, and a later `shutdown` says {third:?}"
        );
    }
    Ok(())
}

async fn failures_do_not_stop_the_draining(lab: Lab) -> Outcome {
    lab.promise("An error, a panic or a timeout while draining is what it always is: told to the hook, and the next event is handled.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let gate = Gate::closed();
    let waiting = gate.clone();
    let options = Subscribe {
        timeout: Some(Duration::from_millis(60)),
        ..Subscribe::default()
    };
    let mixed = hall.listen("mixed", options, move |event| {
        let gate = waiting.clone();
        async move {
            match key(&event).1 {
                1 => gate.passed().await,
                n if n % 4 == 0 => return Err(BoxError::from("no")),
                n if n % 4 == 1 => panic!("at {n}"),
                n if n % 4 == 2 => std::future::pending().await,
                _ => {}
            }
            Ok(())
        }
    })?;
    hall.publish_all(1, 1, 14).await?;
    let report = timely(
        &lab,
        "`shutdown` to return",
        &mut shutting_down(&hall.bus, HOUR),
    )
    .await?;
    ensure!(
        report.is_complete(),
        "every event was handled or has failed, and the report is {report:?}"
    );
    mixed.heard.exactly(&keys(1, 14), "EB13")?;
    errors.until(&lab, 11).await?;
    Ok(())
}

async fn every_accepted_event_is_accounted_for(lab: Lab) -> Outcome {
    lab.promise("Every event whose `publish` returned Ok is handled, or failed, or was dropped by the overflow that was asked for, or is in the report, at whatever moment `shutdown` was called.");
    for round in 0..80 {
        accounted_for(&lab, round).await?;
    }
    Ok(())
}

async fn accounted_for(lab: &Lab, round: u64) -> Outcome {
    let hall = Hall::new(lab);
    let mut rng = StdRng::seed_from_u64(lab.seed() ^ round);
    // In every fourth round a handler hangs, and the deadline comes.
    let hangs = round % 4 == 3;
    let listeners = [
        (2, Overflow::Block),
        (64, Overflow::Block),
        (1, Overflow::DropOldest),
    ]
    .into_iter()
    .map(|(capacity, overflow)| {
        hall.listen("A", room_for(capacity, overflow), move |event| async move {
            tokio::task::yield_now().await;
            if hangs && key(&event).1 == 7 {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    })
    .collect::<Result<Vec<_>, Failure>>()?;
    let publishers: Vec<_> = (1..=4)
        .map(|by| {
            let (bus, name) = (hall.bus.clone(), hall.name.clone());
            tokio::spawn(async move {
                let mut accepted: Vec<Key> = Vec::new();
                for n in 1..=30_u64 {
                    match bus.publish(event(&name, by, n)).await {
                        Ok(_) => accepted.push((by, n)),
                        Err(Error::Closed) => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(accepted)
            })
        })
        .collect();
    for _ in 0..rng.random_range(0..120) {
        tokio::task::yield_now().await;
    }
    let deadline = if hangs {
        Duration::from_millis(5)
    } else {
        HOUR
    };
    let report = timely(
        lab,
        "`shutdown` to return",
        &mut shutting_down(&hall.bus, deadline),
    )
    .await?;
    let mut accepted = Vec::new();
    for mut publisher in publishers {
        accepted.extend(timely(lab, "a publisher to be told `Closed`", &mut publisher).await??);
    }
    // All three have the same pattern: which report is whose does not matter for the sums.
    let reported: u64 = report.subscriptions.iter().map(|one| one.waiting).sum();
    let interrupted: u64 = report.subscriptions.iter().map(|one| one.interrupted).sum();
    let (mut lost, mut unfinished, mut dropped, mut calls) = (Vec::new(), 0, 0, 0);
    for listener in &listeners {
        let (begun, ended) = (listener.heard.begun(), listener.heard.ended());
        lost.extend(missing(&accepted, &begun));
        calls += begun.len() as u64;
        unfinished += (begun.len() - ended.len()) as u64;
        dropped += listener.guard.stats().dropped;
    }
    ensure!(
        lost.len() as u64 <= reported + dropped,
        "EB14",
        "round {round}: {} events were accepted; {} of the calls for them were never begun, {dropped} events were dropped by overflow, and the report tells of {reported} waiting: {report:?}",
        accepted.len(),
        lost.len()
    );
    // One of each publisher may have come into some of the queues before it was told `Closed`.
    let most = 3 * (accepted.len() as u64 + 4);
    ensure!(
        calls + dropped + reported <= most,
        "round {round}: {} events were accepted for three subscriptions each; {calls} calls were begun, {dropped} events dropped, and the report tells of {reported} waiting: {report:?}",
        accepted.len()
    );
    ensure!(
        unfinished <= interrupted,
        "EB13",
        "round {round}: {unfinished} calls were cut off, and the report tells of {interrupted}: {report:?}"
    );
    ensure!(
        hangs || report.is_complete(),
        "round {round}: the deadline was an hour away, and the report is {report:?}"
    );
    Ok(())
}

async fn the_last_bus_takes_everything_with_it(lab: Lab) -> Outcome {
    lab.promise("When the last clone of the bus is dropped without `shutdown`, the subscriptions end and nothing leaks: handlers and events are freed, whether guards are held or were given up.");
    let hall = Hall::new(&lab);
    let (token, gate) = (Token::default(), Gate::closed());
    let mut heard = Vec::new();
    let mut guards = Vec::new();
    for kept in [true, false, true, false] {
        let (held, waiting) = (token.clone(), gate.clone());
        let listener = hall.listen("A", room_for(64, Overflow::Block), move |event| {
            let (held, gate) = (held.clone(), waiting.clone());
            async move {
                gate.passed().await;
                drop((held, event));
                Ok(())
            }
        })?;
        heard.push(listener.heard);
        match kept {
            true => listener.guard.keep(),
            false => guards.push(listener.guard),
        }
    }
    let witness = hall.quick("witness")?;
    hall.publish_all(1, 1, 10).await?;
    witness.heard.until_ended(10).await?;
    for heard in &heard {
        heard.until_begun(1).await?;
    }
    let clone = hall.bus.clone();
    drop(hall);
    lab.within(Duration::from_millis(20)).await;
    ensure!(
        clone
            .publish(event(&lab.unique("other"), 1, 1))
            .await
            .is_ok(),
        "one clone of the bus is still there, and it is closed"
    );
    drop(clone);
    gate.open();
    token
        .until_alone(&lab, "the handlers to be dropped with the last bus")
        .await
        .map_err(|failure| {
            failure.also(format!(
                "{} handlers or calls are still there, and {} of ten events",
                token.others(),
                witness.heard.alive()
            ))
        })?;
    lab.eventually("the events to be freed with the last bus", || async {
        Ok((witness.heard.alive() == 0).then_some(()))
    })
    .await?;
    drop(guards);
    Ok(())
}
