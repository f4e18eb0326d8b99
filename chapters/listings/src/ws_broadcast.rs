//! A room with names, and members that leave however their connection ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::SinkExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;

use crate::sockets::{connect, heard, serve};

// ANCHOR: hub
#[derive(Default)]
struct Hub {
    members: Mutex<HashMap<String, mpsc::Sender<Utf8Bytes>>>,
}

impl Hub {
    fn members(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Utf8Bytes>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everyone but `from` gets `text`. Nothing in here waits.
    fn say(&self, from: &str, text: &str) {
        let text = Utf8Bytes::from(text);
        for (name, queue) in self.members().iter() {
            if name != from {
                // A full queue is the matter of a later section.
                let _ = queue.try_send(text.clone());
            }
        }
    }

    /// Takes the name and says so, or answers `None` because it is taken.
    fn enter(
        self: &Arc<Self>,
        name: &str,
        queue: mpsc::Sender<Utf8Bytes>,
    ) -> Option<Seat> {
        match self.members().entry(name.to_owned()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(queue),
        };
        self.say(name, &format!("{name} joined"));
        Some(Seat { hub: Arc::clone(self), name: name.to_owned() })
    }
}
// ANCHOR_END: hub

// ANCHOR: seat
/// Who holds it is a member. Dropping it is leaving.
struct Seat {
    hub: Arc<Hub>,
    name: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.members().remove(&self.name);
        self.hub.say(&self.name, &format!("{} left", self.name));
    }
}
// ANCHOR_END: seat

// ANCHOR: session
async fn enter(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    request: WebSocketUpgrade,
) -> Response {
    let (queue, messages) = mpsc::channel(16);
    match hub.enter(&name, queue) {
        Some(seat) => request.on_upgrade(|socket| session(socket, seat, messages)),
        None => StatusCode::CONFLICT.into_response(),
    }
}

async fn session(
    mut socket: WebSocket,
    seat: Seat,
    mut messages: mpsc::Receiver<Utf8Bytes>,
) {
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => seat.hub.say(&seat.name, &text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            Some(text) = messages.recv() => {
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}
// ANCHOR_END: session

pub async fn run() -> anyhow::Result<()> {
    let hub = Arc::new(Hub::default());
    let app = Router::new().route("/{name}", any(enter)).with_state(hub);
    let address = serve(app).await?;

    // ANCHOR: run
    let mut ada = connect(address, "/ada").await?;
    let mut bob = connect(address, "/bob").await?;
    println!("ada: {}", heard(&mut ada).await);
    if let Err(error) = connect(address, "/bob").await {
        println!("a second bob: {error}");
    }
    bob.send(tungstenite::Message::text("hello")).await?;
    println!("ada: {}", heard(&mut ada).await);
    // Bob's connection is gone. He never said goodbye.
    drop(bob);
    println!("ada: {}", heard(&mut ada).await);
    let mut bob = connect(address, "/bob").await?;
    println!("ada: {}", heard(&mut ada).await);
    // Ada's own message comes back to nobody: the next thing she hears is Bob's.
    ada.send(tungstenite::Message::text("welcome back")).await?;
    println!("bob: {}", heard(&mut bob).await);
    bob.send(tungstenite::Message::text("thanks")).await?;
    println!("ada: {}", heard(&mut ada).await);
    // ANCHOR_END: run
    Ok(())
}
