//! Asks brokers whether they are there, past every proxy.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Endpoints;
use super::url::address_of;

/// Connects to a Redis, each answer in at most `limit`.
pub(crate) async fn connect(
    url: &str,
    limit: Duration,
) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit));
    redis::Client::open(url)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// What a Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedisIdentity {
    /// Another one after every start.
    pub(crate) run_id: String,
    pub(crate) process_id: u32,
}

/// Asks the Redis at `url` who it is; what keeps it from answering is the error.
pub(crate) async fn redis_answers(url: &str, limit: Duration) -> Result<RedisIdentity, String> {
    let ask = async {
        let mut connection = connect(url, limit).await?;
        redis::cmd("INFO")
            .arg("server")
            .query_async::<String>(&mut connection)
            .await
    };
    let info = match tokio::time::timeout(limit, ask).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("it did not answer within {limit:.0?}")),
    };
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    Ok(RedisIdentity {
        run_id: value("run_id").unwrap_or_default().to_owned(),
        process_id: value("process_id")
            .and_then(|id| id.parse().ok())
            .unwrap_or_default(),
    })
}

/// Connects to `address` and exchanges AMQP's first frames: the client's header, and the
/// `connection.start` of a broker that has finished starting.
pub(crate) async fn amqp_answers(address: &str, limit: Duration) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut first = [0];
        stream.read_exact(&mut first).await?;
        Ok::<u8, std::io::Error>(first[0])
    };
    match tokio::time::timeout(limit, ask).await {
        // A method frame. A broker of another version would send its header, which begins with `A`.
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(_)) => Err("what listens there does not speak AMQP 0-9-1".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not answer within {limit:.0?}")),
    }
}

/// Says which of a run's brokers does not answer any more, and why.
pub(crate) async fn silent(brokers: &Endpoints, limit: Duration) -> Option<String> {
    if let Some(url) = &brokers.redis
        && let Err(why) = redis_answers(url, limit).await
    {
        return Some(format!("the run's Redis does not answer any more: {why}"));
    }
    let address = address_of(brokers.amqp.as_deref()?)?;
    let why = amqp_answers(&address, limit).await.err()?;
    Some(format!(
        "the run's RabbitMQ does not answer any more: {why}"
    ))
}

/// Removes what a check left behind: every key whose name contains `mark`. A run may use a
/// Redis that belongs to somebody.
pub(crate) async fn forget_keys(url: &str, mark: &str, limit: Duration) -> Result<(), String> {
    let forget = async {
        let mut connection = connect(url, limit).await?;
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("*{mark}*"))
                .arg("COUNT")
                .arg(1000)
                .query_async(&mut connection)
                .await?;
            if !keys.is_empty() {
                let _: u64 = redis::cmd("UNLINK")
                    .arg(keys)
                    .query_async(&mut connection)
                    .await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok::<(), redis::RedisError>(());
            }
        }
    };
    match tokio::time::timeout(limit, forget).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it took too long".into()),
    }
}
