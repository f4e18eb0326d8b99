// Stub 0197f520e3a577b5: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! When a job runs: the first time, and the one after.

use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::error::Error;
use crate::job::Schedule;
use crate::time::{Time, from_millis, later, text};

/// The least time between two runs.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// The first time of a job that is added now.
///
/// - `cron`: the first time after `now` that the expression names, in the time zone `tz`.
/// - `every`: `now`, and so much more.
/// - `at`: that time. `after`: `now`, and so much more.
///
/// # Errors
/// [`Error::BadJob`], with the place and the reason:
/// `/schedule/cron` if the expression is none, has not five or six fields, or names no time that will
/// ever come (30 February); the reason quotes the field that is wrong, where it is one alone.
/// `/schedule/tz` if there is no such time zone. `/schedule/every` if that is less than [`SHORTEST`].
/// `/schedule/at` if that has passed: it has to be later than `now`.
/// `/schedule/every` and `/schedule/after` if no calendar goes that far: the year has at most four digits.
pub fn first(schedule: &Schedule, now: Time) -> Result<Time, Error> {
    todo!("stage 1: `at` and `after` (stage 2: `every` and `cron`)")
}

/// The time of a job after the time `after`, which is one of its own; nothing if there is none.
///
/// - `cron`: the first time later than `after` that the expression names, by the clock on a wall in the
///   time zone. Where that clock is put forward, a time that it leaves out is made up for at once, at the
///   first moment that it shows again, if the expression names one time of the day alone (`30 2 * * *`);
///   if it names several (`*/15 * * * *`), those that are left out are left out. Where the clock is put
///   back, an expression that names one time of the day alone runs once, the first time that the clock
///   shows it; one that names several runs both times.
/// - `every`: `after`, and so much more. It is counted from one time to the next and not from one run to the
///   next: a run that is late does not put off those that come after it.
/// - `at` and `after`: nothing.
pub fn next(schedule: &Schedule, after: Time) -> Option<Time> {
    todo!("stage 2: the next of `cron` and of `every`")
}
