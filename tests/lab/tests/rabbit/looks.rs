//! What the lab asks RabbitMQ itself.

use lab::faults::amqp::Frame;
use lab::{Check, Lab, Outcome, ensure, fail};
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

use crate::candidate::{Candidate, next, quorum, text};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_queue_is_looked_at,
        a_queue_that_differs_is_explained,
        an_exchange_that_differs_is_explained,
        messages_are_published_peeked_at_and_taken,
        what_is_not_there_is_the_candidates_fault,
    ]
}

async fn a_queue_is_looked_at(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    ensure!(
        rabbit.queue(&lab.unique("none")).await?.is_none(),
        "there is one"
    );
    let queue = candidate.queue(&lab).await?;
    let look = || async {
        let seen = rabbit.queue(&queue).await?;
        Ok::<_, lab::Failure>(seen.map(|queue| (queue.ready, queue.consumers)))
    };
    ensure!(look().await? == Some((0, 0)), "{:?}", look().await?);
    candidate.confirms().await?;
    for id in ["1", "2"] {
        candidate.publish(&queue, id).await?.await?;
    }
    ensure!(rabbit.ready(&queue).await? == 2, "{:?}", look().await?);
    let mut consumer = candidate.consume(&queue, 1).await?;
    next(&lab, &mut consumer).await?;
    lab.eventually("one to be out", || async {
        Ok((look().await? == Some((1, 1))).then_some(()))
    })
    .await?;
    rabbit.delete_queue(&queue).await?;
    ensure!(look().await?.is_none(), "it is still there");
    Ok(())
}

async fn a_queue_that_differs_is_explained(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let with = |more: &[(&str, AMQPValue)]| {
        let mut table = quorum();
        for (name, value) in more {
            table.insert((*name).into(), value.clone());
        }
        table
    };
    let all = [
        ("x-message-ttl", AMQPValue::LongInt(5000)),
        ("x-dead-letter-exchange", text("dead")),
        ("x-dead-letter-routing-key", text("key")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    let queue = lab.unique("queue");
    candidate.declare(&queue, with(&all)).await?;
    // Numbers are compared by their value.
    let mut same = all.clone();
    same[0].1 = AMQPValue::LongLongInt(5000);
    let differs = rabbit.differs(&queue, with(&same)).await?;
    ensure!(differs.is_none(), "{differs:?}");
    for i in 0..all.len() {
        let mut less = all.to_vec();
        let (name, _) = less.remove(i);
        let differs = rabbit.differs(&queue, with(&less)).await?;
        let Some(differs) = differs else {
            fail!("a queue with `{name}` is the same as one without")
        };
        ensure!(differs.starts_with(&format!("`{name}` is `")), "{differs}");
        ensure!(differs.ends_with("and was not to be there"), "{differs}");
    }
    let mut other = all.clone();
    other[0].1 = AMQPValue::LongInt(6000);
    let differs = rabbit.differs(&queue, with(&other)).await?;
    let expected = "`x-message-ttl` is `5000`, and was to be `6000`";
    ensure!(differs.as_deref() == Some(expected), "{differs:?}");

    let classic = lab.unique("classic");
    let transient = QueueDeclareOptions::default();
    let table = FieldTable::default();
    candidate
        .channel
        .queue_declare(classic.as_str().into(), transient, table.clone())
        .await?;
    let differs = rabbit.differs(&classic, table).await?;
    let expected = "`durable` is `false`, and was to be `true`";
    ensure!(differs.as_deref() == Some(expected), "{differs:?}");
    let differs = rabbit.differs(&lab.unique("none"), quorum()).await?;
    ensure!(differs.as_deref() == Some("it is not there"), "{differs:?}");

    let exclusive = lab.unique("exclusive");
    let options = QueueDeclareOptions {
        exclusive: true,
        ..transient
    };
    let table = FieldTable::default();
    candidate
        .channel
        .queue_declare(exclusive.as_str().into(), options, table)
        .await?;
    let differs = rabbit.differs(&exclusive, quorum()).await?;
    let Some(differs) = differs else {
        fail!("an exclusive queue is the same")
    };
    ensure!(differs.contains("exclusive"), "{differs}");
    Ok(())
}

async fn an_exchange_that_differs_is_explained(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let (topic, transient) = (lab.unique("topic"), lab.unique("transient"));
    for (name, durable) in [(&topic, true), (&transient, false)] {
        let options = ExchangeDeclareOptions {
            durable,
            ..Default::default()
        };
        candidate
            .channel
            .exchange_declare(
                name.as_str().into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await?;
    }
    let seen = rabbit.exchange_differs(&topic, ExchangeKind::Topic).await?;
    ensure!(seen.is_none(), "{seen:?}");
    let seen = rabbit
        .exchange_differs(&topic, ExchangeKind::Fanout)
        .await?;
    ensure!(
        seen.as_deref() == Some("`type` is `topic`, and was to be `fanout`"),
        "{seen:?}"
    );
    let seen = rabbit
        .exchange_differs(&transient, ExchangeKind::Topic)
        .await?;
    ensure!(
        seen.as_deref() == Some("`durable` is `false`, and was to be `true`"),
        "{seen:?}"
    );
    let seen = rabbit
        .exchange_differs(&lab.unique("none"), ExchangeKind::Topic)
        .await?;
    ensure!(seen.as_deref() == Some("it is not there"), "{seen:?}");
    rabbit.delete_exchange(&topic).await?;
    let seen = rabbit.exchange_differs(&topic, ExchangeKind::Topic).await?;
    ensure!(seen.is_some(), "it was not deleted");
    Ok(())
}

async fn messages_are_published_peeked_at_and_taken(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let candidate = Candidate::new(&rabbit).await?;
    let (queue, exchange) = (candidate.queue(&lab).await?, lab.unique("exchange"));
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    candidate
        .channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await?;
    let mut headers = FieldTable::default();
    headers.insert("x-attempts".into(), AMQPValue::LongInt(2));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id("one".into());
    let routed = rabbit
        .publish(&exchange, "a.b", properties.clone(), b"body")
        .await?;
    ensure!(!routed, "no queue is bound, and one took it");
    let bind = QueueBindOptions::default();
    candidate
        .channel
        .queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            bind,
            FieldTable::default(),
        )
        .await?;
    let routed = rabbit
        .publish(&exchange, "a.b", properties, b"body")
        .await?;
    ensure!(routed, "no queue took it");
    let Some(peeked) = rabbit.peek(&queue).await? else {
        fail!("nothing to peek at")
    };
    let Some(taken) = rabbit.take(&queue).await? else {
        fail!("nothing to take")
    };
    ensure!(
        !peeked.redelivered && taken.redelivered,
        "{peeked:?} {taken:?}"
    );
    let message = &taken.message;
    ensure!(
        message.id() == "one" && message.body == b"body",
        "{message:?}"
    );
    ensure!(
        message.header("x-attempts") == Some(&AMQPValue::LongInt(2)),
        "{message:?}"
    );
    ensure!(
        (taken.exchange.as_str(), taken.routing_key.as_str()) == (&exchange, "a.b"),
        "{taken:?}"
    );
    ensure!(rabbit.take(&queue).await?.is_none(), "there is another one");
    for body in [b"1", b"2", b"3"] {
        rabbit
            .publish(&exchange, "k", BasicProperties::default(), body)
            .await?;
    }
    let bodies: Vec<Vec<u8>> = rabbit
        .drain(&queue)
        .await?
        .into_iter()
        .map(|taken| taken.message.body)
        .collect();
    ensure!(bodies == [b"1", b"2", b"3"], "{bodies:?}");
    rabbit.unbind(&queue, &exchange, "#").await?;
    let routed = rabbit
        .publish(&exchange, "k", BasicProperties::default(), b"4")
        .await?;
    ensure!(!routed, "it is still bound");
    ensure!(
        rabbit.proxy().count(Frame::is_publish) == 0,
        "the proxy saw the lab"
    );
    Ok(())
}

async fn what_is_not_there_is_the_candidates_fault(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let none = lab.unique("none");
    let published = rabbit
        .publish(&none, "k", BasicProperties::default(), b"")
        .await;
    let taken = rabbit.take(&none).await;
    let texts = [published.err(), taken.err()];
    for failure in &texts {
        let Some(failure) = failure else {
            fail!("it was there")
        };
        ensure!(failure.kind == lab::Kind::Violated, "{failure}");
        ensure!(
            failure.observed.contains(&none) && failure.observed.contains("NOT_FOUND"),
            "{failure}"
        );
    }
    // Deleting what is not there is no mistake.
    rabbit.delete_queue(&none).await?;
    rabbit.delete_exchange(&none).await?;
    // A channel error leaves the connection as it was.
    let channel = rabbit.direct().await?;
    let options = BasicConsumeOptions::default();
    let refused = channel.basic_consume(
        none.as_str().into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    ensure!(refused.await.is_err(), "it consumes");
    rabbit.direct().await?;
    Ok(())
}
