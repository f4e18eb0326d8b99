//! An open WebSocket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Frame, Parser, Seen};
use crate::{Failure, Lab, Outcome};

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// One thing that was seen, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it had arrived as a whole.
    pub at: Instant,
    /// What it was.
    pub seen: Seen,
}

/// An open WebSocket. It reads in the background, from the start, and answers pings and a close as a
/// well-behaved client does, unless it was told otherwise. Dropping it closes the connection without
/// a word.
pub struct Socket {
    lab: Lab,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

struct Shared {
    /// Nothing is done under this lock that could leave its contents half changed.
    log: Mutex<Log>,
    /// Told of every record.
    arrived: watch::Sender<()>,
    reading: watch::Sender<bool>,
    answers_pings: AtomicBool,
    answers_close: AtomicBool,
    /// Several tasks write whole pieces; none of them in the middle of another's.
    writer: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
}

#[derive(Default)]
struct Log {
    all: Vec<Record>,
    /// What no call of `next` has given out yet, as places in `all`.
    fresh: VecDeque<usize>,
}

impl Socket {
    /// A client over a stream on which the handshake is done; `rest` came behind the answer.
    pub(super) fn over(
        stream: TcpStream,
        rest: Vec<u8>,
        answers_pings: bool,
        answers_close: bool,
        lab: Lab,
    ) -> Self {
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            arrived: watch::Sender::new(()),
            reading: watch::Sender::new(true),
            answers_pings: AtomicBool::new(answers_pings),
            answers_close: AtomicBool::new(answers_close),
            writer: tokio::sync::Mutex::new(Some(write)),
        });
        let reader = tokio::spawn(read_on(read, rest, Arc::clone(&shared)));
        Socket {
            lab,
            shared,
            reader,
        }
    }

    // Sending

    /// Sends a frame.
    ///
    /// # Errors
    /// A [`Failure`] when the connection is gone, or the server does not take the bytes before the
    /// lab's deadline.
    pub async fn send(&self, frame: &Frame) -> Outcome {
        self.write(&frame.bytes()).await
    }

    /// Sends a message of text.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_text(&self, text: &str) -> Outcome {
        self.send(&Frame::text(text)).await
    }

    /// Sends a JSON value as a message of text.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_json(&self, value: &Value) -> Outcome {
        self.send_text(&value.to_string()).await
    }

    /// Writes bytes, whatever they mean: several frames at once, or a part of one.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn write(&self, bytes: &[u8]) -> Outcome {
        let limit = self.lab.deadline();
        let written = tokio::time::timeout(limit, self.shared.write(bytes)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::observed(format!(
                "cannot send to the server any more: {error}{}",
                self.last_words()
            ))),
            Err(_) => Err(Failure::observed(format!(
                "the server did not take {} bytes within {limit:.0?}",
                bytes.len()
            ))),
        }
    }

    /// Writes bytes in pieces that each arrive by themselves, cut before each of these places.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn write_cut(&self, bytes: &[u8], places: &[usize]) -> Outcome {
        let mut begins = 0;
        for place in places.iter().copied().chain([bytes.len()]) {
            let ends = place.clamp(begins, bytes.len());
            self.write(&bytes[begins..ends]).await?;
            begins = ends;
            // The stream goes out without delay; this lets the peer see the piece alone.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    // Seeing

    /// The next thing that no earlier call has given out. Pings that were answered are passed over.
    /// `what` completes the sentence "waited for …".
    ///
    /// # Errors
    /// A [`Failure`] after the lab's deadline.
    pub async fn next(&self, what: &str) -> Result<Seen, Failure> {
        self.next_where(what, |seen| !matches!(seen, Seen::Ping(_)))
            .await
    }

    /// The next message of text, as JSON. Everything else but pings is a failure.
    ///
    /// # Errors
    /// A [`Failure`] that says what came instead, or that nothing came.
    pub async fn next_json(&self, what: &str) -> Result<Value, Failure> {
        match self.next(what).await? {
            Seen::Text(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::observed(format!(
                    "waited for {what}, and got a text that is not JSON ({error}): {text:?}"
                ))
            }),
            other => Err(Failure::observed(format!(
                "waited for {what}, and saw {other}"
            ))),
        }
    }

    /// The next thing for which `wanted` holds; what comes before it is given out by no later call.
    ///
    /// # Errors
    /// A [`Failure`] when the connection ends before, or after the lab's deadline.
    pub async fn next_where(
        &self,
        what: &str,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, Failure> {
        let mut arrived = self.shared.arrived.subscribe();
        let (wanted, arrived) = (&wanted, tokio::sync::Mutex::new(&mut arrived));
        self.lab
            .eventually(what, || async {
                let mut arrived = arrived.lock().await;
                arrived.mark_unchanged();
                match self.shared.take(wanted) {
                    Taken::Found(seen) => return Ok(Some(seen)),
                    Taken::Ended(last) => {
                        return Err(Failure::observed(format!(
                            "waited for {what}, and saw {last}"
                        )));
                    }
                    Taken::Nothing => {}
                }
                let _ = tokio::time::timeout(Duration::from_millis(200), arrived.changed()).await;
                match self.shared.take(wanted) {
                    Taken::Found(seen) => Ok(Some(seen)),
                    _ => Ok(None),
                }
            })
            .await
    }

    /// What no call has given out yet and is there already; does not wait.
    pub fn waiting(&self) -> Vec<Seen> {
        let mut log = self.shared.log();
        let places: Vec<usize> = log.fresh.drain(..).collect();
        places
            .into_iter()
            .map(|place| log.all[place].seen.clone())
            .collect()
    }

    /// Everything seen so far, with its time. It is still given out by [`next`](Self::next).
    pub fn log(&self) -> Vec<Record> {
        self.shared.log().all.clone()
    }

    /// What was seen after the first `known` things.
    pub fn log_after(&self, known: usize) -> Vec<Record> {
        let log = self.shared.log();
        log.all.get(known..).unwrap_or_default().to_vec()
    }

    /// How much was seen for which `wanted` holds.
    pub fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        let log = self.shared.log();
        log.all.iter().filter(|record| wanted(&record.seen)).count()
    }

    /// Waits for the server's close and the end of the connection after it; gives the code.
    /// Messages that come before are passed over.
    ///
    /// # Errors
    /// A [`Failure`] when the connection ends without a close, or not at all.
    pub async fn closed(&self, what: &str) -> Result<Option<u16>, Failure> {
        let is_close = |seen: &Seen| matches!(seen, Seen::Close(..));
        let close = self.next_where(what, is_close).await?;
        self.ended(&format!("the connection to end after {close}"))
            .await?;
        match close {
            Seen::Close(code, _) => Ok(code),
            _ => Ok(None),
        }
    }

    /// Waits for the end of the connection, in order or not.
    ///
    /// # Errors
    /// A [`Failure`] when the server breaks the protocol instead, or after the lab's deadline.
    pub async fn ended(&self, what: &str) -> Result<Seen, Failure> {
        match self.next_where(what, Seen::is_final).await? {
            Seen::Violation(how) => Err(Failure::observed(format!(
                "waited for {what}, and saw a breach of the protocol: {how}"
            ))),
            end => Ok(end),
        }
    }

    // Misbehaving

    /// Stops reading: what the server sends stays in the kernel's buffers, then in the server's.
    pub fn stop_reading(&self) {
        self.shared.reading.send_replace(false);
    }

    /// Reads on.
    pub fn read_on(&self) {
        self.shared.reading.send_replace(true);
    }

    /// Sets whether pings are answered.
    pub fn answer_pings(&self, on: bool) {
        self.shared.answers_pings.store(on, Ordering::Relaxed);
    }

    /// Closes the direction to the server, and reads on.
    pub async fn half_close(&self) {
        if let Some(mut writer) = self.shared.writer.lock().await.take() {
            // A connection that is gone already needs no closing.
            let _ = writer.shutdown().await;
        }
    }

    /// Ends the connection without a close frame, but in order: the server reads the end.
    pub async fn hang_up(self) {
        self.half_close().await;
    }

    /// Cuts the connection: the server's next read or write is an error.
    pub async fn cut(mut self) {
        self.reader.abort();
        let _ = (&mut self.reader).await;
        if let Some(writer) = self.shared.writer.lock().await.take() {
            // Without it the server sees an orderly end instead, which happens as well.
            let _ = writer.as_ref().set_zero_linger();
            writer.forget();
        }
    }

    /// Says goodbye with this code and waits for the answer and the end.
    ///
    /// # Errors
    /// A [`Failure`] when the close is not answered.
    pub async fn close(self, code: u16) -> Result<Option<u16>, Failure> {
        self.shared.answers_close.store(false, Ordering::Relaxed);
        self.send(&Frame::close(code, "")).await?;
        self.closed("the answer to the close").await
    }

    fn last_words(&self) -> String {
        let log = self.shared.log();
        match log.all.last() {
            Some(record) => format!("; the last it saw was {}", record.seen),
            None => "; it had seen nothing".to_owned(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

enum Taken {
    Found(Seen),
    /// What was wanted can not come any more; the last thing that came.
    Ended(Seen),
    Nothing,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, seen: Seen) {
        let mut log = self.log();
        log.all.push(Record {
            at: Instant::now(),
            seen,
        });
        let place = log.all.len() - 1;
        log.fresh.push_back(place);
        drop(log);
        self.arrived.send_replace(());
    }

    fn take(&self, wanted: &impl Fn(&Seen) -> bool) -> Taken {
        let mut log = self.log();
        while let Some(place) = log.fresh.pop_front() {
            let seen = &log.all[place].seen;
            if wanted(seen) {
                return Taken::Found(seen.clone());
            }
        }
        match log.all.last() {
            Some(record) if record.seen.is_final() => Taken::Ended(record.seen.clone()),
            _ => Taken::Nothing,
        }
    }

    async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        match self.writer.lock().await.as_mut() {
            Some(writer) => writer.write_all(bytes).await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

async fn read_on(mut stream: OwnedReadHalf, rest: Vec<u8>, shared: Arc<Shared>) {
    let mut parser = Parser::default();
    parser.push(&rest);
    let mut reading = shared.reading.subscribe();
    let mut piece = vec![0; PIECE];
    loop {
        while let Some(seen) = parser.parse_next() {
            let done = seen.is_final();
            let answer = match &seen {
                Seen::Ping(payload) if shared.answers_pings.load(Ordering::Relaxed) => {
                    Some(Frame::pong(payload.clone()))
                }
                Seen::Close(code, _) if shared.answers_close.load(Ordering::Relaxed) => {
                    let answer = code.map(|code| Frame::close(code, ""));
                    Some(answer.unwrap_or_else(Frame::close_without_code))
                }
                _ => None,
            };
            shared.record(seen);
            if let Some(answer) = answer {
                // If nobody is there to read it, that is seen in a moment.
                let _ = shared.write(&answer.bytes()).await;
            }
            if done {
                return;
            }
        }
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = reading.wait_for(|on| *on).await;
        let read = tokio::select! {
            read = stream.read(&mut piece) => read,
            _ = reading.wait_for(|on| !*on) => continue,
        };
        match read {
            Ok(0) => return shared.record(parser.end()),
            Ok(count) => parser.push(&piece[..count]),
            Err(error) => return shared.record(Seen::Lost(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::{Error, Message};

    use super::super::Handshake;
    use super::*;
    use crate::brokers::Endpoints;
    use crate::lab::Setting;

    fn lab() -> Lab {
        Lab::new(Setting {
            seed: 1,
            mark: "test".into(),
            patience: 1.0,
            service: None,
            leftovers: std::env::temp_dir(),
            brokers: Endpoints::default(),
        })
        .expect("a lab")
    }

    /// A client, and the other end in the hands of another implementation.
    async fn pair(shape: impl Fn(Handshake) -> Handshake) -> (Socket, WebSocketStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let lab = lab();
        let handshake = shape(Handshake::new(addr, "/"));
        let (client, server) = tokio::join!(handshake.connect(&lab), async {
            let (stream, _) = listener.accept().await.expect("a client");
            tokio_tungstenite::accept_async(stream)
                .await
                .expect("a handshake")
        });
        (client.expect("an upgrade"), server)
    }

    /// A client, and the bare stream it is on.
    async fn bare() -> (Socket, TcpStream) {
        let (client, server) = pair(|handshake| handshake).await;
        (client, server.into_inner())
    }

    #[tokio::test]
    async fn another_implementation_understands_it() {
        let (client, mut server) = pair(|handshake| handshake).await;
        let bytes = [
            Frame::text("na").unfinished().bytes(),
            Frame::ping("p").bytes(),
            Frame::continuation("ïve".as_bytes()).bytes(),
            Frame::binary(vec![7; 70_000]).bytes(),
            Frame::close(3000, "done").bytes(),
        ]
        .concat();
        client
            .write_cut(&bytes, &[1, 3, 9, 20, 21, 4_000])
            .await
            .expect("sent");
        let mut got = Vec::new();
        while let Some(Ok(message)) = server.next().await {
            got.push(message);
        }
        assert_eq!(got[0], Message::Ping("p".into()));
        assert_eq!(got[1], Message::text("naïve"));
        assert_eq!(got[2], Message::binary(vec![7; 70_000]));
        assert!(matches!(&got[3], Message::Close(Some(close)) if u16::from(close.code) == 3000));
        let seen = client.next("the pong").await.expect("it");
        assert_eq!(seen, Seen::Pong(b"p".to_vec()));
        drop(server);
        assert_eq!(client.closed("the close").await.expect("it"), Some(3000));
    }

    #[tokio::test]
    async fn it_answers_pings_and_a_close_unless_told_otherwise() {
        let (client, mut server) = pair(|handshake| handshake).await;
        server.send(Message::Ping("a".into())).await.expect("sent");
        assert_eq!(
            server.next().await.expect("one").expect("good"),
            Message::Pong("a".into())
        );
        client.answer_pings(false);
        server.send(Message::Ping("b".into())).await.expect("sent");
        server.close(None).await.expect("sent");
        let answer = server.next().await.expect("one").expect("good");
        assert!(matches!(answer, Message::Close(_)), "{answer:?}");
        drop(server);
        assert_eq!(client.closed("the close").await.expect("it"), None);
        assert_eq!(client.count(|seen| matches!(seen, Seen::Ping(_))), 2);
    }

    #[tokio::test]
    async fn a_cut_is_a_reset_and_the_other_ways_to_go_are_not() {
        let (client, mut server) = pair(|handshake| handshake).await;
        client.cut().await;
        let end = server.next().await;
        assert!(
            matches!(&end, Some(Err(Error::Io(error))) if error.kind() == std::io::ErrorKind::ConnectionReset),
            "{end:?}"
        );
        let (client, mut stream) = bare().await;
        client.hang_up().await;
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).await.expect("an end"), 0);

        let (client, mut stream) = bare().await;
        client.half_close().await;
        assert_eq!(stream.read_to_end(&mut rest).await.expect("an end"), 0);
        stream.write_all(&[0x81, 1, b'x']).await.expect("sent");
        drop(stream);
        assert_eq!(client.next("it").await.expect("it"), Seen::Text("x".into()));
        assert_eq!(client.ended("the end").await.expect("it"), Seen::End);
    }

    #[tokio::test]
    async fn it_sees_how_a_connection_ends() {
        let (client, stream) = bare().await;
        stream.set_zero_linger().expect("set");
        drop(stream);
        let end = client.ended("the end").await.expect("it");
        assert!(matches!(end, Seen::Lost(_)), "{end:?}");

        let (client, mut stream) = bare().await;
        stream.write_all(&[0x81, 5, b'x']).await.expect("sent");
        drop(stream);
        let failure = client.ended("the end").await.expect_err("a breach");
        assert!(failure.observed.contains("middle of a frame"), "{failure}");

        let (client, mut stream) = bare().await;
        stream
            .write_all(&[0x81, 0x80, 0, 0, 0, 0])
            .await
            .expect("sent");
        let failure = client.closed("the close").await.expect_err("a breach");
        assert!(failure.observed.contains("masked"), "{failure}");
    }

    #[tokio::test]
    async fn what_it_does_not_read_stays_where_it_is() {
        let (client, mut server) = pair(|handshake| handshake.receive_buffer(4_096)).await;
        client.stop_reading();
        // More than any system keeps in its buffers.
        let sending = tokio::spawn(async move {
            for n in 0..64_u8 {
                server.send(Message::binary(vec![n; 1 << 20])).await?;
            }
            server.close(None).await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sending.is_finished());
        assert_eq!(client.log().len(), 0);
        client.read_on();
        for n in 0..64_u8 {
            let seen = client.next("a message").await.expect("it");
            assert_eq!(seen, Seen::Binary(vec![n; 1 << 20]));
        }
        assert!(sending.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn a_refusal_is_read_with_its_body() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let answer =
                "HTTP/1.1 409 Conflict\r\nContent-Length: 21\r\n\r\n{\"code\":\"name_taken\"}";
            stream.write_all(answer.as_bytes()).await.expect("sent");
            std::future::pending::<()>().await;
        });
        let refused = Handshake::new(addr, "/ws")
            .refused(&lab())
            .await
            .expect("a refusal");
        assert_eq!(refused.status, 409);
        assert_eq!(refused.field("code").as_deref(), Some("name_taken"));
        assert_eq!(refused.header("content-length"), Some("21"));
    }
}
