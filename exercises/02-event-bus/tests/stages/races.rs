//! Stage 5, continued: who publishes and who leaves at the same moment.

use event_bus::{Overflow, Subscribe};
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::hall::{Hall, keys, room_for, timely};
use crate::heard::Token;

pub fn checks() -> Vec<Check> {
    lab::checks![
        leaving_while_others_publish_harms_nobody,
        arriving_while_others_publish_misses_nothing_after_it,
        comers_and_goers_leave_nothing_behind,
    ]
}

/// Gives up the thread up to `most` times.
async fn dawdle(rng: &mut StdRng, most: u32) {
    for _ in 0..rng.random_range(0..=most) {
        tokio::task::yield_now().await;
    }
}

async fn leaving_while_others_publish_harms_nobody(lab: Lab) -> Outcome {
    lab.promise("Whenever a guard is dropped, also at the very moment in which others publish to a full queue: no publish hangs or fails, the others get everything, and no further call begins.");
    for round in 0..120 {
        let hall = Hall::new(&lab);
        let mut rng = StdRng::seed_from_u64(lab.seed() ^ round);
        let staying = hall.quick("staying")?;
        let leaving = (0..3)
            .map(|n| {
                let overflow = [Overflow::Block, Overflow::Block, Overflow::DropOldest][n];
                hall.listen("leaving", room_for(1 + n, overflow), |_event| async {
                    tokio::task::yield_now().await;
                    Ok(())
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let mut publishers: Vec<_> = (1..=3).map(|by| hall.stream(by, 15)).collect();
        let mut gone = Vec::new();
        for listener in leaving {
            dawdle(&mut rng, 40).await;
            drop(listener.guard);
            gone.push((listener.heard.count(), listener.heard));
        }
        for publisher in &mut publishers {
            let what = format!("a publisher to be done (round {round})");
            timely(&lab, &what, publisher).await??;
        }
        staying.heard.until_ended(45).await?;
        let expected: Vec<_> = (1..=3).flat_map(|by| keys(by, 15)).collect();
        staying.heard.in_order_of_publishers(&expected, "EB04")?;
        for (before, heard) in gone {
            // One call may have been on its way at that moment.
            ensure!(
                heard.count() <= before + 1,
                "EB10",
                "a guard was dropped when {before} calls had begun, and {} more began after that",
                heard.count() - before
            );
        }
    }
    Ok(())
}

async fn arriving_while_others_publish_misses_nothing_after_it(lab: Lab) -> Outcome {
    lab.promise("Whoever has subscribed gets every event whose publish begins after that, in order, also while others publish, subscribe and leave.");
    for round in 0..60 {
        let hall = Hall::new(&lab);
        let mut rng = StdRng::seed_from_u64(lab.seed() ^ round);
        let mut noise: Vec<_> = (2..=3).map(|by| hall.stream(by, 40)).collect();
        let mut listeners = Vec::new();
        for n in 1..=12 {
            dawdle(&mut rng, 3).await;
            listeners.push((n, hall.quick("arriving")?));
            if n % 4 == 0 {
                listeners.swap_remove(0);
            }
            hall.publish(hall.event(1, n)).await?;
        }
        for publisher in &mut noise {
            timely(&lab, "a publisher to be done", publisher).await??;
        }
        for (since, listener) in &listeners {
            let expected = keys(1, 12).split_off(*since as usize - 1);
            let own = || -> Vec<_> {
                let begun = listener.heard.begun();
                begun.into_iter().filter(|key| key.0 == 1).collect()
            };
            lab.eventually("the events published after it subscribed", || async {
                Ok((own().len() >= expected.len()).then_some(()))
            })
            .await?;
            ensure!(
                own() == expected,
                "it subscribed before event 1-{since} was published, and of the events up to 1-12 it was called for {}",
                crate::heard::some(&own())
            );
        }
    }
    Ok(())
}

async fn comers_and_goers_leave_nothing_behind(lab: Lab) -> Outcome {
    lab.promise("Thousands of subscriptions that come and go leave nothing behind: no handler, no event, and no cost for who publishes.");
    let hall = Hall::new(&lab);
    let witness = hall.quick("witness")?;
    let token = Token::default();
    for n in 1..=3_000 {
        let held = token.clone();
        let listener = hall.listen("passing", Subscribe::default(), move |_event| {
            let _held = held.clone();
            async { Ok(()) }
        })?;
        if n % 3 == 0 {
            hall.publish(hall.event(1, n / 3)).await?;
        }
        drop(listener.guard);
    }
    token
        .until_alone(
            &lab,
            "the handlers of 3,000 ended subscriptions to be dropped",
        )
        .await
        .map_err(|failure| {
            failure
                .code_if("EB10")
                .also(format!("{} are still there", token.others()))
        })?;
    witness.heard.until_ended(1_000).await?;
    lab.eventually("the events to be freed", || async {
        Ok((witness.heard.alive() == 0).then_some(()))
    })
    .await
    .map_err(|failure| failure.code_if("EB10"))?;
    let published = hall.publish(hall.event(1, 1_001)).await?;
    ensure!(
        published.matched == 1,
        "3,000 subscriptions have ended and one is there, and `matched` is {}",
        published.matched
    );
    Ok(())
}
