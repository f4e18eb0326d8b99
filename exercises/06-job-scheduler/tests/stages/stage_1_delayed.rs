//! Stage 1: jobs that are due at their time, and claimed once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use job_scheduler::{Error, JobState, NewJob, Schedule, Store, run_id};
use lab::crash::{Crash, Point, walk};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use serde_json::json;

use crate::board::{Board, at, claim, once};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_job_is_due_at_its_time_and_not_before,
        what_is_due_comes_in_order_and_a_page_at_a_time,
        a_job_that_cannot_be_is_refused_with_its_place,
        a_name_is_given_once,
        of_many_who_add_a_name_at_once_one_does,
        a_claim_opens_runs_and_moves_the_job,
        of_many_claimers_each_job_has_one,
        a_claim_that_comes_too_late_changes_nothing,
        adding_is_all_or_nothing_whatever_is_cut,
        claiming_is_all_or_nothing_whatever_is_cut,
        a_run_that_is_there_is_not_made_again,
        a_page_of_claims_takes_one_round_trip,
        a_hundred_thousand_due_jobs_do_not_hold_redis_up.limit_secs(240),
    ]
}

async fn a_job_is_due_at_its_time_and_not_before(lab: Lab) -> Outcome {
    lab.promise("a job with `at` is due at that time, one with `after` so long after it was added; `due` has it from then on and not before, with everything that was asked for");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let job = NewJob {
        payload: json!({"to": "ada", "parts": [], "n": 1.5, "none": null}),
        ..once("letter", 5_000)
    };
    let added = store.add(&job, at(0)).await?;
    ensure!(
        added.next == Some(at(5_000)) && added.state == JobState::Active && added.job == job,
        "`add` returned {added:?}"
    );
    let after = Duration::from_millis(7_000);
    let later = NewJob::new("later", Schedule::After { after }, "mail");
    store.add(&later, at(0)).await?;
    for (now, wanted) in [
        (4_999, vec![]),
        (5_000, vec!["letter"]),
        (6_999, vec!["letter"]),
        (7_000, vec!["letter", "later"]),
    ] {
        let due = store.due(at(now), 10).await?;
        let names: Vec<_> = due.iter().map(|due| due.job.name.as_str()).collect();
        ensure!(
            names == wanted,
            "{now} ms after the jobs were added {names:?} are due; they are due after 5,000 and 7,000 ms"
        );
        if let Some(first) = due.first() {
            ensure!(
                first.job == job && first.at == at(5_000),
                "`due` returned {first:?}, and what was added is {job:?}"
            );
        }
    }
    let due = board.due().await?;
    ensure!(
        due.get("letter") == Some(&at(5_000).timestamp_millis()),
        "the sorted set `{}` has {due:?}; scores are milliseconds since 1970",
        board.names.due()
    );
    Ok(())
}

async fn what_is_due_comes_in_order_and_a_page_at_a_time(lab: Lab) -> Outcome {
    lab.promise("`due` returns at most `max` jobs, those that have been due for longest first, and changes nothing");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    for n in [7, 2, 9, 4, 1, 8, 3, 6, 5, 0] {
        store
            .add(&once(&format!("job-{n}"), 1_000 + n), at(0))
            .await?;
    }
    for _ in 0..2 {
        let due = store.due(at(1_008), 4).await?;
        let names: Vec<_> = due.iter().map(|due| due.job.name.as_str()).collect();
        ensure!(
            names == ["job-0", "job-1", "job-2", "job-3"],
            "nine jobs are due, one after the other from job-0; the first four are said to be {names:?}"
        );
    }
    let all = store.due(at(1_008), 100).await?.len();
    ensure!(
        all == 9,
        "nine of ten jobs are due, and `due` returned {all}"
    );
    Ok(())
}

/// The place of a `BadJob`.
fn place<T: std::fmt::Debug>(what: &str, outcome: Result<T, Error>) -> Result<String, Failure> {
    match outcome {
        Err(Error::BadJob { place, .. }) => Ok(place),
        other => Err(Failure::observed(format!(
            "{what} was to be refused with `Error::BadJob`; what came is {other:?}"
        ))),
    }
}

async fn a_job_that_cannot_be_is_refused_with_its_place(lab: Lab) -> Outcome {
    lab.promise("a job with a name that is none, for a service that was never started, or with a time that has passed is refused with the place, and nothing of it is stored");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let long = "n".repeat(101);
    for name in ["", "a b", "a/b", "ü", "a@1", long.as_str()] {
        let seen = place(
            &format!("a job called `{name}`"),
            store.add(&once(name, 10), at(0)).await,
        )?;
        ensure!(
            seen == "/name",
            "a job called `{name}` was refused at {seen}"
        );
    }
    let unknown = NewJob {
        service: "nobody".to_owned(),
        ..once("job", 10)
    };
    let seen = place(
        "a job for an unknown service",
        store.add(&unknown, at(0)).await,
    )?;
    ensure!(
        seen == "/service",
        "an unknown service was refused at {seen}"
    );
    for (millis, when) in [(-1, "in the past"), (0, "now")] {
        let seen = place(
            &format!("a job {when}"),
            store.add(&once("job", millis), at(0)).await,
        )?;
        ensure!(seen == "/schedule/at", "a job {when} was refused at {seen}");
    }
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{}:*", board.names))
        .query_async(&mut board.direct().await?)
        .await?;
    ensure!(
        keys == [board.names.services()],
        "nothing was accepted, and Redis holds {keys:?}"
    );
    // The name is free, then.
    store.add(&once("job", 10), at(0)).await?;
    Ok(())
}

async fn a_name_is_given_once(lab: Lab) -> Outcome {
    lab.promise("a second job of the same name is `Error::Duplicate`, whatever became of the first, and the first stays as it is");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&once("job", 1_000), at(0)).await?;
    for round in ["waits", "is done"] {
        match store.add(&once("job", 9_000), at(0)).await {
            Err(Error::Duplicate(..)) => {}
            other => fail!("the first job {round}; adding a second of its name: {other:?}"),
        }
        let due = board.due().await?;
        if round == "waits" {
            ensure!(
                due.get("job") == Some(&at(1_000).timestamp_millis()),
                "the first job was due after 1,000 ms, and after a second was refused it is due at {:?}",
                due.get("job")
            );
            store
                .claim(&term, &[claim("job", at(1_000), &[at(1_000)], None)], 3)
                .await?;
        }
    }
    Ok(())
}

async fn of_many_who_add_a_name_at_once_one_does(lab: Lab) -> Outcome {
    lab.promise("of many that add a job of the same name at the same moment, one does, and the others are told that it is there");
    let board = Board::new(&lab).await?;
    board.knows("mail").await?;
    for round in 0..8 {
        let name = format!("job-{round}");
        let adding = (0..8).map(|n| {
            let (board, name) = (board.clone(), name.clone());
            async move {
                let store = board.store().await?;
                let job = once(&name, 1_000 + n);
                Ok::<_, Failure>((n, store.add(&job, at(0)).await))
            }
        });
        let mut winners = Vec::new();
        for added in join_all(adding).await {
            match added? {
                (n, Ok(_)) => winners.push(n),
                (_, Err(Error::Duplicate(..))) => {}
                (_, Err(other)) => fail!("adding a job failed: {other}"),
            }
        }
        let [winner] = winners[..] else {
            fail!(
                "of eight who added `{name}` at once {} were told that it is theirs",
                winners.len()
            );
        };
        let due = board.due().await?;
        ensure!(
            due.get(&name) == Some(&at(1_000 + winner).timestamp_millis()),
            "the one that was accepted is due after {} ms, and in the schedule stands {:?}",
            1_000 + winner,
            due.get(&name)
        );
    }
    Ok(())
}

async fn a_claim_opens_runs_and_moves_the_job(lab: Lab) -> Outcome {
    lab.promise("a claim opens one run for each of its times, to be published at once, and the job is due at `next`; without `next` it is done, and due no more");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&once("job", 1_000), at(0)).await?;
    let times = [at(800), at(900), at(1_000)];
    let claims = [claim("job", at(1_000), &times, Some(at(5_000)))];
    let counted = store.claim(&term, &claims, 3).await?;
    ensure!(counted == 1, "one claim was made, and {counted} counted");
    let due = board.due().await?;
    ensure!(
        due.get("job") == Some(&at(5_000).timestamp_millis()),
        "the job is due next at {}, and in the schedule stands {:?}",
        at(5_000).timestamp_millis(),
        due.get("job")
    );
    let open = board.open().await?;
    for time in times {
        let id = run_id("job", time);
        let Some(when) = open.get(&id) else {
            fail!(
                "the run `{id}` was claimed and is not in `{}`: {open:?}",
                board.names.open()
            );
        };
        ensure!(
            *when <= at(0).timestamp_millis(),
            "the run `{id}` is to be published at {when}, and was to be published at once"
        );
    }
    ensure!(
        open.len() == 3,
        "three runs were claimed, and open are {open:?}"
    );
    store
        .claim(&term, &[claim("job", at(5_000), &[at(5_000)], None)], 3)
        .await?;
    let due = board.due().await?;
    ensure!(
        due.is_empty(),
        "the job has no next time, and is due: {due:?}"
    );
    // A job that misses all its times still moves on.
    store.add(&once("skipped", 1_000), at(0)).await?;
    store
        .claim(&term, &[claim("skipped", at(1_000), &[], None)], 3)
        .await?;
    let open = board.open().await?.len();
    ensure!(open == 4, "a claim without runs opened {}", open as i64 - 4);
    Ok(())
}

async fn of_many_claimers_each_job_has_one(lab: Lab) -> Outcome {
    lab.promise("however many nodes look and claim at the same moment, each job that is due is claimed by one of them");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    const JOBS: usize = 200;
    for n in 0..JOBS {
        store.add(&once(&format!("job-{n}"), 1_000), at(0)).await?;
    }
    let claiming = (0..8).map(|_| {
        let (board, term) = (board.clone(), term.clone());
        tokio::spawn(async move {
            let store = Store::connect(&board.redis.url(), &board.names).await?;
            let mut mine = 0;
            loop {
                let due = store.due(at(2_000), 20).await?;
                if due.is_empty() {
                    return Ok::<_, Failure>(mine);
                }
                let claims: Vec<_> = due
                    .iter()
                    .map(|due| claim(&due.job.name, due.at, &[due.at], None))
                    .collect();
                mine += store.claim(&term, &claims, 3).await?;
            }
        })
    });
    let mut all = 0;
    for claimed in join_all(claiming.collect::<Vec<_>>()).await {
        all += claimed??;
    }
    ensure!(
        all == JOBS,
        "JS06",
        "{JOBS} jobs were due, and {all} claims counted: some node was told that it has what another has"
    );
    let open = board.open().await?.len();
    ensure!(
        open == JOBS,
        "JS06",
        "{JOBS} jobs were claimed, and {open} runs are open"
    );
    Ok(())
}

async fn a_claim_that_comes_too_late_changes_nothing(lab: Lab) -> Outcome {
    lab.promise("a claim counts only if the job is still due at the time that was seen: after it has moved on, or is gone, the claim changes nothing");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&once("job", 1_000), at(0)).await?;
    let first = claim("job", at(1_000), &[at(1_000)], Some(at(2_000)));
    store.claim(&term, std::slice::from_ref(&first), 3).await?;
    let nobody = claim("nobody", at(1_000), &[at(1_000)], Some(at(9_000)));
    let early = claim("job", at(1_999), &[at(1_999)], Some(at(9_000)));
    for late in [first, nobody, early] {
        let counted = store.claim(&term, std::slice::from_ref(&late), 3).await?;
        ensure!(
            counted == 0,
            "JS06",
            "the job is due after 2,000 ms; a claim for {late:?} was said to count"
        );
        let (due, open) = (board.due().await?, board.open().await?);
        ensure!(
            due.len() == 1
                && due.get("job") == Some(&at(2_000).timestamp_millis())
                && open.len() == 1,
            "JS06",
            "after a claim that came too late the schedule has {due:?}, and open are {open:?}"
        );
    }
    Ok(())
}

/// Whether a job is wholly there, or not at all.
async fn adding_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    // What the first call of a script says beforehand is not what is walked along.
    store.add(&once("before", 1_000), at(0)).await?;
    let fault = point.arm(&board.redis);
    let outcome = store.add(&once("job", 1_000), at(0)).await;
    let is_due = board.due().await?.contains_key("job");
    let connection = &mut board.direct().await?;
    let is_listed: Option<f64> = redis::cmd("ZSCORE")
        .arg(board.names.all())
        .arg("job")
        .query_async(connection)
        .await?;
    let is_known: bool = redis::cmd("EXISTS")
        .arg(board.names.job("job"))
        .query_async(connection)
        .await?;
    ensure!(
        is_due == is_known && is_listed.is_some() == is_known,
        "{}: the job's record is {}, in the schedule it is {}, in the list of all it is {}",
        point.blame(&board.redis),
        there(is_known),
        there(is_due),
        there(is_listed.is_some())
    );
    ensure!(
        outcome.is_err() || is_known,
        "{}: `add` succeeded, and there is no job",
        point.blame(&board.redis)
    );
    Ok(fault.has_fired())
}

fn there(is: bool) -> &'static str {
    match is {
        true => "there",
        false => "missing",
    }
}

async fn adding_is_all_or_nothing_whatever_is_cut(lab: Lab) -> Outcome {
    lab.promise("wherever the connection is cut, a job is wholly there or not at all: its record, its time and its place in the list");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| adding_once(walking.clone(), point),
    )
    .await
}

async fn claiming_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    for name in ["before", "job"] {
        store.add(&once(name, 1_000), at(0)).await?;
    }
    let claims = |name: &str| [claim(name, at(1_000), &[at(1_000)], Some(at(2_000)))];
    store.claim(&term, &claims("before"), 3).await?;
    let fault = point.arm(&board.redis);
    let outcome = store.claim(&term, &claims("job"), 3).await;
    let due = board.due().await?.get("job").copied();
    let id = run_id("job", at(1_000));
    let open = board.open().await?.contains_key(&id);
    let known: bool = redis::cmd("EXISTS")
        .arg(board.names.run(&id))
        .query_async(&mut board.direct().await?)
        .await?;
    let blame = point.blame(&board.redis);
    if due == Some(at(2_000).timestamp_millis()) {
        ensure!(
            open && known,
            "JS04",
            "{blame}: the job has moved on to its next time, and its run is lost: its record is {}, its place among the open ones is {}",
            there(known),
            there(open)
        );
    } else {
        ensure!(
            due == Some(at(1_000).timestamp_millis()),
            "JS06",
            "{blame}: the job has fallen out of the schedule: {due:?}"
        );
        ensure!(
            !open && outcome.is_err(),
            "{blame}: the job is still due, and its run is {} among the open ones; the claim: {outcome:?}",
            there(open)
        );
    }
    Ok(fault.has_fired())
}

async fn claiming_is_all_or_nothing_whatever_is_cut(lab: Lab) -> Outcome {
    lab.promise("wherever the connection is cut, a job that is due is either still due, or has moved on and its run is open: never neither");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| claiming_once(walking.clone(), point),
    )
    .await
}

async fn a_run_that_is_there_is_not_made_again(lab: Lab) -> Outcome {
    lab.promise("a run that is open, or that has had its effect, is not made again by a claim for the same time");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&once("job", 1_000), at(0)).await?;
    // The effect of another time of this job has happened, in a former life of the schedule.
    let _: () = redis::cmd("SET")
        .arg(board.names.done(&run_id("job", at(500))))
        .arg("null")
        .query_async(&mut board.direct().await?)
        .await?;
    let times = [at(500), at(1_000)];
    store
        .claim(
            &term,
            &[claim("job", at(1_000), &times, Some(at(2_000)))],
            3,
        )
        .await?;
    let id = run_id("job", at(1_000));
    let later = at(60_000).timestamp_millis();
    let _: u64 = redis::cmd("ZADD")
        .arg(board.names.open())
        .arg(later)
        .arg(&id)
        .query_async(&mut board.direct().await?)
        .await?;
    store
        .claim(
            &term,
            &[claim("job", at(2_000), &times, Some(at(3_000)))],
            3,
        )
        .await?;
    let open = board.open().await?;
    ensure!(
        open.len() == 1 && open.get(&id) == Some(&later),
        "the run for 1,000 ms was open and published, that for 500 ms had had its effect; after claims for both, open are {open:?}"
    );
    Ok(())
}

async fn a_page_of_claims_takes_one_round_trip(lab: Lab) -> Outcome {
    lab.promise("a hundred claims take one round trip, and looking for them takes one");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    for n in 0..300 {
        store.add(&once(&format!("job-{n}"), 1_000), at(0)).await?;
    }
    let mut least = usize::MAX;
    for _ in 0..3 {
        let before = board.redis.proxy().round_trips();
        let due = store.due(at(2_000), 100).await?;
        let claims: Vec<_> = due
            .iter()
            .map(|due| claim(&due.job.name, due.at, &[due.at], None))
            .collect();
        let counted = store.claim(&term, &claims, 3).await?;
        ensure!(
            counted == 100,
            "a hundred claims were made, and {counted} counted"
        );
        // The first time the scripts have to be loaded.
        least = least.min(board.redis.proxy().round_trips() - before);
    }
    ensure!(
        least <= 3,
        "looking for a hundred jobs and claiming them took {least} round trips"
    );
    Ok(())
}

async fn a_hundred_thousand_due_jobs_do_not_hold_redis_up(lab: Lab) -> Outcome {
    lab.promise("a hundred thousand due jobs are worked off a page at a time: no command holds Redis up for longer than 10 ms");
    const JOBS: usize = 100_000;
    let own = lab.own_redis().await?;
    let board = Board::with(&lab, (*own).clone()).await?;
    let store = Arc::new(board.store().await?);
    let term = board.term("one", 1).await?;
    let adding: Vec<_> = (0..50)
        .map(|part| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in (part..JOBS).step_by(50) {
                    store.add(&once(&format!("job-{n}"), 1_000), at(0)).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for added in adding {
        added.await??;
    }
    let connection = &mut board.direct().await?;
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "slowlog-log-slower-than", "10000"])
        .query_async(connection)
        .await?;
    // A machine that is busy elsewhere makes a quick command slow now and then. A command that does too much
    // is slow each time, or very slow; and what grows with the backlog is quick at its end. So the quietest
    // of those parts counts in which much is left.
    const FEW: usize = 20;
    const LONG: u64 = 100_000;
    let mut quietest = (usize::MAX, u64::MAX);
    let mut counted = 0;
    let mut seen = HashSet::new();
    for part in 0..5 {
        let _: () = redis::cmd("SLOWLOG")
            .arg("RESET")
            .query_async(connection)
            .await?;
        for _ in 0..JOBS / 100 / 5 {
            let due = store.due(at(2_000), 100).await?;
            seen.extend(due.iter().map(|due| due.job.name.clone()));
            let claims: Vec<_> = due
                .iter()
                .map(|due| claim(&due.job.name, due.at, &[due.at], None))
                .collect();
            counted += store.claim(&term, &claims, 3).await?;
        }
        let slow: Vec<(u64, u64, u64)> = redis::cmd("SLOWLOG")
            .arg(&["GET", "128"])
            .query_async::<Vec<Vec<redis::Value>>>(connection)
            .await?
            .iter()
            .filter_map(|entry| {
                let number = |n: usize| redis::from_redis_value_ref(entry.get(n)?).ok();
                Some((number(0)?, number(1)?, number(2)?))
            })
            .collect();
        let longest = slow.iter().map(|(_, _, micros)| *micros).max();
        if part < 3 {
            quietest = quietest.min((slow.len(), longest.unwrap_or_default()));
        }
    }
    ensure!(
        counted == JOBS && seen.len() == JOBS,
        "{JOBS} jobs were due; {} were seen, and {counted} claims counted",
        seen.len()
    );
    let (slow, longest) = quietest;
    ensure!(
        slow < FEW && longest < LONG,
        "JS15",
        "in each of the first three fifths of the work, 400 commands or more, at least {slow} held Redis up for longer than 10 ms, one of them for {} ms",
        longest / 1_000
    );
    Ok(())
}
