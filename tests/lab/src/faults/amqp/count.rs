//! What can be counted on the wire.

use std::collections::{HashMap, HashSet};

use amq_protocol::protocol::{AMQPClass, basic};

use super::{Frame, Side};

/// The most deliveries of a queue that one consumer held unacknowledged at one time.
pub fn most_unacked(log: &[Frame], queue: &str) -> usize {
    // Consumers by connection and channel, while their tag is not known; then by tag.
    let mut asked: HashMap<(u64, u16), bool> = HashMap::new();
    let mut consumers: HashSet<(u64, u16, String)> = HashSet::new();
    let mut held: HashMap<(u64, u16), HashMap<u64, String>> = HashMap::new();
    let mut most = 0;
    for frame in log.iter().filter(|frame| frame.passed) {
        let place = (frame.connection, frame.channel);
        if let Some(consume) = frame.consume() {
            asked.insert(place, consume.queue.as_str() == queue);
        } else if let AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) = &frame.method {
            if asked.remove(&place) == Some(true) {
                consumers.insert((place.0, place.1, ok.consumer_tag.to_string()));
            }
        } else if let Some((deliver, _)) = frame.deliver() {
            let tag = deliver.consumer_tag.to_string();
            if consumers.contains(&(place.0, place.1, tag.clone())) {
                let held = held.entry(place).or_default();
                held.insert(deliver.delivery_tag, tag.clone());
                most = most.max(held.values().filter(|other| **other == tag).count());
            }
        } else if let Some((tag, multiple, _)) = frame.settles()
            && let Some(held) = held.get_mut(&place)
        {
            held.retain(|other, _| *other != tag && !(multiple && (tag == 0 || *other < tag)));
        }
    }
    most
}

/// The most messages that were published on one channel and neither confirmed nor refused yet.
pub fn most_outstanding(log: &[Frame]) -> usize {
    // RabbitMQ numbers what is published on a channel in confirm mode, from 1.
    let mut published: HashMap<(u64, u16), (u64, HashSet<u64>)> = HashMap::new();
    let mut most = 0;
    for frame in log {
        let place = (frame.connection, frame.channel);
        let is_confirm_mode = matches!(&frame.method, AMQPClass::Confirm(_));
        if is_confirm_mode && frame.from == Side::Client {
            published.insert(place, (0, HashSet::new()));
        } else if frame.is_publish() {
            if let Some((number, waiting)) = published.get_mut(&place) {
                *number += 1;
                waiting.insert(*number);
                most = most.max(waiting.len());
            }
        } else if let Some((tag, multiple)) = frame.confirms()
            && let Some((_, waiting)) = published.get_mut(&place)
        {
            waiting.retain(|other| *other != tag && !(multiple && *other < tag));
        }
    }
    most
}
