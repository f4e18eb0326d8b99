//! The proxy as a check sees it: an address, a log and a box of faults.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use url::Url;

use super::super::proxy::{Control, Running, reset};
use super::super::trigger::Armory;
use super::super::{Action, Fault};
use super::log::Log;
use super::notes::Notes;
use super::{Frame, Trigger, relay};

/// A TCP proxy in front of a RabbitMQ. Clients connect to [`url`](Self::url).
///
/// It runs on a thread of its own. Clones are the same proxy; when the last one is dropped, every
/// connection ends and the thread with them.
#[derive(Debug, Clone)]
pub struct AmqpProxy {
    shared: Arc<Shared>,
    // Dropped with the last clone, and that ends the thread.
    _thread: Arc<Running>,
}

/// What the proxy's handle and its connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    began: Instant,
    addr: SocketAddr,
    upstream: Url,
    log: Mutex<Log>,
    pub(super) armory: Arc<Armory<Frame>>,
    pub(super) control: watch::Sender<Control>,
    open: AtomicUsize,
    refused: AtomicUsize,
    notes: Mutex<Notes>,
}

impl AmqpProxy {
    /// Starts a proxy on a free port of this machine in front of `upstream`. RabbitMQ is connected to
    /// only when a client comes.
    ///
    /// `began` is the moment from which all times in the log are counted. Into the file `note`, if there
    /// is one, goes a line for each queue and exchange that a client declares: `queue NAME`.
    ///
    /// # Errors
    /// If there is no free port or no thread to be had, or `upstream` is no AMQP URL.
    pub fn start(upstream: &str, began: Instant, note: Option<PathBuf>) -> io::Result<AmqpProxy> {
        let wrong = || {
            let message = "the broker's address is not amqp://host:port";
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let upstream = Url::parse(upstream).map_err(|_| wrong())?;
        if upstream.scheme() != "amqp" || !upstream.has_host() {
            return Err(wrong());
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            began,
            addr: listener.local_addr()?,
            upstream,
            log: Mutex::default(),
            armory: Arc::default(),
            control: watch::Sender::new(Control::default()),
            open: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            notes: Mutex::new(Notes::new(note)),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("amqp-proxy".to_owned())
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
        Ok(AmqpProxy {
            shared,
            _thread: Arc::new(Running {
                stop: Some(stop),
                thread: Some(thread),
            }),
        })
    }

    /// RabbitMQ's URL with the proxy's address in it; user, password and virtual host are kept.
    pub fn url(&self) -> String {
        self.url_with(|_| {})
    }

    /// The same, changed: another user, virtual host or query.
    pub fn url_with(&self, change: impl FnOnce(&mut Url)) -> String {
        let mut url = self.shared.upstream.clone();
        // Both are as they should be: the upstream's URL has a host.
        let _ = url.set_ip_host(self.shared.addr.ip());
        let _ = url.set_port(Some(self.shared.addr.port()));
        change(&mut url);
        url.into()
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.shared.addr.port()
    }

    // The log

    /// Everything seen so far, in order.
    pub fn log(&self) -> Vec<Frame> {
        self.shared.log().frames().to_vec()
    }

    /// Runs `f` over the log without copying it. While it runs, the proxy stands still.
    pub fn with_log<T>(&self, f: impl FnOnce(&[Frame]) -> T) -> T {
        f(self.shared.log().frames())
    }

    /// The place in the log where the next frame will stand.
    pub fn mark(&self) -> usize {
        self.with_log(<[Frame]>::len)
    }

    /// How many frames came for which `matches` holds.
    pub fn count(&self, mut matches: impl FnMut(&Frame) -> bool) -> usize {
        self.with_log(|log| log.iter().filter(|frame| matches(frame)).count())
    }

    /// The faults that struck so far, and when, in words.
    pub fn faults(&self) -> Vec<(Duration, String)> {
        self.shared.log().faults.clone()
    }

    /// Commands and messages that came after the log was full and are in none of its answers. Zero unless
    /// the candidate sent hundreds of thousands, or hundreds of megabytes.
    pub fn unrecorded(&self) -> usize {
        self.shared.log().unrecorded()
    }

    /// How long ago a client declared a queue that none had declared before.
    pub(crate) fn last_new_queue(&self) -> Option<Duration> {
        let at = self.with_log(|log| {
            let mut names = HashSet::new();
            let declares = log.iter().filter(|frame| {
                let declare = frame.declares_queue();
                declare.is_some_and(|it| names.insert(it.queue.clone()))
            });
            declares.last().map(|frame| frame.at)
        });
        at.map(|at| self.shared.now().saturating_sub(at))
    }

    /// The names of the queues that clients declared.
    pub(crate) fn declared_queues(&self) -> HashSet<String> {
        self.with_log(|log| {
            let declares = log.iter().filter_map(Frame::declares_queue);
            declares.map(|declare| declare.queue.to_string()).collect()
        })
    }

    /// Writes a name down as if a client had declared it.
    pub(crate) fn write_down(&self, kind: &str, name: &str) {
        self.shared.notes().write_down(kind, name);
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    // Faults

    /// Arms a fault: at the event of `trigger`, do `action`. Several may be armed at once; if two are due
    /// at the same event, the one armed first strikes and the other waits for the next.
    ///
    /// - [`Action::CutBefore`]: the event is not passed on, and the connection is closed.
    /// - [`Action::CutAfter`]: the same, but what a client sent is passed on and carried out. The client
    ///   hears nothing of it. Struck at RabbitMQ's confirm this is a confirm that is lost.
    /// - [`Action::Hold`], [`Action::Delay`]: the event, and all that follows it in its direction on that
    ///   connection, is kept.
    ///
    /// Whatever passed before a cut has been carried out by RabbitMQ when the fault has
    /// [fired](Fault::fired).
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

    /// While on, nothing moves in either direction, heartbeats neither, and nobody is told.
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

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn note(&self, fault: impl Into<String>) {
        let now = self.now();
        self.log().faults.push((now, fault.into()));
    }

    /// Writes a frame down and gives it its number.
    pub(super) fn record(&self, frame: &mut Frame) {
        self.notes().take(frame);
        self.log().push(frame);
    }

    pub(super) fn passed(&self, seq: usize) {
        self.log().passed(seq);
    }

    /// Nothing is done under these locks that could leave their contents half changed.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self) -> String {
        let host = self.upstream.host_str().unwrap_or("127.0.0.1");
        format!("{host}:{}", self.upstream.port().unwrap_or(5672))
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
    let cuts = control.borrow().cuts;
    let Ok(broker) = TcpStream::connect(shared.upstream()).await else {
        reset(client);
        return;
    };
    relay::run(client, broker, connection, control, cuts, &shared).await;
}
