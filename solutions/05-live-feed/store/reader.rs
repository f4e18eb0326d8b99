//! The one reader of a node: where it is in the stream, and what it does when it loses its place.

use std::collections::VecDeque;
use std::convert::Infallible;

use tokio::time::{Instant, sleep};

use super::{CancellationToken, Duration, MultiplexedConnection};
use super::{Commands, Error, Id, Kept, Store};
use super::{Meaning, RawEntry, connect, connect_for_blocking, parse_range, parse_read};
use crate::frame::frame;

/// How long one read waits in Redis.
const WAIT: Duration = Duration::from_secs(5);
/// How much later its answer may come before Redis is taken for gone.
const GRACE: Duration = Duration::from_secs(3);
/// How many entries one read takes at most.
const BATCH: usize = 1_000;
/// The pauses between attempts to get back to Redis.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Where a node is in the stream.
pub(crate) struct Place {
    session: Session,
    /// The last entry that was read, event or not.
    last: Id,
    /// The ids of the newest entries that were read: what the stream keeps.
    kept: VecDeque<Id>,
}

/// The connections of one stretch of good luck.
struct Session {
    reads: MultiplexedConnection,
    commands: Commands,
}

/// Follows the stream for ever, over any number of lost connections.
pub(super) async fn follow(store: &Store, mut place: Place) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let broken = place.session.commands.broken.clone();
        let error = tokio::select! {
            Err(error) = store.read_on(&mut place) => error.to_string(),
            () = broken.cancelled() => "a command failed".into(),
        };
        tracing::warn!(error, "lost Redis, connecting again");
        store.set_commands(None);
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match store.take_up(&mut place).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "still no Redis"),
            }
        }
    }
}

impl Store {
    /// Connects and loads what the stream holds.
    pub(super) async fn begin(&self) -> Result<Place, Error> {
        let mut session = self.connect().await?;
        // The topics first: the end of each that is here stands in what is loaded after, or is
        // trimmed already.
        let finished = redis::cmd("SMEMBERS")
            .arg(&self.finished)
            .query_async(&mut session.commands.connection)
            .await?;
        let entries = self.newest(&mut session).await?;
        let place = Place {
            session,
            last: entries.last().map_or(Id::ZERO, |entry| entry.id),
            kept: entries.iter().map(|entry| entry.id).collect(),
        };
        let events = entries.iter().filter_map(as_kept).collect();
        self.hub.replace(events, finished);
        if !place.kept.is_empty() {
            self.trim(&place).await?;
        }
        self.reached.send_replace(place.last);
        self.set_commands(Some(place.session.commands.clone()));
        Ok(place)
    }

    /// Connects again, and goes on from where it was, or begins anew if that is not there any more.
    async fn take_up(&self, place: &mut Place) -> Result<(), Error> {
        let mut session = self.connect().await?;
        if place.last == Id::ZERO || self.has(&mut session, place.last).await? {
            self.set_commands(Some(session.commands.clone()));
            place.session = session;
        } else {
            tracing::warn!(last = %place.last, "the stream does not have our last entry any more, beginning anew");
            *place = self.begin().await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Session, Error> {
        let commands = connect(&self.url).await?;
        let mut reads = connect_for_blocking(&self.url).await?;
        reads.set_response_timeout(WAIT + GRACE);
        Ok(Session {
            reads,
            commands: Commands {
                connection: commands,
                broken: CancellationToken::new(),
            },
        })
    }

    /// Reads, hands on and trims, until something fails.
    async fn read_on(&self, place: &mut Place) -> Result<Infallible, Error> {
        // No more than are kept: then a read that is not full cannot have skipped anything.
        let batch = self.limit.min(BATCH);
        loop {
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(batch);
            command.arg("BLOCK").arg(WAIT.as_millis() as u64);
            command
                .arg(&["STREAMS", &self.stream])
                .arg(place.last.to_string());
            let reply = command.query_async(&mut place.session.reads).await?;
            let entries = parse_read(reply)?;
            // An empty stream is no place to lose: no client has an id from it.
            if entries.len() == batch
                && place.last != Id::ZERO
                && !self.has(&mut place.session, place.last).await?
            {
                tracing::warn!(
                    "others publish and trim faster than this node reads, beginning anew"
                );
                *place = self.begin().await?;
                continue;
            }
            for entry in &entries {
                self.hand_on(entry);
                place.last = entry.id;
                place.kept.push_back(entry.id);
            }
            if place.kept.len() > self.limit {
                let over = place.kept.len() - self.limit;
                place.kept.drain(..over);
                self.trim(place).await?;
            }
            self.reached.send_replace(place.last);
        }
    }

    fn hand_on(&self, entry: &RawEntry) {
        match entry.meaning() {
            Meaning::Event(event) => {
                if let Err(error) = self.hub.deliver(entry.id, &event) {
                    pass_over(entry.id, &error.to_string());
                }
            }
            Meaning::Finished(topic) => self.hub.finish(&topic),
            Meaning::Other(why) => pass_over(entry.id, why),
        }
    }

    /// Keeps what is in `place.kept`, here and in the stream, and nothing older.
    async fn trim(&self, place: &Place) -> Result<(), Error> {
        let oldest = place.kept.front().copied().unwrap_or_default();
        self.hub.forget_before(oldest);
        let mut command = redis::cmd("XTRIM");
        command
            .arg(&[&self.stream, "MINID"])
            .arg(oldest.to_string());
        let mut connection = place.session.commands.connection.clone();
        Ok(command.query_async(&mut connection).await?)
    }

    /// Whether the stream has an entry with this id.
    async fn has(&self, session: &mut Session, id: Id) -> Result<bool, Error> {
        let id = id.to_string();
        let mut command = redis::cmd("XRANGE");
        command.arg(&[&self.stream, &id, &id]);
        let reply = command
            .query_async(&mut session.commands.connection)
            .await?;
        Ok(!parse_range(reply)?.is_empty())
    }

    /// The newest entries of the stream, as many as are kept, oldest first.
    async fn newest(&self, session: &mut Session) -> Result<Vec<RawEntry>, Error> {
        let mut entries: Vec<RawEntry> = Vec::new();
        while entries.len() < self.limit {
            let end = entries
                .last()
                .map_or("+".into(), |entry| format!("({}", entry.id));
            let count = BATCH.min(self.limit - entries.len());
            let mut command = redis::cmd("XREVRANGE");
            command.arg(&[&self.stream, &end, "-", "COUNT"]).arg(count);
            let reply = command
                .query_async(&mut session.commands.connection)
                .await?;
            let page = parse_range(reply)?;
            let is_last = page.len() < count;
            entries.extend(page);
            if is_last {
                break;
            }
        }
        entries.reverse();
        Ok(entries)
    }
}

/// The entry as it is kept, if it is an event.
fn as_kept(entry: &RawEntry) -> Option<Kept> {
    let event = match entry.meaning() {
        Meaning::Event(event) => event,
        Meaning::Finished(_) => return None,
        Meaning::Other(why) => {
            pass_over(entry.id, why);
            return None;
        }
    };
    match frame(&event) {
        Ok(frame) => Some(Kept {
            id: entry.id,
            topic: event.topic,
            frame,
        }),
        Err(error) => {
            pass_over(entry.id, &error.to_string());
            None
        }
    }
}

fn pass_over(id: Id, why: &str) {
    tracing::warn!(%id, why, "passed over an entry of the stream");
}
