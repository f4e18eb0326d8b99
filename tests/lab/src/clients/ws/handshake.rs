//! The handshake, written and read by hand.

use std::net::SocketAddr;

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Socket;
use crate::{Failure, Lab};

/// An answer with a longer head than this is none.
const LONGEST_HEAD: usize = 64 * 1024;

/// A handshake that has not been sent yet.
#[derive(Debug, Clone)]
pub struct Handshake {
    addr: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    receive_buffer: Option<u32>,
    answers_pings: bool,
    answers_close: bool,
}

/// What the server made of it.
pub enum Answer {
    /// The connection is a WebSocket now.
    Upgraded(Socket),
    /// The server answered as HTTP, with something else than 101.
    Refused(Refused),
}

/// An answer that is no upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Refused {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A top-level string of the body, if the body is a JSON object and has it.
    pub fn field(&self, name: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(body.get(name)?.as_str()?.to_owned())
    }
}

impl Handshake {
    /// A handshake for `path`, which may have a query.
    pub fn new(addr: SocketAddr, path: impl Into<String>) -> Self {
        Handshake {
            addr,
            path: path.into(),
            headers: Vec::new(),
            receive_buffer: None,
            answers_pings: true,
            answers_close: true,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Says where the page that opens the connection came from, as browsers do.
    pub fn origin(self, origin: impl Into<String>) -> Self {
        self.header("Origin", origin)
    }

    /// Makes the kernel's buffer for what arrives this small, so that a client that does not read is
    /// noticed soon. The kernel may round it up.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The client will not answer pings.
    pub fn without_pongs(mut self) -> Self {
        self.answers_pings = false;
        self
    }

    /// The client will not answer a close.
    pub fn without_close(mut self) -> Self {
        self.answers_close = false;
        self
    }

    /// Opens the connection and sends nothing yet.
    ///
    /// # Errors
    /// The server does not take connections.
    pub async fn open(&self) -> std::io::Result<TcpStream> {
        let socket = match self.addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Asks for the upgrade over a connection from [`open`](Self::open).
    ///
    /// # Errors
    /// A [`Failure`] when the answer is not HTTP, an upgrade that RFC 6455 does not allow, or does
    /// not come before the lab's deadline.
    pub async fn ask_over(&self, mut stream: TcpStream, lab: &Lab) -> Result<Answer, Failure> {
        let key = generate_key();
        // A server that is about to refuse may have closed already: its answer is still there.
        let _ = stream.write_all(self.request(&key).as_bytes()).await;
        self.answer_over(stream, &key, lab).await
    }

    /// Asks over `count` connections at the same moment: all of each request but its last byte is
    /// there before, and the last bytes follow each other within microseconds.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), for the first of them that has one.
    pub async fn ask_together(&self, count: usize, lab: &Lab) -> Result<Vec<Answer>, Failure> {
        let mut asked = Vec::new();
        for _ in 0..count {
            let (mut stream, key) = (self.connected().await?, generate_key());
            let request = self.request(&key);
            stream
                .write_all(&request.as_bytes()[..request.len() - 1])
                .await?;
            asked.push((stream, key));
        }
        // Not from this runtime's threads: they are to find all of it at once.
        let asked = tokio::task::spawn_blocking(move || {
            for (stream, _) in &asked {
                stream.try_write(b"\n")?;
            }
            std::io::Result::Ok(asked)
        })
        .await??;
        let answers = asked
            .into_iter()
            .map(|(stream, key)| async move { self.answer_over(stream, &key, lab).await });
        try_join_all(answers).await
    }

    async fn answer_over(
        &self,
        mut stream: TcpStream,
        key: &str,
        lab: &Lab,
    ) -> Result<Answer, Failure> {
        let limit = lab.deadline();
        let reading = self.answer(&mut stream, key);
        let answered = tokio::time::timeout(limit, reading).await.map_err(|_| {
            Failure::observed(format!(
                "waited {limit:.0?} for an answer to the handshake for {}, in vain",
                self.path
            ))
        })??;
        match answered {
            Answered::Refused(refused) => Ok(Answer::Refused(refused)),
            Answered::Upgraded(rest) => Ok(Answer::Upgraded(Socket::over(
                stream,
                rest,
                self.answers_pings,
                self.answers_close,
                lab.clone(),
            ))),
        }
    }

    async fn connected(&self) -> Result<TcpStream, Failure> {
        self.open()
            .await
            .map_err(|error| Failure::observed(format!("cannot connect to {}: {error}", self.addr)))
    }

    /// Connects and asks for the upgrade.
    ///
    /// # Errors
    /// As [`ask_over`](Self::ask_over), and when the server does not take connections.
    pub async fn ask(&self, lab: &Lab) -> Result<Answer, Failure> {
        self.ask_over(self.connected().await?, lab).await
    }

    /// Connects where nothing else than an upgrade will do.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when it is refused.
    pub async fn connect(&self, lab: &Lab) -> Result<Socket, Failure> {
        match self.ask(lab).await? {
            Answer::Upgraded(socket) => Ok(socket),
            Answer::Refused(refused) => Err(Failure::observed(format!(
                "a WebSocket was asked for at {}, and the answer was {}: {}",
                self.path, refused.status, refused.body
            ))),
        }
    }

    /// Connects where nothing else than a refusal will do.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when it is an upgrade.
    pub async fn refused(&self, lab: &Lab) -> Result<Refused, Failure> {
        match self.ask(lab).await? {
            Answer::Refused(refused) => Ok(refused),
            Answer::Upgraded(_) => Err(Failure::observed(format!(
                "a WebSocket was asked for at {}, and the answer was 101: the connection was upgraded",
                self.path
            ))),
        }
    }

    fn request(&self, key: &str) -> String {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            self.path, self.addr
        );
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request
    }

    async fn answer(&self, stream: &mut TcpStream, key: &str) -> Result<Answered, Failure> {
        let mut bytes = Vec::new();
        let ends = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let read = read_some(stream, &mut bytes).await.map_err(|error| {
                Failure::observed(format!("the answer to the handshake broke off: {error}"))
            })?;
            if read == 0 || bytes.len() > LONGEST_HEAD {
                return Err(Failure::observed(format!(
                    "the connection ended before the handshake for {} was answered",
                    self.path
                )));
            }
        };
        let rest = bytes.split_off(ends);
        let (status, headers) = head(&bytes)?;
        if status == 101 {
            agreed(&headers, key)?;
            return Ok(Answered::Upgraded(rest));
        }
        let body = body(stream, rest, find(&headers, "content-length")).await;
        Ok(Answered::Refused(Refused {
            status,
            headers,
            body,
        }))
    }
}

enum Answered {
    /// With the bytes that came right behind the answer.
    Upgraded(Vec<u8>),
    Refused(Refused),
}

async fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    stream.read_buf(bytes).await
}

/// Status and headers, the names in lower case.
fn head(bytes: &[u8]) -> Result<(u16, Vec<(String, String)>), Failure> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| {
            Failure::observed(format!(
                "the answer to a handshake is not HTTP/1.1: {first:?}"
            ))
        })?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok((status, headers))
}

/// Holds a 101 to RFC 6455, 4.1.
fn agreed(headers: &[(String, String)], key: &str) -> Result<(), Failure> {
    let has = |name: &str, word: &str| {
        find(headers, name).is_some_and(|value| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(word))
        })
    };
    let wrong = if !has("upgrade", "websocket") {
        "its header Upgrade is not `websocket`"
    } else if !has("connection", "upgrade") {
        "its header Connection is not `Upgrade`"
    } else if find(headers, "sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        "its Sec-WebSocket-Accept does not belong to the key that was sent"
    } else if find(headers, "sec-websocket-extensions").is_some() {
        "it names an extension, and none was offered"
    } else if find(headers, "sec-websocket-protocol").is_some() {
        "it names a subprotocol, and none was offered"
    } else {
        return Ok(());
    };
    Err(Failure::observed(format!(
        "the answer to the handshake is 101, and {wrong}"
    )))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}

/// As much of the body as comes; a refusal is told by its status, not by its body.
async fn body(stream: &mut TcpStream, mut bytes: Vec<u8>, length: Option<&str>) -> String {
    let length: Option<usize> = length.and_then(|length| length.parse().ok());
    let wanted = length.unwrap_or(LONGEST_HEAD);
    while bytes.len() < wanted {
        match read_some(stream, &mut bytes).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    bytes.truncate(wanted);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn judged(answer: &str) -> Result<(), String> {
        let (status, headers) = head(answer.as_bytes()).map_err(|f| f.to_string())?;
        assert_eq!(status, 101);
        agreed(&headers, KEY).map_err(|f| f.to_string())
    }

    #[test]
    fn the_answer_of_the_rfc_is_agreed_to() {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(judged(answer), Ok(()));
        for (part, wrong) in [
            ("WebSocket\r\nConnection", "Upgrade is not"),
            ("keep-alive, Upgrade", "Connection is not"),
            ("s3pP", "does not belong"),
        ] {
            let said = judged(&answer.replace(part, "x\r\nConnection")).expect_err("a wrong one");
            assert!(said.contains(wrong), "{said}");
        }
        let extended = answer.replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
        assert!(judged(&extended).is_err_and(|said| said.contains("extension")));
    }

    #[test]
    fn an_answer_that_is_not_http_is_none() {
        assert!(head(b"\x81\x02hi").is_err());
    }
}
