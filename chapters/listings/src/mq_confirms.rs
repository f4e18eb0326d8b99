//! What a publisher is told about a message that goes nowhere.

use anyhow::Result;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};

use crate::prints::{confirming, connect};

// ANCHOR: publish
/// To a queue that is not there.
async fn publish(
    channel: &Channel,
    queue: &str,
    mandatory: bool,
) -> Result<String> {
    let options = BasicPublishOptions { mandatory, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish(
        "".into(),
        queue.into(),
        options,
        b"photo",
        properties,
    );
    Ok(match sent.await?.await? {
        Confirmation::NotRequested => "nobody asked".to_owned(),
        Confirmation::Ack(None) => "confirmed".to_owned(),
        Confirmation::Ack(Some(back)) => format!("returned: {}", back.reply_text),
        Confirmation::Nack(_) => "refused".to_owned(),
    })
}
// ANCHOR_END: publish

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    // ANCHOR: three
    let plain = connection.create_channel().await?;
    println!("plain:                {}", publish(&plain, name, false).await?);
    println!("mandatory:            {}", publish(&plain, name, true).await?);
    let confirms = confirming(&connection).await?;
    println!("confirms:             {}", publish(&confirms, name, false).await?);
    println!("confirms, mandatory:  {}", publish(&confirms, name, true).await?);
    // ANCHOR_END: three
    Ok(())
}
