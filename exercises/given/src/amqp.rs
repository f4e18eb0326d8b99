//! Connections to RabbitMQ.

use std::fmt;
use std::time::Duration;

use lapin::types::ReplyCode;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use crate::connection::without_password;

/// How long connecting to RabbitMQ may take, greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Seconds between signs of life, unless the address says otherwise. RabbitMQ gives up a client that
/// was silent for two of them.
const HEARTBEAT: u16 = 10;

const ACCESS_REFUSED: ReplyCode = 403;
const PRECONDITION_FAILED: ReplyCode = 406;
const NOT_ALLOWED: ReplyCode = 530;

/// Why there is no connection to RabbitMQ. Addresses are shown with the password masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The address is none.
    BadAddress {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there, or not in time.
    Unreachable {
        /// Where we tried.
        url: String,
        /// What the client library reported.
        why: String,
    },
    /// It does not accept the user or the password.
    NotLetIn {
        /// Where we tried.
        url: String,
    },
    /// It does not let this user into the virtual host, or has none of that name.
    NoVirtualHost {
        /// Where we tried.
        url: String,
        /// The name that was asked for.
        vhost: String,
        /// What RabbitMQ said.
        why: String,
    },
}

impl Refusal {
    /// The exit code of a service that ends with it, after `sysexits.h`: 2 wrong usage, 69 RabbitMQ
    /// unreachable, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Refusal::BadAddress { .. } => 2,
            Refusal::Unreachable { .. } => 69,
            Refusal::NotLetIn { .. } | Refusal::NoVirtualHost { .. } => 77,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BadAddress { url, why } => write!(
                f,
                "`{url}` is no address of RabbitMQ: {why}. It looks like amqp://USER:PASSWORD@HOST:5672/VHOST"
            ),
            Refusal::Unreachable { url, why } => write!(
                f,
                "cannot connect to RabbitMQ at {url}: {why}. Is it running, and is the address right?"
            ),
            Refusal::NotLetIn { url } => write!(
                f,
                "RabbitMQ at {url} does not accept this user and password. Give others: amqp://USER:PASSWORD@HOST. The user `guest` is let in from the same machine only"
            ),
            Refusal::NoVirtualHost { url, vhost, why } => write!(
                f,
                "RabbitMQ at {url} has no virtual host `{vhost}`, or does not let us in: {why}. It is the part of the address after the port: amqp://HOST:5672/VHOST"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// Connects to RabbitMQ. `name` is what its operators see. The connection is not opened again by
/// itself once it is lost: everything on it fails then.
///
/// # Errors
/// A [`Refusal`]: [`Refusal::Unreachable`] also when nobody answers within fifteen seconds.
pub async fn connect(url: &str, name: &str) -> Result<Connection, Refusal> {
    let shown = without_password(url);
    let bad = |why: String| Refusal::BadAddress {
        url: shown.clone(),
        why,
    };
    let mut address: AMQPUri = url.parse().map_err(bad)?;
    if address.scheme != AMQPScheme::AMQP {
        return Err(bad("connections with TLS are left out here".to_owned()));
    }
    address.query.heartbeat.get_or_insert(HEARTBEAT);
    let vhost = address.vhost.clone();
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(address, properties);
    let Ok(connected) = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await else {
        return Err(Refusal::Unreachable {
            url: shown,
            why: format!("no answer within {CONNECT_TIMEOUT:?}"),
        });
    };
    connected.map_err(|error| match reply(&error) {
        Some((ACCESS_REFUSED, _)) => Refusal::NotLetIn { url: shown },
        Some((NOT_ALLOWED, why)) => Refusal::NoVirtualHost {
            url: shown,
            vhost,
            why,
        },
        _ => Refusal::Unreachable {
            url: shown,
            why: error.to_string(),
        },
    })
}

/// The code and the text with which RabbitMQ closed a channel or a connection, if that is what an
/// error tells of.
pub fn reply(error: &lapin::Error) -> Option<(ReplyCode, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().to_string())),
        _ => None,
    }
}

/// Whether what was to be declared is there already, and differs.
pub fn is_declared_otherwise(error: &lapin::Error) -> bool {
    matches!(reply(error), Some((PRECONDITION_FAILED, _)))
}
