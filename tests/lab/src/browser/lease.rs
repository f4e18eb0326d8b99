//! The check's side of the keeper's desk: a connection that is a driver's life.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Failure;
use crate::brokers::Unavailable;

/// What the keeper hands out, as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Leased {
    /// Where the driver listens: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The browsers that it may drive, in the order in which they are to be tried.
    pub(crate) browsers: Vec<PathBuf>,
    /// The file that the driver writes its log into.
    pub(crate) log: PathBuf,
}

/// A driver for as long as this lives.
pub(crate) struct Lease {
    pub(crate) leased: Leased,
    connection: BufReader<TcpStream>,
}

impl Lease {
    /// Asks the keeper's desk at `address` for a driver.
    pub(crate) async fn take(address: &str, limit: Duration) -> Result<Self, Failure> {
        let ask = async {
            let mut connection = BufReader::new(TcpStream::connect(address).await?);
            let mut line = String::new();
            connection.read_line(&mut line).await?;
            let answer: Result<Leased, Unavailable> = serde_json::from_str(&line)?;
            Ok::<_, std::io::Error>((connection, answer))
        };
        let lost = |why: String| {
            Failure::infrastructure(format!(
                "the run's keeper, which has the browsers, does not answer: {why}"
            ))
        };
        match tokio::time::timeout(limit, ask).await {
            Ok(Ok((connection, Ok(leased)))) => Ok(Lease { leased, connection }),
            Ok(Ok((_, Err(unavailable)))) => Err(Failure::infrastructure(unavailable.to_string())),
            Ok(Err(error)) => Err(lost(error.to_string())),
            Err(_) => Err(lost(format!("nothing came within {limit:.0?}"))),
        }
    }

    /// The end of the driver's log, for a message.
    pub(crate) fn last_words(&self) -> String {
        const ENOUGH: usize = 800;
        let log = std::fs::read(&self.leased.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let start = log.char_indices().rev().nth(ENOUGH).map_or(0, |(at, _)| at);
        log[start..].trim().to_owned()
    }

    /// Tells the desk that the browser is up. Until then it counts among those that are starting, of
    /// which there are only a few at once.
    pub(crate) async fn started(&mut self) {
        // A desk that is gone is noticed by the next command.
        let _ = self.connection.write_all(b"\n").await;
    }
}
