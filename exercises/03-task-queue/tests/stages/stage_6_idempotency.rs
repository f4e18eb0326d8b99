//! Stage 6: one key, one task, one effect.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use serde_json::json;
use task_queue::{Error, NewTask, Priority, State, Submit, Submitter};

use crate::depot::{Depot, Floor, describe, has_struck, task};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_key_stands_for_one_task,
        submits_at_the_same_moment_are_one_task,
        a_key_that_is_used_for_another_task_is_refused,
        the_order_of_members_makes_no_difference,
        a_key_whose_task_has_ended_tells_of_it,
        a_submitter_that_could_not_publish_does_not_spoil_the_key,
        a_submitter_that_heard_no_confirm_does_not_spoil_the_key,
        a_submitter_that_could_not_accept_does_not_spoil_the_key,
        a_message_that_is_doubled_has_one_effect,
        a_message_that_comes_again_after_its_end_has_no_effect,
        a_copy_of_what_runs_is_not_run_beside_it,
        task_queues_have_keys_of_their_own,
    ]
}

fn keyed(kind: &str, key: &str) -> NewTask {
    task(kind).with_key(key)
}

async fn a_key_stands_for_one_task(lab: Lab) -> Outcome {
    lab.promise("submits with the same key get the same task, on any submitter; with other keys, or without, they get others");
    let depot = Depot::new(&lab).await?;
    let (one, two) = (depot.submitter().await?, depot.submitter().await?);
    let first = one.submit(keyed("quick", "order-1")).await?;
    for submitter in [&one, &two, &one] {
        let again = submitter.submit(keyed("quick", "order-1")).await?;
        ensure!(
            again.id == first.id,
            "the key `order-1` stood for the task {}, and then for {}",
            first.id,
            again.id
        );
    }
    let mut ids = BTreeSet::from([first.id]);
    for key in ["order-2", "order-10", "ORDER-1", "\"order-1\""] {
        ids.insert(one.submit(keyed("quick", key)).await?.id);
    }
    for _ in 0..3 {
        ids.insert(one.submit(task("quick")).await?.id);
    }
    ensure!(
        ids.len() == 8,
        "four other keys and three submits without one are seven other tasks; there are {} ids",
        ids.len()
    );
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    let done = depot.until_done(8).await?;
    let done: BTreeSet<_> = done.into_iter().map(|(id, _)| id).collect();
    ensure!(
        done == ids,
        "the tasks that were done are not those that were accepted"
    );
    ensure!(
        floor.began().len() == 8,
        "eight tasks were accepted, and handlers were called {} times",
        floor.began().len()
    );
    Ok(())
}

async fn submits_at_the_same_moment_are_one_task(lab: Lab) -> Outcome {
    lab.promise("two hundred submits with one key at the same moment, on two submitters, are one task with one effect");
    let depot = Depot::new(&lab).await?;
    let (one, two) = (depot.submitter().await?, depot.submitter().await?);
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for round in 1..=3 {
        let key = format!("rush-{round}");
        let submits = (0..200).map(|n| {
            let submitter = if n % 2 == 0 { one.clone() } else { two.clone() };
            let task = keyed("quick", &key);
            tokio::spawn(async move { submitter.submit(task).await })
        });
        let mut ids = BTreeSet::new();
        for submitted in join_all(submits).await {
            ids.insert(submitted??.id);
        }
        ensure!(
            ids.len() == 1,
            "TQ07",
            "200 submits with one key got {} ids: between looking for the key and writing it others did the same",
            ids.len()
        );
        let id = ids.into_iter().next().unwrap_or_default();
        depot.until(&id, State::Succeeded).await?;
        lab.within(Duration::from_millis(200)).await;
        let attempts = floor.attempts(&id);
        ensure!(
            attempts == [1],
            "TQ07",
            "200 submits with one key are one task, and its handler was called for the attempts {attempts:?}"
        );
        depot.ended_once(&[id], State::Succeeded).await?;
    }
    let done = depot.done().await?.len();
    ensure!(
        done == 3,
        "TQ07",
        "three keys were used, and {done} tasks were done"
    );
    Ok(())
}

async fn a_key_that_is_used_for_another_task_is_refused(lab: Lab) -> Outcome {
    lab.promise("a key that stands for a task is refused with another kind, payload, priority or deadline; nothing of that is done");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let base = NewTask::new("quick", json!({"n": 1})).with_key("k");
    let first = submitter.submit(base.clone()).await?;
    let others = [
        NewTask {
            kind: "gated".to_owned(),
            ..base.clone()
        },
        NewTask {
            payload: json!({"n": 2}),
            ..base.clone()
        },
        NewTask {
            payload: json!({"n": 1, "m": null}),
            ..base.clone()
        },
        NewTask {
            priority: Priority::High,
            ..base.clone()
        },
        NewTask {
            deadline: Some(std::time::SystemTime::now() + Duration::from_secs(3600)),
            ..base.clone()
        },
    ];
    for other in others {
        let shown = format!("{other:?}");
        match submitter.submit(other).await {
            Err(Error::KeyReused) => {}
            Err(error) => fail!("{shown} gave another error: {error}"),
            Ok(status) => fail!(
                "the key stood for the task {}, and was accepted for {shown} as {}",
                first.id,
                status.id
            ),
        }
    }
    let again = submitter.submit(base).await?;
    ensure!(again.id == first.id, "the key stands for another task now");
    depot.until_ready(&depot.names.queue(), 1).await
}

async fn the_order_of_members_makes_no_difference(lab: Lab) -> Outcome {
    lab.promise("two payloads that differ in the order of an object's members are the same task");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let mut ids = BTreeSet::new();
    for text in [
        r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#,
        r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#,
    ] {
        let task = NewTask::new("quick", serde_json::from_str(text)?).with_key("k");
        let status = submitter.submit(task).await.map_err(|error| {
            Failure::observed(format!("the same payload in another order failed: {error}"))
        })?;
        ids.insert(status.id);
    }
    ensure!(ids.len() == 1, "they became two tasks");
    Ok(())
}

async fn a_key_whose_task_has_ended_tells_of_it(lab: Lab) -> Outcome {
    lab.promise(
        "a submit with a key whose task has ended gets that task's status, and does nothing again",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for (kind, state) in [("quick", State::Succeeded), ("wrong", State::Failed)] {
        let id = submitter.submit(keyed(kind, kind)).await?.id;
        let ended = depot.until(&id, state).await?;
        let again = submitter.submit(keyed(kind, kind)).await?;
        ensure!(
            again == ended,
            "the task of the key has ended; the submit was told {again:?}, not {ended:?}"
        );
        lab.within(Duration::from_millis(200)).await;
        ensure!(
            floor.attempts(&id) == [1],
            "it was done again: {:?}",
            floor.attempts(&id)
        );
        depot.ended_once(&[id], state).await?;
    }
    Ok(())
}

/// A submitter that gives up soon, but not before a busy machine has published anything.
async fn hasty(depot: &Depot) -> Result<Submitter, Failure> {
    Ok(Submitter::start(Submit {
        confirm_timeout: Duration::from_secs(3).mul_f64(depot.lab.patience()),
        ..depot.submit_options()
    })
    .await?)
}

/// The key is submitted again elsewhere, and its task is done, once.
async fn done_after_all(depot: &Depot, key: &str, what: &str) -> Outcome {
    let also = |failure: Failure| {
        failure
            .code("TQ16")
            .also(format!("the first submit with the key {what}"))
    };
    let other = depot.elsewhere().await?;
    let submitter = other.submitter().await?;
    let status = submitter
        .submit(keyed("quick", key))
        .await
        .map_err(|error| {
            also(Failure::observed(format!(
                "the next submit with the key failed: {error}"
            )))
        })?;
    let floor = Floor::new();
    let _working = other.work(floor.handlers());
    depot
        .until(&status.id, State::Succeeded)
        .await
        .map_err(also)?;
    lab_quiet(depot).await;
    let done = depot.done().await?;
    ensure!(
        done.len() == 1,
        "one key was used, and these tasks were done: {done:?}; the first submit {what}"
    );
    depot
        .ended_once(std::slice::from_ref(&status.id), State::Succeeded)
        .await?;
    let again = submitter.submit(keyed("quick", key)).await?;
    ensure!(
        again.id == status.id,
        "the key stands for {}, and stood for {}",
        again.id,
        status.id
    );
    Ok(())
}

async fn lab_quiet(depot: &Depot) {
    depot.lab.within(Duration::from_millis(200)).await;
}

async fn a_submitter_that_could_not_publish_does_not_spoil_the_key(lab: Lab) -> Outcome {
    lab.promise("a submitter that reserves a key and dies before the message is published does not spoil it: the next submit publishes");
    let depot = Depot::new(&lab).await?;
    let first = depot.elsewhere().await?;
    let submitter = hasty(&first).await?;
    // It has reserved the key by the time it publishes.
    let exchange = depot.names.exchange();
    let trigger = Trigger::request(move |frame| frame.is_publish_to(&exchange));
    let cut = first.rabbit.proxy().arm(trigger, Action::CutBefore);
    first.rabbit.proxy().refuse(true);
    match submitter.submit(keyed("quick", "k")).await {
        Ok(status) => fail!(
            "TQ16",
            "nothing could be published, and the task {} was accepted",
            status.id
        ),
        Err(_) => ensure!(has_struck(&cut).await, "nothing was published at all"),
    }
    drop(submitter);
    done_after_all(&depot, "k", "could not publish").await
}

async fn a_submitter_that_heard_no_confirm_does_not_spoil_the_key(lab: Lab) -> Outcome {
    lab.promise("a submitter that dies after its message was published, and before it was confirmed, does not spoil the key");
    let depot = Depot::new(&lab).await?;
    let first = depot.elsewhere().await?;
    let submitter = hasty(&first).await?;
    let cut = first
        .rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::CutAfter);
    first.rabbit.proxy().refuse(true);
    if let Ok(status) = submitter.submit(keyed("quick", "k")).await {
        fail!(
            "TQ04",
            "no confirm came, and the task {} was accepted",
            status.id
        );
    }
    ensure!(has_struck(&cut).await, "RabbitMQ had confirmed nothing");
    drop(submitter);
    done_after_all(&depot, "k", "heard no confirm").await
}

async fn a_submitter_that_could_not_accept_does_not_spoil_the_key(lab: Lab) -> Outcome {
    lab.promise("a submitter that dies after the confirm, and before it has written that the task is accepted, does not spoil the key");
    let depot = Depot::new(&lab).await?;
    let first = depot.elsewhere().await?;
    let submitter = hasty(&first).await?;
    let held = first
        .rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let submitting = tokio::spawn(async move { submitter.submit(keyed("quick", "k")).await });
    lab.eventually("RabbitMQ to confirm the message", || async {
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    first.redis.proxy().refuse(true);
    first.redis.proxy().cut_all();
    held.release();
    if let Ok(status) = submitting.await? {
        fail!(
            "Redis was away when the confirm came, and the task {} was accepted",
            status.id
        );
    }
    done_after_all(&depot, "k", "could not write that it was accepted").await
}

async fn a_message_that_is_doubled_has_one_effect(lab: Lab) -> Outcome {
    lab.promise("a task whose message comes several times has one effect: the first result stays");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    // The topology first.
    drop(depot.submitter().await?);
    let mut ids = Vec::new();
    for n in 0..10 {
        let id = format!("doubled-{n}");
        for _ in 0..3 {
            depot.publish_task(&id, "quick", json!({})).await?;
        }
        ids.push(id);
    }
    let workers = [depot.work(floor.handlers()), depot.work(floor.handlers())];
    depot.until_done(10).await?;
    depot.until_ready(&depot.names.queue(), 0).await?;
    lab.within(Duration::from_millis(300)).await;
    depot.ended_once(&ids, State::Succeeded).await?;
    for id in &ids {
        let status = depot.until(id, State::Succeeded).await?;
        ensure!(
            status.attempts as usize == floor.attempts(id).len(),
            "its handler was called for the attempts {:?}; {}",
            floor.attempts(id),
            describe(&status)
        );
    }
    for worker in workers {
        worker.stop().await?;
    }
    depot.until_ready(&depot.names.queue(), 0).await
}

async fn a_message_that_comes_again_after_its_end_has_no_effect(lab: Lab) -> Outcome {
    lab.promise("a message that is delivered again after its task has ended, because the acknowledgement was lost, is not worked again");
    let depot = Depot::new(&lab).await?;
    let theirs = depot.elsewhere().await?;
    let submitter = depot.submitter().await?;
    let lost = theirs
        .rabbit
        .proxy()
        .arm(Trigger::request(Frame::is_ack), Action::CutBefore);
    let floor = Floor::new();
    let _working = theirs.work(floor.handlers());
    let id = submitter.submit(task("quick")).await?.id;
    let first = depot.until(&id, State::Succeeded).await?;
    lab.eventually(
        "the message to be delivered again and acknowledged",
        || async {
            let log = theirs.rabbit.proxy().log();
            let again = log.iter().any(|frame| {
                frame
                    .deliver()
                    .is_some_and(|(deliver, _)| deliver.redelivered)
            });
            let acked = log.iter().any(|frame| frame.is_ack() && frame.passed);
            Ok((lost.has_fired() && again && acked).then_some(()))
        },
    )
    .await?;
    ensure!(
        floor.attempts(&id) == [1],
        "its handler was called again after the task had ended: {:?}",
        floor.attempts(&id)
    );
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status == first,
        "TQ10",
        "the status was {first:?}, and after the message had come again {status:?}"
    );
    depot.ended_once(&[id], State::Succeeded).await
}

async fn a_copy_of_what_runs_is_not_run_beside_it(lab: Lab) -> Outcome {
    lab.promise("a second copy of a message whose task runs is not run beside it, and the task ends all the same");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    drop(depot.submitter().await?);
    depot.publish_task("twin", "gated", json!({})).await?;
    let working = depot.work(floor.handlers());
    floor.until_running(&lab, 1).await?;
    for _ in 0..3 {
        depot.publish_task("twin", "gated", json!({})).await?;
    }
    depot.until_ready(&depot.names.queue(), 0).await?;
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        floor.most() == 1,
        "{} attempts at the same task ran side by side, and no worker had been lost",
        floor.most()
    );
    floor.open(10);
    depot.until("twin", State::Succeeded).await?;
    working.stop().await?;
    depot
        .ended_once(&["twin".to_owned()], State::Succeeded)
        .await
}

async fn task_queues_have_keys_of_their_own(lab: Lab) -> Outcome {
    lab.promise("a key of one task queue says nothing in another");
    let (one, two) = (Depot::new(&lab).await?, Depot::new(&lab).await?);
    let first = one.submitter().await?.submit(keyed("quick", "k")).await?;
    let second = two.submitter().await?.submit(keyed("gated", "k")).await?;
    ensure!(
        first.id != second.id,
        "the task {} belongs to two task queues",
        first.id
    );
    Ok(())
}
