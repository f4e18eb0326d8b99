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
    // stub stage 1: `at` and `after` (stage 2: `every` and `cron`)
    match schedule {
        Schedule::At { at } if *at <= now => Err(Error::bad(
            "/schedule/at",
            format!("{} has passed: it is {}", text(*at), text(now)),
        )),
        Schedule::At { at } => in_calendar("/schedule/at", *at),
        Schedule::After { after } => in_calendar("/schedule/after", later(now, *after)),
        Schedule::Every { every } if *every < SHORTEST => Err(Error::bad(
            "/schedule/every",
            format!(
                "{} is too often: at least {} between two runs",
                humantime::format_duration(*every),
                humantime::format_duration(SHORTEST)
            ),
        )),
        Schedule::Every { every } => in_calendar("/schedule/every", later(now, *every)),
        Schedule::Cron { cron, tz } => {
            let zone = zone(tz)?;
            let parsed = parse(cron)?;
            next_of(&parsed, zone, now).ok_or_else(|| {
                Error::bad(
                    "/schedule/cron",
                    format!("`{cron}` names no time that will ever come"),
                )
            })
        }
    }
    // end stub
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
    // stub stage 2: the next of `cron` and of `every`
    match schedule {
        Schedule::At { .. } | Schedule::After { .. } => None,
        Schedule::Every { every } => in_calendar("", later(after, *every)).ok(),
        Schedule::Cron { cron, tz } => next_of(&parse(cron).ok()?, zone(tz).ok()?, after),
    }
    // end stub
}

// solution only
/// The last time of a job that is not later than `until`, if it is later than `after`, which is one of
/// its times.
pub(crate) fn last(schedule: &Schedule, after: Time, until: Time) -> Option<Time> {
    let last = match schedule {
        Schedule::At { .. } | Schedule::After { .. } => None,
        Schedule::Every { every } => {
            let every = i64::try_from(every.as_millis()).ok()?.max(1);
            let passed = until.timestamp_millis() - after.timestamp_millis();
            Some(from_millis(
                after.timestamp_millis() + passed.div_euclid(every) * every,
            ))
        }
        Schedule::Cron { cron, tz } => {
            let local = until.with_timezone(&zone(tz).ok()?);
            let found = parse(cron).ok()?.find_previous_occurrence(&local, true);
            found
                .ok()
                .map(|time| from_millis(time.timestamp_millis().div_euclid(1000) * 1000))
        }
    };
    last.filter(|last| *last > after && *last <= until)
}

fn next_of(cron: &Cron, zone: Tz, after: Time) -> Option<Time> {
    // Whole seconds: what the search begins with it carries along.
    let whole = from_millis(after.timestamp_millis().div_euclid(1000) * 1000);
    let found = cron.find_next_occurrence(&whole.with_timezone(&zone), false);
    let next = from_millis(found.ok()?.timestamp_millis());
    (next > after).then_some(next)
}

fn parse(expression: &str) -> Result<Cron, Error> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    let bad = |why: String| Error::bad("/schedule/cron", why);
    parser.parse(expression).map_err(|error| {
        let whole = format!("`{expression}`: {error}");
        let fields: Vec<&str> = expression.split_whitespace().collect();
        if !(5..=6).contains(&fields.len()) {
            return bad(whole);
        }
        // Which field it is: the one without which all is well.
        let is_wrong = |&n: &usize| {
            let mut others = fields.clone();
            others[n] = "*";
            parser.parse(&others.join(" ")).is_ok()
        };
        match (0..fields.len()).find(is_wrong) {
            Some(n) => {
                let name = NAMES[n + NAMES.len() - fields.len()];
                bad(format!("the {name}, `{}`: {error}", fields[n]))
            }
            None => bad(whole),
        }
    })
}

const NAMES: [&str; 6] = [
    "second",
    "minute",
    "hour",
    "day of the month",
    "month",
    "day of the week",
];

fn zone(name: &str) -> Result<Tz, Error> {
    name.parse().map_err(|_| {
        Error::bad(
            "/schedule/tz",
            format!("there is no time zone `{name}`; `Europe/Berlin` and `UTC` are some"),
        )
    })
}

/// What can be written with four digits for the year.
fn in_calendar(place: &str, time: Time) -> Result<Time, Error> {
    const END: i64 = 253_402_300_800_000;
    match time.timestamp_millis() < END {
        true => Ok(time),
        false => Err(Error::bad(place, "that is beyond the year 9999")),
    }
}
// end solution only
