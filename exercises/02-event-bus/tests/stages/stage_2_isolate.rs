//! Stage 2: what one handler does is no other handler's trouble, and not the publisher's.

use std::sync::Arc;
use std::time::Duration;

use event_bus::{BoxError, Event, HandlerFailure, Named, Overflow, Subscribe};
use lab::{Check, Lab, Outcome, ensure};
use serde::{Deserialize, Serialize};

use crate::hall::{A_WHILE, Gate, Hall, keys, on_threads, room_for};
use crate::heard::{Token, key, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_failing_handler_harms_nobody,
        a_panicking_handler_lives_on,
        a_hung_handler_is_cut_off,
        a_call_that_hangs_for_ever_harms_no_other,
        a_blocked_thread_holds_up_only_itself,
        unreadable_data_goes_to_the_hook,
        a_panicking_hook_harms_nobody,
        the_hook_can_be_replaced,
        the_hook_may_use_the_bus,
        a_failed_event_is_not_called_again,
        stats_count_what_came_of_the_calls,
    ]
}

async fn a_failing_handler_harms_nobody(lab: Lab) -> Outcome {
    lab.promise("A handler's error goes to the error hook, with the event and the subscription's pattern. The other subscribers and the publisher do not notice, and the subscription lives on.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let before = hall.quick("before")?;
    let failing = hall.listen("failing", Subscribe::default(), |event| async move {
        Err(BoxError::from(format!("no stock for {}", key(&event).1)))
    })?;
    let after = hall.quick("after")?;
    for n in 1..=10 {
        let published = hall.publish(hall.event(1, n)).await.map_err(|failure| {
            failure
                .code_if("EB01")
                .also("a handler had failed, which is none of the publisher's business")
        })?;
        ensure!(
            published.matched == 3,
            "EB01",
            "three are subscribed, one of them failing, and `matched` is {}",
            published.matched
        );
    }
    for listener in [&before, &after, &failing] {
        listener
            .heard
            .until_ended(10)
            .await
            .map_err(|failure| failure.code_if("EB01"))?;
        listener.heard.exactly(&keys(1, 10), "EB01")?;
    }
    errors.until(&lab, 10).await?;
    for (n, (pattern, event, failure)) in errors.all().into_iter().enumerate() {
        let (n, text) = (n as u64 + 1, format!("no stock for {}", n + 1));
        ensure!(
            pattern == hall.name && event == (1, n),
            "the handler of `{}` failed for event 1-{n}; the hook was told of `{pattern}` and event {}-{}",
            hall.name,
            event.0,
            event.1
        );
        ensure!(
            matches!(&failure, HandlerFailure::Failed(said) if *said == text),
            "the handler failed with `{text}`; the hook was told {failure:?}"
        );
    }
    Ok(())
}

async fn a_panicking_handler_lives_on(lab: Lab) -> Outcome {
    lab.promise("A panic, in the handler's future or in the call that makes it, is told to the hook like an error. The subscription lives on, and so do the others.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let panicking = hall.listen("panicking", Subscribe::default(), |event| {
        let n = key(&event).1;
        if n == 2 {
            panic!("in the call");
        }
        async move {
            tokio::task::yield_now().await;
            if n == 4 {
                panic!("in the future of {n}");
            }
            Ok(())
        }
    })?;
    let other = hall.quick("other")?;
    hall.publish_all(1, 1, 6)
        .await
        .map_err(|failure| failure.code_if("EB07"))?;
    other.heard.until_ended(6).await?;
    panicking
        .heard
        .until_begun(6)
        .await
        .map_err(|failure| failure.code_if("EB07"))?;
    panicking.heard.exactly(&keys(1, 6), "EB07")?;
    errors.until(&lab, 2).await?;
    let told: Vec<_> = errors
        .all()
        .into_iter()
        .map(|(_, event, failure)| (event.1, failure))
        .collect();
    ensure!(
        matches!(
            told.as_slice(),
            [(2, HandlerFailure::Panicked(one)), (4, HandlerFailure::Panicked(two))]
            if one == "in the call" && two == "in the future of 4"
        ),
        "the handler panicked for event 1-2 (`in the call`) and for event 1-4 (`in the future of 4`); the hook was told {told:?}"
    );
    Ok(())
}

async fn a_hung_handler_is_cut_off(lab: Lab) -> Outcome {
    lab.promise("A call that takes longer than the subscription's timeout is cut off where it waits, and the hook is told. The next event is handled.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let held = Token::default();
    let holding = held.clone();
    let limit = Duration::from_millis(40);
    let options = Subscribe {
        timeout: Some(limit),
        ..Subscribe::default()
    };
    let hung = hall.listen("hung", options, move |event| {
        let held = (key(&event).1 % 2 == 1).then(|| holding.clone());
        async move {
            match held {
                // It holds on to something until it is dropped.
                Some(_held) => std::future::pending().await,
                None => Ok(()),
            }
        }
    })?;
    // The same wait is no hang where the timeout is longer, or none is set.
    let gate = Gate::closed();
    let patient = hall.gated("patient", Subscribe::default(), &gate)?;
    let endless = hall.gated("endless", room_for(16, Overflow::Block), &gate)?;
    hall.publish_all(1, 1, 6).await?;
    hung.heard
        .until_begun(6)
        .await
        .map_err(|failure| failure.code_if("EB08"))?;
    errors
        .until(&lab, 3)
        .await
        .map_err(|failure| failure.code_if("EB08"))?;
    lab.eventually("what the hung calls held to be let go", || async {
        // One is the check's, one the handler's.
        Ok((held.others() == 1).then_some(()))
    })
    .await?;
    hung.heard.exactly(&keys(1, 6), "EB08")?;
    let told: Vec<_> = errors
        .all()
        .into_iter()
        .map(|(_, event, failure)| (event.1, failure))
        .collect();
    for (odd, (n, failure)) in [1, 3, 5].into_iter().zip(&told) {
        ensure!(
            *n == odd && matches!(failure, HandlerFailure::TimedOut(after) if *after == limit),
            "the handler hung for the events 1-1, 1-3 and 1-5, with a timeout of {limit:?}; the hook was told {told:?}"
        );
    }
    lab.within(A_WHILE).await;
    for waiting in [&patient, &endless] {
        ensure!(
            waiting.heard.count() == 1,
            "a call that is within its timeout waits for something, and {} were begun",
            waiting.heard.count()
        );
    }
    gate.open();
    patient.heard.until_ended(6).await?;
    endless.heard.until_ended(6).await?;
    ensure!(
        errors.count() == 3,
        "three calls hung for too long, and the hook was told of {}",
        errors.count()
    );
    Ok(())
}

async fn a_call_that_hangs_for_ever_harms_no_other(lab: Lab) -> Outcome {
    lab.promise("A handler without a timeout that never ends keeps its own queue, and nothing else: the others get their events, and who publishes goes on.");
    let hall = Hall::new(&lab);
    let options = room_for(1024, Overflow::Block);
    let hung = hall.listen("hung", options, |_event| std::future::pending())?;
    let other = hall.quick("other")?;
    hall.publish(hall.event(1, 1)).await?;
    hung.heard.until_begun(1).await?;
    let late = hall.quick("late")?;
    hall.publish_all(1, 2, 50)
        .await
        .map_err(|failure| failure.code_if("EB05"))?;
    other.heard.until_ended(50).await?;
    late.heard.until_ended(49).await?;
    other.heard.exactly(&keys(1, 50), None)?;
    hung.heard.exactly(&keys(1, 1), None)
}

async fn a_blocked_thread_holds_up_only_itself(lab: Lab) -> Outcome {
    lab.promise("A handler that blocks its thread holds up only itself, as long as the runtime has another thread.");
    for threads in [2, 3] {
        on_threads(threads, blocked_thread(lab.clone())).await?;
    }
    Ok(())
}

async fn blocked_thread(lab: Lab) -> Outcome {
    let hall = Hall::new(&lab);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let before = hall.quick("before")?;
    let blocking = hall.listen("blocking", room_for(64, Overflow::Block), move |_event| {
        let released = Arc::clone(&released);
        async move {
            // Ends when the check says so, or is over.
            let _ = released.lock().map(|released| released.recv());
            Ok(())
        }
    })?;
    let after = hall.quick("after")?;
    hall.publish(hall.event(1, 1)).await?;
    blocking.heard.until_begun(1).await?;
    // A task that a worker thread was about to run itself is stuck behind the blocked one: no
    // executor can help that, so it is what comes from here on that counts.
    lab.within(Duration::from_millis(50)).await;
    for n in 2..=20 {
        hall.publish(hall.event(1, n)).await.map_err(|failure| {
            failure
                .code_if("EB05")
                .also("another subscriber's handler blocks its thread; one more thread is idle")
        })?;
    }
    for listener in [&before, &after] {
        listener.heard.until_ended(20).await.map_err(|failure| {
            failure.also("another subscriber's handler blocks its thread; one more thread is idle")
        })?;
    }
    ensure!(
        blocking.heard.count() == 1,
        "the blocked handler was called {} times at once",
        blocking.heard.count()
    );
    drop(release);
    blocking.heard.until_ended(20).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Paid {
    order: String,
    amount: u64,
}

impl Named for Paid {
    const NAME: &'static str = "payment.taken";
}

async fn unreadable_data_goes_to_the_hook(lab: Lab) -> Outcome {
    lab.promise("Data that is not what a typed subscriber wants goes to the hook, with the event; its handler is not called, and the subscription lives on.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let got: Arc<std::sync::Mutex<Vec<Paid>>> = Arc::default();
    let keep = Arc::clone(&got);
    let _typed = hall
        .bus
        .subscribe_to::<Paid, _, _>(Subscribe::default(), move |event| {
            keep.lock().expect("not poisoned").push(event);
            async { Ok(()) }
        })?;
    let plain = hall.listen_to("plain", Paid::NAME, Subscribe::default(), |_event| async {
        Ok(())
    })?;
    let good = |n: u64| Paid {
        order: format!("A-{n}"),
        amount: n,
    };
    hall.publish(Event::of(&good(1))?).await?;
    let bad = [
        serde_json::json!({"order": "A-2", "amount": "much", "by": 7, "n": 1}),
        serde_json::json!({"order": "A-3", "by": 7, "n": 2}),
        serde_json::json!({"order": "A-4", "amount": -1, "by": 7, "n": 3}),
    ];
    for data in bad {
        hall.publish(Event::new(Paid::NAME, data)?).await?;
    }
    hall.publish(Event::of(&good(5))?).await?;
    plain.heard.until_ended(5).await?;
    errors.until(&lab, 3).await?;
    lab.eventually(
        "the typed handler to get the events it can read",
        || async { Ok((got.lock().expect("not poisoned").len() >= 2).then_some(())) },
    )
    .await?;
    let got = got.lock().expect("not poisoned").clone();
    ensure!(
        got == [good(1), good(5)],
        "two of five events were what the typed handler wants; it got {got:?}"
    );
    let told = errors.all();
    let as_they_should = told
        .iter()
        .enumerate()
        .all(|(n, (pattern, event, failure))| {
            pattern == Paid::NAME
                && *event == (7, n as u64 + 1)
                && matches!(failure, HandlerFailure::Unreadable(_))
        });
    ensure!(
        told.len() == 3 && as_they_should,
        "three events had data that is no `payment.taken`; the hook was told {told:?}"
    );
    Ok(())
}

async fn a_panicking_hook_harms_nobody(lab: Lab) -> Outcome {
    lab.promise("An error hook that panics harms nobody: the subscription lives on, and the hook is told of the next failure.");
    let hall = Hall::new(&lab);
    let told = Token::default();
    let counting = std::sync::Mutex::new(Vec::new());
    let seen = told.clone();
    hall.bus.on_error(move |_error| {
        // What it counts lives on with the hook.
        counting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(seen.clone());
        panic!("the hook itself is broken");
    });
    let failing = hall.listen("failing", Subscribe::default(), |event| async move {
        match key(&event).1 {
            1 => panic!("a handler, too"),
            2 => Err(BoxError::from("no")),
            _ => Ok(()),
        }
    })?;
    let other = hall.quick("other")?;
    hall.publish_all(1, 1, 4).await?;
    failing.heard.until_begun(4).await.map_err(|failure| {
        failure.also("the error hook panicked when it was told of the first failure")
    })?;
    other.heard.until_ended(4).await?;
    failing.heard.exactly(&keys(1, 4), None)?;
    lab.eventually("the hook to be told of both failures", || async {
        Ok((told.others() >= 3).then_some(()))
    })
    .await
}

async fn the_hook_can_be_replaced(lab: Lab) -> Outcome {
    lab.promise("`on_error` replaces the hook, for the subscriptions that are there as well; without a hook a failure is no harm.");
    let hall = Hall::new(&lab);
    let failing = hall.listen("failing", Subscribe::default(), |_event| async {
        Err(BoxError::from("no"))
    })?;
    hall.publish(hall.event(1, 1)).await?;
    failing.heard.until_ended(1).await?;
    // The hook may be told after the call has ended: the next call is begun after that.
    hall.publish(hall.event(1, 2)).await?;
    failing.heard.until_ended(2).await?;
    let (first, clone) = (hall.errors(), hall.bus.clone());
    hall.publish_all(1, 3, 4).await?;
    first.until(&lab, 1).await?;
    failing.heard.until_ended(4).await?;
    lab.eventually("the hook to be told of event 1-4", || async {
        Ok(first.all().iter().any(|e| e.1 == (1, 4)).then_some(()))
    })
    .await?;
    let before = first.count();
    let other = Hall {
        bus: clone,
        ..hall.clone()
    };
    let second = other.errors();
    hall.publish_all(1, 5, 6).await?;
    second.until(&lab, 2).await?;
    ensure!(
        first.count() == before,
        "the hook was replaced, and the old one was told of {} more failures",
        first.count() - before
    );
    let told: Vec<_> = second.all().into_iter().map(|told| told.1).collect();
    ensure!(
        told == [(1, 5), (1, 6)],
        "the handler failed for the events 1-5 and 1-6; the new hook was told of {}",
        some(&told)
    );
    Ok(())
}

async fn the_hook_may_use_the_bus(lab: Lab) -> Outcome {
    lab.promise(
        "The error hook is called with no lock held: it may publish, subscribe and replace itself.",
    );
    let hall = Hall::new(&lab);
    let alarm = lab.unique("alarm.raised");
    let alarms = hall.listen_to("alarms", &alarm, Subscribe::default(), |_event| async {
        Ok(())
    })?;
    let (told, second) = (Token::default(), Token::default());
    let (inner, first) = (second.clone(), told.clone());
    let (weak, name) = (hall.clone(), alarm.clone());
    hall.bus.on_error(move |_error| {
        let (bus, name) = (weak.bus.clone(), name.clone());
        let inner = inner.clone();
        let passing = weak.quick("passing");
        bus.on_error(move |_error| std::mem::forget(inner.clone()));
        std::mem::forget(first.clone());
        tokio::spawn(async move {
            let _passing = passing;
            let _ = bus.publish(crate::hall::event(&name, 5, 1)).await;
        });
    });
    let failing = hall.listen("failing", Subscribe::default(), |_event| async {
        Err(BoxError::from("no"))
    })?;
    hall.publish(hall.event(1, 1)).await?;
    alarms.heard.until_ended(1).await.map_err(|failure| {
        failure
            .code_if("EB06")
            .also("the error hook subscribes, replaces itself and publishes")
    })?;
    hall.publish(hall.event(1, 2)).await?;
    failing.heard.until_ended(2).await?;
    // The first hook is gone, and the second one is told.
    lab.eventually("the hook that the first one has set to be told", || async {
        Ok((second.others() >= 2).then_some(()))
    })
    .await?;
    let published = hall.publish(hall.event(1, 3)).await?;
    ensure!(
        published.matched == 1,
        "one subscription is left, and `matched` is {}",
        published.matched
    );
    Ok(())
}

async fn a_failed_event_is_not_called_again(lab: Lab) -> Outcome {
    lab.promise("The handler is called once for each event, whatever comes of the call, and the order stays.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let options = Subscribe {
        timeout: Some(Duration::from_millis(20)),
        ..Subscribe::default()
    };
    let mixed = hall.listen("mixed", options, |event| async move {
        tokio::task::yield_now().await;
        match key(&event).1 % 4 {
            0 => std::future::pending().await,
            1 => Err(BoxError::from("no")),
            2 => panic!("at {}", key(&event).1),
            _ => Ok(()),
        }
    })?;
    hall.publish_all(1, 1, 24).await?;
    errors.until(&lab, 18).await?;
    hall.publish(hall.event(1, 27)).await?;
    mixed.heard.until_begun(25).await?;
    let mut expected = keys(1, 24);
    expected.push((1, 27));
    mixed.heard.exactly(&expected, None)?;
    ensure!(
        mixed.heard.most_at_work() == 1,
        "{} calls of one subscription were at work at the same time",
        mixed.heard.most_at_work()
    );
    let told: Vec<_> = errors.all().into_iter().map(|told| told.1).collect();
    let failed: Vec<_> = keys(1, 24).into_iter().filter(|k| k.1 % 4 != 3).collect();
    ensure!(
        told == failed,
        "18 of 24 calls failed; the hook was told of {}",
        some(&told)
    );
    Ok(())
}

async fn stats_count_what_came_of_the_calls(lab: Lab) -> Outcome {
    lab.promise("`stats` says how many calls a subscription has handled and how many failed, in whatever way.");
    let hall = Hall::new(&lab);
    let options = Subscribe {
        timeout: Some(Duration::from_millis(20)),
        ..Subscribe::default()
    };
    let mixed = hall.listen("mixed", options, |event| async move {
        match key(&event).1 {
            2 => std::future::pending().await,
            4 => Err(BoxError::from("no")),
            6 => panic!("at 6"),
            _ => Ok(()),
        }
    })?;
    let good = hall.quick("good")?;
    let zero = good.guard.stats();
    ensure!(
        (
            zero.handled,
            zero.failed,
            zero.dropped,
            zero.waiting,
            zero.disconnected
        ) == (0, 0, 0, 0, false),
        "nothing has happened yet, and the stats are {zero:?}"
    );
    hall.publish_all(1, 1, 10).await?;
    for (listener, expected) in [(&mixed, (7, 3)), (&good, (10, 0))] {
        let outcome = lab
            .eventually("ten calls to be counted", || async {
                let stats = listener.guard.stats();
                let as_it_should = (stats.handled, stats.failed) == expected
                    && (stats.dropped, stats.waiting, stats.disconnected) == (0, 0, false);
                Ok(as_it_should.then_some(()))
            })
            .await;
        outcome.map_err(|failure| {
            failure.also(format!(
                "{} of ten calls ended well and {} did not; the stats are {:?}",
                expected.0,
                expected.1,
                listener.guard.stats()
            ))
        })?;
    }
    Ok(())
}
