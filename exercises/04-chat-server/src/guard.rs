// Stub 4d65307867f94f69: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Who is let in, what a name is, and how much one client may say.

use std::time::Instant;

use crate::options::Options;
use crate::refusal::Refusal;
use crate::server::Knock;

/// Characters of a client's name at most.
pub const LONGEST_NAME: usize = 32;

/// Characters of a room's name at most.
pub const LONGEST_ROOM: usize = 64;

/// Rooms that one client may be in.
pub const MOST_ROOMS: usize = 50;

/// The token that lets `name` in where the server knows `secret`: the HMAC-SHA-256 of the name (its
/// UTF-8 bytes) under the secret, as 64 lower-case hexadecimal digits.
pub fn token(secret: &str, name: &str) -> String {
    todo!("stage 4: HMAC-SHA-256, and each of its bytes as two hexadecimal digits")
}

/// Decides whether a client is let in, and under which name. It is asked before the connection
/// becomes a WebSocket.
///
/// # Errors
/// The first of these that holds:
/// - [`Refusal::FORBIDDEN_ORIGIN`] if `options.origins` is not empty, and there is an `Origin` header
///   that is none of them. Who sends no such header is not a browser, and not refused for it.
/// - [`Refusal::BAD_NAME`] if the name is missing or [is not one](is_name) of at most
///   [`LONGEST_NAME`] characters.
/// - [`Refusal::UNAUTHORIZED`] if there is a `options.token_secret`, and the token is missing or not
///   the [`token`] of this very name. The comparison takes as long for a token that is nearly right
///   as for one that is not.
pub fn admit(options: &Options, knock: &Knock) -> Result<String, Refusal> {
    todo!("stage 4: the origin, the name, the token, in this order")
}

/// Whether `text` can be the name of a client or a room: 1 to `longest` characters, each of them a
/// letter or a digit (of any script), `-`, `_` or `.`; so no spaces, no control characters, no colon.
pub fn is_name(text: &str, longest: usize) -> bool {
    todo!("stage 4: count the characters, not the bytes, and look at each")
}

/// What one client may send: `rate` messages a second in the long run, and twice as many at once
/// after it was quiet for two seconds. A rate of 0 is no limit.
#[derive(Debug)]
pub struct RateLimit {
    /// Messages a second.
    rate: f64,
    /// Messages that may come at once now.
    left: f64,
    /// When `left` was right.
    at: Instant,
}

impl RateLimit {
    /// A client that was quiet so far.
    pub fn new(rate: u32) -> Self {
        todo!("stage 4: a full bucket")
    }

    /// Whether one more message is within the limit now. One that is not does not count.
    pub fn allows(&mut self) -> bool {
        todo!("stage 4: fill the bucket by what the time since `at` is worth, then take one out")
    }
}
