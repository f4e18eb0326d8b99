//! What can be counted on the wire.

use std::collections::{HashMap, HashSet, VecDeque};

use amq_protocol::protocol::{AMQPClass, basic, channel};

use super::{Frame, Side};

/// A channel: its connection and its number there.
type Place = (u64, u16);

/// The most deliveries of a queue that one consumer held unacknowledged at one time. One that consumes
/// without acknowledgements holds all that it was ever given.
pub fn most_unacked(log: &[Frame], queue: &str) -> usize {
    let mut held = Held::default();
    let mut most = 0;
    for frame in log.iter().filter(|frame| frame.passed) {
        if let Some(consumer) = held.take(frame, queue) {
            most = most.max(held.by(&consumer));
        }
    }
    most
}

/// The same for all consumers of the queue on one connection together: whoever opens a second consumer holds
/// no less for that.
pub fn most_unacked_on_one_connection(log: &[Frame], queue: &str) -> usize {
    let mut held = Held::default();
    let mut most = 0;
    for frame in log.iter().filter(|frame| frame.passed) {
        if held.take(frame, queue).is_some() {
            most = most.max(held.on(frame.connection));
        }
    }
    most
}

/// A consumer: where it is, and its tag there.
type Consumer = (Place, String);

/// Who holds what.
#[derive(Default)]
struct Held {
    /// The queues that were asked for on a channel and are not confirmed. Confirmed they are in order.
    asked: HashMap<Place, VecDeque<bool>>,
    consumers: HashSet<Consumer>,
    /// By channel and delivery tag.
    deliveries: HashMap<Place, HashMap<u64, Consumer>>,
}

impl Held {
    /// Follows a frame. Returns a consumer of the queue that was just given something.
    fn take(&mut self, frame: &Frame, queue: &str) -> Option<Consumer> {
        let place = (frame.connection, frame.channel);
        if let Some(consume) = frame.consume() {
            let wanted = consume.queue.as_str() == queue;
            if consume.nowait && wanted {
                self.consumers
                    .insert((place, consume.consumer_tag.to_string()));
            } else if !consume.nowait {
                self.asked.entry(place).or_default().push_back(wanted);
            }
        } else if let AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) = &frame.method {
            let asked = self.asked.get_mut(&place).and_then(VecDeque::pop_front);
            if asked == Some(true) {
                self.consumers.insert((place, ok.consumer_tag.to_string()));
            }
        } else if let Some((deliver, _)) = frame.deliver() {
            let consumer = (place, deliver.consumer_tag.to_string());
            if self.consumers.contains(&consumer) {
                let held = self.deliveries.entry(place).or_default();
                held.insert(deliver.delivery_tag, consumer.clone());
                return Some(consumer);
            }
        } else if let Some((tag, multiple, _)) = frame.settles() {
            if let Some(held) = self.deliveries.get_mut(&place) {
                held.retain(|other, _| !covers(tag, multiple, *other));
            }
        } else if begins_anew(frame) {
            self.asked.remove(&place);
            self.deliveries.remove(&place);
            self.consumers.retain(|(other, _)| *other != place);
        }
        None
    }

    fn by(&self, consumer: &Consumer) -> usize {
        let held = self.deliveries.get(&consumer.0);
        held.map_or(0, |held| {
            held.values().filter(|other| *other == consumer).count()
        })
    }

    fn on(&self, connection: u64) -> usize {
        let channels = self.deliveries.iter();
        let of_it = channels.filter(|(place, _)| place.0 == connection);
        of_it.map(|(_, held)| held.len()).sum()
    }
}

/// The most messages that were published on one channel and neither confirmed nor refused yet.
pub fn most_outstanding(log: &[Frame]) -> usize {
    // RabbitMQ numbers what is published on a channel in confirm mode, from 1.
    let mut published: HashMap<Place, (u64, HashSet<u64>)> = HashMap::new();
    let mut most = 0;
    for frame in log {
        let place = (frame.connection, frame.channel);
        let is_confirm_mode = matches!(&frame.method, AMQPClass::Confirm(_));
        if is_confirm_mode && frame.from == Side::Client {
            // Said again it changes nothing.
            published.entry(place).or_default();
        } else if frame.is_publish() {
            if let Some((number, waiting)) = published.get_mut(&place) {
                *number += 1;
                waiting.insert(*number);
                most = most.max(waiting.len());
            }
        } else if let Some((tag, multiple)) = frame.confirms() {
            if let Some((_, waiting)) = published.get_mut(&place) {
                waiting.retain(|other| !covers(tag, multiple, *other));
            }
        } else if begins_anew(frame) {
            published.remove(&place);
        }
    }
    most
}

/// Whether a settling or a confirm of `tag` is about this one, too. A tag of 0 means all.
fn covers(tag: u64, multiple: bool, other: u64) -> bool {
    other == tag || (multiple && (tag == 0 || other < tag))
}

/// The channel is opened, perhaps under the number of one that was closed: that one's deliveries went back.
fn begins_anew(frame: &Frame) -> bool {
    matches!(
        &frame.method,
        AMQPClass::Channel(channel::AMQPMethod::Open(_))
    )
}
