//! From bytes to events. What is not understood is passed on as it is.

use std::collections::HashMap;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};

use super::Message;

/// The client's first eight bytes, `AMQP` and the version.
const GREETING: usize = 8;
/// Type, channel and length of a frame.
const HEAD: usize = 7;

/// What comes out of a [`Parser`].
#[derive(Debug, PartialEq)]
pub(super) enum Unit {
    /// To be passed on: a greeting, a heartbeat.
    Raw(Vec<u8>),
    /// A method, with its message where it has one, and all their bytes.
    Method {
        bytes: Vec<u8>,
        channel: u16,
        method: AMQPClass,
        message: Option<Message>,
    },
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Parser {
    bytes: Vec<u8>,
    /// By channel: methods whose message is not here yet.
    open: HashMap<u16, Open>,
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
        self.bytes.extend_from_slice(bytes);
    }

    /// The next unit that is whole.
    pub(super) fn next(&mut self) -> Option<Unit> {
        loop {
            let bytes = self.frame()?;
            if let Some(unit) = self.take(bytes) {
                return Some(unit);
            }
        }
    }

    /// The bytes of the next frame, if they are all here.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let length = if self.bytes.first() == Some(&b'A') {
            GREETING
        } else {
            let head = self.bytes.get(..HEAD)?;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            // The last byte is a mark.
            HEAD + usize::try_from(size).ok()? + 1
        };
        if self.bytes.len() < length {
            return None;
        }
        Some(self.bytes.drain(..length).collect())
    }

    fn take(&mut self, bytes: Vec<u8>) -> Option<Unit> {
        let frame = parse_frame(bytes.as_slice()).map(|(_, frame)| frame);
        match frame {
            Ok(AMQPFrame::Method(channel, method)) => self.method(bytes, channel, method),
            Ok(AMQPFrame::Header(channel, header)) => {
                let Some(open) = self.open.get_mut(&channel) else {
                    return Some(Unit::Raw(bytes));
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
                    return Some(Unit::Raw(bytes));
                };
                open.bytes.extend_from_slice(&bytes);
                open.missing = open.missing.saturating_sub(part.len() as u64);
                if let Some(message) = &mut open.message {
                    message.body.extend_from_slice(&part);
                }
                self.close_if_whole(channel)
            }
            _ => Some(Unit::Raw(bytes)),
        }
    }

    fn method(&mut self, bytes: Vec<u8>, channel: u16, method: AMQPClass) -> Option<Unit> {
        if !has_message(&method) {
            return Some(Unit::Method {
                bytes,
                channel,
                method,
                message: None,
            });
        }
        let open = Open {
            bytes,
            method,
            message: None,
            missing: 0,
        };
        self.open.insert(channel, open);
        None
    }

    fn close_if_whole(&mut self, channel: u16) -> Option<Unit> {
        if self.open.get(&channel)?.missing > 0 {
            return None;
        }
        let open = self.open.remove(&channel)?;
        Some(Unit::Method {
            bytes: open.bytes,
            channel,
            method: open.method,
            message: open.message,
        })
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

    /// A publish on channel 1: exchange `e`, key `k`, mandatory, delivery mode 2, body `hi`.
    fn publish() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut frame = |kind: u8, payload: &[u8]| {
            bytes.push(kind);
            bytes.extend_from_slice(&1_u16.to_be_bytes());
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend_from_slice(payload);
            bytes.push(0xce);
        };
        frame(1, &[0, 60, 0, 40, 0, 0, 1, b'e', 1, b'k', 1]);
        frame(2, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0, 2]);
        frame(3, b"hi");
        bytes
    }

    #[test]
    fn a_message_is_one_unit_wherever_its_bytes_are_cut() {
        let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xce];
        let bytes = [b"AMQP\x00\x00\x09\x01".as_slice(), &heartbeat, &publish()].concat();
        for cut in 0..=bytes.len() {
            let mut parser = Parser::default();
            let mut units = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                parser.feed(part);
                units.extend(std::iter::from_fn(|| parser.next()));
            }
            let [
                Unit::Raw(greeting),
                Unit::Raw(beat),
                Unit::Method {
                    bytes,
                    channel,
                    message,
                    ..
                },
            ] = &units[..]
            else {
                panic!("cut at {cut}: {units:?}");
            };
            assert_eq!((greeting.len(), beat.as_slice()), (8, &heartbeat[..]));
            assert_eq!((*channel, bytes.as_slice()), (1, &publish()[..]));
            let message = message.as_ref().expect("a message");
            assert_eq!(
                (message.is_persistent(), message.body.as_slice()),
                (true, &b"hi"[..])
            );
        }
    }
}
