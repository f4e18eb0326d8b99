//! What went wrong between us and Redis.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What kind of trouble the client library reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The address is not one.
    Address,
    /// Nobody answers, or somebody who has no data yet.
    Unreachable,
    /// It wants other credentials.
    NotLetIn,
    /// Something else: the command was refused, for example.
    Other,
}

impl Trouble {
    /// What an error comes down to.
    pub fn of(error: &RedisError) -> Trouble {
        match error.kind() {
            ErrorKind::InvalidClientConfig => Trouble::Address,
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Trouble::NotLetIn
            }
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => Trouble::NotLetIn,
            ErrorKind::Io
            | ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                Trouble::Unreachable
            }
            _ => Trouble::Other,
        }
    }

    /// The exit code of a service that ends with it, after `sysexits.h`: 2 wrong usage, 69 Redis
    /// unreachable, 77 not let in, and `otherwise` for what is none of these.
    pub fn exit_code(self, otherwise: u8) -> u8 {
        match self {
            Trouble::Address => 2,
            Trouble::Unreachable => 69,
            Trouble::NotLetIn => 77,
            Trouble::Other => otherwise,
        }
    }
}

/// What somebody who cannot connect may try.
pub fn advice(error: &RedisError) -> &'static str {
    match Trouble::of(error) {
        Trouble::NotLetIn => {
            "Give a user and a password that it accepts: redis://USER:PASSWORD@HOST:PORT"
        }
        _ => "Is it running, and is the address right?",
    }
}
