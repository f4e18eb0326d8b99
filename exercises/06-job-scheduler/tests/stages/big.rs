//! Everything at once: three nodes, three services, a thousand runs in a minute, and thirty kills and pauses,
//! all from one seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use job_scheduler::{Misfire, NewJob, Schedule, run_id, time};
use lab::{Check, Failure, Lab, Outcome, Service, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::board::{Board, of_every};

/// For stage 6.
pub fn of_stage_6() -> Vec<Check> {
    lab::checks![a_thousand_runs_survive_thirty_kills_and_pauses.limit_secs(360)]
}

const ONCE: usize = 880;
const AGAIN: usize = 12;
/// How far apart the runs of those that run again are.
const STEP: u64 = 5_000;
const FAULTS: usize = 30;
/// How long jobs come due.
const MINUTE: Duration = Duration::from_secs(55);
const NODES: [&str; 3] = ["one", "two", "three"];
const SERVICES: [&str; 3] = ["mail", "print", "bill"];

/// What happens to whom: nodes first, then services.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(usize),
    Pause(usize, Duration),
}

fn any(random: &mut StdRng) -> Fault {
    let whom = random.random_range(0..NODES.len() + SERVICES.len());
    match random.random_bool(0.5) {
        true => Fault::Kill(whom),
        // Longer than the lease.
        false => Fault::Pause(
            whom,
            Duration::from_millis(random.random_range(1_200..2_500)),
        ),
    }
}

fn start(board: &Board, which: usize, life: usize) -> Result<Service, Failure> {
    match which.checked_sub(NODES.len()) {
        None => board.node_process(
            &format!("{}-{life}", NODES[which]),
            &[
                "--lease",
                "1s",
                "--check",
                "100ms",
                "--attempts",
                "10",
                "--retry-delay",
                "50ms",
            ],
        ),
        Some(service) => board.service_process(SERVICES[service], &["--concurrency", "8"]),
    }
}

async fn a_thousand_runs_survive_thirty_kills_and_pauses(lab: Lab) -> Outcome {
    lab.promise("with three nodes, three services, and thirty kills and pauses, a thousand runs in a minute have one effect each and none is missing; tokens only grow");
    let board = Board::new(&lab).await?;
    let mut random = lab.rng();
    for service in SERVICES {
        board.knows(service).await?;
    }
    let store = board.store().await?;
    // The jobs are there before anybody leads.
    let began = time::now();
    let mut wanted = BTreeSet::new();
    for n in 0..ONCE {
        let after = Duration::from_millis(random.random_range(1_000..MINUTE.as_millis() as u64));
        let service = SERVICES[n % 3];
        let payload = match n % 10 {
            0 => json!({"fail": 1}),
            1 => json!({"sleep": "100ms"}),
            _ => json!(null),
        };
        let job = NewJob {
            payload,
            ..NewJob::new(format!("once-{n}"), Schedule::After { after }, service)
        };
        let added = store.add(&job, began).await?;
        wanted.extend(added.next.map(|at| run_id(&job.name, at)));
    }
    for n in 0..AGAIN {
        let job = NewJob {
            misfire: Misfire::CatchUp(100),
            ..NewJob::new(format!("again-{n}"), of_every(STEP), SERVICES[n % 3])
        };
        store.add(&job, began).await?;
        for k in 1..=MINUTE.as_millis() as i64 / STEP as i64 {
            let at = time::from_millis(began.timestamp_millis() + k * STEP as i64);
            wanted.insert(run_id(&job.name, at));
        }
    }
    let count = NODES.len() + SERVICES.len();
    let mut processes = Vec::new();
    for which in 0..count {
        processes.push(start(&board, which, 0)?);
    }
    let mut lives = vec![0; count];
    let mut tokens: BTreeMap<u64, String> = BTreeMap::new();
    let faults: Vec<Fault> = (0..FAULTS).map(|_| any(&mut random)).collect();
    let clock = Instant::now();
    let mut wakes: Vec<(Instant, usize)> = Vec::new();
    let mut next = 0;
    while clock.elapsed() < MINUTE + Duration::from_secs(2) {
        if let Some(leader) = board.leader().await? {
            let last = tokens.last_key_value().map_or(0, |(token, _)| *token);
            ensure!(
                leader.token >= last,
                "JS17",
                "the token {last} was seen, and after it that of `{leader}`: tokens were to grow"
            );
            let node = tokens.entry(leader.token).or_insert_with(|| {
                lab.history().note("lab", &format!("`{leader}` leads"));
                leader.node.clone()
            });
            ensure!(
                *node == leader.node,
                "the token {} is that of two nodes: `{node}` and `{}`",
                leader.token,
                leader.node
            );
        }
        wakes.retain(|(when, which)| {
            let is_due = Instant::now() >= *when;
            if is_due {
                processes[*which].resume();
            }
            !is_due
        });
        let share = MINUTE.mul_f64((next + 1) as f64 / (FAULTS + 2) as f64);
        if next < FAULTS && clock.elapsed() >= share {
            match faults[next] {
                Fault::Kill(which) => {
                    processes[which].kill();
                    processes[which].wait().await?;
                    wakes.retain(|(_, other)| *other != which);
                    lives[which] += 1;
                    processes[which] = start(&board, which, lives[which])?;
                }
                Fault::Pause(which, how_long) => {
                    processes[which].pause();
                    wakes.push((Instant::now() + how_long, which));
                }
            }
            next += 1;
        }
        lab.within(Duration::from_millis(50)).await;
    }
    for (_, which) in wakes {
        processes[which].resume();
    }
    // However long it takes, as long as it goes on.
    let mut last = usize::MAX;
    loop {
        let missing = missing(&board, &wanted).await?;
        if missing.is_empty() {
            break;
        }
        let fewer = lab
            .eventually("another run to have its effect", || async {
                Ok((self::missing(&board, &wanted).await?.len() < last).then_some(()))
            })
            .await;
        last = missing.len();
        fewer.map_err(|failure| {
            let some: Vec<_> = missing.iter().take(3).collect();
            failure
                .also(format!(
                    "{} of {} runs have had no effect, such as {some:?}",
                    missing.len(),
                    wanted.len()
                ))
                .code("JS04")
        })?;
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut highest: HashMap<String, u64> = HashMap::new();
    for effect in board.effects().await? {
        let (id, job, token) = of(&effect)?;
        *counts.entry(id.clone()).or_default() += 1;
        let before = highest.entry(job).or_default();
        ensure!(
            token >= *before,
            "JS17",
            "the run {id} had its effect with the token {token}, after one with {before} of the same job"
        );
        *before = token;
    }
    let twice: Vec<_> = counts
        .iter()
        .filter(|(_, count)| **count > 1)
        .take(3)
        .collect();
    ensure!(
        twice.is_empty(),
        "JS18",
        "some runs had more than one effect: {twice:?}"
    );
    lab.history().note(
        "lab",
        &format!(
            "{} runs had their effect under {} leaders",
            counts.len(),
            tokens.len()
        ),
    );
    ensure!(
        tokens.len() > 1,
        "in thirty kills and pauses no other node has led"
    );
    for process in &processes {
        process.terminate();
    }
    for process in &processes {
        process.wait().await?;
    }
    Ok(())
}

fn of(effect: &HashMap<String, String>) -> Result<(String, String, u64), Failure> {
    let field = |name: &str| {
        let value = effect.get(name).cloned();
        value.ok_or_else(|| Failure::observed(format!("an effect has no `{name}`: {effect:?}")))
    };
    let job = field("job")?;
    let at = field("scheduled_for")?.parse().map_err(|_| {
        Failure::observed(format!(
            "an effect's `scheduled_for` is no time: {effect:?}"
        ))
    })?;
    let token = field("token")?
        .parse()
        .map_err(|_| Failure::observed(format!("an effect's `token` is no number: {effect:?}")))?;
    Ok((run_id(&job, at), job, token))
}

async fn missing(board: &Board, wanted: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let effects = board.effects().await?;
    let seen = effects.iter().map(|effect| of(effect).map(|(id, ..)| id));
    let seen: BTreeSet<String> = seen.collect::<Result<_, _>>()?;
    Ok(wanted.difference(&seen).cloned().collect())
}
