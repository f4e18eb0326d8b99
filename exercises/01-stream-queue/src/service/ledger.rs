//! `--ledger`: an effect that can be counted, a list in Redis that takes each entry's id once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use stream_queue::{Error, apply_once, connect};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How long an entry is remembered: far longer than one may take to come back.
const REMEMBER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The pause before Redis is asked again after the connection was lost.
const PAUSE: Duration = Duration::from_millis(200);

pub struct Ledger {
    redis: String,
    key: String,
    /// Shared by the handlers; `None` until it is needed, and after it was lost.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Ledger {
    pub fn new(redis: String, key: String) -> Self {
        Ledger {
            redis,
            key,
            connection: Mutex::default(),
        }
    }

    /// Enters an id. A lost connection is no failure of the entry: entering it again has no second
    /// effect, so it is tried until Redis answers.
    pub async fn enter(&self, id: &str) -> Result<(), String> {
        let done = format!("{}:done:{id}", self.key);
        let effect = [["RPUSH", &self.key, id].map(str::to_owned).to_vec()];
        loop {
            let entered = async {
                let mut connection = self.connection().await?;
                apply_once(&mut connection, &done, &effect, REMEMBER).await
            };
            match entered.await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_connection() => {
                    *self.connection.lock().await = None;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        let mut shared = self.connection.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let connection = connect(&self.redis).await?;
        Ok(shared.insert(connection).clone())
    }
}
