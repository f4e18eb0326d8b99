// Stub 36dce428c0c97399: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Connections: how one begins, what it is asked and answers, how it ends.

use std::sync::Arc;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::SplitStream;
use serde_json::Value;

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
    todo!("stage 1: upgrade.on_upgrade(…), and a loop that reads and sends back")
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
    todo!("stage 1: upgrade.on_upgrade(…), and a loop that reads, parses and answers")
}

/// Reads a text message.
///
/// # Errors
/// `bad_json` if it is not a JSON object with a text `type`, or lacks a field of that type, or has one
/// of another kind; `unknown_type` if there is no such type ([`CLIENT_FRAMES`]).
pub fn parse(text: &str) -> Result<ClientFrame, ErrorFrame> {
    todo!("stage 1: first any JSON, then its type, then the frame")
}
