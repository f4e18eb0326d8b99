//! How long each check ran the last time, so that the longest begin first and the end of a run is not one long check alone.

use std::collections::BTreeMap;

use crate::checks::Check;
use crate::context::Context;

/// Milliseconds by the check's name.
#[derive(Default)]
pub struct Durations(BTreeMap<String, u64>);

impl Durations {
    /// What is remembered of an exercise; nothing if that cannot be read, which only costs time.
    pub fn load(ctx: &Context, exercise: &str) -> Self {
        let all = read(ctx);
        Durations(all.get(exercise).cloned().unwrap_or_default())
    }

    /// Longest first. A check that never ran counts as long: its limit is all that is known.
    pub fn sort(&self, checks: &mut [Check]) {
        checks.sort_by_key(|check| {
            let limit = check.limit.as_millis() as u64;
            std::cmp::Reverse(self.0.get(&check.name).copied().unwrap_or(limit))
        });
    }

    /// Remembers how long a check ran.
    pub fn remember(&mut self, name: &str, millis: u64) {
        self.0.insert(name.to_string(), millis);
    }

    /// Best effort: without it the next run is only slower.
    pub fn save(self, ctx: &Context, exercise: &str) {
        let mut all = read(ctx);
        all.insert(exercise.to_string(), self.0);
        if let Ok(text) = serde_json::to_string(&all) {
            let _ = crate::store::write(&ctx.state().join("timings.json"), &text);
        }
    }
}

fn read(ctx: &Context) -> BTreeMap<String, BTreeMap<String, u64>> {
    std::fs::read_to_string(ctx.state().join("timings.json"))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}
