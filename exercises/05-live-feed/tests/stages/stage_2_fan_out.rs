//! Stage 2: every event goes out to everybody who listens.

use futures::future::try_join_all;
use lab::clients::http::Request;
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::feed::{Feed, accepted, data, ids, numbers, posting, quiet, take, take_until};
use crate::sequence::{Suspects, same};
use crate::texts;

pub fn checks() -> Vec<Check> {
    lab::checks![
        everybody_gets_every_event_in_order_and_at_once,
        an_event_has_one_id_and_everybody_sees_it,
        data_arrives_as_it_was_posted,
        many_who_publish_at_once_make_one_order,
        a_client_sees_everything_from_the_moment_it_connected,
        nothing_from_before_is_sent,
        a_client_that_leaves_changes_nothing_for_others,
    ]
}

async fn everybody_gets_every_event_in_order_and_at_once(lab: Lab) -> Outcome {
    lab.promise("Every event goes out to everybody who is connected, in the order in which they were published, and does not wait for the next one.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut streams = try_join_all((0..20).map(|_| feed.open(""))).await?;
    let mut publisher = feed.publisher().await?;
    // One at a time: nothing may be kept back until more comes.
    for n in 0..5 {
        let id = publisher.post("t", &format!("alone {n}")).await?;
        for (client, stream) in streams.iter_mut().enumerate() {
            let event = take(stream, 1).await?.remove(0);
            ensure!(
                event.data == format!("alone {n}")
                    && event.last_id == id
                    && event.kind == "message",
                "event {id} with the data \"alone {n}\" was published; client {client} got {event:?}"
            );
        }
    }
    let mut posted = Vec::new();
    for n in 0..200 {
        posted.push(publisher.post("t", &n.to_string()).await?);
    }
    for (client, stream) in streams.iter_mut().enumerate() {
        let got = take(stream, 200).await?;
        same(
            &format!("client {client}"),
            &posted,
            &ids(&got),
            Suspects::default(),
        )?;
    }
    Ok(())
}

async fn an_event_has_one_id_and_everybody_sees_it(lab: Lab) -> Outcome {
    lab.promise("An event has one id: the one that its publisher is told is the one that every client sees, whenever it connected.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut early = feed.open("").await?;
    feed.post_many("t", 3).await?;
    take(&mut early, 3).await?;
    let mut late = feed.open("").await?;
    let posted = feed.post_many("t", 3).await?;
    let (early, late) = (take(&mut early, 3).await?, take(&mut late, 3).await?);
    for (who, got) in [
        ("the client that connected first", early),
        ("the client that connected later", late),
    ] {
        let got = ids(&got);
        ensure!(
            got == posted,
            "LF03",
            "the publisher was told the ids {posted:?}; {who} sees them as {got:?}"
        );
    }
    Ok(())
}

async fn data_arrives_as_it_was_posted(lab: Lab) -> Outcome {
    lab.promise("A string is sent as it is, any other value as compact JSON, a missing one as `null`; no data forges a field or an event.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut stream = feed.open("").await?;
    let mut publisher = feed.publisher().await?;
    let mut rng = lab.rng();
    let mut values: Vec<Value> = texts::NASTY.iter().map(|text| json!(text)).collect();
    values.extend((0..100).map(|_| json!(texts::any(&mut rng))));
    values.extend([
        json!(null),
        json!(17),
        json!(1.5),
        json!(true),
        json!([1, {"a": " b\n"}]),
        json!({"a": [], "b": {}}),
    ]);
    for value in &values {
        let body = json!({"topic": "t", "type": "price", "data": value});
        let id = accepted(
            &publisher
                .request(&Request::post("/events").json(&body))
                .await?,
        )?;
        let event = take(&mut stream, 1).await?.remove(0);
        let expected = match value {
            Value::String(text) => texts::arrives(text),
            other => other.to_string(),
        };
        ensure!(
            event.data == expected && event.kind == "price" && event.id.as_deref() == Some(&id),
            expected.contains('\n').then_some("LF06"),
            "the data {value} was published with the type `price` as {id}; a client got {event:?}"
        );
    }
    let spaced = Request::post("/events")
        .header("content-type", "application/json")
        .body("{ \"topic\" : \"t\",\n \"data\" : { \"b\" : 1,\n \"a\" : \" x \" } }");
    accepted(&publisher.request(&spaced).await?)?;
    accepted(
        &publisher
            .request(&Request::post("/events").json(&json!({"topic": "t"})))
            .await?,
    )?;
    let got = data(&take(&mut stream, 2).await?);
    ensure!(
        got == [r#"{"b":1,"a":" x "}"#, "null"],
        "an object with white space between its parts, and an event without data, arrived as {got:?}"
    );
    Ok(())
}

async fn many_who_publish_at_once_make_one_order(lab: Lab) -> Outcome {
    lab.promise("Several who publish at once make one order, the same for everybody, with rising ids; what one publisher sent stays in its order, and nothing is lost or doubled.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut streams = try_join_all((0..6).map(|_| feed.open(""))).await?;
    let publishing = (0..8).map(|who| {
        let feed = &feed;
        async move {
            let mut publisher = feed.publisher().await?;
            let mut posted = Vec::new();
            for n in 0..50 {
                posted.push(publisher.post("t", &format!("{who} {n}")).await?);
            }
            Ok::<_, Failure>(posted)
        }
    });
    let posted = try_join_all(publishing).await?;
    let mut order: Vec<String> = posted.concat();
    order.sort_by_key(|id| numbers(id));
    for pair in order.windows(2) {
        ensure!(
            pair[0] != pair[1],
            "two events have the same id {}",
            pair[0]
        );
    }
    for (client, stream) in streams.iter_mut().enumerate() {
        let got = take(stream, 400).await?;
        same(
            &format!("client {client}"),
            &order,
            &ids(&got),
            Suspects::default(),
        )?;
        for who in 0..8 {
            let own: Vec<String> = data(&got)
                .into_iter()
                .filter(|data| data.starts_with(&format!("{who} ")))
                .collect();
            let sent: Vec<String> = (0..50).map(|n| format!("{who} {n}")).collect();
            ensure!(
                own == sent,
                "publisher {who} sent its events one after the other; client {client} got them in another order"
            );
        }
    }
    Ok(())
}

async fn a_client_sees_everything_from_the_moment_it_connected(lab: Lab) -> Outcome {
    lab.promise("A client gets everything that is published after it has the head of its answer, also while others publish all the time: the first event that it gets is no later than that, and from there on none is missing.");
    let feed = Feed::start(&lab, quiet()).await?;
    let node = (*feed).clone();
    let (tell, posted) = tokio::sync::watch::channel(Vec::<String>::new());
    let publishing = tokio::spawn(async move {
        let mut publisher = node.publisher().await?;
        loop {
            let id = publisher.post("t", "x").await?;
            tell.send_modify(|ids| ids.push(id));
            if tell.is_closed() {
                return Ok::<_, Failure>(());
            }
        }
    });
    let mut opened = Vec::new();
    for _ in 0..40 {
        let stream = feed.open("").await?;
        // The one after these may be under way; the next is published from here on.
        opened.push((posted.borrow().len() + 1, stream));
    }
    let last = opened.last().map_or(0, |(from, _)| *from) + 20;
    lab.eventually("more events to be published", || {
        let enough = posted.borrow().len() > last;
        async move { Ok(enough.then_some(())) }
    })
    .await?;
    let order = posted.borrow().clone();
    drop(posted);
    publishing.await??;
    feed.post("t", "the end").await?;
    for (client, (from, mut stream)) in opened.into_iter().enumerate() {
        let got = ids(&take_until(&mut stream, "the end").await?);
        let begin = order.iter().position(|id| *id == got[0]);
        let Some(begin) = begin else {
            lab::fail!(
                "client {client} got the id {:?} first, which no publisher was told",
                got[0]
            )
        };
        ensure!(
            begin <= from,
            "client {client} had its answer when {from} events were published or under way; the first that it got is number {} ({})",
            begin + 1,
            got[0]
        );
        let until = got.len().min(order.len() - begin);
        same(
            &format!("client {client}"),
            &order[begin..begin + until],
            &got[..until],
            Suspects::default(),
        )?;
    }
    Ok(())
}

async fn nothing_from_before_is_sent(lab: Lab) -> Outcome {
    lab.promise("A client that names no id gets what is published after it connected, and nothing from before. An empty id is none.");
    let feed = Feed::start(&lab, quiet()).await?;
    feed.post_many("t", 10).await?;
    let mut streams = vec![feed.open("").await?, feed.open("?last_event_id=").await?];
    let empty = crate::feed::events("").header("last-event-id", "");
    streams.push(feed.open_with(&empty).await?);
    let id = feed.post("t", "new").await?;
    for stream in &mut streams {
        let event = take(stream, 1).await?.remove(0);
        ensure!(
            event.last_id == id,
            "ten events were published before the client connected without an id, and {id} after; it got {} ({:?}) first",
            event.last_id,
            event.data
        );
    }
    Ok(())
}

async fn a_client_that_leaves_changes_nothing_for_others(lab: Lab) -> Outcome {
    lab.promise("Clients that leave, in order or by a reset, change nothing for those who stay and for who publishes.");
    let feed = Feed::start(&lab, quiet()).await?;
    let mut stays = feed.open("").await?;
    let mut publisher = feed.publisher().await?;
    let mut rng = lab.rng();
    let mut posted = Vec::new();
    let mut others = Vec::new();
    for n in 0..150 {
        if rng.random_bool(0.5) {
            others.push(feed.open("").await?);
        }
        if rng.random_bool(0.5) && !others.is_empty() {
            let leaving = others.swap_remove(rng.random_range(0..others.len()));
            if rng.random_bool(0.5) {
                leaving.cut();
            }
        }
        let response = publisher.request(&posting("t", n.to_string())).await?;
        posted.push(accepted(&response)?);
    }
    let got = take(&mut stays, 150).await?;
    same(
        "the client that stayed",
        &posted,
        &ids(&got),
        Suspects::default(),
    )
}
