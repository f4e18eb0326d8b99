// solution only
//! The payment service: takes the money for an order, and gives it back.

use serde_json::json;

use super::work::{Desk, missing, text};
use crate::bank::Answer;
use crate::error::Error;
use crate::event::Event;

pub async fn work(desk: &Desk, event: &Event) -> Result<(), Error> {
    match event.name.as_str() {
        "order.placed" => charge(desk, event).await,
        "shipping.refused" => give_back(desk, event).await,
        _ => Ok(()),
    }
}

async fn charge(desk: &Desk, event: &Event) -> Result<(), Error> {
    let order = text(event, "order")?;
    let amount = event.data["amount"]
        .as_u64()
        .ok_or_else(|| missing(event, "amount"))?;
    let file = desk.file(order).await?;
    if !file.state.is_null() {
        return Ok(());
    }
    // If we die behind this line, we ask again: with the same key, so it is charged once.
    match desk.bank.charge(&key(order), amount).await? {
        Answer::Done => {
            let taken = Event::new("payment.taken", json!({"order": order, "amount": amount}))?;
            desk.note(&file, json!({"state": "taken"}), Some(taken))
                .await
        }
        Answer::Declined(reason) => {
            let told = json!({"order": order, "reason": reason});
            let declined = Event::new("payment.declined", told)?;
            desk.note(&file, json!({"state": "declined"}), Some(declined))
                .await
        }
    }
}

async fn give_back(desk: &Desk, event: &Event) -> Result<(), Error> {
    let order = text(event, "order")?;
    let file = desk.file(order).await?;
    if file.state() != "taken" {
        return Ok(());
    }
    desk.bank.give_back(&key(order)).await?;
    let returned = Event::new("payment.returned", json!({"order": order}))?;
    desk.note(&file, json!({"state": "returned"}), Some(returned))
        .await
}

/// The bank's key for an order: the same in every attempt.
fn key(order: &str) -> String {
    format!("order:{order}")
}
// end solution only
