//! From the frames of AMQP to events of a history.

use std::collections::{BTreeMap, HashMap, HashSet};

use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use amq_protocol::types::AMQPValue;

use super::{Event, What};
use crate::faults::amqp::{Frame, Side};

/// What was absorbed so far, so that nothing is absorbed twice.
#[derive(Debug, Default)]
pub(super) struct Absorbed {
    /// The ports of the proxies, in order.
    proxies: Vec<u16>,
    frames: HashSet<(u16, usize)>,
}

impl Absorbed {
    /// What RabbitMQ and its clients told each other, message by message. A client has the name of its
    /// connection, with the connection's number; behind a second proxy that is `2.1`, `2.2` and so on.
    pub(super) fn absorb(&mut self, port: u16, log: &[Frame], events: &mut Vec<Event>) {
        let known = self.proxies.iter().position(|other| *other == port);
        let proxy = known.unwrap_or_else(|| {
            self.proxies.push(port);
            self.proxies.len() - 1
        });
        let actors = actors(log, proxy);
        let mut open = Open::default();
        for frame in log.iter().filter(|frame| frame.passed) {
            let seen = open.take(frame);
            if !self.frames.insert((port, frame.seq)) {
                continue;
            }
            for (id, what, detail) in seen {
                events.push(Event {
                    at: frame.at,
                    actor: actors.get(&frame.connection).cloned().unwrap_or_default(),
                    what,
                    id,
                    detail,
                });
            }
        }
    }
}

/// The name of each connection.
fn actors(log: &[Frame], proxy: usize) -> HashMap<u64, String> {
    let mut actors = HashMap::new();
    for frame in log {
        let number = match proxy {
            0 => frame.connection.to_string(),
            more => format!("{}.{}", more + 1, frame.connection),
        };
        let named = name(frame).map(|name| format!("{name} {number}"));
        let actor = actors
            .entry(frame.connection)
            .or_insert_with(|| format!("client {number}"));
        if let Some(named) = named {
            *actor = named;
        }
    }
    actors
}

/// What a client calls its connection, in its first method.
fn name(frame: &Frame) -> Option<String> {
    let AMQPClass::Connection(connection::AMQPMethod::StartOk(ok)) = &frame.method else {
        return None;
    };
    match ok.client_properties.inner().get("connection_name")? {
        AMQPValue::LongString(name) => Some(name.to_string()),
        _ => None,
    }
}

/// By channel: what was published and not confirmed, what was delivered and not settled.
#[derive(Default)]
struct Open {
    published: HashMap<(u64, u16), Published>,
    delivered: HashMap<(u64, u16), BTreeMap<u64, String>>,
}

/// In confirm mode RabbitMQ numbers what is published, from 1.
#[derive(Default)]
struct Published {
    last: u64,
    open: BTreeMap<u64, String>,
}

impl Open {
    /// Follows a frame. Returns what it means for which messages, with a detail.
    fn take(&mut self, frame: &Frame) -> Vec<(String, What, String)> {
        let place = (frame.connection, frame.channel);
        let note = |text: &str| What::Note(text.to_owned());
        if let Some((publish, message)) = frame.publish() {
            if let Some(published) = self.published.get_mut(&place) {
                published.last += 1;
                published
                    .open
                    .insert(published.last, message.id().to_owned());
            }
            let exchange = publish.exchange.as_str();
            let what = match exchange.ends_with(".dead") {
                true => What::DeadLettered,
                false => note("published"),
            };
            let to = match exchange {
                "" => format!("into `{}`", publish.routing_key),
                exchange => format!("to `{exchange}`"),
            };
            return vec![(message.id().to_owned(), what, to)];
        }
        if let Some((deliver, message)) = frame.deliver() {
            let id = message.id().to_owned();
            let open = self.delivered.entry(place).or_default();
            open.insert(deliver.delivery_tag, id.clone());
            let again = if deliver.redelivered { "again" } else { "" };
            let what = What::Delivered { deliveries: 0 };
            return vec![(id, what, again.to_owned())];
        }
        if let Some((tag, multiple)) = frame.confirms() {
            let what = match frame.is_confirm() {
                true => note("confirmed"),
                false => note("refused"),
            };
            let open = self.published.get_mut(&place).map(|it| &mut it.open);
            return settled(open, tag, multiple, &what);
        }
        if let Some((tag, multiple, requeued)) = frame.settles() {
            let what = match (frame.is_ack(), requeued) {
                (true, _) => What::Acknowledged,
                (_, true) => note("given back"),
                (_, false) => note("rejected"),
            };
            return settled(self.delivered.get_mut(&place), tag, multiple, &what);
        }
        match (&frame.method, &frame.message) {
            (AMQPClass::Basic(basic::AMQPMethod::Return(returned)), Some(message)) => {
                let why = returned.reply_text.to_string();
                return vec![(message.id().to_owned(), note("returned"), why)];
            }
            (AMQPClass::Confirm(_), _) if frame.from == Side::Client => {
                self.published.entry(place).or_default();
            }
            // Perhaps under the number of one that was closed.
            (AMQPClass::Channel(channel::AMQPMethod::Open(_)), _) => {
                self.published.remove(&place);
                self.delivered.remove(&place);
            }
            _ => {}
        }
        Vec::new()
    }
}

/// Takes out what a tag means: one, those up to it, or all if it is 0.
fn settled(
    open: Option<&mut BTreeMap<u64, String>>,
    tag: u64,
    multiple: bool,
    what: &What,
) -> Vec<(String, What, String)> {
    let Some(open) = open else { return Vec::new() };
    let meant = |other: u64| other == tag || (multiple && (tag == 0 || other < tag));
    let tags: Vec<u64> = open.keys().copied().filter(|other| meant(*other)).collect();
    let ids = tags.iter().filter_map(|tag| open.remove(tag));
    ids.map(|id| (id, what.clone(), String::new())).collect()
}
