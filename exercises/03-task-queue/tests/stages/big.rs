//! Everything at once: five thousand tasks, three workers, a crash of RabbitMQ, and twenty other faults,
//! all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab::{Check, Failure, Lab, Outcome, Service, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;
use task_queue::{NewTask, State, Submitter};

use crate::depot::Depot;

/// For stage 8.
pub fn of_stage_8() -> Vec<Check> {
    lab::checks![five_thousand_tasks_survive_everything.limit_secs(300)]
}

const TASKS: usize = 5_000;
const WORKERS: usize = 3;
const KILLS: usize = 10;
const CUTS: usize = 10;

/// What happens to whom.
enum Fault {
    Kill(usize),
    Cut(usize),
    Crash,
}

fn faults(random: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..KILLS {
        faults.push(Fault::Kill(random.random_range(0..WORKERS)));
    }
    for _ in 0..CUTS {
        faults.push(Fault::Cut(random.random_range(0..=WORKERS)));
    }
    for i in (1..faults.len()).rev() {
        faults.swap(i, random.random_range(0..=i));
    }
    let middle = random.random_range(5..15);
    faults.insert(middle, Fault::Crash);
    faults
}

/// A task of any kind, some with a key that is used several times.
fn any(random: &mut StdRng, n: usize) -> NewTask {
    let task = match random.random_range(0..10) {
        0 => NewTask::new("flaky", json!({"fails": 1})),
        1 => NewTask::new("fail", json!({"reason": "no luck", "permanent": true})),
        _ => NewTask::new("sleep", json!({"millis": random.random_range(0..5)})),
    };
    match n % 4 {
        // Each key comes twice, with the same task.
        0 => NewTask::new("sleep", json!({"millis": 1})).with_key(format!("key-{}", n / 8)),
        _ => task,
    }
}

fn worker(depot: &Depot) -> Result<Service, Failure> {
    depot.worker(&[
        "--concurrency",
        "16",
        "--attempts",
        "8",
        "--retry-delay",
        "50ms",
        "--retry-longest",
        "200ms",
    ])
}

/// Starts those anew that have ended because RabbitMQ was not there when they started, as an operating
/// system does. Nothing else may end them.
fn see_to(workers: &mut [Service], places: &[Depot]) -> Outcome {
    for (service, place) in workers.iter_mut().zip(places) {
        match service.exit_status().map(|status| status.code()) {
            Some(Some(69)) => *service = worker(place)?,
            _ => service.expect_running()?,
        }
    }
    Ok(())
}

async fn submit(submitter: Submitter, tasks: Vec<NewTask>) -> Vec<(Option<String>, String)> {
    let mut accepted = Vec::new();
    for task in tasks {
        // Somebody who needs it done asks again, with the same key or as another task.
        loop {
            match submitter.submit(task.clone()).await {
                Ok(status) => {
                    accepted.push((task.key.clone(), status.id));
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    accepted
}

async fn five_thousand_tasks_survive_everything(lab: Lab) -> Outcome {
    lab.promise("with ten kills, ten cuts and a crash of RabbitMQ every one of five thousand accepted tasks succeeds, or fails with a dead letter; each ends once, and a key has one task");
    let own = lab.own_rabbit().await?;
    let depot = Depot::with(&lab, (*own).clone()).await?;
    let mut random = lab.rng();
    // Each worker has its own way to the brokers, for the cuts.
    let mut places = Vec::new();
    for _ in 0..WORKERS {
        let place = Depot {
            redis: lab.redis().await?,
            rabbit: own.again(&lab)?,
            ..depot.clone()
        };
        places.push(place);
    }
    let submitter = depot.submitter().await?;
    let mut workers = Vec::new();
    for place in &places {
        workers.push(worker(place)?);
    }
    let tasks: Vec<_> = (0..TASKS).map(|n| any(&mut random, n)).collect();
    let submitting: Vec<_> = tasks
        .chunks(TASKS / 50)
        .map(|tasks| tokio::spawn(submit(submitter.clone(), tasks.to_vec())))
        .collect();
    let faults = faults(&mut random);
    let share = TASKS / (faults.len() + 4);
    for (n, fault) in (1..).zip(faults) {
        // So much has to be done first: by what happens, and not by the clock.
        let enough = share * n / 2;
        let what = format!("{enough} tasks to end");
        lab.eventually(&what, || async {
            Ok((depot.done().await?.len() >= enough).then_some(()))
        })
        .await?;
        see_to(&mut workers, &places)?;
        match fault {
            Fault::Kill(which) => {
                workers[which].kill();
                workers[which].wait().await?;
                workers[which] = worker(&places[which])?;
            }
            Fault::Cut(which) if which == WORKERS => depot.rabbit.proxy().cut_all(),
            Fault::Cut(which) => {
                places[which].rabbit.proxy().cut_all();
                places[which].redis.proxy().cut_all();
            }
            Fault::Crash => {
                own.kill().await?;
                own.start().await?;
            }
        }
    }
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for submitting in submitting {
        for (key, id) in submitting.await? {
            if let Some(key) = key {
                keys.entry(key).or_default().insert(id.clone());
            }
            ids.insert(id);
        }
    }
    for (key, ids) in &keys {
        ensure!(
            ids.len() == 1,
            "TQ07",
            "the key `{key}` stands for the tasks {ids:?}"
        );
    }
    // However long it takes, as long as it goes on.
    let mut last = 0;
    loop {
        let done = depot.done().await?;
        let ended: BTreeSet<_> = done.iter().map(|(id, _)| id.clone()).collect();
        if ids.is_subset(&ended) {
            break;
        }
        see_to(&mut workers, &places)?;
        let before = last;
        last = done.len();
        let moved = lab
            .eventually("another task to end", || async {
                Ok((depot.done().await?.len() > before).then_some(()))
            })
            .await;
        let missing: Vec<_> = ids.difference(&ended).take(3).collect();
        moved.map_err(|failure| {
            failure.also(format!(
                "{} of {} accepted tasks have not ended, such as {missing:?}",
                ids.len() - ids.intersection(&ended).count(),
                ids.len()
            ))
        })?;
    }
    let done = depot.done().await?;
    let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, state) in &done {
        states.entry(id).or_default().push(state);
    }
    let mut failed = BTreeSet::new();
    for id in &ids {
        let ended = &states[id.as_str()];
        ensure!(
            ended.len() == 1,
            "TQ10",
            "the task {id} ended {} times: {ended:?}",
            ended.len()
        );
        if ended[0] == State::Failed.as_str() {
            failed.insert(id.clone());
        }
    }
    // A dead letter for each that failed.
    lab.eventually("a dead letter for each task that failed", || async {
        while let Some(letter) = depot.rabbit.take(&depot.names.dead_queue()).await? {
            let body: serde_json::Value = serde_json::from_slice(&letter.message.body)?;
            if let Some(id) = body["id"].as_str() {
                letters().lock().expect("the letters").insert(id.to_owned());
            }
        }
        let found = letters().lock().expect("the letters").clone();
        Ok(failed.is_subset(&found).then_some(()))
    })
    .await
    .map_err(|failure| failure.code("TQ17"))?;
    Ok(())
}

/// The ids of dead letters so far.
fn letters() -> &'static std::sync::Mutex<BTreeSet<String>> {
    static LETTERS: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());
    &LETTERS
}
