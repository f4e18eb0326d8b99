//! `stream-queue stats`: one JSON object about a stream.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Result;
use given::output::Output;
use redis::Value;
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use stream_queue::{Error, backlog, connect};

use super::Queue;

#[derive(Serialize)]
struct Stats {
    stream: String,
    length: u64,
    backlog: u64,
    groups: Vec<Group>,
    dead: u64,
}

#[derive(Serialize)]
struct Group {
    name: String,
    pending: u64,
    /// What was not delivered yet; null when Redis does not know.
    lag: Option<u64>,
    consumers: Vec<Consumer>,
}

#[derive(Serialize)]
struct Consumer {
    name: String,
    pending: u64,
    idle_ms: u64,
}

pub async fn run(queue: Queue) -> Result<ExitCode> {
    let mut connection = connect(&queue.redis).await?;
    let stats = Stats {
        length: length(&mut connection, &queue.stream).await?,
        backlog: backlog(&mut connection, &queue.stream).await?,
        groups: groups(&mut connection, &queue.stream).await?,
        dead: length(&mut connection, &format!("{}:dead", queue.stream)).await?,
        stream: queue.stream,
    };
    Output::new().json(&stats).await?;
    Ok(ExitCode::SUCCESS)
}

async fn length(connection: &mut MultiplexedConnection, stream: &str) -> Result<u64, Error> {
    let mut command = redis::cmd("XLEN");
    Ok(command.arg(stream).query_async(connection).await?)
}

async fn groups(connection: &mut MultiplexedConnection, stream: &str) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for row in info(connection, &["GROUPS", stream]).await? {
        let name: String = get(&row, "name")?;
        let consumers = info(connection, &["CONSUMERS", stream, &name]).await?;
        groups.push(Group {
            pending: get(&row, "pending")?,
            lag: get(&row, "lag")?,
            consumers: consumers
                .iter()
                .map(|row| {
                    Ok(Consumer {
                        name: get(row, "name")?,
                        pending: get(row, "pending")?,
                        idle_ms: get(row, "idle")?,
                    })
                })
                .collect::<Result<_, Error>>()?,
            name,
        });
    }
    Ok(groups)
}

/// The rows of an `XINFO`; none if the stream or the group is not there (any more).
async fn info(
    connection: &mut MultiplexedConnection,
    arguments: &[&str],
) -> Result<Vec<HashMap<String, Value>>, Error> {
    let mut command = redis::cmd("XINFO");
    match command.arg(arguments).query_async(connection).await {
        Ok(rows) => Ok(rows),
        Err(error) if error.to_string().contains("no such key") => Ok(Vec::new()),
        Err(error) if error.code() == Some("NOGROUP") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn get<T: redis::FromRedisValue>(row: &HashMap<String, Value>, name: &str) -> Result<T, Error> {
    let value = row.get(name).cloned().unwrap_or_default();
    redis::from_redis_value(value)
        .map_err(|error| Error::UnexpectedReply(format!("XINFO, `{name}`: {error}")))
}
