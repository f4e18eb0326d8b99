// Stub ab29485ae74776a8: this file is yours to write. `cargo xtask reset event-bus` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The saga: three services that together serve an order, and clean up if one of them cannot.

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::{Order, Saga, Service};

/// Places an order: its state `order:ID` and the event `order.placed` `{order, amount, item}`, by the
/// outbox under `saga.prefix`. If there is an order with this id already, whatever became of it,
/// nothing happens: so one may place it again when the answer was lost.
///
/// # Errors
/// [`Error::Connect`] or [`Error::Redis`] if Redis is away. Then place it again.
pub async fn place(saga: &Saga, order: &Order) -> Result<(), Error> {
    todo!("stage 9: load the state; if there is none, commit it with the event")
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
    todo!(
        "stage 9: follow the log; for each event load, decide, act with a key of the order, commit"
    )
}
