//! A failure that comes without a history gets the one that the check has recorded.

use crate::history::{Anomaly, Event, What, diagram, picture};
use crate::{Failure, Lab};

/// More entries than these make a diagram that nobody reads.
const ENTRIES: usize = 3;

/// Draws what happened to the entries that the failure names; to the last ones, if it names none.
pub(crate) fn illustrate(lab: &Lab, failure: Failure) -> Failure {
    if failure.history.is_some() {
        return failure;
    }
    lab.absorb_watched();
    let events = lab.history().events();
    let ids = involved(&events, &failure.observed);
    let anomaly = Anomaly {
        name: "what was seen",
        events: Vec::new(),
        explanation: failure.observed.clone(),
        ids,
    };
    let drawn = diagram(&events, &anomaly);
    if drawn.is_empty() {
        return failure;
    }
    failure.history(drawn).picture(picture(&events, &anomaly))
}

/// The ids in the text that the history knows, or else those of the last deliveries.
fn involved(events: &[Event], text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let recent = events
        .iter()
        .rev()
        .filter(|event| !matches!(event.what, What::Sent))
        .map(|event| event.id.as_str());
    for id in words
        .filter(|word| events.iter().any(|event| event.id == *word))
        .chain(recent)
    {
        // Once the text has named some, the last ones are of no interest.
        let named = text.contains(id);
        if !named && ids.iter().any(|known| text.contains(known.as_str())) {
            break;
        }
        if !id.is_empty() && !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
        if ids.len() == ENTRIES {
            break;
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(what: What, id: &str) -> Event {
        Event {
            at: Duration::ZERO,
            actor: "c1".into(),
            what,
            id: id.into(),
            detail: String::new(),
        }
    }

    #[test]
    fn the_entries_that_a_failure_names_are_drawn() {
        let events = [
            event(What::Sent, "1-0"),
            event(What::Failed, "2-0"),
            event(What::Failed, "3-0"),
        ];
        assert_eq!(
            involved(&events, "entry 1-0 was lost, and so was 9-9"),
            ["1-0"]
        );
    }

    #[test]
    fn the_last_ones_stand_in_when_none_is_named() {
        let events = [
            event(What::Failed, "1-0"),
            event(What::Failed, "2-0"),
            event(What::Sent, "3-0"),
        ];
        assert_eq!(involved(&events, "two were lost"), ["2-0", "1-0"]);
        assert!(involved(&[], "nothing happened").is_empty());
    }
}
