//! Remembers every panic of this process, also those of spawned tasks that nobody awaits.
//!
//! A learner who has not written a stage yet should read that, not that a check timed out
//! because a task died unseen.

use std::sync::{Mutex, Once, PoisonError};

/// A panic that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// What it said.
    pub message: String,
    /// Where, as `file:line`.
    pub place: String,
}

impl Panic {
    /// The stage whose `todo!` this is.
    pub fn stage(&self) -> Option<u32> {
        stage_of(&self.message)
    }
}

static SEEN: Mutex<Vec<Panic>> = Mutex::new(Vec::new());

/// From now on panics are remembered, and printed as one line on standard error.
pub(crate) fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let message = text_of(info.payload());
            let place = info
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            let place = place.unwrap_or_default();
            eprintln!("panicked at {place}: {message}");
            remember(Panic { message, place });
        }));
    });
}

pub(crate) fn remember(panic: Panic) {
    SEEN.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(panic);
}

pub(crate) fn seen() -> Vec<Panic> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The first `todo!` of a stage that was reached.
pub(crate) fn first_todo() -> Option<Panic> {
    seen().into_iter().find(|panic| panic.stage().is_some())
}

/// The text of a panic's payload.
pub(crate) fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "something that is no text".to_owned()
    }
}

/// The number of the stage that a stub's `todo!` names, from the text of its panic:
/// `not yet implemented: stage 3: …`.
pub fn stage_of(message: &str) -> Option<u32> {
    let (_, after) = message.split_once("not yet implemented: stage ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// What the stub says is to be done, without `not yet implemented: stage 3: `.
pub(crate) fn task_of(message: &str) -> &str {
    match message.split_once("not yet implemented: stage ") {
        Some((_, after)) => after.split_once(": ").map_or(after, |(_, task)| task),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_names_its_stage() {
        let message = "not yet implemented: stage 12: read in a group: new entries only";
        assert_eq!(stage_of(message), Some(12));
        assert_eq!(task_of(message), "read in a group: new entries only");
        assert_eq!(stage_of("not yet implemented"), None);
        assert_eq!(stage_of("stage 3 went wrong"), None);
    }
}
