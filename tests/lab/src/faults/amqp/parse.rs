//! From bytes to events. What is not understood is passed on as it is.

use std::collections::HashMap;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};

use super::Message;

/// The first eight bytes of a client, `AMQP` and the version. A broker that speaks another one answers with
/// the same.
const GREETING: usize = 8;
/// Type, channel and length of a frame.
const HEAD: usize = 7;
/// The last byte of every frame.
const END: u8 = 0xce;
/// RabbitMQ refuses longer frames than 128 KiB unless it is told otherwise.
const LONGEST: usize = 64 << 20;

/// What comes out of a [`Parser`]: bytes to be passed on, and what they say.
#[derive(Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) bytes: Vec<u8>,
    /// Nothing for a greeting, a heartbeat, and what is no AMQP.
    pub(super) said: Option<Said>,
}

/// A method, with its message where it has one.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub(super) channel: u16,
    pub(super) method: AMQPClass,
    pub(super) message: Option<Message>,
}

/// One direction of a connection. It is fed whatever has arrived: a frame may be cut anywhere.
#[derive(Default)]
pub(super) struct Parser {
    bytes: Vec<u8>,
    /// Up to here the bytes were given out.
    start: usize,
    /// By channel: methods whose message is not here yet.
    open: HashMap<u16, Open>,
    /// A unit that comes before what is read next.
    waiting: Option<Unit>,
    /// This is no AMQP: everything is passed on as it comes.
    opaque: bool,
}

struct Open {
    bytes: Vec<u8>,
    method: AMQPClass,
    message: Option<Message>,
    /// Bytes of the body that are still to come.
    missing: u64,
}

impl Parser {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next unit that is whole.
    pub(super) fn next(&mut self) -> Option<Unit> {
        loop {
            if let Some(unit) = self.waiting.take() {
                return Some(unit);
            }
            let bytes = self.frame()?;
            if let Some(unit) = self.take(bytes) {
                return Some(unit);
            }
        }
    }

    /// The bytes of the next frame, if they are all here.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.start..];
        let first = *rest.first()?;
        let length = match first {
            b'A' => GREETING,
            1 | 2 | 3 | 8 => {
                let head = rest.get(..HEAD)?;
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                HEAD + usize::try_from(size).ok()? + 1
            }
            _ => 0,
        };
        let ends_well = |last: &u8| first == b'A' || *last == END;
        let is_frame =
            (1..=LONGEST).contains(&length) && rest.get(length - 1).is_none_or(ends_well);
        self.opaque |= !is_frame;
        let length = if self.opaque { rest.len() } else { length };
        let frame = rest.get(..length)?.to_vec();
        self.start += length;
        Some(frame)
    }

    fn take(&mut self, bytes: Vec<u8>) -> Option<Unit> {
        if self.opaque {
            return Some(Unit::raw(bytes));
        }
        let frame = parse_frame(bytes.as_slice()).map(|(_, frame)| frame);
        match frame {
            Ok(AMQPFrame::Method(channel, method)) => self.method(bytes, channel, method),
            Ok(AMQPFrame::Header(channel, header)) => {
                let Some(open) = self.open.get_mut(&channel) else {
                    return Some(Unit::raw(bytes));
                };
                open.bytes.extend_from_slice(&bytes);
                open.missing = header.body_size;
                open.message = Some(Message {
                    properties: header.properties,
                    body: Vec::new(),
                });
                self.close_if_whole(channel)
            }
            Ok(AMQPFrame::Body(channel, part)) => {
                let Some(open) = self.open.get_mut(&channel) else {
                    return Some(Unit::raw(bytes));
                };
                open.bytes.extend_from_slice(&bytes);
                open.missing = open.missing.saturating_sub(part.len() as u64);
                if let Some(message) = &mut open.message {
                    message.body.extend_from_slice(&part);
                }
                self.close_if_whole(channel)
            }
            _ => Some(Unit::raw(bytes)),
        }
    }

    fn method(&mut self, bytes: Vec<u8>, channel: u16, method: AMQPClass) -> Option<Unit> {
        // A message that was broken off is a mistake, which the other side is to tell.
        let broken_off = self.open.remove(&channel);
        let mut unit = None;
        if has_message(&method) {
            let open = Open {
                bytes,
                method,
                message: None,
                missing: 0,
            };
            self.open.insert(channel, open);
        } else {
            let said = Said {
                channel,
                method,
                message: None,
            };
            unit = Some(Unit {
                bytes,
                said: Some(said),
            });
        }
        if let Some(broken_off) = broken_off {
            self.waiting = unit;
            return Some(Unit::raw(broken_off.bytes));
        }
        unit
    }

    fn close_if_whole(&mut self, channel: u16) -> Option<Unit> {
        if self.open.get(&channel)?.missing > 0 {
            return None;
        }
        let open = self.open.remove(&channel)?;
        Some(Unit {
            bytes: open.bytes,
            said: Some(Said {
                channel,
                method: open.method,
                message: open.message,
            }),
        })
    }
}

impl Unit {
    fn raw(bytes: Vec<u8>) -> Self {
        Unit { bytes, said: None }
    }
}

fn has_message(method: &AMQPClass) -> bool {
    use basic::AMQPMethod::{Deliver, GetOk, Publish, Return};
    matches!(
        method,
        AMQPClass::Basic(Publish(_) | Deliver(_) | Return(_) | GetOk(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&channel.to_be_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(END);
        bytes
    }

    /// Exchange `e`, key `k`, mandatory, delivery mode 2, a body in parts.
    fn publish(channel: u16, parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let size = parts.iter().map(|part| part.len()).sum::<usize>() as u64;
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&size.to_be_bytes());
        header.extend_from_slice(&[0x10, 0, 2]);
        let mut frames = vec![
            frame(1, channel, &[0, 60, 0, 40, 0, 0, 1, b'e', 1, b'k', 1]),
            frame(2, channel, &header),
        ];
        frames.extend(parts.iter().map(|part| frame(3, channel, part)));
        frames
    }

    fn read(parts: &[&[u8]]) -> Vec<Unit> {
        let mut parser = Parser::default();
        let mut units = Vec::new();
        for part in parts {
            parser.feed(part);
            units.extend(std::iter::from_fn(|| parser.next()));
        }
        units
    }

    /// The bodies of messages, by channel.
    fn bodies(units: &[Unit]) -> Vec<(u16, &[u8])> {
        let said = units.iter().filter_map(|unit| unit.said.as_ref());
        said.filter_map(|said| Some((said.channel, said.message.as_ref()?.body.as_slice())))
            .collect()
    }

    fn bytes(units: &[Unit]) -> Vec<&[u8]> {
        units.iter().map(|unit| unit.bytes.as_slice()).collect()
    }

    #[test]
    fn a_message_is_one_unit_wherever_its_bytes_are_cut() {
        let beat = frame(8, 0, &[]);
        let all = [
            b"AMQP\x00\x00\x09\x01".to_vec(),
            beat.clone(),
            publish(1, &[b"he", b"llo"]).concat(),
        ];
        let whole = all.concat();
        for cut in 0..=whole.len() {
            let units = read(&[&whole[..cut], &whole[cut..]]);
            assert_eq!(bytes(&units), all, "cut at {cut}");
            assert_eq!(bodies(&units), [(1, &b"hello"[..])], "cut at {cut}");
        }
        let one_by_one: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(bodies(&read(&one_by_one)), [(1, &b"hello"[..])]);
    }

    #[test]
    fn what_is_published_is_read() {
        let unit = read(&[&publish(7, &[]).concat()]).pop();
        let said = unit.and_then(|unit| unit.said).expect("it is whole");
        let message = said.message.expect("it has one");
        assert!(message.is_persistent() && message.body.is_empty());
        let AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) = said.method else {
            panic!("{:?}", said.method);
        };
        assert_eq!(
            (publish.exchange.as_str(), publish.routing_key.as_str()),
            ("e", "k")
        );
        assert!(publish.mandatory);
    }

    #[test]
    fn messages_of_two_channels_may_be_interleaved() {
        let (one, two) = (publish(1, &[b"one"]), publish(2, &[b"two"]));
        let mixed = [&one[0], &two[0], &two[1], &one[1], &two[2], &one[2]];
        let mixed = mixed.map(|frame| frame.as_slice()).concat();
        assert_eq!(
            bodies(&read(&[&mixed])),
            [(2, &b"two"[..]), (1, &b"one"[..])]
        );
    }

    #[test]
    fn what_is_not_understood_is_passed_on() {
        let strange = frame(1, 1, &[0, 99, 0, 99]);
        let broken_off = publish(1, &[b"never"])[0].clone();
        let next = publish(1, &[b"ok"]).concat();
        let no_amqp = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        for all in [
            vec![strange.clone(), next.clone()],
            vec![broken_off, next],
            vec![strange, no_amqp],
        ] {
            let units = read(&[&all.concat()]);
            assert_eq!(bytes(&units), all);
        }
    }
}
