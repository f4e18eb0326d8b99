//! Connections: how one begins, what it is asked and answers, how it ends.

use std::sync::Arc;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::SplitStream;
use serde_json::Value;
// solution only
use tokio_util::task::task_tracker::TaskTrackerToken;
// end solution only

use crate::frames::{CLIENT_FRAMES, ClientFrame, ErrorCode, ErrorFrame, ServerFrame};
use crate::guard::{LONGEST_ROOM, RateLimit, admit, is_name};
use crate::heartbeat::Pulse;
use crate::hub::{Client, Hub};
use crate::outbox::{GRACE, outbox, write};
use crate::refusal::Refusal;
use crate::server::{Knock, Server};
use crate::socket::{Goodbye, with_small_buffers};

/// Answers `GET /echo`: a WebSocket that sends every message back.
///
/// It grows with the stages:
///
/// **1, echo.** Every text and every binary message comes back, unchanged and of the same kind,
/// however it was fragmented. A ping is answered with a pong, a close with a close of the same code,
/// and neither of them, nor a pong, comes back as a message or ends anything by itself. The library
/// writes pongs and the answer to a close, but only while somebody reads or writes: so after a close
/// read on, until there is nothing more.
///
/// **4, refuse.** A message of more than `options.max_message` bytes, all fragments together, ends the
/// connection with close code 1009; text that is not UTF-8 with 1007; what is no WebSocket with 1002
/// ([`Goodbye::for_error`]). After that Close the socket may be dropped: the answer is not waited for.
///
/// **9, stop.** When `server.stop` is cancelled it is closed with 1001. It runs in
/// [`Sessions::run`](crate::stop::Sessions::run), with a
/// [token](crate::stop::Sessions::token) from before the upgrade.
pub async fn echo(server: Arc<Server>, upgrade: WebSocketUpgrade) -> Response {
    // stub stage 1: upgrade.on_upgrade(…), and a loop that reads and sends back
    let running = server.sessions.token();
    limited(upgrade, &server).on_upgrade(async move |mut socket| {
        let _running = running;
        let echo = async {
            if let Some(goodbye) = send_back(&server, &mut socket).await {
                let _ = tokio::time::timeout(GRACE, socket.send(goodbye.into())).await;
            }
        };
        server.sessions.run(echo).await;
    })
    // end stub
}

/// Answers `GET /ws`: the chat.
///
/// It grows with the stages:
///
/// **1, handshake.** The connection becomes a WebSocket. A text message that is not a
/// [`ClientFrame`] is answered by an error frame ([`parse`]), and the session lives on. Pings, pongs
/// and the end are as in [`echo`].
///
/// **2, broadcast.** Before the connection becomes a WebSocket, its name is
/// [claimed](crate::hub::Hub::claim); if that fails, the refusal is the answer. From then on what the
/// client sends is done by the hub (an error of which is answered by an error frame), and what the
/// hub puts into its [`Outbox`](crate::outbox::Outbox) is sent to it. However the connection ends,
/// the client is [gone](crate::hub::Hub::disconnect) from all its rooms when it has ended, and its
/// name is free: after a close even before that is answered, so that a client can come back at once.
/// The answer to its close may take [`GRACE`](crate::outbox::GRACE). A client may also go before it is
/// a session: then the closure of `on_upgrade` is dropped, and its name has to be free all the same.
///
/// **3, rooms.** `leave` and `who`.
///
/// **4, refuse.** [`admit`](crate::guard::admit) is asked before the claim. Sizes, UTF-8 and the
/// protocol are as in [`echo`]; that Close comes behind what waits for the client. The name of a room that [is not one](crate::guard::is_name) is answered
/// by the error `bad_room`, a text without anything but white space by `bad_text`, a binary message
/// by `binary`, a message beyond the [rate](crate::guard::RateLimit) by `rate_limited`, whatever it is;
/// it is dropped.
///
/// **5, heartbeat.** A client is pinged every `options.heartbeat`. When nothing was heard of it for
/// twice as long ([`Pulse`](crate::heartbeat::Pulse)), it is gone: its connection is dropped without
/// a Close frame, and it leaves its rooms. Messages, pings and pongs are all signs of life.
///
/// **6, slow consumers.** What is sent to a client is sent by a [writer](crate::outbox::write) of its
/// own. When its outbox is closed, it leaves its rooms at once, and the rest is the writer's.
///
/// **8, several nodes.** The claim waits for Redis now. If the client hangs up meanwhile, this future
/// is dropped where it waits, although Redis may have given the name already: so let a task of its
/// own claim it, and give it back if nobody is there any more. A session
/// [enters](crate::hub::Hub::enter) the hub when it begins.
///
/// **9, stop.** When `server.stop` is cancelled the client is told 1001, after what waits for it, and
/// leaves its rooms at once, whether it reads that or not. Who knocks then gets [`Refusal::STOPPING`](crate::refusal::Refusal::STOPPING), if `admit` lets him in.
/// A session runs in [`Sessions::run`](crate::stop::Sessions::run), with a
/// [token](crate::stop::Sessions::token) that was taken before `server.stop` was looked at and is kept
/// until `run` has returned, and is counted in `clients`. Each `say` that was accepted is counted in `messages`.
pub async fn connect(server: Arc<Server>, knock: Knock, upgrade: WebSocketUpgrade) -> Response {
    // stub stage 1: upgrade.on_upgrade(…), and a loop that reads, parses and answers
    let running = server.sessions.token();
    let name = match admit(&server.options, &knock) {
        Ok(_) if server.stop.is_cancelled() => return Refusal::STOPPING.into_response(),
        Ok(name) => name,
        Err(refusal) => return refusal.into_response(),
    };
    // In a task of its own: if the client hangs up meanwhile, this future is dropped where it waits,
    // and a name that is half claimed would never be free again.
    let claim = Claim::of(Arc::clone(&server.hub), name, running);
    let claim = match tokio::spawn(claim).await {
        Ok(Ok(claim)) => claim,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(_) => return Refusal::UNAVAILABLE.into_response(),
    };
    limited(upgrade, &server).on_upgrade(async move |socket| {
        // Until it is counted, and not only until its name is given back.
        let _running = claim.running.clone();
        server.sessions.run(chat(&server, claim, socket)).await;
    })
    // end stub
}

/// Reads a text message.
///
/// # Errors
/// `bad_json` if it is not a JSON object with a text `type`, or lacks a field of that type, or has one
/// of another kind; `unknown_type` if there is no such type ([`CLIENT_FRAMES`]).
pub fn parse(text: &str) -> Result<ClientFrame, ErrorFrame> {
    // stub stage 1: first any JSON, then its type, then the frame
    let bad_json =
        |error: serde_json::Error| ErrorFrame::new(ErrorCode::BadJson, error.to_string());
    let value: Value = serde_json::from_str(text).map_err(bad_json)?;
    let Some(kind) = value.get("type").and_then(Value::as_str) else {
        let detail = "send an object with a \"type\" that is a string";
        return Err(ErrorFrame::new(ErrorCode::BadJson, detail));
    };
    if !CLIENT_FRAMES.contains(&kind) {
        let detail = format!("the types are {}", CLIENT_FRAMES.join(", "));
        return Err(ErrorFrame::new(ErrorCode::UnknownType, detail));
    }
    serde_json::from_value(value).map_err(bad_json)
    // end stub
}

// solution only
/// Small buffers, and no message that is larger than the options allow.
fn limited(upgrade: WebSocketUpgrade, server: &Server) -> WebSocketUpgrade {
    let max = server.options.max_message;
    with_small_buffers(upgrade, max)
        .max_message_size(max)
        .max_frame_size(max)
}

/// Echoes until the end, and returns how to close the connection, if there is anything left to close.
async fn send_back(server: &Server, socket: &mut WebSocket) -> Option<Goodbye> {
    let stopping = server.stop.cancelled();
    let echo = async {
        while let Some(message) = socket.recv().await {
            match message {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).await.ok()?;
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
                Err(error) => return Goodbye::for_error(error),
            }
        }
        None
    };
    tokio::select! {
        goodbye = echo => goodbye,
        () = stopping => Some(Goodbye::STOPPING),
    }
}

/// A name that was claimed, and is free again when this is dropped.
struct Claim {
    hub: Arc<Hub>,
    /// `None` once it was given back.
    name: Option<String>,
    /// For a stop to wait until it is.
    running: TaskTrackerToken,
}

impl Claim {
    async fn of(hub: Arc<Hub>, name: String, running: TaskTrackerToken) -> Result<Self, Refusal> {
        hub.claim(&name).await?;
        let name = Some(name);
        Ok(Claim { hub, name, running })
    }

    /// Takes the client out of its rooms and gives its name back.
    async fn give_back(&mut self) {
        if let Some(name) = &self.name {
            self.hub.disconnect(name).await;
        }
        self.name = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let (hub, running) = (Arc::clone(&self.hub), self.running.clone());
            tokio::spawn(async move {
                hub.disconnect(&name).await;
                drop(running);
            });
        }
    }
}

/// Why a session ends.
enum End {
    /// We close it.
    Goodbye(Goodbye),
    /// The client closed it.
    Closed,
    /// The connection is lost, or the client too.
    Gone,
    /// The outbox was closed, and the writer knows why.
    Outbox,
}

/// One session: reading and writing side by side, until both have ended.
async fn chat(server: &Server, mut claim: Claim, socket: WebSocket) {
    let Some(name) = claim.name.as_deref() else {
        return;
    };
    count(&server.sessions.clients);
    let (sink, mut messages) = socket.split();
    let (outbox, queue) = outbox(server.options.queue);
    let client = Client {
        name: name.into(),
        outbox,
    };
    server.hub.enter(&client);
    let read = async {
        let end = listen(server, &client, &mut messages).await;
        match end {
            End::Goodbye(goodbye) => client.outbox.close(Some(goodbye)),
            End::Closed | End::Gone => client.outbox.close(None),
            End::Outbox => {}
        }
        claim.give_back().await;
        if matches!(end, End::Closed) {
            // This is what sends the answer to the client's Close.
            let answered = async { while let Some(Ok(_)) = messages.next().await {} };
            let _ = tokio::time::timeout(GRACE, answered).await;
        }
    };
    tokio::join!(write(sink, queue, server.options.heartbeat), read);
}

/// Does what the client asks for, until the session has to end.
async fn listen(server: &Server, client: &Client, messages: &mut SplitStream<WebSocket>) -> End {
    let mut rate = RateLimit::new(server.options.rate);
    let mut pulse = Pulse::new(server.options.heartbeat);
    let ended = async {
        tokio::select! {
            biased;
            () = client.outbox.closed() => End::Outbox,
            () = server.stop.cancelled() => End::Goodbye(Goodbye::STOPPING),
        }
    };
    let listening = async {
        loop {
            let message = tokio::select! {
                biased;
                message = messages.next() => message,
                () = pulse.silence() => return End::Gone,
            };
            pulse.heard();
            let answer = match message {
                None => return End::Gone,
                Some(Err(error)) => {
                    return Goodbye::for_error(error).map_or(End::Gone, End::Goodbye);
                }
                Some(Ok(Message::Close(_))) => return End::Closed,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(_)) if !rate.allows() => Err(ErrorFrame::new(
                    ErrorCode::RateLimited,
                    "too many messages; this one was dropped",
                )),
                Some(Ok(Message::Binary(_))) => Err(ErrorFrame::new(
                    ErrorCode::Binary,
                    "send text messages, one JSON object each",
                )),
                Some(Ok(Message::Text(text))) => match parse(&text) {
                    Ok(frame) => obey(server, client, frame).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = answer {
                client.outbox.push(ServerFrame::Error(&error).encode());
            }
        }
    };
    tokio::select! {
        biased;
        end = ended => end,
        end = listening => end,
    }
}

async fn obey(server: &Server, client: &Client, frame: ClientFrame) -> Result<(), ErrorFrame> {
    let hub = &server.hub;
    match frame {
        ClientFrame::Join { room, since } => {
            if !is_name(&room, LONGEST_ROOM) {
                return Err(bad_room());
            }
            hub.join(client, &room, since).await
        }
        ClientFrame::Leave { room } => {
            if !is_name(&room, LONGEST_ROOM) {
                return Err(bad_room());
            }
            hub.leave(client, &room).await
        }
        ClientFrame::Say { room, text } => {
            if !is_name(&room, LONGEST_ROOM) {
                return Err(bad_room());
            }
            if text.trim().is_empty() {
                return Err(ErrorFrame::new(
                    ErrorCode::BadText,
                    "there is nothing in it",
                ));
            }
            hub.say(client, &room, text).await?;
            count(&server.sessions.messages);
            Ok(())
        }
        ClientFrame::Who { room } => {
            if !is_name(&room, LONGEST_ROOM) {
                return Err(bad_room());
            }
            let names = hub.who(client, &room).await?;
            let names = &names;
            let members = ServerFrame::Members { room: &room, names };
            client.outbox.push(members.encode());
            Ok(())
        }
    }
}

fn bad_room() -> ErrorFrame {
    let detail = "a room is 1 to 64 letters, digits, '-', '_' or '.'";
    ErrorFrame::new(ErrorCode::BadRoom, detail)
}

fn count(counter: &std::sync::atomic::AtomicU64) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}
// end solution only
