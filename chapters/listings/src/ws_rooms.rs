//! Order within a room, and one place for two maps. No sockets here: only the hub.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

// ANCHOR: maps
#[derive(Default)]
struct Rooms {
    members: BTreeMap<String, BTreeSet<String>>,
    rooms_of: BTreeMap<String, BTreeSet<String>>,
}

impl Rooms {
    /// Whether that changed anything: only then is there something to announce.
    fn join(&mut self, name: &str, room: &str) -> bool {
        self.rooms_of.entry(name.into()).or_default().insert(room.into());
        self.members.entry(room.into()).or_default().insert(name.into())
    }

    fn leave(&mut self, name: &str, room: &str) -> bool {
        let Some(members) = self.members.get_mut(room) else { return false };
        let was_in = members.remove(name);
        if members.is_empty() {
            self.members.remove(room);
        }
        if let Some(rooms) = self.rooms_of.get_mut(name) {
            rooms.remove(room);
        }
        was_in
    }

    /// The connection is over, whatever it was in.
    fn gone(&mut self, name: &str) -> BTreeSet<String> {
        let rooms = self.rooms_of.remove(name).unwrap_or_default();
        for room in &rooms {
            self.leave(name, room);
        }
        rooms
    }
}
// ANCHOR_END: maps

pub fn run() {
    // ANCHOR: rooms
    let mut rooms = Rooms::default();
    for (name, room) in [("ada", "rust"), ("bob", "rust"), ("ada", "tea")] {
        println!("{name} joins {room}: {}", rooms.join(name, room));
    }
    println!("again: {}", rooms.join("ada", "tea"));
    println!("ada is gone from {:?}", rooms.gone("ada"));
    println!("rooms now: {:?}", rooms.members);
    // ANCHOR_END: rooms

    // ANCHOR: apart
    let (queue, mut member) = mpsc::channel(8);
    let mut last = 0;
    let mut number = || {
        last += 1;
        last
    };
    // Two senders take their numbers one after the other …
    let (of_ada, of_bob) = (number(), number());
    // … and hand over their messages in the order in which they happen to get there.
    let _ = queue.try_send(format!("{of_bob} from bob"));
    let _ = queue.try_send(format!("{of_ada} from ada"));
    while let Ok(message) = member.try_recv() {
        println!("{message}");
    }
    // ANCHOR_END: apart
}
