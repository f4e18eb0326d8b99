//! Stage 9: an end that loses nothing, and that comes.

use std::time::Duration;

use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use serde_json::json;
use task_queue::{Error, NewTask, Priority, State, Work};

use crate::depot::{Depot, Floor, describe, task};
use crate::front::Front;

pub fn checks() -> Vec<Check> {
    lab::checks![
        what_runs_is_finished,
        what_was_not_begun_goes_back_at_once,
        what_goes_back_counts_no_attempt,
        what_outlasts_the_grace_goes_back,
        nothing_is_begun_after_the_stop,
        a_worker_without_brokers_stops_too,
        a_submitter_answers_what_is_under_way,
        a_worker_process_ends_well,
        an_api_process_ends_well,
    ]
}

fn high(kind: &str) -> NewTask {
    NewTask {
        priority: Priority::High,
        ..task(kind)
    }
}

async fn what_runs_is_finished(lab: Lab) -> Outcome {
    lab.promise(
        "at the stop what runs is finished, its result is stored and its message acknowledged",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let working = depot.work(floor.handlers());
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(submitter.submit(task("gated")).await?.id);
    }
    floor.until_running(&lab, 2).await?;
    working.ask_to_stop();
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        floor.running() == 2,
        "after the stop {} of two handlers still ran; there are 30 s of grace",
        floor.running()
    );
    floor.open(2);
    let worked = working.stop().await?;
    ensure!(
        worked.succeeded == 2 && worked.returned == 0,
        "two tasks were finished, and `work` tells of {worked:?}"
    );
    depot.ended_once(&ids, State::Succeeded).await?;
    depot.until_ready(&depot.names.queue(), 0).await?;
    let acks = depot
        .rabbit
        .proxy()
        .count(|frame| frame.is_ack() && frame.passed);
    ensure!(
        acks == 2,
        "two messages were worked, and {acks} acknowledged: the others come again"
    );
    Ok(())
}

/// Two that run, and two of the other queue that are delivered and not begun.
async fn full(
    lab: &Lab,
) -> Result<
    (
        Depot,
        Floor,
        Vec<String>,
        Vec<String>,
        crate::depot::Working,
    ),
    Failure,
> {
    let depot = Depot::new(lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let working = depot.work(floor.handlers());
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(submitter.submit(high("gated")).await?.id);
    }
    floor.until_running(lab, 2).await?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(submitter.submit(task("quick")).await?.id);
    }
    // Delivered, as far as the prefetch goes.
    lab.within(Duration::from_millis(200)).await;
    Ok((depot, floor, running, waiting, working))
}

async fn what_was_not_begun_goes_back_at_once(lab: Lab) -> Outcome {
    lab.promise("at the stop deliveries that have not begun go back to their queue at once, while others still run; they become no dead letters");
    let (depot, floor, running, waiting, working) = full(&lab).await?;
    working.ask_to_stop();
    depot
        .until_ready(&depot.names.queue(), 2)
        .await
        .map_err(|failure| {
            failure
                .code("TQ20")
                .also("two deliveries had not begun when the stop came, and two others still run")
        })?;
    ensure!(
        floor.running() == 2,
        "{} of two handlers still run",
        floor.running()
    );
    let dead = depot.ready(&depot.names.dead_queue()).await?;
    ensure!(
        dead == 0,
        "TQ20",
        "{dead} deliveries that had not begun became dead letters: `requeue` is false unless it is set"
    );
    // Somebody else does them meanwhile.
    let other = depot.elsewhere().await?;
    let second = Floor::new();
    let _second = other.work(second.handlers());
    for id in &waiting {
        depot.until(id, State::Succeeded).await?;
    }
    floor.open(2);
    working.stop().await?;
    depot.ended_once(&running, State::Succeeded).await?;
    depot.ended_once(&waiting, State::Succeeded).await
}

async fn what_goes_back_counts_no_attempt(lab: Lab) -> Outcome {
    lab.promise("a delivery that goes back at the stop without having begun counts no attempt");
    let (depot, floor, running, waiting, working) = full(&lab).await?;
    working.ask_to_stop();
    floor.open(2);
    working.stop().await?;
    depot.ended_once(&running, State::Succeeded).await?;
    for id in &waiting {
        let status = depot.status(id).await?;
        ensure!(
            status
                .as_ref()
                .is_some_and(|it| it.state == State::Queued && it.attempts == 0),
            "TQ20",
            "the task {id} had not begun when the stop came: {}",
            status.as_ref().map_or("it is gone".to_owned(), describe)
        );
    }
    depot
        .until_ready(&depot.names.queue(), 2)
        .await
        .map_err(|failure| failure.code("TQ20"))
}

async fn what_outlasts_the_grace_goes_back(lab: Lab) -> Outcome {
    lab.promise(
        "what still runs at the end of the grace is dropped, goes back, and is done elsewhere",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        grace: Duration::from_millis(300),
        ..depot.work_options()
    };
    let working = depot.work_with(options, floor.handlers());
    let id = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    let worked = working.stop().await?;
    ensure!(
        floor.running() == 0,
        "`work` has returned, and its handler still runs"
    );
    ensure!(
        worked.returned == 1 && worked.succeeded == 0,
        "one task was given back, and `work` tells of {worked:?}"
    );
    depot.until_ready(&depot.names.queue(), 1).await?;
    let second = Floor::new();
    second.open(1);
    let _second = depot.work(second.handlers());
    depot.until(&id, State::Succeeded).await?;
    depot.ended_once(&[id], State::Succeeded).await
}

async fn nothing_is_begun_after_the_stop(lab: Lab) -> Outcome {
    lab.promise("nothing is begun after the stop, also when a place gets free and tasks wait");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let working = depot.work(floor.handlers());
    for _ in 0..2 {
        submitter.submit(task("gated")).await?;
    }
    floor.until_running(&lab, 2).await?;
    for _ in 0..6 {
        submitter.submit(task("quick")).await?;
    }
    working.ask_to_stop();
    // It has time to hear of the stop.
    lab.within(Duration::from_millis(300)).await;
    floor.open(2);
    working.stop().await?;
    ensure!(
        floor.began().len() == 2,
        "after the stop {} tasks were begun",
        floor.began().len() - 2
    );
    depot.until_ready(&depot.names.queue(), 6).await
}

async fn a_worker_without_brokers_stops_too(lab: Lab) -> Outcome {
    lab.promise("a worker that cannot reach RabbitMQ, or Redis, stops all the same");
    for redis_too in [false, true] {
        let depot = Depot::new(&lab).await?;
        let submitter = depot.submitter().await?;
        let theirs = depot.elsewhere().await?;
        let floor = Floor::new();
        let options = Work {
            grace: Duration::from_millis(500),
            ..theirs.work_options()
        };
        let working = theirs.work_with(options, floor.handlers());
        let id = submitter.submit(task("gated")).await?.id;
        floor.until_running(&lab, 1).await?;
        theirs.rabbit.proxy().refuse(true);
        theirs.rabbit.proxy().cut_all();
        if redis_too {
            theirs.redis.proxy().refuse(true);
            theirs.redis.proxy().cut_all();
        }
        floor.open(1);
        lab.within(Duration::from_millis(200)).await;
        working.stop().await?;
        let second = Floor::new();
        second.open(1);
        let _second = depot.work(second.handlers());
        depot.until(&id, State::Succeeded).await?;
        depot.ended_once(&[id], State::Succeeded).await?;
    }
    Ok(())
}

async fn a_submitter_answers_what_is_under_way(lab: Lab) -> Outcome {
    lab.promise("`Submitter::stop` waits for submits that are under way, and takes no more");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let held = depot
        .rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let (under_way, stopping) = (submitter.clone(), submitter.clone());
    let under_way = tokio::spawn(async move { under_way.submit(task("quick")).await });
    lab.eventually("RabbitMQ to confirm the message", || async {
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    let stopped = tokio::spawn(async move { stopping.stop().await });
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        !stopped.is_finished() && !under_way.is_finished(),
        "`stop` did not wait for a submit that was under way"
    );
    match submitter.submit(task("quick")).await {
        Err(Error::Stopping) => {}
        Err(other) => fail!("a submit after the stop gave: {other}"),
        Ok(status) => fail!("a submit after the stop was accepted as {}", status.id),
    }
    held.release();
    let id = under_way.await??.id;
    let limit = lab.deadline();
    ensure!(
        tokio::time::timeout(limit, stopped).await.is_ok(),
        "`stop` had not returned {limit:?} after the last submit was answered"
    );
    ensure!(
        depot.status(&id).await?.is_some(),
        "the task {id} was accepted, and is not known"
    );
    depot.until_ready(&depot.names.queue(), 1).await
}

async fn a_worker_process_ends_well(lab: Lab) -> Outcome {
    lab.promise("SIGTERM ends a worker with 0, after what runs is finished");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let worker = depot.worker(&[])?;
    let id = submitter
        .submit(NewTask::new("sleep", json!({"millis": 700})))
        .await?
        .id;
    depot.until(&id, State::Running).await?;
    worker.terminate();
    let status = worker.wait().await?;
    ensure!(
        status.code() == Some(0),
        "the worker ended with {status}: {}",
        worker.stderr()
    );
    depot.until(&id, State::Succeeded).await?;
    depot.ended_once(&[id], State::Succeeded).await?;
    depot.until_ready(&depot.names.queue(), 0).await
}

async fn an_api_process_ends_well(lab: Lab) -> Outcome {
    lab.promise("SIGTERM ends the API with 0, after requests that have come in are answered");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let held = depot
        .rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let asking = {
        let front = front.clone();
        tokio::spawn(async move { front.post(r#"{"kind":"crash"}"#, &[]).await })
    };
    lab.eventually("RabbitMQ to confirm the task", || async {
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    front.service().terminate();
    lab.within(Duration::from_millis(300)).await;
    held.release();
    let answer = asking.await??;
    ensure!(
        answer.status == 202,
        "a request that had come in before SIGTERM was answered with {}",
        answer.status
    );
    let status = front.service().wait().await?;
    ensure!(
        status.code() == Some(0),
        "the API ended with {status}: {}",
        front.service().stderr()
    );
    depot.until_ready(&depot.names.queue(), 1).await
}
