// solution only
//! The shipping service: sends what was paid for, if it has it.

use serde_json::json;

use super::work::{Desk, missing, text};
use crate::error::Error;
use crate::event::Event;

pub async fn work(desk: &Desk, event: &Event) -> Result<(), Error> {
    match event.name.as_str() {
        "order.placed" => remember(desk, event).await,
        "payment.taken" => send(desk, event).await,
        _ => Ok(()),
    }
}

/// What is to be sent is told when the order is placed, and not when it is paid.
async fn remember(desk: &Desk, event: &Event) -> Result<(), Error> {
    let file = desk.file(text(event, "order")?).await?;
    if !file.state.is_null() {
        return Ok(());
    }
    let item = text(event, "item")?;
    desk.note(&file, json!({"state": "placed", "item": item}), None)
        .await
}

async fn send(desk: &Desk, event: &Event) -> Result<(), Error> {
    let order = text(event, "order")?;
    let file = desk.file(order).await?;
    let item = match (file.state(), file.state["item"].as_str()) {
        ("placed", Some(item)) => item,
        ("", _) => return Err(missing(event, "item, and neither did anybody before")),
        _ => return Ok(()),
    };
    if item == "nothing" {
        let told = json!({"order": order, "reason": "there is nothing to send"});
        let refused = Event::new("shipping.refused", told)?;
        return desk
            .note(&file, json!({"state": "refused"}), Some(refused))
            .await;
    }
    let sent = Event::new("shipping.sent", json!({"order": order}))?;
    desk.note(&file, json!({"state": "sent"}), Some(sent)).await
}
// end solution only
