//! Stage 1: exchanges and queues that survive, and a clear word where they differ.

use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use lapin::options::{
    BasicGetOptions, BasicRejectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use task_queue::{Error, Names, declare};

use crate::depot::{Depot, long, table};

pub fn checks() -> Vec<Check> {
    lab::checks![
        exchanges_are_durable_and_of_their_type,
        queues_are_durable_quorum_queues,
        every_kind_of_task_comes_into_its_queue,
        what_is_rejected_becomes_a_dead_letter,
        declaring_again_changes_nothing,
        a_queue_that_differs_is_named_and_left_alone,
        an_exchange_that_differs_is_named,
        task_queues_are_kept_apart,
        a_channel_that_is_closed_is_an_error,
    ]
}

/// A channel as a candidate has one: through the proxy.
async fn channel(depot: &Depot) -> Result<Channel, Failure> {
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&depot.rabbit.url(), properties).await;
    let cannot = |error: lapin::Error| {
        Failure::infrastructure(format!("the lab cannot connect to RabbitMQ: {error}"))
    };
    connection
        .map_err(cannot)?
        .create_channel()
        .await
        .map_err(cannot)
}

async fn declared(lab: &Lab) -> Result<Depot, Failure> {
    let depot = Depot::new(lab).await?;
    declare(&channel(&depot).await?, &depot.names).await?;
    Ok(depot)
}

async fn exchanges_are_durable_and_of_their_type(lab: Lab) -> Outcome {
    lab.promise("`declare` makes the durable topic exchanges `NAME` and `NAME.high` and the durable fanout exchange `NAME.dead`");
    let depot = declared(&lab).await?;
    let names = &depot.names;
    for (name, kind) in [
        (names.exchange(), ExchangeKind::Topic),
        (names.high_exchange(), ExchangeKind::Topic),
        (names.dead_exchange(), ExchangeKind::Fanout),
    ] {
        if let Some(why) = depot.rabbit.exchange_differs(&name, kind).await? {
            let code = why.contains("durable").then_some("TQ08");
            fail!(code, "the exchange `{name}`: {why}");
        }
    }
    Ok(())
}

async fn queues_are_durable_quorum_queues(lab: Lab) -> Outcome {
    lab.promise("`declare` makes the durable quorum queues `NAME`, `NAME.high` and `NAME.dead`; the first two send their dead letters to `NAME.dead`, at least once");
    let depot = declared(&lab).await?;
    let names = &depot.names;
    let work = || {
        table([
            ("x-queue-type", long("quorum")),
            ("x-dead-letter-exchange", long(&names.dead_exchange())),
            ("x-dead-letter-strategy", long("at-least-once")),
            ("x-overflow", long("reject-publish")),
        ])
    };
    for (name, arguments) in [
        (names.queue(), work()),
        (names.high_queue(), work()),
        (
            names.dead_queue(),
            table([("x-queue-type", long("quorum"))]),
        ),
    ] {
        if let Some(why) = depot.rabbit.differs(&name, arguments).await? {
            let code = why.contains("durable").then_some("TQ08");
            fail!(code, "the queue `{name}`: {why}");
        }
    }
    Ok(())
}

async fn every_kind_of_task_comes_into_its_queue(lab: Lab) -> Outcome {
    lab.promise("what is published to `NAME`, `NAME.high` or `NAME.dead` comes into the queue of that name, whatever its routing key");
    let depot = declared(&lab).await?;
    let names = &depot.names;
    for (exchange, queue) in [
        (names.exchange(), names.queue()),
        (names.high_exchange(), names.high_queue()),
        (names.dead_exchange(), names.dead_queue()),
    ] {
        for key in ["resize", "mail.send", "a.b.c.d", ""] {
            let properties = BasicProperties::default();
            let taken = depot
                .rabbit
                .publish(&exchange, key, properties, b"{}")
                .await?;
            ensure!(
                taken,
                "a message to the exchange `{exchange}` with the routing key `{key}` came into no queue: is `{queue}` bound to it, with `#`?"
            );
        }
        depot.until_ready(&queue, 4).await?;
    }
    Ok(())
}

async fn what_is_rejected_becomes_a_dead_letter(lab: Lab) -> Outcome {
    lab.promise("a message that is rejected from `NAME` or `NAME.high`, without requeue, comes into `NAME.dead`");
    let depot = declared(&lab).await?;
    let names = &depot.names;
    for (n, queue) in (1..).zip([names.queue(), names.high_queue()]) {
        // The default exchange: this check is not about bindings.
        let properties = BasicProperties::default().with_delivery_mode(2);
        depot.rabbit.publish("", &queue, properties, b"{}").await?;
        let channel = depot.rabbit.direct().await?;
        let got = lab
            .eventually("the message to be there", || async {
                Ok(channel
                    .basic_get(queue.as_str().into(), BasicGetOptions::default())
                    .await?)
            })
            .await?;
        got.delivery
            .acker
            .reject(BasicRejectOptions { requeue: false })
            .await?;
        depot.until_ready(&names.dead_queue(), n).await?;
    }
    Ok(())
}

async fn declaring_again_changes_nothing(lab: Lab) -> Outcome {
    lab.promise("declaring again succeeds, and leaves what is in the queues where it is");
    let depot = declared(&lab).await?;
    depot.publish_bytes(b"{}").await?;
    let another = channel(&depot).await?;
    for channel in [&another, &another] {
        declare(channel, &depot.names)
            .await
            .map_err(|error| Failure::observed(format!("declaring again failed: {error}")))?;
    }
    depot.until_ready(&depot.names.queue(), 1).await
}

async fn a_queue_that_differs_is_named_and_left_alone(lab: Lab) -> Outcome {
    lab.promise("a queue that is there with other arguments is `Error::Declared`, with its name; it is not deleted, and neither is what is in it");
    for which in 0..3 {
        let depot = Depot::new(&lab).await?;
        let names = &depot.names;
        let name = [names.queue(), names.high_queue(), names.dead_queue()][which].clone();
        let theirs = channel(&depot).await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        // A classic queue of somebody else.
        theirs
            .queue_declare(name.as_str().into(), options, FieldTable::default())
            .await?;
        let properties = BasicProperties::default().with_delivery_mode(2);
        depot
            .rabbit
            .publish("", &name, properties, b"theirs")
            .await?;
        match declare(&channel(&depot).await?, names).await {
            Err(Error::Declared { what, why }) => {
                ensure!(
                    what.contains(&name),
                    "`Error::Declared` says \"{what}\" ({why}), and the queue that differs is `{name}`"
                );
            }
            Err(other) => fail!("`declare` failed with another error: {other}"),
            Ok(()) => fail!(
                "`declare` succeeded although the queue `{name}` is there as a classic queue: tasks in it would not be replicated, nor dead-lettered"
            ),
        }
        depot.until_ready(&name, 1).await?;
    }
    Ok(())
}

async fn an_exchange_that_differs_is_named(lab: Lab) -> Outcome {
    lab.promise("an exchange that is there with another type is `Error::Declared`, with its name");
    let depot = Depot::new(&lab).await?;
    let name = depot.names.exchange();
    let theirs = channel(&depot).await?;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    theirs
        .exchange_declare(
            name.as_str().into(),
            ExchangeKind::Direct,
            options,
            FieldTable::default(),
        )
        .await?;
    match declare(&channel(&depot).await?, &depot.names).await {
        Err(Error::Declared { what, .. }) if what.contains(&name) => Ok(()),
        Err(other) => fail!("`declare` failed with: {other}; the exchange `{name}` differs"),
        Ok(()) => fail!("`declare` succeeded although the exchange `{name}` is there as `direct`"),
    }
}

async fn task_queues_are_kept_apart(lab: Lab) -> Outcome {
    lab.promise("two task queues with different names share nothing");
    let one = declared(&lab).await?;
    let mut two = one.clone();
    // The name of the one is the beginning of the other's.
    two.names = Names::new(&format!("{}.more", one.names))?;
    declare(&channel(&two).await?, &two.names).await?;
    one.publish_bytes(b"{}").await?;
    one.until_ready(&one.names.queue(), 1).await?;
    let strays = two.ready(&two.names.queue()).await?;
    ensure!(
        strays == 0,
        "a task for `{}` came into the queue `{}` too",
        one.names,
        two.names.queue()
    );
    Ok(())
}

async fn a_channel_that_is_closed_is_an_error(lab: Lab) -> Outcome {
    lab.promise(
        "on a channel that is closed `declare` fails, and does not say that the topology is there",
    );
    let depot = Depot::new(&lab).await?;
    let channel = channel(&depot).await?;
    channel.close(200, "done".into()).await?;
    match declare(&channel, &depot.names).await {
        Ok(()) => fail!("`declare` succeeded on a closed channel"),
        Err(Error::Declared { what, .. }) => {
            fail!("a closed channel was taken for a difference of {what}")
        }
        Err(_) => Ok(()),
    }
}
