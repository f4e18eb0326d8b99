//! Checks that leave something behind, for the trials to look for. They tell what by their failure, or on
//! standard error if they do not come to it.

use lab::{Check, Lab, Outcome, Rabbit, fail};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::candidate::{Candidate, quorum};

pub fn checks() -> Vec<Check> {
    lab::checks![
        names,
        names_and_is_killed,
        names_past_the_proxy,
        names_that_are_not_its_own,
        its_own_rabbit.limit_secs(180),
        its_own_rabbit_and_hangs.limit_secs(180),
    ]
}

async fn declare(lab: &Lab, rabbit: &Rabbit) -> Result<String, lab::Failure> {
    let candidate = Candidate::new(rabbit).await?;
    let (queue, exchange) = (candidate.queue(lab).await?, lab.unique("exchange"));
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    candidate
        .channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        )
        .await?;
    let wait = format!("{queue}.retry.250");
    candidate.declare(&wait, quorum()).await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let table = FieldTable::default();
    let nameless = candidate
        .channel
        .queue_declare("".into(), options, table)
        .await?;
    Ok(format!(
        "NAMES {queue} {wait} {} {exchange} ",
        nameless.name()
    ))
}

async fn names(lab: Lab) -> Outcome {
    let names = declare(&lab, &lab.rabbit()?).await?;
    fail!("{names}")
}

async fn names_and_is_killed(lab: Lab) -> Outcome {
    let names = declare(&lab, &lab.rabbit()?).await?;
    eprintln!("{names}");
    std::process::abort()
}

async fn names_past_the_proxy(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let queue = lab.unique("queue");
    rabbit.owns(&[&queue], &[]);
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let channel = rabbit.direct().await?;
    channel
        .queue_declare(queue.as_str().into(), options, quorum())
        .await?;
    fail!("NAMES {queue} ")
}

/// A candidate that does not listen to what its queue is to be called. Somebody may have one of that name.
async fn names_that_are_not_its_own(lab: Lab) -> Outcome {
    let rabbit = lab.rabbit()?;
    let queue = format!("somebodys-{:x}", lab.seed());
    Candidate::new(&rabbit)
        .await?
        .declare(&queue, quorum())
        .await?;
    fail!("NAMES {queue} ")
}

async fn its_own_rabbit(lab: Lab) -> Outcome {
    let rabbit = lab.own_rabbit().await?;
    rabbit.pause().await?;
    eprintln!("NAMES {} ", rabbit.upstream());
    std::process::exit(0)
}

/// To be killed together with its judge.
async fn its_own_rabbit_and_hangs(lab: Lab) -> Outcome {
    let rabbit = lab.own_rabbit().await?;
    if let Some(file) = std::env::var_os("WORKBOOK_SPECIMEN_NOTE") {
        std::fs::write(file, rabbit.upstream())?;
    }
    loop {
        lab.within(std::time::Duration::from_secs(1)).await;
    }
}
