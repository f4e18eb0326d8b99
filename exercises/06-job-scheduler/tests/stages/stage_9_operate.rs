//! Stage 9: looking, pausing, resuming, deleting; over the library, HTTP and the page.

use std::time::Duration;

use job_scheduler::{Error, JobState, Misfire, NewJob, RunState, Schedule, next, time};
use lab::clients::http::Request;
use lab::{Check, Failure, Lab, Outcome, ensure};
use serde_json::{Value, json};

use crate::board::{Board, at, claim, cron, every, of_every, once, soon};
use crate::front::{Front, answer};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_job_is_shown_as_it_stands,
        jobs_come_in_order_and_a_page_at_a_time,
        a_history_has_the_latest_first,
        a_paused_job_is_not_due_and_its_open_runs_end,
        a_resumed_job_goes_on_from_now,
        pausing_and_claiming_at_once_leave_no_contradiction,
        a_deleted_job_is_gone_and_its_name_is_free,
        what_is_done_or_missing_is_said,
        listing_does_not_walk_through_everything_there_is,
        the_api_adds_shows_pauses_and_deletes,
        a_bad_job_is_refused_over_http_with_its_place,
        the_api_runs_workflows,
        the_api_says_who_leads_and_what_is_wrong,
        the_page_shows_jobs_and_a_handover.limit_secs(180),
    ]
}

async fn a_job_is_shown_as_it_stands(lab: Lab) -> Outcome {
    lab.promise("`job` shows a job with its state and its next time, and nothing if there is none");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    let job = NewJob {
        payload: json!({"list": [], "object": {}, "n": 0.1}),
        misfire: Misfire::CatchUp(7),
        ..NewJob::new("job", cron("*/5 * * * *", "Asia/Kathmandu"), "mail")
    };
    let added = store.add(&job, at(0)).await?;
    let shown = store.job("job").await?;
    ensure!(
        shown.as_ref() == Some(&added) && added.job == job,
        "added was {added:?}, and shown is {shown:?}"
    );
    store.add(&once("once", 1_000), at(0)).await?;
    store
        .claim(&term, &[claim("once", at(1_000), &[at(1_000)], None)], 3)
        .await?;
    let done = store.job("once").await?;
    ensure!(
        done.as_ref()
            .is_some_and(|done| done.state == JobState::Done && done.next.is_none()),
        "a job that has run once is shown as {done:?}"
    );
    let none = store.job("nobody").await?;
    ensure!(
        none.is_none(),
        "there is no such job, and shown is {none:?}"
    );
    Ok(())
}

async fn jobs_come_in_order_and_a_page_at_a_time(lab: Lab) -> Outcome {
    lab.promise("`jobs` lists all jobs in the order of their names, byte by byte, `max` at a time, those after a name; whatever their state");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let names = ["Zeta", "a", "a-1", "a.b", "a_", "ab", "b10", "b9", "c"];
    for name in ["b9", "c", "a", "ab", "Zeta", "a_", "b10", "a.b", "a-1"] {
        store.add(&every(name, 60_000), at(0)).await?;
    }
    store.pause("ab").await?;
    let mut seen = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page = store.jobs(after.as_deref(), 4).await?;
        ensure!(
            page.len() <= 4,
            "four jobs were asked for, and {} came",
            page.len()
        );
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|job| job.job.name));
        ensure!(seen.len() <= names.len(), "the list does not end: {seen:?}");
    }
    ensure!(
        seen == names,
        "the jobs are {names:?}, and listed were {seen:?}"
    );
    Ok(())
}

async fn a_history_has_the_latest_first(lab: Lab) -> Outcome {
    lab.promise("`history` shows how a job's runs ended, the latest first, with attempts and reason; a hundred are kept");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&every("job", 1_000), at(0)).await?;
    let times: Vec<_> = (1..=150).map(|n| at(n * 1_000)).collect();
    let claims = [claim("job", at(1_000), &times, Some(at(200_000)))];
    store.claim(&term, &claims, 1).await?;
    for (n, run) in (1..).zip(store.open(&term, at(500_000), 1_000).await?) {
        let outcome = match n % 2 {
            0 => Ok(json!(n)),
            _ => Err(format!("reason {n}")),
        };
        let reply = job_scheduler::Reply::new(&run, outcome);
        store.settle(&reply, at(300_000 + n), at(400_000)).await?;
    }
    let history = store.history("job", 3).await?;
    ensure!(
        history.len() == 3
            && history[0].ended_at == at(300_150)
            && history[0].state == RunState::Succeeded
            && history[0].error.is_none()
            && history[1].ended_at == at(300_149)
            && history[1].state == RunState::Failed
            && history[1].error.as_deref() == Some("reason 149")
            && history[1].attempts == 1,
        "of 150 runs every other failed, the last one at 300,149 ms; the history begins with {history:?}"
    );
    let all = store.history("job", 1_000).await?.len();
    ensure!(all == 100, "of 150 runs a hundred are kept, and {all} are");
    ensure!(
        store.history("nobody", 10).await?.is_empty(),
        "a job that is not there has a history"
    );
    Ok(())
}

async fn a_paused_job_is_not_due_and_its_open_runs_end(lab: Lab) -> Outcome {
    lab.promise("a paused job is not due; runs that are open come to their end; pausing again changes nothing");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&every("job", 1_000), at(0)).await?;
    store
        .claim(
            &term,
            &[claim("job", at(1_000), &[at(1_000)], Some(at(2_000)))],
            3,
        )
        .await?;
    for _ in 0..2 {
        let paused = store.pause("job").await?;
        ensure!(
            paused.state == JobState::Paused && paused.next.is_none(),
            "a paused job is shown as {paused:?}"
        );
        let due = store.due(at(1_000_000), 10).await?;
        ensure!(
            due.is_empty() && board.due().await?.is_empty(),
            "a paused job is due: {due:?}"
        );
    }
    let open = store.open(&term, at(1_000_000), 10).await?;
    ensure!(
        open.len() == 1,
        "one run was open when the job was paused, and open are {open:?}"
    );
    let reply = job_scheduler::Reply::new(&open[0], Ok(json!(1)));
    store.settle(&reply, at(5_000), at(6_000)).await?;
    let history = store.history("job", 10).await?;
    ensure!(
        history.len() == 1,
        "the run has ended; the history is {history:?}"
    );
    let late = claim("job", at(2_000), &[at(2_000)], Some(at(3_000)));
    let counted = store.claim(&term, &[late], 3).await?;
    ensure!(
        counted == 0 && board.due().await?.is_empty(),
        "a paused job was claimed by a node that had seen it before, and is due again"
    );
    Ok(())
}

async fn a_resumed_job_goes_on_from_now(lab: Lab) -> Outcome {
    lab.promise("what fell into a pause is passed over: a resumed job is due at its first time after now; one that runs once, and whose time has passed, is done");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let day = cron("0 12 * * *", "Europe/Berlin");
    let jobs = [
        NewJob::new("cron", day.clone(), "mail"),
        NewJob::new("every", of_every(60_000), "mail"),
        once("passed", 5_000),
        once("ahead", 900_000_000),
        NewJob::new(
            "after",
            Schedule::After {
                after: Duration::from_millis(900_000_000),
            },
            "mail",
        ),
    ];
    for job in &jobs {
        store.add(job, at(0)).await?;
        store.pause(&job.name).await?;
    }
    let now = at(400_000_000);
    for (name, wanted, state) in [
        ("cron", next(&day, now), JobState::Active),
        ("every", Some(at(400_060_000)), JobState::Active),
        ("passed", None, JobState::Done),
        ("ahead", Some(at(900_000_000)), JobState::Active),
        ("after", Some(at(900_000_000)), JobState::Active),
    ] {
        let resumed = store.resume(name, now).await?;
        ensure!(
            resumed.state == state && resumed.next == wanted,
            "`{name}` was paused and resumed 400,000 s later: it is {} and due at {:?}; it was to be {state} and due at {:?}",
            resumed.state,
            resumed.next.map(time::text),
            wanted.map(time::text)
        );
        let due = board.due().await?.get(name).copied();
        ensure!(
            due == wanted.map(|time| time.timestamp_millis()),
            "in the schedule `{name}` stands with {due:?}"
        );
    }
    // Resuming what is active changes nothing.
    let before = store.job("every").await?;
    store.resume("every", at(500_000_000)).await?;
    ensure!(
        store.job("every").await? == before,
        "an active job was resumed, and changed"
    );
    Ok(())
}

async fn pausing_and_claiming_at_once_leave_no_contradiction(lab: Lab) -> Outcome {
    lab.promise("a job that is paused at the moment at which it is claimed is paused and not due, whether or not that claim counts");
    let board = Board::new(&lab).await?;
    let (one, two) = (board.store().await?, board.store().await?);
    let term = board.term("one", 1).await?;
    for round in 0..100 {
        let name = format!("job-{round}");
        one.add(&every(&name, 1_000), at(0)).await?;
        let claims = [claim(&name, at(1_000), &[at(1_000)], Some(at(2_000)))];
        let (claimed, paused) = tokio::join!(one.claim(&term, &claims, 3), two.pause(&name));
        claimed?;
        let paused = paused?;
        let job = one.job(&name).await?;
        let due = board.due().await?.get(&name).copied();
        ensure!(
            paused.state == JobState::Paused
                && due.is_none()
                && job
                    .as_ref()
                    .is_some_and(|job| job.state == JobState::Paused && job.next.is_none()),
            "in round {round} a job was claimed and paused at once; it is {job:?}, and in the schedule it stands with {due:?}"
        );
    }
    Ok(())
}

async fn a_deleted_job_is_gone_and_its_name_is_free(lab: Lab) -> Outcome {
    lab.promise("a deleted job is not due, not listed, has no history, and its name is free; its open runs come to their end");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    store.add(&every("job", 1_000), at(0)).await?;
    let times = [at(900), at(1_000)];
    store
        .claim(
            &term,
            &[claim("job", at(1_000), &times, Some(at(2_000)))],
            3,
        )
        .await?;
    let runs = store.open(&term, at(5_000), 10).await?;
    let reply = |n: usize| job_scheduler::Reply::new(&runs[n], Ok(json!(n)));
    store.settle(&reply(0), at(5_000), at(6_000)).await?;
    store.delete("job").await?;
    ensure!(
        store.job("job").await?.is_none()
            && store.jobs(None, 10).await?.is_empty()
            && store.history("job", 10).await?.is_empty()
            && board.due().await?.is_empty(),
        "the job was deleted; it is {:?}, listed are {:?}, its history is {:?}, due are {:?}",
        store.job("job").await?,
        store.jobs(None, 10).await?,
        store.history("job", 10).await?,
        board.due().await?
    );
    let counted = store
        .claim(
            &term,
            &[claim("job", at(2_000), &[at(2_000)], Some(at(3_000)))],
            3,
        )
        .await?;
    ensure!(counted == 0, "a deleted job was claimed");
    store.settle(&reply(1), at(5_000), at(6_000)).await?;
    ensure!(
        board.open().await?.is_empty(),
        "the open run did not end: {:?}",
        board.open().await?
    );
    store.add(&once("job", 9_000), at(5_000)).await?;
    ensure!(
        store
            .job("job")
            .await?
            .is_some_and(|job| job.next == Some(at(9_000))),
        "the name was free, and the new job is {:?}",
        store.job("job").await?
    );
    Ok(())
}

async fn what_is_done_or_missing_is_said(lab: Lab) -> Outcome {
    lab.promise("a job that is not there is `Error::NotFound`; pausing or resuming one that is done is `Error::Wrong`");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let term = board.term("one", 1).await?;
    for outcome in [
        store.pause("nobody").await.map(|_| ()),
        store.resume("nobody", at(0)).await.map(|_| ()),
        store.delete("nobody").await,
    ] {
        ensure!(
            matches!(outcome, Err(Error::NotFound(..))),
            "there is no such job, and what came is {outcome:?}"
        );
    }
    ensure!(
        store.jobs(None, 10).await?.is_empty(),
        "asking for a job has made one"
    );
    store.add(&once("job", 1_000), at(0)).await?;
    store
        .claim(&term, &[claim("job", at(1_000), &[], None)], 3)
        .await?;
    for outcome in [
        store.pause("job").await.map(|_| ()),
        store.resume("job", at(0)).await.map(|_| ()),
    ] {
        ensure!(
            matches!(
                outcome,
                Err(Error::Wrong {
                    state: JobState::Done,
                    ..
                })
            ),
            "the job is done, and what came is {outcome:?}"
        );
    }
    Ok(())
}

async fn listing_does_not_walk_through_everything_there_is(lab: Lab) -> Outcome {
    lab.promise(
        "lists come from the index of jobs: no KEYS and no SCAN through all that Redis holds",
    );
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    for n in 0..30 {
        store
            .add(&every(&format!("job-{n}"), 60_000), at(0))
            .await?;
    }
    let mark = board.redis.proxy().mark();
    store.jobs(None, 20).await?;
    store.job("job-1").await?;
    store.history("job-1", 5).await?;
    let walks: Vec<_> = board
        .redis
        .proxy()
        .since(mark)
        .into_iter()
        .filter(|exchange| exchange.is("KEYS") || exchange.is("SCAN"))
        .map(|exchange| exchange.name())
        .collect();
    ensure!(walks.is_empty(), "JS20", "listing jobs has sent {walks:?}");
    Ok(())
}

async fn ready(board: &Board) -> Result<Front, Failure> {
    board.knows("mail").await?;
    Front::open(board, "one", &["--lease", "1s", "--check", "50ms"]).await
}

async fn the_api_adds_shows_pauses_and_deletes(lab: Lab) -> Outcome {
    lab.promise("over HTTP jobs are added (201 with `Location`), shown with their last runs, listed in pages, paused, resumed and deleted");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let front = ready(&board).await?;
    let body = json!({"name": "soon", "schedule": {"after": "50ms"}, "service": "mail", "payload": {"to": "ada"}});
    let added = front.posted("/jobs", &body.to_string()).await?;
    let (status, shown) = answer(&added)?;
    ensure!(
        status == 201
            && added.header("location") == Some("/jobs/soon")
            && shown["state"] == "active",
        "`POST /jobs` was answered with {status}, {:?} and {shown}",
        added.header("location")
    );
    let run = board.next_run("mail").await?;
    board.reply(&run, Ok(json!("sent"))).await?;
    board.all_settled().await?;
    let (status, shown) = front.get("/jobs/soon").await?;
    ensure!(
        status == 200
            && shown["state"] == "done"
            && shown["next"].is_null()
            && shown["runs"][0]["state"] == "succeeded"
            && shown["runs"][0]["scheduled_for"] == json!(time::text(run.scheduled_for)),
        "`GET /jobs/soon` was answered with {status} and {shown}"
    );
    for (name, schedule) in [
        ("daily", json!({"cron": "0 9 * * *", "tz": "Europe/Berlin"})),
        ("utc", json!({"cron": "0 9 * * *"})),
        ("often", json!({"every": "1h 30m"})),
        ("later", json!({"at": "2101-01-01T00:00:00+01:00"})),
    ] {
        let body = json!({"name": name, "schedule": schedule, "service": "mail", "misfire": {"catch_up": 5}});
        let (status, shown) = front.post("/jobs", &body.to_string()).await?;
        ensure!(
            status == 201 && shown["misfire"] == json!({"catch_up": 5}),
            "{body} was answered with {status} and {shown}"
        );
    }
    let (_, later) = front.get("/jobs/later").await?;
    ensure!(
        later["next"] == "2100-12-31T23:00:00.000Z",
        "a job at midnight in Berlin is due at {}",
        later["next"]
    );
    let mut names = Vec::new();
    let mut target = "/jobs?limit=2".to_owned();
    loop {
        let (status, page) = front.get(&target).await?;
        ensure!(
            status == 200,
            "`GET {target}` was answered with {status}: {page}"
        );
        let jobs = page["jobs"].as_array().cloned().unwrap_or_default();
        names.extend(
            jobs.iter()
                .map(|job| job["name"].as_str().unwrap_or_default().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) if names.len() < 20 => target = format!("/jobs?limit=2&after={next}"),
            _ => break,
        }
    }
    ensure!(
        names == ["daily", "later", "often", "soon", "utc"],
        "listed in pages of two were {names:?}"
    );
    for (target, state) in [
        ("/jobs/often/pause", "paused"),
        ("/jobs/often/resume", "active"),
    ] {
        let (status, shown) = front.post(target, "").await?;
        ensure!(
            status == 200 && shown["state"] == state,
            "`POST {target}` was answered with {status} and {shown}"
        );
    }
    let deleted = front.ask(&Request::delete("/jobs/often")).await?;
    ensure!(
        deleted.status == 204,
        "`DELETE` was answered with {}",
        deleted.status
    );
    let (status, problem) = front.get("/jobs/often").await?;
    ensure!(
        status == 404 && problem["status"] == 404,
        "a deleted job was answered with {status} and {problem}"
    );
    Ok(())
}

async fn a_bad_job_is_refused_over_http_with_its_place(lab: Lab) -> Outcome {
    lab.promise("a body that is no JSON is 400, one that is no job 422 with the place as a JSON pointer, a name that is taken 409, one that is too large 413; nothing is stored");
    let board = Board::new(&lab).await?;
    let front = ready(&board).await?;
    let good = json!({"name": "job", "schedule": {"every": "1h"}, "service": "mail"});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body.to_string()
    };
    let schedule = |value: Value| with(&|body: &mut Value| body["schedule"] = value.clone());
    let large = with(&|body| body["payload"] = json!("x".repeat(2 * 1024 * 1024)));
    for (body, status, pointer) in [
        ("nothing".to_owned(), 400, None),
        ("[]".to_owned(), 400, None),
        (large, 413, None),
        (
            with(&|body| body["name"] = json!("a b")),
            422,
            Some("/name"),
        ),
        (with(&|body| body["name"] = json!(1)), 422, Some("/name")),
        (json!({}).to_string(), 422, Some("/name")),
        (
            with(&|body| body["service"] = json!("nobody")),
            422,
            Some("/service"),
        ),
        (
            with(&|body| body["shedule"] = json!(1)),
            422,
            Some("/shedule"),
        ),
        (
            schedule(json!({"cron": "61 * * * *", "tz": "UTC"})),
            422,
            Some("/schedule/cron"),
        ),
        (
            schedule(json!({"cron": "* * * * *", "tz": "Europe/Atlantis"})),
            422,
            Some("/schedule/tz"),
        ),
        (
            schedule(json!({"at": "2001-01-01T00:00:00Z"})),
            422,
            Some("/schedule/at"),
        ),
        (
            schedule(json!({"at": "tomorrow"})),
            422,
            Some("/schedule/at"),
        ),
        (
            schedule(json!({"every": "1ms"})),
            422,
            Some("/schedule/every"),
        ),
        (
            schedule(json!({"every": "often"})),
            422,
            Some("/schedule/every"),
        ),
        (
            schedule(json!({"every": "1h", "after": "1h"})),
            422,
            Some("/schedule"),
        ),
        (schedule(json!({})), 422, Some("/schedule")),
        (
            with(&|body| body["misfire"] = json!("never")),
            422,
            Some("/misfire"),
        ),
        (
            with(&|body| body["misfire"] = json!({"catch_up": 1_000_000})),
            422,
            Some("/misfire/catch_up"),
        ),
    ] {
        let response = front.posted("/jobs", &body).await?;
        let (seen, problem) = answer(&response)?;
        let shown: String = body.chars().take(100).collect();
        let kind = response.header("content-type").unwrap_or_default();
        ensure!(
            seen == status
                && problem["pointer"].as_str() == pointer
                && problem["status"] == status
                && kind.starts_with("application/problem+json"),
            "{shown} was answered with {seen}, {kind}, {problem}; it was to be {status} with the place {pointer:?}"
        );
    }
    let keys = board.due().await?;
    ensure!(
        keys.is_empty(),
        "nothing was accepted, and due are {keys:?}"
    );
    let (first, _) = front.post("/jobs", &good.to_string()).await?;
    let (second, _) = front.post("/jobs", &good.to_string()).await?;
    ensure!(
        (first, second) == (201, 409),
        "a job, and another of its name, were answered with {first} and {second}"
    );
    Ok(())
}

async fn the_api_runs_workflows(lab: Lab) -> Outcome {
    lab.promise("`POST /workflows` begins a workflow (202 with `Location`), `GET` shows how it stands; one that cannot be is 422 with the place");
    let board = Board::new(&lab).await?;
    let front = ready(&board).await?;
    let service = board.service_process("mail", &[])?;
    let body = json!({"name": "order", "steps": [
        {"name": "pay", "service": "mail", "compensate": {"service": "mail"}},
        {"name": "ship", "service": "mail", "after": ["pay"], "attempts": 1, "payload": {"fail": "no paper"}},
    ]});
    let begun = front.posted("/workflows", &body.to_string()).await?;
    ensure!(
        begun.status == 202 && begun.header("location") == Some("/workflows/order"),
        "`POST /workflows` was answered with {}: {}",
        begun.status,
        begun.text()
    );
    let shown = lab
        .eventually("the workflow to come to its end", || async {
            let (_, shown) = front.get("/workflows/order").await?;
            Ok((shown["state"] == "failed").then_some(shown))
        })
        .await?;
    let states: Vec<_> = shown["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| step["state"].clone())
        .collect();
    ensure!(
        states == [json!("undone"), json!("failed")] && shown["steps"][1]["error"] == "no paper",
        "the workflow ended as {shown}"
    );
    for (change, pointer) in [
        (
            json!([{"name": "a", "service": "mail", "after": ["b"]}, {"name": "b", "service": "mail", "after": ["a"]}]),
            "/after",
        ),
        (
            json!([{"name": "a", "service": "nobody"}]),
            "/steps/0/service",
        ),
        (json!([{"name": "a"}]), "/steps/0"),
        (json!("none"), "/steps"),
    ] {
        let body = json!({"name": "other", "steps": change});
        let (status, problem) = front.post("/workflows", &body.to_string()).await?;
        let place = problem["pointer"].as_str().unwrap_or_default();
        ensure!(
            status == 422 && place.ends_with(pointer),
            "{body} was answered with {status} and {problem}; the place is {pointer}"
        );
    }
    let (status, _) = front.get("/workflows/other").await?;
    ensure!(
        status == 404,
        "a workflow that was refused was answered with {status}"
    );
    service.terminate();
    service.wait().await?;
    Ok(())
}

async fn the_api_says_who_leads_and_what_is_wrong(lab: Lab) -> Outcome {
    lab.promise("`GET /leader` names the leader and its token; an address that is none is 404, a method 405; while Redis is away it is 503 with `Retry-After`");
    let board = Board::new(&lab).await?;
    let place = board.elsewhere().await?;
    let front = Front::open(&place, "the-one", &["--lease", "2s", "--check", "50ms"]).await?;
    let term = board.led_by("the node to lead", |_| true).await?;
    let (status, leader) = front.get("/leader").await?;
    ensure!(
        status == 200 && leader == json!({"node": "the-one", "token": term.token}),
        "`{term}` leads, and `GET /leader` was answered with {status} and {leader}"
    );
    for (request, wanted) in [
        (Request::get("/nothing"), 404),
        (Request::get("/jobs/a%2Fb"), 404),
        (Request::get("/jobs/%ff"), 404),
        (Request::get("/jobs?limit=many"), 400),
        (Request::delete("/jobs"), 405),
        (Request::get("/healthz"), 200),
    ] {
        let response = front.ask(&request).await?;
        ensure!(
            response.status == wanted,
            "`{} {}` was answered with {}, and was to be answered with {wanted}",
            request.method(),
            request.target(),
            response.status
        );
    }
    place.redis.proxy().refuse(true);
    place.redis.proxy().cut_all();
    for target in ["/healthz", "/jobs", "/leader"] {
        let response = front.ask(&Request::get(target)).await?;
        ensure!(
            response.status == 503 && response.header("retry-after").is_some(),
            "Redis is away, and `GET {target}` was answered with {}",
            response.status
        );
    }
    place.redis.proxy().refuse(false);
    lab.eventually("the node to answer again", || async {
        Ok((front.get("/healthz").await?.0 == 200).then_some(()))
    })
    .await?;
    front.service.expect_running()
}

async fn the_page_shows_jobs_and_a_handover(lab: Lab) -> Outcome {
    lab.promise("the page shows jobs, their next and their last run, and the leader, and shows a handover when it happens, without being loaded again");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let flags = ["--lease", "1s", "--check", "50ms"];
    let one = Front::open(&board, "node-one", &flags).await?;
    board.led_by("the first node to lead", |_| true).await?;
    let two = Front::open(&board, "node-two", &flags).await?;
    store
        .add(
            &NewJob::new("daily", cron("0 9 * * *", "Europe/Berlin"), "mail"),
            time::now(),
        )
        .await?;
    let page = lab
        .browser()
        .await?
        .open(&format!("http://{}/", two.address))
        .await?;
    page.until(
        "the page to show the leader and the job",
        "return document.querySelector('#leader').textContent === 'node-one' && document.querySelectorAll('#jobs tr').length === 1",
    )
    .await?;
    // What happens now is seen without a reload.
    store.add(&soon("quick", 10), time::now()).await?;
    let run = board.next_run("mail").await?;
    board.reply(&run, Ok(json!(1))).await?;
    page.until(
        "the page to show the run of the new job",
        "const row = document.querySelector('tr[data-job=quick]'); return row && row.textContent.includes('done') && row.lastChild.textContent.includes('succeeded')",
    )
    .await?;
    one.service.kill();
    page.until(
        "the page to show the handover",
        "return document.querySelector('#leader').textContent === 'node-two' && document.querySelector('#token').textContent === 'token 2' && document.querySelector('#handovers li')?.textContent.includes('node-two')",
    )
    .await?;
    page.screenshot("job-scheduler.png").await?;
    page.phone().await?;
    let wider = page
        .eval("return document.documentElement.scrollWidth - window.innerWidth")
        .await?;
    ensure!(
        wider.as_f64().is_some_and(|wider| wider <= 0.0),
        "on a phone the page is {wider} pixels wider than the screen"
    );
    let errors = page.console_errors().await?;
    ensure!(
        errors.is_empty(),
        "the browser's console shows errors: {errors:?}"
    );
    Ok(())
}
