//! Stage 7, continued: processes die, connections break, and no event is lost or overtaken.

use std::time::Duration;

use event_bus::{BoxError, Follow};
use lab::{Check, Failure, Lab, Outcome, Service, ensure};
use nix::sys::signal::Signal;

use crate::stored::{Follower, Journal, n_of, no_gap, some, until_loaded, while_it_moves};
use lab::crash::{Crash, Point, walk};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_killed_subscriber_goes_on_where_it_was.limit_secs(180),
        a_lost_connection_leaves_no_gap.limit_secs(180),
        setting_aside_is_one_step.limit_secs(180),
        redis_may_start_again,
        a_long_outage_ends_no_follower,
        a_paused_subscriber_misses_nothing,
        a_blocking_read_has_its_own_connection,
        the_service_prints_an_event_before_it_is_acknowledged,
        the_service_publishes_and_subscribes,
    ]
}

/// The numbers of the events that a subscriber has printed.
fn printed(service: &Service) -> Vec<u64> {
    let lines = service.json_lines();
    let number = |line: &serde_json::Value| line["data"]["n"].as_u64().unwrap_or_default();
    lines.iter().map(number).collect()
}

/// Waits until everything in the log is acknowledged, or the fault has struck.
async fn until_done_or(
    journal: &Journal,
    fault: Option<&lab::faults::Fault>,
) -> Result<bool, Failure> {
    let what = "every event to be acknowledged";
    while_it_moves(
        &journal.lab,
        what,
        || journal.place(),
        || async {
            if fault.is_some_and(lab::faults::Fault::has_fired) {
                return Ok(Some(true));
            }
            Ok(journal.is_done().await?.then_some(false))
        },
    )
    .await
}

async fn a_killed_subscriber_goes_on_where_it_was(lab: Lab) -> Outcome {
    lab.promise("A subscriber that is killed at any moment goes on where it was: after its next start no event is missing and none is overtaken. At most the one that it had in hand comes again.");
    let (walking, crashes) = (lab.clone(), [Crash::KillBefore, Crash::KillAfter]);
    walk(&lab, &crashes, 48, move |point| {
        killed_subscriber(walking.clone(), point)
    })
    .await
}

async fn killed_subscriber(lab: Lab, point: Point) -> Result<bool, Failure> {
    const ALL: u64 = 4;
    let journal = Journal::new(&lab).await?;
    journal.put(1, ALL).await?;
    let fault = point.arm(&journal.redis);
    let first = journal.subscriber(&[])?;
    if !until_done_or(&journal, Some(&fault)).await? && fault.disarm() {
        no_gap(&[printed(&first)], ALL, 0, None)?;
        return Ok(false);
    }
    first.kill();
    first.wait().await?;
    lab.history().fault(&journal.group, "SIGKILL");
    point.after_the_kill(&fault);
    let again = journal.through_another_proxy().await?;
    let second = again.subscriber(&[])?;
    let outcome = until_done_or(&again, None).await;
    second.terminate();
    second.wait().await?;
    let lives = [printed(&first), printed(&second)];
    let acknowledged_early = lives[1].first().is_some_and(|n| {
        let last = lives[0].last().copied().unwrap_or(0);
        *n > last + 1
    });
    let code = match acknowledged_early {
        true => Some("EB15"),
        false => outcome.is_err().then_some("EB17"),
    };
    no_gap(&lives, ALL, 1, code).map_err(|failure| failure.also(point.blame(&journal.redis)))?;
    outcome.map(|_| true)
}

async fn a_lost_connection_leaves_no_gap(lab: Lab) -> Outcome {
    lab.promise("Whichever command loses its connection, before it arrives or before its answer does: the follower connects again by itself, and no event is missing or overtaken.");
    let (walking, crashes) = (lab.clone(), [Crash::CutBefore, Crash::CutAfter]);
    walk(&lab, &crashes, 48, move |point| {
        lost_connection(walking.clone(), point)
    })
    .await
}

async fn lost_connection(lab: Lab, point: Point) -> Result<bool, Failure> {
    const ALL: u64 = 5;
    let journal = Journal::new(&lab).await?;
    journal.put(1, ALL).await?;
    let fault = point.arm(&journal.redis);
    let follower = journal.follower(Follow {
        batch: 3,
        ..journal.options()
    });
    let outcome = journal
        .until("every event to be acknowledged", &follower, || {
            journal.is_done()
        })
        .await;
    let struck = !fault.disarm();
    let seen = follower.seen.ns();
    // Connecting itself may fail when the very first commands are lost.
    let at_the_start = struck && seen.is_empty() && follower.task.is_finished();
    if at_the_start {
        return connects_or_says_so(follower, point).await;
    }
    let blamed = |failure: Failure| failure.also(point.blame(&journal.redis));
    outcome.map_err(|failure| blamed(failure.code_if(struck.then_some("EB17"))))?;
    no_gap(&[seen], ALL, usize::from(struck), "EB17").map_err(blamed)?;
    follower.finish(&lab).await?;
    Ok(struck)
}

/// A start during which the connection is lost may end with that, and with nothing else.
async fn connects_or_says_so(mut follower: Follower, point: Point) -> Result<bool, Failure> {
    match (&mut follower.task).await {
        Ok(Err(error)) if error.is_connection() => Ok(true),
        other => Err(Failure::observed(format!(
            "`follow` ended by itself with {other:?} ({:?} at command {})",
            point.crash, point.nth
        ))),
    }
}

async fn setting_aside_is_one_step(lab: Lab) -> Outcome {
    lab.promise("To set an event aside and to acknowledge it is one step: whatever happens at whichever command, the event is in the dead stream once, and nothing is pending or handled that was set aside.");
    let (walking, crashes) = (
        lab.clone(),
        [Crash::CutBefore, Crash::CutAfter, Crash::KillAfter],
    );
    walk(&lab, &crashes, 48, move |point| {
        set_aside(walking.clone(), point)
    })
    .await
}

async fn set_aside(lab: Lab, point: Point) -> Result<bool, Failure> {
    let journal = Journal::new(&lab).await?;
    journal.put(1, 2).await?;
    journal.add("*", &[("order_id", "A-1")]).await?;
    journal.put(3, 3).await?;
    let start = |journal: &Journal| {
        let options = Follow {
            attempts: 2,
            ..journal.options()
        };
        journal.follower_with(options, |stored, _times| async move {
            match n_of(&stored.event) {
                1 => Err(BoxError::from("no")),
                _ => Ok(()),
            }
        })
    };
    let fault = point.arm(&journal.redis);
    let mut follower = start(&journal);
    let blamed = |failure: Failure| failure.also(point.blame(&journal.redis));
    let cut = matches!(point.crash, Crash::CutBefore | Crash::CutAfter);
    lab.eventually("every event to be acknowledged", || async {
        let over = follower.task.is_finished() || (!cut && fault.has_fired());
        Ok((over || journal.is_done().await?).then_some(()))
    })
    .await
    .map_err(blamed)?;
    let struck = !fault.disarm();
    if struck && (!cut || follower.task.is_finished()) {
        // Killed; or cut off in its very start, which it may say.
        follower.abort().await;
        point.after_the_kill(&fault);
        let again = journal.through_another_proxy().await?;
        follower = start(&again);
        until_done_or(&again, None).await.map_err(blamed)?;
    }
    let dead: Vec<String> = journal
        .dead()
        .await?
        .iter()
        .map(|entry| match entry.text("order_id").as_str() {
            "" => format!("event {}", entry.n()),
            id => format!("entry {id}"),
        })
        .collect();
    ensure!(
        dead == ["event 1", "entry A-1"],
        "event 1 always fails and the entry A-1 is no event; `{}` holds {dead:?}; {}",
        journal.dead_stream(),
        point.blame(&journal.redis)
    );
    follower.finish(&lab).await?;
    Ok(struck)
}

async fn redis_may_start_again(lab: Lab) -> Outcome {
    lab.promise("When Redis is killed and starts again, followers go on by themselves: no event is missing, none overtaken.");
    let redis = lab.own_redis().await?;
    let journal = Journal::on(&lab, (*redis).clone());
    let log = event_bus::Log::connect(&redis.url(), &journal.log).await?;
    journal.put(1, 10).await?;
    let follower = journal.follower(journal.options());
    journal
        .until("ten events to be handled", &follower, || async {
            Ok(follower.seen.count() >= 10)
        })
        .await?;
    drop(log);
    redis.kill().await?;
    lab.history().fault("redis", "SIGKILL");
    lab.within(Duration::from_millis(300)).await;
    redis.start().await?;
    until_loaded(&lab, &redis).await?;
    journal.put(11, 15).await?;
    journal
        .until("five more events after the start", &follower, || async {
            Ok(follower.seen.ns().contains(&15) && journal.is_done().await?)
        })
        .await?;
    no_gap(&[follower.seen.ns()], 15, 1, "EB17")?;
    follower.finish(&lab).await?;
    Ok(())
}

async fn a_long_outage_ends_no_follower(lab: Lab) -> Outcome {
    lab.promise("However long Redis is away, the follower tries again, with growing pauses, and goes on where it was.");
    let journal = Journal::new(&lab).await?;
    journal.put(1, 3).await?;
    let follower = journal.follower(journal.options());
    journal
        .until("three events to be handled", &follower, || {
            journal.is_done()
        })
        .await?;
    let proxy = journal.redis.proxy();
    proxy.refuse(true);
    proxy.cut_all();
    lab.history().fault("redis", "refuses every connection");
    journal.put(4, 6).await?;
    lab.within(Duration::from_millis(2_500)).await;
    let knocked = proxy.refused();
    ensure!(
        knocked > 0 && knocked < 200,
        "in two and a half seconds without Redis the follower tried to connect {knocked} times"
    );
    proxy.refuse(false);
    journal
        .until("three more events after the outage", &follower, || {
            journal.is_done()
        })
        .await?;
    no_gap(&[follower.seen.ns()], 6, 1, "EB17")?;
    follower.finish(&lab).await?;
    Ok(())
}

async fn a_paused_subscriber_misses_nothing(lab: Lab) -> Outcome {
    lab.promise("A subscriber whose process was paused goes on as if nothing had been.");
    let journal = Journal::new(&lab).await?;
    journal.put(1, 3).await?;
    let subscriber = journal.subscriber(&[])?;
    until_done_or(&journal, None).await?;
    subscriber.pause();
    lab.history().fault(&journal.group, "SIGSTOP");
    journal.put(4, 40).await?;
    lab.within(Duration::from_millis(500)).await;
    subscriber.resume();
    until_done_or(&journal, None).await?;
    no_gap(&[printed(&subscriber)], 40, 0, None)?;
    subscriber.expect_running()
}

async fn a_blocking_read_has_its_own_connection(lab: Lab) -> Outcome {
    lab.promise("A follower waits for events with a blocking read, on a connection that nothing else is sent on.");
    let journal = Journal::new(&lab).await?;
    let follower = journal.follower(journal.options());
    for n in 1..=4 {
        lab.eventually("the follower to wait in a blocking read", || async {
            Ok(journal.redis.proxy().is_blocked().then_some(()))
        })
        .await?;
        journal.put(n, n).await?;
        journal
            .until("the event to be handled", &follower, || async {
                Ok(follower.seen.count() as u64 == n && journal.is_done().await?)
            })
            .await?;
    }
    let behind = journal.redis.proxy().while_blocked();
    ensure!(
        behind.is_empty(),
        "{} was sent on a connection on which a blocking read was waiting: it waits as long as that does",
        behind[0].name()
    );
    follower.finish(&lab).await?;
    Ok(())
}

async fn the_service_prints_an_event_before_it_is_acknowledged(lab: Lab) -> Outcome {
    lab.promise("`event-bus subscribe` prints an event, and the line is out, before the event is acknowledged.");
    let journal = Journal::new(&lab).await?;
    let id = journal.put(1, 1).await?.remove(0);
    let acknowledging = lab::faults::Trigger::request(|e| {
        e.is("XACK") || e.is("EVAL") || e.is("EVALSHA") || e.is("FCALL")
    });
    let held = journal
        .redis
        .proxy()
        .arm(acknowledging, lab::faults::Action::Hold);
    let subscriber = journal.subscriber(&[])?;
    lab.eventually("an acknowledgement to be sent", || async {
        subscriber.expect_running()?;
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    let line = subscriber.next_json().await.map_err(|failure| {
        failure
            .code_if("EB15")
            .also("its acknowledgement is on the way already")
    })?;
    ensure!(
        line["id"] == id.as_str() && line["data"]["n"] == 1,
        "the log holds event {id}; printed was {line}"
    );
    held.release();
    until_done_or(&journal, None).await?;
    Ok(())
}

async fn the_service_publishes_and_subscribes(lab: Lab) -> Outcome {
    lab.promise("`event-bus publish` appends an event and prints its id; `event-bus subscribe` prints each event as a line `{\"id\",\"name\",\"data\",\"at\"}`, from where it is told, and ends with 0 when it is asked to.");
    let journal = Journal::new(&lab).await?;
    let url = journal.redis.url();
    let mut ids = Vec::new();
    for n in 1..=3 {
        let data = format!("{{\"n\":{n},\"text\":\"ä\"}}");
        let publishing = lab
            .service([
                "publish",
                "--redis",
                &url,
                "--log",
                &journal.log,
                "order.placed",
                &data,
            ])
            .start()?;
        let status = publishing.wait().await?;
        ensure!(
            status.success(),
            "`event-bus publish` ended with {status}: {}",
            publishing.stderr()
        );
        ids.push(publishing.lines().concat());
    }
    let stored: Vec<String> = journal.entries().await?.into_iter().map(|e| e.id).collect();
    ensure!(
        ids == stored,
        "`event-bus publish` printed {ids:?}, and the log holds {stored:?}"
    );
    for (from, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGINT)] {
        let more = ["--from", ids[from - 1].as_str()];
        let subscriber = journal.subscriber(&more)?;
        for n in from..=3 {
            let line = subscriber.next_json().await?;
            let fields: Vec<&String> = line
                .as_object()
                .map(|o| o.keys().collect())
                .unwrap_or_default();
            ensure!(
                fields == ["id", "name", "data", "at"]
                    && line["id"] == ids[n - 1].as_str()
                    && line["name"] == "order.placed"
                    && line["data"]["n"] == n,
                "event {n} ({}) was to be printed, and the line is {line}",
                ids[n - 1]
            );
        }
        until_done_or(&journal, None).await?;
        subscriber.signal(signal);
        let status = subscriber.wait().await?;
        ensure!(
            status.code() == Some(0),
            "asked to stop by {signal}, `event-bus subscribe` ended with {status}"
        );
        ensure!(
            printed(&subscriber).len() == 4 - from,
            "{} events were to be printed: {}",
            4 - from,
            some(&printed(&subscriber))
        );
    }
    Ok(())
}
