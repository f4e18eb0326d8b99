//! The log: events in a Redis Stream, where they outlive whoever published them.

use crate::error::Error;
use crate::event::Event;

// solution only
use crate::connection::Link;
use crate::entry::fields;
// end solution only

/// A log that events are appended to. May be shared: calls at once are commands on one connection.
///
/// A lost connection fails the calls that were under way: whether their events were appended is not
/// known. The next call connects again.
#[derive(Debug)]
pub struct Log {
    // solution only
    log: String,
    link: Link,
    // end solution only
}

impl Log {
    /// Connects to append to the stream `log`. Creates nothing.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(url: &str, log: &str) -> Result<Log, Error> {
        // stub stage 7: connect, and remember the stream
        Ok(Log {
            log: log.to_owned(),
            link: Link::connect(url).await?,
        })
        // end stub
    }

    /// Appends an event, and returns the id of its entry: `XADD log * name … data … at …`, and no
    /// other field. `data` is JSON.
    ///
    /// # Errors
    /// [`Error::BadName`] if the event's name is none: then nothing was appended. [`Error::Redis`] or
    /// [`Error::Connect`] if Redis is away or the key is not a stream.
    pub async fn append(&self, event: &Event) -> Result<String, Error> {
        // stub stage 7: XADD with the fields of the event
        let entry = fields(event)?;
        let mut connection = self.link.connection().await?;
        let mut command = redis::cmd("XADD");
        command.arg(&self.log).arg("*").arg(&entry);
        let answer = command.query_async(&mut connection).await;
        self.link.answer(answer).await
        // end stub
    }

    /// Appends events in their order, all in one round trip, and returns the id of each. None are no
    /// command.
    ///
    /// # Errors
    /// As [`append`](Self::append). If a name is none, none of the events was appended; after any
    /// other error the first ones may have been.
    pub async fn append_all(&self, events: &[Event]) -> Result<Vec<String>, Error> {
        // stub stage 7: one pipeline with an XADD each
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let entries = events.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
        let mut pipeline = redis::pipe();
        for entry in &entries {
            pipeline.cmd("XADD").arg(&self.log).arg("*").arg(entry);
        }
        let mut connection = self.link.connection().await?;
        let answer = pipeline.query_async(&mut connection).await;
        self.link.answer(answer).await
        // end stub
    }
}
