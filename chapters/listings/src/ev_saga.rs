//! A trip of a seat and a room, and what to do when only one of them can be had.

use std::collections::{HashMap, VecDeque};

// ANCHOR: services
type Event = (&'static str, u32);

/// What each service does with an event, and what it has to say then.
fn airline(seats: &mut Seats, (name, trip): Event) -> Option<Event> {
    match name {
        "trip.asked" => seats.take(trip).then_some(("seat.taken", trip)),
        "room.refused" => seats.give_back(trip).then_some(("seat.returned", trip)),
        _ => None,
    }
}

fn hotel((name, trip): Event) -> Option<Event> {
    let full = trip == 8;
    match name {
        "seat.taken" if full => Some(("room.refused", trip)),
        "seat.taken" => Some(("room.taken", trip)),
        _ => None,
    }
}

fn desk((name, trip): Event) -> Option<Event> {
    match name {
        "room.taken" => Some(("trip.completed", trip)),
        "seat.returned" => Some(("trip.cancelled", trip)),
        _ => None,
    }
}
// ANCHOR_END: services

// ANCHOR: seats
/// Ten seats, and a way of counting them.
enum Seats {
    Counted(u32),
    Noted(HashMap<u32, bool>), // Which trips have one, and which gave it back.
}

impl Seats {
    fn take(&mut self, trip: u32) -> bool {
        match self {
            Seats::Counted(free) => {
                *free -= 1;
                true
            }
            Seats::Noted(trips) => trips.insert(trip, true).is_none(),
        }
    }

    fn give_back(&mut self, trip: u32) -> bool {
        match self {
            Seats::Counted(free) => {
                *free += 1;
                true
            }
            Seats::Noted(trips) => trips.insert(trip, false) == Some(true),
        }
    }

    fn free(&self) -> u32 {
        match self {
            Seats::Counted(free) => *free,
            Seats::Noted(trips) => {
                trips.values().fold(10, |free, has| free - u32::from(*has))
            }
        }
    }
}
// ANCHOR_END: seats

// ANCHOR: deliver
/// Gives every service every event, and some events twice.
fn deliver(seats: &mut Seats, asked: &[u32], twice: &str) -> Vec<Event> {
    let mut log = Vec::new();
    let mut queue: VecDeque<Event> =
        asked.iter().map(|trip| ("trip.asked", *trip)).collect();
    while let Some(event) = queue.pop_front() {
        log.push(event);
        for _ in 0..if event.0 == twice { 2 } else { 1 } {
            queue.extend(airline(seats, event));
            queue.extend(hotel(event));
            queue.extend(desk(event));
        }
    }
    log
}
// ANCHOR_END: deliver

fn ends(log: &[Event]) -> Vec<Event> {
    let ended = |event: &&Event| event.0.starts_with("trip.c");
    log.iter().filter(ended).copied().collect()
}

pub fn run() {
    // ANCHOR: once
    let mut seats = Seats::Counted(10);
    for (name, trip) in deliver(&mut seats, &[7, 8], "") {
        println!("{name} {trip}");
    }
    println!("free seats: {}", seats.free());
    // ANCHOR_END: once

    // ANCHOR: twice
    let mut seats = Seats::Counted(10);
    let log = deliver(&mut seats, &[7, 8], "room.refused");
    println!("counted: {:?}, free seats: {}", ends(&log), seats.free());

    let mut seats = Seats::Noted(HashMap::new());
    let log = deliver(&mut seats, &[7, 8], "room.refused");
    println!("noted: {:?}, free seats: {}", ends(&log), seats.free());
    // ANCHOR_END: twice

    // ANCHOR: keys
    // The airline of another company: the same key has one effect, however often it is asked.
    let mut airline = HashMap::new();
    for attempt in 1..=2 {
        airline.insert(format!("seat-{attempt}"), 8); // The first answer is lost.
    }
    println!("a key for each attempt: {} seats", airline.len());
    airline.clear();
    for _attempt in 1..=2 {
        airline.insert("seat-of-trip-8".to_owned(), 8);
    }
    println!("the trip's key: {} seat", airline.len());
    // ANCHOR_END: keys
}
