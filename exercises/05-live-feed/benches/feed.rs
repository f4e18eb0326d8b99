//! How fast the feed is, beside axum's own SSE on a broadcast channel and beside plain XADD, and how
//! much memory a client costs.
//!
//! `cargo xtask bench live-feed`, or with a Redis of your own
//! `REDIS_URL=redis://… cargo bench -p live-feed`. It writes the stream `bench:feed` and deletes it.
//! Compare the rows of one run with each other, and not with another machine's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::sse::{self, Sse};
use axum::routing::get;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use futures::future::join_all;
use futures::{Stream, StreamExt as _, stream};
use live_feed::{CancellationToken, Options, serve};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

/// Events of one measurement.
const EVENTS: usize = 100;
/// Those who post side by side.
const POSTERS: usize = 16;
/// Clients whose memory is measured.
const CROWD: usize = 1_000;
const STREAM: &str = "bench:feed";
const EVENT: &str =
    r#"{"topic":"prices","type":"price","data":{"symbol":"EURUSD","bid":1.0917,"ask":1.0919}}"#;

fn main() -> ExitCode {
    lab::brokers::with_redis(run)
}

fn run(runtime: &Runtime, redis: &str) -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    fanning_out(&mut criterion, runtime);
    posting(&mut criterion, runtime, redis);
    criterion.final_summary();
    if cfg!(target_os = "linux") {
        runtime.block_on(memory())?;
    }
    Ok(())
}

/// From the first POST until every client has every event.
fn fanning_out(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("fan out 100 events");
    group.sampling_mode(SamplingMode::Flat);
    for clients in [10, 100, 500] {
        group.throughput(Throughput::Elements((clients * EVENTS) as u64));
        for (name, bare) in [("feed", false), ("axum", true)] {
            group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                bencher.to_async(runtime).iter_custom(async |times| {
                    let server = if bare {
                        start_bare().await
                    } else {
                        start(Options::default()).await
                    };
                    let crowd = Crowd::connect(server.address, clients).await;
                    let mut poster = Poster::connect(server.address).await;
                    let start = Instant::now();
                    for round in 1..=times {
                        for _ in 0..EVENTS {
                            poster.post().await;
                        }
                        let all = usize::try_from(round).expect("a small number") * EVENTS;
                        crowd.have(all * clients).await;
                    }
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
}

fn posting(criterion: &mut Criterion, runtime: &Runtime, redis: &str) {
    let mut group = criterion.benchmark_group("post, 16 side by side");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((POSTERS * EVENTS) as u64));
    for (name, url) in [("in memory", None), ("in Redis", Some(redis.to_owned()))] {
        group.bench_function(BenchmarkId::new("feed", name), |bencher| {
            bencher.to_async(runtime).iter_custom(async |times| {
                let server = start(Options {
                    redis: url.clone(),
                    stream: STREAM.into(),
                    ..Options::default()
                })
                .await;
                let mut posters =
                    join_all((0..POSTERS).map(|_| Poster::connect(server.address))).await;
                let start = Instant::now();
                for _ in 0..times {
                    join_all(posters.iter_mut().map(async |poster| {
                        for _ in 0..EVENTS {
                            poster.post().await;
                        }
                    }))
                    .await;
                }
                start.elapsed()
            });
        });
    }
    group.bench_function(BenchmarkId::new("client", "XADD"), |bencher| {
        bencher.to_async(runtime).iter_custom(async |times| {
            let client = redis::Client::open(redis).expect("an address");
            let connection = client
                .get_multiplexed_async_connection()
                .await
                .expect("a connection");
            let start = Instant::now();
            for _ in 0..times {
                join_all((0..POSTERS).map(async |_| {
                    let mut connection = connection.clone();
                    for _ in 0..EVENTS {
                        let _: String = redis::cmd("XADD")
                            .arg(&[STREAM, "MAXLEN", "10000", "*", "topic", "prices"])
                            .arg(&["type", "price", "data", EVENT])
                            .query_async(&mut connection)
                            .await
                            .expect("an id");
                    }
                }))
                .await;
            }
            start.elapsed()
        });
    });
    group.finish();
    runtime.block_on(async {
        let client = redis::Client::open(redis).expect("an address");
        let connection = client.get_multiplexed_async_connection().await;
        let _: u64 = redis::cmd("DEL")
            .arg(STREAM)
            .query_async(&mut connection.expect("a connection"))
            .await
            .expect("a count");
    });
}

/// What a client that is connected and idle costs the service, by the kernel's count of its pages.
async fn memory() -> anyhow::Result<()> {
    let mut service = Command::new(env!("CARGO_BIN_EXE_live-feed"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = service.stdout.take();
    let output = output.ok_or_else(|| anyhow::anyhow!("the service has no output"))?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
    let listening: serde_json::Value = serde_json::from_str(&line)?;
    let address = listening["listening"]
        .as_str()
        .unwrap_or_default()
        .parse()?;
    // What the service takes once, it has taken then.
    drop(Crowd::connect(address, 10).await);
    let before = resident(service.id())?;
    let crowd = Crowd::connect(address, CROWD).await;
    let after = resident(service.id())?;
    drop(crowd);
    service.kill()?;
    service.wait()?;
    let each = after.saturating_sub(before) as f64 / CROWD as f64;
    println!("memory: {each:.1} KiB for each of {CROWD} clients ({before} KiB without them)");
    Ok(())
}

/// The resident memory of a process in KiB.
fn resident(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.unwrap_or_default().parse()?)
}

/// A server that ends when it is dropped.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

async fn start(options: Options) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let served = serve(listener, options, CancellationToken::new()).await;
        served.expect("a feed");
    });
    Server {
        address,
        _task: task,
    }
}

/// The shortest server that does the same with what axum brings, without any history, id or end.
async fn start_bare() -> Server {
    let (sender, _) = broadcast::channel::<String>(1024);
    let router = Router::new()
        .route("/events", get(bare_stream).post(bare_post))
        .with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let served = axum::serve(listener, router).await;
        served.expect("a server");
    });
    Server {
        address,
        _task: task,
    }
}

async fn bare_post(State(sender): State<broadcast::Sender<String>>, event: String) {
    let _ = sender.send(event);
}

async fn bare_stream(
    State(sender): State<broadcast::Sender<String>>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let receiver = sender.subscribe();
    let hello = stream::iter([Ok(sse::Event::default().comment("hello"))]);
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await.expect("nobody lags");
        let event = sse::Event::default().event("price").data(event);
        Some((Ok(event), receiver))
    });
    Sse::new(hello.chain(events))
}

/// Clients that count events by their ends and forget them.
struct Crowd {
    ends: Arc<AtomicUsize>,
    more: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Returns when all have read the first thing that a stream brings.
    async fn connect(address: SocketAddr, size: usize) -> Self {
        let ends = Arc::new(AtomicUsize::new(0));
        let more = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        for _ in 0..size {
            let (ends, more) = (Arc::clone(&ends), Arc::clone(&more));
            tasks.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                let head = "GET /events HTTP/1.1\r\nhost: bench\r\n\r\n";
                stream.write_all(head.as_bytes()).await.expect("a request");
                let mut last = 0;
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let mut found = 0;
                    for &byte in &buffer[..length] {
                        found += usize::from(byte == b'\n' && last == b'\n');
                        last = byte;
                    }
                    ends.fetch_add(found, Ordering::Relaxed);
                    more.notify_one();
                }
            });
        }
        let crowd = Crowd {
            ends,
            more,
            _tasks: tasks,
        };
        crowd.have(size).await;
        crowd.ends.fetch_sub(size, Ordering::Relaxed);
        crowd
    }

    /// Waits until all clients together have so many.
    async fn have(&self, count: usize) {
        while self.ends.load(Ordering::Relaxed) < count {
            self.more.notified().await;
        }
    }
}

/// Posts one event after the other on one connection.
struct Poster(BufReader<TcpStream>);

impl Poster {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Poster(BufReader::new(stream))
    }

    async fn post(&mut self) {
        let request = format!(
            "POST /events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{EVENT}",
            EVENT.len()
        );
        self.0
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut line = String::new();
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).await.expect("an answer");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("a body");
    }
}
