//! How messages flow to handlers: in order, not too many, not to two at once.

use std::collections::{HashMap, HashSet};

use super::{Verdict, at, ends_handler, unknown, violated};
use crate::history::{Event, What};

/// For every actor, messages of one key are first started in the order in which they were
/// sent. The key is the `detail` of `Sent`; without one, all messages share a key. A
/// message that is started again (redelivered) is not out of order by that.
///
/// Anomaly: `out of order`. Unknown unless an actor has started two messages of one key.
pub fn in_order_per_key(events: &[Event]) -> Verdict {
    // First, because a fast worker may start a message before its producer has said so.
    let mut sent: HashMap<&str, usize> = HashMap::new();
    for (i, event) in events.iter().enumerate() {
        if event.what == What::Sent {
            sent.entry(&event.id).or_insert(i);
        }
    }
    // By actor and key: the start of the message that was sent last.
    let mut latest: HashMap<(&str, &str), usize> = HashMap::new();
    let mut started: HashSet<(&str, &str)> = HashSet::new();
    let mut compared = false;
    for (i, event) in events.iter().enumerate() {
        let first =
            matches!(event.what, What::Started { .. }) && started.insert((&event.actor, &event.id));
        let Some(mine) = sent.get(event.id.as_str()).copied().filter(|_| first) else {
            continue;
        };
        let key = events[mine].detail.as_str();
        let Some(before) = latest.insert((&event.actor, key), i) else {
            continue;
        };
        compared = true;
        let earlier = &events[before];
        let theirs = sent[earlier.id.as_str()];
        if theirs > mine {
            let of_key = match key {
                "" => String::new(),
                key => format!(" (key {key})"),
            };
            let text = format!(
                "{} started {} {} and {} only {}, but {} was sent first{of_key}",
                event.actor,
                earlier.id,
                at(earlier),
                event.id,
                at(event),
                event.id,
            );
            let proof = [mine, theirs, before, i];
            return violated("out of order", &[&event.id, &earlier.id], &proof, text);
        }
    }
    match compared {
        true => Verdict::Valid,
        false => unknown("nobody started two messages of one key"),
    }
}

/// No actor ever has more than `most` messages in flight: delivered to it or started by it,
/// and not yet finished by it.
///
/// What ends a flight: the actor's `Succeeded` or `Failed`; the message's end
/// (`Acknowledged`, `DeadLettered`, `Dropped`); its delivery to somebody else, unless the
/// actor has started it; and a `Fault` of the actor, which ends all it had. A message that
/// waits for its next attempt after `Failed` is not in flight.
///
/// Anomaly: `too many in flight`. Unknown if nothing was delivered or started.
pub fn bounded_in_flight(most: usize) -> impl Fn(&[Event]) -> Verdict + Clone {
    move |events| {
        // By actor: what it has in flight, since which event, and whether it started it.
        let mut flights: HashMap<&str, HashMap<&str, (usize, bool)>> = HashMap::new();
        for (i, event) in events.iter().enumerate() {
            let (actor, id) = (event.actor.as_str(), event.id.as_str());
            match &event.what {
                What::Delivered { .. } | What::Started { .. } => {
                    let started = matches!(event.what, What::Started { .. });
                    if !started {
                        release_elsewhere(&mut flights, actor, id);
                    }
                    let mine = flights.entry(actor).or_default();
                    mine.entry(id).or_insert((i, false)).1 |= started;
                    if mine.len() > most {
                        return too_many(events, i, mine, most);
                    }
                }
                What::Acknowledged | What::DeadLettered | What::Dropped => {
                    for of_one in flights.values_mut() {
                        of_one.remove(id);
                    }
                }
                What::Fault(_) => {
                    flights.remove(actor);
                }
                what if ends_handler(what) => {
                    flights.entry(actor).or_default().remove(id);
                }
                _ => {}
            }
        }
        let any =
            |event: &Event| matches!(event.what, What::Delivered { .. } | What::Started { .. });
        match events.iter().any(any) {
            true => Verdict::Valid,
            false => unknown("nothing was delivered"),
        }
    }
}

fn release_elsewhere(
    flights: &mut HashMap<&str, HashMap<&str, (usize, bool)>>,
    to: &str,
    id: &str,
) {
    for (actor, flights) in flights {
        if *actor != to && flights.get(id).is_some_and(|(_, started)| !started) {
            flights.remove(id);
        }
    }
}

fn too_many(
    events: &[Event],
    last: usize,
    flights: &HashMap<&str, (usize, bool)>,
    most: usize,
) -> Verdict {
    let mut since: Vec<usize> = flights.values().map(|(since, _)| *since).collect();
    since.sort_unstable();
    let ids: Vec<&str> = since.iter().map(|i| events[*i].id.as_str()).collect();
    let text = format!(
        "{} had {} messages in flight {}, and {most} are allowed: {} came while {} had not been finished",
        events[last].actor,
        ids.len(),
        at(&events[last]),
        events[last].id,
        ids.iter()
            .filter(|id| **id != events[last].id)
            .take(5)
            .copied()
            .collect::<Vec<_>>()
            .join(", "),
    );
    since.push(last);
    violated("too many in flight", &ids, &since, text)
}

/// A message's handler runs in one place at a time: between a start and its end nobody starts
/// it again. A `Fault` of an actor ends its claim to everything it had started.
///
/// Anomaly: `handled twice at once`. Unknown if no handler was started.
pub fn delivered_to_one_at_a_time(events: &[Event]) -> Verdict {
    let mut running: HashMap<&str, usize> = HashMap::new();
    let mut any = false;
    for (i, event) in events.iter().enumerate() {
        match &event.what {
            What::Started { .. } => {
                any = true;
                if let Some(before) = running.insert(&event.id, i) {
                    let earlier = &events[before];
                    let text = format!(
                        "entry {} was started by {} {}, while {} was still at it since {}",
                        event.id,
                        event.actor,
                        at(event),
                        earlier.actor,
                        super::time(earlier.at),
                    );
                    let name = "handled twice at once";
                    return violated(name, &[&event.id], &[before, i], text);
                }
            }
            What::Fault(_) => running.retain(|_, start| events[*start].actor != event.actor),
            what if ends_handler(what) => {
                let mine = |start: &usize| events[*start].actor == event.actor;
                if running.get(event.id.as_str()).is_some_and(mine) {
                    running.remove(event.id.as_str());
                }
            }
            _ => {}
        }
    }
    match any {
        true => Verdict::Valid,
        false => unknown("no handler was started"),
    }
}
