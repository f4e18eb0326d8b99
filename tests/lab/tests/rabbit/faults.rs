//! Faults strike where they were armed, and what passed before was carried out.

use std::time::Duration;

use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger};
use lab::{Check, Lab, Outcome, ensure, fail};
use lapin::Confirmation;
use lapin::options::BasicAckOptions;

use crate::candidate::{Candidate, next};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_publish_and_its_confirm_are_written_down,
        a_confirm_is_lost,
        a_publish_is_cut_off_before,
        a_publish_is_carried_out_and_never_answered,
        an_ack_is_carried_out_at_the_cut,
        an_ack_that_is_cut_off_brings_a_redelivery,
        a_confirm_is_held_and_released,
        a_publish_is_delayed,
        a_stall_stops_heartbeats_too,
        all_connections_are_cut_and_refused,
        another_password_is_refused,
        what_is_no_amqp_is_passed_on,
    ]
}

async fn a_publish_and_its_confirm_are_written_down(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    let body = vec![7; 300_000];
    let confirm = candidate.publish_body(&queue, "one", &body).await?.await?;
    ensure!(confirm == Confirmation::Ack(None), "it was {confirm:?}");
    let log = rabbit.proxy().log();
    let Some((publish, message)) = log.iter().find_map(Frame::publish) else {
        fail!("there is no publish in {log:?}")
    };
    ensure!(
        publish.mandatory && publish.routing_key.as_str() == queue,
        "{publish:?}"
    );
    ensure!(
        message.id() == "one" && message.is_persistent(),
        "{message:?}"
    );
    ensure!(
        message.body == body,
        "the body has {} bytes",
        message.body.len()
    );
    let names: Vec<String> = log.iter().map(Frame::name).collect();
    let order = [
        "queue.declare",
        "confirm.select",
        "basic.publish",
        "basic.ack",
    ];
    let mut places = order.map(|name| names.iter().position(|other| other == name));
    ensure!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{names:?}"
    );
    places.reverse();
    ensure!(
        log.iter()
            .all(|frame| frame.passed && frame.connection == 1),
        "{names:?}"
    );
    ensure!(
        rabbit.proxy().connections() == 1,
        "{}",
        rabbit.proxy().connections()
    );
    // What nobody routes comes back before its confirm.
    let lost = candidate.publish("no such queue", "two").await?.await?;
    ensure!(lost.take_message().is_some(), "it was routed");
    let returned = rabbit.proxy().count(|frame| frame.name() == "basic.return");
    ensure!(returned == 1, "{returned} returns");
    Ok(())
}

async fn a_confirm_is_lost(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    let lost = rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm).nth(3), Action::CutAfter);
    for id in ["1", "2"] {
        candidate.publish(&queue, id).await?.await?;
    }
    let third = candidate.publish(&queue, "3").await?.await;
    ensure!(third.is_err(), "it was confirmed: {third:?}");
    lost.fired().await;
    lab.eventually("the third message", || async {
        Ok((rabbit.ready(&queue).await? == 3).then_some(()))
    })
    .await?;
    ensure!(rabbit.proxy().connections() == 0, "it is still open");
    let (_, told) = rabbit.proxy().faults().remove(0);
    ensure!(told == "cut, RabbitMQ's basic.ack lost", "{told}");
    Ok(())
}

async fn a_publish_is_cut_off_before(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    let third = |frame: &Frame| frame.publish().is_some_and(|(_, it)| it.id() == "3");
    let cut = rabbit
        .proxy()
        .arm(Trigger::request(third), Action::CutBefore);
    // Without confirms: nothing tells when RabbitMQ has come to them but the cut itself.
    for id in ["1", "2", "3", "4"] {
        let _ = candidate.publish(&queue, id).await;
    }
    cut.fired().await;
    lab.eventually("two messages", || async {
        Ok((rabbit.ready(&queue).await? == 2).then_some(()))
    })
    .await?;
    let passed = rabbit
        .proxy()
        .count(|frame| frame.is_publish() && frame.passed);
    ensure!(passed == 2, "{passed} were passed on");
    Ok(())
}

/// Again and again: RabbitMQ may learn of the connection's end before it has come to the message.
async fn a_publish_is_carried_out_and_never_answered(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let queue = Candidate::new(&rabbit).await?.queue(&lab).await?;
    for round in 1..=20 {
        let candidate = Candidate::new(&rabbit).await?;
        if round % 2 == 0 {
            candidate.confirms().await?;
        }
        let cut = rabbit
            .proxy()
            .arm(Trigger::request(Frame::is_publish), Action::CutAfter);
        let confirm = candidate.publish(&queue, &round.to_string()).await;
        if round % 2 == 0 {
            ensure!(confirm?.await.is_err(), "it was confirmed");
        }
        cut.fired().await;
        lab.eventually("the message", || async {
            Ok((rabbit.ready(&queue).await? == round).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn an_ack_is_carried_out_at_the_cut(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let queue = Candidate::new(&rabbit).await?.queue(&lab).await?;
    for round in 0..20 {
        rabbit.publish("", &queue, Default::default(), b"x").await?;
        let candidate = Candidate::new(&rabbit).await?;
        let mut consumer = candidate.consume(&queue, 1).await?;
        let delivery = next(&lab, &mut consumer).await?;
        ensure!(
            !delivery.redelivered,
            "the ack of round {} was lost",
            round - 1
        );
        let cut = rabbit
            .proxy()
            .arm(Trigger::request(Frame::is_ack), Action::CutAfter);
        let _ = delivery.ack(BasicAckOptions::default()).await;
        cut.fired().await;
    }
    ensure!(rabbit.ready(&queue).await? == 0, "something is left");
    Ok(())
}

async fn an_ack_that_is_cut_off_brings_a_redelivery(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    for id in ["1", "2"] {
        candidate.publish(&queue, id).await?;
    }
    let mut consumer = candidate.consume(&queue, 1).await?;
    let cut = rabbit
        .proxy()
        .arm(Trigger::request(Frame::is_ack).nth(2), Action::CutBefore);
    for _ in 0..2 {
        let delivery = next(&lab, &mut consumer).await?;
        let _ = delivery.ack(BasicAckOptions::default()).await;
    }
    cut.fired().await;
    let second = Candidate::new(&rabbit).await?;
    let delivery = next(&lab, &mut second.consume(&queue, 1).await?).await?;
    let id = delivery.properties.message_id().clone();
    ensure!(
        delivery.redelivered && id.is_some_and(|id| id.as_str() == "2"),
        "{delivery:?}"
    );
    let log = rabbit.proxy().log();
    let seen: Vec<(u64, bool)> = log
        .iter()
        .filter_map(|frame| Some((frame.connection, frame.deliver()?.0.redelivered)))
        .collect();
    ensure!(seen == [(1, false), (1, false), (2, true)], "{seen:?}");
    Ok(())
}

async fn a_confirm_is_held_and_released(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    let held = rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let mut confirm = std::pin::pin!(candidate.publish(&queue, "1").await?);
    held.fired().await;
    let early = tokio::time::timeout(Duration::from_millis(100), &mut confirm).await;
    ensure!(early.is_err(), "it came although it is held");
    ensure!(
        rabbit.ready(&queue).await? == 1,
        "RabbitMQ does not have it"
    );
    // Another connection is not held up.
    let other = Candidate::new(&rabbit).await?;
    other.confirms().await?;
    other.publish(&queue, "2").await?.await?;
    held.release();
    confirm.await?;
    Ok(())
}

async fn a_publish_is_delayed(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    let by = Duration::from_millis(150);
    let late = rabbit
        .proxy()
        .arm(Trigger::request(Frame::is_publish), Action::Delay(by));
    let start = std::time::Instant::now();
    candidate.publish(&queue, "1").await?.await?;
    ensure!(start.elapsed() >= by && late.has_fired(), "it was not");
    Ok(())
}

async fn a_stall_stops_heartbeats_too(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::at(&rabbit.url_with_heartbeat(1)).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    rabbit.proxy().stall(true);
    // A client that asked for heartbeats finds out by itself; RabbitMQ does too.
    lab.eventually("the client to notice", || async {
        Ok((!candidate.connection.status().connected()).then_some(()))
    })
    .await?;
    rabbit.proxy().stall(false);
    let second = Candidate::at(&rabbit.url_with_heartbeat(1)).await?;
    second.confirms().await?;
    second.publish(&queue, "1").await?.await?;
    // Quiet, and alive for longer than RabbitMQ waits for a sign.
    lab.within(Duration::from_secs(4)).await;
    second.publish(&queue, "2").await?.await?;
    Ok(())
}

async fn all_connections_are_cut_and_refused(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let one = Candidate::new(&rabbit).await?;
    let two = Candidate::new(&rabbit).await?;
    let proxy = rabbit.proxy();
    ensure!(proxy.connections() == 2, "{}", proxy.connections());
    proxy.refuse(true);
    proxy.cut_all();
    lab.eventually("both to be closed", || async {
        let gone = [&one, &two].map(|it| !it.connection.status().connected());
        Ok((gone == [true, true] && proxy.connections() == 0).then_some(()))
    })
    .await?;
    ensure!(Candidate::new(&rabbit).await.is_err(), "it was let in");
    ensure!(proxy.refused() >= 1, "{}", proxy.refused());
    ensure!(
        rabbit.queue("none").await?.is_none(),
        "the lab is shut out, too"
    );
    proxy.refuse(false);
    Candidate::new(&rabbit).await?;
    Ok(())
}

async fn another_password_is_refused(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let wrong = rabbit.proxy().url_with(|url| {
        let _ = url.set_password(Some("wrong"));
    });
    ensure!(Candidate::at(&wrong).await.is_err(), "it was let in");
    let elsewhere = rabbit.proxy().url_with(|url| url.set_path("/elsewhere"));
    ensure!(
        Candidate::at(&elsewhere).await.is_err(),
        "there is such a host"
    );
    Ok(())
}

async fn what_is_no_amqp_is_passed_on(lab: Lab) -> Outcome {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rabbit = lab.rabbit()?;
    let address = format!("127.0.0.1:{}", rabbit.proxy().port());
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(lab.deadline(), stream.read_to_end(&mut answer)).await;
    let _ = read?;
    ensure!(answer == b"AMQP\x00\x00\x09\x01", "it answered {answer:?}");
    Ok(())
}
