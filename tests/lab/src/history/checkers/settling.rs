//! How a message ends: done, given up, or neither.

use std::collections::HashMap;

use super::{Verdict, at, unknown, violated};
use crate::history::{Event, What};

/// Every message that was `Sent` is in the end `Acknowledged`, `DeadLettered`, or `Dropped`
/// by somebody who said so.
///
/// Anomaly: `lost message`, or `unfinished message` if the broker still holds it (`Pending`).
///
/// Unknown if nothing was sent, or if a message without an end may have found it out of
/// sight (`Hidden`) and nobody asked the broker afterwards.
pub fn nothing_lost(events: &[Event]) -> Verdict {
    #[derive(Default)]
    struct Fate {
        sent: Option<usize>,
        settled: bool,
        pending: Option<usize>,
        hidden: bool,
        last: Option<usize>,
    }
    let mut fates: HashMap<&str, Fate> = HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    let mut all_hidden = false;
    for (i, event) in events.iter().enumerate() {
        if event.id.is_empty() {
            all_hidden |= matches!(event.what, What::Hidden(_));
            continue;
        }
        let fate = fates.entry(&event.id).or_default();
        match &event.what {
            What::Sent if fate.sent.is_none() => {
                fate.sent = Some(i);
                order.push(&event.id);
            }
            What::Acknowledged | What::DeadLettered | What::Dropped => fate.settled = true,
            What::Pending => fate.pending = Some(i),
            What::Hidden(_) => fate.hidden = true,
            _ => {}
        }
        if !matches!(event.what, What::Note(_) | What::Hidden(_)) {
            fate.last = Some(i);
        }
    }
    if order.is_empty() {
        return unknown("nothing was sent");
    }
    let open = |id: &&&str| !fates[**id].settled;
    let lost: Vec<&str> = order.iter().filter(open).copied().collect();
    // One that is certainly lost says more than ten that may be.
    let certain = lost.iter().find(|id| {
        let fate = &fates[**id];
        fate.pending.is_some() || !(fate.hidden || all_hidden)
    });
    let Some(id) = certain else {
        return match lost.first() {
            None => Verdict::Valid,
            Some(id) => unknown(&format!(
                "what became of {id} happened out of the lab's sight"
            )),
        };
    };
    let fate = &fates[id];
    let sent = fate.sent.unwrap_or_default();
    let others = match lost.len() - 1 {
        0 => String::new(),
        more => format!(" ({more} more like it)"),
    };
    if let Some(pending) = fate.pending {
        let text = format!(
            "entry {id} was sent {} and is still pending at the end: neither acknowledged nor dead-lettered{others}",
            at(&events[sent]),
        );
        return violated("unfinished message", &[id], &[sent, pending], text);
    }
    let last = fate.last.unwrap_or(sent);
    let heard = match last == sent {
        true => "and never heard of again".to_owned(),
        false => format!(
            "and last seen {} ({})",
            at(&events[last]),
            events[last].what
        ),
    };
    let text = format!(
        "entry {id} was sent {} {heard}: neither acknowledged nor dead-lettered{others}",
        at(&events[sent]),
    );
    violated("lost message", &[id], &[sent, last], text)
}

/// No message is both `Acknowledged` and `DeadLettered`: it is done or given up.
///
/// Anomaly: `settled twice`. Unknown if no message was settled at all.
pub fn never_both(events: &[Event]) -> Verdict {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, event) in events.iter().enumerate() {
        if !matches!(event.what, What::Acknowledged | What::DeadLettered) {
            continue;
        }
        let before = *first.entry(&event.id).or_insert(i);
        if events[before].what != event.what {
            let text = format!(
                "entry {} was {} {} and {} {}",
                event.id,
                events[before].what,
                at(&events[before]),
                event.what,
                at(event),
            );
            return violated("settled twice", &[&event.id], &[before, i], text);
        }
    }
    match first.is_empty() {
        true => unknown("no message was acknowledged or dead-lettered"),
        false => Verdict::Valid,
    }
}

/// No message has its `Effect` more than once.
///
/// Anomaly: `duplicate effect`. Unknown if there was no effect.
pub fn no_duplicate_effect(events: &[Event]) -> Verdict {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, event) in events.iter().enumerate() {
        if event.what != What::Effect {
            continue;
        }
        if let Some(before) = first.insert(&event.id, i) {
            let text = format!(
                "entry {} had its effect {} by {} and once more {} by {}",
                event.id,
                at(&events[before]),
                events[before].actor,
                at(event),
                event.actor,
            );
            return violated("duplicate effect", &[&event.id], &[before, i], text);
        }
    }
    match first.is_empty() {
        true => unknown("no message had an effect"),
        false => Verdict::Valid,
    }
}

/// Whenever a message is `Acknowledged`, a handler has `Succeeded` with it before.
///
/// Anomaly: `acknowledged before success`. Unknown if nothing was acknowledged, or if
/// nobody recorded what the handlers did.
pub fn acknowledged_only_after_success(events: &[Event]) -> Verdict {
    let mut acknowledged = false;
    let mut handled = false;
    let mut succeeded: HashMap<&str, ()> = HashMap::new();
    let mut early: Option<usize> = None;
    for (i, event) in events.iter().enumerate() {
        match event.what {
            What::Started { .. } | What::Failed => handled = true,
            What::Succeeded => {
                handled = true;
                succeeded.insert(&event.id, ());
            }
            What::Acknowledged => {
                acknowledged = true;
                if early.is_none() && !succeeded.contains_key(event.id.as_str()) {
                    early = Some(i);
                }
            }
            _ => {}
        }
    }
    if !acknowledged {
        return unknown("nothing was acknowledged");
    }
    if !handled {
        return unknown("what the handlers did was not recorded");
    }
    let Some(ack) = early else {
        return Verdict::Valid;
    };
    let id = &events[ack].id;
    let of_it = |event: &Event| event.id == *id;
    let after = events[ack..]
        .iter()
        .position(|event| of_it(event) && event.what == What::Succeeded)
        .map(|after| ack + after);
    let before = events[..ack].iter().rposition(|event| {
        of_it(event) && matches!(event.what, What::Started { .. } | What::Failed)
    });
    let (other, text) = match (after, before) {
        (Some(success), _) => (
            Some(success),
            format!("before its handler succeeded {}", at(&events[success])),
        ),
        (None, Some(i)) if events[i].what == What::Failed => (
            Some(i),
            format!("although its handler had failed {}", at(&events[i])),
        ),
        (None, Some(i)) => (
            Some(i),
            format!(
                "while its handler, started {}, had not succeeded",
                at(&events[i])
            ),
        ),
        (None, None) => (None, "although no handler had run".to_owned()),
    };
    let proof = [ack, other.unwrap_or(ack)];
    let text = format!("entry {id} was acknowledged {}, {text}", at(&events[ack]));
    violated("acknowledged before success", &[id], &proof, text)
}
