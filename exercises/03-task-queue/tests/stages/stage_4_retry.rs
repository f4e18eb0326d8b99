//! Stage 4: tried again later, and given up well.

use std::time::Duration;

use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::types::AMQPValue;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use task_queue::{NewTask, Priority, Retry, State, Work, declare, declare_wait};

use crate::depot::{Depot, Floor, describe, long, number, table, task, text};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_wait_queue_gives_back_what_it_was_given,
        a_wait_queue_that_differs_is_named,
        a_task_that_fails_is_tried_again,
        after_exactly_so_many_attempts_it_is_dead_lettered,
        a_dead_letter_is_the_message_that_was_sent,
        delays_grow_with_a_queue_for_each,
        tasks_that_failed_together_do_not_come_back_together,
        a_short_delay_does_not_wait_behind_a_long_one,
        a_task_that_waits_takes_no_place,
        between_attempts_it_is_queued_with_the_last_error,
        the_copy_is_confirmed_before_the_message_is_acknowledged,
        a_copy_that_is_lost_loses_no_task,
        a_dead_letter_is_confirmed_before_the_message_is_acknowledged,
        a_dead_letter_that_is_lost_is_sent_again,
        a_copy_that_is_back_at_once_is_worked,
        what_is_permanent_is_not_tried_again,
        a_failed_task_of_high_priority_is_tried_again,
    ]
}

/// A message that goes into a wait queue: which, with which header.
fn retries(log: &[Frame], depot: &Depot) -> Vec<(String, Option<i64>)> {
    let prefix = format!("{}.retry.", depot.names);
    log.iter()
        .filter_map(Frame::publish)
        .filter(|(publish, _)| publish.routing_key.as_str().starts_with(&prefix))
        .map(|(publish, message)| {
            (
                publish
                    .routing_key
                    .as_str()
                    .trim_start_matches(&prefix)
                    .to_owned(),
                number(message.header("x-attempts")),
            )
        })
        .collect()
}

fn is_retry(depot: &Depot) -> impl Fn(&Frame) -> bool + Send + Clone + 'static {
    let prefix = format!("{}.retry.", depot.names);
    move |frame| {
        frame
            .publish()
            .is_some_and(|(publish, _)| publish.routing_key.as_str().starts_with(&prefix))
    }
}

fn is_dead_letter(depot: &Depot) -> impl Fn(&Frame) -> bool + Send + Clone + 'static {
    let exchange = depot.names.dead_exchange();
    move |frame| frame.is_publish_to(&exchange)
}

/// Many attempts, soon.
fn patient(depot: &Depot, attempts: u32) -> Work {
    Work {
        retry: Retry {
            attempts,
            first: Duration::from_millis(20),
            longest: Duration::from_millis(100),
        },
        ..depot.work_options()
    }
}

async fn channel(depot: &Depot) -> Result<lapin::Channel, Failure> {
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&depot.rabbit.url(), properties).await;
    let cannot = |error: lapin::Error| {
        Failure::infrastructure(format!("the lab cannot connect to RabbitMQ: {error}"))
    };
    connection
        .map_err(cannot)?
        .create_channel()
        .await
        .map_err(cannot)
}

async fn a_wait_queue_gives_back_what_it_was_given(lab: Lab) -> Outcome {
    lab.promise("`declare_wait` makes a durable quorum queue for one delay, whose messages come back to the queue `NAME` after it");
    let depot = Depot::new(&lab).await?;
    let names = &depot.names;
    let channel = channel(&depot).await?;
    declare(&channel, names).await?;
    for millis in [60, 1500] {
        let delay = Duration::from_millis(millis);
        let name = declare_wait(&channel, names, delay).await?;
        let expected = format!("{names}.retry.{millis}");
        ensure!(
            name == expected,
            "the queue for a delay of {millis} ms is called `{name}`, and was to be called `{expected}`"
        );
        let arguments = table([
            ("x-queue-type", long("quorum")),
            ("x-message-ttl", AMQPValue::LongLongInt(millis as i64)),
            ("x-dead-letter-exchange", long("")),
            ("x-dead-letter-routing-key", long(&names.queue())),
            ("x-dead-letter-strategy", long("at-least-once")),
            ("x-overflow", long("reject-publish")),
        ]);
        if let Some(why) = depot.rabbit.differs(&name, arguments).await? {
            let code = why.contains("durable").then_some("TQ08");
            fail!(code, "the queue `{name}`: {why}");
        }
    }
    declare_wait(&channel, names, Duration::from_millis(60)).await?;
    let properties = lapin::BasicProperties::default().with_delivery_mode(2);
    let queue = names.wait_queue(Duration::from_millis(60));
    depot
        .rabbit
        .publish("", &queue, properties, b"there and back")
        .await?;
    depot.until_ready(&names.queue(), 1).await?;
    let back = depot.rabbit.take(&names.queue()).await?;
    ensure!(
        back.is_some_and(|taken| taken.message.body == b"there and back"),
        "what came back is another message"
    );
    Ok(())
}

async fn a_wait_queue_that_differs_is_named(lab: Lab) -> Outcome {
    lab.promise(
        "a wait queue that is there with other arguments is `Error::Declared`, with its name",
    );
    let depot = Depot::new(&lab).await?;
    let delay = Duration::from_millis(70);
    let name = depot.names.wait_queue(delay);
    let theirs = channel(&depot).await?;
    let options = lapin::options::QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    theirs
        .queue_declare(name.as_str().into(), options, Default::default())
        .await?;
    match declare_wait(&channel(&depot).await?, &depot.names, delay).await {
        Err(task_queue::Error::Declared { what, .. }) if what.contains(&name) => Ok(()),
        Err(other) => fail!("`declare_wait` failed with: {other}; the queue `{name}` differs"),
        Ok(_) => fail!(
            "`declare_wait` succeeded although the queue `{name}` is there with other arguments"
        ),
    }
}

async fn a_task_that_fails_is_tried_again(lab: Lab) -> Outcome {
    lab.promise("a task that fails is tried again, and may succeed then");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let working = depot.work(floor.handlers());
    let id = submitter
        .submit(NewTask::new("flaky", json!({"in": 3})))
        .await?
        .id;
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        floor.attempts(&id) == [1, 2, 3],
        "it was to be attempted three times; the handler was called for the attempts {:?}",
        floor.attempts(&id)
    );
    ensure!(
        status.attempts == 3
            && status.error.is_none()
            && status.result == Some(json!({"attempt": 3})),
        "it succeeded in its third attempt, so it has that attempt's result and no error any more; but {}, result {:?}",
        describe(&status),
        status.result
    );
    depot.ended_once(&[id], State::Succeeded).await?;
    let worked = working.stop().await?;
    ensure!(
        (worked.succeeded, worked.retried, worked.failed) == (1, 2, 0),
        "one task succeeded after two failures, and `work` tells of {worked:?}"
    );
    depot.until_ready(&depot.names.queue(), 0).await
}

async fn after_exactly_so_many_attempts_it_is_dead_lettered(lab: Lab) -> Outcome {
    lab.promise("a task that fails every time is attempted exactly N times; then it is failed, with its reason, and there is one dead letter");
    for attempts in [1, 4] {
        let depot = Depot::new(&lab).await?;
        let floor = Floor::new();
        let submitter = depot.submitter().await?;
        let working = depot.work_with(patient(&depot, attempts), floor.handlers());
        let id = submitter.submit(task("fail")).await?.id;
        let ended = depot.until(&id, State::Failed).await;
        let calls = floor.attempts(&id);
        let redelivered = depot.rabbit.proxy().count(|frame| {
            frame
                .deliver()
                .is_some_and(|(deliver, _)| deliver.redelivered)
        });
        let code = (redelivered > 2).then_some("TQ02");
        let status = ended.map_err(|failure| {
            failure.code_if(code).also(format!(
                "its handler was called {} times, {redelivered} deliveries were redeliveries",
                calls.len()
            ))
        })?;
        let expected: Vec<u32> = (1..=attempts).collect();
        ensure!(
            calls == expected && status.attempts == attempts,
            code,
            "with {attempts} attempts allowed the handler was called for the attempts {calls:?}; {}",
            describe(&status)
        );
        ensure!(
            status.error.as_deref() == Some("no luck today"),
            "the reason was \"no luck today\": {}",
            describe(&status)
        );
        depot
            .until_ready(&depot.names.dead_queue(), 1)
            .await
            .map_err(|failure| failure.code("TQ17"))?;
        lab.within(Duration::from_millis(300)).await;
        depot.until_ready(&depot.names.dead_queue(), 1).await?;
        ensure!(
            floor.attempts(&id).len() == expected.len(),
            "after it was given up its handler was called again: {:?}",
            floor.attempts(&id)
        );
        depot.ended_once(&[id], State::Failed).await?;
        working.stop().await?;
        depot.until_ready(&depot.names.queue(), 0).await?;
    }
    Ok(())
}

async fn a_dead_letter_is_the_message_that_was_sent(lab: Lab) -> Outcome {
    lab.promise("a dead letter has the body of the message, byte by byte, its id as message id, and the headers `x-reason` and `x-attempts`");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let _working = depot.work_with(patient(&depot, 2), floor.handlers());
    let queue = depot.names.queue();
    lab.eventually("a consumer", || async {
        let queue = depot.rabbit.queue(&queue).await?;
        Ok(queue.filter(|queue| queue.consumers > 0))
    })
    .await?;
    // As somebody else writes JSON, and with a member that nobody here knows.
    let body = "{ \"kind\":\"fail\",\n  \"id\" : \"by-hand-1\", \"tenant\": \"\\u00fc\", \"payload\": {\"b\":1,\"a\":2.50} }";
    depot.publish_bytes(body.as_bytes()).await?;
    depot.until("by-hand-1", State::Failed).await?;
    let letter = depot
        .dead_letter()
        .await
        .map_err(|failure| failure.code("TQ17"))?;
    let message = &letter.message;
    ensure!(
        message.body == body.as_bytes(),
        "the message was\n{body}\nand the dead letter is\n{}",
        String::from_utf8_lossy(&message.body)
    );
    let reason = text(message.header("x-reason"));
    ensure!(
        reason
            .as_deref()
            .is_some_and(|reason| reason.contains("no luck today")),
        "TQ17",
        "the dead letter has the header `x-reason` {reason:?}; the last attempt failed with \"no luck today\""
    );
    let attempts = number(message.header("x-attempts"));
    ensure!(
        attempts == Some(2),
        "the dead letter has the header `x-attempts` {attempts:?}, after two attempts"
    );
    ensure!(
        message.id() == "by-hand-1",
        "the message id of the dead letter is `{}`",
        message.id()
    );
    ensure!(
        message.is_persistent(),
        "TQ08",
        "the dead letter is not persistent"
    );
    Ok(())
}

async fn delays_grow_with_a_queue_for_each(lab: Lab) -> Outcome {
    lab.promise("after attempt n a task waits in the queue of one of the delays of `Retry::choices(n)`, which double; the copy's header `x-attempts` is n");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let options = patient(&depot, 5);
    let retry = options.retry;
    let _working = depot.work_with(options, floor.handlers());
    let id = submitter.submit(task("fail")).await?.id;
    depot.until(&id, State::Failed).await?;
    let log = depot.rabbit.proxy().log();
    let with_ttl = log.iter().filter(|frame| is_retry(&depot)(frame));
    let with_ttl = with_ttl
        .filter_map(Frame::publish)
        .find(|(_, message)| message.properties.expiration().is_some());
    ensure!(
        with_ttl.is_none(),
        "TQ03",
        "a copy has a time to live of its own (`expiration`): behind one that lives longer it waits for that one"
    );
    let seen = retries(&log, &depot);
    let hot = log
        .iter()
        .any(|frame| frame.settles().is_some_and(|(_, _, requeue)| requeue));
    ensure!(
        seen.len() == 4,
        hot.then_some("TQ02"),
        "five attempts need four waits; there were {seen:?}"
    );
    for (n, (millis, attempts)) in (1..).zip(&seen) {
        let choices = retry.choices(n).map(|delay| delay.as_millis().to_string());
        ensure!(
            choices.contains(millis),
            "TQ19",
            "after attempt {n} it waited for {millis} ms, and was to wait for one of {choices:?}"
        );
        ensure!(
            *attempts == Some(i64::from(n)),
            "the copy that was published after attempt {n} has the header `x-attempts` {attempts:?}"
        );
    }
    Ok(())
}

async fn tasks_that_failed_together_do_not_come_back_together(lab: Lab) -> Outcome {
    lab.promise("the delay is drawn at random from the choices, so that tasks that failed together do not come back together");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    for _ in 0..40 {
        submitter.submit(task("flaky")).await?;
    }
    let options = Work {
        concurrency: 20,
        ..patient(&depot, 3)
    };
    let _working = depot.work_with(options, floor.handlers());
    depot.until_done(40).await?;
    let mut delays: Vec<_> = retries(&depot.rabbit.proxy().log(), &depot)
        .into_iter()
        .map(|(millis, _)| millis)
        .collect();
    let all = delays.len();
    delays.sort();
    delays.dedup();
    // Of 40 draws from five, three different ones are missing once in ten million times.
    ensure!(
        delays.len() >= 3,
        "TQ19",
        "{all} tasks failed and waited for {delays:?} ms: what made them fail together meets all of them together again"
    );
    Ok(())
}

async fn a_short_delay_does_not_wait_behind_a_long_one(lab: Lab) -> Outcome {
    lab.promise("a task with a short delay comes back before one with a long delay that began to wait earlier");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let options = Work {
        retry: Retry {
            attempts: 20,
            first: Duration::from_millis(20),
            longest: Duration::from_secs(600),
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let submitter = depot.submitter().await?;
    // A task with ten attempts behind it: it waits for some twenty seconds.
    let old = "an-old-one";
    let _: () = redis::cmd("HSET")
        .arg(depot.names.task_key(old))
        .arg(&["kind", "fail", "state", "queued", "attempts", "10"])
        .arg(&["progress", "0", "error", "no luck so far"])
        .query_async(&mut depot.redis.direct().await?)
        .await?;
    let headers = table([("x-attempts", AMQPValue::LongLongInt(10))]);
    let properties = lapin::BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    let body = json!({"id": old, "kind": "fail", "payload": {}}).to_string();
    depot
        .rabbit
        .publish(&depot.names.exchange(), "fail", properties, body.as_bytes())
        .await?;
    lab.eventually("the old task to wait for its twelfth attempt", || async {
        let waits = depot.rabbit.proxy().count(is_retry(&depot));
        Ok((waits > 0).then_some(()))
    })
    .await?;
    let id = submitter
        .submit(NewTask::new("flaky", json!({"in": 3})))
        .await?
        .id;
    let seen = depot.until(&id, State::Succeeded).await;
    ensure!(
        floor.attempts(old) == [11],
        "the task with the long delay was attempted {:?} meanwhile; it waits for some 20 s",
        floor.attempts(old)
    );
    seen.map(drop).map_err(|failure| {
        failure
            .code("TQ03")
            .also("another task waits for 20 s, and began earlier")
    })
}

async fn a_task_that_waits_takes_no_place(lab: Lab) -> Outcome {
    lab.promise("a task that waits for its next attempt takes no place in a worker: others are done meanwhile");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let options = Work {
        concurrency: 1,
        retry: Retry {
            attempts: 3,
            first: Duration::from_secs(120),
            longest: Duration::from_secs(120),
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    for _ in 0..3 {
        submitter.submit(task("fail")).await?;
    }
    let id = submitter.submit(task("quick")).await?.id;
    depot.until(&id, State::Succeeded).await?;
    ensure!(
        floor.began().len() == 4,
        "the handler was called for {:?}",
        floor.began()
    );
    // And the worker holds nothing any more.
    lab.eventually("all deliveries to be acknowledged", || async {
        let log = depot.rabbit.proxy().log();
        let delivered = log.iter().filter(|frame| frame.is_deliver()).count();
        let settled = log.iter().filter(|frame| frame.settles().is_some()).count();
        Ok((delivered == 4 && settled == 4).then_some(()))
    })
    .await
}

async fn between_attempts_it_is_queued_with_the_last_error(lab: Lab) -> Outcome {
    lab.promise("a task that waits for its next attempt is queued, with the error of the last one and the number of attempts");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let options = Work {
        retry: Retry {
            attempts: 3,
            first: Duration::from_secs(120),
            longest: Duration::from_secs(120),
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let id = submitter.submit(task("fail")).await?.id;
    let what = "the task to be queued for its second attempt";
    let status = lab
        .eventually(what, || async {
            let status = depot.status(&id).await?;
            Ok(status.filter(|it| it.state == State::Queued && it.attempts == 1))
        })
        .await?;
    ensure!(
        status.error.as_deref() == Some("no luck today") && status.progress == 0,
        "{}",
        describe(&status)
    );
    ensure!(
        depot.done().await?.is_empty(),
        "it is among those that have ended"
    );
    Ok(())
}

/// Nothing is settled as long as the confirm of such a message is held.
async fn confirmed_first(
    depot: &Depot,
    kind: &str,
    published: impl Fn(&Frame) -> bool + Send + Clone + 'static,
    code: &'static str,
    what: &str,
) -> Outcome {
    let lab = &depot.lab;
    let submitter = depot.submitter().await?;
    let theirs = depot.elsewhere().await?;
    let proxy = theirs.rabbit.proxy().clone();
    // The confirm that comes after it on its channel.
    let place = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (seen, wanted) = (place.clone(), published);
    let watch = proxy.arm(
        Trigger::request(move |frame: &Frame| {
            if wanted(frame) {
                *seen.lock().expect("a place") = Some((frame.connection, frame.channel));
            }
            false
        }),
        Action::Hold,
    );
    let held = proxy.arm(
        Trigger::reply(move |frame: &Frame| {
            let here = (frame.connection, frame.channel);
            frame.confirms().is_some() && *place.lock().expect("a place") == Some(here)
        }),
        Action::Hold,
    );
    let floor = Floor::new();
    let _working = theirs.work_with(patient(&theirs, 2), floor.handlers());
    let id = submitter.submit(task(kind)).await?.id;
    let delivered = || proxy.count(Frame::is_deliver);
    let settled = || proxy.count(|frame| frame.settles().is_some());
    lab.eventually("a confirm, or an acknowledgement without one", || async {
        let over = held.has_fired() || (delivered() > 0 && settled() == delivered());
        Ok(over.then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    let (delivered, settled, held_one) = (delivered(), settled(), held.has_fired());
    held.release();
    watch.disarm();
    ensure!(
        settled < delivered,
        code,
        "the message of the task {id} was settled {} {what}: if that never arrives the task is lost",
        match held_one {
            true => "while RabbitMQ had not confirmed",
            false => "and nobody waited for RabbitMQ to confirm",
        }
    );
    Ok(())
}

async fn the_copy_is_confirmed_before_the_message_is_acknowledged(lab: Lab) -> Outcome {
    lab.promise("the copy for the next attempt is confirmed before the message is acknowledged");
    let depot = Depot::new(&lab).await?;
    let retry = is_retry(&depot);
    confirmed_first(
        &depot,
        "flaky",
        retry,
        "TQ15",
        "the copy for its next attempt",
    )
    .await
}

/// Tells a message by its frame.
type Matches = Box<dyn Fn(&Frame) -> bool + Send>;

/// Ends well although the connection is lost at such a message.
async fn survives(
    lab: &Lab,
    kind: &str,
    published: fn(&Depot) -> Matches,
    ended: State,
    code: &'static str,
) -> Outcome {
    for action in [Action::CutBefore, Action::CutAfter] {
        let depot = Depot::new(lab).await?;
        let submitter = depot.submitter().await?;
        let theirs = depot.elsewhere().await?;
        let fault = theirs
            .rabbit
            .proxy()
            .arm(Trigger::request(published(&depot)), action);
        let floor = Floor::new();
        let mut working = theirs.work_with(patient(&theirs, 4), floor.handlers());
        let id = submitter.submit(task(kind)).await?.id;
        lab.eventually("the message to be published", || async {
            Ok(fault.has_fired().then_some(()))
        })
        .await?;
        depot.until(&id, ended).await.map_err(|failure| {
            failure.code(code).also(format!(
                "the connection was lost when it was published ({action:?})"
            ))
        })?;
        if ended == State::Failed {
            let letter = depot.dead_letter().await;
            letter.map_err(|failure| {
                failure.code("TQ17").also(format!(
                    "the task {id} is failed, and the connection was lost when its dead letter was published ({action:?})"
                ))
            })?;
        }
        depot.ended_once(&[id], ended).await?;
        working.expect_running().await?;
    }
    Ok(())
}

async fn a_copy_that_is_lost_loses_no_task(lab: Lab) -> Outcome {
    lab.promise("when the connection is lost while the copy for the next attempt is published, the task is tried again all the same");
    survives(
        &lab,
        "flaky",
        |depot| Box::new(is_retry(depot)),
        State::Succeeded,
        "TQ15",
    )
    .await
}

async fn a_dead_letter_is_confirmed_before_the_message_is_acknowledged(lab: Lab) -> Outcome {
    lab.promise("a dead letter is confirmed before the message is acknowledged");
    let depot = Depot::new(&lab).await?;
    let dead = is_dead_letter(&depot);
    confirmed_first(&depot, "wrong", dead, "TQ17", "its dead letter").await
}

async fn a_dead_letter_that_is_lost_is_sent_again(lab: Lab) -> Outcome {
    lab.promise(
        "when the connection is lost while a dead letter is published, it is published again",
    );
    survives(
        &lab,
        "wrong",
        |depot| Box::new(is_dead_letter(depot)),
        State::Failed,
        "TQ17",
    )
    .await
}

async fn a_copy_that_is_back_at_once_is_worked(lab: Lab) -> Outcome {
    lab.promise("a copy that comes back while the worker that published it has not written `queued` yet is worked, not dropped");
    let depot = Depot::new(&lab).await?;
    let (slow, quick) = (depot.elsewhere().await?, depot.elsewhere().await?);
    let submitter = depot.submitter().await?;
    // The first worker's confirm is held, then its way to Redis is blocked, then the confirm comes.
    let wanted = is_retry(&depot);
    let place = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = place.clone();
    let watch = slow.rabbit.proxy().arm(
        Trigger::request(move |frame: &Frame| {
            if wanted(frame) {
                *seen.lock().expect("a place") = Some((frame.connection, frame.channel));
            }
            false
        }),
        Action::Hold,
    );
    let held = slow.rabbit.proxy().arm(
        Trigger::reply(move |frame: &Frame| {
            let here = (frame.connection, frame.channel);
            frame.confirms().is_some() && *place.lock().expect("a place") == Some(here)
        }),
        Action::Hold,
    );
    let (first, second) = (Floor::new(), Floor::new());
    // One place, which the task holds: the copy goes to the other worker.
    let options = Work {
        concurrency: 1,
        ..patient(&slow, 3)
    };
    let slow_worker = slow.work_with(options, first.handlers());
    let id = submitter.submit(task("flaky")).await?.id;
    lab.eventually("the copy to be published", || async {
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    slow.redis.proxy().stall(true);
    held.release();
    let _quick_worker = quick.work_with(patient(&quick, 3), second.handlers());
    let ended = depot.until(&id, State::Succeeded).await;
    slow.redis.proxy().stall(false);
    ended.map_err(|failure| {
        failure.also(
            "the copy was published, and its publisher cut off from Redis: whoever gets the copy has to work it, whether or not the status says `queued` yet; a copy that is published after `queued` is written is missing here, and so is one that was dropped",
        )
    })?;
    slow_worker.stop().await?;
    watch.disarm();
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(status.attempts == 2, "{}", describe(&status));
    depot.ended_once(&[id], State::Succeeded).await
}

async fn what_is_permanent_is_not_tried_again(lab: Lab) -> Outcome {
    lab.promise(
        "a permanent failure is not tried again: its dead letter is there after one attempt",
    );
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let _working = depot.work_with(patient(&depot, 5), floor.handlers());
    let id = submitter.submit(task("wrong")).await?.id;
    let letter = depot
        .dead_letter()
        .await
        .map_err(|failure| failure.code("TQ17"))?;
    let attempts = number(letter.message.header("x-attempts"));
    ensure!(
        attempts == Some(1) && floor.attempts(&id) == [1],
        "it failed for good in its first attempt; the dead letter tells of {attempts:?}, and the handler was called for {:?}",
        floor.attempts(&id)
    );
    let waits = depot.rabbit.proxy().count(is_retry(&depot));
    ensure!(waits == 0, "it was published for another attempt");
    Ok(())
}

async fn a_failed_task_of_high_priority_is_tried_again(lab: Lab) -> Outcome {
    lab.promise("a task of high priority that fails is tried again, and given up, as any other");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let _working = depot.work(floor.handlers());
    let high = |kind: &str| NewTask {
        priority: Priority::High,
        ..task(kind)
    };
    let id = submitter.submit(high("flaky")).await?.id;
    depot.until(&id, State::Succeeded).await?;
    let id = submitter.submit(high("fail")).await?.id;
    depot.until(&id, State::Failed).await?;
    depot.dead_letter().await.map(drop)
}
