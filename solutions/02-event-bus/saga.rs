//! The saga: three services that together serve an order, and clean up if one of them cannot.

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::{Order, Saga, Service};

// solution only
#[path = "saga/order.rs"]
mod order;
#[path = "saga/payment.rs"]
mod payment;
#[path = "saga/shipping.rs"]
mod shipping;
#[path = "saga/work.rs"]
mod work;

use std::sync::Arc;

use serde_json::json;

use self::work::Desk;
use crate::event::Event;
use crate::follow::follow;
use crate::options::Follow;
use crate::outbox::Outbox;
// end solution only

/// Places an order: its state `order:ID` and the event `order.placed` `{order, amount, item}`, by the
/// outbox under `saga.prefix`. If there is an order with this id already, whatever became of it,
/// nothing happens: so one may place it again when the answer was lost.
///
/// # Errors
/// [`Error::Connect`] or [`Error::Redis`] if Redis is away. Then place it again.
pub async fn place(saga: &Saga, order: &Order) -> Result<(), Error> {
    // stub stage 9: load the state; if there is none, commit it with the event
    let Order { id, amount, item } = order;
    let outbox = Outbox::connect(&saga.redis, &saga.prefix).await?;
    let key = format!("order:{id}");
    let (version, _) = outbox.load(&key).await?;
    if version > 0 {
        return Ok(());
    }
    let placed = json!({"order": id, "amount": amount, "item": item});
    let event = Event::new("order.placed", placed)?;
    match outbox
        .commit(&key, 0, &json!({"state": "placed"}), &[event])
        .await
    {
        // Somebody has just placed it.
        Err(Error::Conflict { .. }) => Ok(()),
        committed => committed.map(|_| ()),
    }
    // end stub
}

/// Runs one of the services, until `stop`: it follows the log as the group of its
/// [name](Service::name), does its part, and tells of it by the outbox, together with its own state
/// about the order: `order:ID`, `payment:ID` or `shipping:ID`. A [relay](crate::relay()) has to run too.
///
/// | service | on | does | and says |
/// |---|---|---|---|
/// | payment | `order.placed` | charges the amount | `payment.taken` `{order, amount}`, or `payment.declined` `{order, reason}` |
/// | shipping | `payment.taken` | sends the item of `order.placed`; refuses the item `nothing` | `shipping.sent` `{order}`, or `shipping.refused` `{order, reason}` |
/// | payment | `shipping.refused` | gives the money back | `payment.returned` `{order}` |
/// | order | `shipping.sent` | | `order.completed` `{order}` |
/// | order | `payment.declined`, `payment.returned` | | `order.cancelled` `{order, reason}`, with the reason of the refusal |
///
/// Every order ends: completed, with one charge, one shipment and nothing given back; or cancelled,
/// without a shipment, and with no charge, or with one that was given back once. `order.completed` or
/// `order.cancelled` is in the log once for each order. All that holds whatever dies, between any two
/// commands and as often as it likes, and when events are delivered twice.
///
/// While Redis is away it waits. An event with data that makes no sense is tried as often as
/// [`Follow`](crate::Follow) has it, and set aside.
///
/// # Errors
/// As [`follow()`](crate::follow()), at the start.
pub async fn serve(saga: Saga, service: Service, stop: CancellationToken) -> Result<(), Error> {
    // stub stage 9: follow the log; for each event load, decide, act with a key of the order, commit
    let options = Follow::new(&saga.redis, &saga.log, service.name(), "#");
    let desk = Arc::new(Desk::open(&saga, service, stop.clone()).await?);
    let handler = move |stored: crate::Stored| {
        let desk = Arc::clone(&desk);
        async move { Ok(desk.work(&stored.event).await?) }
    };
    follow(options, handler, stop).await.map(|_| ())
    // end stub
}
