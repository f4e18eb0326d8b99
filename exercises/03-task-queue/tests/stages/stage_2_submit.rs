//! Stage 2: accepted means stored, and nothing else does.

use std::time::Duration;

use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger, most_outstanding};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::AMQPValue;
use serde_json::{Value, json};
use task_queue::{Error, NewTask, State, Submit, Submitter};

use crate::depot::{Depot, describe, has_struck, long, table, task};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_task_is_in_the_queue_and_known,
        a_task_is_written_to_disk,
        nothing_is_accepted_before_the_confirm,
        submits_do_not_wait_for_each_other,
        what_no_queue_takes_is_not_accepted,
        a_queue_that_is_gone_accepts_nothing,
        what_rabbitmq_refuses_is_not_accepted,
        a_publish_that_is_lost_is_not_accepted,
        without_a_confirm_there_is_an_end,
        without_redis_nothing_is_accepted,
        a_worker_that_was_faster_is_not_overwritten,
        what_is_no_task_is_refused,
        accepted_tasks_survive_a_crash_of_the_broker.limit_secs(240),
    ]
}

/// Published to the task queue's exchange.
fn to(depot: &Depot) -> impl Fn(&Frame) -> bool + Send + 'static {
    let exchange = depot.names.exchange();
    move |frame| frame.is_publish_to(&exchange)
}

async fn a_task_is_in_the_queue_and_known(lab: Lab) -> Outcome {
    lab.promise("an accepted task is a message in the queue `NAME`, with its kind as routing key, and `Store::get` knows it as queued");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let payload = json!({"to": "ann", "n": 7, "deep": {"list": [1, null, "ü"]}});
    let status = submitter
        .submit(NewTask::new("mail.send", payload.clone()))
        .await?;
    ensure!(
        status.state == State::Queued && status.attempts == 0 && status.kind == "mail.send",
        "`submit` returned another status: {}",
        describe(&status)
    );
    let known = depot.store().await?.get(&status.id).await?;
    let Some(known) = known else {
        fail!(
            "`submit` returned the id {}, and `Store::get` does not know it",
            status.id
        );
    };
    ensure!(
        known == status,
        "`submit` returned {status:?}, `Store::get` says {known:?}"
    );
    ensure!(
        depot.status(&status.id).await?.as_ref() == Some(&status),
        "the hash `{}` in Redis holds something else than {status:?}",
        depot.names.task_key(&status.id)
    );
    let Some(taken) = depot.rabbit.take(&depot.names.queue()).await? else {
        fail!("the queue `{}` is empty", depot.names.queue());
    };
    ensure!(
        taken.exchange == depot.names.exchange() && taken.routing_key == "mail.send",
        "it was published to the exchange `{}` with the routing key `{}`",
        taken.exchange,
        taken.routing_key
    );
    let body: Value = serde_json::from_slice(&taken.message.body)
        .map_err(|error| Failure::observed(format!("the body is no JSON: {error}")))?;
    let expected = json!({"id": status.id, "kind": "mail.send", "payload": payload});
    ensure!(
        body == expected,
        "the body is {body}, and was to be {expected}"
    );
    let another = submitter.submit(task("mail.send")).await?;
    ensure!(
        another.id != status.id,
        "two tasks have the id {}",
        status.id
    );
    ensure!(
        depot.store().await?.get("nobody").await?.is_none(),
        "`Store::get` knows a task that was never submitted"
    );
    Ok(())
}

async fn a_task_is_written_to_disk(lab: Lab) -> Outcome {
    lab.promise("a task's message is persistent (delivery mode 2) and mandatory, and carries its id as message id and `application/json` as content type");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let status = submitter.submit(task("quick")).await?;
    let log = depot.rabbit.proxy().log();
    let sent = log.iter().find(|frame| to(&depot)(frame));
    let Some((publish, message)) = sent.and_then(Frame::publish) else {
        fail!(
            "nothing was published to the exchange `{}`",
            depot.names.exchange()
        );
    };
    ensure!(
        message.is_persistent(),
        "TQ08",
        "the message has the delivery mode {:?}: it is kept in memory only, and lost when RabbitMQ is restarted",
        message.properties.delivery_mode()
    );
    ensure!(
        publish.mandatory,
        "TQ05",
        "the message is not mandatory: RabbitMQ confirms it even when no queue takes it"
    );
    ensure!(
        message.id() == status.id,
        "its message id is `{}`, the task's id is {}",
        message.id(),
        status.id
    );
    let content = message.properties.content_type().as_ref();
    ensure!(
        content.is_some_and(|it| it.as_str() == "application/json"),
        "its content type is {content:?}"
    );
    Ok(())
}

async fn nothing_is_accepted_before_the_confirm(lab: Lab) -> Outcome {
    lab.promise("`submit` returns after RabbitMQ has confirmed the message, not before");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let held = depot.rabbit.proxy().arm(
        Trigger::reply(|frame: &Frame| frame.confirms().is_some()),
        Action::Hold,
    );
    let submitting = tokio::spawn(async move { submitter.submit(task("quick")).await });
    let struck = lab
        .eventually("RabbitMQ to confirm the message", || async {
            Ok((held.has_fired() || submitting.is_finished()).then_some(held.has_fired()))
        })
        .await?;
    ensure!(
        struck,
        "TQ04",
        "`submit` returned, and RabbitMQ had confirmed nothing: the channel is not in confirm mode, or nobody waits"
    );
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        !submitting.is_finished(),
        "TQ09",
        "`submit` returned while the confirm was still on its way"
    );
    held.release();
    submitting.await??;
    Ok(())
}

async fn submits_do_not_wait_for_each_other(lab: Lab) -> Outcome {
    lab.promise("submits side by side do not wait for each other's confirms");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let held = depot.rabbit.proxy().arm(
        Trigger::reply(|frame: &Frame| frame.confirms().is_some()),
        Action::Hold,
    );
    let submits: Vec<_> = (0..50)
        .map(|_| {
            let submitter = submitter.clone();
            tokio::spawn(async move { submitter.submit(task("quick")).await })
        })
        .collect();
    let published = || depot.rabbit.proxy().count(to(&depot));
    let all = lab
        .eventually(
            "50 tasks to be published while no confirm comes",
            || async { Ok((published() >= 50).then_some(())) },
        )
        .await;
    if let Err(failure) = all {
        return Err(failure.also(format!(
            "{} were published: each waits until the one before is confirmed, so a submit takes as long as all before it",
            published()
        )));
    }
    held.release();
    for submit in submits {
        submit.await??;
    }
    let window = depot.rabbit.proxy().with_log(most_outstanding);
    // The confirm that is held is noted too, and may have come before the last was published.
    ensure!(
        window >= 25,
        "at most {window} messages of a channel in confirm mode were on their way at once"
    );
    depot.until_ready(&depot.names.queue(), 50).await
}

/// Whatever `submit` says, it has to be true.
async fn is_true(depot: &Depot, said: &Result<task_queue::Status, Error>) -> Outcome {
    let Ok(status) = said else {
        return Ok(());
    };
    let queue = depot.names.queue();
    let what = format!("the task {} to be in the queue `{queue}`", status.id);
    let seen = depot
        .lab
        .eventually(&what, || async {
            Ok((depot.ready(&queue).await? > 0).then_some(()))
        })
        .await;
    seen.map_err(|_| {
        Failure::observed(format!(
            "`submit` accepted the task {}, and it is in no queue: nobody will ever do it",
            status.id
        ))
    })
}

async fn what_no_queue_takes_is_not_accepted(lab: Lab) -> Outcome {
    lab.promise("a task that no queue has taken is never accepted");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let names = &depot.names;
    depot
        .rabbit
        .unbind(&names.queue(), &names.exchange(), "#")
        .await?;
    let said = submitter.submit(task("quick")).await;
    is_true(&depot, &said)
        .await
        .map_err(|failure| failure.code(code_of_unroutable(&depot)))?;
    // And after that life goes on: the binding is declared again, sooner or later.
    accepted_again(&depot, &submitter).await
}

/// Whether the wire shows that nobody asked for what is unroutable to be returned.
fn code_of_unroutable(depot: &Depot) -> &'static str {
    let log = depot.rabbit.proxy().log();
    let asked = log
        .iter()
        .filter_map(Frame::publish)
        .any(|(publish, _)| publish.mandatory);
    let confirmed = log.iter().any(|frame| frame.confirms().is_some());
    match (asked, confirmed) {
        (_, false) => "TQ04",
        _ => "TQ05",
    }
}

async fn accepted_again(depot: &Depot, submitter: &Submitter) -> Outcome {
    let before = depot.ready(&depot.names.queue()).await?;
    let again = depot
        .lab
        .eventually("a later submit to be accepted", || async {
            Ok(submitter.submit(task("quick")).await.ok())
        })
        .await;
    again.map_err(|failure| failure.code_if("TQ18"))?;
    let queue = depot.names.queue();
    let grown = depot
        .lab
        .eventually("the accepted task to be in its queue", || async {
            Ok((depot.ready(&queue).await? > before).then_some(()))
        })
        .await;
    grown.map_err(|failure| failure.code_if("TQ05"))
}

async fn a_queue_that_is_gone_accepts_nothing(lab: Lab) -> Outcome {
    lab.promise("a task is not accepted while its exchange or its queue is gone; a later submit has them declared again");
    for exchange_too in [false, true] {
        let depot = Depot::new(&lab).await?;
        let submitter = depot.submitter().await?;
        depot.rabbit.delete_queue(&depot.names.queue()).await?;
        if exchange_too {
            depot
                .rabbit
                .delete_exchange(&depot.names.exchange())
                .await?;
        }
        let said = submitter.submit(task("quick")).await;
        is_true(&depot, &said)
            .await
            .map_err(|failure| failure.code(code_of_unroutable(&depot)))?;
        accepted_again(&depot, &submitter).await?;
    }
    Ok(())
}

async fn what_rabbitmq_refuses_is_not_accepted(lab: Lab) -> Outcome {
    lab.promise(
        "a task that RabbitMQ answers with a nack, because a queue is full, is not accepted",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    // Another queue at the same exchange that never takes anything: then the whole message is refused.
    let full = lab.unique("full");
    let channel = depot.rabbit.direct().await?;
    let arguments = table([
        ("x-max-length", AMQPValue::LongLongInt(0)),
        ("x-overflow", long("reject-publish")),
    ]);
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(full.as_str().into(), exclusive, arguments)
        .await?;
    channel
        .queue_bind(
            full.as_str().into(),
            depot.names.exchange().into(),
            "#".into(),
            QueueBindOptions::default(),
            lapin::types::FieldTable::default(),
        )
        .await?;
    let said = submitter.submit(task("quick")).await;
    let nacked = depot
        .rabbit
        .proxy()
        .count(|frame| frame.confirms().is_some() && !frame.is_confirm());
    match said {
        Ok(status) if nacked > 0 => fail!(
            "TQ04",
            "RabbitMQ answered the message of the task {} with a nack, and it was accepted",
            status.id
        ),
        Ok(status) => fail!(
            "TQ04",
            "the task {} was accepted, and RabbitMQ had not confirmed it",
            status.id
        ),
        Err(_) => {}
    }
    depot.rabbit.delete_queue(&full).await?;
    submitter.submit(task("quick")).await.map_err(|error| {
        Failure::observed(format!("after one was refused the next failed: {error}"))
    })?;
    Ok(())
}

async fn a_publish_that_is_lost_is_not_accepted(lab: Lab) -> Outcome {
    lab.promise("when the connection is lost before or after a message has reached RabbitMQ, `submit` accepts the task only if it is in its queue");
    for action in [Action::CutBefore, Action::CutAfter] {
        let depot = Depot::new(&lab).await?;
        let submitter = depot.submitter().await?;
        let fault = depot
            .rabbit
            .proxy()
            .arm(Trigger::request(to(&depot)), action);
        let said = submitter.submit(task("quick")).await;
        if !has_struck(&fault).await {
            fail!(
                "nothing was published to the exchange `{}`",
                depot.names.exchange()
            );
        }
        is_true(&depot, &said)
            .await
            .map_err(|failure| failure.code("TQ04"))?;
        if let Ok(status) = &said {
            ensure!(
                depot.status(&status.id).await?.is_some(),
                "`submit` accepted the task {}, and Redis knows nothing of it",
                status.id
            );
        }
        accepted_again(&depot, &submitter).await?;
    }
    Ok(())
}

async fn without_a_confirm_there_is_an_end(lab: Lab) -> Outcome {
    lab.promise("a submit that is not confirmed in time fails: it is not accepted, and whoever asked is not kept waiting");
    let depot = Depot::new(&lab).await?;
    let options = Submit {
        confirm_timeout: Duration::from_millis(500),
        ..depot.submit_options()
    };
    let submitter = Submitter::start(options).await?;
    // Connections stay open, and nothing moves on them.
    depot.rabbit.proxy().stall(true);
    let submitting = submitter.submit(task("quick"));
    match tokio::time::timeout(lab.deadline(), submitting).await {
        Err(_) => fail!(
            "RabbitMQ does not answer, and `submit` still waits {:?} later; its limit was 500 ms",
            lab.deadline()
        ),
        Ok(Ok(status)) => fail!(
            "TQ04",
            "RabbitMQ did not answer, and the task {} was accepted",
            status.id
        ),
        Ok(Err(error)) => ensure!(
            error.is_connection(),
            "the error says that something else is wrong: {error}"
        ),
    }
    depot.rabbit.proxy().stall(false);
    accepted_again(&depot, &submitter).await
}

async fn without_redis_nothing_is_accepted(lab: Lab) -> Outcome {
    lab.promise(
        "a task whose status cannot be stored is not accepted; once Redis is back, tasks are",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    depot.redis.proxy().refuse(true);
    depot.redis.proxy().cut_all();
    match submitter.submit(task("quick")).await {
        Ok(status) => fail!(
            "Redis is away, and the task {} was accepted: nobody can ask what becomes of it",
            status.id
        ),
        Err(error) => ensure!(
            error.is_connection(),
            "Redis is away, and the error says that something else is wrong: {error}"
        ),
    }
    depot.redis.proxy().refuse(false);
    let status = lab
        .eventually("a submit to be accepted again", || async {
            Ok(submitter.submit(task("quick")).await.ok())
        })
        .await?;
    ensure!(
        depot.status(&status.id).await?.is_some(),
        "the task {} was accepted, and Redis knows nothing of it",
        status.id
    );
    Ok(())
}

async fn a_worker_that_was_faster_is_not_overwritten(lab: Lab) -> Outcome {
    lab.promise(
        "a task that a worker has done before its submitter heard of the confirm stays done",
    );
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    let held = depot
        .rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let submitting = tokio::spawn(async move { submitter.submit(task("quick")).await });
    lab.eventually("RabbitMQ to confirm the message", || async {
        Ok(held.has_fired().then_some(()))
    })
    .await?;
    // The worker, as seen from here.
    let queue = depot.names.queue();
    let taken = lab
        .eventually("the message", || depot.rabbit.take(&queue))
        .await?;
    let body: Value = serde_json::from_slice(&taken.message.body)?;
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let _: () = redis::cmd("HSET")
        .arg(depot.names.task_key(&id))
        .arg(&["kind", "quick", "state", "succeeded", "attempts", "1"])
        .arg(&["progress", "100", "result", "\"done\""])
        .query_async(&mut depot.redis.direct().await?)
        .await?;
    held.release();
    submitting.await??;
    let status = depot.status(&id).await?;
    ensure!(
        status
            .as_ref()
            .is_some_and(|it| it.state == State::Succeeded && it.attempts == 1),
        "TQ10",
        "a worker had done the task {id} when its submitter wrote the status: now {}",
        status.as_ref().map_or("it is gone".to_owned(), describe)
    );
    Ok(())
}

async fn what_is_no_task_is_refused(lab: Lab) -> Outcome {
    lab.promise("what is no task is refused, and nothing of it is published or stored");
    let depot = Depot::new(&lab).await?;
    let submitter = depot.submitter().await?;
    for kind in ["", "with space", "ünï", &"x".repeat(300)] {
        match submitter.submit(NewTask::new(kind, json!(null))).await {
            Err(Error::BadTask(_)) => {}
            Err(other) => fail!("the kind `{kind}` gave another error: {other}"),
            Ok(status) => fail!("a task of the kind `{kind}` was accepted as {}", status.id),
        }
    }
    let long = "k".repeat(300);
    for key in ["", "with space", "ünï", &long] {
        match submitter.submit(task("quick").with_key(key)).await {
            Err(Error::BadKey) => {}
            Err(other) => fail!("the key `{key}` gave another error: {other}"),
            Ok(status) => fail!("a task with the key `{key}` was accepted as {}", status.id),
        }
    }
    submitter.submit(task("quick")).await?;
    depot.until_ready(&depot.names.queue(), 1).await
}

async fn accepted_tasks_survive_a_crash_of_the_broker(lab: Lab) -> Outcome {
    lab.promise(
        "a task that was accepted is still there after RabbitMQ was killed and started again",
    );
    let own = lab.own_rabbit().await?;
    let depot = Depot::with(&lab, (*own).clone()).await?;
    let submitter = depot.submitter().await?;
    for _ in 0..20 {
        submitter.submit(task("quick")).await?;
    }
    own.kill().await?;
    own.start().await?;
    let queue = depot.names.queue();
    let seen = lab
        .eventually("the queue to be there again", || async {
            Ok(depot.rabbit.queue(&queue).await.ok())
        })
        .await?;
    ensure!(
        seen.is_some(),
        "TQ08",
        "20 tasks were accepted, and after the crash there is no queue `{queue}` any more: it was not durable"
    );
    // A queue finds its messages a moment after RabbitMQ answers.
    let left = depot.until_ready(&queue, 20).await;
    left.map_err(|failure| failure.code("TQ08").also("20 had been accepted"))
}
