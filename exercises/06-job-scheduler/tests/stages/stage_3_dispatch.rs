//! Stage 3: from the schedule to the services and back, whatever dies in between.

use std::time::Duration;

use job_scheduler::{
    Dispatcher, Error, NewJob, Reply, Schedule, Settled, Store, declare, declare_service,
};
use lab::faults::{Action, amqp};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

use crate::board::{Board, a_run, at, claim, once, soon};

pub fn checks() -> Vec<Check> {
    lab::checks![
        what_is_declared_is_durable,
        a_queue_that_differs_is_named_and_left_alone,
        a_run_is_a_message_for_its_service,
        all_runs_go_out_before_the_first_confirm,
        a_run_that_no_queue_takes_is_known_and_the_others_are_stored,
        a_confirm_that_does_not_come_is_an_error.limit_secs(120),
        open_runs_come_in_order_with_the_token_of_the_term,
        what_was_published_rests_until_it_is_due_again,
        a_success_ends_a_run_whichever_attempt_it_is_of,
        a_failure_counts_once_and_the_last_ends_the_run,
        a_new_leader_publishes_everything_that_is_open,
        a_job_reaches_its_service_and_a_reply_ends_it,
        a_failed_attempt_is_made_again_after_a_pause,
        a_run_claimed_by_one_who_died_is_published,
        a_node_killed_around_its_publish_loses_nothing.limit_secs(180),
        a_run_nobody_answers_is_published_again,
        a_reply_that_is_none_disturbs_no_other,
        a_reply_is_acknowledged_after_it_was_dealt_with,
        a_job_added_late_is_not_slept_through,
        a_service_without_a_queue_keeps_nobody_waiting,
        a_backlog_is_worked_off_in_pages,
        lost_connections_are_opened_again,
        a_service_that_cannot_start_says_why,
    ]
}

async fn channel(board: &Board) -> Result<lapin::Channel, Failure> {
    let url = board.rabbit.url();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

fn quorum() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    table
}

async fn what_is_declared_is_durable(lab: Lab) -> Outcome {
    lab.promise("`declare` and `declare_service` make a durable topic exchange and durable quorum queues, the service's bound with its key; again, they change nothing");
    let board = Board::new(&lab).await?;
    let channel = channel(&board).await?;
    let names = &board.names;
    declare(&channel, names).await?;
    declare_service(&channel, names, "mail").await?;
    declare_service(&channel, names, "mail").await?;
    declare(&channel, names).await?;
    if let Some(why) = board
        .rabbit
        .exchange_differs(&names.exchange(), ExchangeKind::Topic)
        .await?
    {
        fail!("the exchange `{}`: {why}", names.exchange());
    }
    for queue in [names.replies(), names.queue("mail")] {
        if let Some(why) = board.rabbit.differs(&queue, quorum()).await? {
            fail!("the queue `{queue}`: {why}");
        }
    }
    let run = a_run("job", 0, 1);
    board.publish("mail", &run).await?;
    let came = board.next_run("mail").await?;
    ensure!(came.id() == run.id(), "another run came: {came:?}");
    Ok(())
}

async fn a_queue_that_differs_is_named_and_left_alone(lab: Lab) -> Outcome {
    lab.promise("a queue that is there with other arguments is `Error::Declared`, with its name; it is not deleted");
    for which in ["replies", "service"] {
        let board = Board::new(&lab).await?;
        let name = match which {
            "replies" => board.names.replies(),
            _ => board.names.queue("mail"),
        };
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel(&board)
            .await?
            .queue_declare(name.as_str().into(), durable, FieldTable::default())
            .await?;
        match declare_service(&channel(&board).await?, &board.names, "mail").await {
            Err(Error::Declared { what, .. }) if what.contains(&name) => {}
            other => {
                fail!("the queue `{name}` is there as a classic queue; declaring it: {other:?}")
            }
        }
        if let Some(why) = board.rabbit.differs(&name, FieldTable::default()).await? {
            fail!("the queue `{name}` of somebody else was changed: {why}");
        }
    }
    Ok(())
}

async fn a_run_is_a_message_for_its_service(lab: Lab) -> Outcome {
    lab.promise("a run is a persistent, mandatory message with the routing key of its service, in JSON, with its id as message id and correlation id, and the queue of replies as reply-to");
    let board = Board::new(&lab).await?;
    let mut dispatcher = Dispatcher::connect(&board.rabbit.url(), &board.names).await?;
    board.plays("mail").await?;
    let run = a_run("job", 1_500, 7);
    let outcomes = dispatcher.publish(std::slice::from_ref(&run)).await?;
    ensure!(
        matches!(outcomes[..], [Ok(())]),
        "publishing a run: {outcomes:?}"
    );
    let taken = board.next_message("mail").await?;
    let properties = &taken.message.properties;
    let text = |text: &Option<lapin::types::ShortString>| {
        text.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    ensure!(
        taken.message.is_persistent(),
        "JS16",
        "the message is not persistent"
    );
    ensure!(
        taken.routing_key == "service.mail",
        "the routing key is `{}`",
        taken.routing_key
    );
    for (what, seen, wanted) in [
        ("message id", text(properties.message_id()), run.id()),
        (
            "correlation id",
            text(properties.correlation_id()),
            run.id(),
        ),
        (
            "reply-to",
            text(properties.reply_to()),
            board.names.replies(),
        ),
        (
            "content type",
            text(properties.content_type()),
            "application/json".to_owned(),
        ),
    ] {
        ensure!(
            seen == wanted,
            "the {what} is `{seen}`, and was to be `{wanted}`"
        );
    }
    let body: Value = serde_json::from_slice(&taken.message.body)?;
    let wanted = json!({"job": "job", "scheduled_for": "2027-01-15T08:00:01.500Z", "token": 7, "attempt": 1, "payload": {"for": "job"}});
    ensure!(
        body == wanted,
        "the message is {body}, and was to be {wanted}"
    );
    let is_mandatory = board.rabbit.proxy().with_log(|log| {
        let mut published = log.iter().filter_map(|frame| frame.publish());
        published.all(|(publish, _)| publish.mandatory)
    });
    ensure!(is_mandatory, "the message was not mandatory");
    Ok(())
}

async fn all_runs_go_out_before_the_first_confirm(lab: Lab) -> Outcome {
    lab.promise("all runs of one call go out before the first confirm is waited for");
    let board = Board::new(&lab).await?;
    let mut dispatcher = Dispatcher::connect(&board.rabbit.url(), &board.names).await?;
    board.plays("mail").await?;
    let proxy = board.rabbit.proxy();
    let fault = proxy.arm(amqp::Trigger::reply(amqp::Frame::is_confirm), Action::Hold);
    let runs: Vec<_> = (0..20).map(|n| a_run("job", n, 1)).collect();
    let sent = runs.clone();
    let publishing = tokio::spawn(async move { dispatcher.publish(&sent).await });
    lab.eventually(
        "all twenty runs to go out while no confirm comes",
        || async { Ok((proxy.count(amqp::Frame::is_publish) >= 20).then_some(())) },
    )
    .await
    .map_err(|failure| {
        failure.also(format!(
            "{} went out: one confirm was waited for after the other",
            proxy.count(amqp::Frame::is_publish)
        ))
    })?;
    ensure!(
        !publishing.is_finished(),
        "JS05",
        "`publish` returned before a confirm had come"
    );
    fault.release();
    let outcomes = publishing.await??;
    ensure!(
        outcomes.len() == 20 && outcomes.iter().all(Result::is_ok),
        "twenty runs were published: {outcomes:?}"
    );
    let came: Vec<_> = board
        .drain("mail")
        .await?
        .iter()
        .map(|run| run.id())
        .collect();
    let wanted: Vec<_> = runs.iter().map(|run| run.id()).collect();
    ensure!(
        came == wanted,
        "published were {wanted:?}, and {came:?} came"
    );
    Ok(())
}

async fn a_run_that_no_queue_takes_is_known_and_the_others_are_stored(lab: Lab) -> Outcome {
    lab.promise("of many runs published together the one that no queue took is `Unroutable`, that one and no other");
    let board = Board::new(&lab).await?;
    let mut dispatcher = Dispatcher::connect(&board.rabbit.url(), &board.names).await?;
    board.plays("mail").await?;
    for round in 0..10_usize {
        let mut runs: Vec<_> = (0..30).map(|n| a_run("job", n, 1)).collect();
        let which = (round * 7) % 30;
        runs[which].service = "nobody".to_owned();
        let outcomes = dispatcher.publish(&runs).await?;
        ensure!(
            outcomes.len() == 30,
            "30 runs, and {} outcomes",
            outcomes.len()
        );
        for (n, outcome) in outcomes.iter().enumerate() {
            let is_right = match outcome {
                Ok(()) => n != which,
                Err(Error::Unroutable(_)) => n == which,
                Err(_) => false,
            };
            ensure!(
                is_right,
                "JS22",
                "of 30 runs that were published together number {which} went to a service without a queue; of number {n} it was said: {outcome:?}"
            );
        }
        let came = board.drain("mail").await?.len();
        ensure!(came == 29, "29 of 30 runs had a queue, and {came} came");
    }
    Ok(())
}

async fn a_confirm_that_does_not_come_is_an_error(lab: Lab) -> Outcome {
    lab.promise("without a confirm `publish` does not succeed: it is an error after some ten seconds, and at once when the connection is lost");
    let board = Board::new(&lab).await?;
    let mut dispatcher = Dispatcher::connect(&board.rabbit.url(), &board.names).await?;
    board.plays("mail").await?;
    let proxy = board.rabbit.proxy();
    let held = proxy.arm(amqp::Trigger::reply(amqp::Frame::is_confirm), Action::Hold);
    let runs = [a_run("job", 0, 1)];
    let published = tokio::time::timeout(lab.deadline() * 4, dispatcher.publish(&runs)).await;
    match published {
        Ok(Err(Error::Away(_))) => {}
        Ok(other) => fail!("JS05", "no confirm came, and `publish` returned {other:?}"),
        Err(_) => fail!("no confirm came, and `publish` waits for it for ever"),
    }
    ensure!(held.has_fired(), "`publish` has asked for no confirm");
    let mut dispatcher = Dispatcher::connect(&board.rabbit.url(), &board.names).await?;
    let cut = proxy.arm(
        amqp::Trigger::reply(amqp::Frame::is_confirm),
        Action::CutBefore,
    );
    let outcome = dispatcher.publish(&runs).await;
    // What it cuts ends a moment before it says so.
    lab.eventually("the cut", || async { Ok(cut.has_fired().then_some(())) })
        .await?;
    match outcome {
        Err(Error::Away(_)) => Ok(()),
        other => fail!(
            "JS05",
            "the connection was cut before the confirm: {other:?}"
        ),
    }
}

/// A store with jobs claimed, each with one run.
async fn claimed(board: &Board, token: u64, jobs: &[(&str, i64)]) -> Result<Store, Failure> {
    let store = board.store().await?;
    let term = board.term("one", token).await?;
    for (job, millis) in jobs {
        let job = NewJob {
            payload: json!({"for": job}),
            ..once(job, *millis)
        };
        store.add(&job, at(0)).await?;
        store
            .claim(
                &term,
                &[claim(&job.name, at(*millis), &[at(*millis)], None)],
                3,
            )
            .await?;
    }
    Ok(store)
}

async fn open_runs_come_in_order_with_the_token_of_the_term(lab: Lab) -> Outcome {
    lab.promise("`open` returns the runs that are to be published, `max` at most, with the token of the term that asks, and changes nothing");
    let board = Board::new(&lab).await?;
    let store = claimed(&board, 4, &[("a", 100), ("b", 200), ("c", 300)]).await?;
    let term = board.term("two", 9).await?;
    for _ in 0..2 {
        let runs = store.open(&term, at(1_000), 10).await?;
        ensure!(
            runs.len() == 3,
            "three runs are open, and `open` returned {runs:?}"
        );
        for run in &runs {
            let wanted = json!({"for": run.job});
            ensure!(
                run.token == 9
                    && run.attempt == 1
                    && run.service == "mail"
                    && run.payload == wanted,
                "the term has the token 9, the run is {run:?}"
            );
        }
    }
    let some = store.open(&term, at(1_000), 2).await?.len();
    ensure!(some == 2, "two runs were asked for, and {some} came");
    Ok(())
}

async fn what_was_published_rests_until_it_is_due_again(lab: Lab) -> Outcome {
    lab.promise("a run that was published is not among those to be published until `again`, and then it is; one that has ended, or whose next attempt waits, is left as it is");
    let board = Board::new(&lab).await?;
    let store = claimed(&board, 1, &[("a", 100), ("b", 200), ("c", 300)]).await?;
    let term = board.term("one", 1).await?;
    let runs = store.open(&term, at(1_000), 10).await?;
    let of = |job: &str| runs.iter().find(|run| run.job == job).cloned();
    let (Some(a), Some(b), Some(c)) = (of("a"), of("b"), of("c")) else {
        fail!("three runs are open, and `open` returned {runs:?}");
    };
    // A reply may be faster than the one who notes that it was published.
    store
        .settle(&Reply::new(&b, Ok(json!(1))), at(1_001), at(9_000))
        .await?;
    store
        .settle(&Reply::new(&c, Err("no".into())), at(1_001), at(3_000))
        .await?;
    store.published(&term, &[a, b, c], at(60_000)).await?;
    for (now, wanted) in [
        (2_999, vec![]),
        (3_000, vec!["c"]),
        (60_000, vec!["c", "a"]),
    ] {
        let open = store.open(&term, at(now), 10).await?;
        let jobs: Vec<_> = open.iter().map(|run| run.job.as_str()).collect();
        ensure!(
            jobs == wanted,
            "a was published and comes again at 60,000 ms, b has ended, c is tried again at 3,000 ms; at {now} ms open are {jobs:?}"
        );
    }
    let wake = store.wake_at().await?;
    ensure!(
        wake == Some(at(3_000)),
        "the next to do is at 3,000 ms, and `wake_at` says {wake:?}"
    );
    Ok(())
}

async fn a_success_ends_a_run_whichever_attempt_it_is_of(lab: Lab) -> Outcome {
    lab.promise("a success ends a run, whichever of its attempts it is of; the same reply again says the same and changes nothing; a reply for no run is nothing");
    let board = Board::new(&lab).await?;
    let store = claimed(&board, 1, &[("job", 100)]).await?;
    let first = a_run("job", 100, 1);
    let failed = Reply::new(&first, Err("no luck".into()));
    let again = store.settle(&failed, at(1_000), at(2_000)).await?;
    ensure!(
        again == Settled::Again,
        "the first failure of three: {again:?}"
    );
    let done = Reply::new(&first, Ok(json!({"sent": 3})));
    for round in 0..3 {
        let settled = store.settle(&done, at(1_500 + round), at(2_500)).await?;
        ensure!(
            settled == Settled::Ended(Ok(json!({"sent": 3}))),
            "a success of the first attempt, told {} time(s), while the second is waited for: {settled:?}",
            round + 1
        );
        ensure!(
            board.open().await?.is_empty(),
            "the run has succeeded, and is still open"
        );
    }
    let late = store.settle(&failed, at(3_000), at(4_000)).await?;
    ensure!(
        late == Settled::Ended(Ok(json!({"sent": 3}))) && board.open().await?.is_empty(),
        "a failure that comes after the success changed something: {late:?}"
    );
    let nobody = Reply::new(&a_run("nobody", 100, 1), Ok(json!(1)));
    let nothing = store.settle(&nobody, at(3_000), at(4_000)).await?;
    ensure!(
        nothing == Settled::Nothing,
        "a reply for no run: {nothing:?}"
    );
    let entries: u64 = redis::cmd("XLEN")
        .arg(board.names.history("job"))
        .query_async(&mut board.direct().await?)
        .await?;
    ensure!(
        entries == 1,
        "one run has ended, once; its history has {entries} entries"
    );
    Ok(())
}

async fn a_failure_counts_once_and_the_last_ends_the_run(lab: Lab) -> Outcome {
    lab.promise("a failure counts if it is that of the present attempt, once: the next attempt is then to be published at `again`; after the last the run has failed, with its reason");
    let board = Board::new(&lab).await?;
    let store = claimed(&board, 1, &[("job", 100)]).await?;
    let term = board.term("one", 1).await?;
    for attempt in 1..=3_u32 {
        let run = job_scheduler::Run {
            attempt,
            ..a_run("job", 100, 1)
        };
        let reply = Reply::new(&run, Err(format!("reason {attempt}")));
        let again = at(i64::from(attempt) * 10_000);
        for round in 0..2 {
            let settled = store.settle(&reply, at(1_000), again).await?;
            let wanted = match (attempt, round) {
                (3, _) => Settled::Ended(Err("reason 3".into())),
                (_, 0) => Settled::Again,
                // Told before: the present attempt is another.
                _ => Settled::Nothing,
            };
            ensure!(
                settled == wanted,
                "attempt {attempt} of 3 failed; told of it {} time(s): {settled:?}, and was to be {wanted:?}",
                round + 1
            );
        }
        if attempt < 3 {
            let early = store
                .open(&term, at(i64::from(attempt) * 10_000 - 1), 10)
                .await?;
            ensure!(early.is_empty(), "the next attempt is open before its time");
            let open = store.open(&term, again, 10).await?;
            ensure!(
                open.len() == 1 && open[0].attempt == attempt + 1,
                "after attempt {attempt} has failed open is {open:?}"
            );
        }
    }
    ensure!(
        board.open().await?.is_empty(),
        "the run has failed, and is still open"
    );
    Ok(())
}

async fn a_new_leader_publishes_everything_that_is_open(lab: Lab) -> Outcome {
    lab.promise("`take_over` makes every open run one that is to be published at once, however many there are");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    const RUNS: i64 = 450;
    store.add(&once("job", 1_000), at(0)).await?;
    let times: Vec<_> = (0..RUNS).map(at).collect();
    store
        .claim(&term, &[claim("job", at(1_000), &times, None)], 3)
        .await?;
    let runs = store.open(&term, at(1_000), 1_000).await?;
    ensure!(
        runs.len() == RUNS as usize,
        "{RUNS} runs are open, and `open` returned {}",
        runs.len()
    );
    store.published(&term, &runs, at(600_000)).await?;
    ensure!(
        store.open(&term, at(2_000), 1_000).await?.is_empty(),
        "all runs were published, and some are to be published again at once"
    );
    let term = board.term("two", 2).await?;
    store.take_over(&term).await?;
    let open = store.open(&term, at(2_000), 1_000).await?.len();
    ensure!(
        open == RUNS as usize,
        "{RUNS} runs are open, and after `take_over` {open} are to be published"
    );
    Ok(())
}

async fn a_job_reaches_its_service_and_a_reply_ends_it(lab: Lab) -> Outcome {
    lab.promise("a job that is due reaches its service as a message, and when the service has replied the run is no longer open, and stands in the history");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    let job = NewJob {
        payload: json!({"to": "ada"}),
        ..soon("job", 100)
    };
    let added = store.add(&job, job_scheduler::time::now()).await?;
    let run = board.next_run("mail").await?;
    ensure!(
        run.job == "job"
            && Some(run.scheduled_for) == added.next
            && run.payload == json!({"to": "ada"})
            && run.attempt == 1
            && run.token >= 1,
        "the job was to run at {:?}; the service was given {run:?}",
        added.next
    );
    board.reply(&run, Ok(json!("sent"))).await?;
    board.all_settled().await?;
    let entries: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg(board.names.history("job"))
        .arg(&["-", "+"])
        .query_async(&mut board.direct().await?)
        .await?;
    ensure!(
        entries.len() == 1,
        "one run has ended, and its history has {entries:?}"
    );
    let report = node.stop().await?;
    ensure!(
        report.published == 1 && report.replies == 1,
        "one run was published and one reply came; the node says {report:?}"
    );
    let more = board.drain("mail").await?;
    ensure!(more.is_empty(), "the run was published again: {more:?}");
    Ok(())
}

async fn a_failed_attempt_is_made_again_after_a_pause(lab: Lab) -> Outcome {
    lab.promise("a failed attempt is made again after its pause, with the next number; after the last the run has failed");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    store
        .add(&soon("job", 1), job_scheduler::time::now())
        .await?;
    let mut first = None;
    for attempt in 1..=3 {
        let run = board.next_run("mail").await?;
        let id = first.get_or_insert_with(|| run.id());
        ensure!(
            run.attempt == attempt && run.id() == *id,
            "attempt {attempt} of `{id}` was expected, and {run:?} came"
        );
        board.reply(&run, Err(format!("reason {attempt}"))).await?;
    }
    board.all_settled().await?;
    node.stop().await?;
    ensure!(
        board.drain("mail").await?.is_empty(),
        "a fourth attempt was made of three"
    );
    Ok(())
}

async fn a_run_claimed_by_one_who_died_is_published(lab: Lab) -> Outcome {
    lab.promise("a run that was claimed by a node that died before it could publish it, or note that it had, is published by the next");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = claimed(&board, 1, &[("claimed", 100), ("published", 200)]).await?;
    let term = board.term("one", 1).await?;
    let published: Vec<_> = store
        .open(&term, at(1_000), 10)
        .await?
        .into_iter()
        .filter(|run| run.job == "published")
        .collect();
    store
        .published(&term, &published, at(86_400_000 * 3_650))
        .await?;
    // It died: its lease ends.
    let _: u64 = redis::cmd("DEL")
        .arg(board.names.leader())
        .query_async(&mut board.direct().await?)
        .await?;
    let node = board.node("two");
    let mut came = Vec::new();
    for _ in 0..2 {
        let run = board.next_run("mail").await;
        came.push(run.map_err(|failure| failure.code("JS21"))?);
    }
    came.sort_by_key(|run| run.scheduled_for);
    let jobs: Vec<_> = came.iter().map(|run| run.job.as_str()).collect();
    ensure!(
        jobs == ["claimed", "published"],
        "JS21",
        "both runs were open, and {jobs:?} came: what the last leader published may never be answered"
    );
    node.stop().await?;
    Ok(())
}

async fn a_node_killed_around_its_publish_loses_nothing(lab: Lab) -> Outcome {
    lab.promise("wherever a node is killed between claiming and noting that it has published, the next one publishes the run: it comes at least once, and ends once");
    for (n, before) in [(1, true), (1, false), (2, true)] {
        let board = Board::new(&lab).await?;
        board.plays("mail").await?;
        let store = board.store().await?;
        let place = board.elsewhere().await?;
        let matches = move |frame: &amqp::Frame| match before {
            true => frame.is_publish(),
            false => frame.is_confirm(),
        };
        let trigger = match before {
            true => amqp::Trigger::request(matches).nth(n),
            false => amqp::Trigger::reply(matches).nth(n),
        };
        let fault = place.rabbit.proxy().arm(trigger, Action::Hold);
        let first = place.node_process("one", &["--lease", "1s", "--check", "50ms"])?;
        first.next_json().await?;
        for job in ["a", "b"] {
            store
                .add(&soon(job, 200), job_scheduler::time::now())
                .await?;
        }
        lab.eventually("the node to publish", || async {
            Ok(fault.has_fired().then_some(()))
        })
        .await?;
        first.kill();
        let second = board.node_process("two", &["--lease", "1s", "--check", "50ms"])?;
        second.next_json().await?;
        let mut seen = std::collections::HashSet::new();
        while seen.len() < 2 {
            let run = board.next_run("mail").await.map_err(|failure| {
                failure
                    .also(format!("{} of two jobs came: {seen:?}", seen.len()))
                    .code("JS21")
            })?;
            board.reply(&run, Ok(json!(null))).await?;
            seen.insert(run.id());
        }
        board.all_settled().await?;
        second.terminate();
        second.wait().await?;
    }
    Ok(())
}

async fn a_run_nobody_answers_is_published_again(lab: Lab) -> Outcome {
    lab.promise("a run that was published, and that nobody has answered for `resend`, is published again, as the same attempt");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node_with(job_scheduler::NodeOptions {
        resend: Duration::from_millis(300),
        ..board.node_options("one")
    });
    store
        .add(&soon("job", 1), job_scheduler::time::now())
        .await?;
    let first = board.next_run("mail").await?;
    let second = board.next_run("mail").await?;
    ensure!(
        first.id() == second.id() && second.attempt == 1,
        "nobody answered {first:?}, and {second:?} came"
    );
    board.reply(&second, Ok(json!(null))).await?;
    board.all_settled().await?;
    node.stop().await?;
    Ok(())
}

async fn a_reply_that_is_none_disturbs_no_other(lab: Lab) -> Outcome {
    lab.promise(
        "what comes as a reply and is none is thrown away, and the replies after it are dealt with",
    );
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    store
        .add(&soon("job", 1), job_scheduler::time::now())
        .await?;
    let run = board.next_run("mail").await?;
    for body in [
        "",
        "not JSON",
        "[]",
        "{\"job\":1}",
        "{\"job\":\"x\",\"scheduled_for\":\"soon\",\"attempt\":1,\"ok\":true}",
    ] {
        board.send_reply(body.as_bytes()).await?;
    }
    // From another language: only what has to be there.
    let reply =
        json!({"job": run.job, "scheduled_for": run.scheduled_for, "attempt": 1, "ok": true});
    board.send_reply(reply.to_string().as_bytes()).await?;
    board.all_settled().await?;
    node.stop().await?;
    let left = board.rabbit.ready(&board.names.replies()).await?;
    ensure!(left == 0, "{left} replies are left in the queue");
    Ok(())
}

async fn a_reply_is_acknowledged_after_it_was_dealt_with(lab: Lab) -> Outcome {
    lab.promise("a reply is acknowledged when Redis knows of it, and not before: while Redis is away none is lost");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = claimed(&board, 1, &[("job", 100)]).await?;
    drop(store);
    let _: u64 = redis::cmd("DEL")
        .arg(board.names.leader())
        .query_async(&mut board.direct().await?)
        .await?;
    let place = board.elsewhere().await?;
    let node = place.node("one");
    let run = board.next_run("mail").await?;
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    let mark = place.rabbit.proxy().mark();
    board.reply(&run, Ok(json!(1))).await?;
    lab.eventually("the node to be given the reply", || async {
        let log = place.rabbit.proxy().log();
        Ok(log[mark..]
            .iter()
            .any(amqp::Frame::is_deliver)
            .then_some(()))
    })
    .await?;
    lab.within(Duration::from_millis(300)).await;
    let log = place.rabbit.proxy().log();
    ensure!(
        !log[mark..].iter().any(amqp::Frame::is_ack),
        "JS12",
        "Redis is away, and the reply was acknowledged: if the node dies now, nobody knows that the run has ended"
    );
    ensure!(!board.open().await?.is_empty(), "the run is no longer open");
    place.redis.proxy().refuse(false);
    board.all_settled().await?;
    node.stop().await?;
    Ok(())
}

async fn a_job_added_late_is_not_slept_through(lab: Lab) -> Outcome {
    lab.promise("a job that is added while the leader waits for another runs at its time, and not when the other does");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    store
        .add(&soon("in-an-hour", 3_600_000), job_scheduler::time::now())
        .await?;
    let node = board.node("one");
    board.led_by("the node to lead", |_| true).await?;
    lab.within(Duration::from_millis(500)).await;
    store
        .add(&soon("now", 10), job_scheduler::time::now())
        .await?;
    let run = board
        .next_run("mail")
        .await
        .map_err(|failure| failure.code("JS07"))?;
    ensure!(run.job == "now", "another run came: {run:?}");
    node.stop().await?;
    Ok(())
}

async fn a_service_without_a_queue_keeps_nobody_waiting(lab: Lab) -> Outcome {
    lab.promise("runs for a service that has no queue wait, and those for others go out; when there is a queue they come");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    board.knows("print").await?;
    let store = board.store().await?;
    let node = board.node_with(job_scheduler::NodeOptions {
        page: 5,
        ..board.node_options("one")
    });
    for n in 0..10 {
        let job = NewJob::new(
            format!("print-{n}"),
            Schedule::After {
                after: Duration::from_millis(1),
            },
            "print",
        );
        store.add(&job, job_scheduler::time::now()).await?;
    }
    store
        .add(&soon("mail", 50), job_scheduler::time::now())
        .await?;
    let run = board.next_run("mail").await?;
    ensure!(run.job == "mail", "another run came: {run:?}");
    board.plays("print").await?;
    let mut came = std::collections::HashSet::new();
    while came.len() < 10 {
        came.insert(board.next_run("print").await?.job);
    }
    node.stop().await?;
    Ok(())
}

async fn a_backlog_is_worked_off_in_pages(lab: Lab) -> Outcome {
    lab.promise("a backlog of many due jobs goes out in pages, without a wait of a check between them, each run once");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    const JOBS: usize = 400;
    for n in 0..JOBS {
        store
            .add(&soon(&format!("job-{n}"), 1), job_scheduler::time::now())
            .await?;
    }
    lab.within(Duration::from_millis(5)).await;
    let node = board.node_with(job_scheduler::NodeOptions {
        page: 10,
        // With a pause between pages this would take a quarter of an hour.
        check: Duration::from_secs(20),
        ..board.node_options("one")
    });
    let queue = board.names.queue("mail");
    lab.eventually("four hundred runs to come", || async {
        Ok((board.rabbit.ready(&queue).await? >= JOBS as u32).then_some(()))
    })
    .await?;
    node.stop().await?;
    let runs = board.drain("mail").await?;
    let ids: std::collections::HashSet<_> = runs.iter().map(|run| run.id()).collect();
    ensure!(
        ids.len() == JOBS && runs.len() == JOBS,
        "{JOBS} jobs were due once; {} messages came, of {} runs",
        runs.len(),
        ids.len()
    );
    Ok(())
}

async fn lost_connections_are_opened_again(lab: Lab) -> Outcome {
    lab.promise("a node goes on after its connections to RabbitMQ and to Redis were cut");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let place = board.elsewhere().await?;
    let node = place.node("one");
    for round in 0..3 {
        let name = format!("job-{round}");
        store
            .add(&soon(&name, 1), job_scheduler::time::now())
            .await?;
        loop {
            let run = board.next_run("mail").await?;
            board.reply(&run, Ok(json!(null))).await?;
            // What was under way at the cut may come again.
            if run.job == name {
                break;
            }
        }
        board.all_settled().await?;
        match round {
            0 => place.rabbit.proxy().cut_all(),
            _ => place.redis.proxy().cut_all(),
        }
    }
    node.stop().await?;
    Ok(())
}

async fn a_service_that_cannot_start_says_why(lab: Lab) -> Outcome {
    lab.promise("a node or a service that cannot start ends at once, with one line that says why and an exit code for the reason, and no password in it");
    let board = Board::new(&lab).await?;
    let amqp = board.rabbit.url();
    let redis = board.redis.url();
    let wrong = board.rabbit.proxy().url_with(|url| {
        let _ = url.set_password(Some("wr0ng"));
    });
    let elsewhere = board
        .rabbit
        .proxy()
        .url_with(|url| url.set_path("/nowhere"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let name = board.names.to_string();
    let node = ["node", "--listen", "127.0.0.1:0", "--name", &name];
    let service = ["service", "mail", "--name", &name];
    let dead = "redis://:s3cret@127.0.0.1:1";
    let amqp_dead = "amqp://guest:s3cret@127.0.0.1:1/%2f";
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["--redis", dead, "--amqp", &amqp], 69, "Redis"),
        (vec!["--redis", &redis, "--amqp", amqp_dead], 69, "RabbitMQ"),
        (vec!["--redis", &redis, "--amqp", &wrong], 77, "password"),
        (vec!["--redis", &redis, "--amqp", &elsewhere], 77, "nowhere"),
        (vec!["--redis", &redis, "--amqp", "http://x"], 2, "amqp://"),
        (vec!["--redis", "nothing", "--amqp", &amqp], 2, "Redis"),
        (
            vec!["--redis", &redis, "--amqp", &amqp, "--concurency", "1"],
            2,
            "concurency",
        ),
    ];
    let mut runs = Vec::new();
    for (flags, code, words) in &cases {
        for first in [&node[..], &service[..]] {
            runs.push(([first, flags].concat(), *code, *words));
        }
    }
    runs.push((
        vec![
            "node", "--listen", &taken, "--name", &name, "--redis", &redis, "--amqp", &amqp,
        ],
        98,
        "listen",
    ));
    runs.push((
        vec!["node", "--lease", "0s", "--redis", &redis, "--amqp", &amqp],
        2,
        "lease",
    ));
    runs.push((
        vec![
            "service", "a b", "--name", &name, "--redis", &redis, "--amqp", &amqp,
        ],
        65,
        "a b",
    ));
    for (arguments, code, words) in runs {
        let process = lab.service(arguments.clone()).start()?;
        let status = process.wait().await?;
        let said = process.stderr();
        ensure!(
            status.code() == Some(code) && said.contains(words),
            "`job-scheduler {}` ended with {status}, and was to end with {code} and a word about {words}; it said: {said}",
            arguments.join(" ")
        );
        ensure!(
            !said.contains("s3cret") && !said.contains("wr0ng"),
            "the password stands in what it said: {said}"
        );
    }
    Ok(())
}
