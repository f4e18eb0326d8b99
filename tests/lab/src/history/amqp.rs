//! From the frames of AMQP to events of a history.

use std::collections::HashMap;

use super::{Event, What};
use crate::faults::amqp::Frame;

/// What RabbitMQ and its clients told each other, message by message. Clients are numbered in the order
/// in which they connected.
pub(super) fn absorb(log: &[Frame], events: &mut Vec<Event>) {
    let mut deliveries: HashMap<(u64, u16, u64), String> = HashMap::new();
    for frame in log.iter().filter(|frame| frame.passed) {
        let mut push = |what: What, id: &str, detail: String| {
            events.push(Event {
                at: frame.at,
                actor: format!("client {}", frame.connection),
                what,
                id: id.to_owned(),
                detail,
            });
        };
        if let Some((publish, message)) = frame.publish() {
            let exchange = publish.exchange.as_str();
            let place = match exchange {
                "" => format!("into `{}`", publish.routing_key),
                exchange => format!("to `{exchange}`"),
            };
            let what = match exchange.ends_with(".dead") {
                true => What::DeadLettered,
                false => What::Note("published".to_owned()),
            };
            push(what, message.id(), place);
        } else if let Some((deliver, message)) = frame.deliver() {
            let again = if deliver.redelivered { "again" } else { "" };
            let place = (frame.connection, frame.channel, deliver.delivery_tag);
            deliveries.insert(place, message.id().to_owned());
            let what = What::Delivered { deliveries: 0 };
            push(what, message.id(), again.to_owned());
        } else if let Some((tag, _, requeued)) = frame.settles() {
            let id = deliveries.get(&(frame.connection, frame.channel, tag));
            let what = match (frame.is_ack(), requeued) {
                (true, _) => What::Acknowledged,
                (_, true) => What::Note("given back".to_owned()),
                (_, false) => What::Note("rejected".to_owned()),
            };
            push(what, id.map_or("", String::as_str), String::new());
        }
    }
}
