//! Promises that are easily kept on most days: what is forgotten and when, what happens in the middle of a stop,
//! what somebody else deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use lab::crash::{Crash, Point, walk};
use lab::faults::amqp::{Frame, Trigger};
use lab::faults::{Action, Trigger as RedisTrigger};
use lab::{Check, Failure, FairClock, Lab, Outcome, ensure, fail};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use task_queue::{
    Context, Failure as Failed, NewTask, Priority, Retry, State, Submit, Submitter, Work,
};

use crate::depot::{Depot, Floor, describe, task};

pub fn of_stage_2() -> Vec<Check> {
    lab::checks![
        of_many_submits_at_once_none_is_accepted_that_no_queue_took,
        a_submit_ends_in_time_also_when_redis_is_silent,
        what_has_not_ended_is_not_forgotten_and_what_has_is,
        a_deadline_can_be_read_in_the_status,
        the_stream_of_what_is_done_is_cut,
        a_status_that_is_none_is_an_error,
    ]
}

pub fn of_stage_3() -> Vec<Check> {
    lab::checks![
        a_new_attempt_begins_anew,
        at_least_one_attempt_is_made_and_one_runs_at_a_time,
        a_redis_that_has_forgotten_its_scripts_is_told_them_again,
        an_acknowledgement_is_that_of_one_task,
    ]
}

pub fn of_stage_4() -> Vec<Check> {
    lab::checks![
        a_wait_queue_that_was_deleted_is_declared_again,
        a_delay_of_a_month_has_its_queue,
        a_pause_is_kept_although_its_copy_was_lost_once,
        attempts_that_others_have_counted_are_understood,
        a_task_is_failed_before_its_dead_letter_is_out,
    ]
}

pub fn of_stage_5() -> Vec<Check> {
    lab::checks![an_attempt_whose_task_was_given_to_another_is_dropped.limit_secs(120)]
}

pub fn of_stage_6() -> Vec<Check> {
    lab::checks![
        a_key_whose_task_was_not_accepted_is_forgotten_in_the_end,
        a_key_that_is_accepted_has_a_task_that_is_known,
    ]
}

pub fn of_stage_7() -> Vec<Check> {
    lab::checks![code_that_cannot_be_dropped_is_told_of_every_end]
}

pub fn of_stage_8() -> Vec<Check> {
    lab::checks![
        one_queue_of_two_that_was_deleted_is_declared_again,
        no_more_run_side_by_side_after_a_lost_connection,
        a_worker_outlasts_a_queue_that_differs,
        an_outcome_outlasts_a_long_outage_of_redis.limit_secs(120),
    ]
}

pub fn of_stage_9() -> Vec<Check> {
    lab::checks![
        a_delivery_that_could_not_begin_goes_back_at_the_stop,
        what_was_prefetched_is_counted_as_returned,
        an_outcome_that_cannot_be_stored_goes_back_after_the_grace,
        a_stop_waits_for_what_is_confirmed_and_not_yet_known,
        after_its_stop_a_submitter_is_not_ready,
    ]
}

/// How long Redis keeps a key, in ms: -1 for ever, -2 if there is none.
async fn ttl(depot: &Depot, key: &str) -> Result<i64, Failure> {
    Ok(redis::cmd("PTTL")
        .arg(key)
        .query_async(&mut depot.redis.direct().await?)
        .await?)
}

async fn until_began(lab: &Lab, floor: &Floor, id: &str, attempt: u32) -> Outcome {
    lab.eventually(&format!("attempt {attempt} at {id} to begin"), || async {
        Ok(floor.attempts(id).contains(&attempt).then_some(()))
    })
    .await
}

// Stage 2

async fn of_many_submits_at_once_none_is_accepted_that_no_queue_took(lab: Lab) -> Outcome {
    lab.promise("of many tasks that are submitted at the same moment none is accepted that no queue has taken, although the client library may hand out a message that came back with another one's confirm");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let names = &depot.names;
    let mut accepted = Vec::new();
    let mut refused = 0;
    for _ in 0..3 {
        depot
            .rabbit
            .unbind(&names.high_queue(), &names.high_exchange(), "#")
            .await?;
        let submits = (0..300).map(|n| {
            let new = match n % 2 {
                0 => high("quick"),
                _ => task("quick"),
            };
            submitter.submit(new)
        });
        for said in futures::future::join_all(submits).await {
            match said {
                Ok(status) => accepted.push(status.id),
                Err(_) => refused += 1,
            }
        }
    }
    let mut stored = std::collections::HashSet::new();
    for queue in [names.queue(), names.high_queue()] {
        for taken in depot.rabbit.drain(&queue).await? {
            let body: serde_json::Value = serde_json::from_slice(&taken.message.body)?;
            stored.extend(body["id"].as_str().map(str::to_owned));
        }
    }
    let lost: Vec<_> = accepted
        .iter()
        .filter(|id| !stored.contains(*id))
        .take(3)
        .collect();
    ensure!(
        lost.is_empty(),
        "900 tasks were submitted, half of them to an exchange without a queue; {} were accepted and {refused} were not, and some that were accepted are in no queue, such as {lost:?}: a returned message was taken for another's",
        accepted.len()
    );
    Ok(())
}

async fn a_submit_ends_in_time_also_when_redis_is_silent(lab: Lab) -> Outcome {
    lab.promise(
        "a submit takes no longer than its `confirm_timeout`, whichever of the brokers is silent",
    );
    let check = async |time: Duration| {
        let depot = Depot::new(&lab).await?;
        let submitter = Submitter::start(Submit {
            confirm_timeout: time,
            ..depot.submit_options()
        })
        .await?;
        submitter.submit(task("quick")).await?;
        depot.redis.proxy().stall(true);
        for key in [None, Some("a-key")] {
            let new = match key {
                Some(key) => task("quick").with_key(key),
                None => task("quick"),
            };
            let began = Instant::now();
            let said = submitter.submit(new).await;
            let took = began.elapsed();
            ensure!(
                said.is_err(),
                "Redis says nothing, and the task was accepted: {said:?}"
            );
            ensure!(
                took <= time * 2,
                "a submit may take {time:?}; Redis said nothing, and it took {took:.0?}"
            );
        }
        Ok(())
    };
    FairClock::stalls_beyond(4)
        .run(&lab, [500, 1_000, 2_000], check)
        .await
}

async fn what_has_not_ended_is_not_forgotten_and_what_has_is(lab: Lab) -> Outcome {
    lab.promise("a status is kept for as long as its task has not ended, and for `keep` after that, however it ended");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let key = |id: &str| depot.names.task_key(id);
    let waits = submitter.submit(task("gated")).await?.id;
    let left = ttl(&depot, &key(&waits)).await?;
    ensure!(left == -1, "a task that waits is forgotten in {left} ms");
    let cancelled = submitter.submit(task("quick")).await?.id;
    store.cancel(&cancelled).await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    until_began(&lab, &floor, &waits, 1).await?;
    let left = ttl(&depot, &key(&waits)).await?;
    ensure!(left == -1, "a task that runs is forgotten in {left} ms");
    floor.open(1);
    let failed = submitter.submit(task("wrong")).await?.id;
    depot.until(&waits, State::Succeeded).await?;
    depot.until(&failed, State::Failed).await?;
    for (what, id) in [
        ("succeeded", &waits),
        ("failed", &failed),
        ("was cancelled", &cancelled),
    ] {
        let left = ttl(&depot, &key(id)).await?;
        ensure!(
            left > 0 && left <= 600_000,
            "a task that {what} is to be kept for 600 s; Redis keeps it for {left} ms (-1 is for ever)"
        );
    }
    Ok(())
}

async fn a_deadline_can_be_read_in_the_status(lab: Lab) -> Outcome {
    lab.promise("the hash of a task with a deadline has the field `deadline`, in RFC 3339");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_250);
    let new = NewTask {
        deadline: Some(deadline),
        ..task("quick")
    };
    for new in [new.clone(), new.with_key("a-key")] {
        let id = submitter.submit(new).await?.id;
        let field: Option<String> = redis::cmd("HGET")
            .arg(depot.names.task_key(&id))
            .arg("deadline")
            .query_async(&mut depot.redis.direct().await?)
            .await?;
        ensure!(
            field
                .as_deref()
                .is_some_and(|text| text.starts_with("2096-10-02T07:06:40.25")),
            "the deadline is 2096-10-02T07:06:40.250Z, and the hash has {field:?}"
        );
    }
    Ok(())
}

async fn the_stream_of_what_is_done_is_cut(lab: Lab) -> Outcome {
    lab.promise(
        "the stream `NAME:done` keeps about the last 100,000 entries, and not more and more",
    );
    let depot = Depot::new(&lab).await?;
    let connection = &mut depot.redis.direct().await?;
    let done = depot.names.done_key();
    for part in 0..12 {
        let mut pipe = redis::pipe();
        for n in 0..10_000 {
            pipe.cmd("XADD")
                .arg(&done)
                .arg(&["*", "id"])
                .arg(format!("{part}-{n}"))
                .arg(&["state", "succeeded"])
                .ignore();
        }
        pipe.query_async::<()>(connection).await?;
    }
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for kind in ["quick", "wrong"] {
        submitter.submit(task(kind)).await?;
    }
    lab.eventually("both tasks to end", || async {
        Ok((floor.began().len() == 2).then_some(()))
    })
    .await?;
    let cancelled = submitter.submit(task("gated")).await?.id;
    store.cancel(&cancelled).await?;
    lab.eventually("the stream to be cut", || async {
        let length: usize = redis::cmd("XLEN")
            .arg(&done)
            .query_async(&mut depot.redis.direct().await?)
            .await?;
        Ok((length <= 101_000).then_some(()))
    })
    .await
    .map_err(|failure| failure.also("there were 120,000 entries before"))
}

async fn a_status_that_is_none_is_an_error(lab: Lab) -> Outcome {
    lab.promise("what stands under a task's key and is no status is `Error::BadStatus`, and not a task that is unknown");
    let depot = Depot::new(&lab).await?;
    let store = depot.store().await?;
    for (n, fields) in [
        vec!["kind", "quick", "attempts", "0", "progress", "0"],
        vec![
            "kind", "quick", "state", "asleep", "attempts", "0", "progress", "0",
        ],
        vec![
            "kind", "quick", "state", "queued", "attempts", "many", "progress", "0",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{n:032x}");
        let _: u32 = redis::cmd("HSET")
            .arg(depot.names.task_key(&id))
            .arg(&fields)
            .query_async(&mut depot.redis.direct().await?)
            .await?;
        match store.get(&id).await {
            Err(task_queue::Error::BadStatus { .. }) => {}
            other => fail!("the hash has the fields {fields:?}, and `get` returned {other:?}"),
        }
    }
    Ok(())
}

// Stage 3

async fn a_new_attempt_begins_anew(lab: Lab) -> Outcome {
    lab.promise("`progress` is how far the running attempt is: the next one begins at 0; and what has succeeded has no error");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let twice = floor.handler(move |context: Context| {
        let gate = Arc::clone(&waits);
        async move {
            if context.attempt() == 1 {
                context.progress(60);
            }
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
            match context.attempt() {
                1 => Err(Failed::Retry("not yet".to_owned())),
                _ => Ok(json!(1)),
            }
        }
    });
    let _working = depot.work(floor.handlers().on("twice", twice));
    let id = submitter.submit(task("twice")).await?.id;
    lab.eventually("the progress of the first attempt to be seen", || async {
        let status = depot.status(&id).await?;
        Ok(status.filter(|status| status.progress == 60))
    })
    .await?;
    gate.add_permits(1);
    until_began(&lab, &floor, &id, 2).await?;
    let status = depot.until(&id, State::Running).await?;
    ensure!(
        status.attempts == 2 && status.progress == 0,
        "the first attempt was at 60 and failed; the second has said nothing yet: {}",
        describe(&status)
    );
    gate.add_permits(1);
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status.error.is_none() && status.progress == 100,
        "the second attempt succeeded: {}",
        describe(&status)
    );
    Ok(())
}

async fn at_least_one_attempt_is_made_and_one_runs_at_a_time(lab: Lab) -> Outcome {
    lab.promise("there is at least one attempt, and at least one task at a time, also when the options say 0");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 0,
        retry: Retry {
            attempts: 0,
            ..depot.work_options().retry
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let good = submitter.submit(task("quick")).await?.id;
    depot.until(&good, State::Succeeded).await?;
    let bad = submitter.submit(task("fail")).await?.id;
    let status = depot.until(&bad, State::Failed).await?;
    ensure!(
        status.attempts == 1,
        "the options allow 0 attempts, which is one: {}",
        describe(&status)
    );
    Ok(())
}

async fn a_redis_that_has_forgotten_its_scripts_is_told_them_again(lab: Lab) -> Outcome {
    lab.promise("submitting and working go on after Redis has forgotten all scripts, as it does at a restart");
    let own = lab.own_redis().await?;
    let depot = Depot {
        redis: (*own).clone(),
        ..Depot::new(&lab).await?
    };
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for round in 0..3 {
        for kind in ["quick", "flaky", "wrong"] {
            let said = submitter.submit(task(kind)).await;
            ensure!(said.is_ok(), "in round {round} a submit failed: {said:?}");
        }
        depot.until_done(3 * (round + 1)).await?;
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query_async(&mut depot.redis.direct().await?)
            .await?;
    }
    Ok(())
}

async fn an_acknowledgement_is_that_of_one_task(lab: Lab) -> Outcome {
    lab.promise("acknowledging a task acknowledges no other: one that was delivered before it, and still runs, comes again when its worker is lost");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let options = Work {
        grace: Duration::from_millis(50),
        ..place.work_options()
    };
    let working = place.work_with(options, floor.handlers());
    let slow = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    let quick = submitter.submit(task("quick")).await?.id;
    depot.until(&quick, State::Succeeded).await?;
    lab.eventually("the quick task to be acknowledged", || async {
        Ok((place.rabbit.proxy().count(Frame::is_ack) > 0).then_some(()))
    })
    .await?;
    working.stop().await?;
    let back = depot.until_ready(&depot.names.queue(), 1).await;
    back.map_err(|failure| {
        failure.also(format!(
            "the task {slow} was delivered first and still ran when {quick} was acknowledged: were both, by `multiple`?"
        ))
    })
}

// Stage 4

async fn a_wait_queue_that_was_deleted_is_declared_again(lab: Lab) -> Outcome {
    lab.promise("a wait queue that somebody has deleted, or that RabbitMQ has lost, is declared again: no task that fails is lost with it");
    for is_cut in [false, true] {
        let depot = Depot::new(&lab).await?;
        let submitter = depot.submitter().await?;
        let floor = Floor::new();
        let options = depot.work_options();
        let retry = options.retry;
        let _working = depot.work_with(options, floor.handlers());
        for round in 1..=2 {
            for _ in 0..15 {
                submitter.submit(task("flaky")).await?;
            }
            let done = depot.until_done(15 * round).await;
            done.map_err(|failure| {
                failure.also(match (round, is_cut) {
                    (1, _) => "the wait queues were declared for the first time",
                    (_, true) => "the wait queues were deleted, and the connections cut",
                    (_, false) => "the wait queues were deleted",
                })
            })?;
            for delay in retry.choices(1) {
                depot
                    .rabbit
                    .delete_queue(&depot.names.wait_queue(delay))
                    .await?;
            }
            if is_cut {
                depot.rabbit.proxy().cut_all();
                lab.eventually("the submitter to be ready again", || async {
                    Ok(submitter.ready().await.ok())
                })
                .await?;
            }
        }
    }
    Ok(())
}

async fn a_delay_of_a_month_has_its_queue(lab: Lab) -> Outcome {
    lab.promise("a wait queue holds back for exactly its delay, however long: a month is more milliseconds than 31 bits can say");
    let depot = Depot::new(&lab).await?;
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    let channel = depot.rabbit.direct().await?;
    task_queue::declare(&channel, &depot.names).await?;
    let name = task_queue::declare_wait(&channel, &depot.names, month).await?;
    let high = depot.names.high_queue();
    depot.rabbit.owns(
        &[
            &name,
            &depot.names.queue(),
            &high,
            &depot.names.dead_queue(),
        ],
        &[
            &depot.names.exchange(),
            &depot.names.high_exchange(),
            &depot.names.dead_exchange(),
        ],
    );
    let arguments = crate::depot::table([
        ("x-queue-type", crate::depot::long("quorum")),
        ("x-message-ttl", AMQPValue::LongLongInt(2_592_000_000)),
        ("x-dead-letter-exchange", crate::depot::long("")),
        (
            "x-dead-letter-routing-key",
            crate::depot::long(&depot.names.queue()),
        ),
        (
            "x-dead-letter-strategy",
            crate::depot::long("at-least-once"),
        ),
        ("x-overflow", crate::depot::long("reject-publish")),
    ]);
    if let Some(why) = depot.rabbit.differs(&name, arguments).await? {
        fail!("the queue `{name}` for a delay of 30 days: {why}");
    }
    Ok(())
}

async fn a_pause_is_kept_although_its_copy_was_lost_once(lab: Lab) -> Outcome {
    lab.promise("a failed task waits for its pause also when the copy for the next attempt could not be published at first");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let floor = Floor::new();
    let twice = floor.handler(move |context: Context| {
        seen.lock().expect("the times").push(Instant::now());
        async move {
            match context.attempt() {
                1 => Err(Failed::Retry("not yet".to_owned())),
                attempt => Ok(json!(attempt)),
            }
        }
    });
    let place = depot.elsewhere().await?;
    let delay = Duration::from_millis(1_500);
    let options = Work {
        retry: Retry {
            attempts: 3,
            first: delay,
            longest: delay,
        },
        ..place.work_options()
    };
    let fault = place
        .rabbit
        .proxy()
        .arm(Trigger::request(Frame::is_publish), Action::CutBefore);
    let _working = place.work_with(options, floor.handlers().on("twice", twice));
    let id = submitter.submit(task("twice")).await?.id;
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        fault.has_fired(),
        "no copy was published for the next attempt"
    );
    let times = times.lock().expect("the times").clone();
    let gap = times[times.len() - 1] - times[0];
    ensure!(
        gap >= delay.mul_f64(0.8) && status.attempts == 2,
        "the pause is {delay:?}, give or take a fifth; the copy was lost once, and the next attempt began {gap:.0?} after the first: {}",
        describe(&status)
    );
    Ok(())
}

async fn attempts_that_others_have_counted_are_understood(lab: Lab) -> Outcome {
    lab.promise("the header `x-attempts` is understood as any integer that AMQP has: other clients write what their language has");
    let values = [
        AMQPValue::LongLongInt(1),
        AMQPValue::LongInt(1),
        AMQPValue::LongUInt(1),
        AMQPValue::ShortInt(1),
        AMQPValue::ShortUInt(1),
        AMQPValue::ShortShortInt(1),
        AMQPValue::ShortShortUInt(1),
    ];
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let long = Duration::from_secs(600);
    let options = Work {
        retry: Retry {
            attempts: 3,
            first: long,
            longest: long,
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    for value in values {
        let id = submitter.submit(task("flaky")).await?.id;
        // It waits for ten minutes now. Somebody hands in its next attempt by hand.
        depot
            .lab
            .eventually("the first attempt to have failed", || async {
                let status = depot.status(&id).await?;
                Ok(status.filter(|status| status.state == State::Queued && status.attempts == 1))
            })
            .await?;
        let mut headers = FieldTable::default();
        headers.insert("x-attempts".into(), value.clone());
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers);
        let body = json!({"id": id, "kind": "flaky", "payload": {}}).to_string();
        depot
            .rabbit
            .publish(
                &depot.names.exchange(),
                "flaky",
                properties,
                body.as_bytes(),
            )
            .await?;
        let done = depot.until(&id, State::Succeeded).await;
        done.map_err(|failure| failure.also(format!("its message said `x-attempts`: {value:?}")))?;
    }
    Ok(())
}

async fn a_task_is_failed_before_its_dead_letter_is_out(lab: Lab) -> Outcome {
    lab.promise("a task that is given up is `failed` first, and then its dead letter is published: there is none of a task that was cancelled, or succeeded");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let dead = depot.names.dead_exchange();
    let fault = place.rabbit.proxy().arm(
        Trigger::request(move |frame: &Frame| frame.is_publish_to(&dead)),
        Action::Hold,
    );
    let floor = Floor::new();
    let _working = place.work(floor.handlers());
    let id = submitter.submit(task("wrong")).await?.id;
    lab.eventually("a dead letter to be published", || async {
        Ok(fault.has_fired().then_some(()))
    })
    .await?;
    let status = depot.status(&id).await?;
    ensure!(
        status
            .as_ref()
            .is_some_and(|status| status.state == State::Failed),
        "its dead letter is on the way, and the task is not failed yet: {}; if it is cancelled now, a cancelled task has a dead letter",
        status.map_or("unknown".to_owned(), |status| describe(&status))
    );
    fault.release();
    depot.dead_letter().await?;
    Ok(())
}

// Stage 5

async fn an_attempt_whose_task_was_given_to_another_is_dropped(lab: Lab) -> Outcome {
    lab.promise("an attempt whose task was given to another worker is dropped as soon as its worker can hear of it, and what it says of its progress is not that of the latest attempt");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let (lost, other) = (depot.elsewhere().await?, depot.elsewhere().await?);
    let (first, second) = (Floor::new(), Floor::new());
    let stays = first.handler(|context: Context| async move {
        context.progress(10);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Said whenever its worker is asked.
        context.progress(90);
        std::future::pending().await
    });
    let _first = lost.work(first.handlers().on("gated", stays));
    let id = submitter.submit(task("gated")).await?.id;
    first.until_running(&lab, 1).await?;
    // It lives, and nobody hears of it.
    lost.redis.proxy().stall(true);
    lost.rabbit.proxy().refuse(true);
    lost.rabbit.proxy().cut_all();
    let _second = other.work(second.handlers());
    until_began(&lab, &second, &id, 2).await?;
    lost.redis.proxy().stall(false);
    lab.eventually(
        "the first attempt to be dropped, since another runs",
        || async { Ok((first.running() == 0).then_some(())) },
    )
    .await?;
    let status = depot.until(&id, State::Running).await?;
    ensure!(
        status.attempts == 2 && status.progress == 0,
        "the second attempt has said nothing of its progress; the first, which counts no more, was at 90: {}",
        describe(&status)
    );
    second.open(1);
    depot.until(&id, State::Succeeded).await?;
    depot.ended_once(&[id], State::Succeeded).await
}

// Stage 6

async fn a_key_whose_task_was_not_accepted_is_forgotten_in_the_end(lab: Lab) -> Outcome {
    lab.promise("an idempotency key is kept for `keep`, from the moment it is reserved: one whose task was never accepted does not stay for ever");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let names = &depot.names;
    let accepted = task("quick").with_key("accepted");
    submitter.submit(accepted).await?;
    depot.rabbit.proxy().refuse(true);
    depot.rabbit.proxy().cut_all();
    let refused = task("quick").with_key("refused");
    let said = submitter.submit(refused).await;
    ensure!(said.is_err(), "RabbitMQ is away, and a task was accepted");
    for key in ["accepted", "refused"] {
        let left = ttl(&depot, &names.key_key(key)).await?;
        ensure!(
            left == -2 || (left > 0 && left <= 600_000),
            "the key of a task that was {key} is to be kept for 600 s; Redis keeps it for {left} ms (-1 is for ever)"
        );
    }
    Ok(())
}

async fn accepting_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let depot = Depot::new(&lab).await?;
    let first = depot.submitter().await?;
    first.submit(task("quick").with_key("before")).await?;
    let fault = point.arm(&depot.redis);
    let said = first.submit(task("quick").with_key("key")).await;
    let struck = !fault.disarm();
    let elsewhere = depot.elsewhere().await?;
    let second = elsewhere.submitter().await?;
    let again = second.submit(task("quick").with_key("key")).await;
    let blame = point.blame(&depot.redis);
    let Ok(again) = again else {
        fail!(
            "{blame}: the first submit was answered with {said:?}; the second, with the same key and both brokers there, with {again:?}"
        );
    };
    let known = elsewhere.store().await?.get(&again.id).await?;
    ensure!(
        known.is_some(),
        "{blame}: a submit with the same key was accepted as {}, and the store knows of no such task",
        again.id
    );
    if let Ok(said) = said {
        ensure!(
            said.id == again.id,
            "{blame}: one key has two tasks, {} and {}",
            said.id,
            again.id
        );
    }
    Ok(struck)
}

async fn a_key_that_is_accepted_has_a_task_that_is_known(lab: Lab) -> Outcome {
    lab.promise("wherever the connection to Redis is cut, a later submit with the same key is accepted, and then its task is known");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| accepting_once(walking.clone(), point),
    )
    .await
}

// Stage 7

async fn code_that_cannot_be_dropped_is_told_of_every_end(lab: Lab) -> Outcome {
    lab.promise("code that cannot be dropped hears of the end of its attempt whatever ends it: a deadline that passed, or a grace that is over");
    for by_deadline in [true, false] {
        let depot = Depot::new(&lab).await?;
        let submitter = depot.submitter().await?;
        let told = Arc::new(AtomicBool::new(false));
        let began = Arc::new(AtomicBool::new(false));
        let (hears, begins) = (Arc::clone(&told), Arc::clone(&began));
        let floor = Floor::new();
        let stubborn = floor.handler(move |context: Context| {
            let (told, began) = (Arc::clone(&hears), Arc::clone(&begins));
            let asks = context.clone();
            // On a thread of its own, as code that computes.
            std::thread::spawn(move || {
                began.store(true, Ordering::SeqCst);
                for _ in 0..6_000 {
                    if asks.is_cancelled() {
                        told.store(true, Ordering::SeqCst);
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            std::future::pending()
        });
        let options = Work {
            grace: Duration::from_millis(100),
            ..depot.work_options()
        };
        let working = depot.work_with(options, floor.handlers().on("stubborn", stubborn));
        let deadline = by_deadline.then(|| SystemTime::now() + Duration::from_millis(1_500));
        submitter
            .submit(NewTask {
                deadline,
                ..task("stubborn")
            })
            .await?;
        lab.eventually("the handler to begin", || async {
            Ok(began.load(Ordering::SeqCst).then_some(()))
        })
        .await?;
        if !by_deadline {
            working.ask_to_stop();
        }
        lab.eventually(
            match by_deadline {
                true => "the handler's thread to hear that its deadline has passed",
                false => "the handler's thread to hear that the grace is over",
            },
            || async { Ok(told.load(Ordering::SeqCst).then_some(())) },
        )
        .await?;
    }
    Ok(())
}

// Stage 8

fn high(kind: &str) -> NewTask {
    NewTask {
        priority: Priority::High,
        ..task(kind)
    }
}

async fn one_queue_of_two_that_was_deleted_is_declared_again(lab: Lab) -> Outcome {
    lab.promise("a worker notices that one of its two queues was deleted while it goes on to get messages from the other: it is declared again, and worked");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let mut working = depot.work(floor.handlers());
    let names = &depot.names;
    for (round, queue) in [names.high_queue(), names.queue()].iter().enumerate() {
        for new in [task("quick"), high("quick")] {
            let id = submitter.submit(new).await?.id;
            depot.until(&id, State::Succeeded).await?;
        }
        depot.rabbit.delete_queue(queue).await?;
        lab.eventually(
            &format!("the queue `{queue}` to be there again, with a consumer"),
            || async {
                let queue = depot.rabbit.queue(queue).await?;
                Ok(queue.is_some_and(|queue| queue.consumers > 0).then_some(()))
            },
        )
        .await?;
        for new in [task("quick"), high("quick")] {
            let accepted = lab
                .eventually("a submit to be accepted", || async {
                    Ok(submitter.submit(new.clone()).await.ok())
                })
                .await?;
            let done = depot.until(&accepted.id, State::Succeeded).await;
            done.map_err(|failure| {
                failure.also(format!("in round {round} the queue `{queue}` was deleted"))
            })?;
        }
    }
    working.expect_running().await
}

async fn no_more_run_side_by_side_after_a_lost_connection(lab: Lab) -> Outcome {
    lab.promise("up to `concurrency` attempts run side by side, also after the connection was lost while they ran");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let _working = place.work(floor.handlers());
    // One place is free: a worker whose places are all taken need not notice.
    submitter.submit(task("gated")).await?;
    floor.until_running(&lab, 1).await?;
    let mark = place.rabbit.proxy().mark();
    place.rabbit.proxy().cut_all();
    lab.eventually("the worker to consume again", || async {
        let log = place.rabbit.proxy().log();
        Ok((log[mark..]
            .iter()
            .filter(|frame| frame.consume().is_some())
            .count()
            >= 2)
            .then_some(()))
    })
    .await?;
    // The first one is delivered again and waits, which takes of the prefetch of its own queue.
    for _ in 0..5 {
        submitter.submit(high("gated")).await?;
    }
    floor.until_running(&lab, 2).await?;
    lab.within(Duration::from_millis(700)).await;
    let most = floor.most();
    ensure!(
        most <= 2,
        "two may run side by side; the connection was lost while one ran, and then {most} did"
    );
    floor.open(1_000);
    depot.until_done(6).await?;
    Ok(())
}

async fn a_worker_outlasts_a_queue_that_differs(lab: Lab) -> Outcome {
    lab.promise("a worker fails at its start or never: when it cannot declare its queue any more, because somebody has made another of its name, it tries until it can");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let mut working = place.work(floor.handlers());
    let first = submitter.submit(task("quick")).await?.id;
    depot.until(&first, State::Succeeded).await?;
    let queue = depot.names.high_queue();
    place.rabbit.proxy().refuse(true);
    place.rabbit.proxy().cut_all();
    depot.rabbit.delete_queue(&queue).await?;
    let durable = lapin::options::QueueDeclareOptions {
        durable: true,
        ..lapin::options::QueueDeclareOptions::default()
    };
    depot
        .rabbit
        .direct()
        .await?
        .queue_declare(queue.as_str().into(), durable, FieldTable::default())
        .await?;
    place.rabbit.proxy().refuse(false);
    let before = place.rabbit.proxy().mark();
    lab.eventually("the worker to try again", || async {
        let log = place.rabbit.proxy().log();
        Ok(log[before..]
            .iter()
            .any(|frame| frame.closes_channel().is_some())
            .then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(200)).await;
    working.expect_running().await?;
    depot.rabbit.delete_queue(&queue).await?;
    let id = lab
        .eventually("a submit to be accepted", || async {
            Ok(submitter.submit(high("quick")).await.ok())
        })
        .await?
        .id;
    depot.until(&id, State::Succeeded).await?;
    Ok(())
}

async fn an_outcome_outlasts_a_long_outage_of_redis(lab: Lab) -> Outcome {
    lab.promise("an outcome that Redis cannot take is kept for as long as Redis is away: the work is not done again, and no attempt is lost");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let options = Work {
        retry: Retry {
            attempts: 1,
            ..depot.work_options().retry
        },
        ..place.work_options()
    };
    let _working = place.work_with(options, floor.handlers());
    let id = submitter.submit(task("gated")).await?.id;
    until_began(&lab, &floor, &id, 1).await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    floor.open(1);
    // Longer than anybody who counts tries would wait.
    lab.within(Duration::from_secs(15)).await;
    place.redis.proxy().refuse(false);
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status.attempts == 1 && floor.attempts(&id) == [1],
        "Redis was away for 15 s after the work was done; attempts were made: {:?}; {}",
        floor.attempts(&id),
        describe(&status)
    );
    Ok(())
}

// Stage 9

async fn a_delivery_that_could_not_begin_goes_back_at_the_stop(lab: Lab) -> Outcome {
    lab.promise("at the stop a delivery whose attempt could not begin, since Redis is away, goes back to its queue at once, and does not begin when Redis is there again");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let working = place.work(floor.handlers());
    let queue = depot.names.queue();
    lab.eventually("the worker to consume", || async {
        let queue = depot.rabbit.queue(&queue).await?;
        Ok(queue.is_some_and(|queue| queue.consumers > 0).then_some(()))
    })
    .await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    submitter.submit(task("quick")).await?;
    lab.eventually("the task to be delivered", || async {
        Ok((place.rabbit.proxy().count(Frame::is_deliver) > 0).then_some(()))
    })
    .await?;
    working.ask_to_stop();
    depot.until_ready(&queue, 1).await?;
    place.redis.proxy().refuse(false);
    lab.within(Duration::from_millis(300)).await;
    let began = floor.began();
    ensure!(began.is_empty(), "it began after the stop: {began:?}");
    working.stop().await?;
    Ok(())
}

async fn what_was_prefetched_is_counted_as_returned(lab: Lab) -> Outcome {
    lab.promise(
        "`Worked::returned` counts every delivery that went back at the stop, begun or not",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 1,
        ..place.work_options()
    };
    let working = place.work_with(options, floor.handlers());
    for new in [high("gated"), high("quick"), task("quick")] {
        submitter.submit(new).await?;
        floor.until_running(&lab, 1).await?;
    }
    // One runs; whatever else was delivered has not begun.
    lab.within(Duration::from_millis(300)).await;
    let delivered = place.rabbit.proxy().count(Frame::is_deliver);
    working.ask_to_stop();
    let names = &depot.names;
    lab.eventually("what has not begun to be in its queue again", || async {
        let ready = depot.ready(&names.queue()).await? + depot.ready(&names.high_queue()).await?;
        Ok((ready == 2).then_some(()))
    })
    .await?;
    floor.open(1_000);
    let worked = working.stop().await?;
    let back = delivered as u64 - 1;
    ensure!(
        worked.succeeded == 1 && worked.returned == back,
        "{delivered} tasks were delivered and one of them was done; {back} went back, and `work` returned {worked:?}"
    );
    Ok(())
}

async fn an_outcome_that_cannot_be_stored_goes_back_after_the_grace(lab: Lab) -> Outcome {
    lab.promise("a stop takes no longer than its grace also when Redis is away: what cannot be stored is in its queue again");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let place = depot.elsewhere().await?;
    let floor = Floor::new();
    let options = Work {
        grace: Duration::from_millis(300),
        ..place.work_options()
    };
    let working = place.work_with(options, floor.handlers());
    let id = submitter.submit(task("gated")).await?.id;
    until_began(&lab, &floor, &id, 1).await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    floor.open(1);
    lab.within(Duration::from_millis(100)).await;
    working.ask_to_stop();
    let worked = working.stop().await?;
    depot.until_ready(&depot.names.queue(), 1).await?;
    ensure!(
        worked.returned == 1,
        "the delivery was to be given back at the end of the grace, and came back only when the connection was closed: `work` returned {worked:?}"
    );
    Ok(())
}

async fn a_stop_waits_for_what_is_confirmed_and_not_yet_known(lab: Lab) -> Outcome {
    lab.promise("a submitter's stop waits until every submit that is under way is accepted or not: also one that RabbitMQ has confirmed and Redis does not know yet");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    submitter.submit(task("quick")).await?;
    let prefix = depot.names.task_key("");
    let fault = depot.redis.proxy().arm(
        RedisTrigger::request(move |exchange| {
            exchange
                .args(0)
                .iter()
                .any(|word| word.starts_with(&prefix))
        }),
        Action::Hold,
    );
    let submitting = {
        let submitter = submitter.clone();
        tokio::spawn(async move { submitter.submit(task("quick")).await })
    };
    lab.eventually("the status to be written", || async {
        Ok(fault.has_fired().then_some(()))
    })
    .await?;
    let stopping = {
        let submitter = submitter.clone();
        tokio::spawn(async move { submitter.stop().await })
    };
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        !stopping.is_finished(),
        "the message is confirmed, its status is on the way to Redis, and `stop` has returned: a program that ends now has a task that nobody was told of"
    );
    fault.release();
    let said = submitting.await?;
    ensure!(
        said.is_ok(),
        "the submit that was under way was answered with {said:?}"
    );
    stopping.await?;
    Ok(())
}

async fn after_its_stop_a_submitter_is_not_ready(lab: Lab) -> Outcome {
    lab.promise("after its stop a submitter takes no task and is not ready for one: both are `Error::Stopping`, and it connects to nothing any more");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    submitter.ready().await?;
    submitter.stop().await;
    let said = submitter.submit(task("quick")).await;
    ensure!(
        matches!(said, Err(task_queue::Error::Stopping)),
        "a submit after the stop: {said:?}"
    );
    let ready = submitter.ready().await;
    ensure!(
        matches!(ready, Err(task_queue::Error::Stopping)),
        "`ready` after the stop: {ready:?}"
    );
    lab.eventually("its connection to RabbitMQ to be closed", || async {
        Ok((depot.rabbit.proxy().connections() == 0).then_some(()))
    })
    .await
}
