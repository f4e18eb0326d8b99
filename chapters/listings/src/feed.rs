//! What the listings about Server-Sent Events share: the reading side.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

// ANCHOR: interpreter
/// An event as a page sees it.
#[derive(Debug)]
pub struct Event {
    pub kind: String,
    pub data: String,
    /// What the browser will send as `Last-Event-ID` when it reconnects.
    pub last_id: String,
}

/// The rules by which a browser reads a stream, line by line.
#[derive(Default)]
pub struct Interpreter {
    kind: String,
    data: String,
    id: String,
}

impl Interpreter {
    /// Takes one line without its end. An event comes out at an empty line.
    pub fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        // A line without a colon is a name with an empty value. One space after the colon goes.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.kind = value.to_owned(),
            "data" => self.data += &format!("{value}\n"),
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // `retry` sets the pause before reconnecting. All else, comments too, is ignored.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        // Not one data line: no event. An id stays all the same.
        let data = data.strip_suffix('\n')?.to_owned();
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        Some(Event { kind, data, last_id: self.id.clone() })
    }
}

/// A whole stream at once. A line ends with LF, with CR, or with both.
pub fn events(stream: &str) -> Vec<Event> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let mut interpreter = Interpreter::default();
    // What stands behind the last line end is no line.
    let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete.split('\n').filter_map(|line| interpreter.line(line)).collect()
}
// ANCHOR_END: interpreter

// ANCHOR: feed
/// An open stream.
pub struct Feed {
    socket: BufReader<TcpStream>,
    interpreter: Interpreter,
    /// The status line and the headers, without the date.
    pub head: Vec<String>,
}

impl Feed {
    /// Asks in HTTP/1.0, so that the answer comes without the lengths of chunks in it. `more` are
    /// further headers.
    pub async fn open(address: SocketAddr, more: &str) -> anyhow::Result<Self> {
        let mut socket = BufReader::new(TcpStream::connect(address).await?);
        let request = format!("GET /events HTTP/1.0\r\n{more}\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut feed =
            Feed { socket, interpreter: Interpreter::default(), head: vec![] };
        while let Some(line) = feed.line().await {
            match line.as_str() {
                "" => break,
                date if date.starts_with("date:") => {}
                _ => feed.head.push(line),
            }
        }
        Ok(feed)
    }

    /// The next line, or nothing if the stream has ended.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.socket.read_line(&mut line).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// The next event, or nothing if the stream has ended.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            let line = self.line().await?;
            if let Some(event) = self.interpreter.line(&line) {
                return Some(event);
            }
        }
    }
}
// ANCHOR_END: feed
