//! Stage 2: cron expressions and intervals, in the time zone of the one who wrote them.

use std::time::Duration;

use job_scheduler::{Error, NewJob, Schedule, first, next, time};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use rand::RngExt as _;

use crate::board::{Board, at, cron, of_every};
use crate::oracle::Expression;

pub fn checks() -> Vec<Check> {
    lab::checks![
        an_expression_names_its_times,
        seconds_may_come_first,
        a_time_is_that_of_the_clock_on_the_wall,
        a_clock_that_is_put_forward_leaves_no_daily_job_out,
        a_clock_that_is_put_back_runs_no_daily_job_twice,
        months_end_and_leap_days_come,
        thousands_of_expressions_agree_with_another_opinion.limit_secs(240),
        an_interval_counts_from_the_time_before,
        the_next_time_is_later_than_the_last,
        an_expression_that_is_none_is_refused_with_its_field,
        a_time_zone_that_is_none_is_refused,
        a_time_beyond_all_calendars_is_refused,
        a_refused_schedule_leaves_nothing_behind,
    ]
}

fn instant(text: &str) -> Result<time::Time, Failure> {
    text.parse()
        .map_err(|error| Failure::observed(format!("`{text}` is no time: {error}")))
}

/// The times that follow, one from the other.
fn expect(schedule: &Schedule, after: &str, wanted: &[&str]) -> Result<(), Failure> {
    expect_or(schedule, after, wanted, None)
}

fn expect_or(
    schedule: &Schedule,
    after: &str,
    wanted: &[&str],
    code: Option<&'static str>,
) -> Result<(), Failure> {
    let mut now = instant(after)?;
    for (n, wanted) in wanted.iter().enumerate() {
        let seen = match n {
            // The first of a job that is added then is the same question.
            0 => first(schedule, now).ok(),
            _ => next(schedule, now),
        };
        let wanted = instant(wanted)?;
        ensure!(
            seen == Some(wanted),
            code,
            "{}: after {} comes {}, and what came is {}",
            shown(schedule),
            time::text(now),
            time::text(wanted),
            seen.map_or("nothing".to_owned(), time::text)
        );
        now = wanted;
    }
    Ok(())
}

fn shown(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Cron { cron, tz } => format!("`{cron}` in {tz}"),
        other => format!("{other:?}"),
    }
}

async fn an_expression_names_its_times(lab: Lab) -> Outcome {
    lab.promise("the next time of a cron expression is the first later one that its five fields name: minute, hour, day of the month, month, day of the week; names of months and days are understood");
    let after = "2026-11-25T12:20:30.500Z";
    for (expression, wanted) in [
        (
            "* * * * *",
            ["2026-11-25T12:21:00Z", "2026-11-25T12:22:00Z"],
        ),
        (
            "*/20 * * * *",
            ["2026-11-25T12:40:00Z", "2026-11-25T13:00:00Z"],
        ),
        (
            "20 12 * * *",
            ["2026-11-26T12:20:00Z", "2026-11-27T12:20:00Z"],
        ),
        (
            "0 9-17/4 * * *",
            ["2026-11-25T13:00:00Z", "2026-11-25T17:00:00Z"],
        ),
        (
            "30 8 * * MON-FRI",
            ["2026-11-26T08:30:00Z", "2026-11-27T08:30:00Z"],
        ),
        (
            "0 0 1 JAN,JUL *",
            ["2027-01-01T00:00:00Z", "2027-07-01T00:00:00Z"],
        ),
        (
            "0 12 * * 0",
            ["2026-11-29T12:00:00Z", "2026-12-06T12:00:00Z"],
        ),
        (
            "0 12 * * 7",
            ["2026-11-29T12:00:00Z", "2026-12-06T12:00:00Z"],
        ),
        // A day of the month and a day of the week: either will do.
        (
            "0 0 13 * FRI",
            ["2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z"],
        ),
    ] {
        expect(&cron(expression, "UTC"), after, &wanted)?;
    }
    Ok(())
}

async fn seconds_may_come_first(lab: Lab) -> Outcome {
    lab.promise("an expression of six fields begins with the second");
    let after = "2026-11-25T12:00:00Z";
    expect(
        &cron("*/20 * * * * *", "UTC"),
        after,
        &[
            "2026-11-25T12:00:20Z",
            "2026-11-25T12:00:40Z",
            "2026-11-25T12:01:00Z",
        ],
    )?;
    expect(
        &cron("15 30 9 * * *", "Europe/Berlin"),
        after,
        &["2026-11-26T08:30:15Z", "2026-11-27T08:30:15Z"],
    )
}

async fn a_time_is_that_of_the_clock_on_the_wall(lab: Lab) -> Outcome {
    lab.promise(
        "hours and days are those of the job's time zone, and not those of the machine or of UTC",
    );
    let after = "2026-11-25T12:00:00Z";
    for (expression, tz, wanted) in [
        (
            "0 12 * * *",
            "Europe/Berlin",
            ["2026-11-26T11:00:00Z", "2026-11-27T11:00:00Z"],
        ),
        (
            "0 12 * * *",
            "America/New_York",
            ["2026-11-25T17:00:00Z", "2026-11-26T17:00:00Z"],
        ),
        (
            "0 0 * * *",
            "Asia/Kathmandu",
            ["2026-11-25T18:15:00Z", "2026-11-26T18:15:00Z"],
        ),
        (
            "0 6 * * *",
            "Pacific/Kiritimati",
            ["2026-11-25T16:00:00Z", "2026-11-26T16:00:00Z"],
        ),
        // Monday begins on Sunday, in UTC.
        (
            "30 0 * * MON",
            "Australia/Lord_Howe",
            ["2026-11-29T13:30:00Z", "2026-12-06T13:30:00Z"],
        ),
        (
            "0 0 1 * *",
            "Pacific/Auckland",
            ["2026-11-30T11:00:00Z", "2026-12-31T11:00:00Z"],
        ),
    ] {
        expect_or(&cron(expression, tz), after, &wanted, Some("JS10"))?;
    }
    // Summer and winter are an hour apart.
    expect_or(
        &cron("0 12 * * *", "Europe/Berlin"),
        "2026-03-27T12:00:00Z",
        &[
            "2026-03-28T11:00:00Z",
            "2026-03-29T10:00:00Z",
            "2026-03-30T10:00:00Z",
        ],
        Some("JS10"),
    )
}

async fn a_clock_that_is_put_forward_leaves_no_daily_job_out(lab: Lab) -> Outcome {
    lab.promise("where the clock is put forward, a job at one time of the day that the clock leaves out runs at the first moment after; one with several times passes over those that are left out");
    // On 29 March 2026 the clock in Berlin goes from 02:00 to 03:00, at 01:00 UTC.
    let after = "2026-03-28T12:00:00Z";
    expect(
        &cron("30 2 * * *", "Europe/Berlin"),
        after,
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    )?;
    expect(
        &cron("*/30 * * * *", "Europe/Berlin"),
        "2026-03-29T00:30:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    )?;
    expect(
        &cron("15,45 2 * * *", "Europe/Berlin"),
        after,
        &["2026-03-30T00:15:00Z", "2026-03-30T00:45:00Z"],
    )?;
    // Half an hour, on Lord Howe.
    expect(
        &cron("10 2 * * *", "Australia/Lord_Howe"),
        "2026-10-03T12:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"],
    )
}

async fn a_clock_that_is_put_back_runs_no_daily_job_twice(lab: Lab) -> Outcome {
    lab.promise("where the clock is put back, a job at one time of the day runs once, at the first of the two moments; one with several times runs at both");
    // On 25 October 2026 the clock in Berlin goes from 03:00 to 02:00, at 01:00 UTC.
    expect(
        &cron("30 2 * * *", "Europe/Berlin"),
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    )?;
    expect(
        &cron("0,30 2 * * *", "Europe/Berlin"),
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:00:00Z",
        ],
    )?;
    expect(
        &cron("30 1 * * *", "America/New_York"),
        "2026-10-31T12:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    )
}

async fn months_end_and_leap_days_come(lab: Lab) -> Outcome {
    lab.promise("the 31st is left out of months that have none, `L` is the last day, and 29 February comes every four years");
    let after = "2026-01-31T12:00:00Z";
    expect(
        &cron("0 0 31 * *", "UTC"),
        after,
        &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"],
    )?;
    expect(
        &cron("0 0 L * *", "UTC"),
        after,
        &["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"],
    )?;
    expect(
        &cron("0 0 29 2 *", "UTC"),
        after,
        &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
    )?;
    expect(
        &cron("0 0 * * FRI#L", "UTC"),
        after,
        &["2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"],
    )
}

async fn thousands_of_expressions_agree_with_another_opinion(lab: Lab) -> Outcome {
    lab.promise("for thousands of expressions, time zones and moments, many of them near a change of the clocks, the next time is the one that a search minute by minute finds");
    let mut random = lab.rng();
    let zones = [
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "America/Santiago",
        "UTC",
    ];
    // Moments at which clocks change somewhere, in 2026, and any others.
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-04-04T15:00:00Z",
        "2026-02-15T02:00:00Z",
        "2026-04-05T03:00:00Z",
    ];
    let mut asked = 0;
    for n in 0..1_500 {
        let expression = Expression::any(&mut random);
        let tz = zones[random.random_range(0..zones.len())];
        let zone = jiff::tz::TimeZone::get(tz)
            .map_err(|error| Failure::infrastructure(error.to_string()))?;
        let change = instant(changes[random.random_range(0..changes.len())])?.timestamp_millis();
        let mut after = match n % 3 {
            0 => change + random.random_range(-300 * 86_400_000_i64..300 * 86_400_000),
            _ => change + random.random_range(-4 * 3_600_000_i64..4 * 3_600_000),
        };
        let schedule = cron(&expression.text(), tz);
        for _ in 0..3 {
            // Beyond some weeks the other opinion takes too long.
            let Some(wanted) = expression.next(&zone, after, 20) else {
                break;
            };
            let seen = next(&schedule, time::from_millis(after));
            ensure!(
                seen == Some(time::from_millis(wanted)),
                "{}: after {} comes {}, and what came is {}",
                shown(&schedule),
                time::text(time::from_millis(after)),
                time::text(time::from_millis(wanted)),
                seen.map_or("nothing".to_owned(), time::text)
            );
            asked += 1;
            after = wanted;
        }
    }
    ensure!(asked > 2_000, "only {asked} questions had an answer");
    lab.history()
        .note("lab", &format!("{asked} questions were asked"));
    Ok(())
}

async fn an_interval_counts_from_the_time_before(lab: Lab) -> Outcome {
    lab.promise("with `every` the first time is so long after the job was added, and each next one so long after the one before, in exact milliseconds");
    let schedule = of_every(90_500);
    ensure!(
        first(&schedule, at(7)).ok() == Some(at(90_507)),
        "added at 7 ms, a job every 90.5 s is first due at {:?}",
        first(&schedule, at(7)).map(time::text)
    );
    let mut now = at(90_507);
    for n in 2..50 {
        let seen = next(&schedule, now);
        ensure!(
            seen == Some(at(7 + n * 90_500)),
            "its time number {n} is {:?}",
            seen.map(time::text)
        );
        now = at(7 + n * 90_500);
    }
    ensure!(
        next(&Schedule::At { at: at(5) }, at(5)).is_none(),
        "a job with `at` runs once, and has a next time"
    );
    let after = Duration::from_millis(5);
    ensure!(
        next(&Schedule::After { after }, at(5)).is_none(),
        "a job with `after` runs once, and has a next time"
    );
    Ok(())
}

async fn the_next_time_is_later_than_the_last(lab: Lab) -> Outcome {
    lab.promise(
        "the next time is later than the one before, also when that is given to the millisecond",
    );
    for expression in ["* * * * *", "* * * * * *", "0 0 * * *"] {
        let schedule = cron(expression, "Europe/Berlin");
        for millis in [0, 1, 499, 500, 999, 59_999, 60_000, 60_001] {
            let seen = next(&schedule, at(millis));
            ensure!(
                seen.is_some_and(|seen| seen > at(millis) && seen.timestamp_millis() % 1_000 == 0),
                "{}: after {} comes {:?}",
                shown(&schedule),
                time::text(at(millis)),
                seen.map(time::text)
            );
        }
    }
    Ok(())
}

async fn an_expression_that_is_none_is_refused_with_its_field(lab: Lab) -> Outcome {
    lab.promise("an expression that is none is refused at `/schedule/cron`, and the reason quotes the field that is wrong, if it is one alone");
    for (expression, field) in [
        ("", ""),
        ("* * * *", ""),
        ("* * * * * * *", ""),
        ("61 * * * *", "61"),
        ("0 24 * * *", "24"),
        ("0 0 32 * *", "32"),
        ("0 0 * 13 *", "13"),
        ("0 0 * * MOO", "MOO"),
        ("0 0 * * 8", "8"),
        ("5-1 * * * *", "5-1"),
        ("*/0 * * * *", "*/0"),
        ("hourly", ""),
        ("0 99 * * * *", "99"),
        // It is an expression, and names no time that will ever come.
        ("0 0 30 2 *", ""),
    ] {
        match first(&cron(expression, "UTC"), at(0)) {
            Err(Error::BadJob { place, why }) => {
                ensure!(
                    place == "/schedule/cron",
                    "`{expression}` was refused at {place}"
                );
                ensure!(
                    why.to_uppercase().contains(field),
                    "`{expression}` was refused because \"{why}\", which does not quote `{field}`"
                );
            }
            Err(other) => fail!("`{expression}` was refused with another error: {other}"),
            Ok(time) => fail!("`{expression}` was accepted, for {}", time::text(time)),
        }
    }
    Ok(())
}

async fn a_time_zone_that_is_none_is_refused(lab: Lab) -> Outcome {
    lab.promise("a time zone that is none is refused at `/schedule/tz`, with its name");
    for tz in ["Europe/Atlantis", "", "CEST!", "+02:00"] {
        match first(&cron("0 0 * * *", tz), at(0)) {
            Err(Error::BadJob { place, why }) if place == "/schedule/tz" && why.contains(tz) => {}
            other => fail!("the time zone `{tz}`: {other:?}"),
        }
    }
    Ok(())
}

async fn a_time_beyond_all_calendars_is_refused(lab: Lab) -> Outcome {
    lab.promise("a duration that leads beyond the year 9999 is refused with its place, and so is an interval of less than 100 ms");
    let long = Duration::from_secs(u64::MAX / 2_000);
    for (schedule, wanted) in [
        (Schedule::After { after: long }, "/schedule/after"),
        (Schedule::Every { every: long }, "/schedule/every"),
        (of_every(99), "/schedule/every"),
        (of_every(0), "/schedule/every"),
    ] {
        match first(&schedule, at(0)) {
            Err(Error::BadJob { place, .. }) if place == wanted => {}
            other => fail!("{schedule:?}: {other:?}"),
        }
    }
    ensure!(
        first(&of_every(100), at(0)).is_ok(),
        "an interval of 100 ms was refused"
    );
    Ok(())
}

async fn a_refused_schedule_leaves_nothing_behind(lab: Lab) -> Outcome {
    lab.promise("a job whose schedule is refused is not stored: its name stays free");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    for schedule in [
        cron("61 * * * *", "UTC"),
        cron("* * * * *", "Nowhere"),
        of_every(1),
    ] {
        let job = NewJob::new("job", schedule, "mail");
        ensure!(
            store.add(&job, at(0)).await.is_err(),
            "{job:?} was accepted"
        );
    }
    ensure!(
        board.due().await?.is_empty(),
        "something is due: {:?}",
        board.due().await?
    );
    let good = NewJob::new("job", cron("0 12 * * *", "Asia/Kathmandu"), "mail");
    let added = store.add(&good, at(0)).await?;
    let wanted = next(&good.schedule, at(0));
    ensure!(
        added.next == wanted && store.due(wanted.unwrap_or(at(0)), 9).await?.len() == 1,
        "a good job of the same name was added: {added:?}"
    );
    Ok(())
}
