//! Stage 3: one after the other within a subscription, side by side across them.

use std::sync::Arc;

use event_bus::{Event, Overflow, Subscribe};
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::hall::{Gate, Hall, Listener, event, keys, on_threads, room_for, timely};
use crate::heard::key;

pub fn checks() -> Vec<Check> {
    lab::checks![
        one_publishers_events_come_in_its_order,
        every_publishers_order_is_kept,
        calls_of_one_subscription_do_not_overlap,
        subscriptions_are_side_by_side,
        a_slow_subscriber_holds_up_no_other,
        what_a_handler_publishes_keeps_its_order,
        order_needs_no_single_task,
    ]
}

/// A listener that gives up the thread a number of times that event and seed decide.
fn unsteady(hall: &Hall, who: &str, options: Subscribe) -> Result<Listener, Failure> {
    let seed = hall.lab.seed() ^ who.len() as u64;
    hall.listen(who, options, move |event| {
        let mut rng = StdRng::seed_from_u64(seed ^ key(&event).1);
        let yields = match rng.random_range(0..4) {
            0 => rng.random_range(0..40),
            _ => 0,
        };
        async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    })
}

async fn one_publishers_events_come_in_its_order(lab: Lab) -> Outcome {
    lab.promise(
        "Every subscriber gets one publisher's events in the order in which they were published.",
    );
    let hall = Hall::new(&lab);
    let listeners = ["A", "BB", "CCC"]
        .map(|who| unsteady(&hall, who, Subscribe::default()))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let mut publisher = hall.stream(1, 800);
    timely(&lab, "800 events to be published", &mut publisher).await??;
    for listener in &listeners {
        listener.heard.until_ended(800).await?;
        listener.heard.exactly(&keys(1, 800), "EB04")?;
    }
    Ok(())
}

async fn every_publishers_order_is_kept(lab: Lab) -> Outcome {
    lab.promise("However many publish at once, each subscriber gets each publisher's events in that publisher's order.");
    for threads in [2, 4] {
        on_threads(threads, every_publisher(lab.clone())).await?;
    }
    Ok(())
}

async fn every_publisher(lab: Lab) -> Outcome {
    let hall = Hall::new(&lab);
    let listeners = ["A", "BB", "CCC", "DDDD"]
        .map(|who| unsteady(&hall, who, Subscribe::default()))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let mut publishers: Vec<_> = (1..=9).map(|by| hall.stream(by, 100)).collect();
    for publisher in &mut publishers {
        timely(
            &lab,
            "a publisher of a hundred events to be done",
            publisher,
        )
        .await??;
    }
    let expected: Vec<_> = (1..=9).flat_map(|by| keys(by, 100)).collect();
    for listener in &listeners {
        listener.heard.until_ended(900).await?;
        listener.heard.in_order_of_publishers(&expected, "EB04")?;
    }
    Ok(())
}

async fn calls_of_one_subscription_do_not_overlap(lab: Lab) -> Outcome {
    lab.promise("A subscription's next call begins when the one before has ended.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(64, Overflow::Block), &gate)?;
    hall.publish_all(1, 1, 30).await?;
    for n in 1..=30 {
        listener.heard.until_begun(n).await?;
        if n == 1 || n == 15 {
            lab.within(crate::hall::A_WHILE).await;
        }
        ensure!(
            listener.heard.count() == n && listener.heard.ended().len() == n - 1,
            "EB04",
            "{} calls have ended, and {} have begun",
            listener.heard.ended().len(),
            listener.heard.count()
        );
        gate.let_through(1);
        listener.heard.until_ended(n).await?;
    }
    listener.heard.exactly(&keys(1, 30), "EB04")?;
    ensure!(
        listener.heard.most_at_work() == 1,
        "EB04",
        "{} calls of one subscription were at work at the same time",
        listener.heard.most_at_work()
    );
    Ok(())
}

async fn subscriptions_are_side_by_side(lab: Lab) -> Outcome {
    lab.promise("Two subscriptions are handled side by side: neither waits until the other is done with an event.");
    const MANY: usize = 7;
    let hall = Hall::new(&lab);
    // Nobody is done with an event before everybody has begun with it.
    let barrier = Arc::new(tokio::sync::Barrier::new(MANY));
    let listeners = (0..MANY)
        .map(|n| {
            let barrier = Arc::clone(&barrier);
            hall.listen(
                &format!("listener {n}"),
                room_for(64, Overflow::Block),
                move |_event| {
                    let barrier = Arc::clone(&barrier);
                    async move {
                        barrier.wait().await;
                        Ok(())
                    }
                },
            )
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut publisher = hall.stream(1, 40);
    timely(&lab, "40 events to be published", &mut publisher)
        .await
        .map_err(|failure| failure.code_if("EB05"))??;
    for listener in &listeners {
        listener.heard.until_ended(40).await.map_err(|failure| {
            failure.also(format!(
                "each handler ends when all {MANY} are at work on the same event"
            ))
        })?;
        listener.heard.exactly(&keys(1, 40), "EB04")?;
    }
    Ok(())
}

async fn a_slow_subscriber_holds_up_no_other(lab: Lab) -> Outcome {
    lab.promise(
        "A subscriber that is slow gets all its events, later; the others get theirs meanwhile.",
    );
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let slow = hall.gated("slow", room_for(1024, Overflow::Block), &gate)?;
    let quick = hall.quick("quick")?;
    hall.publish_all(1, 1, 300).await?;
    quick.heard.until_ended(300).await?;
    quick.heard.exactly(&keys(1, 300), "EB04")?;
    ensure!(
        slow.heard.count() <= 1,
        "the slow one's first call has not ended, and {} have begun",
        slow.heard.count()
    );
    gate.open();
    slow.heard.until_ended(300).await?;
    slow.heard.exactly(&keys(1, 300), "EB04")
}

async fn what_a_handler_publishes_keeps_its_order(lab: Lab) -> Outcome {
    lab.promise(
        "A handler is a publisher like any other: what it publishes arrives, in its order.",
    );
    let hall = Hall::new(&lab);
    let answer = lab.unique("order.confirmed");
    let answers = hall.listen_to("answers", &answer, Subscribe::default(), |_event| async {
        Ok(())
    })?;
    let (bus, name) = (hall.bus.clone(), answer.clone());
    let relay = hall.listen("relay", Subscribe::default(), move |got| {
        let (bus, name) = (bus.clone(), name.clone());
        async move {
            let n = key(&got).1;
            for part in [2 * n - 1, 2 * n] {
                let answer: Event = event(&name, 2, part);
                bus.publish(answer).await?;
            }
            Ok(())
        }
    })?;
    hall.publish_all(1, 1, 100).await?;
    relay
        .heard
        .until_ended(100)
        .await
        .map_err(|failure| failure.code_if("EB06"))?;
    answers.heard.until_ended(200).await?;
    relay.heard.exactly(&keys(1, 100), "EB04")?;
    answers.heard.exactly(&keys(2, 200), "EB04")
}

async fn order_needs_no_single_task(lab: Lab) -> Outcome {
    lab.promise("A publisher is whoever publishes one event after the other, from whatever task and through whatever clone: an event that was published after another had been is handled after it.");
    let hall = Hall::new(&lab);
    let listeners = ["A", "BB"]
        .map(|who| unsteady(&hall, who, Subscribe::default()))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for n in 1..=300 {
        // Each in a task of its own, with a clone of its own.
        hall.publish(hall.event(1, n)).await?;
    }
    for listener in &listeners {
        listener.heard.until_ended(300).await?;
        listener.heard.exactly(&keys(1, 300), "EB04")?;
    }
    Ok(())
}
