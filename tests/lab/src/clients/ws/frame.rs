//! Frames as a client writes them: right ones, and wrong ones of every kind.

/// The opcodes of RFC 6455, 5.2.
pub mod opcode {
    /// Goes on with the message that the frame before began.
    pub const CONTINUATION: u8 = 0x0;
    /// A message of text, or its beginning.
    pub const TEXT: u8 = 0x1;
    /// A message of bytes, or its beginning.
    pub const BINARY: u8 = 0x2;
    /// The sender will send nothing more.
    pub const CLOSE: u8 = 0x8;
    /// Asks for a pong with the same payload.
    pub const PING: u8 = 0x9;
    /// The answer to a ping, or a sign of life that nobody asked for.
    pub const PONG: u8 = 0xa;
}

/// A frame for a server. As made it is a right one: final, masked, without reserved bits, its length
/// true and written in the shortest way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    opcode: u8,
    fin: bool,
    reserved: u8,
    mask: Option<[u8; 4]>,
    claimed: Option<u64>,
    payload: Vec<u8>,
}

impl Frame {
    /// A frame of this opcode, known or not.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Frame {
            opcode: opcode & 0x0f,
            fin: true,
            reserved: 0,
            // Any mask will do: it is there for the sake of old proxies, not of secrecy.
            mask: Some([0x5a, 0xc3, 0x17, 0x8e]),
            claimed: None,
            payload: payload.into(),
        }
    }

    /// A message of text. The bytes need not be UTF-8.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Frame::new(opcode::TEXT, payload)
    }

    /// A message of bytes.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Frame::new(opcode::BINARY, payload)
    }

    /// More of the message that was begun.
    pub fn continuation(payload: impl Into<Vec<u8>>) -> Self {
        Frame::new(opcode::CONTINUATION, payload)
    }

    /// A ping. More than 125 bytes are against the protocol.
    pub fn ping(payload: impl Into<Vec<u8>>) -> Self {
        Frame::new(opcode::PING, payload)
    }

    /// A pong.
    pub fn pong(payload: impl Into<Vec<u8>>) -> Self {
        Frame::new(opcode::PONG, payload)
    }

    /// A close with this code, allowed or not, and a reason.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Frame::new(opcode::CLOSE, payload)
    }

    /// A close that gives no code.
    pub fn close_without_code() -> Self {
        Frame::new(opcode::CLOSE, [])
    }

    /// More frames of the same message follow.
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// Sets the reserved bits: 4 is the first, 2 the second, 1 the third.
    pub fn reserved(mut self, bits: u8) -> Self {
        self.reserved = bits & 0x7;
        self
    }

    /// Not masked, which no client may do.
    pub fn unmasked(mut self) -> Self {
        self.mask = None;
        self
    }

    /// The header claims this length, whatever the payload is.
    pub fn claiming(mut self, length: u64) -> Self {
        self.claimed = Some(length);
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.claimed.unwrap_or(self.payload.len() as u64);
        let mut bytes = Vec::with_capacity(self.payload.len() + 14);
        bytes.push(u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode);
        let masked = u8::from(self.mask.is_some()) << 7;
        match length {
            0..=125 => bytes.push(masked | length as u8),
            126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        let begins = bytes.len();
        if let Some(mask) = self.mask {
            bytes.extend_from_slice(&mask);
            bytes.extend_from_slice(&self.payload);
            for four in bytes[begins + 4..].chunks_mut(4) {
                four.iter_mut()
                    .zip(mask)
                    .for_each(|(byte, key)| *byte ^= key);
            }
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_text_is_the_example_of_the_rfc() {
        let mut frame = Frame::text("Hello");
        frame.mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        let expected = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(frame.bytes(), expected);
        assert_eq!(
            Frame::text("Hello").unmasked().bytes(),
            [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
    }

    #[test]
    fn lengths_are_written_in_the_shortest_way() {
        let head = |length: usize| Frame::binary(vec![0; length]).unmasked().bytes();
        assert_eq!(head(125)[..2], [0x82, 125]);
        assert_eq!(head(126)[..4], [0x82, 126, 0, 126]);
        assert_eq!(head(65_535)[..4], [0x82, 126, 0xff, 0xff]);
        assert_eq!(head(65_536)[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_frame_can_be_wrong_in_every_part() {
        assert_eq!(Frame::text("a").unfinished().bytes()[0], 0x01);
        assert_eq!(Frame::text("a").reserved(4).bytes()[0], 0xc1);
        assert_eq!(Frame::new(0xb, "a").bytes()[0], 0x8b);
        assert_eq!(Frame::text("a").unmasked().bytes(), [0x81, 1, b'a']);
        let claimed = Frame::text("a").unmasked().claiming(1 << 30).bytes();
        assert_eq!(claimed, [0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0, b'a']);
        assert_eq!(
            Frame::close(999, "x").unmasked().bytes(),
            [0x88, 3, 3, 0xe7, b'x']
        );
        assert_eq!(Frame::close_without_code().unmasked().bytes(), [0x88, 0]);
    }
}
