//! Data that changes while old readers and old events are still there.

use serde::Deserialize;
use serde_json::from_str;

// ANCHOR: reader
#[derive(Debug, Deserialize)]
struct Booked {
    trip: u32,
    seats: u32,
}

/// The same event, as a newer program knows it.
#[derive(Debug, Deserialize)]
struct BookedIn2 {
    trip: u32,
    seats: u32,
    class: Option<String>,
}
// ANCHOR_END: reader

pub fn run() -> anyhow::Result<()> {
    // ANCHOR: versions
    let first = r#"{"trip":7,"seats":2}"#;
    let added = r#"{"trip":7,"seats":2,"class":"second"}"#;
    let renamed = r#"{"trip":7,"places":2}"#;

    let Booked { trip, seats } = from_str(added)?;
    println!("old program, field added: trip {trip}, {seats} seats");
    let BookedIn2 { trip, seats, class } = from_str(first)?;
    println!("new program, old event: trip {trip}, {seats} seats, {class:?}");
    if let Err(error) = from_str::<Booked>(renamed) {
        println!("old program, field renamed: {error}");
    }
    // ANCHOR_END: versions
    Ok(())
}
