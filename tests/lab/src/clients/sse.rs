//! A client for Server-Sent Events that reads to the letter and writes down what came when.
//!
//! ```no_run
//! # use lab::clients::{http::{Client, Request}, sse::Stream};
//! # async fn example(client: Client) -> Result<(), lab::Failure> {
//! let mut stream = Stream::open(&client, &Request::get("/events")).await?;
//! while let Some(event) = stream.next().await? {
//!     println!("{} {}", event.last_id, event.data);
//! }
//! // The server has ended it in order. Go on behind the last id:
//! let stream = stream.reopen().await?;
//! # Ok(()) }
//! ```

mod parser;

pub use parser::{Event, Item, Parser};

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::http::{Client, Connection, Head, HttpError, Request, Response};

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was no answer, or none that can be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answered with something else than a stream.
    #[error("a stream of events was asked for, and the answer is {}", .0.summary())]
    Refused(Box<Response>),
}

impl OpenError {
    /// The answer, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match self {
            OpenError::Refused(response) => Some(response),
            OpenError::Http(_) => None,
        }
    }

    /// True if the server could not be reached, or ended the connection.
    pub fn is_gone(&self) -> bool {
        matches!(self, OpenError::Http(error) if error.is_gone())
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    request: Request,
    connection: Connection,
    head: Head,
    parser: Parser,
    /// What was read and not given out.
    waiting: VecDeque<Item>,
    retry: Option<Duration>,
    log: Vec<(Instant, Item)>,
    keep: bool,
}

impl Stream {
    /// Opens a stream: sends the request and reads the head of the answer.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when the answer is not 200 with the type `text/event-stream`.
    pub async fn open(client: &Client, request: &Request) -> Result<Self, OpenError> {
        let connection = client.connect().await?;
        Stream::over(*client, connection, request).await
    }

    /// Opens a stream on a connection that is there already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn over(
        client: Client,
        mut connection: Connection,
        request: &Request,
    ) -> Result<Self, OpenError> {
        connection.send(request).await?;
        let head = connection.head(request.method()).await?;
        if head.status != 200 || !is_event_stream(&head) {
            let mut body = Vec::new();
            while let Some(part) = connection.part(client.limit()).await? {
                body.extend_from_slice(&part);
            }
            let status = head.status;
            let response = Response { status, head, body };
            return Err(OpenError::Refused(Box::new(response)));
        }
        let last_id = request.header_value("last-event-id").unwrap_or_default();
        Ok(Stream {
            client,
            request: request.clone(),
            parser: Parser::resuming(last_id),
            connection,
            head,
            waiting: VecDeque::new(),
            retry: None,
            log: Vec::new(),
            keep: true,
        })
    }

    /// Does not keep what came: for streams of very many events.
    pub fn forget_items(mut self) -> Self {
        self.keep = false;
        self
    }

    /// Connects again, as a browser would: the same request, with the last id if there is one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn reopen(self) -> Result<Self, OpenError> {
        let (client, request, keep) = (self.client, self.next_request(), self.keep);
        // The old connection is closed first.
        drop(self);
        let mut stream = Stream::open(&client, &request).await?;
        stream.keep = keep;
        Ok(stream)
    }

    /// The request with which [`reopen`](Self::reopen) connects.
    pub fn next_request(&self) -> Request {
        match self.last_id() {
            "" => self.request.clone().without_header("last-event-id"),
            last_id => self.request.clone().set_header("last-event-id", last_id),
        }
    }

    /// The next event; `None` when the server has ended the stream in order. Comments and the like
    /// are passed over.
    ///
    /// # Errors
    /// [`HttpError::Silent`] when no event came within the client's limit, whatever else came.
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        let until = Instant::now() + self.client.limit();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.next_item_within(left).await {
                Ok(Some(Item::Event(event))) => return Ok(Some(event)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(HttpError::Silent { .. }) => {
                    return Err(HttpError::Silent {
                        doing: "was waiting for an event",
                        limit: self.client.limit(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next event, comment or retry time.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_item(&mut self) -> Result<Option<Item>, HttpError> {
        self.next_item_within(self.client.limit()).await
    }

    /// As [`next_item`](Self::next_item), but waits no longer than `limit`.
    ///
    /// # Errors
    /// [`HttpError::Silent`] when nothing came.
    pub async fn next_item_within(&mut self, limit: Duration) -> Result<Option<Item>, HttpError> {
        let until = Instant::now() + limit;
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(Some(item));
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some(part) = self.connection.part(left).await? else {
                return Ok(None);
            };
            let mut items = Vec::new();
            self.parser.feed(&part, &mut items);
            let now = Instant::now();
            for item in items {
                if let Item::Retry(retry) = item {
                    self.retry = Some(retry);
                }
                if self.keep {
                    self.log.push((now, item.clone()));
                }
                self.waiting.push_back(item);
            }
        }
    }

    /// Reads until the server ends the stream in order, and returns the events that came.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn rest(&mut self) -> Result<Vec<Event>, HttpError> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// The last id that was read, also of events that were not given out yet.
    pub fn last_id(&self) -> &str {
        self.parser.last_id()
    }

    /// The last `retry` that came.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The head of the answer.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Everything that came so far, and when it was read.
    pub fn log(&self) -> &[(Instant, Item)] {
        &self.log
    }

    /// The events that came so far.
    pub fn events(&self) -> Vec<Event> {
        let events = self.log.iter().filter_map(|(_, item)| match item {
            Item::Event(event) => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }

    /// True between two events: nothing of a next one has come.
    pub fn is_between_events(&self) -> bool {
        self.parser.is_between_events()
    }

    /// The connection under the stream: its bytes, and ways to end it.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Ends the connection with a reset and says how to go on.
    pub fn cut(self) -> Request {
        let next = self.next_request();
        self.connection.reset();
        next
    }
}

/// True if the content type, without its parameters, is that of an event stream.
fn is_event_stream(head: &Head) -> bool {
    let kind = head.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}
