//! The ends of orders, as the log tells them. Read without a group: whoever asks wants all of them.

use std::time::Duration;

use anyhow::Result;
use event_bus::{Error, Saga};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, Client};
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

/// How long one read waits for the next entry.
const WAIT_MS: u64 = 1_000;
/// How long Redis may take beyond that.
const GRACE: Duration = Duration::from_secs(5);
/// The pause before connecting again.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of an order: one line of the output.
#[derive(Clone, Serialize)]
pub struct Ending {
    pub order: String,
    pub state: &'static str,
    pub reason: Option<String>,
}

pub struct Endings {
    redis: String,
    log: String,
    after: String,
    connection: Option<MultiplexedConnection>,
}

impl Endings {
    pub async fn open(saga: &Saga) -> Result<Endings> {
        Ok(Endings {
            redis: saga.redis.clone(),
            log: saga.log.clone(),
            after: "0".to_owned(),
            connection: None,
        })
    }

    /// The next ends of orders, perhaps none. May be dropped: nothing is missed by it.
    pub async fn next(&mut self) -> Result<Vec<Ending>> {
        match self.read().await {
            Ok(endings) => Ok(endings),
            Err(error) if error.is_connection() => {
                self.connection = None;
                sleep(PAUSE).await;
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&mut self) -> Result<Vec<Ending>, Error> {
        let mut connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => self.connection.insert(connect(&self.redis).await?).clone(),
        };
        let reply: StreamReadReply = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(1_000)
            .arg("BLOCK")
            .arg(WAIT_MS)
            .arg("STREAMS")
            .arg(&self.log)
            .arg(&self.after)
            .query_async(&mut connection)
            .await?;
        let mut endings = Vec::new();
        for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
            let field = |name| entry.get::<String>(name).unwrap_or_default();
            endings.extend(ending(&field("name"), &field("data")));
            self.after = entry.id;
        }
        Ok(endings)
    }
}

fn ending(name: &str, data: &str) -> Option<Ending> {
    let state = match name {
        "order.completed" => "completed",
        "order.cancelled" => "cancelled",
        _ => return None,
    };
    let data: Value = serde_json::from_str(data).ok()?;
    Some(Ending {
        order: data["order"].as_str()?.to_owned(),
        state,
        reason: data["reason"].as_str().map(str::to_owned),
    })
}

async fn connect(redis: &str) -> Result<MultiplexedConnection, Error> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_millis(WAIT_MS) + GRACE));
    let client = Client::open(redis)?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}
