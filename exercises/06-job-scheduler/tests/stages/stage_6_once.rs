//! Stage 6: however often a run comes, it has one effect, and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use job_scheduler::{
    Applied, CancellationToken, Error, Ledger, Run, ServiceOptions, ServiceReport, serve,
};
use lab::crash::{Crash, Point, walk};
use lab::faults::{Action, amqp};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::BasicProperties;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::board::{Board, LONG, a_run, at};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_run_has_one_effect_however_often_it_is_applied,
        of_many_that_apply_a_run_at_once_one_does,
        the_mark_and_the_effect_are_one_step,
        a_mark_lasts_as_long_as_it_was_to,
        a_run_is_worked_and_answered,
        the_answer_goes_where_the_message_says,
        a_run_that_comes_again_is_answered_again_with_the_same,
        a_failure_or_a_panic_is_answered_and_has_no_effect,
        a_run_is_acknowledged_after_its_answer_is_stored,
        a_service_killed_after_the_effect_answers_when_the_run_comes_again,
        what_is_stale_is_forgotten,
        a_run_overtaken_while_it_is_worked_has_no_effect,
        what_is_no_run_is_thrown_away,
        runs_are_worked_side_by_side_and_no_more_than_asked,
        a_service_says_that_it_is_there,
        a_service_goes_on_after_lost_connections,
        a_service_waits_for_redis,
        at_a_stop_what_runs_is_finished_and_the_rest_goes_back,
        a_service_without_redis_stops_too,
    ]
}

/// A service that runs in this process.
struct Serving {
    lab: Lab,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<ServiceReport, Error>>>,
    _board: Board,
}

impl Serving {
    async fn stop(mut self) -> Result<ServiceReport, Failure> {
        self.stop.cancel();
        let Some(task) = self.task.take() else {
            return Err(Failure::infrastructure("it was stopped before"));
        };
        match tokio::time::timeout(self.lab.deadline(), task).await {
            Ok(ended) => Ok(ended.map_err(|error| {
                Failure::observed(format!("`serve` did not return: {error}"))
            })??),
            Err(_) => Err(Failure::observed(format!(
                "`serve` had not returned {:.0?} after its stop",
                self.lab.deadline()
            ))),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

fn options(board: &Board, concurrency: u16) -> ServiceOptions {
    ServiceOptions {
        names: board.names.clone(),
        concurrency,
        keep: LONG,
        ..ServiceOptions::new("mail", board.redis.url(), board.rabbit.url())
    }
}

/// What a handler saw and may do.
#[derive(Clone)]
struct Desk {
    runs: Arc<std::sync::Mutex<Vec<Run>>>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// With a permit for each handler that may end.
    gate: Arc<Semaphore>,
}

impl Desk {
    /// Where every handler ends at once.
    fn open() -> Desk {
        Desk::with(1_000_000)
    }

    fn with(permits: usize) -> Desk {
        Desk {
            runs: Arc::default(),
            running: Arc::default(),
            most: Arc::default(),
            gate: Arc::new(Semaphore::new(permits)),
        }
    }

    fn seen(&self) -> Vec<Run> {
        self.runs.lock().expect("the runs").clone()
    }

    async fn work(self, run: Run) -> Result<Value, String> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.runs.lock().expect("the runs").push(run.clone());
        let permit = self
            .gate
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        permit.forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        match run.payload["does"].as_str() {
            Some("panic") => panic!("as it was told"),
            Some("fail") => Err(format!("attempt {} fails", run.attempt)),
            _ => Ok(json!({"done": run.job, "by": running})),
        }
    }
}

fn serving(board: &Board, concurrency: u16, desk: &Desk) -> Serving {
    let stop = CancellationToken::new();
    let desk = desk.clone();
    let handler = move |run: Run| desk.clone().work(run);
    Serving {
        lab: board.lab.clone(),
        task: Some(tokio::spawn(serve(
            options(board, concurrency),
            handler,
            stop.clone(),
        ))),
        stop,
        _board: board.clone(),
    }
}

async fn ledger(board: &Board) -> Result<Ledger, Failure> {
    Ok(Ledger::connect(&board.redis.url(), &board.names, LONG).await?)
}

async fn a_run_has_one_effect_however_often_it_is_applied(lab: Lab) -> Outcome {
    lab.promise("a run that had its effect has none again: what is said then is the result of the first time, also to another attempt and to any token");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    let first = json!({"n": 1, "list": [], "text": "ü\"\n"});
    ledger.apply(&a_run("job", 0, 5), &first).await?;
    for (attempt, token) in [(1, 5), (2, 5), (1, 9), (1, 2)] {
        let run = Run {
            attempt,
            ..a_run("job", 0, token)
        };
        let applied = ledger.apply(&run, &json!("another")).await?;
        ensure!(
            applied == Applied::Before(first.clone()),
            "JS18",
            "the run had had its effect; attempt {attempt} with the token {token}: {applied:?}"
        );
        let looked = ledger.look(&run).await?;
        ensure!(
            looked == Some(Applied::Before(first.clone())),
            "JS18",
            "the run had had its effect; `look` says {looked:?}"
        );
    }
    // Another time of the same job is another run.
    ensure!(
        ledger.apply(&a_run("job", 1, 5), &json!(1)).await? == Applied::Now,
        "another time of the job was taken for the same run"
    );
    let effects = board.effects().await?.len();
    ensure!(effects == 2, "JS18", "two runs, and {effects} effects");
    Ok(())
}

async fn of_many_that_apply_a_run_at_once_one_does(lab: Lab) -> Outcome {
    lab.promise(
        "of many that apply a run at the same moment one does, and the others are told its result",
    );
    let board = Board::new(&lab).await?;
    let ledgers = join_all((0..8).map(|_| ledger(&board))).await;
    let ledgers = ledgers.into_iter().collect::<Result<Vec<_>, _>>()?;
    for round in 0..20 {
        let applying = ledgers.iter().enumerate().map(|(n, ledger)| async move {
            let run = a_run("job", round, 1);
            ledger
                .apply(&run, &json!(n))
                .await
                .map(|applied| (n, applied))
        });
        let mut now = Vec::new();
        let mut before = Vec::new();
        for applied in join_all(applying).await {
            match applied? {
                (n, Applied::Now) => now.push(json!(n)),
                (_, Applied::Before(result)) => before.push(result),
                (_, Applied::Stale) => {
                    fail!("a run was refused as stale, with the one token there is")
                }
            }
        }
        ensure!(
            now.len() == 1 && before.iter().all(|result| *result == now[0]),
            "JS18",
            "of eight that applied a run at once {now:?} did, and the others were told {before:?}"
        );
    }
    let effects = board.effects().await?.len();
    ensure!(effects == 20, "JS18", "twenty runs, and {effects} effects");
    Ok(())
}

async fn applying_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    ledger.apply(&a_run("before", 0, 1), &json!(1)).await?;
    let fault = point.arm(&board.redis);
    let run = a_run("job", 0, 1);
    let outcome = ledger.apply(&run, &json!("first")).await;
    let struck = !fault.disarm();
    let blame = point.blame(&board.redis);
    let is_there = board.effects().await?.len() == 2;
    let again = ledger.apply(&run, &json!("second")).await?;
    let right = match is_there {
        true => Applied::Before(json!("first")),
        false => Applied::Now,
    };
    ensure!(
        again == right && board.effects().await?.len() == 2,
        "JS18",
        "{blame}: the first try returned {outcome:?} and its effect is {}; the second returned {again:?}, and there are {} effects of this run",
        if is_there { "there" } else { "missing" },
        board.effects().await?.len() - 1
    );
    Ok(struck)
}

async fn the_mark_and_the_effect_are_one_step(lab: Lab) -> Outcome {
    lab.promise(
        "wherever the connection is cut, asking again makes one effect, and not two and not none",
    );
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| applying_once(walking.clone(), point),
    )
    .await
}

async fn a_mark_lasts_as_long_as_it_was_to(lab: Lab) -> Outcome {
    lab.promise("that a run had its effect is remembered for `keep`, and not for ever");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    let run = a_run("job", 0, 1);
    ledger.apply(&run, &json!(1)).await?;
    let left: i64 = redis::cmd("PTTL")
        .arg(board.names.done(&run.id()))
        .query_async(&mut board.direct().await?)
        .await?;
    ensure!(
        left > LONG.as_millis() as i64 - 60_000 && left <= LONG.as_millis() as i64,
        "the mark `{}` is to last {LONG:?}; Redis says {left} ms (-1 is for ever, -2 is that there is none)",
        board.names.done(&run.id())
    );
    Ok(())
}

async fn a_run_is_worked_and_answered(lab: Lab) -> Outcome {
    lab.promise("a run is given to the handler as it was published, has its effect, and its result is answered: persistent, mandatory, with the correlation id of the message");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::open();
    let service = serving(&board, 2, &desk);
    let run = Run {
        attempt: 2,
        payload: json!({"to": "ada", "deep": {"list": [1, null]}}),
        ..a_run("job", 1_500, 7)
    };
    board.publish("mail", &run).await?;
    let (reply, taken) = board.next_reply().await?;
    let wanted = json!({"job": "job", "scheduled_for": "2027-01-15T08:00:01.500Z", "attempt": 2, "ok": true, "result": {"done": "job", "by": 1}, "error": null});
    ensure!(
        json!(reply) == wanted,
        "the answer is {}, and was to be {wanted}",
        json!(reply)
    );
    ensure!(
        taken.message.is_persistent(),
        "JS16",
        "the answer is not persistent"
    );
    let id = taken.message.properties.correlation_id().as_ref();
    ensure!(
        id.is_some_and(|id| id.as_str() == run.id()),
        "the message had the correlation id `{}`, the answer has {id:?}",
        run.id()
    );
    let seen = desk.seen();
    ensure!(
        seen == [run.clone()],
        "published was {run:?}; the handler was given {seen:?}"
    );
    let effects = board.effects().await?;
    ensure!(
        effects.len() == 1 && effects[0].get("token").map(String::as_str) == Some("7"),
        "one run was worked, and the effects are {effects:?}"
    );
    let is_mandatory = board.rabbit.proxy().with_log(|log| {
        let mut published = log.iter().filter_map(|frame| frame.publish());
        published.all(|(publish, _)| publish.mandatory)
    });
    ensure!(is_mandatory, "the answer was not mandatory");
    let report = service.stop().await?;
    ensure!(
        report.applied == 1,
        "one run was applied; the service says {report:?}"
    );
    Ok(())
}

async fn the_answer_goes_where_the_message_says(lab: Lab) -> Outcome {
    lab.promise("the answer goes to the queue that the message names as reply-to, and without one to `P.replies`; a message without any properties is worked too");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    board.plays("elsewhere").await?;
    let desk = Desk::open();
    let service = serving(&board, 2, &desk);
    let elsewhere = board.names.queue("elsewhere");
    let properties = BasicProperties::default().with_reply_to(elsewhere.as_str().into());
    board
        .publish_with("mail", properties, &a_run("one", 0, 1).body())
        .await?;
    lab.eventually("the answer in the queue that the message named", || {
        board.rabbit.take(&elsewhere)
    })
    .await?;
    // From another language: only what has to be there.
    let bare = json!({"job": "two", "scheduled_for": "2026-03-29T03:00:00+02:00", "token": 1, "attempt": 1});
    board
        .publish_with(
            "mail",
            BasicProperties::default(),
            bare.to_string().as_bytes(),
        )
        .await?;
    let (reply, _) = board.next_reply().await?;
    ensure!(reply.job == "two" && reply.ok, "the answer is {reply:?}");
    service.stop().await?;
    Ok(())
}

async fn a_run_that_comes_again_is_answered_again_with_the_same(lab: Lab) -> Outcome {
    lab.promise("a run that had its effect and comes again is not worked again, and is answered with the same result: the first answer may have been lost");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    let mut answers = Vec::new();
    for token in [3, 3, 5] {
        board.publish("mail", &a_run("job", 0, token)).await?;
        answers.push(board.next_reply().await?.0);
    }
    ensure!(
        answers.iter().all(|answer| *answer == answers[0]) && answers[0].ok,
        "a run came three times, and was answered with {answers:?}"
    );
    let (seen, effects) = (desk.seen().len(), board.effects().await?.len());
    ensure!(
        effects == 1,
        "JS18",
        "a run came three times, and had {effects} effects"
    );
    ensure!(
        seen == 1,
        "a run that had its effect was worked again: {seen} times in all"
    );
    let report = service.stop().await?;
    ensure!(
        report.applied == 1 && report.repeated == 2,
        "of three deliveries of one run the service says {report:?}"
    );
    Ok(())
}

async fn a_failure_or_a_panic_is_answered_and_has_no_effect(lab: Lab) -> Outcome {
    lab.promise("a handler that fails or panics has no effect, is answered with the reason, and the next attempt is worked; a panic disturbs no other run");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    for does in ["fail", "panic"] {
        let run = |attempt: u32, does: &str| Run {
            attempt,
            payload: json!({"does": does}),
            ..a_run(&format!("job-{does}"), 0, 1)
        };
        for attempt in 1..=2 {
            board.publish("mail", &run(attempt, does)).await?;
            let (reply, _) = board.next_reply().await?;
            let has_reason = reply.error.as_ref().is_some_and(|error| !error.is_empty());
            ensure!(
                !reply.ok && has_reason && reply.attempt == attempt,
                "attempt {attempt}, whose handler was to {does}, was answered with {reply:?}"
            );
        }
        let effects = board.effects().await?;
        ensure!(
            effects.iter().all(|effect| !effect["job"].contains(does)),
            "a handler that was to {does} has had an effect: {effects:?}"
        );
        board.publish("mail", &run(3, "work")).await?;
        let (reply, _) = board.next_reply().await?;
        ensure!(
            reply.ok && reply.attempt == 3,
            "attempt 3 was to succeed, and was answered with {reply:?}"
        );
    }
    let report = service.stop().await?;
    ensure!(
        report.failed == 4,
        "four attempts failed; the service says {report:?}"
    );
    let left = board.rabbit.ready(&board.names.queue("mail")).await?;
    ensure!(left == 0, "{left} deliveries are left in the queue");
    Ok(())
}

async fn a_run_is_acknowledged_after_its_answer_is_stored(lab: Lab) -> Outcome {
    lab.promise("a delivery is acknowledged when its answer is confirmed, and not before; if the answer cannot be stored, the run comes again");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let proxy = board.rabbit.proxy();
    let fault = proxy.arm(amqp::Trigger::reply(amqp::Frame::is_confirm), Action::Hold);
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    board.publish("mail", &a_run("job", 0, 1)).await?;
    lab.eventually("the answer to be published with a confirm", || async {
        Ok(fault.has_fired().then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        proxy.count(amqp::Frame::is_ack) == 0,
        "JS12",
        "the run was acknowledged before its answer was confirmed: if the answer is lost, nobody asks for it again"
    );
    // It never will be.
    proxy.cut_all();
    board.next_reply().await?;
    lab.eventually("the run to come again and be acknowledged", || async {
        let queue = board.rabbit.queue(&board.names.queue("mail")).await?;
        let acked = proxy.count(amqp::Frame::is_ack) > 0;
        Ok((acked && queue.is_some()).then_some(()))
    })
    .await?;
    let effects = board.effects().await?.len();
    ensure!(effects == 1, "JS18", "one run, and {effects} effects");
    service.stop().await?;
    Ok(())
}

async fn a_service_killed_after_the_effect_answers_when_the_run_comes_again(lab: Lab) -> Outcome {
    lab.promise("a service that was killed between its effect and its answer, or between its answer and the acknowledgement, has one effect; whoever gets the run again answers");
    for before_answer in [true, false] {
        let board = Board::new(&lab).await?;
        board.plays("mail").await?;
        let place = board.elsewhere().await?;
        let trigger = match before_answer {
            true => amqp::Trigger::request(amqp::Frame::is_publish),
            false => amqp::Trigger::reply(amqp::Frame::is_confirm),
        };
        let fault = place.rabbit.proxy().arm(trigger, Action::Hold);
        let first = place.service_process("mail", &[])?;
        let run = a_run("job", 0, 1);
        board.publish("mail", &run).await?;
        lab.eventually("the service to answer", || async {
            Ok(fault.has_fired().then_some(()))
        })
        .await?;
        first.kill();
        first.wait().await?;
        let desk = Desk::open();
        let second = serving(&board, 1, &desk);
        let (reply, _) = board.next_reply().await?;
        ensure!(
            reply.ok && reply.id() == run.id(),
            "the answer to {} is {reply:?}",
            run.id()
        );
        let effects = board.effects().await?.len();
        ensure!(
            effects == 1,
            "JS18",
            "the service was killed {} its answer; the run came again, and has {effects} effects",
            if before_answer { "before" } else { "after" }
        );
        second.stop().await?;
    }
    Ok(())
}

async fn what_is_stale_is_forgotten(lab: Lab) -> Outcome {
    lab.promise(
        "a run whose token is too old is not worked and not answered; it is acknowledged, and gone",
    );
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    ledger(&board)
        .await?
        .apply(&a_run("job", 9, 8), &json!(1))
        .await?;
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    board.publish("mail", &a_run("job", 0, 7)).await?;
    board.publish("mail", &a_run("job", 1, 8)).await?;
    let (reply, _) = board.next_reply().await?;
    ensure!(
        reply.scheduled_for == at(1),
        "JS17",
        "token 8 had written for the job; a run with token 7 was answered: {reply:?}"
    );
    let report = service.stop().await?;
    let seen = desk.seen().len();
    ensure!(
        report.stale == 1 && seen == 1,
        "one of two runs was stale; {seen} were worked, and the service says {report:?}"
    );
    let left = board.rabbit.ready(&board.names.queue("mail")).await?;
    ensure!(left == 0, "{left} deliveries are left in the queue");
    let replies = board.rabbit.ready(&board.names.replies()).await?;
    ensure!(replies == 0, "the stale run was answered");
    Ok(())
}

async fn a_run_overtaken_while_it_is_worked_has_no_effect(lab: Lab) -> Outcome {
    lab.promise(
        "a run whose token is overtaken while its handler works has no effect and no answer",
    );
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::with(0);
    let service = serving(&board, 1, &desk);
    board.publish("mail", &a_run("job", 0, 5)).await?;
    lab.eventually("the handler to begin", || async {
        Ok((desk.seen().len() == 1).then_some(()))
    })
    .await?;
    ledger(&board)
        .await?
        .apply(&a_run("job", 1, 6), &json!(1))
        .await?;
    desk.gate.add_permits(100);
    board.publish("mail", &a_run("job", 2, 6)).await?;
    let (reply, _) = board.next_reply().await?;
    let effects = board.effects().await?;
    let times: Vec<_> = effects
        .iter()
        .map(|effect| effect["scheduled_for"].clone())
        .collect();
    ensure!(
        reply.scheduled_for == at(2) && effects.len() == 2,
        "JS03",
        "the run for 0 ms has the token 5, and 6 had written meanwhile; answered was that for {}, and effects are there for {times:?}",
        reply.scheduled_for
    );
    service.stop().await?;
    Ok(())
}

async fn what_is_no_run_is_thrown_away(lab: Lab) -> Outcome {
    lab.promise("a message that is no run is thrown away, and the runs after it are worked");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    for body in [
        "",
        "not JSON",
        "[1]",
        "{}",
        "{\"job\":\"x\",\"scheduled_for\":\"soon\",\"token\":1,\"attempt\":1}",
        "{\"job\":\"x\",\"scheduled_for\":\"2026-03-29T01:00:00Z\",\"token\":-1,\"attempt\":1}",
    ] {
        board
            .publish_with("mail", BasicProperties::default(), body.as_bytes())
            .await?;
    }
    board.publish("mail", &a_run("job", 0, 1)).await?;
    let (reply, _) = board.next_reply().await?;
    ensure!(reply.job == "job", "the answer is {reply:?}");
    service.stop().await?;
    let left = board.rabbit.ready(&board.names.queue("mail")).await?;
    ensure!(left == 0, "{left} deliveries are left in the queue");
    Ok(())
}

async fn runs_are_worked_side_by_side_and_no_more_than_asked(lab: Lab) -> Outcome {
    lab.promise("as many runs are worked side by side as `concurrency` says, and no more; no more are delivered to a service than that");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::with(0);
    let service = serving(&board, 3, &desk);
    for n in 0..12 {
        board
            .publish("mail", &a_run(&format!("job-{n}"), n, 1))
            .await?;
    }
    lab.eventually("three runs to be worked side by side", || async {
        Ok((desk.running.load(Ordering::SeqCst) == 3).then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    desk.gate.add_permits(1_000);
    for _ in 0..12 {
        board.next_reply().await?;
    }
    let most = desk.most.load(Ordering::SeqCst);
    ensure!(
        most == 3,
        "three may be worked side by side, and {most} were"
    );
    let queue = board.names.queue("mail");
    let unacked = board
        .rabbit
        .proxy()
        .with_log(|log| amqp::most_unacked(log, &queue));
    ensure!(
        unacked <= 3,
        "three may be worked side by side, and {unacked} were delivered and not acknowledged"
    );
    service.stop().await?;
    Ok(())
}

async fn a_service_says_that_it_is_there(lab: Lab) -> Outcome {
    lab.promise("a service makes itself known when it starts: jobs may name it from then on, and its queue is there");
    let board = Board::new(&lab).await?;
    let desk = Desk::open();
    let service = serving(&board, 1, &desk);
    lab.eventually("the service to be known", || async {
        let known: bool = redis::cmd("SISMEMBER")
            .arg(board.names.services())
            .arg("mail")
            .query_async(&mut board.direct().await?)
            .await?;
        let queue = board.rabbit.queue(&board.names.queue("mail")).await?;
        Ok((known && queue.is_some_and(|queue| queue.consumers > 0)).then_some(()))
    })
    .await?;
    service.stop().await?;
    let bad = ServiceOptions {
        names: board.names.clone(),
        ..ServiceOptions::new("no name", board.redis.url(), board.rabbit.url())
    };
    match serve(bad, |_| async { Ok(json!(1)) }, CancellationToken::new()).await {
        Err(Error::BadJob { .. }) => Ok(()),
        other => fail!("a service called `no name` was to be refused: {other:?}"),
    }
}

async fn a_service_goes_on_after_lost_connections(lab: Lab) -> Outcome {
    lab.promise("a service goes on after its connections were cut; what was under way comes again and has one effect");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let place = board.elsewhere().await?;
    let desk = Desk::open();
    let service = serving(&place, 2, &desk);
    // Until it has started, a lost connection is an error.
    lab.eventually("the service to have started", || async {
        let queue = board.rabbit.queue(&board.names.queue("mail")).await?;
        Ok(queue.is_some_and(|queue| queue.consumers > 0).then_some(()))
    })
    .await?;
    for round in 0..6 {
        let run = a_run("job", round, 1);
        board.publish("mail", &run).await?;
        match round % 3 {
            0 => place.rabbit.proxy().cut_all(),
            1 => place.redis.proxy().cut_all(),
            _ => {}
        }
        loop {
            let (reply, _) = board.next_reply().await?;
            if reply.id() == run.id() {
                break;
            }
        }
    }
    let effects = board.effects().await?.len();
    ensure!(effects == 6, "JS18", "six runs, and {effects} effects");
    service.stop().await?;
    Ok(())
}

async fn a_service_waits_for_redis(lab: Lab) -> Outcome {
    lab.promise("while Redis is away nothing is acknowledged and nothing is lost; when it is there again the run is worked, once");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let place = board.elsewhere().await?;
    let desk = Desk::with(0);
    let service = serving(&place, 1, &desk);
    board.publish("mail", &a_run("job", 0, 1)).await?;
    lab.eventually("the handler to begin", || async {
        Ok((desk.seen().len() == 1).then_some(()))
    })
    .await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    desk.gate.add_permits(100);
    lab.within(Duration::from_millis(500)).await;
    ensure!(
        place.rabbit.proxy().count(amqp::Frame::is_ack) == 0,
        "JS12",
        "Redis is away, and the run was acknowledged"
    );
    place.redis.proxy().refuse(false);
    let (reply, _) = board.next_reply().await?;
    ensure!(
        reply.ok,
        "Redis is there again, and the answer is {reply:?}"
    );
    let effects = board.effects().await?.len();
    ensure!(effects == 1, "one run, and {effects} effects");
    service.stop().await?;
    Ok(())
}

async fn at_a_stop_what_runs_is_finished_and_the_rest_goes_back(lab: Lab) -> Outcome {
    lab.promise("at a stop what runs is finished and answered, and what has not begun is in the queue again");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let desk = Desk::with(0);
    let service = serving(&board, 1, &desk);
    for n in 0..4 {
        board
            .publish("mail", &a_run(&format!("job-{n}"), n, 1))
            .await?;
    }
    lab.eventually("the handler to begin", || async {
        Ok((desk.seen().len() == 1).then_some(()))
    })
    .await?;
    service.stop.cancel();
    lab.within(Duration::from_millis(200)).await;
    desk.gate.add_permits(1_000);
    let report = service.stop().await?;
    let (seen, effects) = (desk.seen().len(), board.effects().await?.len());
    ensure!(
        seen == 1 && effects == 1 && report.applied == 1,
        "one run was under way at the stop; {seen} were worked, {effects} had an effect, the service says {report:?}"
    );
    board.next_reply().await?;
    let queue = board.names.queue("mail");
    lab.eventually("the other three to be in the queue again", || async {
        Ok((board.rabbit.ready(&queue).await? == 3).then_some(()))
    })
    .await
}

async fn a_service_without_redis_stops_too(lab: Lab) -> Outcome {
    lab.promise("a service that is asked to stop while Redis is away stops all the same, within some seconds; what it could not tell Redis is in the queue again");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let place = board.elsewhere().await?;
    let desk = Desk::with(0);
    let service = serving(&place, 1, &desk);
    board.publish("mail", &a_run("job", 0, 1)).await?;
    lab.eventually("the handler to begin", || async {
        Ok((desk.seen().len() == 1).then_some(()))
    })
    .await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    desk.gate.add_permits(100);
    service.stop().await?;
    let queue = board.names.queue("mail");
    lab.eventually("the run to be in the queue again", || async {
        Ok((board.rabbit.ready(&queue).await? == 1).then_some(()))
    })
    .await?;
    ensure!(
        board.effects().await?.is_empty(),
        "Redis was away, and there is an effect"
    );
    Ok(())
}
