// solution only
//! What one node knows of its own clients: who is here, and who is in which room. Nothing in here
//! waits, so that a lock around it is held for moments only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;

use super::Client;
use crate::frames::{ErrorFrame, Message, ServerFrame};
use crate::history::{History, Kept, Replay};
use crate::outbox::Outbox;

/// Rooms without members whose messages are kept for those who come back.
const EMPTY_ROOMS: usize = 1_000;

/// All rooms in which somebody is, or something was said.
#[derive(Debug)]
pub struct Rooms {
    /// Everybody who is here by name, with the rooms they are in.
    pub present: HashMap<Arc<str>, HashSet<String>>,
    /// The outbox of each of them that is a session by now.
    pub outboxes: HashMap<Arc<str>, Outbox>,
    rooms: HashMap<String, Room>,
    /// Rooms that were left by everybody, the first one longest ago.
    emptied: VecDeque<String>,
    /// The number of the last replay.
    replays: u64,
}

#[derive(Debug)]
struct Room {
    members: HashMap<Arc<str>, Member>,
    /// The number of the last message.
    last: u64,
    history: History,
}

#[derive(Debug)]
struct Member {
    client: Client,
    standing: Standing,
    /// The client asked to leave, and waits for it to be done.
    leaving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The client asked to join, and waits for it to be done; then it wants what was said `since`.
    Joining { since: Option<u64> },
    /// It is sent older messages by the replay of this number, so it does not get new ones yet.
    Behind { replay: u64 },
    /// It is sent each message when it is said.
    Live,
}

impl Rooms {
    pub fn new() -> Self {
        Rooms {
            present: HashMap::new(),
            outboxes: HashMap::new(),
            rooms: HashMap::new(),
            emptied: VecDeque::new(),
            replays: 0,
        }
    }

    /// Whether the client is a member of the room, from when it was let in until it asks to leave.
    pub fn is_member(&self, name: &str, room: &str) -> bool {
        self.member(name, room)
            .is_some_and(|member| !member.leaving && !member.is_joining())
    }

    /// Whether a join or a leave of this client is not done yet.
    pub fn is_waiting(&self, name: &str, room: &str) -> bool {
        self.member(name, room)
            .is_some_and(|member| member.leaving || member.is_joining())
    }

    /// The rooms that a client is in, or on its way into or out of.
    pub fn rooms_of(&self, name: &str) -> impl Iterator<Item = &String> {
        self.present.get(name).into_iter().flatten()
    }

    /// The members of a room, sorted.
    pub fn names(&self, room: &str) -> Vec<String> {
        let room = self.rooms.get(room);
        let members = room.into_iter().flat_map(|room| room.members.keys());
        let mut names: Vec<String> = members.map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// The number of the last message.
    pub fn last(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |room| room.last)
    }

    /// Every room with members here.
    pub fn occupied(&self) -> Vec<String> {
        let occupied = self
            .rooms
            .iter()
            .filter(|(_, room)| !room.members.is_empty());
        occupied.map(|(name, _)| name.clone()).collect()
    }

    /// A client is about to join: [`joined`](Self::joined) lets it in. A room that there was not keeps
    /// so many messages.
    pub fn expect(&mut self, client: &Client, room: &str, since: Option<u64>, history: usize) {
        let entry = self.rooms.entry(room.to_owned());
        let entered = entry.or_insert_with(|| Room {
            members: HashMap::new(),
            last: 0,
            history: History::new(history),
        });
        let member = Member {
            client: client.clone(),
            standing: Standing::Joining { since },
            leaving: false,
        };
        entered.members.insert(Arc::clone(&client.name), member);
        if let Some(rooms) = self.present.get_mut(&client.name) {
            rooms.insert(room.to_owned());
        }
    }

    /// A member asked to leave, or takes that back: [`left`](Self::left) lets it go.
    pub fn set_leaving(&mut self, name: &str, room: &str, leaving: bool) {
        let room = self.rooms.get_mut(room);
        if let Some(member) = room.and_then(|room| room.members.get_mut(name)) {
            member.leaving = leaving;
        }
    }

    /// Takes a client out of a room without telling anybody.
    pub fn forget(&mut self, name: &str, room: &str) {
        if let Some(rooms) = self.present.get_mut(name) {
            rooms.remove(room);
        }
        let Some(left) = self.rooms.get_mut(room) else {
            return;
        };
        left.members.remove(name);
        if !left.members.is_empty() {
            return;
        }
        if left.history.is_empty() {
            self.rooms.remove(room);
            return;
        }
        // A room that was empty before has one place in here, the last one.
        self.emptied.retain(|other| other != room);
        self.emptied.push_back(room.to_owned());
        if self.emptied.len() > EMPTY_ROOMS
            && let Some(oldest) = self.emptied.pop_front()
            && self
                .rooms
                .get(&oldest)
                .is_some_and(|room| room.members.is_empty())
        {
            self.rooms.remove(&oldest);
        }
    }

    /// `name` is in the room now, whose last message has the number `seq`. If it is a client of ours
    /// that waits for this, it is let in; what it has to be sent first is returned.
    pub fn joined(&mut self, room: &str, name: &str, seq: u64) -> Option<Replay> {
        let entered = self.rooms.get_mut(room)?;
        entered.last = seq;
        let frame = ServerFrame::Joined { room, name, seq }.encode();
        entered.tell_others(&frame, name);
        let Some(Standing::Joining { since }) = entered.members.get(name).map(|m| m.standing)
        else {
            return None;
        };
        self.begin(room, name, since)
    }

    /// A member joined again: only it is told, and it may want what was said `since` once more.
    pub fn joined_again(&mut self, room: &str, name: &str, since: Option<u64>) -> Option<Replay> {
        if since.is_some() {
            return self.begin(room, name, since);
        }
        let (seq, member) = (self.last(room), self.member(name, room)?);
        let frame = ServerFrame::Joined { room, name, seq }.encode();
        member.client.outbox.push(frame);
        None
    }

    /// Tells a client that it is a member, and makes it one from here on.
    fn begin(&mut self, room: &str, name: &str, since: Option<u64>) -> Option<Replay> {
        let entered = self.rooms.get_mut(room)?;
        let seq = entered.last;
        let member = entered.members.get_mut(name)?;
        let outbox = &member.client.outbox;
        outbox.push(ServerFrame::Joined { room, name, seq }.encode());
        member.standing = Standing::Live;
        let since = since?;
        if since == seq {
            return None;
        }
        if seq == 0 {
            // There is nothing to send again, but the client knows of messages that are gone.
            outbox.push(ServerFrame::Error(&ErrorFrame::gap(room, 1)).encode());
            return None;
        }
        self.replays += 1;
        Some(member.fall_behind(self.replays, room, since, seq))
    }

    /// `name` is not in the room any more. Everybody is told; also `name` itself, if it is a client of
    /// ours that asked for this.
    pub fn left(&mut self, room: &str, name: &str) {
        let Some(abandoned) = self.rooms.get_mut(room) else {
            return;
        };
        let frame = ServerFrame::Left { room, name }.encode();
        abandoned.tell_others(&frame, name);
        self.let_go(room, name, frame);
    }

    /// Lets a client go that asked for it, and has not been yet. Only it is told.
    pub fn let_go(&mut self, room: &str, name: &str, frame: Utf8Bytes) {
        if let Some(member) = self.member(name, room).filter(|member| member.leaving) {
            member.client.outbox.push(frame);
            self.forget(name, room);
        }
    }

    /// Something was said.
    pub fn said(&mut self, message: &Message) {
        let Some(room) = self.rooms.get_mut(&message.room) else {
            return;
        };
        room.last = message.seq;
        let frame = ServerFrame::Message(message).encode();
        for (name, member) in &room.members {
            if **name != *message.from && member.standing == Standing::Live {
                member.client.outbox.push(frame.clone());
            }
        }
        let seq = message.seq;
        room.history.keep(Kept { seq, frame });
    }

    /// The last number in the room turned out to be `seq`, and this node was not told of what is in
    /// between: its members there get it from the history.
    pub fn catch_up(&mut self, room: &str, seq: u64) -> Vec<Replay> {
        let Some(behind) = self.rooms.get_mut(room).filter(|room| room.last != seq) else {
            return Vec::new();
        };
        let seen = std::mem::replace(&mut behind.last, seq);
        let mut replays = Vec::new();
        for member in behind.members.values_mut() {
            if member.standing == Standing::Live {
                self.replays += 1;
                replays.push(member.fall_behind(self.replays, room, seen, seq));
            }
        }
        replays
    }

    /// The last message that this replay has to reach. Once it has, the client is made a member like
    /// the others, and there is no more.
    pub fn behind(&mut self, replay: &Replay) -> Option<u64> {
        let room = self.rooms.get_mut(&replay.room)?;
        let member = room.members.get_mut(&replay.client.name)?;
        if member.standing != (Standing::Behind { replay: replay.id }) {
            return None;
        }
        if replay.seen >= room.last {
            member.standing = Standing::Live;
            return None;
        }
        Some(room.last)
    }

    /// Sends a client a frame of its replay, unless that is over.
    pub fn hand_over(&self, replay: &Replay, frame: Utf8Bytes) -> bool {
        let standing = Standing::Behind { replay: replay.id };
        let member = self.member(&replay.client.name, &replay.room);
        let Some(member) = member.filter(|member| member.standing == standing) else {
            return false;
        };
        member.client.outbox.push(frame);
        true
    }

    /// Messages of a room that are kept here.
    pub fn kept(&self, room: &str, after: u64, most: usize) -> Vec<Kept> {
        let room = self.rooms.get(room);
        room.map_or_else(Vec::new, |room| room.history.after(after, most))
    }

    fn member(&self, name: &str, room: &str) -> Option<&Member> {
        self.rooms.get(room)?.members.get(name)
    }
}

impl Room {
    /// Tells all members but one, those on their way out included.
    fn tell_others(&self, frame: &Utf8Bytes, name: &str) {
        for (other, member) in &self.members {
            if **other != *name && !member.is_joining() {
                member.client.outbox.push(frame.clone());
            }
        }
    }
}

impl Member {
    fn is_joining(&self) -> bool {
        matches!(self.standing, Standing::Joining { .. })
    }

    /// The member has everything up to `since` and nothing after it, up to `last` at least.
    fn fall_behind(&mut self, id: u64, room: &str, since: u64, last: u64) -> Replay {
        self.standing = Standing::Behind { replay: id };
        // Who knows of messages that are still to come knew another history.
        let anew = since > last;
        Replay {
            client: self.client.clone(),
            room: room.to_owned(),
            id,
            seen: if anew { 0 } else { since },
            anew,
        }
    }
}
// end solution only
