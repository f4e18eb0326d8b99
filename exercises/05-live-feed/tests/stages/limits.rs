//! Stage 8, continued: who may come in, and how many.

use futures::future::join_all;
use lab::clients::http::Request;
use lab::clients::sse::{OpenError, Stream};
use lab::{Check, Failure, Lab, Outcome, ensure};
use live_feed::Options;

use crate::feed::{Feed, Node, accepted, begin, events, posting, quiet};
use crate::node::Process;

pub fn checks() -> Vec<Check> {
    lab::checks![
        who_shows_no_token_gets_nothing,
        the_token_stands_in_no_log,
        no_more_streams_are_open_than_may_be,
        who_has_nothing_left_to_get_takes_no_place,
    ]
}

fn guarded() -> Vec<Request> {
    vec![
        events(""),
        events("?topic=t"),
        posting("t", "x"),
        Request::delete("/topics/finished"),
        Request::get("/stats"),
    ]
}

/// Adds a parameter to the address.
fn with_parameter(request: &Request, parameter: &str) -> Request {
    let glue = if request.target().contains('?') {
        '&'
    } else {
        '?'
    };
    let target = format!("{}{glue}{parameter}", request.target());
    let changed = Request::new(request.method(), target);
    match request.method() {
        "POST" => changed.json(&serde_json::json!({"topic": "t", "data": "x"})),
        _ => changed,
    }
}

/// The status of the answer; the body of a stream is not waited for.
async fn status(node: &Node, request: &Request) -> Result<u16, Failure> {
    let mut connection = node.client().connect().await?;
    connection.send(request).await?;
    Ok(connection.head(request.method()).await?.status)
}

async fn who_shows_no_token_gets_nothing(lab: Lab) -> Outcome {
    lab.promise("With a token set, streams, events, the end of a topic and the statistics are only for who shows it, as `Authorization: Bearer T` (the word in any case) or as `?token=T`, of which one is enough; everybody else gets 401, and nothing happens.");
    let token = "s3cret-T0ken";
    let options = Options {
        token: Some(token.to_owned()),
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    for request in guarded() {
        let wrong = [
            request.clone(),
            request.clone().bearer(""),
            request.clone().bearer("wrong"),
            request.clone().bearer("s3cret-T0ke"),
            request.clone().bearer("s3cret-T0ken1"),
            request.clone().bearer("S3CRET-T0KEN"),
            request
                .clone()
                .header("authorization", "Basic s3cret-T0ken"),
            request.clone().header("authorization", token),
            with_parameter(&request, "token="),
            with_parameter(&request, "token=wrong"),
            with_parameter(&request, "Token=s3cret-T0ken"),
        ];
        for wrong in wrong {
            let status = status(&feed, &wrong).await?;
            ensure!(
                status == 401,
                "{} {} with authorization: {:?} was answered with {status} instead of 401",
                wrong.method(),
                wrong.target(),
                wrong.header_value("authorization")
            );
        }
        let right = [
            request.clone().bearer(token),
            with_parameter(&request, "token=s3cret-T0ken"),
            with_parameter(&request, "token=wrong").bearer(token),
            with_parameter(&request, "token=s3cret-T0ken").bearer("wrong"),
            with_parameter(&request, "token=s3cret-T0ken").header("authorization", "Basic eDp5"),
            request
                .clone()
                .header("authorization", format!("bearer {token}")),
            request
                .clone()
                .header("authorization", format!("BEARER {token}")),
        ];
        for right in right {
            let status = status(&feed, &right).await?;
            ensure!(
                (200..300).contains(&status),
                "{} {} with authorization: {:?} was answered with {status}",
                right.method(),
                right.target(),
                right.header_value("authorization")
            );
        }
    }
    let refused = feed.request(&Request::get("/stats")).await?;
    ensure!(
        refused.json().is_some_and(|body| body["code"].is_string()),
        "a 401 was to say `{{\"code\",\"detail\"}}`, and said {}",
        refused.summary()
    );
    for open in ["/healthz", "/"] {
        let status = status(&feed, &Request::get(open)).await?;
        ensure!(
            status == 200,
            "GET {open} is for everybody, and was answered with {status}"
        );
    }
    let stats = feed
        .request(&Request::get("/stats").bearer(token))
        .await?
        .json()
        .unwrap_or_default();
    ensure!(
        stats["published"] == 7,
        "seven events were posted with the token and many without; the statistics say {stats}"
    );
    Ok(())
}

async fn the_token_stands_in_no_log(lab: Lab) -> Outcome {
    lab.promise("The token is on no line that the service writes, however much it logs.");
    let token = "s3cret-T0ken-4711";
    let environment = [("LIVE_FEED_LOG", "trace"), ("LIVE_FEED_TOKEN", token)];
    let node = Process::start_with(&lab, &["--heartbeat", "50ms"], &environment).await?;
    let by_address = format!("?token={token}");
    let mut stream = node.open(&by_address).await?;
    begin(&mut stream).await?;
    let posted = posting("t", "x").bearer(token);
    accepted(&node.request(&posted).await?)?;
    node.request(&Request::get(format!("/stats?token={token}")))
        .await?;
    node.request(&Request::get(format!("/nowhere?token={token}")))
        .await?;
    node.request(&events(&format!("?topic=a%20b&token={token}")))
        .await?;
    node.request(
        &Request::post(format!("/events?token={token}"))
            .header("content-type", "application/json")
            .body("{"),
    )
    .await?;
    stream.cut();
    node.service.terminate();
    node.service.wait().await?;
    let said = node.service.stderr() + &node.service.lines().join("\n");
    let line = said.lines().find(|line| line.contains("s3cret"));
    ensure!(
        line.is_none(),
        "the token stands in what the service wrote: {line:?}"
    );
    Ok(())
}

async fn no_more_streams_are_open_than_may_be(lab: Lab) -> Outcome {
    lab.promise("At most `max_clients` streams are open, counted exactly, also when many come at the same moment. Who is too many gets 503 with `Retry-After`; when somebody leaves, the place is free.");
    let options = Options {
        max_clients: 10,
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    for round in 0..5 {
        let client = feed.client();
        let opening = (0..60).map(|_| async move { Stream::open(&client, &events("")).await });
        let mut open = Vec::new();
        for answer in join_all(opening).await {
            match answer {
                Ok(stream) => open.push(stream),
                Err(OpenError::Refused(response)) => ensure!(
                    response.status == 503 && response.header("retry-after").is_some(),
                    "ten streams are open; who is too many was to get 503 with `Retry-After`, and got {}",
                    response.summary()
                ),
                Err(OpenError::Http(error)) => return Err(error.into()),
            }
        }
        ensure!(
            open.len() == 10,
            "LF20",
            "60 clients came at the same moment in round {round}, 10 may be there, and {} got a stream",
            open.len()
        );
        let stats = feed.stats().await?;
        ensure!(
            stats["clients"] == 10,
            "LF20",
            "ten streams are open, and the statistics say {stats}"
        );
        accepted(&feed.request(&posting("t", "x")).await?)?;
        drop(open.pop());
        feed.until_clients(9)
            .await
            .map_err(|failure| failure.code_if("LF11"))?;
        open.push(feed.open("").await?);
        let refused = feed.refused(&events("")).await?;
        ensure!(
            refused.status == 503,
            "the eleventh client got {}",
            refused.summary()
        );
        drop(open);
        feed.until_clients(0)
            .await
            .map_err(|failure| failure.code_if("LF11"))?;
    }
    Ok(())
}

async fn who_has_nothing_left_to_get_takes_no_place(lab: Lab) -> Outcome {
    lab.promise("That a finished topic has nothing left is told before the places are counted, with 204: so clients stop coming. Nobody is counted for that.");
    let options = Options {
        max_clients: 2,
        ..quiet()
    };
    let feed = Feed::start(&lab, options).await?;
    let over = Request::delete("/topics/over");
    let status = feed.request(&over).await?.status;
    ensure!(
        status == 204,
        "`DELETE /topics/over` was answered with {status} instead of 204"
    );
    let nothing_left = |when: &'static str| {
        let feed = &feed;
        async move {
            let answer = feed.refused(&events("?topic=over")).await?;
            ensure!(
                answer.status == 204,
                "{when}; a client of a finished topic with nothing left was to get 204, and got {}",
                answer.summary()
            );
            Ok(())
        }
    };
    for _ in 0..5 {
        nothing_left("no stream is open").await?;
    }
    let mut open = Vec::new();
    for nth in 1..=2 {
        let stream = feed.open("").await;
        open.push(stream.map_err(|failure| {
            failure
                .also(format!(
                    "two streams may be open, and this is number {nth}; before it five clients got 204"
                ))
                .code_if("LF11")
        })?);
    }
    nothing_left("as many streams are open as may be").await?;
    let refused = feed.refused(&events("?topic=other")).await?;
    ensure!(
        refused.status == 503,
        "as many streams are open as may be; one more was to get 503, and got {}",
        refused.summary()
    );
    let clients = feed.clients().await?;
    ensure!(
        clients == 2,
        "LF11",
        "two streams are open, and the statistics count {clients}"
    );
    Ok(())
}
