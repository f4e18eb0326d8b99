//! A member that comes back and wants what it missed. No sockets here: only the order of the steps.

use std::collections::VecDeque;

use tokio::sync::mpsc;

// ANCHOR: room
#[derive(Default)]
struct Room {
    last: u64,
    kept: VecDeque<u64>,
    members: Vec<mpsc::Sender<u64>>,
}

impl Room {
    fn say(&mut self) {
        self.last += 1;
        self.kept.push_back(self.last);
        if self.kept.len() > 5 {
            self.kept.pop_front();
        }
        let last = self.last;
        self.members.retain(|member| member.try_send(last).is_ok());
    }

    fn kept_after(&self, since: u64) -> Vec<u64> {
        self.kept.iter().copied().filter(|number| *number > since).collect()
    }

    fn subscribe(&mut self) -> mpsc::Receiver<u64> {
        let (queue, messages) = mpsc::channel(8);
        self.members.push(queue);
        messages
    }
}
// ANCHOR_END: room

/// What a member sees who was replayed `missed` and then reads its queue.
fn seen(missed: &[u64], mut queue: mpsc::Receiver<u64>) -> Vec<u64> {
    let mut seen = missed.to_vec();
    while let Ok(number) = queue.try_recv() {
        seen.push(number);
    }
    seen
}

pub fn run() {
    let started = || {
        let mut room = Room::default();
        (0..3).for_each(|_| room.say());
        room
    };

    // ANCHOR: gap
    let mut room = started();
    let missed = room.kept_after(1);
    room.say(); // somebody else, just now
    let queue = room.subscribe();
    room.say();
    println!("replay, then subscribe: {:?}", seen(&missed, queue));
    // ANCHOR_END: gap

    // ANCHOR: double
    let mut room = started();
    let queue = room.subscribe();
    room.say();
    let missed = room.kept_after(1);
    room.say();
    println!("subscribe, then replay: {:?}", seen(&missed, queue));
    // ANCHOR_END: double

    // ANCHOR: together
    // With `&mut Room` in hand, or a lock, nobody gets in between.
    let mut room = started();
    let (missed, queue) = (room.kept_after(1), room.subscribe());
    room.say();
    room.say();
    println!("both at once: {:?}", seen(&missed, queue));
    // ANCHOR_END: together

    // ANCHOR: gone
    let mut room = started();
    (0..5).for_each(|_| room.say());
    println!("the last is {}, kept are {:?}", room.last, room.kept);
    for since in [1, 3, 8, 9] {
        let oldest = room.kept.front().copied().unwrap_or(room.last + 1);
        let gap = since + 1 < oldest || since > room.last;
        println!("since {since}: gap {gap}");
    }
    // ANCHOR_END: gone

    // ANCHOR: overflow
    let (queue, _messages) = mpsc::channel(2);
    let pushed = room.kept.iter().filter(|number| queue.try_send(**number).is_ok());
    println!("{} kept, {} fit into the queue", room.kept.len(), pushed.count());
    // ANCHOR_END: overflow
}
