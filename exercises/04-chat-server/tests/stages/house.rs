//! What the checks talk to: a node in this process, or the service as a process of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use chat_server::{CancellationToken, Error, Options, Summary, serve};
use lab::clients::ws::{Answer, Handshake, Refused};
use lab::{Failure, FairClock, Lab, Outcome, Service};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::person::Person;

/// What a message says of a connection that was ended.
pub const END: &str = "saw the end of the connection";

pub const HOUR: Duration = Duration::from_secs(3_600);

/// Options that let a check be about one thing: no limits that a busy machine could run into.
pub fn roomy() -> Options {
    Options {
        heartbeat: HOUR,
        rate: 0,
        queue: 100_000,
        history: 100_000,
        ..Options::default()
    }
}

/// A node in this process. Dropping it drops `serve`, as if the process had ended.
pub struct House {
    pub addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<Summary, Error>>,
}

impl House {
    pub async fn open(options: Options) -> Result<House, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, options, stop.clone()));
        Ok(House { addr, stop, task })
    }

    /// Asks it to stop, as SIGTERM does for the service.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until `serve` has returned. Its panic is this check's panic.
    pub async fn ended(&mut self, lab: &Lab, what: &str) -> Result<Summary, Failure> {
        lab.eventually(what, || async { Ok(self.task.is_finished().then_some(())) })
            .await?;
        match (&mut self.task).await {
            Ok(Ok(summary)) => Ok(summary),
            Ok(Err(error)) => Err(Failure::observed(format!(
                "`serve` returned an error: {error}"
            ))),
            Err(gone) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
            Err(_) => panic!("the lab aborted the node itself"),
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The service as a process.
pub struct Node {
    pub addr: SocketAddr,
    pub service: Service,
}

impl Node {
    /// Starts it on a free port with these further arguments, and waits until it listens.
    pub async fn start(lab: &Lab, arguments: &[&str]) -> Result<Node, Failure> {
        Node::started(lab.service(command_line(arguments)).start()?).await
    }

    /// The same on this address.
    pub async fn start_at(
        lab: &Lab,
        addr: SocketAddr,
        arguments: &[&str],
    ) -> Result<Node, Failure> {
        let addr = addr.to_string();
        let arguments = [&["--listen", addr.as_str()], arguments].concat();
        Node::started(lab.service(arguments).start()?).await
    }

    /// The same, with every log line there is.
    pub async fn start_talkative(lab: &Lab, arguments: &[&str]) -> Result<Node, Failure> {
        let service = lab
            .service(command_line(arguments))
            .env("CHAT_SERVER_LOG", "trace")
            .env("RUST_LOG", "trace")
            .start()?;
        Node::started(service).await
    }

    async fn started(service: Service) -> Result<Node, Failure> {
        let first = service.next_json().await?;
        let addr = first["listening"]
            .as_str()
            .and_then(|addr| addr.parse().ok())
            .ok_or_else(|| {
                Failure::observed(format!(
                    "the service's first line should be {{\"listening\":\"ADDRESS:PORT\"}}; it is {first}"
                ))
            })?;
        Ok(Node { addr, service })
    }

    /// The memory it has in use, in KiB.
    pub fn resident(&self) -> Result<u64, Failure> {
        let ps = std::process::Command::new("ps")
            .args(["-o", "rss=", "-p", &self.service.pid().to_string()])
            .output();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.pid()));
        let of_proc = status.ok().and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        });
        let of_ps = || {
            let printed = String::from_utf8(ps.ok()?.stdout).ok()?;
            printed.trim().parse().ok()
        };
        of_proc.or_else(of_ps).ok_or_else(|| {
            Failure::infrastructure("this system does not say how much memory a process uses")
        })
    }
}

fn command_line<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--listen", "127.0.0.1:0"], arguments].concat()
}

/// The handshake for `/ws` under this name.
pub fn knock(addr: SocketAddr, name: &str) -> Handshake {
    Handshake::new(addr, format!("/ws?name={}", encoded(name)))
}

/// The same with a token.
pub fn knock_with(addr: SocketAddr, name: &str, token: &str) -> Handshake {
    Handshake::new(
        addr,
        format!("/ws?name={}&token={}", encoded(name), encoded(token)),
    )
}

/// Fails unless the handshake is refused with this status and this code in the body.
pub async fn refused(
    lab: &Lab,
    handshake: &Handshake,
    what: &str,
    status: u16,
    code: &str,
) -> Result<Refused, Failure> {
    match handshake.ask(lab).await? {
        Answer::Upgraded(_) => Err(Failure::observed(format!(
            "{what}: the connection was upgraded; it should be refused with {status} and the code `{code}`"
        ))),
        Answer::Refused(refused) => {
            let right = refused.status == status && refused.field("code").as_deref() == Some(code);
            lab::ensure!(
                right,
                "{what}: the answer was {} {:?}; it should be {status}, with a JSON body whose `code` is `{code}`",
                refused.status,
                refused.body
            );
            lab::ensure!(
                refused.field("detail").is_some(),
                "{what}: the body of the refusal has no `detail`: {:?}",
                refused.body
            );
            Ok(refused)
        }
    }
}

/// Waits until this name can be had, and has it.
pub async fn enter_when_free(lab: &Lab, addr: SocketAddr, name: &str) -> Result<Person, Failure> {
    let handshake = knock(addr, name);
    let socket = lab
        .eventually(&format!("the name `{name}` to be free again"), || async {
            match handshake.ask(lab).await? {
                Answer::Upgraded(socket) => Ok(Some(socket)),
                Answer::Refused(refused) if refused.status == 409 => Ok(None),
                Answer::Refused(refused) => Err(Failure::observed(format!(
                    "waited for the name `{name}` to be free, and was refused with {} {}",
                    refused.status, refused.body
                ))),
            }
        })
        .await?;
    Ok(Person::on(socket, name, lab))
}

/// A query's value.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(byte as char);
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// A plain GET: status, headers in lower case, and body.
pub async fn get(
    lab: &Lab,
    addr: SocketAddr,
    path: &str,
) -> Result<(u16, String, String), Failure> {
    let asking = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(lab.deadline(), asking)
        .await
        .map_err(|_| Failure::observed(format!("GET {path} was not answered")))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| Failure::observed(format!("GET {path} was answered with {head:?}")))?;
    Ok((status, head.to_ascii_lowercase(), body.to_owned()))
}

/// Runs a check whose promise has a time in it with longer and longer intervals, in ms, until this
/// machine was never held up for long enough to spoil the answer.
pub async fn on_a_fair_clock<F, Fut>(lab: &Lab, intervals: [u64; 3], check: F) -> Outcome
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = Outcome>,
{
    FairClock::stalls_beyond(4)
        .doubting(END, "a client that answers was given up")
        .run(lab, intervals, check)
        .await
}

/// Names as a message shows them.
pub fn listed(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "nobody".to_owned(),
        _ => names
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Whether a time is RFC 3339 in UTC: `2025-11-24T20:15:00.123Z`.
pub fn is_utc_time(value: &Value) -> bool {
    let Some(text) = value.as_str() else {
        return false;
    };
    let Some(time) = text.strip_suffix('Z').or(text.strip_suffix("+00:00")) else {
        return false;
    };
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let (whole, fraction) = shape.split_once('.').unwrap_or((&shape, "0"));
    whole == "0000-00-00T00:00:00" && !fraction.is_empty() && fraction.bytes().all(|b| b == b'0')
}
