//! What the nodes share in Redis: names, members, leases, and the log that all of them follow.
//!
//! Every change is one script, so it happens as a whole or not at all, and it may be tried again when
//! its reply was lost: the second time finds it done. The README says what lies where.

mod connection;
mod log;
mod scripts;

use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{ErrorKind, FromRedisValue, Script};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

pub use connection::connect;
pub use log::{Event, Log};

use crate::error::Error;
use crate::frames::Message;

/// How long a failure to connect is believed without trying again.
const BELIEVED: Duration = Duration::from_millis(200);

/// The shared state, as one node sees it.
pub struct Store {
    url: String,
    prefix: String,
    node: String,
    link: Mutex<Link>,
}

/// The connection for commands.
#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    failed: Option<Instant>,
}

impl Store {
    /// Connects, under a new name for this node. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, Error> {
        let connection = connect(url).await?;
        Ok(Store {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            node: format!("{:016x}", rand::random::<u64>()),
            link: Mutex::new(Link {
                connection: Some(connection),
                failed: None,
            }),
        })
    }

    /// The key of this kind: `PREFIX:KIND`, or `PREFIX:KIND:NAME`.
    pub fn key(&self, kind: &str, name: &str) -> String {
        match name {
            "" => format!("{}:{kind}", self.prefix),
            _ => format!("{}:{kind}:{name}", self.prefix),
        }
    }

    /// Runs a script. Before `arguments` it gets two more: the prefix in `ARGV[1]` and this node's name
    /// in `ARGV[2]`.
    ///
    /// If the connection turns out to be lost, it runs the script a second time on a new one. So the
    /// script may have run twice, or also if this fails: write it so that twice is as good as once.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Redis`]; [`Error::is_connection`] says whether Redis is away.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &[&str],
    ) -> Result<T, Error> {
        match self.run_once(script, arguments).await {
            Err(Error::Redis(lost)) if lost.is_connection_dropped() => {
                self.run_once(script, arguments).await
            }
            ended => ended,
        }
    }

    async fn run_once<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &[&str],
    ) -> Result<T, Error> {
        let mut connection = self.commands().await?;
        let mut call = script.prepare_invoke();
        call.arg(&self.prefix).arg(&self.node).arg(arguments);
        let reply = call.invoke_async(&mut connection).await;
        self.check(reply).await
    }

    /// The connection for commands, rebuilt if it was lost.
    async fn commands(&self) -> Result<MultiplexedConnection, Error> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok(connection.clone());
        }
        if link.failed.is_some_and(|at| at.elapsed() < BELIEVED) {
            let away = (ErrorKind::Io, "it could not be reached a moment ago");
            return Err(Error::Redis(away.into()));
        }
        let connected = connect(&self.url).await;
        link.failed = connected.is_err().then(Instant::now);
        link.connection = connected.as_ref().ok().cloned();
        connected
    }

    /// Forgets the connection if it is the reason of a failure.
    async fn check<T>(&self, reply: redis::RedisResult<T>) -> Result<T, Error> {
        let reply = reply.map_err(Error::Redis);
        if matches!(&reply, Err(error) if error.is_connection()) {
            self.link.lock().await.connection = None;
        }
        reply
    }

    /// Begins this node's lease: for three seconds nobody takes it for dead.
    pub async fn register(&self) -> Result<(), Error> {
        self.run(&scripts::REGISTER, &[]).await
    }

    /// Lengthens the lease to three seconds from now, and buries the nodes whose lease has run out:
    /// their members leave, their names are free. Returns `false` if another node has done that to
    /// this one.
    pub async fn renew(&self) -> Result<bool, Error> {
        self.run(&scripts::RENEW, &[]).await
    }

    /// Ends the lease, and with it everything of this node.
    pub async fn unregister(&self) -> Result<(), Error> {
        self.run(&scripts::UNREGISTER, &[]).await
    }

    /// Takes a name for a client of this node. Returns `false` if a node that lives has it.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::is_dead_node`] if this node was taken for dead.
    pub async fn claim(&self, name: &str) -> Result<bool, Error> {
        self.run(&scripts::CLAIM, &[name]).await
    }

    /// Takes a client of this node out of these rooms, and frees its name.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn release(&self, name: &str, rooms: &[String]) -> Result<(), Error> {
        let mut arguments = vec![name];
        arguments.extend(rooms.iter().map(String::as_str));
        self.run(&scripts::RELEASE, &arguments).await
    }

    /// Makes a client of this node a member of a room, and writes that into the log. Returns `false`,
    /// and writes nothing, if it is one already. It may be one since a moment ago: if the reply is lost
    /// and [`run`](Self::run) tries again, the second try finds done what the first one did, and
    /// returns `false`, while the log has the entry of the first.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); also if the name is not this node's any more.
    pub async fn join(&self, name: &str, room: &str) -> Result<bool, Error> {
        self.run(&scripts::JOIN, &[name, room]).await
    }

    /// Takes a client of this node out of a room, and writes that into the log. Returns `false`, and
    /// writes nothing, if it is not in there; also if the first try of the same call took it out, as
    /// for [`join`](Self::join).
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn leave(&self, name: &str, room: &str) -> Result<bool, Error> {
        self.run(&scripts::LEAVE, &[name, room]).await
    }

    /// What this node has: `(room, name)` for each member, and `("", name)` for each name.
    pub async fn seats(&self) -> Result<Vec<(String, String)>, Error> {
        let seats: Vec<String> = self.run(&scripts::SEATS, &[]).await?;
        let pair = |seat: &String| {
            seat.split_once(':')
                .map(|(room, name)| (room.to_owned(), name.to_owned()))
        };
        Ok(seats.iter().filter_map(pair).collect())
    }

    /// The members of a room on all nodes, sorted.
    pub async fn members(&self, room: &str) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = self.run(&scripts::MEMBERS, &[room]).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// Messages of a room with numbers above `after` and up to `last`, the oldest first, `most` at most.
    pub async fn kept(
        &self,
        room: &str,
        after: u64,
        last: u64,
        most: usize,
    ) -> Result<Vec<Message>, Error> {
        let mut connection = self.commands().await?;
        let reply = redis::cmd("XRANGE")
            .arg(self.key("room", room))
            .arg(format!("({after}-0"))
            .arg(format!("{last}-0"))
            .arg("COUNT")
            .arg(most)
            .query_async::<StreamRangeReply>(&mut connection)
            .await;
        let entries = self.check(reply).await?.ids;
        Ok(entries
            .iter()
            .filter_map(|entry| log::message(entry, room))
            .collect())
    }

    /// Where the log ends, and at the same moment the last number in each of `rooms`.
    pub async fn ends(&self, rooms: &[String]) -> Result<(String, Vec<u64>), Error> {
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        self.run(&scripts::ENDS, &rooms).await
    }

    /// Opens a connection that only reads the log.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached.
    pub async fn open_log(&self) -> Result<Log, Error> {
        let connection = connection::connect_for_blocking(&self.url).await?;
        Ok(Log::new(connection, self.key("log", "")))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, in which there may be a password.
        f.debug_struct("Store")
            .field("prefix", &self.prefix)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
