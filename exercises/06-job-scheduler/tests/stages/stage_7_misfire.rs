//! Stage 7: what becomes of times that passed without a run.

use std::time::Duration;

use job_scheduler::{Clock, Misfire, NewJob, NodeOptions, Plan, Schedule, next, plan, time};
use lab::{Check, Lab, Outcome, ensure};
use rand::RngExt as _;

use crate::board::{Board, at, cron, of_every};

pub fn checks() -> Vec<Check> {
    lab::checks![
        what_is_on_time_runs_under_every_policy,
        skip_runs_nothing_that_is_late,
        once_makes_up_for_the_last,
        catch_up_makes_up_for_the_last_ones_up_to_its_cap,
        late_and_on_time_are_told_apart_to_the_millisecond,
        a_job_that_runs_once_follows_its_policy,
        the_next_time_is_the_first_after_now,
        a_long_gap_is_not_counted_through,
        a_gap_over_a_change_of_the_clocks_is_right,
        thousands_of_plans_agree_with_counting,
        a_node_that_wakes_after_a_gap_follows_the_policy,
    ]
}

const LATE: Duration = Duration::from_secs(10);

fn expect(
    what: &str,
    (schedule, misfire): (&Schedule, Misfire),
    (due, now): (i64, i64),
    runs: &[i64],
    next: Option<i64>,
) -> Outcome {
    let seen = plan(schedule, misfire, at(due), at(now), LATE);
    let wanted = Plan {
        runs: runs.iter().map(|millis| at(*millis)).collect(),
        next: next.map(at),
    };
    let short = |plan: &Plan| {
        let millis = |time: &time::Time| time.timestamp_millis() - at(0).timestamp_millis();
        let runs: Vec<_> = plan.runs.iter().map(millis).collect();
        format!(
            "runs at {runs:?} ms, next {:?}",
            plan.next.as_ref().map(millis)
        )
    };
    ensure!(
        seen == wanted,
        "{what}: {schedule:?} with {misfire:?}, due since {due} ms, at {now} ms, late after 10 s: {}; it was to be {}",
        short(&seen),
        short(&wanted)
    );
    Ok(())
}

const ALL: [Misfire; 4] = [
    Misfire::Skip,
    Misfire::Once,
    Misfire::CatchUp(0),
    Misfire::CatchUp(3),
];

async fn what_is_on_time_runs_under_every_policy(lab: Lab) -> Outcome {
    lab.promise("all times that are not later than `late` run, oldest first, whatever the policy");
    let second = of_every(1_000);
    for misfire in ALL {
        expect(
            "one time",
            (&second, misfire),
            (5_000, 5_000),
            &[5_000],
            Some(6_000),
        )?;
        expect(
            "a little late",
            (&second, misfire),
            (5_000, 5_999),
            &[5_000],
            Some(6_000),
        )?;
        expect(
            "a handover of some seconds",
            (&second, misfire),
            (5_000, 8_400),
            &[5_000, 6_000, 7_000, 8_000],
            Some(9_000),
        )?;
    }
    Ok(())
}

async fn skip_runs_nothing_that_is_late(lab: Lab) -> Outcome {
    lab.promise("`skip` runs none of the times that are too late");
    let minute = of_every(60_000);
    let skip = Misfire::Skip;
    expect(
        "an hour",
        (&minute, skip),
        (0, 3_630_000),
        &[],
        Some(3_660_000),
    )?;
    expect(
        "an hour, and one on time",
        (&minute, skip),
        (0, 3_605_000),
        &[3_600_000],
        Some(3_660_000),
    )
}

async fn once_makes_up_for_the_last(lab: Lab) -> Outcome {
    lab.promise("`once` runs the last of the times that are too late, and what is on time");
    let minute = of_every(60_000);
    let once = Misfire::Once;
    expect(
        "an hour",
        (&minute, once),
        (0, 3_630_000),
        &[3_600_000],
        Some(3_660_000),
    )?;
    expect(
        "an hour, and one on time",
        (&minute, once),
        (0, 3_605_000),
        &[3_540_000, 3_600_000],
        Some(3_660_000),
    )?;
    expect("one", (&minute, once), (0, 30_000), &[0], Some(60_000))
}

async fn catch_up_makes_up_for_the_last_ones_up_to_its_cap(lab: Lab) -> Outcome {
    lab.promise("`catch_up` runs the last of the times that are too late, as many as it says, oldest first, and what is on time");
    let minute = of_every(60_000);
    let seen = plan(
        &minute,
        Misfire::CatchUp(1_000),
        at(0),
        at(86_400_000 * 30),
        LATE,
    );
    ensure!(
        seen.runs.len() == 1_001 || seen.runs.len() == 1_000,
        "JS11",
        "a month of minutes was missed, the cap is 1,000, and {} runs are planned",
        seen.runs.len()
    );
    for (most, runs) in [
        (0, vec![]),
        (1, vec![3_600_000]),
        (3, vec![3_480_000, 3_540_000, 3_600_000]),
    ] {
        let misfire = Misfire::CatchUp(most);
        expect(
            "an hour",
            (&minute, misfire),
            (0, 3_630_000),
            &runs,
            Some(3_660_000),
        )?;
    }
    expect(
        "fewer than the cap",
        (&minute, Misfire::CatchUp(50)),
        (0, 90_000),
        &[0, 60_000],
        Some(120_000),
    )?;
    Ok(())
}

async fn late_and_on_time_are_told_apart_to_the_millisecond(lab: Lab) -> Outcome {
    lab.promise("a time exactly `late` ago is on time, and one a millisecond earlier is not");
    let minute = of_every(60_000);
    expect(
        "exactly",
        (&minute, Misfire::Skip),
        (0, 10_000),
        &[0],
        Some(60_000),
    )?;
    expect(
        "a millisecond more",
        (&minute, Misfire::Skip),
        (0, 10_001),
        &[],
        Some(60_000),
    )?;
    expect(
        "a time that is now",
        (&minute, Misfire::Skip),
        (0, 60_000),
        &[60_000],
        Some(120_000),
    )?;
    let seen = plan(&minute, Misfire::Skip, at(0), at(0), Duration::ZERO);
    ensure!(seen.runs == [at(0)], "late after 0 s, due now: {seen:?}");
    let seen = plan(&minute, Misfire::Skip, at(0), at(1), Duration::ZERO);
    ensure!(
        seen.runs.is_empty(),
        "late after 0 s, due a millisecond ago: {seen:?}"
    );
    Ok(())
}

async fn a_job_that_runs_once_follows_its_policy(lab: Lab) -> Outcome {
    lab.promise("a job with `at` or `after` runs if it is on time; if it is late, its policy decides; it has no next time");
    for schedule in [
        Schedule::At { at: at(0) },
        Schedule::After {
            after: Duration::from_secs(7),
        },
    ] {
        for misfire in ALL {
            expect("on time", (&schedule, misfire), (0, 3_000), &[0], None)?;
            let runs: &[i64] = match misfire {
                Misfire::Skip | Misfire::CatchUp(0) => &[],
                _ => &[0],
            };
            expect(
                "an hour late",
                (&schedule, misfire),
                (0, 3_600_000),
                runs,
                None,
            )?;
        }
    }
    Ok(())
}

async fn the_next_time_is_the_first_after_now(lab: Lab) -> Outcome {
    lab.promise(
        "the next time is the first after now, in step with the times before: a gap shifts nothing",
    );
    let odd = of_every(7_001);
    for now in [0, 7_000, 7_001, 100_000, 1_000_000] {
        let seen = plan(&odd, Misfire::Once, at(0), at(now), LATE).next;
        let wanted = at((now / 7_001 + 1) * 7_001);
        ensure!(
            seen == Some(wanted),
            "every 7.001 s since 0, at {now} ms: next is {:?}",
            seen.map(time::text)
        );
    }
    let daily = cron("0 9 * * *", "Europe/Berlin");
    let due = "2026-11-20T08:00:00Z".parse().unwrap_or_default();
    let now = "2026-11-25T08:00:00Z".parse().unwrap_or_default();
    let seen = plan(&daily, Misfire::Once, due, now, LATE);
    let texts: Vec<_> = seen.runs.iter().map(|run| time::text(*run)).collect();
    ensure!(
        texts == ["2026-11-24T08:00:00.000Z", "2026-11-25T08:00:00.000Z"]
            && seen.next.map(time::text).as_deref() == Some("2026-11-26T08:00:00.000Z"),
        "a daily job, due since the 20th, on the 25th: {texts:?}, next {:?}",
        seen.next.map(time::text)
    );
    Ok(())
}

async fn a_long_gap_is_not_counted_through(lab: Lab) -> Outcome {
    lab.promise("a gap of a hundred years costs no more than one of a minute");
    let year = 31_557_600_000_i64;
    for schedule in [
        of_every(100),
        cron("* * * * * *", "Europe/Berlin"),
        cron("* * * * *", "UTC"),
    ] {
        for misfire in [Misfire::Skip, Misfire::Once, Misfire::CatchUp(100)] {
            let now = at(100 * year);
            let asked = schedule.clone();
            let planning =
                tokio::task::spawn_blocking(move || plan(&asked, misfire, at(0), now, LATE));
            let seen = tokio::time::timeout(lab.deadline(), planning).await;
            let Ok(seen) = seen else {
                lab::fail!(
                    "JS11",
                    "{schedule:?} with {misfire:?}, due for a hundred years: no plan after {:.0?}",
                    lab.deadline()
                );
            };
            let seen = seen?;
            ensure!(
                seen.next.is_some_and(|next| next > now) && seen.runs.iter().all(|run| *run <= now),
                "{schedule:?} with {misfire:?}, due for a hundred years: next is {:?}",
                seen.next.map(time::text)
            );
        }
    }
    Ok(())
}

async fn a_gap_over_a_change_of_the_clocks_is_right(lab: Lab) -> Outcome {
    lab.promise(
        "times that are made up for are the job's times, also across a change of the clocks",
    );
    for (expression, due, now) in [
        ("30 2 * * *", "2026-03-26T01:30:00Z", "2026-04-01T12:00:00Z"),
        ("30 2 * * *", "2026-10-22T00:30:00Z", "2026-10-28T12:00:00Z"),
        (
            "0,30 2 * * *",
            "2026-10-22T00:00:00Z",
            "2026-10-28T12:00:00Z",
        ),
        (
            "*/20 * * * *",
            "2026-10-25T00:00:00Z",
            "2026-10-25T02:10:00Z",
        ),
        (
            "*/20 * * * *",
            "2026-03-29T00:00:00Z",
            "2026-03-29T02:10:00Z",
        ),
    ] {
        let schedule = cron(expression, "Europe/Berlin");
        let (due, now) = (
            due.parse().unwrap_or_default(),
            now.parse().unwrap_or_default(),
        );
        let seen = plan(&schedule, Misfire::CatchUp(100), due, now, LATE);
        let mut wanted = vec![due];
        while let Some(time) = next(&schedule, wanted[wanted.len() - 1]).filter(|time| *time <= now)
        {
            wanted.push(time);
        }
        let text = |times: &[time::Time]| times.iter().map(|t| time::text(*t)).collect::<Vec<_>>();
        ensure!(
            seen.runs == wanted,
            "`{expression}` in Berlin, from {} to {}: made up for were {:?}, and its times are {:?}",
            time::text(due),
            time::text(now),
            text(&seen.runs),
            text(&wanted)
        );
    }
    Ok(())
}

async fn thousands_of_plans_agree_with_counting(lab: Lab) -> Outcome {
    lab.promise("for thousands of schedules, gaps and policies the plan is the one that counting from the front makes");
    let mut random = lab.rng();
    for _ in 0..3_000 {
        let schedule = match random.random_range(0..3) {
            0 => of_every(random.random_range(100..90_000)),
            1 => cron(
                [
                    "* * * * *",
                    "*/7 * * * *",
                    "5,50 */3 * * *",
                    "*/30 * * * * *",
                ][random.random_range(0..4)],
                ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe"][random.random_range(0..3)],
            ),
            _ => Schedule::At { at: at(0) },
        };
        let misfire = match random.random_range(0..3) {
            0 => Misfire::Skip,
            1 => Misfire::Once,
            _ => Misfire::CatchUp(random.random_range(0..12)),
        };
        let due = match &schedule {
            Schedule::At { .. } => at(0),
            Schedule::Every { .. } => at(random.random_range(0..100_000)),
            _ => next(&schedule, at(random.random_range(0..100_000_000))).unwrap_or(at(0)),
        };
        let gap = match random.random_range(0..3) {
            0 => random.random_range(0..2_000),
            1 => random.random_range(0..60_000),
            _ => random.random_range(0..2_000_000),
        };
        let late = Duration::from_millis(random.random_range(0..30_000));
        let now = time::from_millis(due.timestamp_millis() + gap);
        let mut times = vec![due];
        let mut following = None;
        while let Some(time) = next(&schedule, times[times.len() - 1]) {
            if time > now {
                following = Some(time);
                break;
            }
            times.push(time);
        }
        let is_late = |time: &time::Time| {
            (now - *time).num_milliseconds() > i64::try_from(late.as_millis()).unwrap_or(i64::MAX)
        };
        let missed: Vec<_> = times.iter().copied().filter(is_late).collect();
        let most = match misfire {
            Misfire::Skip => 0,
            Misfire::Once => 1,
            Misfire::CatchUp(most) => most as usize,
        };
        let mut runs = missed[missed.len().saturating_sub(most)..].to_vec();
        runs.extend(times.iter().copied().filter(|time| !is_late(time)));
        if runs.len() > 900 {
            continue;
        }
        let wanted = Plan {
            runs,
            next: following,
        };
        let seen = plan(&schedule, misfire, due, now, late);
        ensure!(
            seen == wanted,
            "{schedule:?} with {misfire:?}, due since {}, at {}, late after {late:?}: {seen:?}, and counting makes {wanted:?}",
            time::text(due),
            time::text(now)
        );
    }
    Ok(())
}

async fn a_node_that_wakes_after_a_gap_follows_the_policy(lab: Lab) -> Outcome {
    lab.promise("when nobody has led for an hour, the next leader runs what each job's policy says, and goes on from there");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let clock = Clock::standing(at(0));
    for (name, misfire) in [
        ("skip", Misfire::Skip),
        ("once", Misfire::Once),
        ("some", Misfire::CatchUp(3)),
    ] {
        let job = NewJob {
            misfire,
            ..NewJob::new(name, of_every(60_000), "mail")
        };
        store.add(&job, at(0)).await?;
    }
    clock.set(at(3_630_000));
    let node = board.node_with(NodeOptions {
        clock: clock.clone(),
        ..board.node_options("one")
    });
    let mut came = Vec::new();
    for _ in 0..4 {
        let run = board.next_run("mail").await?;
        came.push((
            run.job,
            run.scheduled_for.timestamp_millis() - at(0).timestamp_millis(),
        ));
    }
    came.sort();
    let wanted = [
        ("once", 3_600_000),
        ("some", 3_480_000),
        ("some", 3_540_000),
        ("some", 3_600_000),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(job, at)| ((*job).to_owned(), *at))
        .collect();
    ensure!(
        came == wanted,
        "after an hour's gap came {came:?}, and were to come {wanted:?}"
    );
    // Every one of them is due again with the next minute.
    clock.set(at(3_660_000));
    let mut came = Vec::new();
    for _ in 0..3 {
        let run = board.next_run("mail").await?;
        came.push((
            run.job,
            run.scheduled_for.timestamp_millis() - at(0).timestamp_millis(),
        ));
    }
    came.sort();
    ensure!(
        came.iter().all(|(_, at)| *at == 3_660_000) && came.len() == 3,
        "a minute later came {came:?}"
    );
    node.stop().await?;
    let more = board.drain("mail").await?;
    ensure!(more.is_empty(), "JS11", "more came: {more:?}");
    Ok(())
}
