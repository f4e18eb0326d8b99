//! Stage 7: no longer wanted, too late, or sooner than others.

use std::time::{Duration, SystemTime};

use lab::{Check, Lab, Outcome, ensure, fail};
use serde_json::json;
use task_queue::{Context, Error, NewTask, Priority, Retry, State, Work};

use crate::depot::{Depot, Floor, describe, task, text};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_task_that_waits_is_cancelled_and_never_begins,
        a_task_that_runs_is_told_and_ends_without_effect,
        code_that_cannot_be_dropped_is_told_too,
        a_task_that_waits_for_another_attempt_is_cancelled,
        what_has_ended_cannot_be_cancelled,
        cancelling_again_changes_nothing,
        a_race_between_the_end_and_the_cancelling_has_one_winner,
        a_deadline_that_has_passed_is_not_begun,
        a_deadline_cuts_off_what_runs,
        nothing_is_tried_again_past_its_deadline,
        a_deadline_travels_with_its_message,
        high_priority_overtakes,
        high_priority_keeps_its_prefetch,
    ]
}

async fn a_task_that_waits_is_cancelled_and_never_begins(lab: Lab) -> Outcome {
    lab.promise("a task that waits is cancelled at once, and never begins; its message goes without a dead letter");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let id = submitter.submit(task("quick")).await?.id;
    let status = store.cancel(&id).await?;
    ensure!(
        status.state == State::Cancelled && depot.status(&id).await?.as_ref() == Some(&status),
        "`cancel` returned {status:?}; Redis holds {:?}",
        depot.status(&id).await?
    );
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    let after = submitter.submit(task("quick")).await?.id;
    depot.until(&after, State::Succeeded).await?;
    depot.until_ready(&depot.names.queue(), 0).await?;
    ensure!(
        floor.attempts(&id).is_empty(),
        "the task {id} was cancelled before any worker was there, and was begun"
    );
    let status = depot.until(&id, State::Cancelled).await?;
    ensure!(
        status.attempts == 0 && status.result.is_none(),
        "{}",
        describe(&status)
    );
    ensure!(
        depot.ready(&depot.names.dead_queue()).await? == 0,
        "a cancelled task became a dead letter"
    );
    depot.ended_once(&[id], State::Cancelled).await
}

async fn a_task_that_runs_is_told_and_ends_without_effect(lab: Lab) -> Outcome {
    lab.promise("a task that runs is cancelled at once; its handler is ended within a second, its place is free, and nothing it does has an effect");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 1,
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let id = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    let status = store.cancel(&id).await?;
    ensure!(status.state == State::Cancelled, "{}", describe(&status));
    lab.eventually("the handler of the cancelled task to be ended", || async {
        Ok((floor.running() == 0).then_some(()))
    })
    .await?;
    // The gate is closed: only a place that is free does this one.
    let next = submitter.submit(task("quick")).await?.id;
    depot.until(&next, State::Succeeded).await?;
    floor.open(1);
    lab.within(Duration::from_millis(300)).await;
    let status = depot.status(&id).await?;
    ensure!(
        status
            .as_ref()
            .is_some_and(|it| it.state == State::Cancelled && it.result.is_none()),
        "TQ10",
        "the task {id} was cancelled while it ran: {}",
        status.as_ref().map_or("it is gone".to_owned(), describe)
    );
    depot.ended_once(&[id], State::Cancelled).await
}

async fn code_that_cannot_be_dropped_is_told_too(lab: Lab) -> Outcome {
    lab.promise("code that runs on a thread of its own is told that its task was cancelled, by `is_cancelled`; what it returns has no effect");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let (tell, told) = tokio::sync::watch::channel(false);
    let limit = lab.deadline();
    let blocking = floor.handler(move |context: Context| {
        let tell = tell.clone();
        async move {
            let working = tokio::task::spawn_blocking(move || {
                let began = std::time::Instant::now();
                while !context.is_cancelled() && began.elapsed() < limit {
                    std::thread::sleep(Duration::from_millis(5));
                }
                tell.send_replace(context.is_cancelled());
            });
            working
                .await
                .map_err(|error| task_queue::Failure::Permanent(error.to_string()))?;
            Ok(json!("stopped"))
        }
    });
    let _working = depot.work(floor.handlers().on("blocking", blocking));
    let id = submitter.submit(task("blocking")).await?.id;
    floor.until_running(&lab, 1).await?;
    store.cancel(&id).await?;
    lab.eventually("the blocking code to be told", || async {
        Ok(told.borrow().then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(200)).await;
    depot.until(&id, State::Cancelled).await?;
    depot.ended_once(&[id], State::Cancelled).await
}

async fn a_task_that_waits_for_another_attempt_is_cancelled(lab: Lab) -> Outcome {
    lab.promise("a task that waits for its next attempt can be cancelled: there is no other");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let options = Work {
        retry: Retry {
            attempts: 3,
            first: Duration::from_millis(400),
            longest: Duration::from_millis(400),
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let id = submitter.submit(task("fail")).await?.id;
    lab.eventually("the task to wait for its second attempt", || async {
        let status = depot.status(&id).await?;
        Ok(status.filter(|it| it.state == State::Queued && it.attempts == 1))
    })
    .await?;
    store.cancel(&id).await?;
    // Twice as long as it waits at most.
    lab.within(Duration::from_millis(960)).await;
    ensure!(
        floor.attempts(&id) == [1],
        "it was cancelled after its first attempt; its handler was called for {:?}",
        floor.attempts(&id)
    );
    depot.until(&id, State::Cancelled).await?;
    depot.ended_once(&[id], State::Cancelled).await
}

async fn what_has_ended_cannot_be_cancelled(lab: Lab) -> Outcome {
    lab.promise("a task that has succeeded or failed cannot be cancelled, and stays as it is; one that is not there is not found");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for (kind, state) in [("quick", State::Succeeded), ("wrong", State::Failed)] {
        let id = submitter.submit(task(kind)).await?.id;
        let before = depot.until(&id, state).await?;
        match store.cancel(&id).await {
            Err(Error::Ended(ended)) if ended == state => {}
            Err(other) => fail!("cancelling a task that has {state} gave: {other}"),
            Ok(status) => fail!(
                "a task that has {state} was cancelled: {}",
                describe(&status)
            ),
        }
        ensure!(
            depot.status(&id).await?.as_ref() == Some(&before),
            "TQ10",
            "its status has changed: {before:?} became {:?}",
            depot.status(&id).await?
        );
        depot.ended_once(&[id], state).await?;
    }
    match store.cancel("nobody").await {
        Err(Error::NotFound(_)) => {}
        Err(other) => fail!("cancelling a task that is not there gave: {other}"),
        Ok(status) => fail!("a task that is not there was cancelled: {status:?}"),
    }
    ensure!(
        depot.status("nobody").await?.is_none(),
        "cancelling a task that is not there has made it"
    );
    Ok(())
}

async fn cancelling_again_changes_nothing(lab: Lab) -> Outcome {
    lab.promise("cancelling a task that is cancelled succeeds, and changes nothing");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let id = submitter.submit(task("quick")).await?.id;
    let first = store.cancel(&id).await?;
    let second = store.cancel(&id).await?;
    ensure!(first == second, "{first:?} became {second:?}");
    depot.ended_once(&[id], State::Cancelled).await
}

async fn a_race_between_the_end_and_the_cancelling_has_one_winner(lab: Lab) -> Outcome {
    lab.promise(
        "when a task is cancelled at the moment in which it ends, one of both wins, and stays",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let store = depot.store().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 20,
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    for _ in 0..5 {
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(submitter.submit(task("gated")).await?.id);
        }
        floor.until_running(&lab, 20).await?;
        let cancels: Vec<_> = ids
            .iter()
            .map(|id| {
                let (store, id) = (store.clone(), id.clone());
                tokio::spawn(async move { store.cancel(&id).await })
            })
            .collect();
        floor.open(20);
        for (id, cancel) in ids.iter().zip(cancels) {
            let state = match cancel.await? {
                Ok(_) => State::Cancelled,
                Err(Error::Ended(state)) => state,
                Err(other) => fail!("`cancel` gave: {other}"),
            };
            depot.until(id, state).await.map_err(|failure| {
                failure
                    .code("TQ10")
                    .also(format!("`cancel` had been told that it is {state}"))
            })?;
            depot.ended_once(std::slice::from_ref(id), state).await?;
        }
        // Permits that cancelled handlers did not take are not for the next round.
        floor.close();
        lab.eventually("all handlers to end", || async {
            Ok((floor.running() == 0).then_some(()))
        })
        .await?;
    }
    Ok(())
}

fn until(time: SystemTime) -> impl Fn(&str) -> NewTask {
    move |kind| NewTask {
        deadline: Some(time),
        ..task(kind)
    }
}

async fn a_deadline_that_has_passed_is_not_begun(lab: Lab) -> Outcome {
    lab.promise(
        "a task whose deadline has passed is not begun: it is failed, and there is a dead letter",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let late = until(SystemTime::now() + Duration::from_millis(50))("quick");
    let id = submitter.submit(late).await?.id;
    lab.within(Duration::from_millis(100)).await;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    let status = depot.until(&id, State::Failed).await?;
    ensure!(
        floor.attempts(&id).is_empty() && status.attempts == 0,
        "its deadline had passed, and it was begun: {:?}",
        floor.attempts(&id)
    );
    let error = status.error.unwrap_or_default();
    ensure!(
        error.contains("deadline"),
        "the error does not speak of the deadline: \"{error}\""
    );
    let letter = depot.dead_letter().await?;
    ensure!(
        letter.message.id() == id,
        "the dead letter is another task's"
    );
    depot.ended_once(&[id], State::Failed).await
}

async fn a_deadline_cuts_off_what_runs(lab: Lab) -> Outcome {
    lab.promise("a task whose deadline passes while it runs is cut off: it is failed, is not tried again, and its place is free");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 1,
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    // Far enough away for the slowest machine to begin before it.
    let deadline = SystemTime::now() + Duration::from_secs_f64(1.5 * lab.patience());
    let id = submitter.submit(until(deadline)("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    let status = depot.until(&id, State::Failed).await?;
    let early = deadline
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    ensure!(
        early < Duration::from_millis(50),
        "it was given up {early:?} before its deadline"
    );
    let error = status.error.clone().unwrap_or_default();
    ensure!(
        error.contains("deadline") && status.attempts == 1,
        "{}",
        describe(&status)
    );
    lab.eventually("the handler to be ended", || async {
        Ok((floor.running() == 0).then_some(()))
    })
    .await?;
    let letter = depot.dead_letter().await?;
    let reason = text(letter.message.header("x-reason")).unwrap_or_default();
    ensure!(
        reason.contains("deadline"),
        "the reason of the dead letter is \"{reason}\""
    );
    let next = submitter.submit(task("quick")).await?.id;
    depot.until(&next, State::Succeeded).await?;
    ensure!(
        floor.attempts(&id) == [1],
        "it was tried again: {:?}",
        floor.attempts(&id)
    );
    depot.ended_once(&[id], State::Failed).await
}

async fn nothing_is_tried_again_past_its_deadline(lab: Lab) -> Outcome {
    lab.promise("a task whose next attempt would begin after its deadline is given up at once");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        retry: Retry {
            attempts: 5,
            first: Duration::from_secs(3600),
            longest: Duration::from_secs(3600),
        },
        ..depot.work_options()
    };
    let _working = depot.work_with(options, floor.handlers());
    let deadline = SystemTime::now() + Duration::from_secs(600);
    let id = submitter.submit(until(deadline)("fail")).await?.id;
    let status = depot.until(&id, State::Failed).await?;
    ensure!(status.attempts == 1, "{}", describe(&status));
    ensure!(
        status
            .error
            .as_deref()
            .is_some_and(|error| error.contains("no luck today")),
        "the last attempt failed with \"no luck today\", and the error does not say so: {}",
        describe(&status)
    );
    depot.dead_letter().await?;
    depot.ended_once(&[id], State::Failed).await
}

async fn a_deadline_travels_with_its_message(lab: Lab) -> Outcome {
    lab.promise("a deadline stands in the body of the message, in RFC 3339, and one that another program has written counts too");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(4_102_444_800_500);
    let id = submitter.submit(until(time)("quick")).await?.id;
    let Some(taken) = depot.rabbit.take(&depot.names.queue()).await? else {
        fail!("the queue is empty");
    };
    let body: serde_json::Value = serde_json::from_slice(&taken.message.body)?;
    ensure!(
        body["id"] == json!(id) && body["deadline"] == json!("2100-01-01T00:00:00.500Z"),
        "the body of a task with a deadline at 2100-01-01T00:00:00.500Z is {body}"
    );
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    for (id, deadline, state) in [
        ("too-late", "2001-02-03T04:05:06Z", State::Failed),
        ("in-time", "2100-01-01T00:00:00Z", State::Succeeded),
    ] {
        let body = json!({"id": id, "kind": "quick", "deadline": deadline});
        depot.publish(&body).await?;
        depot.until(id, state).await?;
    }
    Ok(())
}

fn high(kind: &str) -> NewTask {
    NewTask {
        priority: Priority::High,
        ..task(kind)
    }
}

async fn high_priority_overtakes(lab: Lab) -> Outcome {
    lab.promise(
        "a task of high priority is begun before all of normal priority that nobody has begun",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    let options = Work {
        concurrency: 1,
        ..depot.work_options()
    };
    // Long enough for the next one to be delivered meanwhile.
    let slow = floor.handler(|_: Context| async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        Ok(json!(null))
    });
    let handlers = floor.handlers().on("slow", slow);
    let _working = depot.work_with(options, handlers);
    let first = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    let mut normal = Vec::new();
    for _ in 0..5 {
        normal.push(submitter.submit(task("quick")).await?.id);
    }
    let mut urgent = Vec::new();
    for _ in 0..3 {
        urgent.push(submitter.submit(high("slow")).await?.id);
    }
    // All that may be delivered is delivered.
    lab.within(Duration::from_millis(300)).await;
    floor.open(1);
    depot.until_done(9).await?;
    let order: Vec<_> = floor.began().into_iter().map(|(id, _)| id).collect();
    let place = |id: &String| {
        order
            .iter()
            .position(|other| other == id)
            .unwrap_or(usize::MAX)
    };
    ensure!(place(&first) == 0, "the first was not the first");
    // One normal task may have been chosen already when the high ones came.
    let before = normal
        .iter()
        .filter(|id| urgent.iter().any(|other| place(id) < place(other)));
    let before = before.count();
    ensure!(
        before <= 1,
        "five normal tasks waited, and three of high priority came later; {before} of the normal ones were begun before the last of the others: {:?}",
        order
            .iter()
            .map(|id| if urgent.contains(id) {
                "high"
            } else {
                "normal"
            })
            .collect::<Vec<_>>()
    );
    Ok(())
}

async fn high_priority_keeps_its_prefetch(lab: Lab) -> Outcome {
    lab.promise("of the queue for high priority a worker holds no more than twice its concurrency, of the other no more than that, and no more run than that in all");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let floor = Floor::new();
    for _ in 0..8 {
        submitter.submit(high("gated")).await?;
        submitter.submit(task("gated")).await?;
    }
    let _working = depot.work(floor.handlers());
    floor.until_running(&lab, 2).await?;
    lab.within(Duration::from_millis(300)).await;
    for (queue, most) in [(depot.names.high_queue(), 4), (depot.names.queue(), 2)] {
        let ready = depot.ready(&queue).await?;
        ensure!(
            ready >= 8 - most,
            "TQ06",
            "with a concurrency of 2 the worker holds {} unacknowledged of the queue `{queue}`",
            8 - ready
        );
    }
    floor.open(16);
    depot.until_done(16).await?;
    ensure!(
        floor.most() == 2,
        "{} ran side by side; the concurrency is 2",
        floor.most()
    );
    Ok(())
}
