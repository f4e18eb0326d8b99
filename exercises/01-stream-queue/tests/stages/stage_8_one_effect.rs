//! Stage 8: deliveries come more than once, effects do not; and connections come and go.

use std::time::Duration;

use lab::faults::{Action, Trigger};
use lab::{Check, Lab, Outcome, ensure};
use rand::RngExt;
use stream_queue::{WorkOptions, apply_once};

use crate::queue::{Queue, Seen, answered, delivers, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        the_same_key_has_its_effect_once,
        forty_at_once_have_one_effect,
        an_effect_and_its_key_are_one_step_at_every_crash_point,
        an_effect_that_is_refused_is_not_remembered,
        a_lost_connection_is_rebuilt_and_nothing_is_lost,
        an_entry_delivered_into_a_dead_connection_is_handled,
        a_worker_outlives_a_restart_of_redis.limit_secs(60),
        a_redelivered_entry_has_its_effect_once,
        ten_thousand_entries_survive_twenty_faults.limit_secs(120),
    ]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn balance(queue: &Queue, key: &str) -> Result<i64, lab::Failure> {
    let value: Option<i64> = redis::cmd("GET")
        .arg(key)
        .query_async(&mut queue.direct())
        .await?;
    Ok(value.unwrap_or(0))
}

const DAY: Duration = Duration::from_secs(86_400);

async fn the_same_key_has_its_effect_once(lab: Lab) -> Outcome {
    lab.promise("`apply_once` runs the commands and returns true the first time; with the same key it returns false and runs nothing. The key is remembered for as long as was asked, not for ever.");
    let queue = Queue::new(&lab).await?;
    let (key, account, log) = (lab.unique("done"), lab.unique("account"), lab.unique("log"));
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let effect = [
        words(&["INCRBY", &account, "30"]),
        words(&["RPUSH", &log, "paid 30", "", "receipt \"A\""]),
    ];
    ensure!(
        apply_once(&mut connection, &key, &effect, DAY).await?,
        "the first call for a key returned false"
    );
    for _ in 0..3 {
        ensure!(
            !apply_once(&mut connection, &key, &effect, DAY).await?,
            "SQ16",
            "a later call with the same key returned true"
        );
    }
    ensure!(
        balance(&queue, &account).await? == 30,
        "SQ16",
        "30 were booked once under one key; the account holds {}",
        balance(&queue, &account).await?
    );
    let lines: Vec<String> = redis::cmd("LRANGE")
        .arg(&[&log, "0", "-1"])
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        lines == ["paid 30", "", "receipt \"A\""],
        "the effect's second command pushed three lines, one of them empty; the list holds {lines:?}"
    );
    let ttl: i64 = redis::cmd("TTL")
        .arg(&key)
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        (80_000..=86_400).contains(&ttl),
        "the key is to be remembered for a day under its own name; Redis says that `{key}` has {ttl} s to live (-1: for ever, -2: there is no such key)"
    );
    apply_once(&mut connection, &key, &effect, DAY * 30).await?;
    let later: i64 = redis::cmd("TTL")
        .arg(&key)
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        later <= ttl,
        "the key had {ttl} s to live; a call that applied nothing made it live on for {later} s"
    );
    let brief = lab.unique("done");
    apply_once(&mut connection, &brief, &[], Duration::from_millis(90_500)).await?;
    let millis: i64 = redis::cmd("PTTL")
        .arg(&brief)
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        (60_001..=90_500).contains(&millis),
        "a key that is to be remembered for 90.5 s has {millis} ms to live"
    );
    let other = lab.unique("done");
    ensure!(
        apply_once(&mut connection, &other, &effect, DAY).await?,
        "another key is another effect, and it was not applied"
    );
    ensure!(
        balance(&queue, &account).await? == 60,
        "two keys were applied; the account holds {}",
        balance(&queue, &account).await?
    );
    Ok(())
}

async fn forty_at_once_have_one_effect(lab: Lab) -> Outcome {
    lab.promise(
        "When many call `apply_once` with one key at the same moment, one of them has the effect.",
    );
    let queue = Queue::new(&lab).await?;
    for _ in 0..5 {
        let (key, account) = (lab.unique("done"), lab.unique("account"));
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(40));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let mut connection = stream_queue::connect(&queue.redis.url()).await?;
            let (key, account, barrier) = (key.clone(), account.clone(), barrier.clone());
            calls.spawn(async move {
                barrier.wait().await;
                apply_once(
                    &mut connection,
                    &key,
                    &[words(&["INCRBY", &account, "30"])],
                    DAY,
                )
                .await
            });
        }
        let mut applied = 0;
        for result in calls.join_all().await {
            match result {
                Ok(true) => applied += 1,
                Ok(false) => {}
                Err(error) => {
                    lab::fail!("one of forty calls at the same moment returned an error: {error}")
                }
            }
        }
        let holds = balance(&queue, &account).await?;
        ensure!(
            applied == 1 && holds == 30,
            "SQ16",
            "of forty calls with one key, {applied} returned true, and the account holds {holds} instead of 30"
        );
    }
    Ok(())
}

async fn an_effect_and_its_key_are_one_step_at_every_crash_point(lab: Lab) -> Outcome {
    lab.promise("The effect and its key are written in one step: wherever the connection breaks, a second try ends with the effect there exactly once.");
    let queue = Queue::new(&lab).await?;
    for action in [Action::CutBefore, Action::CutAfter] {
        for nth in 1..=12 {
            let (key, account) = (lab.unique("done"), lab.unique("account"));
            let effect = [words(&["INCRBY", &account, "30"])];
            let mut connection = stream_queue::connect(&queue.redis.url()).await?;
            let fault = queue
                .redis
                .proxy()
                .arm(Trigger::request(|_| true).nth(nth), action);
            let at = format!("{action:?} at command {nth} of `apply_once`");
            lab.history().fault("proxy", &at);
            let _ = apply_once(&mut connection, &key, &effect, DAY).await;
            let cut = fault.has_fired();
            fault.disarm();
            let mut again = stream_queue::connect(&queue.redis.url()).await?;
            apply_once(&mut again, &key, &effect, DAY).await?;
            let holds = balance(&queue, &account).await?;
            ensure!(
                holds == 30,
                "SQ16",
                "{at}, and then tried again: the account holds {holds} instead of 30"
            );
            if !cut {
                break;
            }
        }
    }
    Ok(())
}

async fn an_effect_that_is_refused_is_not_remembered(lab: Lab) -> Outcome {
    lab.promise("When Redis refuses the effect, `apply_once` returns the error and remembers nothing, so that a later try can succeed.");
    let queue = Queue::new(&lab).await?;
    let (key, account) = (lab.unique("done"), lab.unique("account"));
    let _: () = redis::cmd("SET")
        .arg(&[&account, "closed"])
        .query_async(&mut queue.direct())
        .await?;
    let effect = [words(&["INCRBY", &account, "30"])];
    let mut connection = stream_queue::connect(&queue.redis.url()).await?;
    let refused = apply_once(&mut connection, &key, &effect, DAY).await;
    ensure!(
        refused.is_err(),
        "Redis refused to add 30 to the text \"closed\"; `apply_once` returned {refused:?}"
    );
    let _: () = redis::cmd("SET")
        .arg(&[&account, "0"])
        .query_async(&mut queue.direct())
        .await?;
    let later = apply_once(&mut connection, &key, &effect, DAY).await?;
    ensure!(
        later && balance(&queue, &account).await? == 30,
        "SQ16",
        "the first try was refused; the second returned {later}, and the account holds {} instead of 30",
        balance(&queue, &account).await?
    );
    let (key, text, log) = (lab.unique("done"), lab.unique("text"), lab.unique("log"));
    let _: () = redis::cmd("SET")
        .arg(&[&text, "closed"])
        .query_async(&mut queue.direct())
        .await?;
    let effect = [
        words(&["INCRBY", &text, "30"]),
        words(&["RPUSH", &log, "paid"]),
    ];
    let refused = apply_once(&mut connection, &key, &effect, DAY).await;
    let lines: u64 = redis::cmd("LLEN")
        .arg(&log)
        .query_async(&mut queue.direct())
        .await?;
    ensure!(
        refused.is_err() && lines == 0,
        "SQ16",
        "Redis refused the first of two commands; `apply_once` returned {refused:?}, and the second was run {lines} times"
    );
    Ok(())
}

async fn a_lost_connection_is_rebuilt_and_nothing_is_lost(lab: Lab) -> Outcome {
    lab.promise("A worker whose connections break builds new ones and goes on: every entry is handled, and nothing stays pending.");
    let queue = Queue::new(&lab).await?;
    let ids = queue.put(400).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let proxy = queue.redis.proxy();
    let options = WorkOptions {
        concurrency: 4,
        visibility: Duration::from_secs(1),
        max_deliveries: 50,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(())
        }
    });
    for round in 1..=4 {
        let goal = round * 70;
        queue
            .until(
                &mut [&mut worker],
                "work to go on after the connections were cut",
                || async { Ok(seen.distinct() >= goal) },
            )
            .await
            .map_err(|failure| {
                failure.code_if(Some("SQ25")).also(format!(
                    "cut {} times so far; {} of 400 entries were handled",
                    round - 1,
                    seen.distinct()
                ))
            })?;
        lab.history().fault("proxy", "cut all connections");
        proxy.cut_all();
    }
    // While Redis cannot be reached at all, a worker waits for it.
    proxy.refuse(true);
    proxy.cut_all();
    lab.within(Duration::from_millis(400)).await;
    proxy.refuse(false);
    let outcome = queue
        .until(
            &mut [&mut worker],
            "all 400 entries to be handled and acknowledged",
            || async {
                Ok(seen.distinct() == 400
                    && queue.pending().await?.is_empty()
                    && queue.undelivered().await? == 0)
            },
        )
        .await;
    if let Err(failure) = outcome {
        let missing: Vec<String> = ids.iter().filter(|id| !seen.has(id)).cloned().collect();
        return Err(failure.code_if(Some("SQ25")).also(format!(
            "never handled: {}; pending: {}",
            some(&missing),
            some(&queue.pending_ids().await?)
        )));
    }
    worker.finish(&lab).await?;
    ensure!(
        queue.dead().await?.is_empty(),
        "no handler failed, and {} entries were dead-lettered",
        queue.dead().await?.len()
    );
    Ok(())
}

async fn an_entry_delivered_into_a_dead_connection_is_handled(lab: Lab) -> Outcome {
    lab.promise("An entry that Redis delivered into a connection that broke before the reply arrived is pending, and nobody has seen it. The worker finds it and handles it.");
    let queue = Queue::new(&lab).await?;
    let seen = Seen::default();
    let options = WorkOptions {
        visibility: Duration::from_secs(1),
        ..queue.options("c1")
    };
    let mut worker = queue.noting_worker(options, &seen);
    let proxy = queue.redis.proxy();
    queue
        .until(
            &mut [&mut worker],
            "the worker to wait for new entries",
            || async { Ok(proxy.log().iter().any(|e| e.is("XREADGROUP"))) },
        )
        .await?;
    for _ in 0..2 {
        let swallowed = proxy.arm(
            Trigger::reply(|e| e.is("XREADGROUP") && delivers(e)).nth(1),
            Action::CutAfter,
        );
        let id = queue.put(1).await?.remove(0);
        queue
            .until(&mut [&mut worker], "Redis to deliver the entry", || async {
                Ok(swallowed.has_fired() || seen.has(&id))
            })
            .await?;
        queue
            .until(
                &mut [&mut worker],
                "the entry whose delivery got lost on the way to be handled and acknowledged",
                || async { Ok(seen.has(&id) && queue.pending().await?.is_empty()) },
            )
            .await
            .map_err(|failure| failure.code_if("SQ05"))?;
    }
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_worker_outlives_a_restart_of_redis(lab: Lab) -> Outcome {
    lab.promise(
        "When Redis itself dies and comes back with its data, the worker goes on where it was.",
    );
    let own = lab.own_redis().await?;
    let queue = Queue::on(&lab, (*own).clone()).await?;
    queue.put(60).await?;
    let seen = Seen::default();
    let handled = seen.clone();
    let options = WorkOptions {
        concurrency: 2,
        visibility: Duration::from_secs(1),
        max_deliveries: 50,
        ..queue.options("c1")
    };
    let mut worker = queue.worker_with(options, move |entry| {
        handled.add(&entry);
        async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        }
    });
    queue
        .until(&mut [&mut worker], "20 entries to be handled", || async {
            Ok(seen.distinct() >= 20)
        })
        .await?;
    lab.history().fault("redis", "SIGKILL");
    own.kill().await?;
    lab.within(Duration::from_millis(300)).await;
    own.start().await?;
    lab.history().fault("redis", "started again");
    // The lab's own connection died with the old process.
    let queue = queue.reconnected().await?;
    let outcome = queue
        .until(
            &mut [&mut worker],
            "all 60 entries to be handled and acknowledged after the restart",
            || async {
                Ok(seen.distinct() == 60
                    && queue.pending().await?.is_empty()
                    && queue.undelivered().await? == 0)
            },
        )
        .await;
    outcome.map_err(|failure| {
        failure
            .code_if(Some("SQ25"))
            .also(format!("{} of 60 entries were handled", seen.distinct()))
    })?;
    worker.finish(&lab).await?;
    Ok(())
}

async fn a_redelivered_entry_has_its_effect_once(lab: Lab) -> Outcome {
    lab.promise("When a worker has had the effect and its acknowledgement gets lost, the entry is delivered again and the effect is not repeated.");
    let queue = Queue::new(&lab).await?;
    let ledger = lab.unique("ledger");
    let ids = queue.put(60).await?;
    // Every few acknowledgements one is lost on its way, before or after Redis has seen it.
    let mut faults = Vec::new();
    for n in 0..4 {
        let action = if n % 2 == 0 {
            Action::CutBefore
        } else {
            Action::CutAfter
        };
        faults.push(
            queue
                .redis
                .proxy()
                .arm(Trigger::request(|e| e.is("XACK")).nth(2 + 3 * n), action),
        );
    }
    let service = lab
        .service([
            "work",
            "--redis",
            &queue.redis.url(),
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            "c1",
            "--concurrency",
            "3",
            "--visibility",
            "1s",
            "--max-deliveries",
            "50",
            "--ledger",
            &ledger,
        ])
        .start()?;
    lab.eventually("60 entries to be handled and acknowledged", || async {
        service.expect_running()?;
        Ok((queue.undelivered().await? == 0 && queue.pending().await?.is_empty()).then_some(()))
    })
    .await?;
    let effects: Vec<String> = redis::cmd("LRANGE")
        .arg(&[&ledger, "0", "-1"])
        .query_async(&mut queue.direct())
        .await?;
    one_effect_each(&ids, effects)
}

/// The ledger names each id once.
fn one_effect_each(ids: &[String], mut effects: Vec<String>) -> Outcome {
    effects.sort();
    let before = effects.len();
    let mut distinct = effects.clone();
    distinct.dedup();
    ensure!(
        distinct.len() == before,
        "SQ16",
        "{} effects are in the ledger for {} entries: {} were repeated",
        before,
        distinct.len(),
        before - distinct.len()
    );
    let there: std::collections::HashSet<&String> = distinct.iter().collect();
    let missing: Vec<String> = ids
        .iter()
        .filter(|id| !there.contains(id))
        .cloned()
        .collect();
    ensure!(
        missing.is_empty(),
        "{} of {} entries were acknowledged and had no effect: {}",
        missing.len(),
        ids.len(),
        some(&missing)
    );
    Ok(())
}

async fn ten_thousand_entries_survive_twenty_faults(lab: Lab) -> Outcome {
    lab.promise("Ten thousand entries and five workers, of which at random moments one is killed, paused or cut off, twenty times: nothing is lost, nothing is acknowledged twice, and every entry has its effect once.");
    let queue = Queue::new(&lab).await?;
    let ledger = lab.unique("ledger");
    let ids = queue.put(10_000).await?;
    let proxy = queue.redis.proxy();
    let url = queue.redis.url();
    let start = |n: usize| {
        lab.service([
            "work",
            "--redis",
            &url,
            "--stream",
            &queue.stream,
            "--group",
            &queue.group,
            "--consumer",
            &format!("c{n}"),
            "--concurrency",
            "8",
            "--visibility",
            "1500ms",
            "--max-deliveries",
            "100",
            "--ledger",
            &ledger,
        ])
        .start()
    };
    let mut workers = Vec::new();
    for n in 0..5 {
        workers.push(start(n)?);
    }
    let mut rng = lab.rng();
    let history = lab.history();
    let effects = || async {
        let count: u64 = redis::cmd("LLEN")
            .arg(&ledger)
            .query_async(&mut queue.direct())
            .await?;
        Ok::<u64, lab::Failure>(count)
    };
    let mut paused: Option<usize> = None;
    for fault in 1..=20u64 {
        // Each fault strikes at a moment that the seed chose, counted in effects, not in seconds.
        let goal = fault * 450 + rng.random_range(0..300);
        let waited = lab
            .eventually("work to go on after the last fault", || async {
                Ok((effects().await? >= goal).then_some(()))
            })
            .await;
        if let Err(failure) = waited {
            let said: Vec<String> = workers
                .iter()
                .filter_map(|worker| worker.expect_running().err().map(|ended| ended.to_string()))
                .collect();
            return Err(failure.also(format!(
                "after {} faults {} of 10,000 effects were there; {}",
                fault - 1,
                effects().await?,
                said.join("; ")
            )));
        }
        if let Some(n) = paused.take() {
            workers[n].resume();
            history.fault(&format!("c{n}"), "SIGCONT");
        }
        let victim = rng.random_range(0..workers.len());
        match rng.random_range(0..3) {
            0 => {
                workers[victim].kill();
                history.fault(&format!("c{victim}"), "SIGKILL, and started again");
                workers[victim] = start(victim)?;
            }
            1 => {
                workers[victim].pause();
                history.fault(&format!("c{victim}"), "SIGSTOP");
                paused = Some(victim);
            }
            _ => {
                proxy.cut_all();
                history.fault("proxy", "cut all connections");
            }
        }
    }
    if let Some(n) = paused.take() {
        workers[n].resume();
    }
    let outcome = lab
        .eventually(
            "all 10,000 entries to have their effect and be acknowledged",
            || async {
                Ok((effects().await? >= 10_000
                    && queue.pending().await?.is_empty()
                    && queue.undelivered().await? == 0)
                    .then_some(()))
            },
        )
        .await;
    if let Err(failure) = outcome {
        return Err(failure.also(format!(
            "effects: {}; pending: {}; not delivered: {}; dead letters: {}",
            effects().await?,
            some(&queue.pending_ids().await?),
            queue.undelivered().await?,
            queue.dead().await?.len()
        )));
    }
    for worker in &workers {
        worker.terminate();
    }
    ensure!(
        queue.dead().await?.is_empty(),
        "no handler failed, and {} entries were dead-lettered",
        queue.dead().await?.len()
    );
    let list: Vec<String> = redis::cmd("LRANGE")
        .arg(&[&ledger, "0", "-1"])
        .query_async(&mut queue.direct())
        .await?;
    one_effect_each(&ids, list)?;
    let acknowledged: i64 = proxy
        .log()
        .iter()
        .filter(|e| e.is("XACK"))
        .map(answered)
        .sum();
    ensure!(
        acknowledged <= 10_000,
        "10,000 entries were sent, and Redis counted {acknowledged} acknowledgements"
    );
    Ok(())
}
