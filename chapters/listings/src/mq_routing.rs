//! A topic exchange: who gets a message is decided by its routing key.

use anyhow::Result;
use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};

use crate::prints::{confirming, connect, delete, queue, waiting};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    let (papers, posters) = (format!("{name}.papers"), format!("{name}.posters"));
    // ANCHOR: routing
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default;
    channel
        .exchange_declare(name.into(), ExchangeKind::Topic, durable, none())
        .await?;
    for (to, pattern) in [(&papers, "print.*"), (&posters, "print.poster")] {
        queue(&channel, to, &[]).await?;
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                to.as_str().into(),
                name.into(),
                pattern.into(),
                options,
                none(),
            )
            .await?;
    }
    for key in ["print.small", "print.poster", "frame.oak"] {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = channel.basic_publish(
            name.into(),
            key.into(),
            options,
            b"1",
            properties,
        );
        println!("{key}: confirmed {}", sent.await?.await?.is_ack());
    }
    for to in [&papers, &posters] {
        let kind = to.rsplit('.').next().unwrap_or_default();
        println!("{kind}: {}", waiting(&connection, to).await?);
    }
    // ANCHOR_END: routing
    delete(&channel, &papers).await?;
    delete(&channel, &posters).await?;
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
    Ok(())
}
