//! Stage 5: what a leader writes who is none any more is refused, where the write lands.

use std::time::Duration;

use job_scheduler::{Applied, Error, Ledger, Run, time};
use lab::crash::{Crash, Point, walk};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use serde_json::json;

use crate::board::{Board, LONG, a_run, at, claim, once, soon};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_claim_of_a_term_that_has_ended_is_refused,
        whatever_a_leader_writes_is_refused_after_its_term,
        a_term_that_ends_between_looking_and_claiming_claims_nothing,
        a_lower_token_has_no_effect,
        each_job_has_its_own_fence,
        the_fence_is_where_the_write_lands,
        an_effect_and_its_token_are_one_step,
        a_paused_leader_writes_nothing_when_it_wakes.limit_secs(120),
        what_an_old_leader_publishes_has_no_effect.limit_secs(120),
    ]
}

/// What happened to the term of `one`, which was 1.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// Nobody leads.
    Alone,
    /// Another node leads.
    Followed,
    /// The same node leads, in another term.
    Renewed,
}

async fn end(board: &Board, how: Ended) -> Outcome {
    match how {
        Ended::Alone => {
            let _: u64 = redis::cmd("DEL")
                .arg(board.names.leader())
                .query_async(&mut board.direct().await?)
                .await?;
        }
        Ended::Followed => {
            board.term("two", 2).await?;
        }
        Ended::Renewed => {
            board.term("one", 2).await?;
        }
    }
    Ok(())
}

async fn a_claim_of_a_term_that_has_ended_is_refused(lab: Lab) -> Outcome {
    lab.promise("a claim by a term that has ended is `Error::Fenced`, and changes nothing: whether nobody leads, another does, or the same node does in another term");
    for how in [Ended::Alone, Ended::Followed, Ended::Renewed] {
        let board = Board::new(&lab).await?;
        let store = board.store().await?;
        let term = board.term("one", 1).await?;
        for n in 0..3 {
            store.add(&once(&format!("job-{n}"), 1_000), at(0)).await?;
        }
        let claims = |n: usize| [claim(&format!("job-{n}"), at(1_000), &[at(1_000)], None)];
        store.claim(&term, &claims(0), 3).await?;
        end(&board, how).await?;
        match store.claim(&term, &claims(1), 3).await {
            Err(Error::Fenced(_)) => {}
            other => fail!(
                "JS03",
                "the term `{term}` had ended ({how:?}), and its claim was answered with {other:?}"
            ),
        }
        let (due, open) = (board.due().await?.len(), board.open().await?.len());
        ensure!(
            due == 2 && open == 1,
            "JS03",
            "one of three jobs was claimed while the term `{term}` lasted; after it had ended ({how:?}) {due} are due and {open} runs are open"
        );
    }
    Ok(())
}

async fn whatever_a_leader_writes_is_refused_after_its_term(lab: Lab) -> Outcome {
    lab.promise("`published` and `take_over` are `Error::Fenced` after the term has ended, and change nothing");
    for how in [Ended::Alone, Ended::Followed, Ended::Renewed] {
        let board = Board::new(&lab).await?;
        let store = board.store().await?;
        let term = board.term("one", 1).await?;
        store.add(&once("job", 1_000), at(0)).await?;
        let times = [at(900), at(1_000)];
        store
            .claim(&term, &[claim("job", at(1_000), &times, None)], 3)
            .await?;
        let runs = store.open(&term, at(2_000), 10).await?;
        ensure!(
            runs.len() == 2,
            "two runs are open, and `open` returned {runs:?}"
        );
        store.published(&term, &runs[..1], at(60_000)).await?;
        let before = board.open().await?;
        end(&board, how).await?;
        let refused = [
            (
                "published",
                store.published(&term, &runs[1..], at(60_000)).await,
            ),
            ("take_over", store.take_over(&term).await),
        ];
        for (what, outcome) in refused {
            ensure!(
                matches!(outcome, Err(Error::Fenced(_))),
                "JS03",
                "the term `{term}` had ended ({how:?}), and its `{what}` was answered with {outcome:?}"
            );
        }
        let after = board.open().await?;
        ensure!(
            before == after,
            "JS03",
            "the term `{term}` had ended ({how:?}), and what it wrote has changed the open runs from {before:?} to {after:?}"
        );
    }
    Ok(())
}

async fn a_term_that_ends_between_looking_and_claiming_claims_nothing(lab: Lab) -> Outcome {
    lab.promise("the lease is looked at in the very step that writes: a term that ends while its claim is on its way claims nothing");
    use lab::faults::{Action, Trigger};
    // Whatever is sent for the claim: before each of its commands the term ends.
    for nth in 1..=6 {
        let board = Board::new(&lab).await?;
        let store = board.store().await?;
        let term = board.term("one", 1).await?;
        for name in ["before", "job"] {
            store.add(&once(name, 1_000), at(0)).await?;
        }
        let claims = |name: &str| [claim(name, at(1_000), &[at(1_000)], None)];
        store.claim(&term, &claims("before"), 3).await?;
        let fault = board
            .redis
            .proxy()
            .arm(Trigger::request(|_| true).nth(nth), Action::Hold);
        let claiming = {
            let (store, term) = (store.clone(), term.clone());
            let claims = claims("job");
            tokio::spawn(async move { store.claim(&term, &claims, 3).await })
        };
        let held = lab
            .eventually("the claim to be under way, or done", || async {
                Ok((fault.has_fired() || claiming.is_finished()).then_some(fault.has_fired()))
            })
            .await?;
        if !held {
            ensure!(nth > 1, "a claim was made without a word to Redis");
            fault.disarm();
            claiming.await??;
            return Ok(());
        }
        let before = board.open().await?.len();
        board.term("two", 2).await?;
        fault.release();
        let outcome = claiming.await?;
        let after = board.open().await?.len();
        ensure!(
            after == before || outcome.is_ok(),
            "JS03",
            "the claim was refused, and has opened a run"
        );
        ensure!(
            before > 1 || (matches!(outcome, Err(Error::Fenced(_))) && after == before),
            "JS03",
            "the term ended while command {nth} of its claim was on its way; the claim was answered with {outcome:?}, and {after} runs are open where {before} were: the lease was looked at in one step and written in another"
        );
    }
    Ok(())
}

async fn ledger(board: &Board) -> Result<Ledger, Failure> {
    Ok(Ledger::connect(&board.redis.url(), &board.names, LONG).await?)
}

async fn a_lower_token_has_no_effect(lab: Lab) -> Outcome {
    lab.promise("at the place where effects land a token that is lower than the highest that has written for the job is refused; the same, and a higher one, are not");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    let mut wanted = Vec::new();
    for (millis, token, is_refused) in [
        (0, 5, false),
        (1, 5, false),
        (2, 4, true),
        (3, 9, false),
        (4, 5, true),
        (5, 8, true),
        (6, 9, false),
        (7, 10, false),
        (8, 9, true),
        // As texts these two stand the other way round.
        (9, 100, false),
        (10, 11, true),
    ] {
        let run = a_run("job", millis, token);
        let applied = ledger.apply(&run, &json!({"n": millis})).await?;
        let right = match is_refused {
            true => Applied::Stale,
            false => Applied::Now,
        };
        ensure!(
            applied == right,
            "JS17",
            "the tokens so far had effects {wanted:?}; a run with the token {token}: {applied:?}, and was to be {right:?}"
        );
        if !is_refused {
            wanted.push(token.to_string());
        }
    }
    let effects = board.effects().await?;
    let tokens: Vec<_> = effects
        .iter()
        .filter_map(|effect| effect.get("token").cloned())
        .collect();
    ensure!(
        tokens == wanted,
        "JS17",
        "effects were to have the tokens {wanted:?}, and have {tokens:?}"
    );
    let first = &effects[0];
    for (field, value) in [
        ("job", "job"),
        ("scheduled_for", "2027-01-15T08:00:00.000Z"),
        ("service", "mail"),
        ("attempt", "1"),
        ("result", "{\"n\":0}"),
    ] {
        ensure!(
            first.get(field).map(String::as_str) == Some(value),
            "the first effect has the fields {first:?}; `{field}` was to be `{value}`"
        );
    }
    Ok(())
}

async fn each_job_has_its_own_fence(lab: Lab) -> Outcome {
    lab.promise("a high token of one job refuses nothing of another");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    ledger.apply(&a_run("one", 0, 9), &json!(1)).await?;
    let applied = ledger.apply(&a_run("two", 0, 3), &json!(1)).await?;
    ensure!(
        applied == Applied::Now,
        "the job `one` has the token 9, and a run of `two` with 3 was {applied:?}"
    );
    Ok(())
}

async fn the_fence_is_where_the_write_lands(lab: Lab) -> Outcome {
    lab.promise("it is the write that is refused, also when nothing was wrong while the handler began: a token that is overtaken meanwhile has no effect");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    let old = a_run("job", 0, 5);
    let looked = ledger.look(&old).await?;
    ensure!(
        looked.is_none(),
        "nothing was written yet, and `look` says {looked:?}"
    );
    ensure!(
        board.effects().await?.is_empty(),
        "looking has had an effect"
    );
    // Its handler takes a while. Meanwhile another leads.
    let new = a_run("job", 1, 6);
    ensure!(
        ledger.apply(&new, &json!(1)).await? == Applied::Now,
        "a run of the new leader had no effect"
    );
    let applied = ledger.apply(&old, &json!(1)).await?;
    ensure!(
        applied == Applied::Stale && board.effects().await?.len() == 1,
        "JS03",
        "a run with the token 5 began, one with 6 had its effect meanwhile, and then that with 5: {applied:?}"
    );
    let looked = ledger.look(&old).await?;
    ensure!(
        looked == Some(Applied::Stale),
        "the token is too old now, and `look` says {looked:?}"
    );
    Ok(())
}

async fn applying_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    ledger.apply(&a_run("before", 0, 1), &json!(1)).await?;
    let fault = point.arm(&board.redis);
    let run = a_run("job", 0, 7);
    let outcome = ledger.apply(&run, &json!(1)).await;
    let is_there = board.effects().await?.len() == 2;
    let blame = point.blame(&board.redis);
    ensure!(
        is_there || outcome.is_err(),
        "{blame}: `apply` returned {outcome:?}, and there is no effect"
    );
    let struck = !fault.disarm();
    // The token counts from the effect on, and not before.
    let older = a_run("job", 1, 6);
    let applied = ledger.apply(&older, &json!(1)).await?;
    let right = match is_there {
        true => Applied::Stale,
        false => Applied::Now,
    };
    ensure!(
        applied == right,
        "JS17",
        "{blame}: the effect of token 7 is {}, and a run with 6 was then {applied:?}",
        if is_there { "there" } else { "missing" }
    );
    Ok(struck)
}

async fn an_effect_and_its_token_are_one_step(lab: Lab) -> Outcome {
    lab.promise(
        "wherever the connection is cut, the effect is there and its token counts, or neither",
    );
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| applying_once(walking.clone(), point),
    )
    .await
}

async fn a_paused_leader_writes_nothing_when_it_wakes(lab: Lab) -> Outcome {
    lab.promise("a leader that was paused past its lease changes nothing in the schedule when it wakes, and stands by");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let flags = ["--lease", "1s", "--check", "50ms", "--late", "0s"];
    for round in 0..3_u64 {
        let one = board.node_process(&format!("one-{round}"), &flags)?;
        let old = board
            .led_by("the first node to lead", |term| {
                term.node.starts_with("one")
            })
            .await?;
        one.pause();
        // While it sleeps a job comes due, and another leader finds nothing to do for it: the check leads.
        lab.eventually("the lease to end", || async {
            Ok(board.leader().await?.is_none().then_some(()))
        })
        .await?;
        let name = format!("job-{round}");
        store.add(&soon(&name, 1), time::now()).await?;
        lab.within(Duration::from_millis(5)).await;
        let other = board.term("check", old.token + 1).await?;
        one.resume();
        lab.within(Duration::from_millis(400)).await;
        let (due, open) = (board.due().await?, board.open().await?);
        ensure!(
            due.contains_key(&name) && open.is_empty(),
            "JS03",
            "`{old}` was paused until `{other}` led; when it woke it claimed a job: due are {due:?}, open are {open:?}"
        );
        ensure!(
            board.leader().await? == Some(other.clone()),
            "`{other}` led, and when `{old}` woke {:?} does",
            board.leader().await?
        );
        one.expect_running()?;
        one.terminate();
        one.wait().await?;
        store
            .claim(&other, &[], 3)
            .await
            .map_err(|error| Failure::observed(format!("the check's own term: {error}")))?;
        for (job, at) in board.due().await? {
            let at = time::from_millis(at);
            store
                .claim(&other, &[claim(&job, at, &[], None)], 3)
                .await?;
        }
        let _: u64 = redis::cmd("DEL")
            .arg(board.names.leader())
            .query_async(&mut board.direct().await?)
            .await?;
    }
    Ok(())
}

async fn what_an_old_leader_publishes_has_no_effect(lab: Lab) -> Outcome {
    lab.promise("what an old leader still publishes is refused by the services once the new one has written for that job; nothing is lost by it, since the new one publishes it again");
    let board = Board::new(&lab).await?;
    let ledger = ledger(&board).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    // The old leader has published two runs of one job; neither has been worked.
    let old = board.term("old", 1).await?;
    store.add(&once("job", 1_000), at(0)).await?;
    let times = [at(900), at(1_000)];
    store
        .claim(&old, &[claim("job", at(1_000), &times, None)], 3)
        .await?;
    let stale: Vec<Run> = store.open(&old, at(2_000), 10).await?;
    store
        .published(&old, &stale, at(86_400_000 * 3_650))
        .await?;
    let _: () = redis::cmd("SET")
        .arg(board.names.leader())
        .arg("old 1")
        .arg(&["PX", "1"])
        .query_async(&mut board.direct().await?)
        .await?;
    let node = board.node("new");
    let mut runs = Vec::new();
    for _ in 0..2 {
        runs.push(board.next_run("mail").await?);
    }
    runs.sort_by_key(|run| run.scheduled_for);
    ensure!(
        runs.iter().all(|run| run.token == 2),
        "the second leader's token is 2, and it published {runs:?}"
    );
    // The later of the two is worked first; then come the messages of the old leader.
    let late = ledger.apply(&runs[1], &json!(1)).await?;
    let refused = ledger.apply(&stale[0], &json!(1)).await?;
    let made_up = ledger.apply(&runs[0], &json!(1)).await?;
    ensure!(
        (late.clone(), refused.clone(), made_up.clone())
            == (Applied::Now, Applied::Stale, Applied::Now),
        "JS17",
        "the new leader's run: {late:?}; the old leader's: {refused:?}; the same published by the new one: {made_up:?}"
    );
    let effects = board.effects().await?.len();
    ensure!(effects == 2, "two runs, and {effects} effects");
    node.stop().await?;
    Ok(())
}
