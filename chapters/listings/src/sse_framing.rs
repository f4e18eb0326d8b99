//! What becomes of data on its way through a frame. No sockets here: only text.

use std::panic;

use crate::feed::{Event, events};

/// What a page gets, in one line.
fn seen(stream: &str) -> String {
    let events = events(stream);
    let words = events.iter().map(|Event { kind, data, last_id }| {
        format!("{kind} {data:?} (last id {last_id:?})")
    });
    format!("{}: {}", events.len(), words.collect::<Vec<_>>().join(", "))
}

pub fn run() {
    // ANCHOR: injected
    let naive = |id: u32, data: &str| format!("id: {id}\ndata: {data}\n\n");
    println!("{}", seen(&naive(7, "12.50")));
    println!("{}", seen(&naive(8, "two\nlines")));
    let evil = "12.50\n\nid: 1\nevent: reset\ndata: {}";
    println!("{}", seen(&naive(9, evil)));
    // ANCHOR_END: injected

    // ANCHOR: lines
    let by_lines = |data: &str| {
        let lines: String = data.lines().map(|l| format!("data: {l}\n")).collect();
        format!("{lines}\n")
    };
    for data in ["two\nlines", "trailing\n", "", "a\rid: 1"] {
        println!("{data:?} became {}", seen(&by_lines(data)));
    }
    // ANCHOR_END: lines

    // ANCHOR: grammar
    for stream in [
        "data:x\n\n",                    // no space
        "data:  x\n\n",                  // two of them
        "data: a\ndata: b\n\n",          // two lines
        "data\n\n",                      // a name alone
        "id: 5\n\n",                     // no data at all
        "id: 5\ndata: a\n\ndata: b\n\n", // the id stays
        "id: 5\n\nid\ndata: a\n\n",      // until it is set to nothing
        "id: 5\0\ndata: a\n\n",          // no id
        ": beat\n\n",                    // a comment
        "data: a\r\rdata: b\r\n\r\n",    // other line ends
        "data: a\u{2028}b\n\n",          // no line end
        "data: a\n",                     // no empty line
    ] {
        println!("{stream:?} is {}", seen(stream));
    }
    // ANCHOR_END: grammar

    // ANCHOR: panics
    use axum::response::sse;
    let quiet = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    for id in ["7", "7\nevent: reset", "7\0"] {
        let frame = panic::catch_unwind(|| sse::Event::default().id(id));
        println!("axum's Event with id {id:?} panics: {}", frame.is_err());
    }
    panic::set_hook(quiet);
    // ANCHOR_END: panics
}
