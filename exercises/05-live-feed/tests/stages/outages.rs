//! Stage 7, continued: what goes on while Redis is away, or a node is held up.

use std::time::{Duration, Instant};

use lab::clients::http::Request;
use lab::clients::sse::{Item, OpenError, Stream};
use lab::faults::{Action, Trigger};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;
use rand::RngExt as _;

use crate::durable::{Durable, adds};
use crate::feed::{Feed, Node, accepted, events, ids, numbers, posting, take, take_until};
use crate::node::Process;
use crate::sequence::{Suspects, same};
use crate::stage_4_expire::reset;

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_lost_connection_leaves_no_gap,
        while_redis_is_away_nothing_is_accepted_and_streams_stay_open,
        who_resumes_is_served_from_memory_while_redis_is_away,
        a_redis_that_is_started_again_is_found_again,
        an_answer_that_was_lost_is_no_success,
        a_gap_that_cannot_be_filled_is_told,
        a_node_that_was_paused_past_the_trimming_skips_nothing_in_silence,
    ]
}

const GAP: Suspects = Suspects {
    missing: Some("LF22"),
    twice: Some("LF02"),
};

/// What did not come. A stream that ended is no gap.
fn gap(failure: Failure) -> Failure {
    let ended = ["the stream ended", "closed the connection"];
    match ended.iter().any(|text| failure.observed.contains(text)) {
        true => failure.also("an outage of Redis was to leave the streams of clients open"),
        false => failure.code_if("LF22"),
    }
}

async fn a_lost_connection_leaves_no_gap(lab: Lab) -> Outcome {
    lab.promise("When the connection to Redis is lost the node connects again and reads on behind the last entry it has: its clients stay connected, miss nothing and see nothing twice.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let mut stream = feed.open("").await?;
    let proxy = durable.redis.proxy();
    let mut rng = lab.rng();
    let mut added = Vec::new();
    for round in 0..6 {
        for n in 0..rng.random_range(5..20) {
            added.push(durable.add_event("*", &format!("{round} {n}")).await?);
        }
        lab.history().fault("network", "connections to Redis cut");
        if round % 2 == 0 {
            proxy.cut_all();
        } else {
            proxy.refuse(true);
            proxy.cut_all();
            for n in 0..rng.random_range(5..20) {
                added.push(durable.add_event("*", &format!("{round} away {n}")).await?);
            }
            lab.within(Duration::from_millis(rng.random_range(0..150)))
                .await;
            proxy.refuse(false);
        }
        if round % 3 == 2 {
            // What was published so far arrives before the next blow.
            let missing = added.len() - stream.events().len();
            let got = take(&mut stream, missing).await;
            got.map_err(gap)?;
        }
    }
    added.push(durable.add_event("*", "the end").await?);
    let rest = take_until(&mut stream, "the end").await;
    rest.map_err(gap)?;
    same(
        "the client that stayed connected",
        &added,
        &ids(&stream.events()),
        GAP,
    )
}

/// Publishes until an event is refused, for the node has to notice first.
async fn until_refused(node: &Node) -> Outcome {
    node.lab
        .eventually("a node to notice that Redis is away", || async {
            let response = node.request(&posting("t", "early")).await?;
            Ok((response.status == 503).then_some(()))
        })
        .await
        .map_err(|failure| failure.also("it went on accepting events").code_if("LF17"))
}

/// Publishes until an event is accepted again, and returns its id.
async fn until_accepted(node: &Node, data: &str) -> Result<String, Failure> {
    node.lab
        .eventually("an event to be accepted after Redis was back", || async {
            let response = node.request(&posting("t", data)).await?;
            match response.status {
                503 => Ok(None),
                _ => accepted(&response).map(Some),
            }
        })
        .await
}

async fn refused_with_503(node: &Node) -> Outcome {
    for _ in 0..5 {
        let response = node.request(&posting("t", "refused")).await?;
        ensure!(
            response.status != 201,
            "LF17",
            "Redis is away, and an event was answered with {}",
            response.summary()
        );
        ensure!(
            response.status == 503
                && response.header("retry-after").is_some()
                && response.json().is_some(),
            "Redis is away; an event was to be refused with 503, `Retry-After` and a reason, and the answer is {} with retry-after: {:?}",
            response.summary(),
            response.header("retry-after")
        );
    }
    Ok(())
}

async fn while_redis_is_away_nothing_is_accepted_and_streams_stay_open(lab: Lab) -> Outcome {
    lab.promise("While Redis is away an event is refused with 503 and `Retry-After`, and is never published later. Open streams stay open, with heartbeats, and go on when Redis is back.");
    let durable = Durable::new(&lab).await?;
    let options = Options {
        heartbeat: Duration::from_millis(100),
        ..durable.options()
    };
    let feed = Feed::start(&lab, options).await?;
    let mut stream = feed.open("").await?;
    feed.post("t", "before").await?;
    take(&mut stream, 1).await?;
    let proxy = durable.redis.proxy();
    lab.history().fault("network", "Redis cannot be reached");
    proxy.refuse(true);
    proxy.cut_all();
    until_refused(&feed).await?;
    refused_with_503(&feed).await?;
    for _ in 0..3 {
        let item = stream.next_item().await?;
        ensure!(
            matches!(item, Some(Item::Comment(_))),
            "Redis is away, and an open stream brought {item:?} where heartbeats were to come"
        );
    }
    proxy.refuse(false);
    let id = until_accepted(&feed, "after").await?;
    let got = take_until(&mut stream, "after").await?;
    ensure!(
        got.last().is_some_and(|event| event.last_id == id)
            && got.iter().all(|event| event.data != "refused"),
        "after Redis was back {id} was accepted; the client that stayed connected got {:?}",
        got.iter().map(|event| &event.data).collect::<Vec<_>>()
    );
    let refused = durable.with_data("refused").await?;
    ensure!(
        refused == 0,
        "five events were refused with 503, and the stream holds {refused} of them"
    );
    Ok(())
}

async fn who_resumes_is_served_from_memory_while_redis_is_away(lab: Lab) -> Outcome {
    lab.promise("While Redis is away who comes without an id is let in, who resumes is served from memory, and who names an id that is gone or is none is reset. Only an id above the newest that this node has seen is answered 503: it may be one of another node.");
    let durable = Durable::new(&lab).await?;
    let options = Options {
        history: 20,
        ..durable.options()
    };
    let feed = Feed::start(&lab, options).await?;
    let posted = feed.post_many("t", 40).await?;
    let proxy = durable.redis.proxy();
    lab.history().fault("network", "Redis cannot be reached");
    proxy.refuse(true);
    proxy.cut_all();
    until_refused(&feed).await?;
    let away = |failure: Failure, who: &str| {
        failure.also(format!("Redis is away, and {who} is no question to it"))
    };
    let fresh = feed.open("").await;
    let mut fresh = fresh.map_err(|failure| away(failure, "a client without an id"))?;
    for n in [25, 39] {
        let who = format!(
            "a client behind number {} of 40, the last 20 of which are kept,",
            n + 1
        );
        let stream = feed.resume("", &posted[n]).await;
        let mut stream = stream.map_err(|failure| away(failure, &who))?;
        let got = ids(&take(&mut stream, 39 - n).await?);
        same(&who, &posted[n + 1..], &got, Suspects::default())?;
    }
    for (id, what) in [
        (posted[3].as_str(), "an id that is gone"),
        ("1-1", "an id that never was, below the newest,"),
        ("none", "an id that is none"),
    ] {
        let stream = feed.resume("", id).await;
        let mut stream = stream.map_err(|failure| away(failure, what))?;
        reset(&mut stream, what).await?;
        let got = ids(&take(&mut stream, 20).await?);
        same(what, &posted[20..], &got, Suspects::default())?;
    }
    let (ms, number) = numbers(&posted[39]).unwrap_or_default();
    let above = events("").header("last-event-id", format!("{ms}-{}", number + 7));
    let refused = feed.refused(&above).await?;
    ensure!(
        refused.status == 503 && refused.header("retry-after").is_some(),
        "Redis is away; an id above the newest was to be answered with 503 and `Retry-After`, and the answer is {}",
        refused.summary()
    );
    proxy.refuse(false);
    let id = until_accepted(&feed, "after").await?;
    let got = take_until(&mut fresh, "after").await?;
    ensure!(
        got.last().is_some_and(|event| event.last_id == id),
        "Redis is back, and the client that had come without an id got {:?}",
        ids(&got)
    );
    Ok(())
}

async fn a_redis_that_is_started_again_is_found_again(lab: Lab) -> Outcome {
    lab.promise("A Redis that does not answer, or is killed and started again, costs events that nobody was told were accepted, and nothing else.");
    let own = lab.own_redis().await?;
    let durable = Durable::on(&lab, (*own).clone());
    let feed = durable.node().await?;
    let mut stream = feed.open("").await?;
    let mut posted = feed.post_many("t", 10).await?;
    lab.history().fault("redis", "does not answer");
    own.pause().await?;
    refused_with_503(&feed).await?;
    own.resume().await?;
    posted.push(until_accepted(&feed, "after the pause").await?);
    lab.history().fault("redis", "killed");
    own.kill().await?;
    until_refused(&feed).await?;
    let mut meanwhile = feed.client().connect().await?;
    let response = meanwhile.request(&Request::get("/stats")).await?;
    ensure!(
        response.status == 200,
        "Redis is away, and GET /stats was answered with {}",
        response.summary()
    );
    own.start().await?;
    posted.push(until_accepted(&feed, "after the kill").await?);
    let all = take_until(&mut stream, "after the kill").await;
    let mut all = all.map_err(gap)?;
    // What was under way when Redis was paused may have been stored all the same.
    all.retain(|event| posted.contains(&event.last_id));
    same("the client that stayed connected", &posted, &ids(&all), GAP)?;
    let mut resumed = feed.resume("", &posted[3]).await?;
    let mut got = take_until(&mut resumed, "after the kill").await?;
    got.retain(|event| posted.contains(&event.last_id));
    same("the client that resumed", &posted[4..], &ids(&got), GAP)
}

async fn an_answer_that_was_lost_is_no_success(lab: Lab) -> Outcome {
    lab.promise("When the answer of Redis is lost nobody knows whether the event is stored: it is not called a success, and it is not stored a second time.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    feed.post("t", "before").await?;
    let key = durable.stream.clone();
    let lost = durable
        .redis
        .proxy()
        .arm(Trigger::request(move |e| adds(e, &key)), Action::CutAfter);
    let response = feed.request(&posting("t", "lost")).await?;
    ensure!(
        lost.has_fired(),
        "an event was posted, and no command went to Redis that adds one"
    );
    let stored = durable.with_data("lost").await?;
    ensure!(
        stored <= 1,
        "one event was posted, the answer of Redis was lost, and the stream holds it {stored} times"
    );
    if response.status == 201 {
        let id = accepted(&response)?;
        let known = durable
            .entries()
            .await?
            .iter()
            .any(|(stored, _)| *stored == id);
        ensure!(
            known,
            "LF17",
            "the answer of Redis was lost; the publisher was told 201 with the id {id}, which is not in the stream"
        );
    } else {
        ensure!(
            response.status == 503,
            "the answer of Redis was lost, and the publisher was told {}",
            response.summary()
        );
    }
    until_accepted(&feed, "after").await?;
    Ok(())
}

async fn a_gap_that_cannot_be_filled_is_told(lab: Lab) -> Outcome {
    lab.promise("When a node was cut off from Redis for so long that entries it never saw are trimmed, its clients are not led past the gap in silence: their stream ends, and who comes back is reset.");
    let durable = Durable::new(&lab).await?;
    let feed = durable.node().await?;
    let mut stream = feed.open("").await?;
    feed.post_many("t", 5).await?;
    take(&mut stream, 5).await?;
    let proxy = durable.redis.proxy();
    lab.history().fault("network", "Redis cannot be reached");
    proxy.refuse(true);
    proxy.cut_all();
    let mut added = Vec::new();
    for n in 0..50 {
        added.push(durable.add_event("*", &n.to_string()).await?);
    }
    let _: u64 = redis::cmd("XTRIM")
        .arg(&[&durable.stream, "MAXLEN", "10"])
        .query_async(&mut durable.direct().await?)
        .await?;
    proxy.refuse(false);
    let story = "40 entries were trimmed while the node was cut off from Redis";
    let got = to_the_last(&feed, stream, &added, story, "LF22").await?;
    same("the client that was reset", &added[40..], &got, GAP)
}

/// How long a node may be paused at most, so that no time limit of its own wakes it: then it might
/// connect anew, and this check is about one that does not.
const SHORT: Duration = Duration::from_secs(2);

async fn a_node_that_was_paused_past_the_trimming_skips_nothing_in_silence(lab: Lab) -> Outcome {
    lab.promise("A node that is paused loses no connection. When it goes on after others have published and trimmed past its place, its clients are not led past the gap in silence: they get every event, or they are reset, in their stream or when they come back after its end.");
    for _ in 0..4 {
        let paused = past_the_trimming(&lab).await?;
        if paused < SHORT {
            return Ok(());
        }
        let note = format!("the node was paused for {paused:.1?}: asked again");
        lab.history().note("lab", &note);
    }
    Err(Failure::infrastructure(
        "this machine could not add 30 entries to a stream within two seconds, so nothing can be said about a short pause. Run it again when less is going on.",
    ))
}

/// Holds a node to it once, and returns for how long it was paused.
async fn past_the_trimming(lab: &Lab) -> Result<Duration, Failure> {
    let durable = Durable::new(lab).await?;
    let url = durable.redis.url();
    let mut flags = durable.flags(&url);
    flags.extend(["--history", "5"]);
    let held_up = Process::start(lab, &flags).await?;
    let mut stream = held_up.open("").await?;
    let mut published = Vec::new();
    for n in 0..3 {
        published.push(durable.add_event("*", &n.to_string()).await?);
    }
    // By now it waits for the next one.
    let got = ids(&take(&mut stream, 3).await?);
    same("the client", &published, &got, Suspects::default())?;
    // What other nodes do meanwhile, at one go: the pause is as short as it can be.
    let mut others = redis::pipe();
    for n in 3..33 {
        others
            .cmd("XADD")
            .arg(&[&durable.stream, "*"])
            .arg(&["topic", "t", "type", "message", "data"])
            .arg(n);
    }
    others
        .cmd("XTRIM")
        .arg(&[&durable.stream, "MAXLEN", "5"])
        .ignore();
    let mut direct = durable.direct().await?;
    lab.history().fault("node", "SIGSTOP");
    let since = Instant::now();
    held_up.service.pause();
    let added: Vec<String> = others.query_async(&mut direct).await?;
    lab.history().fault("node", "SIGCONT");
    held_up.service.resume();
    let paused = since.elapsed();
    published.extend(added);
    published.push(durable.add_event("*", "the end").await?);
    let story = "the node was paused (SIGSTOP, SIGCONT) and kept all its connections, 30 events were published elsewhere meanwhile, and the stream was trimmed to 5 of them";
    let rest = &published[3..];
    to_the_last(&held_up, stream, rest, story, "LF25").await?;
    held_up.service.expect_running()?;
    Ok(paused)
}

/// Reads up to the last of `published`, as a browser would: after the end of a stream it comes back
/// with its last id. Every event has to be the one behind the last, but for the first behind a reset.
/// Returns what came since the last reset.
///
/// A gap in a stream that was open all the time looks like the mistake `suspect`.
async fn to_the_last(
    node: &Node,
    mut stream: Stream,
    published: &[String],
    story: &str,
    suspect: &'static str,
) -> Result<Vec<String>, Failure> {
    let mut got: Vec<String> = Vec::new();
    let mut next = 0;
    let mut was_reset = false;
    let mut came_back = false;
    while next < published.len() {
        match stream.next().await {
            Ok(Some(event)) if event.kind == "reset" => {
                was_reset = true;
                got.clear();
            }
            Ok(Some(event)) => {
                let id = event.last_id;
                let Some(at) = published.iter().position(|one| *one == id) else {
                    lab::fail!("{story}; then its client got {id:?}, which was not to come")
                };
                if at > next && !was_reset {
                    let how = match came_back {
                        true => {
                            "after the stream had ended and the client was back with its last id"
                        }
                        false => {
                            "and the stream was open all the time: the node did not look whether its place is still in the stream of Redis"
                        }
                    };
                    return Err(Failure::observed(format!(
                        "{story}; then its client got {id} where {} was next: {} events were skipped without a `reset`, {how}",
                        published[next],
                        at - next
                    ))
                    .code_if((!came_back).then_some(suspect)));
                }
                ensure!(
                    at >= next || was_reset,
                    "{story}; then its client got {id} a second time"
                );
                was_reset = false;
                next = at + 1;
                got.push(id);
            }
            Err(error) if !error.is_gone() => {
                return Err(Failure::from(error).also(format!(
                    "{story}; then its client waited for {}",
                    published[next]
                )));
            }
            Ok(None) | Err(_) => {
                came_back = true;
                stream = come_back(node, stream).await?;
            }
        }
    }
    Ok(got)
}

/// Connects again with the last id. A node that is not ready yet may say so.
async fn come_back(node: &Node, stream: Stream) -> Result<Stream, Failure> {
    let request = stream.next_request();
    drop(stream);
    node.lab
        .eventually("a stream to be opened again", || async {
            match Stream::open(&node.client(), &request).await {
                Ok(stream) => Ok(Some(stream)),
                Err(OpenError::Refused(response)) if response.status == 503 => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
}
