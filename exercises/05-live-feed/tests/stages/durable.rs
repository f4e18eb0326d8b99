//! A stream in Redis of a check's own, and what the lab does to it past the nodes.

use lab::faults::Exchange;
use lab::{Failure, Lab, Redis};
use live_feed::Options;
use redis::aio::MultiplexedConnection;

use crate::feed::{Feed, quiet};

/// An entry of a stream: id, then names and values.
type Row = (String, Vec<(String, String)>);

/// A stream that no other check uses.
#[derive(Clone)]
pub struct Durable {
    pub lab: Lab,
    pub redis: Redis,
    pub stream: String,
}

impl Durable {
    pub async fn new(lab: &Lab) -> Result<Durable, Failure> {
        Ok(Durable::on(lab, lab.redis().await?))
    }

    /// The same on a Redis that the caller chose.
    pub fn on(lab: &Lab, redis: Redis) -> Durable {
        Durable {
            lab: lab.clone(),
            stream: lab.unique("feed"),
            redis,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            redis: Some(self.redis.url()),
            stream: self.stream.clone(),
            ..quiet()
        }
    }

    /// Starts a node on the stream.
    pub async fn node(&self) -> Result<Feed, Failure> {
        Feed::start(&self.lab, self.options()).await
    }

    /// The flags of a node as a process.
    pub fn flags<'a>(&'a self, url: &'a str) -> Vec<&'a str> {
        vec![
            "--redis",
            url,
            "--stream",
            &self.stream,
            "--heartbeat",
            "1h",
        ]
    }

    pub async fn direct(&self) -> Result<MultiplexedConnection, Failure> {
        self.redis.direct().await
    }

    /// Adds an entry as any other client of Redis would.
    pub async fn add<V: AsRef<[u8]>>(
        &self,
        id: &str,
        fields: &[(&str, V)],
    ) -> Result<String, Failure> {
        let mut command = redis::cmd("XADD");
        command.arg(&self.stream).arg(id);
        for (name, value) in fields {
            command.arg(name).arg(value.as_ref());
        }
        Ok(command.query_async(&mut self.direct().await?).await?)
    }

    /// Adds an event as any other client of Redis would.
    pub async fn add_event(&self, id: &str, data: &str) -> Result<String, Failure> {
        self.add(id, &[("topic", "t"), ("type", "message"), ("data", data)])
            .await
    }

    /// What the stream holds.
    pub async fn entries(&self) -> Result<Vec<Row>, Failure> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&[&self.stream, "-", "+"]);
        Ok(command.query_async(&mut self.direct().await?).await?)
    }

    /// How many entries have this data.
    pub async fn with_data(&self, data: &str) -> Result<usize, Failure> {
        let entries = self.entries().await?;
        let has = |row: &&Row| {
            row.1
                .iter()
                .any(|(name, value)| name == "data" && value == data)
        };
        Ok(entries.iter().filter(has).count())
    }
}

/// True for a command that may add to the stream: `XADD`, or a script that is given its key.
pub fn adds(exchange: &Exchange, stream: &str) -> bool {
    let scripts = ["EVAL", "EVALSHA", "FCALL"];
    exchange.mentions(stream)
        && (exchange.is("XADD") || scripts.iter().any(|name| exchange.is(name)))
}
