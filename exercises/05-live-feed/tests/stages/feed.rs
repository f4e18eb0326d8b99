//! What the checks share: a node to talk to, wherever it runs, and those who publish to it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use lab::clients::http::{Client, Connection, Request, Response};
use lab::clients::sse::{Event, Item, OpenError, Stream};
use lab::history::What;
use lab::{Failure, FairClock, Lab, Outcome};
use live_feed::{CancellationToken, Error, Options, Summary, serve};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// For times that are not to pass.
pub const HOUR: Duration = Duration::from_secs(3600);

/// Options for a node in memory that keeps quiet.
pub fn quiet() -> Options {
    Options {
        heartbeat: HOUR,
        ..Options::default()
    }
}

/// A node's address and how to talk to it. Where it runs does not matter.
#[derive(Clone)]
pub struct Node {
    pub lab: Lab,
    pub addr: SocketAddr,
}

impl Node {
    pub fn client(&self) -> Client {
        Client::new(self.addr, self.lab.deadline())
    }

    pub async fn request(&self, request: &Request) -> Result<Response, Failure> {
        Ok(self.client().request(request).await?)
    }

    /// Opens `GET /events` and whatever follows it: `?topic=a`.
    pub async fn open(&self, query: &str) -> Result<Stream, Failure> {
        self.open_with(&events(query)).await
    }

    pub async fn open_with(&self, request: &Request) -> Result<Stream, Failure> {
        Ok(Stream::open(&self.client(), request).await?)
    }

    /// Opens a stream behind this id.
    pub async fn resume(&self, query: &str, id: &str) -> Result<Stream, Failure> {
        self.open_with(&events(query).header("last-event-id", id))
            .await
    }

    /// Asks for a stream and wants an answer of another kind.
    pub async fn refused(&self, request: &Request) -> Result<Response, Failure> {
        match Stream::open(&self.client(), request).await {
            Err(OpenError::Refused(response)) => Ok(*response),
            Err(OpenError::Http(error)) => Err(error.into()),
            Ok(_) => Err(Failure::observed(format!(
                "{} {} was answered with a stream",
                request.method(),
                request.target()
            ))),
        }
    }

    pub async fn publisher(&self) -> Result<Publisher, Failure> {
        Ok(Publisher {
            node: self.clone(),
            connection: self.client().connect().await?,
        })
    }

    /// Publishes one event and returns its id.
    pub async fn post(&self, topic: &str, data: &str) -> Result<String, Failure> {
        self.publisher().await?.post(topic, data).await
    }

    /// Publishes events `0`, `1`, … one after the other and returns their ids.
    pub async fn post_many(&self, topic: &str, count: usize) -> Result<Vec<String>, Failure> {
        let mut publisher = self.publisher().await?;
        let mut ids = Vec::with_capacity(count);
        for n in 0..count {
            ids.push(publisher.post(topic, &n.to_string()).await?);
        }
        Ok(ids)
    }

    pub async fn stats(&self) -> Result<Value, Failure> {
        let response = self.request(&Request::get("/stats")).await?;
        match response.json() {
            Some(stats) if response.status == 200 => Ok(stats),
            _ => Err(Failure::observed(format!(
                "GET /stats was answered with {}",
                response.summary()
            ))),
        }
    }

    pub async fn clients(&self) -> Result<u64, Failure> {
        Ok(self.stats().await?["clients"].as_u64().unwrap_or(u64::MAX))
    }

    /// Waits until so many streams are counted.
    pub async fn until_clients(&self, count: u64) -> Result<(), Failure> {
        let what = format!("GET /stats to count {count} clients");
        let looked = self.lab.eventually(&what, || async {
            Ok((self.clients().await? == count).then_some(()))
        });
        match looked.await {
            Ok(()) => Ok(()),
            Err(failure) => {
                let now = self.clients().await?;
                Err(failure.also(format!("it counts {now}")))
            }
        }
    }
}

/// `GET /events` and whatever follows it.
pub fn events(query: &str) -> Request {
    Request::get(format!("/events{query}"))
}

/// A request that publishes an event.
pub fn posting(topic: &str, data: impl Into<Value>) -> Request {
    Request::post("/events").json(&json!({"topic": topic, "data": data.into()}))
}

/// Somebody who publishes one event after the other on one connection.
pub struct Publisher {
    node: Node,
    connection: Connection,
}

impl Publisher {
    pub async fn request(&mut self, request: &Request) -> Result<Response, Failure> {
        Ok(self.connection.request(request).await?)
    }

    /// Publishes an event and returns its id.
    pub async fn post(&mut self, topic: &str, data: &str) -> Result<String, Failure> {
        let response = self.request(&posting(topic, data)).await?;
        let id = accepted(&response)?;
        self.node.lab.history().record("publisher", What::Sent, &id);
        Ok(id)
    }
}

/// The id in the answer to an event that was accepted.
pub fn accepted(response: &Response) -> Result<String, Failure> {
    let id = response
        .json()
        .and_then(|body| Some(body["id"].as_str()?.to_owned()));
    match id {
        Some(id) if response.status == 201 => Ok(id),
        _ => Err(Failure::observed(format!(
            "an event was posted, and the answer is {} instead of 201 with its `id`",
            response.summary()
        ))),
    }
}

/// A node in this process. Dropping it ends it as a crash would.
pub struct Feed {
    node: Node,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<Summary, Error>>>,
}

impl Deref for Feed {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Feed {
    pub async fn start(lab: &Lab, options: Options) -> Result<Feed, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Feed::on(lab, listener, options).await
    }

    /// A node whose system keeps little for a client that does not read, so that a few hundred
    /// kilobytes are more than enough to find it.
    pub async fn with_small_buffers(lab: &Lab, options: Options) -> Result<Feed, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(8 * 1024)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        Feed::on(lab, socket.listen(1024)?, options).await
    }

    async fn on(lab: &Lab, listener: TcpListener, options: Options) -> Result<Feed, Failure> {
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, options, stop.clone()));
        let lab = lab.clone();
        let mut feed = Feed {
            node: Node { lab, addr },
            stop,
            task: Some(task),
        };
        let up = feed.request(&Request::get("/healthz")).await;
        match up {
            Ok(response) if response.status == 200 => Ok(feed),
            Ok(response) => Err(Failure::observed(format!(
                "GET /healthz was answered with {}",
                response.summary()
            ))),
            Err(failure) => Err(feed.why_not(failure).await),
        }
    }

    /// Why it does not answer, if it has ended.
    async fn why_not(&mut self, failure: Failure) -> Failure {
        let Some(task) = self.task.take_if(|task| task.is_finished()) else {
            return failure;
        };
        match task.await {
            Ok(Ok(summary)) => {
                Failure::observed(format!("`serve` returned by itself: {summary:?}"))
            }
            Ok(Err(error)) => Failure::observed(format!("`serve` returned an error: {error}")),
            Err(gone) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
            Err(_) => failure,
        }
    }

    /// Asks it to stop, as SIGTERM does for the service.
    pub fn ask_to_stop(&self) {
        self.lab.history().note("node", "asked to stop");
        self.stop.cancel();
    }

    /// What `serve` returned. Fails when it does not return.
    pub async fn ended(mut self) -> Result<Summary, Failure> {
        let Some(task) = self.task.as_mut() else {
            return Err(Failure::infrastructure("the lab asked twice for an end"));
        };
        let limit = self.node.lab.deadline();
        match tokio::time::timeout(limit, task).await {
            Ok(Ok(Ok(summary))) => Ok(summary),
            Ok(Ok(Err(error))) => Err(Failure::observed(format!(
                "`serve` was asked to stop and returned an error: {error}"
            ))),
            Ok(Err(gone)) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
            Ok(Err(gone)) => Err(gone.into()),
            Err(_) => Err(Failure::observed(format!(
                "`serve` was asked to stop and had not returned after {limit:.0?}"
            ))),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Runs a check whose promise has a time in it with longer and longer times, in ms, until this machine
/// was never held up for long enough to spoil the answer.
pub async fn on_a_fair_clock<F, Fut>(lab: &Lab, times: [u64; 3], check: F) -> Outcome
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = Outcome>,
{
    FairClock::stalls_beyond(8).run(lab, times, check).await
}

/// The next `count` events of a stream. Its end before that is a failure.
pub async fn take(stream: &mut Stream, count: usize) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        match stream.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => {
                return Err(Failure::observed(format!(
                    "the stream ended after {} of {count} events",
                    events.len()
                )));
            }
            Err(error) => {
                return Err(Failure::from(error).also(format!(
                    "{} of {count} events had come, the last with the id {:?}",
                    events.len(),
                    stream.last_id()
                )));
            }
        }
    }
    Ok(events)
}

/// Reads up to the event with this data, which is included.
pub async fn take_until(stream: &mut Stream, data: &str) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => {
                let over = event.data == data;
                events.push(event);
                if over {
                    return Ok(events);
                }
            }
            Ok(None) => {
                return Err(Failure::observed(format!(
                    "the stream ended after {} events, before {data:?}",
                    events.len()
                )));
            }
            Err(error) => {
                return Err(Failure::from(error).also(format!(
                    "{} events had come, and {data:?} was still to come",
                    events.len()
                )));
            }
        }
    }
}

/// Reads the `retry:` that a stream begins with.
pub async fn begin(stream: &mut Stream) -> Result<Duration, Failure> {
    match stream.next_item().await? {
        Some(Item::Retry(retry)) => Ok(retry),
        Some(other) => Err(Failure::observed(format!(
            "a stream begins with `retry:`, and this one began with {other:?}"
        ))),
        None => Err(Failure::observed("the stream ended before anything came")),
    }
}

/// The ids of events.
pub fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.last_id.clone()).collect()
}

/// The data of events.
pub fn data(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.data.clone()).collect()
}

/// An id as the two numbers it consists of.
pub fn numbers(id: &str) -> Option<(u64, u64)> {
    let (ms, n) = id.split_once('-')?;
    Some((ms.parse().ok()?, n.parse().ok()?))
}
