//! Stage 8: steps that wait for one another, and what is undone when one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use job_scheduler::{
    Error, FlowState, NewWorkflow, Reply, Run, Step, StepNow, StepState, Store, Workflow, advance,
    note, time,
};
use lab::crash::{Crash, Point, walk};
use lab::{Check, Failure, Lab, Outcome, ensure, fail};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::board::{Board, at};

pub fn checks() -> Vec<Check> {
    lab::checks![
        steps_begin_when_all_they_wait_for_have_succeeded,
        a_step_is_given_the_results_it_waited_for,
        advancing_again_begins_nothing,
        after_a_failure_nothing_begins_and_what_runs_is_waited_for,
        what_succeeded_is_undone_last_first_one_at_a_time,
        what_cannot_be_undone_is_stuck,
        what_is_noted_twice_counts_once,
        any_order_of_replies_comes_to_an_end,
        a_workflow_that_cannot_be_is_refused_with_its_place,
        a_workflow_begins_wholly_or_not_at_all,
        a_name_is_given_once,
        steps_go_to_their_services_and_back,
        a_step_that_fails_is_tried_again_and_then_undone,
        two_nodes_that_hear_of_two_steps_begin_the_third_once,
        a_reply_that_was_half_dealt_with_is_made_up_for,
        a_workflow_survives_the_death_of_its_nodes.limit_secs(120),
    ]
}

fn workflow(steps: Vec<Step>) -> Workflow {
    let steps = steps.into_iter().map(|step| StepNow {
        step,
        state: StepState::Waiting,
        result: Value::Null,
        error: None,
    });
    Workflow {
        name: "order".to_owned(),
        state: FlowState::Running,
        began: at(0),
        steps: steps.collect(),
        order: Vec::new(),
    }
}

fn step(name: &str) -> Step {
    Step::new(name, "mail", json!({"for": name}))
}

/// `a` first, `b` and `c` after it, `d` after both.
fn diamond() -> Vec<Step> {
    vec![
        step("d").after(["b", "c"]),
        step("a").undone_by("mail", json!({"undo": "a"})),
        step("b")
            .after(["a"])
            .undone_by("mail", json!({"undo": "b"})),
        step("c").after(["a"]),
    ]
}

fn states(workflow: &Workflow) -> BTreeMap<String, StepState> {
    let steps = workflow.steps.iter();
    steps
        .map(|step| (step.step.name.clone(), step.state))
        .collect()
}

fn jobs(runs: &[Run]) -> Vec<String> {
    let mut jobs: Vec<_> = runs.iter().map(|run| run.job.clone()).collect();
    jobs.sort();
    jobs
}

/// Advances, and says which runs that made.
fn go(workflow: &mut Workflow) -> Vec<Run> {
    let (next, runs) = advance(workflow);
    *workflow = next;
    runs
}

fn tell(workflow: &mut Workflow, job: &str, outcome: Result<Value, &str>) -> Vec<Run> {
    *workflow = note(workflow, job, &outcome.map_err(str::to_owned));
    go(workflow)
}

fn expect(what: &str, runs: &[Run], wanted: &[&str], workflow: &Workflow) -> Outcome {
    let jobs = jobs(runs);
    ensure!(
        jobs == wanted,
        "{what}: runs were made for {jobs:?}, and were to be made for {wanted:?}; the steps are {:?}",
        states(workflow)
    );
    Ok(())
}

async fn steps_begin_when_all_they_wait_for_have_succeeded(lab: Lab) -> Outcome {
    lab.promise("a step begins as soon as all those it waits for have succeeded, and not before; when all have, so has the workflow");
    let mut flow = workflow(diamond());
    let runs = go(&mut flow);
    expect("at the beginning", &runs, &["order/a"], &flow)?;
    ensure!(
        runs[0].scheduled_for == at(0)
            && runs[0].attempt == 1
            && runs[0].token == 0
            && runs[0].service == "mail",
        "the first run is {:?}",
        runs[0]
    );
    let runs = tell(&mut flow, "order/a", Ok(json!(1)));
    expect("after a", &runs, &["order/b", "order/c"], &flow)?;
    let runs = tell(&mut flow, "order/c", Ok(json!(3)));
    expect("after a and c", &runs, &[], &flow)?;
    let runs = tell(&mut flow, "order/b", Ok(json!(2)));
    expect("after a, b and c", &runs, &["order/d"], &flow)?;
    ensure!(
        flow.state == FlowState::Running,
        "a step runs, and the workflow is {:?}",
        flow.state
    );
    let runs = tell(&mut flow, "order/d", Ok(json!(4)));
    expect("after all", &runs, &[], &flow)?;
    ensure!(
        flow.state == FlowState::Succeeded && flow.order == ["a", "c", "b", "d"],
        "all steps have succeeded, in the order a, c, b, d; the workflow is {:?}, in the order {:?}",
        flow.state,
        flow.order
    );
    Ok(())
}

async fn a_step_is_given_the_results_it_waited_for(lab: Lab) -> Outcome {
    lab.promise("a step's payload is its own, and the result of each step it waited for under its name, and no other");
    let mut flow = workflow(diamond());
    go(&mut flow);
    let runs = tell(&mut flow, "order/a", Ok(json!({"n": 1})));
    let b = runs.iter().find(|run| run.job == "order/b");
    let wanted = json!({"payload": {"for": "b"}, "results": {"a": {"n": 1}}});
    ensure!(
        b.is_some_and(|b| b.payload == wanted),
        "b waits for a; it is given {:?}, and was to be given {wanted}",
        b.map(|b| &b.payload)
    );
    tell(&mut flow, "order/b", Ok(json!([])));
    let runs = tell(&mut flow, "order/c", Ok(Value::Null));
    let wanted = json!({"payload": {"for": "d"}, "results": {"b": [], "c": null}});
    ensure!(
        runs.len() == 1 && runs[0].payload == wanted,
        "d waits for b and c; the runs are {runs:?}, and d was to be given {wanted}"
    );
    Ok(())
}

async fn advancing_again_begins_nothing(lab: Lab) -> Outcome {
    lab.promise("`advance` of what `advance` returned is the same, without runs");
    let mut flow = workflow(diamond());
    let outcomes = [
        ("", Ok(json!(0))),
        ("order/a", Ok(json!(1))),
        ("order/b", Ok(json!(2))),
        ("order/c", Err("no")),
        ("order/b/undo", Ok(json!(0))),
        ("order/a/undo", Ok(json!(0))),
    ];
    for (job, outcome) in outcomes {
        tell(&mut flow, job, outcome);
        let (again, runs) = advance(&flow);
        ensure!(
            runs.is_empty() && again == flow,
            "after `{job}` advancing once more made {:?}, and the steps {:?} became {:?}",
            jobs(&runs),
            states(&flow),
            states(&again)
        );
    }
    ensure!(
        flow.state == FlowState::Failed,
        "the workflow is {:?}",
        flow.state
    );
    Ok(())
}

async fn after_a_failure_nothing_begins_and_what_runs_is_waited_for(lab: Lab) -> Outcome {
    lab.promise("when a step has failed no other begins; those that run are waited for, and count as they end, before anything is undone");
    let mut flow = workflow(diamond());
    go(&mut flow);
    tell(&mut flow, "order/a", Ok(json!(1)));
    let runs = tell(&mut flow, "order/c", Err("no paper"));
    expect("after c has failed, while b runs", &runs, &[], &flow)?;
    let now = states(&flow);
    ensure!(
        flow.state == FlowState::Running
            && now["d"] == StepState::Skipped
            && now["b"] == StepState::Running
            && now["c"] == StepState::Failed,
        "c has failed, b runs; the workflow is {:?}, the steps are {now:?}",
        flow.state
    );
    let failed = flow.steps.iter().find(|step| step.step.name == "c");
    ensure!(
        failed.is_some_and(|step| step.error.as_deref() == Some("no paper")),
        "the reason of the failure is lost: {failed:?}"
    );
    let runs = tell(&mut flow, "order/b", Ok(json!(2)));
    expect(
        "after b has succeeded all the same",
        &runs,
        &["order/b/undo"],
        &flow,
    )?;
    ensure!(
        flow.state == FlowState::Compensating,
        "b is being undone, and the workflow is {:?}",
        flow.state
    );
    Ok(())
}

async fn what_succeeded_is_undone_last_first_one_at_a_time(lab: Lab) -> Outcome {
    lab.promise("what has succeeded is undone one after the other, the last first, with the payload of the compensation and the step's result; a step without one is passed over");
    let steps = vec![
        step("a").undone_by("shop", json!({"undo": "a"})),
        step("b").after(["a"]),
        step("c")
            .after(["b"])
            .undone_by("bank", json!({"undo": "c"})),
        step("d").after(["c"]),
    ];
    let mut flow = workflow(steps);
    go(&mut flow);
    for name in ["a", "b", "c"] {
        tell(&mut flow, &format!("order/{name}"), Ok(json!({"of": name})));
    }
    let runs = tell(&mut flow, "order/d", Err("no"));
    expect("after d has failed", &runs, &["order/c/undo"], &flow)?;
    let wanted = json!({"payload": {"undo": "c"}, "result": {"of": "c"}});
    ensure!(
        runs[0].payload == wanted && runs[0].service == "bank" && runs[0].scheduled_for == at(0),
        "c is undone by {:?}; it was to be given {wanted}",
        runs[0]
    );
    let runs = tell(&mut flow, "order/c/undo", Ok(json!("anything")));
    expect("after c is undone", &runs, &["order/a/undo"], &flow)?;
    let runs = tell(&mut flow, "order/a/undo", Ok(Value::Null));
    expect("after a is undone", &runs, &[], &flow)?;
    let now = states(&flow);
    ensure!(
        flow.state == FlowState::Failed
            && now["a"] == StepState::Undone
            && now["b"] == StepState::Succeeded
            && now["c"] == StepState::Undone
            && now["d"] == StepState::Failed,
        "all is undone; the workflow is {:?}, the steps are {now:?}",
        flow.state
    );
    Ok(())
}

async fn what_cannot_be_undone_is_stuck(lab: Lab) -> Outcome {
    lab.promise("when something cannot be undone the workflow is stuck, with the reason, and nothing else is begun");
    let steps = vec![
        step("a").undone_by("mail", Value::Null),
        step("b").after(["a"]).undone_by("mail", Value::Null),
        step("c").after(["b"]),
    ];
    let mut flow = workflow(steps);
    go(&mut flow);
    tell(&mut flow, "order/a", Ok(json!(1)));
    tell(&mut flow, "order/b", Ok(json!(1)));
    tell(&mut flow, "order/c", Err("no"));
    let runs = tell(&mut flow, "order/b/undo", Err("bank closed"));
    expect("after b could not be undone", &runs, &[], &flow)?;
    let stuck = flow.steps.iter().find(|step| step.step.name == "b");
    ensure!(
        flow.state == FlowState::Stuck
            && stuck.is_some_and(|step| step.state == StepState::Stuck
                && step.error.as_deref() == Some("bank closed")),
        "b could not be undone; the workflow is {:?}, b is {stuck:?}",
        flow.state
    );
    Ok(())
}

async fn what_is_noted_twice_counts_once(lab: Lab) -> Outcome {
    lab.promise("an outcome that is noted already, or is that of no step that is under way, changes nothing");
    let mut flow = workflow(diamond());
    go(&mut flow);
    tell(&mut flow, "order/a", Ok(json!(1)));
    let before = flow.clone();
    for (job, outcome) in [
        ("order/a", Ok(json!(2))),
        ("order/a", Err("late")),
        ("order/d", Ok(json!(1))),
        ("order/a/undo", Ok(json!(1))),
        ("order/nobody", Ok(json!(1))),
        ("orders/b", Ok(json!(1))),
        ("order", Ok(json!(1))),
        ("another/b", Ok(json!(1))),
    ] {
        let noted = note(&flow, job, &outcome.clone().map_err(str::to_owned));
        ensure!(
            noted == before,
            "`{job}` with {outcome:?} was noted already, or is none of a step that is under way; it changed {before:?} into {noted:?}"
        );
    }
    Ok(())
}

async fn any_order_of_replies_comes_to_an_end(lab: Lab) -> Outcome {
    lab.promise("whatever the steps wait for, and in whatever order they succeed and fail, the workflow comes to an end: each step begins once, after what it waits for, and what was done is undone in the opposite order");
    let mut random = lab.rng();
    for _ in 0..500 {
        let count = random.random_range(1..9);
        let mut steps = Vec::new();
        for n in 0..count {
            let mut step = step(&format!("s{n}"));
            for other in 0..n {
                if random.random_bool(0.3) {
                    step.after.push(format!("s{other}"));
                }
            }
            if random.random_bool(0.6) {
                step = step.undone_by("mail", Value::Null);
            }
            steps.push(step);
        }
        let fails = random.random_bool(0.5);
        let mut flow = workflow(steps);
        let mut begun = BTreeSet::new();
        let mut open = go(&mut flow);
        begun.extend(open.iter().map(|run| run.job.clone()));
        let mut undone = Vec::new();
        for _ in 0..100 {
            if open.is_empty() {
                break;
            }
            let run = open.swap_remove(random.random_range(0..open.len()));
            if let Some(name) = run.job.strip_suffix("/undo") {
                undone.push(name.trim_start_matches("order/").to_owned());
            } else {
                let name = run.job.trim_start_matches("order/").to_owned();
                let step = flow.steps.iter().find(|step| step.step.name == name);
                let ready = step.is_some_and(|step| {
                    step.step
                        .after
                        .iter()
                        .all(|other| flow.order.contains(other))
                });
                ensure!(
                    ready,
                    "`{name}` was begun before what it waits for: {:?}",
                    flow.order
                );
            }
            let is_undo = run.job.ends_with("/undo");
            let outcome = match fails && !is_undo && random.random_bool(0.25) {
                true => Err("no"),
                false => Ok(json!(run.job)),
            };
            for run in tell(&mut flow, &run.job, outcome) {
                ensure!(
                    begun.insert(run.job.clone()),
                    "`{}` was begun twice; the steps are {:?}",
                    run.job,
                    states(&flow)
                );
                open.push(run);
            }
        }
        let has_failed = states(&flow)
            .values()
            .any(|state| *state == StepState::Failed);
        let wanted = match has_failed {
            true => FlowState::Failed,
            false => FlowState::Succeeded,
        };
        ensure!(
            flow.state == wanted,
            "nothing is under way, and the workflow is {:?}: {:?}",
            flow.state,
            states(&flow)
        );
        if has_failed {
            let with_undo = |name: &&String| {
                let mut steps = flow.steps.iter();
                let step = steps.find(|step| step.step.name == **name);
                step.is_some_and(|step| step.step.compensate.is_some())
            };
            let wanted: Vec<_> = flow.order.iter().rev().filter(with_undo).cloned().collect();
            ensure!(
                undone == wanted,
                "succeeded were {:?}, undone were {undone:?}, and were to be {wanted:?}",
                flow.order
            );
        }
    }
    Ok(())
}

fn new(name: &str, steps: Vec<Step>) -> NewWorkflow {
    NewWorkflow {
        name: name.to_owned(),
        steps,
    }
}

async fn a_workflow_that_cannot_be_is_refused_with_its_place(lab: Lab) -> Outcome {
    lab.promise("a workflow whose steps wait in a circle, for a step that is not there, or for a service that was never started is refused with the place, and nothing of it is stored");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let circle = vec![
        step("x"),
        step("a").after(["x", "c"]),
        step("b").after(["a"]),
        step("c").after(["b"]),
        step("y").after(["c"]),
    ];
    for (what, flow, wanted, words) in [
        ("a circle", new("order", circle), "/after", "a"),
        (
            "a step that waits for itself",
            new("order", vec![step("a").after(["a"])]),
            "/steps/0/after",
            "a",
        ),
        ("no steps", new("order", vec![]), "/steps", ""),
        (
            "an unknown step",
            new("order", vec![step("a").after(["z"])]),
            "/steps/0/after/0",
            "z",
        ),
        (
            "two steps of one name",
            new("order", vec![step("a"), step("a")]),
            "/steps/1/name",
            "a",
        ),
        (
            "a bad name",
            new("or/der", vec![step("a")]),
            "/name",
            "or/der",
        ),
        (
            "a bad step's name",
            new("order", vec![step("a/undo")]),
            "/steps/0/name",
            "a/undo",
        ),
        (
            "no attempts",
            new("order", vec![step("a").attempts(0)]),
            "/steps/0/attempts",
            "",
        ),
        (
            "an unknown service",
            new(
                "order",
                vec![step("a"), Step::new("b", "nobody", Value::Null)],
            ),
            "/steps/1/service",
            "nobody",
        ),
        (
            "an unknown service that undoes",
            new("order", vec![step("a").undone_by("nobody", Value::Null)]),
            "/steps/0/compensate/service",
            "nobody",
        ),
    ] {
        match store.begin(&flow, at(0)).await {
            Err(Error::BadJob { place, why }) => ensure!(
                place.ends_with(wanted) && why.contains(words),
                "{what} was refused at {place} because \"{why}\"; the place is {wanted}"
            ),
            other => fail!("{what} was to be refused; what came is {other:?}"),
        }
        ensure!(
            store.workflow("order").await?.is_none() && board.open().await?.is_empty(),
            "{what} was refused, and something is stored"
        );
    }
    Ok(())
}

async fn beginning_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    store.begin(&new("before", vec![step("a")]), at(0)).await?;
    let fault = point.arm(&board.redis);
    let outcome = store
        .begin(&new("order", vec![step("a"), step("b")]), at(0))
        .await;
    let struck = !fault.disarm();
    let known: bool = redis::cmd("EXISTS")
        .arg(board.names.workflow("order"))
        .query_async(&mut board.direct().await?)
        .await?;
    let open = board
        .open()
        .await?
        .keys()
        .filter(|id| id.starts_with("order/"))
        .count();
    ensure!(
        open == if known { 2 } else { 0 } && (known || outcome.is_err()),
        "{}: `begin` returned {:?}; the workflow is {}, and {open} of its two first steps are open",
        point.blame(&board.redis),
        outcome.map(|_| ()),
        if known { "there" } else { "missing" }
    );
    Ok(struck)
}

async fn a_workflow_begins_wholly_or_not_at_all(lab: Lab) -> Outcome {
    lab.promise("wherever the connection is cut, a workflow is there with the runs of its first steps, or not at all");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| beginning_once(walking.clone(), point),
    )
    .await
}

async fn a_name_is_given_once(lab: Lab) -> Outcome {
    lab.promise("a second workflow of the same name is `Error::Duplicate`; of many that begin it at once one does");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let beginning = (0..6).map(|n| {
        let store = store.clone();
        async move {
            store
                .begin(&new("order", vec![step(&format!("s{n}"))]), at(0))
                .await
        }
    });
    let outcomes = join_all(beginning).await;
    let begun = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let others = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::Duplicate(..))))
        .count();
    let open = board.open().await?.len();
    ensure!(
        begun == 1 && others == 5 && open == 1,
        "six began a workflow of one name at once: {begun} did, {others} were told that it is there, {open} step(s) are open"
    );
    Ok(())
}

/// Plays all services until the workflow has come to an end. `answer` says what becomes of a run.
async fn play(
    board: &Board,
    store: &Store,
    name: &str,
    mut answer: impl FnMut(&Run) -> Result<Value, String>,
) -> Result<(Workflow, Vec<Run>), Failure> {
    let mut runs = Vec::new();
    let limit = tokio::time::Instant::now() + board.lab.deadline() * 3;
    loop {
        for run in board.drain("mail").await? {
            let outcome = answer(&run);
            board.reply(&run, outcome).await?;
            runs.push(run);
        }
        let flow = store.workflow(name).await?;
        let Some(flow) = flow else {
            fail!("there is no workflow `{name}` any more");
        };
        if !matches!(flow.state, FlowState::Running | FlowState::Compensating) {
            return Ok((flow, runs));
        }
        ensure!(
            tokio::time::Instant::now() < limit,
            "the workflow comes to no end: it is {:?}, its steps are {:?}, the runs so far {:?}",
            flow.state,
            states(&flow),
            jobs(&runs)
        );
        board.lab.within(Duration::from_millis(20)).await;
    }
}

async fn steps_go_to_their_services_and_back(lab: Lab) -> Outcome {
    lab.promise("a workflow goes from step to step through the services: each is given the results before it, and all have succeeded in the end");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    store.begin(&new("order", diamond()), time::now()).await?;
    let (flow, runs) = play(&board, &store, "order", |run| {
        Ok(json!({"did": run.job, "with": run.payload["results"]}))
    })
    .await?;
    let jobs = jobs(&runs);
    ensure!(
        flow.state == FlowState::Succeeded && jobs == ["order/a", "order/b", "order/c", "order/d"],
        "the workflow is {:?}, and the runs were {jobs:?}",
        flow.state
    );
    let last = runs.iter().find(|run| run.job == "order/d");
    let a = json!({"did": "order/a", "with": {}});
    let wanted = json!({
        "b": {"did": "order/b", "with": {"a": a}},
        "c": {"did": "order/c", "with": {"a": a}},
    });
    ensure!(
        last.is_some_and(|run| run.payload["results"] == wanted && run.token >= 1),
        "d was given {last:?}"
    );
    node.stop().await?;
    Ok(())
}

async fn a_step_that_fails_is_tried_again_and_then_undone(lab: Lab) -> Outcome {
    lab.promise("a step has its attempts; after the last the workflow is undone, and what undoes has its attempts too");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    let steps = vec![
        step("a").undone_by("mail", json!("undo")).attempts(2),
        step("b").after(["a"]).attempts(3),
    ];
    store.begin(&new("order", steps), time::now()).await?;
    let (flow, runs) = play(&board, &store, "order", |run| match run.job.as_str() {
        "order/a" => Ok(json!("room 7")),
        // Undoing succeeds the second time.
        "order/a/undo" if run.attempt == 2 => Ok(Value::Null),
        _ => Err(format!("attempt {}", run.attempt)),
    })
    .await?;
    let seen: Vec<_> = runs
        .iter()
        .map(|run| (run.job.as_str(), run.attempt))
        .collect();
    let wanted = [
        ("order/a", 1),
        ("order/b", 1),
        ("order/b", 2),
        ("order/b", 3),
        ("order/a/undo", 1),
        ("order/a/undo", 2),
    ];
    ensure!(
        seen == wanted && flow.state == FlowState::Failed,
        "the workflow is {:?}; the runs were {seen:?}, and were to be {wanted:?}",
        flow.state
    );
    let undo = &runs[4].payload;
    ensure!(
        *undo == json!({"payload": "undo", "result": "room 7"}),
        "what undoes a was given {undo}"
    );
    let failed = flow.steps.iter().find(|step| step.step.name == "b");
    ensure!(
        failed.is_some_and(|step| step.error.as_deref() == Some("attempt 3")),
        "b has failed three times: {failed:?}"
    );
    node.stop().await?;
    Ok(())
}

/// The open runs of a workflow's steps.
async fn opened(board: &Board, store: &Store) -> Result<Vec<Run>, Failure> {
    let term = board.term("check", 1).await?;
    Ok(store.open(&term, at(86_400_000 * 3_650), 100).await?)
}

async fn two_nodes_that_hear_of_two_steps_begin_the_third_once(lab: Lab) -> Outcome {
    lab.promise("two nodes that deal with the replies of two steps at the same moment begin the step that waits for both, and once");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let others = join_all((0..4).map(|_| board.store())).await;
    let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    for round in 0..25 {
        let name = format!("order-{round}");
        let steps = vec![
            step("a"),
            step("b"),
            step("c"),
            step("d"),
            step("last").after(["a", "b", "c", "d"]),
        ];
        store.begin(&new(&name, steps), at(0)).await?;
        let runs = opened(&board, &store).await?;
        let of_this: Vec<_> = runs
            .iter()
            .filter(|run| run.job.starts_with(&format!("{name}/")))
            .collect();
        ensure!(
            of_this.len() == 4,
            "four steps begin, and open are {of_this:?}"
        );
        let answering = of_this.iter().zip(&others).map(|(run, store)| {
            let reply = Reply::new(run, Ok(json!(run.job)));
            async move { store.answer(&reply, at(1), at(2)).await }
        });
        for answered in join_all(answering).await {
            answered?;
        }
        let last = format!("{name}/last");
        let runs = opened(&board, &store).await?;
        let begun: Vec<_> = runs.iter().filter(|run| run.job == last).collect();
        ensure!(
            begun.len() == 1,
            "JS19",
            "in round {round} four replies came at once to four nodes; the step that waits for all was begun {} time(s), the steps are {:?}",
            begun.len(),
            store.workflow(&name).await?.map(|flow| states(&flow))
        );
        let results = begun[0].payload["results"]
            .as_object()
            .map(serde_json::Map::len);
        ensure!(
            results == Some(4),
            "JS19",
            "the last step waited for four results, and was given {}",
            begun[0].payload
        );
        store
            .answer(&Reply::new(begun[0], Ok(json!(1))), at(3), at(4))
            .await?;
    }
    Ok(())
}

async fn answering_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    store.begin(&new("before", vec![step("a")]), at(0)).await?;
    for run in opened(&board, &store).await? {
        store
            .answer(&Reply::new(&run, Ok(json!(1))), at(1), at(2))
            .await?;
    }
    store
        .begin(
            &new("order", vec![step("a"), step("b").after(["a"])]),
            at(0),
        )
        .await?;
    let runs = opened(&board, &store).await?;
    let [run] = &runs[..] else {
        fail!("one step begins, and open are {runs:?}");
    };
    let reply = Reply::new(run, Ok(json!("done")));
    let fault = point.arm(&board.redis);
    let outcome = store.answer(&reply, at(1), at(2)).await;
    let struck = !fault.disarm();
    if outcome.is_err() {
        // It was not acknowledged, so it comes again: to another node.
        let elsewhere = board.elsewhere().await?;
        let other = elsewhere.store().await?;
        other.answer(&reply, at(3), at(4)).await?;
    }
    let open = jobs(&opened(&board, &store).await?);
    let flow = store.workflow("order").await?;
    ensure!(
        open == ["order/b"],
        "JS19",
        "{}: the reply of a was answered with {:?} and came again if that failed; open are {open:?}, the steps are {:?}",
        point.blame(&board.redis),
        outcome.map(|_| ()),
        flow.map(|flow| states(&flow))
    );
    Ok(struck)
}

async fn a_reply_that_was_half_dealt_with_is_made_up_for(lab: Lab) -> Outcome {
    lab.promise("wherever a node is cut off while it deals with a reply, the reply comes again, and the next step begins, once");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        18,
        move |point| answering_once(walking.clone(), point),
    )
    .await
}

async fn a_workflow_survives_the_death_of_its_nodes(lab: Lab) -> Outcome {
    lab.promise("a workflow goes on after every node that had to do with it was killed: nothing is lost, and no step has two effects");
    let board = Board::new(&lab).await?;
    let store = board.store().await?;
    let flags = ["--lease", "1s", "--check", "50ms", "--retry-delay", "50ms"];
    let service = board.service_process("mail", &[])?;
    lab.eventually("the service to be there", || async {
        let queue = board.rabbit.queue(&board.names.queue("mail")).await?;
        Ok(queue.is_some_and(|queue| queue.consumers > 0).then_some(()))
    })
    .await?;
    let mut steps = vec![];
    for n in 0..12 {
        let mut step = Step::new(format!("s{n}"), "mail", json!({"sleep": "30ms"}));
        if n > 0 {
            step = step.after([format!("s{}", n - 1).as_str()]);
        }
        steps.push(step);
    }
    store.begin(&new("order", steps), time::now()).await?;
    let mut killed = 0;
    let mut node = board.node_process("node-0", &flags)?;
    for wanted in [2, 4, 7, 9, 12] {
        lab.eventually(&format!("{wanted} of twelve steps to succeed"), || async {
            let flow = store.workflow("order").await?;
            Ok(flow.filter(|flow| flow.order.len() >= wanted).map(|_| ()))
        })
        .await
        .map_err(|failure| failure.also(format!("{killed} node(s) were killed")))?;
        if wanted < 12 {
            node.kill();
            node.wait().await?;
            killed += 1;
            node = board.node_process(&format!("node-{killed}"), &flags)?;
        }
    }
    let flow = store.workflow("order").await?;
    ensure!(
        flow.as_ref()
            .is_some_and(|flow| flow.state == FlowState::Succeeded),
        "all steps have succeeded, and the workflow is {flow:?}"
    );
    let effects = board.effects().await?;
    let jobs: BTreeSet<_> = effects.iter().map(|effect| effect["job"].clone()).collect();
    ensure!(
        effects.len() == 12 && jobs.len() == 12,
        "twelve steps have {} effects, of {} jobs",
        effects.len(),
        jobs.len()
    );
    node.terminate();
    service.terminate();
    node.wait().await?;
    service.wait().await?;
    Ok(())
}
