//! Counts that must stay within bounds or grow.

use std::collections::HashMap;

use super::{Verdict, at, unknown, violated};
use crate::history::{Event, What};

/// No message's handler is started more than `most` times, nor for a delivery with a higher
/// number than that.
///
/// Anomaly: `too many attempts`. Unknown if no handler was started.
pub fn attempts_at_most(most: u64) -> impl Fn(&[Event]) -> Verdict + Clone {
    move |events| {
        let mut starts: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, event) in events.iter().enumerate() {
            let What::Started { deliveries } = event.what else {
                continue;
            };
            let starts = starts.entry(&event.id).or_default();
            starts.push(i);
            let text = if starts.len() as u64 > most {
                format!(
                    "entry {} was started for the {} time {}; {most} attempts are allowed",
                    event.id,
                    ordinal(starts.len() as u64),
                    at(event),
                )
            } else if deliveries > most {
                format!(
                    "entry {} was started {} for its {} delivery; {most} attempts are allowed",
                    event.id,
                    at(event),
                    ordinal(deliveries),
                )
            } else {
                continue;
            };
            return violated("too many attempts", &[&event.id], starts, text);
        }
        match starts.is_empty() {
            true => unknown("no handler was started"),
            false => Verdict::Valid,
        }
    }
}

/// Every start of a message's handler knows its own number of deliveries: no number comes
/// twice for one message, and for one worker they only grow. Starts without a number are
/// passed over.
///
/// (Across workers they may be seen out of order: who was handed the message first may well
/// start last.)
///
/// Anomaly: `delivery count does not grow`. Unknown if no start told its number.
pub fn deliveries_grow(events: &[Event]) -> Verdict {
    let mut seen: HashMap<(&str, u64), usize> = HashMap::new();
    let mut last: HashMap<(&str, &str), usize> = HashMap::new();
    let number = |i: usize| match events[i].what {
        What::Started { deliveries } => deliveries,
        _ => 0,
    };
    for (i, event) in events.iter().enumerate() {
        let deliveries = number(i);
        if deliveries == 0 {
            continue;
        }
        let same = seen.insert((&event.id, deliveries), i);
        let mine = last.insert((&event.id, &event.actor), i);
        let before = same.or(mine.filter(|before| number(*before) > deliveries));
        if let Some(before) = before {
            let text = format!(
                "entry {} was started {} with delivery count {}, and again {} with {deliveries}",
                event.id,
                at(&events[before]),
                number(before),
                at(event),
            );
            let name = "delivery count does not grow";
            return violated(name, &[&event.id], &[before, i], text);
        }
    }
    match seen.is_empty() {
        true => unknown("no handler was told how often its message was delivered"),
        false => Verdict::Valid,
    }
}

/// The fencing tokens that a resource accepts never go down, and no two actors use the same
/// one with it.
///
/// Anomaly: `stale token accepted` or `token shared`. Unknown if no token was used.
pub fn fenced(events: &[Event]) -> Verdict {
    let mut highest: HashMap<&str, (u64, usize)> = HashMap::new();
    for (i, event) in events.iter().enumerate() {
        let What::Token(token) = event.what else {
            continue;
        };
        // An equal token from the same actor replaces its equal.
        let Some((high, before)) = highest.insert(&event.id, (token, i)) else {
            continue;
        };
        let earlier = &events[before];
        if token < high {
            let text = format!(
                "{} accepted token {token} from {} {}, after token {high} from {} {}",
                event.id,
                event.actor,
                at(event),
                earlier.actor,
                at(earlier),
            );
            return violated("stale token accepted", &[&event.id], &[before, i], text);
        }
        if token == high && earlier.actor != event.actor {
            let text = format!(
                "{} accepted token {token} from {} {} and from {} {}",
                event.id,
                earlier.actor,
                at(earlier),
                event.actor,
                at(event),
            );
            return violated("token shared", &[&event.id], &[before, i], text);
        }
    }
    match highest.is_empty() {
        true => unknown("no fencing token was used"),
        false => Verdict::Valid,
    }
}

fn ordinal(n: u64) -> String {
    let suffix = match (n % 10, n % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}
