//! One connection to a server.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::Body;
use super::{Client, Head, HttpError, Request, Response};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// A connection. Dropping it closes it; unread bytes may turn that into a reset.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    stream: TcpStream,
    /// Bytes that came and were not looked at yet: `[read..]`.
    buffer: Vec<u8>,
    read: usize,
    /// Every byte that came, unless the client forgets them.
    raw: Vec<u8>,
    received: u64,
    /// No byte after this one is read.
    stop: Option<u64>,
    /// The body of the answer that is being read.
    body: Body,
    ended: bool,
}

impl Connection {
    pub(super) async fn open(client: &Client) -> Result<Self, HttpError> {
        let connecting = timeout(client.limit, connect(client));
        let connected = connecting
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|source| HttpError::Connect {
            addr: client.addr,
            source,
        })?;
        Ok(Connection {
            client: *client,
            stream,
            buffer: Vec::new(),
            read: 0,
            raw: Vec::new(),
            received: 0,
            stop: None,
            body: Body::Over,
            ended: false,
        })
    }

    // Writing

    /// Sends a request, without waiting for the answer.
    ///
    /// # Errors
    /// The connection broke, or the server does not read.
    pub async fn send(&mut self, request: &Request) -> Result<(), HttpError> {
        let bytes = request.to_bytes(self.client.addr);
        self.write(&bytes).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection broke, or the server does not read.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        let doing = "was sending";
        match timeout(self.client.limit, self.stream.write_all(bytes)).await {
            Ok(written) => written.map_err(|source| HttpError::Broken { doing, source }),
            Err(_) => Err(self.silent(doing, self.client.limit)),
        }
    }

    /// Closes the sending half: the server reads the end, and may still answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn finish_writing(&mut self) -> Result<(), HttpError> {
        let doing = "closed its sending half";
        let closed = self.stream.shutdown().await;
        closed.map_err(|source| HttpError::Broken { doing, source })
    }

    /// Ends the connection with a reset, as a crash or a lost network does; what was on its way is
    /// thrown away.
    pub fn reset(self) {
        // Without it the server sees an orderly end, which is as much a cut.
        let _ = self.stream.set_zero_linger();
    }

    // Reading

    /// Sends a request and reads the whole answer. The connection can be used again afterwards
    /// unless the server closes it.
    ///
    /// # Errors
    /// The connection broke, the answer is no HTTP/1.1, or nothing came within the limit.
    pub async fn request(&mut self, request: &Request) -> Result<Response, HttpError> {
        self.send(request).await?;
        self.response(request.method()).await
    }

    /// Reads the answer to a request with this method that was sent before.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn response(&mut self, method: &str) -> Result<Response, HttpError> {
        let head = self.head(method).await?;
        let mut body = Vec::new();
        while let Some(part) = self.part(self.client.limit).await? {
            body.extend_from_slice(&part);
        }
        Ok(Response {
            status: head.status,
            head,
            body,
        })
    }

    /// Reads the head of an answer. Its body comes by [`part`](Self::part). Answers that only
    /// announce another (100 and its kin) are passed over.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn head(&mut self, method: &str) -> Result<Head, HttpError> {
        let until = Instant::now() + self.client.limit;
        loop {
            if let Some((head, length)) = Head::parse(&self.buffer[self.read..])? {
                self.read += length;
                if matches!(head.status, 100..=199) && head.status != 101 {
                    continue;
                }
                self.body = Body::of(method, &head)?;
                return Ok(head);
            }
            let doing = match self.buffer.len() == self.read {
                true => "was waiting for an answer",
                false => "was reading the head of an answer",
            };
            self.read_more(doing, until, self.client.limit).await?;
            if self.ended {
                return Err(self.ended_while(doing));
            }
        }
    }

    /// The next part of the body, as soon as there is any; `None` at its orderly end. Waits at
    /// most `limit`.
    ///
    /// # Errors
    /// As [`request`](Self::request); [`HttpError::Ended`] when the connection was closed before
    /// the end of the body.
    pub async fn part(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, HttpError> {
        let until = Instant::now() + limit;
        let mut content = Vec::new();
        loop {
            if self.body.is_over() {
                return Ok(None);
            }
            let taken = self.body.take(&self.buffer[self.read..], &mut content)?;
            self.read += taken;
            if !content.is_empty() {
                return Ok(Some(content));
            }
            if self.body.is_over() {
                return Ok(None);
            }
            let doing = self.body.doing();
            self.read_more(doing, until, limit).await?;
            if self.ended {
                if matches!(self.body, Body::UntilClose) {
                    self.body = Body::Over;
                    return Ok(None);
                }
                return Err(self.ended_while(doing));
            }
        }
    }

    /// Reads and throws away what comes, until the server ends the connection, in order or not.
    ///
    /// # Errors
    /// [`HttpError::Silent`] if it does not within the limit, whatever came meanwhile.
    pub async fn closed(&mut self) -> Result<(), HttpError> {
        let until = Instant::now() + self.client.limit;
        let doing = "was waiting for the end of the connection";
        while !self.ended {
            match self.read_more(doing, until, self.client.limit).await {
                Ok(()) => self.read = self.buffer.len(),
                Err(HttpError::Broken { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From now on reads no byte after the first `count` that come on this connection:
    /// [`HttpError::Stopped`] then. To cut it exactly there, [`reset`](Self::reset) it.
    pub fn stop_after(&mut self, count: u64) {
        self.stop = Some(count);
    }

    /// Every byte that came on this connection. Empty if the client
    /// [forgets](Client::forget_bytes) them.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// How many bytes came on this connection.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads what is there, or waits for some. Sets `ended` at the end of the connection.
    async fn read_more(
        &mut self,
        doing: &'static str,
        until: Instant,
        limit: Duration,
    ) -> Result<(), HttpError> {
        let room = match self.stop {
            Some(stop) if stop <= self.received => return Err(HttpError::Stopped(stop)),
            Some(stop) => {
                usize::try_from(stop - self.received).map_or(CHUNK, |room| room.min(CHUNK))
            }
            None => CHUNK,
        };
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.reserve(room.min(CHUNK));
        let before = self.buffer.len();
        let mut limited = (&mut self.stream).take(room as u64);
        let reading = timeout_at(until, limited.read_buf(&mut self.buffer));
        match reading.await {
            Ok(Ok(0)) => self.ended = true,
            Ok(Ok(count)) => {
                self.received += count as u64;
                if self.client.keep {
                    self.raw.extend_from_slice(&self.buffer[before..]);
                }
            }
            Ok(Err(source)) => return Err(HttpError::Broken { doing, source }),
            Err(_) => return Err(self.silent(doing, limit)),
        }
        Ok(())
    }

    fn ended_while(&self, doing: &'static str) -> HttpError {
        HttpError::Ended {
            doing,
            after: self.received,
        }
    }

    fn silent(&self, doing: &'static str, limit: Duration) -> HttpError {
        HttpError::Silent { doing, limit }
    }
}

async fn connect(client: &Client) -> io::Result<TcpStream> {
    let socket = match client.addr.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    if let Some(bytes) = client.receive_buffer {
        // Before connecting: the window that the server is told depends on it.
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(client.addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
