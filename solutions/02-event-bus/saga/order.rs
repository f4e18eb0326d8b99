// solution only
//! The order service: knows what became of each order, and says so once.

use serde_json::{Value, json};

use super::work::{Desk, text};
use crate::error::Error;
use crate::event::Event;

pub async fn work(desk: &Desk, event: &Event) -> Result<(), Error> {
    if ![
        "shipping.sent",
        "shipping.refused",
        "payment.declined",
        "payment.returned",
    ]
    .contains(&event.name.as_str())
    {
        return Ok(());
    }
    let order = text(event, "order")?;
    let file = desk.file(order).await?;
    if matches!(file.state(), "completed" | "cancelled") {
        return Ok(());
    }
    match event.name.as_str() {
        "shipping.sent" => {
            let completed = Event::new("order.completed", json!({"order": order}))?;
            desk.note(&file, json!({"state": "completed"}), Some(completed))
                .await
        }
        // Cancelled once the money is back. Why, is told now and not then.
        "shipping.refused" => {
            let reason = &event.data["reason"];
            desk.note(&file, json!({"state": "refused", "reason": reason}), None)
                .await
        }
        name => {
            let told = match name {
                "payment.declined" => &event.data["reason"],
                _ => &file.state["reason"],
            };
            cancel(desk, order, told, &file).await
        }
    }
}

async fn cancel(
    desk: &Desk,
    order: &str,
    reason: &Value,
    file: &super::work::File,
) -> Result<(), Error> {
    let cancelled = Event::new("order.cancelled", json!({"order": order, "reason": reason}))?;
    let state = json!({"state": "cancelled", "reason": reason});
    desk.note(file, state, Some(cancelled)).await
}
// end solution only
