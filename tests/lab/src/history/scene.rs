//! What of a history is worth drawing.

use std::collections::{BTreeSet, HashMap};

use super::{Anomaly, Event, What};

/// The part of a history that an anomaly is about.
pub(super) struct Scene<'a> {
    pub(super) lanes: Vec<&'a str>,
    pub(super) rows: Vec<Row<'a>>,
    /// The messages by the short names they have in the picture; none if there is only one.
    pub(super) names: Vec<(String, &'a str)>,
}

pub(super) struct Row<'a> {
    pub(super) event: &'a Event,
    pub(super) lane: usize,
    /// It is part of the proof.
    pub(super) marked: bool,
    /// So many events of the same messages were left out before it.
    pub(super) skipped: usize,
    /// What to write: kind, message and whatever else tells it from its neighbours.
    pub(super) label: String,
}

/// The lane of the actors that have none of their own.
const OTHERS: &str = "others";

impl<'a> Scene<'a> {
    /// Chooses at most `most_rows` events and `most_lanes` lanes: the proof in any case, and
    /// of the other events of the same messages, and of the faults, those closest to it.
    pub(super) fn new(
        events: &'a [Event],
        anomaly: &'a Anomaly,
        most_rows: usize,
        most_lanes: usize,
    ) -> Self {
        let proof: BTreeSet<usize> = anomaly
            .events
            .iter()
            .copied()
            .filter(|i| *i < events.len())
            .collect();
        let involved = involved(events, anomaly, &proof);
        let chosen = closest(&involved, &proof, most_rows);
        let lanes = lanes(events, &chosen, &proof, most_lanes);
        let names = names(anomaly);
        let short: HashMap<&str, &str> = names
            .iter()
            .map(|(short, id)| (*id, short.as_str()))
            .collect();

        let mut rows = Vec::new();
        let mut seen = 0;
        for i in chosen {
            let before = involved.iter().take_while(|other| **other < i).count();
            let event = &events[i];
            let own = lanes.iter().position(|lane| *lane == event.actor);
            let mut label = event.what.to_string();
            match short.get(event.id.as_str()) {
                Some(short) => label = format!("{label} {short}"),
                None if names.is_empty() => {}
                None => label = format!("{label} {}", event.id),
            }
            if own.is_none() {
                label = format!("{}: {label}", event.actor);
            }
            rows.push(Row {
                event,
                lane: own.unwrap_or(lanes.len() - 1),
                marked: proof.contains(&i),
                skipped: before - seen,
                label: label.trim_end().to_owned(),
            });
            seen = before + 1;
        }
        Scene { lanes, rows, names }
    }
}

/// The events of the anomaly's messages, the faults, and what hides something.
fn involved(events: &[Event], anomaly: &Anomaly, proof: &BTreeSet<usize>) -> Vec<usize> {
    let ids: BTreeSet<&str> = anomaly.ids.iter().map(String::as_str).collect();
    (0..events.len())
        .filter(|i| {
            let event = &events[*i];
            let about_all = event.id.is_empty()
                && matches!(event.what, What::Fault(_) | What::Hidden(_) | What::Note(_));
            proof.contains(i) || ids.contains(event.id.as_str()) || about_all
        })
        .collect()
}

/// The proof, and as many others as there is room for, by their distance from it.
fn closest(involved: &[usize], proof: &BTreeSet<usize>, most: usize) -> BTreeSet<usize> {
    let distance = |i: usize| {
        let before = proof.range(..=i).next_back().map(|other| i - other);
        let after = proof.range(i..).next().map(|other| other - i);
        before.into_iter().chain(after).min().unwrap_or(usize::MAX)
    };
    let mut by_distance: Vec<usize> = involved.to_vec();
    by_distance.sort_by_key(|i| (distance(*i), *i));
    by_distance.truncate(most);
    by_distance.into_iter().collect()
}

/// Senders first, then the broker, then the rest in the order in which they appear. If there
/// are too many, those without a part in the proof share the last lane.
fn lanes<'a>(
    events: &'a [Event],
    chosen: &BTreeSet<usize>,
    proof: &BTreeSet<usize>,
    most: usize,
) -> Vec<&'a str> {
    let mut lanes: Vec<&str> = Vec::new();
    let mut important: BTreeSet<&str> = BTreeSet::new();
    let mut senders: BTreeSet<&str> = BTreeSet::new();
    for i in chosen {
        let event = &events[*i];
        if !lanes.contains(&event.actor.as_str()) {
            lanes.push(&event.actor);
        }
        if proof.contains(i) {
            important.insert(&event.actor);
        }
        if event.what == What::Sent {
            senders.insert(&event.actor);
        }
    }
    if lanes.len() > most {
        lanes.sort_by_key(|lane| !important.contains(lane));
        lanes.truncate(most.saturating_sub(1).max(1));
    } else {
        important.clear();
    }
    lanes.sort_by_key(|lane| match *lane {
        lane if senders.contains(lane) => 0,
        "broker" => 1,
        "network" => 2,
        _ => 3,
    });
    if !important.is_empty() {
        lanes.push(OTHERS);
    }
    lanes
}

/// Short names, because ids are long: A, B, C … and numbers after Z.
fn names(anomaly: &Anomaly) -> Vec<(String, &str)> {
    if anomaly.ids.len() < 2 {
        return Vec::new();
    }
    let letters = ('A'..='Z').map(String::from);
    let numbers = (27..).map(|n: u32| format!("#{n}"));
    letters
        .chain(numbers)
        .zip(anomaly.ids.iter().map(String::as_str))
        .collect()
}
