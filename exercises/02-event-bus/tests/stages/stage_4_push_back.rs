//! Stage 4: a queue has a size, and what happens when it is full is the subscriber's choice.

use event_bus::{Error, HandlerFailure, Overflow};
use lab::{Check, Lab, Outcome, ensure};

use crate::hall::{A_WHILE, Gate, Hall, event, keys, on_threads, room_for, timely};
use crate::heard::{key, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_full_queue_makes_publish_wait,
        the_others_get_it_before_publish_waits,
        publish_waits_for_all_full_queues_at_once,
        a_capacity_of_nothing_is_one,
        drop_oldest_keeps_the_newest,
        disconnect_ends_the_subscription_once,
        each_subscription_overflows_in_its_own_way,
        a_handler_that_publishes_never_waits,
        a_handlers_full_neighbour_misses_the_event,
        only_handlers_are_spared_the_wait,
        order_survives_waiting,
    ]
}

async fn a_full_queue_makes_publish_wait(lab: Lab) -> Outcome {
    lab.promise("With `Block`, `capacity` events wait at most, not counting the one in the handler. A publish with no room waits until there is, and nothing is lost.");
    for capacity in [3, 1] {
        full_queue(&lab, capacity).await?;
    }
    Ok(())
}

async fn full_queue(lab: &Lab, capacity: usize) -> Outcome {
    let hall = Hall::new(lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(capacity, Overflow::Block), &gate)?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    let most = capacity as u64 + 1;
    hall.publish_all(1, 2, most).await.map_err(|failure| {
        failure.also(format!(
            "one event is in the handler, fewer than the capacity of {capacity} were waiting"
        ))
    })?;
    let first = hall.publishing(hall.event(1, most + 1));
    let second = hall.publishing(hall.event(2, 1));
    lab.within(A_WHILE).await;
    let stats = listener.guard.stats();
    ensure!(
        !first.is_finished() && !second.is_finished(),
        "EB02",
        "one event is in the handler and {capacity} are waiting, which is the capacity; one more was published, and `publish` returned ({stats:?})"
    );
    ensure!(
        stats.waiting == capacity && stats.dropped == 0,
        "the capacity of {capacity} is filled, one event is in the handler, and the stats are {stats:?}"
    );
    gate.let_through(1);
    listener.heard.until_begun(2).await?;
    lab.eventually("one of two waiting publishers to get the room", || async {
        Ok((first.is_finished() || second.is_finished()).then_some(()))
    })
    .await?;
    lab.within(A_WHILE).await;
    ensure!(
        !(first.is_finished() && second.is_finished()),
        "EB02",
        "one event was handled and made room for one; two waiting publishers returned ({:?})",
        listener.guard.stats()
    );
    gate.open();
    first.done().await?;
    second.done().await?;
    let mut expected = keys(1, most + 1);
    expected.push((2, 1));
    listener.heard.until_ended(expected.len()).await?;
    listener.heard.in_order_of_publishers(&expected, "EB04")
}

async fn the_others_get_it_before_publish_waits(lab: Lab) -> Outcome {
    lab.promise("`publish` puts the event into all other queues before it waits for room in any.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let first = hall.gated("full, first", room_for(1, Overflow::Block), &gate)?;
    let middle = hall.quick("middle")?;
    let second = hall.gated("full, second", room_for(2, Overflow::Block), &gate)?;
    let last = hall.quick("last")?;
    hall.publish(hall.event(1, 1)).await?;
    first.heard.until_begun(1).await?;
    second.heard.until_begun(1).await?;
    hall.publish(hall.event(1, 2)).await?;
    let waiting = hall.publishing(hall.event(1, 3));
    for listener in [&middle, &last] {
        listener.heard.until_ended(3).await.map_err(|failure| {
            failure.also("another subscriber's queue is full, and `publish` waits for its room")
        })?;
    }
    lab.eventually("the queue of two to be filled", || async {
        Ok((second.guard.stats().waiting == 2).then_some(()))
    })
    .await?;
    ensure!(
        !waiting.is_finished(),
        "EB02",
        "a queue for one event holds one, and `publish` returned"
    );
    // The second full queue must not wait its turn behind the first one either.
    let another = hall.publishing(hall.event(2, 1));
    for listener in [&middle, &last] {
        listener.heard.until_ended(4).await?;
    }
    gate.open();
    let (waiting, another) = (waiting.done().await?, another.done().await?);
    ensure!(
        waiting.matched == 4 && another.matched == 4,
        "four subscriptions are for the event, and `matched` is {} and {}",
        waiting.matched,
        another.matched
    );
    let mut expected = keys(1, 3);
    expected.push((2, 1));
    for listener in [&first, &middle, &second, &last] {
        listener.heard.until_ended(4).await?;
        listener.heard.in_order_of_publishers(&expected, "EB04")?;
    }
    Ok(())
}

async fn publish_waits_for_all_full_queues_at_once(lab: Lab) -> Outcome {
    lab.promise("A publish that finds several queues full waits for all of them at once: whichever has room first gets the event first, however long the others take.");
    let hall = Hall::new(&lab);
    let gates = [Gate::closed(), Gate::closed(), Gate::closed()];
    let full = gates
        .iter()
        .map(|gate| hall.gated("full", room_for(1, Overflow::Block), gate))
        .collect::<Result<Vec<_>, _>>()?;
    hall.publish(hall.event(1, 1)).await?;
    for listener in &full {
        listener.heard.until_begun(1).await?;
    }
    hall.publish(hall.event(1, 2)).await?;
    let waiting = hall.publishing(hall.event(1, 3));
    lab.within(A_WHILE).await;
    // The last one first, then the one in the middle.
    for n in [2, 1] {
        gates[n].open();
        full[n].heard.until_ended(3).await.map_err(|failure| {
            failure.also(format!(
                "of three full queues number {} has room again; `publish` still waits for another",
                n + 1
            ))
        })?;
        ensure!(
            !waiting.is_finished(),
            "EB02",
            "a queue for one event holds one, and `publish` returned"
        );
    }
    gates[0].open();
    waiting.done().await?;
    full[0].heard.until_ended(3).await?;
    for listener in &full {
        listener.heard.exactly(&keys(1, 3), None)?;
    }
    Ok(())
}

async fn a_capacity_of_nothing_is_one(lab: Lab) -> Outcome {
    lab.promise("A capacity of 0 is treated as 1.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let listeners = [Overflow::Block, Overflow::DropOldest, Overflow::Disconnect]
        .map(|overflow| hall.gated("none", room_for(0, overflow), &gate));
    let listeners = listeners.into_iter().collect::<Result<Vec<_>, _>>()?;
    hall.publish(hall.event(1, 1)).await?;
    for listener in &listeners {
        listener.heard.until_begun(1).await?;
    }
    hall.publish(hall.event(1, 2)).await?;
    let stats: Vec<_> = listeners.iter().map(|l| l.guard.stats()).collect();
    ensure!(
        stats
            .iter()
            .all(|stats| stats.waiting == 1 && stats.dropped == 0),
        "one event is in the handler and one waits; the stats (block, drop oldest, disconnect) are {stats:?}"
    );
    gate.open();
    for listener in &listeners {
        listener.heard.until_ended(2).await?;
    }
    Ok(())
}

async fn drop_oldest_keeps_the_newest(lab: Lab) -> Outcome {
    lab.promise("With `DropOldest` a full queue loses the event that has waited longest, and counts it. `publish` does not wait.");
    for capacity in [3, 1] {
        drop_oldest(&lab, capacity).await?;
    }
    Ok(())
}

async fn drop_oldest(lab: &Lab, capacity: usize) -> Outcome {
    let hall = Hall::new(lab);
    let errors = hall.errors();
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(capacity, Overflow::DropOldest), &gate)?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    hall.publish_all(1, 2, 12).await?;
    let stats = listener.guard.stats();
    ensure!(
        stats.waiting == capacity,
        "twelve events were published, one is in the handler, the capacity is {capacity}, and the stats are {stats:?}"
    );
    ensure!(
        stats.dropped == 11 - capacity as u64,
        "EB09",
        "eleven events found the handler busy, {capacity} have room, and the stats are {stats:?}"
    );
    gate.open();
    let mut expected = vec![(1, 1)];
    expected.extend((13 - capacity as u64..=12).map(|n| (1, n)));
    listener.heard.until_ended(expected.len()).await?;
    hall.publish(hall.event(1, 13)).await?;
    expected.push((1, 13));
    listener.heard.until_ended(expected.len()).await?;
    let begun = listener.heard.begun();
    ensure!(
        begun == expected,
        "EB09",
        "event 1-1 was in the handler while 1-2 to 1-12 came, with room for {capacity}; handled were {}",
        some(&begun)
    );
    lab.eventually("the calls to be counted", || async {
        Ok((listener.guard.stats().handled == expected.len() as u64).then_some(()))
    })
    .await?;
    let stats = listener.guard.stats();
    ensure!(
        stats.dropped == 11 - capacity as u64 && stats.waiting == 0 && !stats.disconnected,
        "EB09",
        "of 13 events {} were handled, and the stats are {stats:?}",
        expected.len()
    );
    ensure!(
        errors.count() == 0,
        "dropping was asked for; the error hook was told {:?}",
        errors.all()
    );
    Ok(())
}

async fn disconnect_ends_the_subscription_once(lab: Lab) -> Outcome {
    lab.promise("With `Disconnect` the first event without room ends the subscription: the hook is told once, what waited is freed and counted as dropped with that event, the running call goes on to its end, and no further one begins.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let gate = Gate::closed();
    let slow = hall.gated("slow", room_for(2, Overflow::Disconnect), &gate)?;
    let other = hall.quick("other")?;
    hall.publish(hall.event(1, 1)).await?;
    slow.heard.until_begun(1).await?;
    hall.publish_all(1, 2, 3).await?;
    let stats = slow.guard.stats();
    ensure!(
        !stats.disconnected && stats.waiting == 2 && stats.dropped == 0,
        "two events wait in a queue for two, and the stats are {stats:?}"
    );
    hall.publish(hall.event(1, 4)).await?;
    let stats = slow.guard.stats();
    ensure!(
        stats.disconnected && stats.waiting == 0 && stats.dropped == 3,
        "event 1-4 found no room behind 1-2 and 1-3; the stats are {stats:?}, and three events will never be handled"
    );
    let published = hall.publish(hall.event(1, 5)).await?;
    ensure!(
        published.matched == 1,
        "one of two subscriptions was disconnected, and `matched` is {}",
        published.matched
    );
    errors.until(&lab, 1).await?;
    hall.publish_all(1, 6, 9).await?;
    other.heard.until_ended(9).await?;
    other.heard.exactly(&keys(1, 9), None)?;
    lab.eventually("the waiting events to be freed", || async {
        Ok((other.heard.alive() <= 1).then_some(()))
    })
    .await
    .map_err(|failure| {
        failure.also(format!(
            "the disconnected subscription was to keep the event of its running call at most, and {} of nine are still held by somebody",
            other.heard.alive()
        ))
    })?;
    gate.open();
    slow.heard.until_ended(1).await?;
    lab.within(A_WHILE).await;
    slow.heard.exactly(&[(1, 1)], None)?;
    let told = errors.all();
    ensure!(
        told.len() == 1
            && told[0].0 == hall.name
            && told[0].1 == (1, 4)
            && matches!(told[0].2, HandlerFailure::Disconnected),
        "the subscription was disconnected once, by event 1-4; the hook was told {told:?}"
    );
    let stats = slow.guard.stats();
    ensure!(
        stats.handled == 1 && stats.dropped == 3 && stats.failed == 0 && stats.disconnected,
        "one event was handled and three were dropped by the disconnection; the stats are {stats:?}"
    );
    Ok(())
}

async fn each_subscription_overflows_in_its_own_way(lab: Lab) -> Outcome {
    lab.promise("Block, drop oldest and disconnect are each subscription's own: side by side each does what it was told, for the same events.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let (gate, others) = (Gate::closed(), Gate::closed());
    let block = hall.gated("block", room_for(2, Overflow::Block), &gate)?;
    let oldest = hall.gated("oldest", room_for(2, Overflow::DropOldest), &others)?;
    let disconnect = hall.gated("disconnect", room_for(2, Overflow::Disconnect), &others)?;
    hall.publish(hall.event(1, 1)).await?;
    for listener in [&block, &oldest, &disconnect] {
        listener.heard.until_begun(1).await?;
    }
    hall.publish_all(1, 2, 3).await?;
    let waiting = hall.publishing(hall.event(1, 4));
    lab.eventually(
        "the fourth event to reach the two that do not block",
        || async {
            let there = oldest.guard.stats().dropped == 1 && disconnect.guard.stats().disconnected;
            Ok(there.then_some(()))
        },
    )
    .await
    .map_err(|failure| {
        failure.also(format!(
            "the stats are {:?} and {:?}",
            oldest.guard.stats(),
            disconnect.guard.stats()
        ))
    })?;
    ensure!(
        !waiting.is_finished(),
        "EB02",
        "a queue for two events holds two and blocks, and `publish` returned"
    );
    gate.open();
    waiting.done().await?;
    hall.publish(hall.event(1, 5)).await?;
    block.heard.until_ended(5).await?;
    block.heard.exactly(&keys(1, 5), None)?;
    others.open();
    oldest.heard.until_ended(3).await?;
    oldest.heard.exactly(&[(1, 1), (1, 4), (1, 5)], "EB09")?;
    disconnect.heard.until_ended(1).await?;
    disconnect.heard.exactly(&[(1, 1)], None)?;
    ensure!(
        errors.count() == 1,
        "one subscription was disconnected; the hook was told {:?}",
        errors.all()
    );
    Ok(())
}

async fn a_handler_that_publishes_never_waits(lab: Lab) -> Outcome {
    lab.promise("A publish from inside a handler never waits: where its own queue is full it misses the event, the others get it, and the result says so.");
    for threads in [2, 4] {
        on_threads(threads, publishing_handler(lab.clone())).await?;
    }
    Ok(())
}

async fn publishing_handler(lab: Lab) -> Outcome {
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let other = hall.quick("other")?;
    let (bus, name, results, waiting) = (
        hall.bus.clone(),
        hall.name.clone(),
        std::sync::Arc::new(std::sync::Mutex::new(Vec::new())),
        gate.clone(),
    );
    let noted = results.clone();
    let chatty = hall.listen("chatty", room_for(2, Overflow::Block), move |got| {
        let (bus, name, noted, gate) = (bus.clone(), name.clone(), noted.clone(), waiting.clone());
        async move {
            let (by, n) = key(&got);
            if (by, n) == (1, 1) {
                gate.passed().await;
                // Two have room. Then one alone, and two at once.
                for part in 1..=3 {
                    let result = bus.publish(event(&name, 2, part)).await;
                    noted.lock().expect("not poisoned").push(result);
                }
                let (one, two) = futures::join!(
                    bus.publish(event(&name, 3, 1)),
                    bus.publish(event(&name, 4, 1))
                );
                noted.lock().expect("not poisoned").extend([one, two]);
            }
            Ok(())
        }
    })?;
    let after = hall.quick("after")?;
    hall.publish(hall.event(1, 1)).await?;
    gate.open();
    chatty.heard.until_ended(1).await.map_err(|failure| {
        failure
            .code_if("EB11")
            .also("the first call publishes five events while its own queue has room for two")
    })?;
    chatty.heard.until_ended(3).await?;
    {
        let results = results.lock().expect("not poisoned");
        let fits = |n: usize| matches!(&results[n], Ok(published) if published.matched == 3);
        let full = |n: usize| matches!(&results[n], Err(Error::Full { missed: 1 }));
        ensure!(
            results.len() == 5 && fits(0) && fits(1) && full(2) && full(3) && full(4),
            "the handler published five events for three subscriptions, its own queue having room for two; the results were {results:?}"
        );
    }
    for listener in [&other, &after] {
        listener.heard.until_ended(6).await?;
        listener
            .heard
            .in_order_of_publishers(&[(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)], "EB04")?;
    }
    chatty.heard.exactly(&[(1, 1), (2, 1), (2, 2)], None)?;
    let stats = chatty.guard.stats();
    ensure!(
        stats.dropped == 3,
        "three events found no room, and the stats are {stats:?}"
    );
    // What was missed was missed by that publish alone: from outside everything is as before.
    hall.publish(hall.event(1, 2)).await?;
    chatty.heard.until_ended(4).await
}

async fn a_handlers_full_neighbour_misses_the_event(lab: Lab) -> Outcome {
    lab.promise("A publish from inside a handler does not wait for another subscription's room either; drop oldest and disconnect do what they always do, and only what blocks is missed.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let answer = lab.unique("order.confirmed");
    let full: Vec<_> = [
        Overflow::Block,
        Overflow::DropOldest,
        Overflow::Disconnect,
        Overflow::Block,
    ]
    .into_iter()
    .map(|overflow| {
        let gate = gate.clone();
        hall.listen_to("full", &answer, room_for(1, overflow), move |_event| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                Ok(())
            }
        })
    })
    .collect::<Result<_, _>>()?;
    hall.publish(event(&answer, 9, 1)).await?;
    for listener in &full {
        listener.heard.until_begun(1).await?;
    }
    hall.publish(event(&answer, 9, 2)).await?;
    let (bus, name) = (hall.bus.clone(), answer.clone());
    let result = std::sync::Arc::new(std::sync::Mutex::new(None));
    let noted = result.clone();
    let publisher = hall.listen("publisher", room_for(8, Overflow::Block), move |_event| {
        let (bus, name, noted) = (bus.clone(), name.clone(), noted.clone());
        async move {
            let published = bus.publish(event(&name, 9, 3)).await;
            *noted.lock().expect("not poisoned") = Some(published);
            Ok(())
        }
    })?;
    hall.publish(hall.event(1, 1)).await?;
    publisher.heard.until_ended(1).await.map_err(|failure| {
        failure
            .code_if("EB11")
            .also("its handler publishes an event for which another queue has no room")
    })?;
    {
        let result = result.lock().expect("not poisoned");
        ensure!(
            matches!(&*result, Some(Err(Error::Full { missed: 2 }))),
            "a handler published an event that two blocking queues had no room for; the result was {result:?}"
        );
    }
    gate.open();
    let stats: Vec<_> = full.iter().map(|listener| listener.guard.stats()).collect();
    for (n, expected) in [
        (0, vec![1, 2]),
        (1, vec![1, 3]),
        (2, vec![1]),
        (3, vec![1, 2]),
    ] {
        full[n].heard.until_ended(expected.len()).await?;
        let expected: Vec<_> = expected.into_iter().map(|n| (9, n)).collect();
        full[n].heard.exactly(&expected, None)?;
    }
    let dropped: Vec<u64> = stats.iter().map(|stats| stats.dropped).collect();
    ensure!(
        dropped == [1, 1, 2, 1] && stats[2].disconnected,
        "an event came for four full queues of one event each (block, drop oldest, disconnect, block), from inside a handler; the stats are {stats:?}"
    );
    Ok(())
}

async fn only_handlers_are_spared_the_wait(lab: Lab) -> Outcome {
    lab.promise("Only a publish from inside a handler is spared the wait: one from elsewhere waits for room, also while handlers are at work and publish.");
    let hall = Hall::new(&lab);
    let (gate, answer) = (Gate::closed(), lab.unique("order.confirmed"));
    let full = hall.gated("full", room_for(1, Overflow::Block), &gate)?;
    let (bus, name) = (hall.bus.clone(), answer.clone());
    let busy = hall.listen_to("busy", &answer, room_for(4, Overflow::Block), move |got| {
        let (bus, name) = (bus.clone(), name.clone());
        async move {
            // It never has nothing to do: each call brings about the next one.
            tokio::task::yield_now().await;
            let _ = bus.publish(event(&name, 1, key(&got).1 + 1)).await;
            Ok(())
        }
    })?;
    hall.publish(event(&answer, 1, 1)).await?;
    busy.heard.until_begun(3).await?;
    hall.publish(hall.event(1, 1)).await?;
    full.heard.until_begun(1).await?;
    hall.publish(hall.event(1, 2)).await?;
    let waiting: Vec<_> = (3..=8).map(|n| hall.publishing(hall.event(n, 1))).collect();
    lab.within(A_WHILE).await;
    for publishing in &waiting {
        ensure!(
            !publishing.is_finished(),
            "a publish from outside found a full queue that blocks, and returned (the queue's stats: {:?})",
            full.guard.stats()
        );
    }
    gate.open();
    for publishing in waiting {
        publishing.done().await?;
    }
    full.heard.until_ended(8).await
}

async fn order_survives_waiting(lab: Lab) -> Outcome {
    lab.promise("Waiting for room changes neither what arrives nor the order: each publisher's events come in its order, each once.");
    for threads in [2, 4] {
        on_threads(threads, waiting(lab.clone())).await?;
    }
    Ok(())
}

async fn waiting(lab: Lab) -> Outcome {
    let hall = Hall::new(&lab);
    let mut listeners = Vec::new();
    for (n, capacity) in [1, 2, 3, 1].into_iter().enumerate() {
        let options = room_for(capacity, Overflow::Block);
        listeners.push(hall.listen(
            &format!("listener {n}"),
            options,
            move |event| async move {
                if (key(&event).1 + n as u64).is_multiple_of(3) {
                    tokio::task::yield_now().await;
                }
                Ok(())
            },
        )?);
    }
    let mut publishers: Vec<_> = (1..=6).map(|by| hall.stream(by, 150)).collect();
    let expected: Vec<_> = (1..=6).flat_map(|by| keys(by, 150)).collect();
    let mut most = vec![0; listeners.len()];
    while publishers.iter().any(|publisher| !publisher.is_finished()) {
        for (most, listener) in most.iter_mut().zip(&listeners) {
            *most = listener.guard.stats().waiting.max(*most);
        }
        if listeners.iter().all(|l| l.heard.count() == expected.len()) {
            break;
        }
        let before: usize = listeners.iter().map(|l| l.heard.count()).sum();
        lab.eventually("the events of six publishers to get on", || async {
            let now: usize = listeners.iter().map(|l| l.heard.count()).sum();
            let done = publishers.iter().all(|publisher| publisher.is_finished());
            Ok((now > before || done).then_some(()))
        })
        .await?;
    }
    for publisher in &mut publishers {
        timely(&lab, "a publisher of 150 events to be done", publisher).await??;
    }
    for (listener, (most, capacity)) in listeners.iter().zip(most.iter().zip([1, 2, 3, 1])) {
        listener.heard.until_ended(expected.len()).await?;
        listener.heard.in_order_of_publishers(&expected, "EB04")?;
        ensure!(
            *most <= capacity,
            (*most > capacity + 1).then_some("EB02"),
            "a queue for {capacity} events had {most} waiting while six published"
        );
    }
    Ok(())
}
