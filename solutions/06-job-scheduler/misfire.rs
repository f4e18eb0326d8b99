//! Times that passed without a run.

use std::time::Duration;

use crate::job::{Misfire, Schedule};
use crate::time::Time;
// solution only
use crate::schedule::{last, next};
use crate::time::from_millis;
// end solution only

/// What is to become of a job that is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The times for which it runs now, oldest first.
    pub runs: Vec<Time>,
    /// The time at which it is due next; nothing if there is none.
    pub next: Option<Time>,
}

/// What is to become of a job that has been due since `due`, which is one of its times and not later than
/// `now`.
///
/// Its times from `due` to `now`, both included, fall into two parts. What is not later than `late` is on
/// time (`now - time <= late`): all of that runs. The others are misfires, and the policy decides:
/// [`Skip`](Misfire::Skip) runs none of them, [`Once`](Misfire::Once) the last, and
/// [`CatchUp`](Misfire::CatchUp)`(n)` the last n (none for 0). The next time is the first after `now`.
///
/// However long the gap was, it takes no longer than there are runs: a job that ran every second is not
/// counted through a year. No more than a thousand times are on time, the last ones.
pub fn plan(schedule: &Schedule, misfire: Misfire, due: Time, now: Time, late: Duration) -> Plan {
    // stub stage 3: the job runs for `due`, and then for the next (stage 7: what is on time, and what the policy makes of the rest)
    let late = i64::try_from(late.as_millis()).unwrap_or(i64::MAX);
    // The last that is too late, in milliseconds.
    let limit = now
        .timestamp_millis()
        .saturating_sub(late)
        .saturating_sub(1);
    let until = from_millis(limit).min(now);
    let most = match misfire {
        Misfire::Skip => 0,
        Misfire::Once => 1,
        Misfire::CatchUp(most) => most as usize,
    };
    let mut runs = if due <= until {
        back(schedule, due, until, most)
    } else {
        Vec::new()
    };
    runs.extend(
        back(schedule, due, now, MOST)
            .into_iter()
            .filter(|&time| time > until),
    );
    Plan {
        runs,
        next: after(schedule, due, now),
    }
    // end stub
}

// solution only
/// The most times that are on time.
const MOST: usize = 1000;

/// The last times from `due` to `until`, both included, oldest first.
fn back(schedule: &Schedule, due: Time, until: Time, most: usize) -> Vec<Time> {
    let mut times = Vec::new();
    let mut until = until;
    while times.len() < most {
        match last(schedule, due, until) {
            Some(time) => {
                times.push(time);
                until = from_millis(time.timestamp_millis() - 1);
            }
            None => {
                if due <= until {
                    times.push(due);
                }
                break;
            }
        }
    }
    times.reverse();
    times
}

/// The first time after `now`.
fn after(schedule: &Schedule, due: Time, now: Time) -> Option<Time> {
    match schedule {
        Schedule::Cron { .. } => next(schedule, now),
        _ => next(schedule, last(schedule, due, now).unwrap_or(due)),
    }
}
// end solution only
