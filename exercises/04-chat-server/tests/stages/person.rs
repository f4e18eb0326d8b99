//! Somebody who chats: a client of `/ws` that speaks the frames.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use lab::clients::ws::{Handshake, Seen, Socket};
use lab::{Failure, Lab, Outcome};
use serde_json::{Value, json};

use crate::house::knock;

/// A client of `/ws`.
pub struct Person {
    pub name: String,
    pub socket: Socket,
    lab: Lab,
    tally: Mutex<Tally>,
}

/// How much of what was seen has been counted.
#[derive(Clone, Default)]
struct Tally {
    seen: usize,
    messages: usize,
    last: u64,
    ended: Option<Seen>,
}

impl Person {
    /// Connects under this name.
    pub async fn enter(lab: &Lab, addr: SocketAddr, name: &str) -> Result<Person, Failure> {
        Person::through(lab, &knock(addr, name), name).await
    }

    /// Connects with a handshake that the check made.
    pub async fn through(lab: &Lab, handshake: &Handshake, name: &str) -> Result<Person, Failure> {
        Ok(Person::on(handshake.connect(lab).await?, name, lab))
    }

    pub fn on(socket: Socket, name: &str, lab: &Lab) -> Person {
        Person {
            name: name.to_owned(),
            socket,
            lab: lab.clone(),
            tally: Mutex::default(),
        }
    }

    /// Connects under this name and joins a room.
    pub async fn in_room(
        lab: &Lab,
        addr: SocketAddr,
        name: &str,
        room: &str,
    ) -> Result<Person, Failure> {
        let person = Person::enter(lab, addr, name).await?;
        person.join(room).await?;
        Ok(person)
    }

    pub async fn ask(&self, frame: Value) -> Outcome {
        self.socket.send_json(&frame).await
    }

    pub async fn say(&self, room: &str, text: &str) -> Outcome {
        self.ask(json!({"type": "say", "room": room, "text": text}))
            .await
    }

    /// Joins and waits for the acknowledgement; frames before it are passed over.
    pub async fn join(&self, room: &str) -> Result<Value, Failure> {
        self.ask(json!({"type": "join", "room": room})).await?;
        self.acknowledged(room).await
    }

    /// Joins with the number of the last message seen, and waits for the acknowledgement.
    pub async fn join_since(&self, room: &str, since: u64) -> Result<Value, Failure> {
        self.ask(json!({"type": "join", "room": room, "since": since}))
            .await?;
        self.acknowledged(room).await
    }

    async fn acknowledged(&self, room: &str) -> Result<Value, Failure> {
        let what = format!("the frame that says that {} joined {room}", self.name);
        self.until(&what, |frame| {
            is(frame, "joined") && frame["room"] == room && frame["name"] == *self.name
        })
        .await
    }

    /// Leaves and waits for the acknowledgement; frames before it are passed over.
    pub async fn leave(&self, room: &str) -> Outcome {
        self.ask(json!({"type": "leave", "room": room})).await?;
        self.sees_leave(&self.name, room).await
    }

    /// Waits for the frame that says that somebody left; frames before it are passed over.
    pub async fn sees_leave(&self, name: &str, room: &str) -> Outcome {
        let what = format!("{} to be told that {name} left {room}", self.name);
        self.until(&what, |frame| {
            is(frame, "left") && frame["room"] == room && frame["name"] == name
        })
        .await?;
        Ok(())
    }

    /// Asks who is in a room; frames before the answer are passed over.
    pub async fn who(&self, room: &str) -> Result<Vec<String>, Failure> {
        self.ask(json!({"type": "who", "room": room})).await?;
        let what = format!("the answer to {}'s question who is in {room}", self.name);
        let answer = self
            .until(&what, |frame| {
                frame["room"] == room && is(frame, "members")
                    || is(frame, "error") && frame["code"] != "gap"
            })
            .await?;
        names(&answer)
    }

    /// The next frame, whatever it is.
    pub async fn next(&self, what: &str) -> Result<Value, Failure> {
        self.socket.next_json(what).await
    }

    /// The next frame, which has to be a message with this text.
    pub async fn hears(&self, room: &str, from: &str, text: &str) -> Result<Value, Failure> {
        let what = format!("{} to hear {text:?} of {from} in {room}", self.name);
        let frame = self.next(&what).await?;
        let right = is(&frame, "message")
            && frame["room"] == room
            && frame["from"] == from
            && frame["text"] == text;
        match right {
            true => Ok(frame),
            false => Err(Failure::observed(format!(
                "waited for {what}, and the next frame was {}",
                short(&frame)
            ))),
        }
    }

    /// The next frame, which has to be an error of this code.
    pub async fn errs(&self, code: &str, after: &str) -> Result<Value, Failure> {
        let frame = self
            .next(&format!("the error `{code}` after {after}"))
            .await?;
        let right = is(&frame, "error") && frame["code"] == code && frame["detail"].is_string();
        match right {
            true => Ok(frame),
            false => Err(Failure::observed(format!(
                "after {after} an error frame with the code `{code}` and a `detail` was expected; the next frame was {}",
                short(&frame)
            ))),
        }
    }

    /// The next frame for which `wanted` holds; those before it are passed over.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        let fits = |seen: &Seen| match seen {
            Seen::Text(text) => serde_json::from_str(text).is_ok_and(|frame| wanted(&frame)),
            _ => false,
        };
        let found = self.socket.next_where(what, fits).await;
        // An answer that is no answer to what was asked says more than that none came.
        let found = found.map_err(|failure| {
            let error = self.frames().into_iter().rfind(|f| is(f, "error"));
            match error {
                Some(error) => failure.also(format!(
                    "the last error that {} got is {}",
                    self.name,
                    short(&error)
                )),
                None => failure,
            }
        });
        match found? {
            Seen::Text(text) => Ok(serde_json::from_str(&text)?),
            _ => Ok(Value::Null),
        }
    }

    /// Every frame so far, in order.
    pub fn frames(&self) -> Vec<Value> {
        let log = self.socket.log();
        let texts = log.iter().filter_map(|record| match &record.seen {
            Seen::Text(text) => serde_json::from_str(text).ok(),
            _ => None,
        });
        texts.collect()
    }

    /// Every message so far, in order.
    pub fn messages(&self) -> Vec<Value> {
        let mut frames = self.frames();
        frames.retain(|frame| is(frame, "message"));
        frames
    }

    /// How often it was told that somebody left a room.
    pub fn leaves_of(&self, name: &str, room: &str) -> usize {
        self.frames()
            .iter()
            .filter(|f| is(f, "left") && f["name"] == name && f["room"] == room)
            .count()
    }

    /// Waits until at least so many messages have come.
    pub async fn has_heard(&self, count: usize) -> Outcome {
        let what = format!("{} to have heard {count} messages", self.name);
        self.lab
            .eventually(&what, || async {
                let Tally {
                    messages: heard,
                    ended,
                    ..
                } = self.tally();
                if heard >= count {
                    return Ok(Some(()));
                }
                match ended {
                    Some(seen) => Err(Failure::observed(format!(
                        "waited for {what}; it heard {heard}, and saw {seen}"
                    ))),
                    None => Ok(None),
                }
            })
            .await
            .map_err(|failure| {
                failure.also(format!("{} had heard {}", self.name, self.count_heard()))
            })
    }

    /// How many messages came so far.
    pub fn count_heard(&self) -> usize {
        self.tally().messages
    }

    /// The number of the last message so far.
    pub fn last_heard(&self) -> u64 {
        self.tally().last
    }

    /// Counts what came since the last time, and no frame twice.
    fn tally(&self) -> Tally {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        for record in self.socket.log_after(tally.seen) {
            tally.seen += 1;
            match record.seen {
                Seen::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    if is(&frame, "message") {
                        tally.messages += 1;
                        tally.last = seq(&frame);
                    }
                }
                Seen::Close(..) | Seen::End | Seen::Lost(_) | Seen::Violation(_) => {
                    tally.ended.get_or_insert(record.seen);
                }
                _ => {}
            }
        }
        tally.clone()
    }
}

/// Whether a frame is of this type.
pub fn is(frame: &Value, kind: &str) -> bool {
    frame["type"] == kind
}

/// The names in a `members` frame.
pub fn names(frame: &Value) -> Result<Vec<String>, Failure> {
    let members = frame["members"].as_array().ok_or_else(|| {
        Failure::observed(format!(
            "a `members` frame was expected, and this came: {}",
            short(frame)
        ))
    })?;
    let names = members.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect::<Option<_>>().ok_or_else(|| {
        Failure::observed(format!("the members are not all names: {}", short(frame)))
    })
}

/// The number of a message or of an acknowledgement.
pub fn seq(frame: &Value) -> u64 {
    frame["seq"].as_u64().unwrap_or(0)
}

/// A frame as a message shows it.
pub fn short(frame: &Value) -> String {
    const SHOWN: usize = 300;
    let text = frame.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
