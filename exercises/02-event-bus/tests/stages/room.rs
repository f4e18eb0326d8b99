//! Stage 4, continued: memory stays bounded, however much is published, and a publisher that gives up
//! takes no room with it.

use event_bus::Overflow;
use lab::{Check, Lab, Outcome, ensure};

use crate::hall::{A_WHILE, Gate, Hall, keys, room_for, timely};

pub fn checks() -> Vec<Check> {
    lab::checks![
        drop_oldest_bounds_the_memory.limit_secs(120),
        disconnect_bounds_the_memory.limit_secs(120),
        block_bounds_the_memory.limit_secs(120),
        a_publisher_that_gives_up_leaves_the_room,
        giving_up_again_and_again_loses_no_room,
    ]
}

const MANY: u64 = 100_000;

async fn drop_oldest_bounds_the_memory(lab: Lab) -> Outcome {
    lab.promise("With a handler that hangs and `DropOldest`, a hundred thousand events later there are as many as the queue holds and the one in the handler.");
    let hall = Hall::new(&lab);
    let witness = hall.quick("witness")?;
    let gate = Gate::closed();
    let hung = hall.gated("hung", room_for(50, Overflow::DropOldest), &gate)?;
    hall.publish(hall.event(2, 1)).await?;
    hung.heard.until_begun(1).await?;
    let mut publisher = hall.stream(1, MANY);
    witness.heard.until_ended(MANY as usize + 1).await?;
    timely(&lab, "the publisher to be done", &mut publisher).await??;
    bounded(&lab, &witness.heard, 51).await?;
    let stats = hung.guard.stats();
    ensure!(
        stats.waiting == 50 && stats.dropped == MANY - 50,
        "EB09",
        "{MANY} events came for a queue of 50 whose handler hangs, and the stats are {stats:?}"
    );
    gate.open();
    hung.heard.until_ended(51).await?;
    let mut expected = vec![(2, 1)];
    expected.extend((MANY - 49..=MANY).map(|n| (1, n)));
    hung.heard.exactly(&expected, "EB09")
}

async fn disconnect_bounds_the_memory(lab: Lab) -> Outcome {
    lab.promise("With a handler that hangs and `Disconnect`, a hundred thousand events later there is none but the one in the handler.");
    let hall = Hall::new(&lab);
    let witness = hall.quick("witness")?;
    let gate = Gate::closed();
    let hung = hall.gated("hung", room_for(50, Overflow::Disconnect), &gate)?;
    hall.publish(hall.event(2, 1)).await?;
    hung.heard.until_begun(1).await?;
    let mut publisher = hall.stream(1, MANY);
    witness.heard.until_ended(MANY as usize + 1).await?;
    timely(&lab, "the publisher to be done", &mut publisher).await??;
    bounded(&lab, &witness.heard, 1).await?;
    let stats = hung.guard.stats();
    ensure!(
        stats.disconnected && stats.waiting == 0 && stats.dropped == 51,
        "the 51st event found no room behind 50, and the stats are {stats:?}"
    );
    Ok(())
}

async fn block_bounds_the_memory(lab: Lab) -> Outcome {
    lab.promise("With a handler that hangs and `Block`, who publishes waits, and no event is made that nobody has room for. When it goes on, all hundred thousand arrive.");
    let hall = Hall::new(&lab);
    let witness = hall.listen("witness", room_for(1, Overflow::Block), |_event| async {
        Ok(())
    })?;
    let gate = Gate::closed();
    let hung = hall.gated("hung", room_for(50, Overflow::Block), &gate)?;
    let mut publisher = hall.stream(1, MANY);
    hung.heard.until_begun(1).await?;
    // One in the handler, fifty waiting, one in `publish`.
    witness.heard.until_ended(52).await?;
    lab.within(A_WHILE).await;
    let stats = hung.guard.stats();
    let too_many = (witness.heard.count() > 52 || publisher.is_finished()).then_some("EB02");
    ensure!(
        witness.heard.count() == 52 && stats.waiting == 50 && !publisher.is_finished(),
        too_many,
        "a queue of 50 is full and its handler hangs; {} events were published all the same, and the stats are {stats:?}",
        witness.heard.count()
    );
    gate.open();
    hung.heard.until_ended(MANY as usize).await?;
    timely(&lab, "the publisher to be done", &mut publisher).await??;
    hung.heard.exactly(&keys(1, MANY), "EB04")?;
    bounded(&lab, &hung.heard, 0).await
}

/// Waits until no more than `most` of the witness's events are held by anybody.
async fn bounded(lab: &Lab, witness: &crate::heard::Heard, most: usize) -> Outcome {
    lab.eventually("what nobody has room for to be freed", || async {
        Ok((witness.alive() <= most).then_some(()))
    })
    .await
    .map_err(|failure| {
        failure.code_if("EB02").also(format!(
            "{} of the events are still held by somebody, and there is room for {most}",
            witness.alive()
        ))
    })
}

async fn a_publisher_that_gives_up_leaves_the_room(lab: Lab) -> Outcome {
    lab.promise("A publisher that gives up waiting (its future is dropped) takes nothing with it: the others go on to wait and are served, and there is as much room as before.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(2, Overflow::Block), &gate)?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    hall.publish_all(1, 2, 3).await?;
    let leaving = [2, 3, 4].map(|by| hall.publishing(hall.event(by, 1)));
    lab.within(A_WHILE).await;
    let staying = hall.publishing(hall.event(5, 1));
    lab.within(A_WHILE).await;
    for publishing in leaving {
        publishing.abandon().await;
    }
    gate.let_through(1);
    staying.done().await.map_err(|failure| {
        failure.also("three publishers gave up before there was room; the fourth was still waiting, and an event was handled")
    })?;
    ensure!(
        listener.guard.stats().waiting <= 2,
        "a queue for two events has the stats {:?}",
        listener.guard.stats()
    );
    // Two more are handled: there must be room for two.
    listener.heard.until_begun(2).await?;
    gate.let_through(2);
    listener.heard.until_begun(4).await?;
    hall.publish_all(6, 1, 2).await.map_err(|failure| {
        failure.also("the queue has room for two and holds none; publishers gave up earlier")
    })?;
    gate.open();
    listener.heard.until_ended(6).await?;
    let begun = listener.heard.begun();
    ensure!(
        begun == [(1, 1), (1, 2), (1, 3), (5, 1), (6, 1), (6, 2)],
        "the publishers of the events 2-1, 3-1 and 4-1 gave up before there was room; handled were {}",
        crate::heard::some(&begun)
    );
    Ok(())
}

async fn giving_up_again_and_again_loses_no_room(lab: Lab) -> Outcome {
    lab.promise(
        "Publishers that give up at the very moment in which they get room lose none of it.",
    );
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let listener = hall.gated("A", room_for(1, Overflow::Block), &gate)?;
    hall.publish(hall.event(1, 1)).await?;
    listener.heard.until_begun(1).await?;
    for round in 2..=200_u64 {
        let waiting: Vec<_> = (0..3)
            .map(|who| hall.publishing(hall.event(1_000 * round + who, 1)))
            .collect();
        tokio::task::yield_now().await;
        gate.let_through(1);
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        for publishing in waiting {
            publishing.abandon().await;
        }
        // Whoever got in is handled; then there is room again, whoever gave up.
        let last = hall.publishing(hall.event(1, round));
        gate.let_through(3);
        last.done().await.map_err(|failure| {
            failure.also(format!(
                "in round {round} three publishers had given up; the queue is empty or about to be, and the next one waits for ever (stats: {:?})",
                listener.guard.stats()
            ))
        })?;
        gate.close();
    }
    gate.open();
    // It is the last one, so the others have begun by then.
    lab.eventually("the call for the last event", || async {
        Ok(listener.heard.begun().contains(&(1, 200)).then_some(()))
    })
    .await?;
    let begun = listener.heard.begun();
    let kept: Vec<_> = begun.iter().copied().filter(|key| key.0 == 1).collect();
    ensure!(
        kept == keys(1, 200),
        "200 events were published by one who did not give up; handled of these were {}",
        crate::heard::some(&kept)
    );
    Ok(())
}
