//! What is counted on the wire, and what a history is told of it.

use lab::faults::Action;
use lab::faults::amqp::{Frame, Trigger, most_outstanding, most_unacked};
use lab::history::Event;
use lab::{Check, Lab, Outcome, ensure};
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

use crate::candidate::{Candidate, next};

pub fn checks() -> Vec<Check> {
    lab::checks![
        unacknowledged_deliveries_are_counted,
        two_consumers_of_a_channel_are_told_apart,
        a_channel_that_was_closed_holds_nothing,
        outstanding_confirms_are_counted,
        the_wire_becomes_a_history,
    ]
}

async fn unacknowledged_deliveries_are_counted(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    for id in 0..10 {
        candidate.publish(&queue, &id.to_string()).await?;
    }
    let mut consumer = candidate.consume(&queue, 3).await?;
    let mut held = Vec::new();
    for i in 0..10 {
        held.push(next(&lab, &mut consumer).await?);
        if held.len() == 3 || i == 9 {
            let last = held.drain(..).next_back();
            let multiple = BasicAckOptions { multiple: true };
            last.expect("one was pushed").ack(multiple).await?;
        }
    }
    let most = rabbit.proxy().with_log(|log| most_unacked(log, &queue));
    ensure!(most == 3, "{most}");
    ensure!(
        rabbit.proxy().with_log(|log| most_unacked(log, "another")) == 0,
        "not 0"
    );
    Ok(())
}

async fn two_consumers_of_a_channel_are_told_apart(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let (one, two) = (candidate.queue(&lab).await?, candidate.queue(&lab).await?);
    for _ in 0..4 {
        candidate.publish(&one, "1").await?;
        candidate.publish(&two, "2").await?;
    }
    // Asked for at once: the answers tell which is whose by their order alone.
    let consume = |queue: &str, prefetch: bool| {
        let options = BasicConsumeOptions {
            no_ack: prefetch,
            ..Default::default()
        };
        let table = FieldTable::default();
        candidate
            .channel
            .basic_consume(queue.into(), "".into(), options, table)
    };
    candidate.channel.basic_qos(2, Default::default()).await?;
    let (first, second) = tokio::join!(consume(&one, false), consume(&two, false));
    let (mut first, mut second) = (first?, second?);
    for consumer in [&mut first, &mut second] {
        for _ in 0..2 {
            next(&lab, consumer).await?;
        }
    }
    let most = |queue: &str| rabbit.proxy().with_log(|log| most_unacked(log, queue));
    ensure!(
        (most(&one), most(&two)) == (2, 2),
        "{} and {}",
        most(&one),
        most(&two)
    );
    Ok(())
}

async fn a_channel_that_was_closed_holds_nothing(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let mut candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    for _ in 0..4 {
        candidate.publish(&queue, "1").await?;
    }
    let mut consumer = candidate.consume(&queue, 3).await?;
    next(&lab, &mut consumer).await?;
    candidate.channel.close(200, "done".into()).await?;
    // It gets the number of the one before.
    candidate.channel = candidate.connection.create_channel().await?;
    let mut consumer = candidate.consume(&queue, 2).await?;
    for _ in 0..4 {
        let delivery = next(&lab, &mut consumer).await?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    let log = rabbit.proxy().log();
    let second = log.iter().rposition(|frame| frame.name() == "channel.open");
    let most = most_unacked(&log, &queue);
    ensure!(most == 3, "{most}");
    let most = most_unacked(&log[second.unwrap_or_default()..], &queue);
    ensure!(most <= 2, "{most} on the second channel");
    Ok(())
}

async fn outstanding_confirms_are_counted(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    let held = rabbit
        .proxy()
        .arm(Trigger::reply(Frame::is_confirm), Action::Hold);
    let mut confirms = Vec::new();
    for id in 0..5 {
        confirms.push(candidate.publish(&queue, &id.to_string()).await?);
    }
    lab.eventually("five publishes", || async {
        Ok((rabbit.proxy().count(Frame::is_publish) == 5).then_some(()))
    })
    .await?;
    held.fired().await;
    held.release();
    for confirm in confirms {
        confirm.await?;
    }
    let most = rabbit.proxy().with_log(most_outstanding);
    ensure!((1..=5).contains(&most), "{most}");
    for id in 0..3 {
        candidate.publish(&queue, &id.to_string()).await?.await?;
    }
    let after = rabbit.proxy().with_log(most_outstanding);
    ensure!(after == most, "{after} and not {most}");
    Ok(())
}

async fn the_wire_becomes_a_history(lab: Lab) -> Outcome {
    let (rabbit, second) = (lab.rabbit()?, lab.rabbit()?);
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    candidate.publish(&queue, "one").await?.await?;
    candidate.publish("no such queue", "two").await?.await?;
    let properties = ConnectionProperties::default().with_connection_name("worker".into());
    let connection = Connection::connect(&second.url(), properties).await?;
    let worker = Candidate {
        channel: connection.create_channel().await?,
        connection,
    };
    let mut consumer = worker.consume(&queue, 1).await?;
    let delivery = next(&lab, &mut consumer).await?;
    delivery.ack(BasicAckOptions::default()).await?;
    // An answer that comes after the acknowledgement.
    worker.confirms().await?;
    let told = || {
        lab.history().absorb_amqp(rabbit.proxy());
        lab.history().absorb_amqp(second.proxy());
        let events = lab.history().events();
        let line = |event: &Event| format!("{} {} {}", event.actor, event.what, event.id);
        events.iter().map(line).collect::<Vec<_>>()
    };
    let expected = [
        "client 1 published one",
        "client 1 confirmed one",
        "client 1 published two",
        "client 1 returned two",
        "client 1 confirmed two",
        "worker 2.1 delivered one",
        "worker 2.1 acknowledged one",
    ];
    ensure!(told() == expected, "{:#?}", told());
    ensure!(
        told() == expected,
        "something was told twice: {:#?}",
        told()
    );
    Ok(())
}
