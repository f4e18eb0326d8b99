//! Stage 3: as many at once as are allowed, and acknowledged when it is stored.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, Rgba, RgbaImage};
use lab::faults::amqp::{Frame, most_unacked};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::BasicProperties;
use serde_json::{Value, json};
use task_queue::{
    CancellationToken, Context, Failure as Failed, Handlers, Retry, State, Task, Work, resize,
};
use tokio::sync::watch;

use crate::depot::{Depot, Floor, describe, task};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_task_is_done_and_its_result_is_known,
        messages_of_other_programs_are_worked,
        unacknowledged_deliveries_never_exceed_the_concurrency,
        as_many_run_side_by_side_as_are_allowed,
        a_slow_task_holds_up_no_other,
        nothing_is_acknowledged_while_it_is_worked,
        nothing_is_acknowledged_before_its_result_is_stored,
        a_panic_is_a_failure_of_one_task,
        what_fails_for_good_has_its_reason,
        progress_can_be_seen_and_never_falls,
        a_status_only_goes_forward,
        several_workers_share_the_tasks,
        a_picture_is_scaled,
        a_picture_that_is_none_fails_for_good,
        scaling_holds_up_nobody,
        scaling_tells_how_far_it_is_and_stops,
    ]
}

async fn a_task_is_done_and_its_result_is_known(lab: Lab) -> Outcome {
    lab.promise("a task is done, its result is stored, and then its message is acknowledged");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let mut working = depot.work(floor.handlers());
    let id = submitter.submit(task("quick")).await?.id;
    let status = depot.until(&id, State::Succeeded).await?;
    ensure!(
        status.result == Some(json!({"of": id})) && status.error.is_none(),
        "the handler returned {}, and the status has the result {:?} and the error {:?}",
        json!({"of": id}),
        status.result,
        status.error
    );
    ensure!(
        status.attempts == 1 && status.progress == 100,
        "it was done in one attempt, and {}",
        describe(&status)
    );
    let known = depot.store().await?.get(&id).await?;
    ensure!(
        known.as_ref() == Some(&status),
        "Redis holds {status:?}, `Store::get` says {known:?}"
    );
    depot
        .ended_once(std::slice::from_ref(&id), State::Succeeded)
        .await?;
    lab.eventually("its message to be acknowledged", || async {
        Ok((depot.rabbit.proxy().count(Frame::is_ack) == 1).then_some(()))
    })
    .await?;
    working.expect_running().await?;
    let worked = working.stop().await?;
    ensure!(
        (
            worked.succeeded,
            worked.failed,
            worked.retried,
            worked.returned
        ) == (1, 0, 0, 0),
        "one task succeeded, and `work` tells of {worked:?}"
    );
    depot.until_ready(&depot.names.queue(), 0).await
}

async fn messages_of_other_programs_are_worked(lab: Lab) -> Outcome {
    lab.promise("a message that any AMQP client has published to the exchange is worked: with more members than it needs, without a payload, without properties, with any routing key");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let _working = depot.work(floor.handlers());
    // Once it consumes the topology is there.
    let queue = depot.names.queue();
    lab.eventually("a consumer", || async {
        let queue = depot.rabbit.queue(&queue).await?;
        Ok(queue.filter(|queue| queue.consumers > 0))
    })
    .await?;
    let exchange = depot.names.exchange();
    let bodies = [
        json!({"id": "from-php", "kind": "quick", "payload": {"a": 1}, "tenant": "x", "tries": 0}),
        json!({"kind": "quick", "id": "from.python_3"}),
        json!({"id": "9", "kind": "quick", "payload": null}),
    ];
    for body in &bodies {
        let properties = BasicProperties::default();
        let bytes = body.to_string();
        depot
            .rabbit
            .publish(&exchange, "whatever.it.is", properties, bytes.as_bytes())
            .await?;
    }
    depot.until_done(bodies.len()).await?;
    for body in &bodies {
        let id = body["id"].as_str().unwrap_or_default();
        let status = depot.until(id, State::Succeeded).await?;
        ensure!(
            status.kind == "quick" && status.attempts == 1,
            "the task of the message {body} is of the kind `{}`, and {}",
            status.kind,
            describe(&status)
        );
    }
    Ok(())
}

/// Twelve gated tasks, with three places.
async fn crowd(lab: &Lab) -> Result<(Depot, Floor, Vec<String>, crate::depot::Working), Failure> {
    let depot = Depot::new(lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(submitter.submit(task("gated")).await?.id);
    }
    let options = Work {
        concurrency: 3,
        ..depot.work_options()
    };
    let working = depot.work_with(options, floor.handlers());
    floor.until_running(lab, 3).await?;
    Ok((depot, floor, ids, working))
}

async fn unacknowledged_deliveries_never_exceed_the_concurrency(lab: Lab) -> Outcome {
    lab.promise(
        "a worker never holds more unacknowledged deliveries of a queue than its concurrency",
    );
    let (depot, floor, ids, _working) = crowd(&lab).await?;
    let queue = depot.names.queue();
    // Had it no limit, all would be delivered at once.
    lab.within(Duration::from_millis(300)).await;
    let look = || {
        depot
            .rabbit
            .proxy()
            .with_log(|log| most_unacked(log, &queue))
    };
    let (ready, held) = (depot.ready(&queue).await?, look());
    ensure!(
        ready == 9 && held == 3,
        "TQ06",
        "with a concurrency of 3 and 12 tasks, 9 were to wait in the queue; {ready} do, and the worker holds {held} unacknowledged"
    );
    floor.open(ids.len());
    depot.until_done(ids.len()).await?;
    let held = look();
    ensure!(
        held == 3,
        "TQ06",
        "while the tasks were worked off the worker held {held} unacknowledged; its concurrency is 3"
    );
    depot.ended_once(&ids, State::Succeeded).await
}

async fn as_many_run_side_by_side_as_are_allowed(lab: Lab) -> Outcome {
    lab.promise("up to `concurrency` tasks run side by side, and never more");
    let (depot, floor, ids, working) = crowd(&lab).await?;
    for _ in &ids {
        floor.open(1);
        tokio::task::yield_now().await;
    }
    depot.until_done(ids.len()).await?;
    ensure!(
        floor.most() == 3,
        "{} ran side by side; the concurrency is 3",
        floor.most()
    );
    let worked = working.stop().await?;
    ensure!(
        worked.succeeded == 12,
        "12 tasks succeeded, and `work` tells of {worked:?}"
    );
    Ok(())
}

async fn a_slow_task_holds_up_no_other(lab: Lab) -> Outcome {
    lab.promise("a task that takes long holds up no other, as long as there is a place");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let _working = depot.work(floor.handlers());
    let slow = submitter.submit(task("gated")).await?.id;
    floor.until_running(&lab, 1).await?;
    for _ in 0..10 {
        submitter.submit(task("quick")).await?;
    }
    depot.until_done(10).await?;
    let status = depot.until(&slow, State::Running).await?;
    ensure!(status.attempts == 1, "{}", describe(&status));
    floor.open(1);
    depot.until(&slow, State::Succeeded).await?;
    Ok(())
}

async fn nothing_is_acknowledged_while_it_is_worked(lab: Lab) -> Outcome {
    lab.promise("a message is not acknowledged while its handler runs");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let id = submitter.submit(task("gated")).await?.id;
    let _working = depot.work(floor.handlers());
    floor.until_running(&lab, 1).await?;
    let log = depot.rabbit.proxy().log();
    let without = log
        .iter()
        .filter_map(Frame::consume)
        .find(|consume| consume.no_ack);
    ensure!(
        without.is_none(),
        "TQ01",
        "the worker consumes with `no_ack`: RabbitMQ forgets a message as soon as it is sent, and a worker that dies loses all it was given"
    );
    lab.within(Duration::from_millis(200)).await;
    let acks = depot
        .rabbit
        .proxy()
        .count(|frame| frame.settles().is_some());
    ensure!(
        acks == 0,
        "TQ13",
        "the message of the task {id} was settled while its handler was running: if the worker dies now, nobody does it again"
    );
    floor.open(1);
    depot.until(&id, State::Succeeded).await?;
    lab.eventually("the message to be acknowledged", || async {
        Ok((depot.rabbit.proxy().count(Frame::is_ack) > 0).then_some(()))
    })
    .await
}

async fn nothing_is_acknowledged_before_its_result_is_stored(lab: Lab) -> Outcome {
    lab.promise("a message is acknowledged after its result is stored, not before");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let id = submitter.submit(task("gated")).await?.id;
    // The worker's own way to Redis, which is blocked while the handler ends.
    let theirs = Depot {
        redis: lab.redis().await?,
        ..depot.clone()
    };
    let _working = theirs.work(floor.handlers());
    floor.until_running(&lab, 1).await?;
    theirs.redis.proxy().stall(true);
    floor.open(1);
    lab.eventually("the handler to end", || async {
        Ok((floor.running() == 0).then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    let acks = depot
        .rabbit
        .proxy()
        .count(|frame| frame.settles().is_some());
    theirs.redis.proxy().stall(false);
    ensure!(
        acks == 0,
        "TQ13",
        "the message of the task {id} was settled while Redis had not taken its result: a worker that dies in between leaves a task that is done and known to nobody"
    );
    depot.until(&id, State::Succeeded).await?;
    depot.ended_once(&[id], State::Succeeded).await
}

/// One attempt and no more.
fn once(depot: &Depot) -> Work {
    Work {
        retry: Retry {
            attempts: 1,
            ..Retry::default()
        },
        ..depot.work_options()
    }
}

async fn a_panic_is_a_failure_of_one_task(lab: Lab) -> Outcome {
    lab.promise("a handler that panics fails its task, and nothing else");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    // One that panics before it returns a future, too.
    let handlers = floor
        .handlers()
        .on("early", |_: Context| -> std::future::Ready<_> {
            panic!("before there was a future")
        });
    let mut working = depot.work_with(once(&depot), handlers);
    for (kind, text) in [
        ("panic", "the handler's own panic"),
        ("early", "before there was a future"),
    ] {
        let id = submitter.submit(task(kind)).await?.id;
        let status = depot.until(&id, State::Failed).await?;
        let error = status.error.unwrap_or_default();
        ensure!(
            error.contains(text),
            "the handler panicked with \"{text}\", and the status has the error \"{error}\""
        );
    }
    let id = submitter.submit(task("quick")).await?.id;
    depot.until(&id, State::Succeeded).await?;
    working.expect_running().await
}

async fn what_fails_for_good_has_its_reason(lab: Lab) -> Outcome {
    lab.promise("a task that fails for good is failed at once, with its reason, and has no result");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let working = depot.work(floor.handlers());
    let id = submitter.submit(task("wrong")).await?.id;
    let status = depot.until(&id, State::Failed).await?;
    ensure!(
        status.error.as_deref() == Some("never will") && status.result.is_none(),
        "the reason was \"never will\": {}",
        describe(&status)
    );
    ensure!(
        floor.attempts(&id) == [1] && status.attempts == 1,
        "it was attempted {:?}: {}",
        floor.attempts(&id),
        describe(&status)
    );
    depot.ended_once(&[id], State::Failed).await?;
    let worked = working.stop().await?;
    ensure!(
        worked.failed == 1,
        "one task failed, and `work` tells of {worked:?}"
    );
    Ok(())
}

async fn progress_can_be_seen_and_never_falls(lab: Lab) -> Outcome {
    lab.promise("what a handler says of its progress can be seen while it runs, and never falls within an attempt");
    let depot = Depot::new(&lab).await?;
    let (go, gone) = watch::channel(0_u8);
    let handler = move |context: Context| {
        let mut gone = gone.clone();
        async move {
            for (step, percent) in [(1, 10), (2, 60), (3, 30), (4, 250)] {
                let waited = gone.wait_for(|now| *now >= step).await;
                waited.map_err(|_| Failed::Permanent("the check is over".to_owned()))?;
                context.progress(percent);
            }
            let waited = gone.wait_for(|now| *now >= 5).await;
            waited.map_err(|_| Failed::Permanent("the check is over".to_owned()))?;
            Ok(json!("whole"))
        }
    };
    let submitter = depot.submitter().await?;
    let _working = depot.work(Handlers::new().on("steps", handler));
    let id = submitter.submit(task("steps")).await?.id;
    depot.until(&id, State::Running).await?;
    for (step, shown) in [(1, 10), (2, 60)] {
        let _ = go.send(step);
        let what = format!("the progress to be {shown}");
        let seen = lab
            .eventually(&what, || async {
                let status = depot.status(&id).await?;
                Ok(status.filter(|it| it.state == State::Running && it.progress == shown))
            })
            .await;
        if let Err(failure) = seen {
            let status = depot.status(&id).await?;
            return Err(failure.also(status.as_ref().map_or(String::new(), describe)));
        }
    }
    let _ = go.send(3);
    lab.within(Duration::from_millis(600)).await;
    let status = depot.until(&id, State::Running).await?;
    ensure!(
        status.progress == 60,
        "the handler said 60 and then 30: {}",
        describe(&status)
    );
    let _ = go.send(4);
    lab.eventually("the progress to be 100 while it runs", || async {
        let status = depot.status(&id).await?;
        Ok(status.filter(|it| it.state == State::Running && it.progress == 100))
    })
    .await?;
    let _ = go.send(5);
    depot.until(&id, State::Succeeded).await?;
    Ok(())
}

async fn a_status_only_goes_forward(lab: Lab) -> Outcome {
    lab.promise("a status goes from queued over running to its end, and `attempts` never fall");
    let depot = Depot::new(&lab).await?;
    let floor = Floor::new();
    let submitter = depot.submitter().await?;
    let _working = depot.work(floor.handlers());
    let mut ids = Vec::new();
    for n in 0..20 {
        let kind = if n % 2 == 0 { "quick" } else { "flaky" };
        ids.push(submitter.submit(task(kind)).await?.id);
    }
    let mut seen: Vec<Vec<(State, u32)>> = vec![Vec::new(); ids.len()];
    while depot.done().await?.len() < ids.len() {
        for (id, seen) in ids.iter().zip(&mut seen) {
            if let Some(status) = depot.status(id).await? {
                seen.push((status.state, status.attempts));
            }
        }
    }
    let order = |(state, attempts): (State, u32)| {
        // Waiting for attempt n + 1 comes after attempt n ran.
        let within = match state {
            State::Queued => 1,
            State::Running => 0,
            _ => 2,
        };
        (attempts, within)
    };
    for (id, seen) in ids.iter().zip(seen) {
        for pair in seen.windows(2) {
            ensure!(
                order(pair[0]) <= order(pair[1]),
                "TQ10",
                "the task {id} was {} after {} attempt(s), and then {} after {}",
                pair[0].0,
                pair[0].1,
                pair[1].0,
                pair[1].1
            );
        }
    }
    depot.ended_once(&ids, State::Succeeded).await
}

async fn several_workers_share_the_tasks(lab: Lab) -> Outcome {
    lab.promise("several workers share the tasks of a queue: each is done once");
    let depot = Depot::new(&lab).await?;
    let floors: Vec<_> = (0..3).map(|_| Floor::new()).collect();
    let workers: Vec<_> = floors
        .iter()
        .map(|floor| depot.work(floor.handlers()))
        .collect();
    let submitter = depot.submitter().await?;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(submitter.submit(task("gated")).await?.id);
    }
    for floor in &floors {
        floor
            .until_running(&lab, 2)
            .await
            .map_err(|failure| failure.also("six tasks, three workers with two places each"))?;
    }
    for floor in &floors {
        floor.open(2);
    }
    depot.until_done(6).await?;
    depot.ended_once(&ids, State::Succeeded).await?;
    let calls: usize = floors.iter().map(|floor| floor.began().len()).sum();
    ensure!(calls == 6, "six tasks were begun {calls} times");
    drop(workers);
    Ok(())
}

// Pictures

/// A PNG, red on the left and blue on the right.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let half = width / 2;
    let picture = RgbaImage::from_fn(width, height, |x, _| {
        Rgba(if x < half {
            [255, 0, 0, 255]
        } else {
            [0, 0, 255, 255]
        })
    });
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .expect("a picture in memory");
    png.into_inner()
}

fn context(payload: Value) -> (Context, watch::Receiver<u8>, CancellationToken) {
    let cancelled = CancellationToken::new();
    let task = Task {
        id: "picture".to_owned(),
        kind: "resize".to_owned(),
        payload,
        deadline: None,
    };
    let (context, progress) = Context::new(task, 1, cancelled.clone());
    (context, progress, cancelled)
}

fn payload(file: &[u8], width: u32) -> Value {
    json!({"image": STANDARD.encode(file), "width": width})
}

async fn a_picture_is_scaled(lab: Lab) -> Outcome {
    lab.promise("`resize` scales the picture: the result has the size that was asked for, and shows the same");
    for (wanted, size) in [
        (json!({"width": 20}), (20, 10)),
        (json!({"width": 20, "height": 30}), (20, 30)),
        (json!({"width": 400, "height": null}), (400, 200)),
    ] {
        let mut payload = payload(&picture(200, 100), 0);
        for (name, value) in wanted.as_object().into_iter().flatten() {
            payload[name] = value.clone();
        }
        let (context, _progress, _cancelled) = context(payload);
        let result = resize(context)
            .await
            .map_err(|failure| Failure::observed(format!("`resize` failed: {failure}")))?;
        let said = (result["width"].as_u64(), result["height"].as_u64());
        ensure!(
            said == (Some(size.0), Some(size.1)),
            "asked for {wanted} of a picture of 200 by 100 it returned {said:?}, not {size:?}"
        );
        let file = STANDARD
            .decode(result["image"].as_str().unwrap_or_default())
            .map_err(|error| Failure::observed(format!("`image` is not base64: {error}")))?;
        let scaled = image::load_from_memory_with_format(&file, ImageFormat::Png)
            .map_err(|error| Failure::observed(format!("`image` is no PNG: {error}")))?
            .into_rgba8();
        ensure!(
            (u64::from(scaled.width()), u64::from(scaled.height())) == size,
            "the picture in the result has {} by {} pixels, not {size:?}",
            scaled.width(),
            scaled.height()
        );
        let y = scaled.height() / 2;
        let (left, right) = (
            scaled.get_pixel(2, y),
            scaled.get_pixel(scaled.width() - 3, y),
        );
        ensure!(
            left.0 == [255, 0, 0, 255] && right.0 == [0, 0, 255, 255],
            "it was red on the left and blue on the right, and is {left:?} and {right:?}"
        );
    }
    drop(lab);
    Ok(())
}

async fn a_picture_that_is_none_fails_for_good(lab: Lab) -> Outcome {
    lab.promise("a picture that cannot be read, or a size that cannot be made, is a permanent failure: another attempt would end the same way");
    let bad = [
        json!({"width": 10}),
        json!("a text"),
        json!({"image": "%%%", "width": 10}),
        payload(b"no picture at all", 10),
        payload(&picture(10, 10), 0),
        payload(&picture(10, 10), 100_000),
    ];
    for payload in bad {
        let shown = payload.to_string();
        let (context, _progress, _cancelled) = context(payload);
        match resize(context).await {
            Err(Failed::Permanent(_)) => {}
            Err(Failed::Retry(why)) => fail!("{shown} is to be tried again: {why}"),
            Ok(result) => fail!("{shown} gave {result}"),
        }
    }
    drop(lab);
    Ok(())
}

async fn scaling_holds_up_nobody(lab: Lab) -> Outcome {
    lab.promise("`resize` works on a thread where it may block: what else runs on the runtime goes on meanwhile");
    // This very thread is the only one of its runtime.
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = ticks.clone();
    let payload = payload(&picture(3000, 3000), 2500);
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::infrastructure(format!("no runtime: {error}")))?;
        runtime.block_on(async {
            let (context, _progress, _cancelled) = context(payload);
            let ticking = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            };
            tokio::select! {
                done = resize(context) => done.map(drop).map_err(|failure| {
                    Failure::observed(format!("`resize` failed: {failure}"))
                }),
                () = ticking => Ok(()),
            }
        })
    });
    let joined = tokio::task::spawn_blocking(move || ended.join()).await?;
    joined.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Failure::observed(text.unwrap_or_else(|| "`resize` panicked".to_owned()))
    })??;
    let ticks = ticks.load(Ordering::SeqCst);
    drop(lab);
    ensure!(
        ticks >= 10,
        "TQ12",
        "while a picture of nine million pixels was scaled, a timer of 5 ms on the same runtime rang {ticks} times: the work is done on the runtime's own thread, and everybody else waits"
    );
    Ok(())
}

async fn scaling_tells_how_far_it_is_and_stops(lab: Lab) -> Outcome {
    lab.promise("`resize` passes its progress on, and stops soon after it was cancelled");
    let (context, mut progress, cancelled) = context(payload(&picture(2000, 2000), 1500));
    let scaling = tokio::spawn(resize(context));
    let limit = lab.deadline();
    let first = async {
        progress
            .wait_for(|percent| *percent > 0)
            .await
            .map(|it| *it)
    };
    let first = match tokio::time::timeout(limit, first).await {
        Ok(Ok(percent)) => percent,
        _ => fail!("`resize` ended, or took {limit:.0?}, without a word about its progress"),
    };
    ensure!(
        first < 100,
        "the first that was told of the progress is {first} percent"
    );
    cancelled.cancel();
    let ended = tokio::time::timeout(limit, scaling).await;
    let Ok(ended) = ended else {
        fail!("`resize` was cancelled at {first} percent, and still works {limit:.0?} later");
    };
    let last = *progress.borrow();
    match ended? {
        Err(_) if last < 95 => Ok(()),
        Err(failure) => {
            fail!("`resize` was cancelled at {first} percent, and went on to {last}: {failure}")
        }
        Ok(_) => fail!("`resize` was cancelled at {first} percent, and did all of the work"),
    }
}
