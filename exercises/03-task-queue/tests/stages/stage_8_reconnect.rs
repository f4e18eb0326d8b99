//! Stage 8: connections come and go, and so does RabbitMQ.

use std::time::Duration;

use lab::faults::amqp::Frame;
use lab::{Check, Lab, Outcome, ensure, fail};
use serde_json::json;
use task_queue::{NewTask, State, Submitter, Work};

use crate::depot::{Depot, Floor, describe, task};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_submitter_goes_on_after_a_lost_connection,
        a_submit_survives_a_connection_that_was_lost_before_it,
        a_submitter_knows_whether_it_is_ready,
        a_worker_goes_on_after_a_lost_connection,
        a_worker_waits_for_a_broker_that_is_away,
        outcomes_are_kept_while_redis_is_away,
        a_queue_that_was_deleted_is_declared_again,
        a_channel_that_is_closed_by_publishing_disturbs_no_consumer,
        a_connection_that_is_silent_is_given_up.limit_secs(120),
        a_crash_of_the_broker_under_load_loses_nothing.limit_secs(240),
    ]
}

/// Waits until the task is accepted, however often it has to be tried.
async fn accepted(
    depot: &Depot,
    submitter: &Submitter,
    kind: &str,
) -> Result<String, lab::Failure> {
    depot
        .lab
        .eventually("a submit to be accepted", || async {
            Ok(submitter.submit(task(kind)).await.ok())
        })
        .await
        .map(|status| status.id)
        .map_err(|failure| failure.code("TQ18"))
}

async fn a_submitter_goes_on_after_a_lost_connection(lab: Lab) -> Outcome {
    lab.promise(
        "after its connections were cut a submitter connects again by itself, and so does a store",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    for round in 1..=3 {
        let id = accepted(&depot, &submitter, "quick").await?;
        depot.rabbit.proxy().cut_all();
        depot.redis.proxy().cut_all();
        let known = lab
            .eventually("the store to answer again", || async {
                Ok(store.get(&id).await.ok())
            })
            .await?;
        ensure!(
            known.is_some(),
            "in round {round} the task {id} is not known any more"
        );
    }
    accepted(&depot, &submitter, "quick").await?;
    // One whose confirm was lost may be there besides.
    let queue = depot.names.queue();
    lab.eventually("the four accepted tasks to be in their queue", || async {
        Ok((depot.ready(&queue).await? >= 4).then_some(()))
    })
    .await
}

async fn a_submit_survives_a_connection_that_was_lost_before_it(lab: Lab) -> Outcome {
    lab.promise("a submit after the connection to RabbitMQ was lost, with RabbitMQ there, is accepted: nobody has to submit twice");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    submitter.submit(task("quick")).await?;
    depot.rabbit.proxy().cut_all();
    lab.eventually("the connection to be gone", || async {
        Ok((depot.rabbit.proxy().connections() == 0).then_some(()))
    })
    .await
    .ok();
    if let Err(error) = submitter.submit(task("quick")).await {
        fail!(
            "TQ18",
            "RabbitMQ is there, and the submit after a lost connection failed: {error}"
        );
    }
    depot.until_ready(&depot.names.queue(), 2).await
}

async fn a_submitter_knows_whether_it_is_ready(lab: Lab) -> Outcome {
    lab.promise(
        "`ready` says whether a task could be accepted now: not while RabbitMQ or Redis is away",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    submitter.ready().await?;
    let away = |which: &str, on: bool| match which {
        "RabbitMQ" => {
            depot.rabbit.proxy().refuse(on);
            if on {
                depot.rabbit.proxy().cut_all();
            }
        }
        _ => {
            depot.redis.proxy().refuse(on);
            if on {
                depot.redis.proxy().cut_all();
            }
        }
    };
    for which in ["RabbitMQ", "Redis"] {
        away(which, true);
        lab.eventually(
            &format!("`ready` to notice that {which} is away"),
            || async { Ok(submitter.ready().await.is_err().then_some(())) },
        )
        .await?;
        away(which, false);
        lab.eventually(
            &format!("`ready` to notice that {which} is back"),
            || async { Ok(submitter.ready().await.is_ok().then_some(())) },
        )
        .await?;
    }
    Ok(())
}

async fn a_worker_goes_on_after_a_lost_connection(lab: Lab) -> Outcome {
    lab.promise("after its connections were cut a worker consumes again by itself; what ran meanwhile has its effect once");
    let depot = Depot::new(&lab).await?;
    let theirs = depot.elsewhere().await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = theirs.work(floor.handlers());
    for round in 1..=3 {
        let busy = submitter.submit(task("gated")).await?.id;
        floor.until_running(&lab, 1).await?;
        theirs.rabbit.proxy().cut_all();
        floor.open(4);
        depot.until(&busy, State::Succeeded).await?;
        let next = submitter.submit(task("quick")).await?.id;
        depot
            .until(&next, State::Succeeded)
            .await
            .map_err(|failure| {
                failure
                    .code("TQ18")
                    .also(format!("the worker's connections were cut {round} time(s)"))
            })?;
        depot.ended_once(&[busy, next], State::Succeeded).await?;
        lab.eventually("all handlers to end", || async {
            Ok((floor.running() == 0).then_some(()))
        })
        .await?;
        floor.close();
    }
    working.expect_running().await?;
    depot.until_ready(&depot.names.queue(), 0).await
}

async fn a_worker_waits_for_a_broker_that_is_away(lab: Lab) -> Outcome {
    lab.promise(
        "a worker whose RabbitMQ is away for a while tries again until it is back, with pauses",
    );
    let depot = Depot::new(&lab).await?;
    let theirs = depot.elsewhere().await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = theirs.work(floor.handlers());
    let first = submitter.submit(task("quick")).await?.id;
    depot.until(&first, State::Succeeded).await?;
    theirs.rabbit.proxy().refuse(true);
    theirs.rabbit.proxy().cut_all();
    lab.within(Duration::from_millis(1500)).await;
    working.expect_running().await?;
    let tries = theirs.rabbit.proxy().refused();
    ensure!(
        tries <= 100,
        "in one and a half seconds it has tried to connect {tries} times: a pause between two tries spares a broker that is starting"
    );
    theirs.rabbit.proxy().refuse(false);
    let next = submitter.submit(task("quick")).await?.id;
    depot
        .until(&next, State::Succeeded)
        .await
        .map_err(|failure| failure.code("TQ18"))?;
    Ok(())
}

async fn outcomes_are_kept_while_redis_is_away(lab: Lab) -> Outcome {
    lab.promise("an outcome that Redis cannot take now is kept until it can: nothing is acknowledged before, and nothing is done twice");
    let depot = Depot::new(&lab).await?;
    let theirs = depot.elsewhere().await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = theirs.work(floor.handlers());
    let ids = [
        submitter.submit(task("gated")).await?.id,
        submitter.submit(task("gated")).await?.id,
    ];
    floor.until_running(&lab, 2).await?;
    theirs.redis.proxy().refuse(true);
    theirs.redis.proxy().cut_all();
    floor.open(2);
    lab.within(Duration::from_millis(500)).await;
    let acks = theirs
        .rabbit
        .proxy()
        .count(|frame| frame.settles().is_some());
    ensure!(
        acks == 0,
        "TQ13",
        "Redis is away, and {acks} messages were settled whose outcome it has not taken"
    );
    working.expect_running().await?;
    theirs.redis.proxy().refuse(false);
    for id in &ids {
        let status = depot.until(id, State::Succeeded).await?;
        ensure!(
            status.attempts == 1 && floor.attempts(id) == [1],
            "its handler had ended when Redis went away, and was called again: {:?}; {}",
            floor.attempts(id),
            describe(&status)
        );
    }
    depot.ended_once(&ids, State::Succeeded).await?;
    let next = submitter.submit(task("quick")).await?.id;
    depot.until(&next, State::Succeeded).await.map(drop)
}

async fn a_queue_that_was_deleted_is_declared_again(lab: Lab) -> Outcome {
    lab.promise("when somebody deletes queues and exchanges, workers and submitters declare them again, and go on");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = depot.work(floor.handlers());
    let first = submitter.submit(task("quick")).await?.id;
    depot.until(&first, State::Succeeded).await?;
    let names = &depot.names;
    for queue in [names.queue(), names.high_queue(), names.dead_queue()] {
        depot.rabbit.delete_queue(&queue).await?;
    }
    for exchange in [
        names.exchange(),
        names.high_exchange(),
        names.dead_exchange(),
    ] {
        depot.rabbit.delete_exchange(&exchange).await?;
    }
    let next = accepted(&depot, &submitter, "quick").await?;
    depot
        .until(&next, State::Succeeded)
        .await
        .map_err(|failure| failure.code("TQ18"))?;
    // Dead letters, too.
    let wrong = accepted(&depot, &submitter, "wrong").await?;
    depot.until(&wrong, State::Failed).await?;
    depot
        .dead_letter()
        .await
        .map_err(|failure| failure.code("TQ18"))?;
    working.expect_running().await
}

async fn a_channel_that_is_closed_by_publishing_disturbs_no_consumer(lab: Lab) -> Outcome {
    lab.promise("when RabbitMQ closes the channel on which a worker publishes, what it consumes goes on; the dead letter is published later");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = depot.work(floor.handlers());
    // One runs throughout: its delivery must stay the worker's own.
    let busy = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    depot
        .rabbit
        .delete_exchange(&depot.names.dead_exchange())
        .await?;
    let wrong = submitter.submit(task("wrong")).await?.id;
    depot.until(&wrong, State::Failed).await?;
    depot.dead_letter().await.map_err(|failure| {
        failure
            .code("TQ18")
            .also("the exchange for dead letters had been deleted before")
    })?;
    floor.open(1);
    depot.until(&busy, State::Succeeded).await?;
    ensure!(
        floor.attempts(&busy) == [1],
        "a message could not be published, and the task {busy}, which had nothing to do with it, was begun again: {:?}. Consuming and publishing share a channel, and RabbitMQ closes a channel at the first mistake on it",
        floor.attempts(&busy)
    );
    let log = depot.rabbit.proxy().log();
    let redelivered = log
        .iter()
        .filter_map(Frame::deliver)
        .any(|(deliver, message)| deliver.redelivered && message.id() == busy);
    ensure!(
        !redelivered,
        "the message of the task {busy} was delivered again: its channel was closed by a mistake of publishing"
    );
    let next = submitter.submit(task("quick")).await?.id;
    depot.until(&next, State::Succeeded).await?;
    working.expect_running().await
}

async fn a_connection_that_is_silent_is_given_up(lab: Lab) -> Outcome {
    lab.promise("a connection on which nothing moves any more is given up after its heartbeats are missing, and a worker goes on on another");
    let depot = Depot::new(&lab).await?;
    let theirs = depot.elsewhere().await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        amqp: theirs.rabbit.url_with_heartbeat(1),
        ..theirs.work_options()
    };
    let mut working = theirs.work_with(options, floor.handlers());
    let first = submitter.submit(task("quick")).await?.id;
    depot.until(&first, State::Succeeded).await?;
    theirs.rabbit.proxy().stall(true);
    // Longer than RabbitMQ waits for a heartbeat.
    lab.within(Duration::from_secs(4)).await;
    theirs.rabbit.proxy().stall(false);
    let next = submitter.submit(task("quick")).await?.id;
    depot
        .until(&next, State::Succeeded)
        .await
        .map_err(|failure| failure.code("TQ18"))?;
    working.expect_running().await?;
    depot.ended_once(&[first, next], State::Succeeded).await
}

async fn a_crash_of_the_broker_under_load_loses_nothing(lab: Lab) -> Outcome {
    lab.promise("RabbitMQ is killed and started again under load: every task that was accepted ends, once, and nobody has to be started again");
    let own = lab.own_rabbit().await?;
    let depot = Depot::with(&lab, (*own).clone()).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 8,
        ..depot.work_options()
    };
    let mut working = depot.work_with(options, floor.handlers());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let submitting = {
        let submitter = submitter.clone();
        tokio::spawn(async move {
            let mut accepted = Vec::new();
            let mut n = 0;
            while !*stopped.borrow() {
                let kind = if n % 3 == 0 { "flaky" } else { "quick" };
                match submitter.submit(NewTask::new(kind, json!({}))).await {
                    Ok(status) => accepted.push(status.id),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
                n += 1;
            }
            accepted
        })
    };
    depot.until_done(50).await?;
    own.kill().await?;
    own.start().await?;
    let before = depot.done().await?.len();
    depot
        .until_done(before + 50)
        .await
        .map_err(|failure| failure.code("TQ18").also("RabbitMQ is back"))?;
    stop.send_replace(true);
    let accepted = submitting.await?;
    for id in &accepted {
        depot.until(id, State::Succeeded).await.map_err(|failure| {
            failure.also("it had been accepted, and RabbitMQ was killed meanwhile")
        })?;
    }
    working.expect_running().await?;
    depot.ended_once(&accepted, State::Succeeded).await
}
