//! Who is let in, what a name is, and how much one client may say.

use std::time::Instant;

// solution only
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

// end solution only
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
    // stub stage 4: HMAC-SHA-256, and each of its bytes as two hexadecimal digits
    // HMAC takes a key of any length, so there is always one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(name.as_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
    // end stub
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
    // stub stage 4: the origin, the name, the token, in this order
    let of_ours = |origin: &String| {
        let mut origins = options.origins.iter();
        origins.any(|ours| ours.trim_end_matches('/').eq_ignore_ascii_case(origin))
    };
    if !options.origins.is_empty() && !knock.origin.as_ref().is_none_or(of_ours) {
        return Err(Refusal::FORBIDDEN_ORIGIN);
    }
    let name = knock.name.as_ref().ok_or(Refusal::BAD_NAME)?;
    if !is_name(name, LONGEST_NAME) {
        return Err(Refusal::BAD_NAME);
    }
    if let Some(secret) = &options.token_secret {
        let shown = knock.token.as_deref().unwrap_or_default();
        let right = token(secret, name);
        if !bool::from(shown.as_bytes().ct_eq(right.as_bytes())) {
            return Err(Refusal::UNAUTHORIZED);
        }
    }
    Ok(name.clone())
    // end stub
}

/// Whether `text` can be the name of a client or a room: 1 to `longest` characters, each of them a
/// letter or a digit (of any script), `-`, `_` or `.`; so no spaces, no control characters, no colon.
pub fn is_name(text: &str, longest: usize) -> bool {
    // stub stage 4: count the characters, not the bytes, and look at each
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().count() <= longest && text.chars().all(plain)
    // end stub
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
        // stub stage 4: a full bucket
        let rate = f64::from(rate);
        RateLimit {
            rate,
            left: 2.0 * rate,
            at: Instant::now(),
        }
        // end stub
    }

    /// Whether one more message is within the limit now. One that is not does not count.
    pub fn allows(&mut self) -> bool {
        // stub stage 4: fill the bucket by what the time since `at` is worth, then take one out
        if self.rate == 0.0 {
            return true;
        }
        let now = Instant::now();
        let gained = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(2.0 * self.rate);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
        // end stub
    }
}
