//! Stage 4: one leads, for as long as it lives.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use job_scheduler::{NodeOptions, Term, time};
use lab::crash::{Crash, Point, walk};
use lab::faults::{Action, amqp};
use lab::{Check, Failure, FairClock, Lab, Outcome, ensure, fail};

use crate::board::{Board, LONG, soon};

pub fn checks() -> Vec<Check> {
    lab::checks![
        of_many_that_ask_one_has_the_lease,
        tokens_grow_by_one_with_each_term,
        a_lease_ends_by_itself,
        a_lease_is_not_acquired_twice_by_its_own_node,
        a_renewal_makes_it_last_and_is_the_owners_alone,
        a_lease_that_has_ended_is_not_renewed,
        giving_it_up_is_the_owners_alone,
        a_lease_is_taken_wholly_or_not_at_all,
        the_holder_is_known_to_all,
        another_node_leads_after_a_kill.limit_secs(120),
        a_leader_that_stops_hands_over_at_once,
        of_three_nodes_one_leads,
        a_busy_leader_stays_leader,
        a_leader_cut_off_from_redis_publishes_no_more.limit_secs(120),
        a_node_that_was_cut_off_stands_by_again,
    ]
}

async fn ttl(board: &Board) -> Result<i64, Failure> {
    Ok(redis::cmd("PTTL")
        .arg(board.names.leader())
        .query_async(&mut board.direct().await?)
        .await?)
}

async fn of_many_that_ask_one_has_the_lease(lab: Lab) -> Outcome {
    lab.promise("of many nodes that ask for the lease at the same moment one has it, and the others have nothing");
    let board = Board::new(&lab).await?;
    for round in 1..=10_u64 {
        let asking = (0..10).map(|n| {
            let board = board.clone();
            async move {
                let lease = board.lease(&format!("node-{n}"), LONG).await?;
                Ok::<_, Failure>(lease.acquire().await?.map(|term| (lease, term)))
            }
        });
        let mut have = Vec::new();
        for asked in join_all(asking).await {
            have.extend(asked?);
        }
        let [(lease, term)] = &have[..] else {
            fail!(
                "ten asked for the lease at once, and {} have it",
                have.len()
            );
        };
        ensure!(
            term.token == round,
            "{} terms were given out before; the token of the next is {}",
            round - 1,
            term.token
        );
        ensure!(
            board.leader().await?.as_ref() == Some(term),
            "the term is {term:?}, and in Redis stands {:?}",
            board.leader().await?
        );
        ensure!(lease.release(term).await?, "the owner could not give it up");
    }
    Ok(())
}

async fn tokens_grow_by_one_with_each_term(lab: Lab) -> Outcome {
    lab.promise("each term's token is one more than that of the one before, whoever had it, and whoever asked in vain");
    let board = Board::new(&lab).await?;
    let (one, two) = (
        board.lease("one", LONG).await?,
        board.lease("two", LONG).await?,
    );
    let mut last = 0;
    for round in 0..20 {
        let (has, asks) = if round % 3 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        let Some(term) = has.acquire().await? else {
            fail!("nobody has the lease, and it was not to be had");
        };
        for _ in 0..3 {
            ensure!(asks.acquire().await?.is_none(), "two have the lease");
        }
        ensure!(
            term.token == last + 1,
            "the last token was {last}, this one is {}",
            term.token
        );
        last = term.token;
        has.release(&term).await?;
    }
    Ok(())
}

async fn a_lease_ends_by_itself(lab: Lab) -> Outcome {
    lab.promise("a lease whose owner says nothing any more ends after its length, by the clock of Redis, and another may have it");
    let board = Board::new(&lab).await?;
    let one = board.lease("one", Duration::from_millis(400)).await?;
    let two = board.lease("two", LONG).await?;
    ensure!(
        one.acquire().await?.is_some(),
        "a free lease was not to be had"
    );
    let left = ttl(&board).await?;
    ensure!(
        left != -1,
        "JS01",
        "the lease `{}` has no end: when its owner dies nobody leads any more",
        board.names.leader()
    );
    ensure!(
        left <= 400,
        "the lease lasts 400 ms, and Redis keeps it for {left} ms"
    );
    let term = lab
        .eventually("the lease to end", || async { Ok(two.acquire().await?) })
        .await?;
    ensure!(term.token == 2, "the second term's token is {}", term.token);
    Ok(())
}

async fn a_lease_is_not_acquired_twice_by_its_own_node(lab: Lab) -> Outcome {
    lab.promise("a node that has the lease does not get it again while it lasts: two terms at once would be two leaders");
    let board = Board::new(&lab).await?;
    let lease = board.lease("one", LONG).await?;
    let again = board.lease("one", LONG).await?;
    let term = lease.acquire().await?;
    for lease in [&lease, &again] {
        ensure!(
            lease.acquire().await?.is_none(),
            "the lease was given to its own node a second time"
        );
    }
    ensure!(board.leader().await? == term, "the term has changed");
    Ok(())
}

async fn a_renewal_makes_it_last_and_is_the_owners_alone(lab: Lab) -> Outcome {
    lab.promise("a renewal makes the lease last for its whole length from then on; that of another node, or of an older term of the same node, changes nothing");
    let board = Board::new(&lab).await?;
    let length = Duration::from_secs(60);
    let one = board.lease("one", length).await?;
    let two = board.lease("two", LONG).await?;
    let Some(term) = one.acquire().await? else {
        fail!("a free lease was not to be had");
    };
    let shorten = async || {
        let set: bool = redis::cmd("PEXPIRE")
            .arg(board.names.leader())
            .arg(30_000)
            .query_async(&mut board.direct().await?)
            .await?;
        Ok::<_, Failure>(set)
    };
    shorten().await?;
    ensure!(one.renew(&term).await?, "the owner could not renew it");
    let left = ttl(&board).await?;
    ensure!(
        (31_000..=60_000).contains(&left),
        "after a renewal for 60 s it lasts for {left} ms"
    );
    shorten().await?;
    for (lease, other) in [
        (
            &two,
            Term {
                node: "two".into(),
                token: term.token,
            },
        ),
        (
            &one,
            Term {
                node: "one".into(),
                token: term.token - 1,
            },
        ),
        (
            &one,
            Term {
                node: "one".into(),
                token: term.token + 1,
            },
        ),
    ] {
        ensure!(
            !lease.renew(&other).await?,
            "JS02",
            "the lease is that of `{term}`, and the term `{other}` was told that it goes on"
        );
        let left = ttl(&board).await?;
        ensure!(
            left <= 30_000,
            "JS02",
            "the lease is that of `{term}`, and `{other}` has renewed it: it lasts for {left} ms"
        );
    }
    Ok(())
}

async fn a_lease_that_has_ended_is_not_renewed(lab: Lab) -> Outcome {
    lab.promise(
        "a lease that has ended is not renewed: neither if nobody has it, nor if another has",
    );
    let board = Board::new(&lab).await?;
    let one = board.lease("one", Duration::from_millis(50)).await?;
    let Some(term) = one.acquire().await? else {
        fail!("a free lease was not to be had");
    };
    lab.eventually("the lease to end", || async {
        Ok(board.leader().await?.is_none().then_some(()))
    })
    .await?;
    ensure!(
        !one.renew(&term).await?,
        "JS09",
        "the lease had ended, and its owner was told that its term goes on"
    );
    ensure!(
        board.leader().await?.is_none(),
        "JS09",
        "the lease had ended, and a renewal has taken it again with the old token: {:?}",
        board.leader().await?
    );
    let two = board.lease("two", LONG).await?;
    let other = two.acquire().await?;
    ensure!(
        !one.renew(&term).await? && board.leader().await? == other,
        "JS02",
        "another leads, and the renewal of `{term}` has an effect: {:?}",
        board.leader().await?
    );
    Ok(())
}

async fn giving_it_up_is_the_owners_alone(lab: Lab) -> Outcome {
    lab.promise("`release` lets go what its term has, and nothing else: whoever was paused past its lease does not take another's away");
    let board = Board::new(&lab).await?;
    let one = board.lease("one", Duration::from_millis(50)).await?;
    let two = board.lease("two", LONG).await?;
    let Some(old) = one.acquire().await? else {
        fail!("a free lease was not to be had");
    };
    lab.eventually("the lease to end", || async {
        Ok(board.leader().await?.is_none().then_some(()))
    })
    .await?;
    ensure!(!one.release(&old).await?, "what had ended was given up");
    let Some(new) = two.acquire().await? else {
        fail!("a free lease was not to be had");
    };
    let told = one.release(&old).await?;
    ensure!(
        board.leader().await? == Some(new.clone()),
        "JS02",
        "`{old}` had ended and `{new}` leads; the first gave its lease up, and now leads: {:?}",
        board.leader().await?
    );
    ensure!(!told, "`{old}` was told that it had the lease until then");
    ensure!(two.release(&new).await?, "the owner could not give it up");
    ensure!(
        one.acquire().await?.is_some(),
        "it was given up, and was not to be had"
    );
    Ok(())
}

async fn acquiring_once(lab: Lab, point: Point) -> Result<bool, Failure> {
    let board = Board::new(&lab).await?;
    let lease = board.lease("one", LONG).await?;
    if let Some(term) = lease.acquire().await? {
        lease.release(&term).await?;
    }
    let fault = point.arm(&board.redis);
    let term = lease.acquire().await;
    let blame = point.blame(&board.redis);
    let leader = board.leader().await?;
    match (&leader, &term) {
        (None, Ok(Some(_))) => {
            fail!("{blame}: `acquire` returned a term, and nobody has the lease")
        }
        (Some(_), _) => {
            let left = ttl(&board).await?;
            ensure!(
                left > 0,
                "JS01",
                "{blame}: the lease is there and has no end: nobody will ever lead again"
            );
        }
        _ => {}
    }
    let token: u64 = redis::cmd("GET")
        .arg(board.names.token())
        .query_async(&mut board.direct().await?)
        .await?;
    if let Some(leader) = leader {
        ensure!(
            leader.token == token,
            "{blame}: the last token is {token}, and the lease has {}",
            leader.token
        );
    }
    Ok(fault.has_fired())
}

async fn a_lease_is_taken_wholly_or_not_at_all(lab: Lab) -> Outcome {
    lab.promise("wherever the connection is cut, there is a lease with an end and the newest token, or there is none");
    let walking = lab.clone();
    walk(
        &lab,
        &[Crash::CutBefore, Crash::CutAfter],
        12,
        move |point| acquiring_once(walking.clone(), point),
    )
    .await
}

async fn the_holder_is_known_to_all(lab: Lab) -> Outcome {
    lab.promise("`holder` says whose term goes on, also to others, and nothing when there is none");
    let board = Board::new(&lab).await?;
    let (one, two) = (
        board.lease("a.b-c_d", LONG).await?,
        board.lease("two", LONG).await?,
    );
    ensure!(
        two.holder().await?.is_none(),
        "nobody leads, and `holder` says {:?}",
        two.holder().await?
    );
    let term = one.acquire().await?;
    ensure!(
        two.holder().await? == term && term.is_some(),
        "{term:?} leads, and `holder` says {:?}",
        two.holder().await?
    );
    Ok(())
}

/// How long it takes until another leads, from the moment `end` does something to the leader.
async fn takes_over(
    lab: &Lab,
    lease: Duration,
    check: Duration,
    is_killed: bool,
) -> Result<Duration, Failure> {
    let board = Board::new(lab).await?;
    let (lease, check) = (
        format!("{}ms", lease.as_millis()),
        format!("{}ms", check.as_millis()),
    );
    let flags = ["--lease", lease.as_str(), "--check", check.as_str()];
    let one = board.node_process("one", &flags)?;
    board
        .led_by("`one` to lead", |term| term.node == "one")
        .await?;
    let two = board.node_process("two", &flags)?;
    two.next_json().await?;
    // It stands by once it has connected to everything.
    lab.within(Duration::from_millis(500)).await;
    let began = Instant::now();
    match is_killed {
        true => one.kill(),
        false => one.terminate(),
    }
    board
        .led_by("`two` to lead", |term| {
            term.node == "two" && term.token == 2
        })
        .await?;
    let took = began.elapsed();
    if !is_killed {
        let status = one.wait().await?;
        ensure!(
            status.success(),
            "the node that was stopped ended with {status}: {}",
            one.stderr()
        );
    }
    Ok(took)
}

async fn another_node_leads_after_a_kill(lab: Lab) -> Outcome {
    lab.promise("when the leader is killed another node leads within the lease and one check, with the next token");
    FairClock::stalls_beyond(4)
        .run(&lab, [1_000, 2_000, 4_000], async |time| {
            let check = time / 5;
            let took = takes_over(&lab, time, check, true).await?;
            // Some time is the machine's.
            ensure!(
                took <= time + check + time / 4,
                "the lease is {time:?} and the check {check:?}; the other led {took:.0?} after the kill"
            );
            lab.history().note("lab", &format!("took over after {took:.0?}"));
            Ok(())
        })
        .await
}

async fn a_leader_that_stops_hands_over_at_once(lab: Lab) -> Outcome {
    lab.promise("a leader that is asked to stop gives its lease up: another leads within one check, however long the lease would have lasted");
    let lease = lab.deadline() * 10;
    let took = takes_over(&lab, lease, Duration::from_millis(100), false)
        .await
        .map_err(|failure| failure.code("JS14"))?;
    lab.history()
        .note("lab", &format!("took over after {took:.0?}"));
    Ok(())
}

async fn of_three_nodes_one_leads(lab: Lab) -> Outcome {
    lab.promise(
        "of three nodes one leads, and goes on to: its token stays, and each job is published once",
    );
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let nodes: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|id| {
            board.node_with(NodeOptions {
                lease: Duration::from_secs(60),
                ..board.node_options(id)
            })
        })
        .collect();
    let term = board.led_by("one of three nodes to lead", |_| true).await?;
    for n in 0..30 {
        store
            .add(&soon(&format!("job-{n}"), 10 * n), time::now())
            .await?;
    }
    let mut seen = HashSet::new();
    while seen.len() < 30 {
        let run = board.next_run("mail").await?;
        ensure!(
            run.token == term.token,
            "JS08",
            "`{term}` leads, and {run:?} was published: another node fires too"
        );
        ensure!(
            seen.insert(run.id()),
            "JS08",
            "{} was published twice: every node fires",
            run.id()
        );
    }
    let more = board.drain("mail").await?;
    ensure!(
        more.is_empty(),
        "JS08",
        "some runs were published twice: {more:?}"
    );
    ensure!(
        board.leader().await? == Some(term.clone()),
        "`{term}` led, and now {:?} does",
        board.leader().await?
    );
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}

async fn a_busy_leader_stays_leader(lab: Lab) -> Outcome {
    lab.promise("a leader renews its lease whatever keeps it busy: one that waits for a confirm for longer than the lease leads on");
    let check = async |length: Duration| {
        let board = Board::new(&lab).await?;
        board.plays("mail").await?;
        let store = board.store().await?;
        let fault = board
            .rabbit
            .proxy()
            .arm(amqp::Trigger::reply(amqp::Frame::is_confirm), Action::Hold);
        let node = board.node_with(NodeOptions {
            lease: length,
            ..board.node_options("one")
        });
        let term = board.led_by("the node to lead", |_| true).await?;
        store.add(&soon("job", 1), time::now()).await?;
        lab.eventually("a run to be published", || async {
            Ok(fault.has_fired().then_some(()))
        })
        .await?;
        let began = Instant::now();
        while began.elapsed() < length * 3 {
            let leader = board.leader().await?;
            ensure!(
                leader == Some(term.clone()),
                "JS13",
                "the lease is {length:?}; while the leader waited for a confirm it ended: {leader:?}"
            );
            lab.within(length / 10).await;
        }
        fault.release();
        node.stop().await?;
        Ok(())
    };
    FairClock::stalls_beyond(4)
        .run(&lab, [600, 1_500, 4_000], check)
        .await
}

async fn a_leader_cut_off_from_redis_publishes_no_more(lab: Lab) -> Outcome {
    lab.promise("a leader that Redis does not answer any more ends its term a lease after its last renewal, by itself: it publishes nothing after that, though RabbitMQ is there");
    let check = async |length: Duration| {
        let board = Board::new(&lab).await?;
        board.plays("mail").await?;
        let store = board.store().await?;
        let place = board.elsewhere().await?;
        let node = place.node_with(NodeOptions {
            lease: length,
            ..place.node_options("one")
        });
        board.led_by("the node to lead", |_| true).await?;
        for n in 0..20 {
            store
                .add(&soon(&format!("job-{n}"), 1), time::now())
                .await?;
        }
        // In the middle of its work: it has runs in its hands, and a confirm is outstanding.
        let proxy = place.rabbit.proxy();
        let fault = proxy.arm(amqp::Trigger::reply(amqp::Frame::is_confirm), Action::Hold);
        lab.eventually("a run to be published", || async {
            Ok((fault.has_fired()).then_some(()))
        })
        .await?;
        place.redis.proxy().stall(true);
        let cut = Instant::now();
        lab.within(length).await;
        // Now its term is over, whatever it knows.
        let limit = length / 2;
        lab.within(limit).await;
        let mark = proxy.mark();
        fault.release();
        lab.within(length).await;
        let log = proxy.log();
        let late = log[mark..]
            .iter()
            .filter(|frame| frame.is_publish_to(&board.names.exchange()));
        let late = late.count();
        ensure!(
            late == 0,
            "the lease is {length:?}; {:.0?} after the last word from Redis the leader published {late} more run(s)",
            cut.elapsed()
        );
        place.redis.proxy().stall(false);
        drop(node);
        Ok(())
    };
    FairClock::stalls_beyond(4)
        .run(&lab, [600, 1_500, 4_000], check)
        .await
}

async fn a_node_that_was_cut_off_stands_by_again(lab: Lab) -> Outcome {
    lab.promise("a leader that has lost its lease stands by, and leads again when it can, with another token");
    let board = Board::new(&lab).await?;
    board.plays("mail").await?;
    let store = board.store().await?;
    let node = board.node("one");
    let mut last = board.led_by("the node to lead", |_| true).await?;
    for round in 0..3 {
        // Taken from it: as if it had been paused, and another had led meanwhile.
        let other = Term {
            node: "other".into(),
            token: last.token + 1,
        };
        let _: () = redis::pipe()
            .atomic()
            .cmd("SET")
            .arg(board.names.leader())
            .arg(other.to_string())
            .arg(&["PX", "700"])
            .ignore()
            .cmd("INCR")
            .arg(board.names.token())
            .ignore()
            .query_async(&mut board.direct().await?)
            .await?;
        last = board
            .led_by("the node to lead again", |term| term.node == "one")
            .await?;
        ensure!(
            last.token == other.token + 1,
            "`{other}` led before, and now `{last}` does"
        );
        store
            .add(&soon(&format!("job-{round}"), 1), time::now())
            .await?;
        let run = board.next_run("mail").await?;
        ensure!(
            run.token == last.token,
            "`{last}` leads, and the run has the token {}",
            run.token
        );
        board.reply(&run, Ok(serde_json::Value::Null)).await?;
        board.all_settled().await?;
    }
    let report = node.stop().await?;
    ensure!(
        report.terms == 4,
        "it led four times, and says {}",
        report.terms
    );
    Ok(())
}
