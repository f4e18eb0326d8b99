//! Stage 5: whatever dies, no task is lost, and none kills workers for ever.

use std::time::Duration;

use lab::faults::amqp::{self, Frame, Side};
use lab::faults::{Action, Exchange, Trigger};
use lab::{Check, Failure, Lab, Outcome, Service, ensure, fail};
use serde_json::json;
use task_queue::{NewTask, Retry, State, Work};

use crate::depot::{Depot, Floor, describe, has_struck, number, task, text};

pub fn checks() -> Vec<Check> {
    lab::checks![
        tasks_of_a_killed_worker_run_again.limit_secs(120),
        what_was_not_begun_counts_no_attempt,
        a_worker_that_was_paused_changes_nothing.limit_secs(120),
        what_kills_its_worker_is_given_up.limit_secs(120),
        what_is_no_task_is_dead_lettered_at_once,
        a_kind_that_nobody_knows_is_dead_lettered_at_once,
        a_worker_that_dies_before_the_dead_letter_leaves_it_to_others.limit_secs(120),
        a_worker_that_dies_after_the_copy_loses_nothing.limit_secs(120),
        a_connection_to_rabbitmq_may_be_lost_at_any_point.limit_secs(240),
        a_connection_to_redis_may_be_lost_at_any_point.limit_secs(240),
    ]
}

/// Flags of a worker whose retries come soon.
const SOON: [&str; 4] = ["--retry-delay", "20ms", "--retry-longest", "200ms"];

fn flags<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SOON.iter().copied().chain(more.iter().copied()).collect()
}

/// Waits until the worker has begun so many attempts.
async fn until_began(lab: &Lab, worker: &Service, count: usize) -> Outcome {
    let what = format!("the worker to begin {count} attempt(s)");
    lab.eventually(&what, || async {
        let lines = worker.json_lines();
        let began = lines.iter().filter(|line| line["what"] == "began").count();
        Ok((began >= count).then_some(()))
    })
    .await
}

fn sleep(millis: u64) -> NewTask {
    NewTask::new("sleep", json!({"millis": millis}))
}

async fn tasks_of_a_killed_worker_run_again(lab: Lab) -> Outcome {
    lab.promise("the tasks of a worker that is killed run again elsewhere");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let first = depot.worker(&flags(&["--concurrency", "3"]))?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(submitter.submit(sleep(3_600_000)).await?.id);
    }
    until_began(&lab, &first, 3).await?;
    first.kill();
    first.wait().await?;
    // The handlers of the next one take no time.
    let floor = Floor::new();
    let handlers = floor
        .handlers()
        .on("sleep", floor.handler(|_| async { Ok(json!("slept")) }));
    let options = Work {
        concurrency: 3,
        ..depot.work_options()
    };
    let _second = depot.work_with(options, handlers);
    for id in &ids {
        let status = depot.until(id, State::Succeeded).await.map_err(|failure| {
            failure
                .code("TQ13")
                .also("the worker that had begun it was killed")
        })?;
        ensure!(
            status.attempts == 2 && floor.attempts(id) == [2],
            "TQ14",
            "the task {id} was begun by a worker that was killed, and again by another, whose handler was told that it is attempt {:?}; {}",
            floor.attempts(id),
            describe(&status)
        );
    }
    depot.ended_once(&ids, State::Succeeded).await
}

async fn what_was_not_begun_counts_no_attempt(lab: Lab) -> Outcome {
    lab.promise("a delivery that comes again because the connection was lost before it was begun counts no attempt");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let theirs = depot.elsewhere().await?;
    // Each delivery of the first attempt's message is lost on its way, three times.
    let faults: Vec<_> = (0..3)
        .map(|_| {
            let trigger = amqp::Trigger::reply(Frame::is_deliver);
            theirs.rabbit.proxy().arm(trigger, Action::CutBefore)
        })
        .collect();
    let floor = Floor::new();
    let _working = theirs.work(floor.handlers());
    let id = submitter.submit(task("quick")).await?.id;
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        faults.iter().all(lab::faults::Fault::has_fired),
        "the task was done before its delivery was lost three times"
    );
    ensure!(
        status.attempts == 1,
        "the task was delivered four times and begun once: {}",
        describe(&status)
    );
    depot.ended_once(&[id], State::Succeeded).await
}

async fn a_worker_that_was_paused_changes_nothing(lab: Lab) -> Outcome {
    lab.promise("the tasks of a worker that is paused run elsewhere once RabbitMQ misses its heartbeats; when it wakes up, what it says has no effect");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let amqp = depot.rabbit.url_with_heartbeat(1);
    let paused = depot.worker_at(&amqp, &flags(&["--concurrency", "1"]))?;
    let id = submitter.submit(sleep(1500)).await?.id;
    until_began(&lab, &paused, 1).await?;
    paused.pause();
    let floor = Floor::new();
    let handlers = floor.handlers().on(
        "sleep",
        floor.handler(|_| async { Ok(json!("the other's")) }),
    );
    let _other = depot.work_with(depot.work_options(), handlers);
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status.result == Some(json!("the other's")),
        "the result is {:?}",
        status.result
    );
    paused.resume();
    // It finishes what it was at, and has its say.
    lab.eventually("the worker that was paused to go on", || async {
        let lines = paused.json_lines();
        let ended = lines
            .iter()
            .any(|line| line["what"] == "succeeded" || line["what"] == "failed");
        let another = depot.rabbit.queue(&depot.names.queue()).await?;
        Ok((ended || another.is_some_and(|queue| queue.consumers == 2)).then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(500)).await;
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status.result == Some(json!("the other's")),
        "TQ10",
        "the task {id} was done by another worker while this one was paused; when it woke up the result became {:?}",
        status.result
    );
    depot.ended_once(&[id], State::Succeeded).await
}

async fn what_kills_its_worker_is_given_up(lab: Lab) -> Outcome {
    lab.promise("a task that kills its worker every time is begun exactly N times and then dead-lettered, while others are done");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let id = submitter.submit(NewTask::new("crash", json!({}))).await?.id;
    let flags = flags(&["--concurrency", "1", "--attempts", "3"]);
    let mut others = Vec::new();
    let mut begun = 0;
    // Somebody who starts a worker whenever one has died, as an operating system does.
    for round in 1..=6 {
        others.push(submitter.submit(sleep(1)).await?.id);
        let worker = depot.worker(&flags)?;
        lab.eventually("the worker to die, or the task to be given up", || async {
            let status = depot.status(&id).await?;
            let given_up = status.is_some_and(|status| status.state == State::Failed);
            Ok((given_up || worker.exit_status().is_some()).then_some(()))
        })
        .await
        .map_err(|failure| {
            failure
                .code_if((begun >= 3).then_some("TQ14"))
                .also(format!(
                    "it has killed {begun} workers by now, and 3 attempts are allowed"
                ))
        })?;
        let crashed = worker
            .json_lines()
            .iter()
            .any(|line| line["kind"] == "crash" && line["what"] == "began");
        begun += u32::from(crashed);
        if worker.exit_status().is_none() {
            // It gave the task up, and does the others now.
            for other in &others {
                depot.until(other, State::Succeeded).await?;
            }
            break;
        }
        ensure!(
            round < 6,
            "TQ14",
            "the task has killed {begun} workers by now, and was to be given up after 3 attempts: nobody has counted those that did not come to their end"
        );
    }
    let status = depot.until(&id, State::Failed).await?;
    ensure!(
        begun == 3 && status.attempts == 3,
        "TQ14",
        "with 3 attempts allowed it has killed {begun} workers; {}",
        describe(&status)
    );
    let letter = depot
        .dead_letter()
        .await
        .map_err(|failure| failure.code("TQ17"))?;
    let reason = text(letter.message.header("x-reason")).unwrap_or_default();
    ensure!(
        letter.message.id() == id && !reason.is_empty() && status.error.is_some(),
        "the dead letter has the id `{}` and the reason \"{reason}\"; {}",
        letter.message.id(),
        describe(&status)
    );
    depot.ended_once(&[id], State::Failed).await?;
    depot.ended_once(&others, State::Succeeded).await
}

async fn what_is_no_task_is_dead_lettered_at_once(lab: Lab) -> Outcome {
    lab.promise("a message that is no task becomes a dead letter at once, with the reason, and holds up no other");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let mut working = depot.work(floor.handlers());
    let queue = depot.names.queue();
    lab.eventually("a consumer", || async {
        let queue = depot.rabbit.queue(&queue).await?;
        Ok(queue.filter(|queue| queue.consumers > 0))
    })
    .await?;
    let bad: [&[u8]; 9] = [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"{\"kind\":\"quick\",\"payload\":1}",
        b"{\"id\":\"a b\",\"kind\":\"quick\"}",
        b"{\"id\":7,\"kind\":\"quick\"}",
        b"{\"id\":\"x\",\"kind\":null}",
    ];
    for body in bad {
        depot.publish_bytes(body).await?;
    }
    let mut left: Vec<&[u8]> = bad.to_vec();
    while !left.is_empty() {
        let letter = depot.dead_letter().await.map_err(|failure| {
            let missing: Vec<_> = left
                .iter()
                .map(|body| String::from_utf8_lossy(body))
                .collect();
            failure.code("TQ17").also(format!("of {missing:?}"))
        })?;
        let body = &letter.message.body;
        let Some(place) = left.iter().position(|other| other == body) else {
            fail!(
                "a dead letter has the body {:?}, which was not sent, or came before",
                String::from_utf8_lossy(body)
            );
        };
        left.remove(place);
        let reason = text(letter.message.header("x-reason")).unwrap_or_default();
        let attempts = number(letter.message.header("x-attempts"));
        ensure!(
            !reason.is_empty() && attempts == Some(0),
            "TQ17",
            "the dead letter {:?} has the headers `x-reason` \"{reason}\" and `x-attempts` {attempts:?}",
            String::from_utf8_lossy(body)
        );
    }
    let submitter = depot.submitter().await?;
    let id = submitter.submit(task("quick")).await?.id;
    depot.until(&id, State::Succeeded).await?;
    working.expect_running().await?;
    let began = floor.began();
    ensure!(began.len() == 1, "handlers were called for {began:?}");
    depot.until_ready(&queue, 0).await
}

async fn a_kind_that_nobody_knows_is_dead_lettered_at_once(lab: Lab) -> Outcome {
    lab.promise("a task of a kind that has no handler is failed and dead-lettered at once, without an attempt");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let _working = depot.work(floor.handlers());
    let id = submitter.submit(task("dance")).await?.id;
    let letter = depot
        .dead_letter()
        .await
        .map_err(|failure| failure.code("TQ17"))?;
    let reason = text(letter.message.header("x-reason")).unwrap_or_default();
    ensure!(
        letter.message.id() == id && reason.contains("dance"),
        "the dead letter has the id `{}` and the reason \"{reason}\", which does not name the kind `dance`",
        letter.message.id()
    );
    let status = depot.until(&id, State::Failed).await?;
    ensure!(
        status.attempts == 0 && status.error.is_some(),
        "{}",
        describe(&status)
    );
    depot.ended_once(&[id], State::Failed).await
}

/// A worker that is killed when such a message is about to be published, with the rest of its life.
async fn killed_at(
    depot: &Depot,
    kind: NewTask,
    matches: impl Fn(&Frame) -> bool + Send + 'static,
    flags: &[&str],
) -> Result<String, Failure> {
    let lab = &depot.lab;
    let submitter = depot.submitter().await?;
    let theirs = depot.elsewhere().await?;
    let held = theirs
        .rabbit
        .proxy()
        .arm(amqp::Trigger::request(matches), Action::Hold);
    let worker = theirs.worker(flags)?;
    let id = submitter.submit(kind).await?.id;
    lab.eventually("the worker to come that far", || async {
        worker.expect_running()?;
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    worker.kill();
    worker.wait().await?;
    // What was held goes nowhere any more.
    theirs.rabbit.proxy().cut_all();
    Ok(id)
}

async fn a_worker_that_dies_before_the_dead_letter_leaves_it_to_others(lab: Lab) -> Outcome {
    lab.promise("a worker that dies between giving a task up and publishing its dead letter leaves the dead letter to others");
    let depot = Depot::new(&lab).await?;
    let exchange = depot.names.dead_exchange();
    let flags = flags(&["--attempts", "1"]);
    let task = NewTask::new("fail", json!({"reason": "no luck today"}));
    let id = killed_at(
        &depot,
        task,
        move |frame| frame.is_publish_to(&exchange),
        &flags,
    )
    .await?;
    let _worker = depot.worker(&flags)?;
    let letter = depot.dead_letter().await.map_err(|failure| {
        failure.code("TQ17").also(format!(
            "its worker had given the task {id} up, and was killed before the dead letter was out"
        ))
    })?;
    ensure!(
        letter.message.id() == id,
        "another dead letter came: {letter:?}"
    );
    depot.until(&id, State::Failed).await?;
    depot.ended_once(&[id], State::Failed).await
}

async fn a_worker_that_dies_after_the_copy_loses_nothing(lab: Lab) -> Outcome {
    lab.promise("a worker that dies between publishing the copy for the next attempt and acknowledging the message loses nothing; no more attempts are made than are allowed");
    let depot = Depot::new(&lab).await?;
    let flags = flags(&["--attempts", "4"]);
    let task = NewTask::new("flaky", json!({"fails": 2}));
    let id = killed_at(&depot, task, |frame| frame.settles().is_some(), &flags).await?;
    let floor = Floor::new();
    let options = Work {
        retry: Retry {
            attempts: 4,
            ..depot.work_options().retry
        },
        ..depot.work_options()
    };
    let flaky = floor.handler(|context| async move {
        if context.attempt() <= 2 {
            return Err(task_queue::Failure::Retry("not yet".to_owned()));
        }
        Ok(json!({"attempt": context.attempt()}))
    });
    let _working = depot.work_with(options, floor.handlers().on("flaky", flaky));
    let status = depot.until(&id, State::Succeeded).await.map_err(|failure| {
        failure.also("its worker was killed after it had published the copy for the next attempt, and before the acknowledgement")
    })?;
    ensure!(
        (3..=4).contains(&status.attempts),
        "it was to succeed in attempt 3, or 4 if the message that came again was attempted too: {}",
        describe(&status)
    );
    depot.ended_once(&[id], State::Succeeded).await
}

/// Tasks that go every way there is.
fn ways() -> [(&'static str, State); 4] {
    [
        ("quick", State::Succeeded),
        ("flaky", State::Succeeded),
        ("fail", State::Failed),
        ("wrong", State::Failed),
    ]
}

/// Attempts enough for one that is lost.
fn options(depot: &Depot) -> Work {
    Work {
        concurrency: 1,
        retry: Retry {
            attempts: 3,
            first: Duration::from_millis(10),
            longest: Duration::from_millis(20),
        },
        ..depot.work_options()
    }
}

/// Runs one task with a fault armed in its worker's way, and sees that it ends once, as it should.
async fn one_way(
    lab: &Lab,
    kind: &str,
    ended: State,
    arm: impl Fn(&Depot) -> lab::faults::Fault,
    place: &str,
) -> Result<bool, Failure> {
    let depot = Depot::new(lab).await?;
    let submitter = depot.submitter().await?;
    let theirs = depot.elsewhere().await?;
    // The topology is there, and the worker waits: what comes now is the task's own way.
    let floor = Floor::new();
    let mut working = theirs.work_with(options(&theirs), floor.handlers());
    let (queue, high) = (depot.names.queue(), depot.names.high_queue());
    lab.eventually("the worker to consume", || async {
        for queue in [&queue, &high] {
            let seen = depot.rabbit.queue(queue).await?;
            if seen.is_none_or(|queue| queue.consumers == 0) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    let fault = arm(&theirs);
    let id = submitter.submit(task(kind)).await?.id;
    let also = |failure: Failure| {
        failure.also(format!(
            "a task of the kind `{kind}`, with the connection lost at {place}"
        ))
    };
    depot.until(&id, ended).await.map_err(also)?;
    if ended == State::Failed {
        depot
            .dead_letter()
            .await
            .map_err(|failure| also(failure.code("TQ17")))?;
    }
    let calls = floor.attempts(&id);
    let status = depot.until(&id, ended).await?;
    ensure!(
        status.attempts <= 3 && calls.windows(2).all(|pair| pair[0] < pair[1]),
        "TQ14",
        "three attempts were allowed; the handler was called for the attempts {calls:?}, with the connection lost at {place}; {}",
        describe(&status)
    );
    working.expect_running().await.map_err(also)?;
    // And it works on.
    let next = submitter.submit(task("quick")).await?.id;
    depot.until(&next, State::Succeeded).await.map_err(also)?;
    depot.ended_once(&[id], ended).await.map_err(also)?;
    let fired = has_struck(&fault).await;
    fault.disarm();
    drop(working);
    Ok(fired)
}

async fn a_connection_to_rabbitmq_may_be_lost_at_any_point(lab: Lab) -> Outcome {
    lab.promise("at whatever point of its way the connection to RabbitMQ is lost, a task ends as it should, once, and the worker goes on");
    for (kind, ended) in ways() {
        // Heartbeats are not counted; neither is what a new connection says first.
        for side in [Side::Client, Side::Broker] {
            for n in 1..=12 {
                let matches = |frame: &Frame| {
                    frame.is_publish()
                        || frame.is_deliver()
                        || frame.settles().is_some()
                        || frame.confirms().is_some()
                        || frame.declares_queue().is_some()
                };
                let arm = |depot: &Depot| {
                    let proxy = depot.rabbit.proxy();
                    match side {
                        Side::Client => {
                            proxy.arm(amqp::Trigger::request(matches).nth(n), Action::CutAfter)
                        }
                        Side::Broker => {
                            proxy.arm(amqp::Trigger::reply(matches).nth(n), Action::CutBefore)
                        }
                    }
                };
                let place = match side {
                    Side::Client => format!("message {n} that the worker sends"),
                    Side::Broker => format!("message {n} that RabbitMQ sends"),
                };
                if !one_way(&lab, kind, ended, arm, &place).await? {
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn a_connection_to_redis_may_be_lost_at_any_point(lab: Lab) -> Outcome {
    lab.promise("at whatever point of its way the connection to Redis is lost, before or after a command is carried out, a task ends as it should, once");
    for (kind, ended) in ways() {
        for action in [Action::CutBefore, Action::CutAfter] {
            for n in 1..=12 {
                let arm = |depot: &Depot| {
                    let prefix = format!("{}:task:", depot.names);
                    let matches = move |exchange: &Exchange| {
                        (1..6).any(|i| exchange.arg(i).starts_with(&prefix))
                    };
                    depot
                        .redis
                        .proxy()
                        .arm(Trigger::request(matches).nth(n), action)
                };
                let place = format!("command {n} about the task ({action:?})");
                if !one_way(&lab, kind, ended, arm, &place).await? {
                    break;
                }
            }
        }
    }
    Ok(())
}
