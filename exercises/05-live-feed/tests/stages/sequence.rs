//! What came, against what was to come.

use std::collections::{HashMap, HashSet};

use lab::{Failure, Outcome};

/// The mistakes that a difference may show: an event that is missing, one that came twice.
#[derive(Clone, Copy, Default)]
pub struct Suspects {
    pub missing: Option<&'static str>,
    pub twice: Option<&'static str>,
}

/// Holds `got` to be exactly `expected`, in order. `who` is the beginning of a sentence.
pub fn same(who: &str, expected: &[String], got: &[String], suspects: Suspects) -> Outcome {
    if expected == got {
        return Ok(());
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for id in got {
        *seen.entry(id).or_default() += 1;
    }
    let wanted: HashSet<&str> = expected.iter().map(String::as_str).collect();
    let missing: Vec<&String> = expected
        .iter()
        .filter(|id| !seen.contains_key(id.as_str()))
        .collect();
    let twice: Vec<&String> = expected
        .iter()
        .filter(|id| seen.get(id.as_str()).is_some_and(|count| *count > 1))
        .collect();
    let strange: Vec<&String> = got
        .iter()
        .filter(|id| !wanted.contains(id.as_str()))
        .collect();
    let mut parts = Vec::new();
    let mut code = None;
    if let Some(first) = twice.first() {
        code = suspects.twice;
        parts.push(format!(
            "{} came more than once, {first} first",
            twice.len()
        ));
    }
    if let Some(first) = missing.first() {
        code = suspects.missing;
        parts.push(format!("{} are missing, {first} first", missing.len()));
    }
    if let Some(first) = strange.first() {
        parts.push(format!(
            "{} came that were not to come, {first} first",
            strange.len()
        ));
    }
    if parts.is_empty() {
        let at = expected
            .iter()
            .zip(got)
            .position(|(one, other)| one != other);
        let at = at.unwrap_or_default();
        parts.push(format!(
            "the order is another: at position {at} came {}, expected was {}",
            got[at], expected[at]
        ));
    }
    let text = format!(
        "{who} got {} events where {} were to come: {}",
        got.len(),
        expected.len(),
        parts.join("; ")
    );
    Err(Failure::observed(text).code_if(code))
}
