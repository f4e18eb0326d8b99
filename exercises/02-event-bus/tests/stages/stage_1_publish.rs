//! Stage 1: events with a name, for whoever wants them.

use std::sync::{Arc, Mutex};

use event_bus::{Bus, Error, Event, Named, Subscribe};
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde::{Deserialize, Serialize};

use crate::hall::{Gate, Hall, keys, timely};
use crate::heard::some;

pub fn checks() -> Vec<Check> {
    lab::checks![
        every_subscriber_gets_every_event_once,
        an_event_arrives_as_it_was_published,
        nobody_listening_is_fine,
        matched_counts_the_subscriptions,
        typed_events_arrive_as_what_they_are,
        clones_are_the_same_bus,
        a_bus_is_made_before_there_is_a_runtime,
        a_late_subscriber_gets_what_comes_after_it,
        publish_does_not_wait_for_a_handler,
        many_publishers_lose_nothing,
        what_cannot_be_is_refused,
    ]
}

async fn every_subscriber_gets_every_event_once(lab: Lab) -> Outcome {
    lab.promise("An event goes to every subscriber of its name, once to each.");
    let hall = Hall::new(&lab);
    let listeners = [hall.quick("A")?, hall.quick("B")?, hall.quick("C")?];
    hall.publish_all(1, 1, 40).await?;
    for listener in &listeners {
        listener.heard.until_begun(40).await?;
    }
    // A second delivery would come after the last event as well.
    hall.publish(hall.event(1, 41)).await?;
    for listener in &listeners {
        listener.heard.until_ended(41).await?;
        let mut begun = listener.heard.begun();
        begun.sort_unstable();
        ensure!(
            begun == keys(1, 41),
            "41 events were published, and a subscriber was called for {}",
            some(&begun)
        );
    }
    Ok(())
}

async fn an_event_arrives_as_it_was_published(lab: Lab) -> Outcome {
    lab.promise("A handler gets the event as it was published: name, data and time.");
    let hall = Hall::new(&lab);
    let got: Arc<Mutex<Vec<Event>>> = Arc::default();
    let keep = Arc::clone(&got);
    let listener = hall.listen("A", Subscribe::default(), move |event| {
        keep.lock().expect("not poisoned").push((*event).clone());
        async { Ok(()) }
    })?;
    let data = [
        serde_json::json!(null),
        serde_json::json!("größer als \u{1F980}\n\0"),
        serde_json::json!({"b": [1, 2.5, -3, u64::MAX], "a": {"deep": [[[]]], "": false}}),
        serde_json::json!([]),
    ];
    let mut sent = Vec::new();
    for data in data {
        let event = Event::new(hall.name.clone(), data)?;
        sent.push(event.clone());
        hall.publish(event).await?;
    }
    listener.heard.until_ended(sent.len()).await?;
    let got = got.lock().expect("not poisoned").clone();
    for (sent, got) in sent.iter().zip(&got) {
        ensure!(
            (&sent.name, &sent.data, &sent.at) == (&got.name, &got.data, &got.at),
            "published was {sent:?}, and the handler got {got:?}"
        );
    }
    Ok(())
}

async fn nobody_listening_is_fine(lab: Lab) -> Outcome {
    lab.promise(
        "To publish what nobody listens to is no error: the answer says that nothing matched.",
    );
    let hall = Hall::new(&lab);
    let published = hall.publish(hall.event(1, 1)).await?;
    ensure!(
        published.matched == 0,
        "nobody has subscribed to anything, and `matched` is {}",
        published.matched
    );
    let other = hall.quick("A")?;
    for name in [
        lab.unique("order.placed"),
        format!("{}.late", hall.name),
        format!("{}x", hall.name),
        hall.name[..hall.name.len() - 1].to_owned(),
        "order".to_owned(),
    ] {
        let event = crate::hall::event(&name, 2, 1);
        let published = hall.publish(event).await?;
        ensure!(
            published.matched == 0,
            "the one subscriber listens to `{}`; `{name}` was published, and `matched` is {}",
            hall.name,
            published.matched
        );
    }
    hall.publish(hall.event(1, 2)).await?;
    other.heard.until_begun(1).await?;
    other.heard.exactly(&[(1, 2)], None)
}

async fn matched_counts_the_subscriptions(lab: Lab) -> Outcome {
    lab.promise("`matched` is the number of live subscriptions that an event is for.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let mut kept = Vec::new();
    for n in 1..=5_usize {
        // The same handler subscribed twice is two subscriptions; one that is busy counts as well.
        kept.push(hall.gated("A", Subscribe::default(), &gate)?);
        let published = hall.publish(hall.event(1, n as u64)).await?;
        ensure!(
            published.matched == n,
            "{n} subscriptions are for the event, and `matched` is {}",
            published.matched
        );
    }
    gate.open();
    for (n, listener) in kept.iter().enumerate() {
        listener.heard.until_ended(5 - n).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Placed {
    order: String,
    amount: u64,
    lines: Vec<(String, u32)>,
    note: Option<String>,
}

impl Named for Placed {
    const NAME: &'static str = "order.placed";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shipped {
    order: String,
}

impl Named for Shipped {
    const NAME: &'static str = "order.shipped";
}

async fn typed_events_arrive_as_what_they_are(lab: Lab) -> Outcome {
    lab.promise("A typed event is published under the name of its type, and arrives as that type at whoever subscribed to it.");
    let hall = Hall::new(&lab);
    let placed: Arc<Mutex<Vec<Placed>>> = Arc::default();
    let shipped: Arc<Mutex<Vec<Shipped>>> = Arc::default();
    let keep = Arc::clone(&placed);
    let _placed = hall
        .bus
        .subscribe_to::<Placed, _, _>(Subscribe::default(), move |event| {
            keep.lock().expect("not poisoned").push(event);
            async { Ok(()) }
        })?;
    let keep = Arc::clone(&shipped);
    let _shipped = hall
        .bus
        .subscribe_to::<Shipped, _, _>(Subscribe::default(), move |event| {
            keep.lock().expect("not poisoned").push(event);
            async { Ok(()) }
        })?;
    let sent: Vec<Placed> = (0..5)
        .map(|n| Placed {
            order: format!("A-{n} \"ä\""),
            amount: u64::MAX - n,
            lines: vec![("tea".into(), 2), (String::new(), 0)],
            note: (n % 2 == 0).then(|| "soon".into()),
        })
        .collect();
    for event in &sent {
        let published = hall.publish(Event::of(event)?).await?;
        ensure!(
            published.matched == 1,
            "one subscription is for `order.placed`, and `matched` is {}",
            published.matched
        );
    }
    let last = Shipped {
        order: "A-0".into(),
    };
    hall.publish(Event::of(&last)?).await?;
    lab.eventually("five placed orders and a shipped one", || async {
        let placed = placed.lock().expect("not poisoned").len();
        let shipped = shipped.lock().expect("not poisoned").len();
        Ok((placed >= 5 && shipped >= 1).then_some(()))
    })
    .await?;
    let placed = placed.lock().expect("not poisoned").clone();
    ensure!(
        placed == sent,
        "published were {sent:?}, and the handler got {placed:?}"
    );
    let shipped = shipped.lock().expect("not poisoned").clone();
    ensure!(
        shipped == [last.clone()],
        "published was {last:?}, and the handler got {shipped:?}"
    );
    Ok(())
}

async fn clones_are_the_same_bus(lab: Lab) -> Outcome {
    lab.promise(
        "Clones of a bus share everything: what one publishes reaches who subscribed at another.",
    );
    let hall = Hall::new(&lab);
    let other = Hall {
        bus: hall.bus.clone(),
        ..hall.clone()
    };
    let (a, b) = (hall.quick("A")?, other.quick("B")?);
    let third = hall.bus.clone();
    for (n, bus) in [&hall.bus, &other.bus, &third].into_iter().enumerate() {
        let one = Hall {
            bus: bus.clone(),
            ..hall.clone()
        };
        let published = one.publish(hall.event(1, n as u64 + 1)).await?;
        ensure!(
            published.matched == 2,
            "two subscribed, each at another clone, and `matched` is {}",
            published.matched
        );
    }
    // A clone that goes takes nothing with it.
    drop((other, third));
    hall.publish(hall.event(1, 4)).await?;
    for listener in [&a, &b] {
        listener.heard.until_ended(4).await?;
        listener.heard.exactly(&keys(1, 4), None)?;
    }
    Ok(())
}

async fn a_bus_is_made_before_there_is_a_runtime(lab: Lab) -> Outcome {
    lab.promise(
        "`Bus::new` and `on_error` need no runtime; whoever starts one later uses the bus in it.",
    );
    let made = std::thread::spawn(|| {
        let bus = Bus::new();
        bus.on_error(|_error| {});
        bus
    });
    let bus = tokio::task::spawn_blocking(move || made.join()).await?;
    let Ok(bus) = bus else {
        lab::fail!("on a thread without a runtime, `Bus::new` or `on_error` panicked");
    };
    let hall = Hall {
        bus,
        ..Hall::new(&lab)
    };
    let listener = hall.quick("A")?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_ended(1).await
}

async fn a_late_subscriber_gets_what_comes_after_it(lab: Lab) -> Outcome {
    lab.promise("A subscriber gets what is published after it subscribed, from the very next event on, and nothing from before.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let early = hall.gated("early", Subscribe::default(), &gate)?;
    hall.publish_all(1, 1, 10).await?;
    // The early one has the events before still waiting.
    let late = hall.quick("late")?;
    hall.publish_all(1, 11, 15).await?;
    late.heard.until_ended(5).await?;
    gate.open();
    early.heard.until_ended(15).await?;
    let expected: Vec<_> = keys(1, 15).split_off(10);
    late.heard.exactly(&expected, None)
}

async fn publish_does_not_wait_for_a_handler(lab: Lab) -> Outcome {
    lab.promise(
        "`publish` never waits for a handler's result: it returns when the event is in the queues.",
    );
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", Subscribe::default(), &gate)?;
    for n in 1..=20 {
        let published = hall.publish(hall.event(1, n)).await;
        published.map_err(|failure| {
            failure
                .code_if("EB05")
                .also("no handler has ended yet, and the queue has room for a thousand")
        })?;
    }
    listener.heard.until_begun(1).await?;
    ensure!(
        listener.heard.ended().is_empty(),
        "no handler could end, and {} calls have",
        listener.heard.ended().len()
    );
    gate.open();
    listener.heard.until_ended(20).await
}

async fn many_publishers_lose_nothing(lab: Lab) -> Outcome {
    lab.promise("However many publish at the same time, every subscriber gets every event, once.");
    let hall = Hall::new(&lab);
    let listeners = (0..6)
        .map(|n| hall.quick(&format!("listener {n}")))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut publishers: Vec<_> = (1..=8).map(|by| hall.stream(by, 100)).collect();
    for publisher in &mut publishers {
        timely(
            &lab,
            "a publisher of a hundred events to be done",
            publisher,
        )
        .await??;
    }
    let expected: Vec<_> = (1..=8).flat_map(|by| keys(by, 100)).collect();
    for listener in &listeners {
        listener.heard.until_ended(800).await?;
        let mut begun = listener.heard.begun();
        begun.sort_unstable();
        ensure!(
            begun == expected,
            "eight publishers published 800 events; one subscriber was called {} times, and not for {}",
            begun.len(),
            some(&crate::heard::missing(&expected, &begun))
        );
    }
    Ok(())
}

async fn what_cannot_be_is_refused(lab: Lab) -> Outcome {
    lab.promise("To publish under what is no name is `BadName`, and nobody gets it; to subscribe outside a runtime is `NoRuntime`. The bus goes on.");
    let hall = Hall::new(&lab);
    let listener = hall.quick("A")?;
    for name in [
        "",
        ".",
        "order.",
        "order..placed",
        "order.*",
        "#",
        "or der",
        "\u{f6}",
    ] {
        let event = Event {
            name: name.into(),
            ..hall.event(1, 1)
        };
        let published = hall.publishing(event).result().await?;
        ensure!(
            matches!(published, Err(Error::BadName(_))),
            "{name:?} is no name of an event, and `publish` returned {published:?}"
        );
    }
    let (bus, name) = (hall.bus.clone(), hall.name.clone());
    let outside = std::thread::spawn(move || {
        let handler: crate::hall::Work = Arc::new(|_event| Box::pin(async { Ok(()) }));
        crate::hall::subscribe(&bus, &name, Subscribe::default(), handler).map(|_| ())
    });
    match tokio::task::spawn_blocking(move || outside.join()).await? {
        Ok(Err(Error::NoRuntime)) => {}
        Ok(other) => lab::fail!("`subscribe` on a thread without a runtime returned {other:?}"),
        Err(_) => lab::fail!("`subscribe` on a thread without a runtime panicked"),
    }
    let published = hall.publish(hall.event(1, 1)).await?;
    ensure!(
        published.matched == 1,
        "one subscription is there, and `matched` is {}",
        published.matched
    );
    listener.heard.until_ended(1).await?;
    listener.heard.exactly(&[(1, 1)], None)
}
