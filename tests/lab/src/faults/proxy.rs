//! The proxy as a check sees it: an address, a log and a box of faults.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::log::Log;
use super::relay;
use super::trigger::Armory;
use super::{Action, Exchange, Fault, Trigger};

/// A TCP proxy in front of a Redis server. Clients connect to [`url`](Self::url).
///
/// It runs on a thread of its own, so a candidate that blocks its runtime does not
/// stop the proxy as well. Clones are the same proxy; when the last one is dropped,
/// every connection ends and the thread with them.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    // Dropped with the last clone, and that ends the thread.
    _thread: Arc<Running>,
}

/// What the proxy's handle and its connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    began: Instant,
    addr: SocketAddr,
    upstream: Mutex<Upstream>,
    log: Mutex<Log>,
    pub(super) armory: Arc<Armory<Exchange>>,
    pub(super) control: watch::Sender<Control>,
    refused: AtomicUsize,
}

/// What holds for all connections at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// A connection ends when this has grown since it began.
    pub(super) cuts: u64,
    pub(super) refuse: bool,
    pub(super) stall: bool,
}

/// Where the broker is: `redis://user:password@host:port/database` in three parts.
#[derive(Debug, Clone)]
struct Upstream {
    /// `user:password@` or nothing
    credentials: String,
    /// `host:port`
    addr: String,
    /// `/database` or nothing
    path: String,
}

impl Proxy {
    /// Starts a proxy on a free port of this machine in front of `upstream`, a Redis URL or
    /// `host:port`. The broker is connected to only when a client comes.
    ///
    /// `began` is the moment from which all times in the log are counted.
    ///
    /// # Errors
    /// If there is no free port or no thread to be had, or `upstream` is not such a URL.
    pub fn start(upstream: &str, began: Instant) -> io::Result<Proxy> {
        let upstream = Upstream::parse(upstream)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            began,
            addr: listener.local_addr()?,
            upstream: Mutex::new(upstream),
            log: Mutex::default(),
            armory: Arc::default(),
            control: watch::Sender::new(Control::default()),
            refused: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("redis-proxy".to_owned())
            .spawn({
                let shared = shared.clone();
                move || {
                    runtime.block_on(async {
                        tokio::select! {
                            _ = stopped => {}
                            _ = accept(listener, shared) => {}
                        }
                    });
                    // Dropping the runtime here drops every connection.
                }
            })?;
        Ok(Proxy {
            shared,
            _thread: Arc::new(Running {
                stop: Some(stop),
                thread: Some(thread),
            }),
        })
    }

    /// Where clients connect to. The same for the proxy's whole life.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// The broker's URL with the proxy's address in it; credentials and database are kept.
    pub fn url(&self) -> String {
        let Upstream {
            credentials, path, ..
        } = self.shared.upstream().clone();
        format!("redis://{credentials}{}{path}", self.shared.addr)
    }

    /// From now on new connections go to this broker. Those that exist stay where they are.
    ///
    /// # Errors
    /// If `upstream` is neither a Redis URL nor `host:port`.
    pub fn set_upstream(&self, upstream: &str) -> io::Result<()> {
        *self.shared.upstream() = Upstream::parse(upstream)?;
        Ok(())
    }

    // The log

    /// Everything seen so far, in the order in which the commands came.
    pub fn log(&self) -> Vec<Exchange> {
        self.since(0)
    }

    /// The place in the log where the next command will stand.
    pub fn mark(&self) -> usize {
        self.shared.log().next()
    }

    /// What came at or after a [`mark`](Self::mark).
    pub fn since(&self, mark: usize) -> Vec<Exchange> {
        let log = self.shared.log();
        log.exchanges().get(mark..).unwrap_or_default().to_vec()
    }

    /// Runs `f` over the log without copying it. While it runs, the proxy stands still.
    pub fn with_log<T>(&self, f: impl FnOnce(&[Exchange]) -> T) -> T {
        f(self.shared.log().exchanges())
    }

    /// How many commands came for which `matches` holds.
    pub fn count(&self, mut matches: impl FnMut(&Exchange) -> bool) -> usize {
        self.with_log(|log| log.iter().filter(|e| matches(e)).count())
    }

    /// Commands that came after the log was full and are in none of its answers. Zero
    /// unless the candidate sent hundreds of thousands.
    pub fn unrecorded(&self) -> usize {
        self.shared.log().unrecorded()
    }

    /// How often a client had all its answers and then began to ask again, summed over
    /// all connections. Commands that are pipelined are one round trip.
    pub fn round_trips(&self) -> usize {
        self.shared.log().round_trips
    }

    /// Commands that a candidate has no business sending to a broker it shares with
    /// others (`FLUSHALL`, `CONFIG`, `SHUTDOWN` …). The proxy answered them with an error.
    pub fn forbidden(&self) -> Vec<Exchange> {
        self.with_log(|log| log.iter().filter(|e| e.refused).cloned().collect())
    }

    /// Commands that were sent while a blocking read was outstanding on the very same
    /// connection: the broker lets them wait until that read ends.
    pub fn while_blocked(&self) -> Vec<Exchange> {
        self.with_log(while_blocked)
    }

    /// True if a blocking read is outstanding on some connection right now.
    pub fn is_blocked(&self) -> bool {
        let waits = |e: &Exchange| e.forwarded && !e.lost && e.replied.is_none() && e.is_blocking();
        self.with_log(|log| log.iter().any(waits))
    }

    /// The faults that struck so far, and when, in words.
    pub fn faults(&self) -> Vec<(Duration, String)> {
        self.shared.log().faults.clone()
    }

    // Faults

    /// Arms a fault: at the event of `trigger`, do `action`. Several may be armed at once;
    /// if two are due at the same event, the one armed first strikes and the other waits
    /// for the next.
    pub fn arm(&self, trigger: Trigger, action: Action) -> Fault {
        self.shared.armory.arm(trigger, action)
    }

    /// Ends every connection that there is now.
    pub fn cut_all(&self) {
        self.shared.note("all connections cut");
        self.shared.control.send_modify(|control| control.cuts += 1);
    }

    /// While on, every new connection is closed at once. Those that exist go on.
    pub fn refuse(&self, on: bool) {
        self.shared.note(if on {
            "new connections refused"
        } else {
            "new connections accepted again"
        });
        self.shared
            .control
            .send_modify(|control| control.refuse = on);
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// While on, nothing moves in either direction, and nobody is told: what a network
    /// that swallows packets looks like from inside. Connections stay open.
    pub fn stall(&self, on: bool) {
        self.shared.note(if on {
            "network stalled"
        } else {
            "network flows again"
        });
        self.shared
            .control
            .send_modify(|control| control.stall = on);
    }
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Nothing is done under these locks that could leave their contents half changed.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self) -> MutexGuard<'_, Upstream> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, fault: impl Into<String>) {
        let now = self.now();
        self.log().faults.push((now, fault.into()));
    }
}

impl Upstream {
    fn parse(url: &str) -> io::Result<Upstream> {
        let wrong = |why: &str| {
            // The URL itself may hold a password: it is not repeated.
            let message = format!("the broker's address is not redis://host:port ({why})");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let rest = match url.split_once("://") {
            Some(("redis", rest)) => rest,
            Some(_) => return Err(wrong("another scheme; TLS is not supported here")),
            None => url,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (credentials, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        Ok(Upstream {
            credentials: credentials.to_owned(),
            addr: if has_port {
                host.to_owned()
            } else {
                format!("{host}:6379")
            },
            path: path.to_owned(),
        })
    }
}

/// The proxy's thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Waiting makes sure that the sockets are closed. A trigger may hold the last
        // clone; then this is the proxy's own thread and must not wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic in there was printed already; a drop has nobody to tell.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = 0;
    loop {
        let (client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors, or a client that left at once: neither is the end.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        if shared.control.borrow().refuse {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            reset(client);
            continue;
        }
        connections += 1;
        tokio::spawn(serve(client, connections, shared.clone()));
    }
}

async fn serve(client: TcpStream, connection: u64, shared: Arc<Shared>) {
    // Looked at before connecting, so that a cut meanwhile is not missed.
    let control = shared.control.subscribe();
    let addr = shared.upstream().addr.clone();
    match TcpStream::connect(addr).await {
        Ok(broker) => relay::run(client, broker, connection, control, shared).await,
        Err(_) => reset(client),
    }
}

/// Closes a connection in the way a refused one looks like: an error, not an orderly end.
pub(super) fn reset(client: TcpStream) {
    // Without it the client sees an orderly end instead, which is as good.
    let _ = client.set_zero_linger();
}

fn while_blocked(log: &[Exchange]) -> Vec<Exchange> {
    use std::collections::HashMap;
    // The read that blocked last on each connection; a later one waits behind it.
    let mut blocked: HashMap<u64, &Exchange> = HashMap::new();
    let mut found = Vec::new();
    for exchange in log {
        if let Some(read) = blocked.get(&exchange.connection)
            && read.replied.is_none_or(|replied| exchange.sent < replied)
        {
            found.push(exchange.clone());
        }
        if exchange.is_blocking() {
            blocked.insert(exchange.connection, exchange);
        }
    }
    found
}
