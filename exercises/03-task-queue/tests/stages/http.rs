//! Stage 2 and others, over HTTP: what a client library would expect.

use std::time::Duration;

use lab::clients::http::Request;
use lab::{Check, Lab, Outcome, ensure, fail};
use serde_json::json;
use task_queue::State;

use crate::depot::Depot;
use crate::front::{Front, ends, json as body_of, problem, start, text};

/// For stage 2.
pub fn of_stage_2() -> Vec<Check> {
    lab::checks![
        a_task_is_accepted_over_http,
        what_is_no_json_is_400_and_what_is_no_task_422,
        addresses_and_methods_that_are_not_there_are_404_and_405,
        what_is_too_large_is_413_and_another_type_415,
        the_description_of_the_api_fits_its_answers,
        an_api_that_cannot_start_says_why,
    ]
}

/// For stage 6.
pub fn of_stage_6() -> Vec<Check> {
    lab::checks![an_idempotency_key_works_over_http]
}

/// For stage 7.
pub fn of_stage_7() -> Vec<Check> {
    lab::checks![a_task_is_cancelled_over_http]
}

/// For stage 8.
pub fn of_stage_8() -> Vec<Check> {
    lab::checks![while_a_broker_is_away_the_api_says_so.limit_secs(120)]
}

async fn a_task_is_accepted_over_http(lab: Lab) -> Outcome {
    lab.promise("`POST /tasks` is answered with 202, `Location` and the status; `GET` of that address tells how the task is");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let answer = front
        .post(r#"{"kind":"sleep","payload":{"millis":1}}"#, &[])
        .await?;
    ensure!(
        answer.status == 202,
        "a task was answered with {}: {}",
        answer.status,
        text(&answer)
    );
    let status = body_of(&answer)?;
    let id = status["id"].as_str().unwrap_or_default().to_owned();
    let location = answer.head.headers.get("location").unwrap_or_default();
    ensure!(
        location == format!("/tasks/{id}"),
        "`Location` is `{location}`, the id is `{id}`"
    );
    let expected = json!({"id": id, "kind": "sleep", "state": "queued", "attempts": 0, "progress": 0, "result": null, "error": null});
    ensure!(
        status == expected,
        "the body is {status}, and was to be {expected}"
    );
    let answer = front.get(location).await?;
    ensure!(
        answer.status == 200 && body_of(&answer)? == expected,
        "`GET {location}` was answered with {}: {}",
        answer.status,
        text(&answer)
    );
    depot.until_ready(&depot.names.queue(), 1).await?;
    let _worker = depot.worker(&[])?;
    depot.until(&id, State::Succeeded).await?;
    let answer = front.get(location).await?;
    let done = body_of(&answer)?;
    ensure!(
        done["state"] == "succeeded"
            && done["result"] == json!({"slept": 1})
            && done["progress"] == 100,
        "after it was done `GET {location}` says {done}"
    );
    let answer = front.get("/healthz").await?;
    ensure!(
        answer.status == 200,
        "`GET /healthz` was answered with {}",
        answer.status
    );
    Ok(())
}

async fn what_is_no_json_is_400_and_what_is_no_task_422(lab: Lab) -> Outcome {
    lab.promise("a body that is no JSON is 400, one that is no task 422, with the place of what is wrong; nothing of it is published");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    for body in [
        "",
        "{",
        "kind=sleep",
        "{\"kind\":\"sleep\"} x",
        "\u{feff}{}",
    ] {
        let answer = front.post(body, &[]).await?;
        problem(&answer, 400, &format!("the body `{body}`"))?;
    }
    for (body, pointer) in [
        ("[]", ""),
        ("{}", "/kind"),
        (r#"{"kind":7}"#, "/kind"),
        (r#"{"kind":"dance"}"#, "/kind"),
        (r#"{"kind":"sleep"}"#, "/payload"),
        (
            r#"{"kind":"sleep","payload":{"millis":"long"}}"#,
            "/payload",
        ),
        (
            r#"{"kind":"sleep","payload":{"millis":99999999999}}"#,
            "/payload",
        ),
        (
            r#"{"kind":"resize","payload":{"image":"%","width":1}}"#,
            "/payload",
        ),
        (r#"{"kind":"crash","priority":"urgent"}"#, "/priority"),
        (r#"{"kind":"crash","deadline":"soon"}"#, "/deadline"),
        (
            r#"{"kind":"crash","deadline":"2001-01-01T00:00:00Z"}"#,
            "/deadline",
        ),
        (r#"{"kind":"crash","prio":"high"}"#, "/prio"),
    ] {
        let answer = front.post(body, &[]).await?;
        let problem = problem(&answer, 422, &format!("the body {body}"))?;
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        ensure!(
            errors
                .iter()
                .any(|error| error["pointer"] == pointer && error["detail"].is_string()),
            "the body {body} is wrong at `{pointer}`, and the problem says {problem}"
        );
    }
    let answer = front.post(r#"{"kind":"dance"}"#, &[]).await?;
    ensure!(
        text(&answer).contains("resize") && text(&answer).contains("flaky"),
        "an unknown kind does not tell which there are: {}",
        text(&answer)
    );
    front.accepted(r#"{"kind":"crash"}"#, &[]).await?;
    depot.until_ready(&depot.names.queue(), 1).await
}

async fn addresses_and_methods_that_are_not_there_are_404_and_405(lab: Lab) -> Outcome {
    lab.promise("a task or an address that is not there is 404, a method that is not there 405 with `Allow`");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let id = front.accepted(r#"{"kind":"crash"}"#, &[]).await?;
    for target in [
        "/",
        "/task",
        "/tasks/",
        "/tasks/nobody",
        "/tasks/%00",
        "/tasks/..%2F..",
        "/tasks/a%20b",
    ] {
        let answer = front.get(target).await?;
        problem(&answer, 404, &format!("`GET {target}`"))?;
    }
    for (method, target, allowed) in [
        ("GET", "/tasks".to_owned(), "POST"),
        ("PUT", format!("/tasks/{id}"), "GET"),
        ("POST", "/healthz".to_owned(), "GET"),
    ] {
        let answer = front.ask(&Request::new(method, target.as_str())).await?;
        problem(&answer, 405, &format!("`{method} {target}`"))?;
        let allow = answer.head.headers.get("allow").unwrap_or_default();
        ensure!(
            allow.contains(allowed),
            "`{method} {target}`: the header `Allow` is `{allow}`, without {allowed}"
        );
    }
    Ok(())
}

async fn what_is_too_large_is_413_and_another_type_415(lab: Lab) -> Outcome {
    lab.promise("a body above the limit is 413, one that does not say it is JSON 415");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let large = format!(r#"{{"kind":"crash","payload":"{}"}}"#, "x".repeat(2 << 20));
    let answer = front.post(&large, &[]).await?;
    problem(&answer, 413, "a body of 2 MiB")?;
    let fits = format!(
        r#"{{"kind":"crash","payload":"{}"}}"#,
        "x".repeat((1 << 20) - 64)
    );
    front.accepted(&fits, &[]).await?;
    let task = r#"{"kind":"crash"}"#;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let mut request = Request::post("/tasks").body(task);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let answer = front.ask(&request).await?;
        problem(&answer, 415, &format!("the content type {kind:?}"))?;
    }
    let request = Request::post("/tasks")
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(task);
    let answer = front.ask(&request).await?;
    ensure!(
        answer.status == 202,
        "JSON with a charset was answered with {}",
        answer.status
    );
    let small = Front::open(&depot, &["--max-body", "100"]).await?;
    let answer = small
        .post(
            &format!(r#"{{"kind":"crash","payload":"{}"}}"#, "x".repeat(100)),
            &[],
        )
        .await?;
    problem(
        &answer,
        413,
        "a body of more than 100 bytes with `--max-body 100`",
    )?;
    Ok(())
}

async fn the_description_of_the_api_fits_its_answers(lab: Lab) -> Outcome {
    lab.promise("`GET /openapi.json` describes every address and answer of the API, and the answers are as described");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let answer = front.get("/openapi.json").await?;
    ensure!(
        answer.status == 200,
        "`GET /openapi.json` was answered with {}",
        answer.status
    );
    let api = crate::openapi::Api::new(body_of(&answer)?)?;
    let id = front
        .accepted(r#"{"kind":"sleep","payload":{"millis":1}}"#, &[])
        .await?;
    let done = front
        .accepted(
            r#"{"kind":"fail","payload":{"reason":"r","permanent":true}}"#,
            &[],
        )
        .await?;
    let _worker = depot.worker(&[])?;
    depot.until(&id, State::Succeeded).await?;
    depot.until(&done, State::Failed).await?;
    let posts = [
        r#"{"kind":"sleep","payload":{"millis":1}}"#,
        "{",
        r#"{"kind":"dance"}"#,
    ];
    for body in posts {
        let answer = front.post(body, &[]).await?;
        api.fits("/tasks", "post", &answer)?;
    }
    let answer = front.ask(&Request::post("/tasks").body("{}")).await?;
    api.fits("/tasks", "post", &answer)?;
    for (target, path) in [
        (format!("/tasks/{id}"), "/tasks/{id}"),
        (format!("/tasks/{done}"), "/tasks/{id}"),
        ("/tasks/nobody".to_owned(), "/tasks/{id}"),
        ("/healthz".to_owned(), "/healthz"),
        ("/openapi.json".to_owned(), "/openapi.json"),
    ] {
        let answer = front.get(&target).await?;
        api.fits(path, "get", &answer)?;
    }
    for target in [format!("/tasks/{id}"), "/tasks/nobody".to_owned()] {
        let answer = front.ask(&Request::delete(target)).await?;
        api.fits("/tasks/{id}", "delete", &answer)?;
    }
    Ok(())
}

async fn an_api_that_cannot_start_says_why(lab: Lab) -> Outcome {
    lab.promise("when it cannot start the service says why, in a line, and ends with a code of its own for each reason");
    let depot = Depot::new(&lab).await?;
    // It starts, if all is well: and declares what is needed.
    drop(Front::open(&depot, &[]).await?);
    let away = {
        let proxy = lab.rabbit()?;
        proxy.proxy().refuse(true);
        proxy
    };
    let url = depot.rabbit.url();
    let host = url.rsplit('@').next().unwrap_or_default().to_owned();
    let taken = Front::open(&depot, &[]).await?;
    let taken_at = taken.service().json_lines()[0]["listening"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let theirs = lab.unique("theirs");
    let channel = depot.rabbit.direct().await?;
    channel
        .queue_declare(
            theirs.as_str().into(),
            Default::default(),
            Default::default(),
        )
        .await?;
    let cases: [(&str, String, Vec<&str>, i32, &str); 8] = [
        (
            "RabbitMQ is away",
            away.url(),
            vec![],
            69,
            "cannot connect to RabbitMQ",
        ),
        (
            "Redis is away",
            url.clone(),
            vec!["--redis", "redis://127.0.0.1:1"],
            69,
            "Redis",
        ),
        (
            "the password is wrong",
            format!("amqp://guest:wrong@{host}"),
            vec![],
            77,
            "password",
        ),
        (
            "there is no such virtual host",
            format!(
                "amqp://guest:guest@{}/nowhere",
                host.split('/').next().unwrap_or_default()
            ),
            vec![],
            77,
            "nowhere",
        ),
        (
            "the address is none",
            "http://localhost".to_owned(),
            vec![],
            2,
            "amqp://",
        ),
        (
            "the port is taken",
            url.clone(),
            vec!["--listen", &taken_at],
            98,
            "cannot listen",
        ),
        (
            "a queue differs",
            url.clone(),
            vec!["--name", &theirs],
            76,
            &theirs,
        ),
        (
            "the name is none",
            url.clone(),
            vec!["--name", "a b"],
            2,
            "a b",
        ),
    ];
    for (what, amqp, flags, code, says) in cases {
        let service = start(&depot, &amqp, &flags)?;
        let (ended, said) = ends(&service).await?;
        ensure!(
            ended == Some(code),
            "{what}: the service ended with {ended:?}, not {code}; it said: {said}"
        );
        ensure!(
            said.contains(says) && !said.contains("wrong@") && !said.contains("panicked"),
            "{what}: the service says \"{said}\", without `{says}`"
        );
    }
    depot.rabbit.delete_queue(&theirs).await?;
    Ok(())
}

async fn an_idempotency_key_works_over_http(lab: Lab) -> Outcome {
    lab.promise("`Idempotency-Key` makes repeated and simultaneous requests one task; with another body it is 422; a key that is none is 422");
    let depot = Depot::new(&lab).await?;
    let (one, two) = (
        Front::open(&depot, &[]).await?,
        Front::open(&depot, &[]).await?,
    );
    let body = r#"{"kind":"sleep","payload":{"millis":1}}"#;
    let asked = (0..60).map(|n| {
        let front = if n % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            front
                .accepted(body, &[("Idempotency-Key", "order-77")])
                .await
        })
    });
    let mut ids = Vec::new();
    for id in futures::future::join_all(asked).await {
        ids.push(id??);
    }
    ids.dedup();
    ensure!(
        ids.len() == 1,
        "TQ07",
        "60 requests with one key got {} ids",
        ids.len()
    );
    let other = r#"{"kind":"sleep","payload":{"millis":2}}"#;
    let answer = one.post(other, &[("idempotency-key", "order-77")]).await?;
    problem(&answer, 422, "the same key with another body")?;
    for key in ["", "with space", &"k".repeat(300)] {
        let answer = one.post(body, &[("Idempotency-Key", key)]).await?;
        problem(&answer, 422, &format!("the key `{key}`"))?;
    }
    let _worker = depot.worker(&[])?;
    depot.until(&ids[0], State::Succeeded).await?;
    lab.within(Duration::from_millis(200)).await;
    depot.ended_once(&ids, State::Succeeded).await?;
    let done = depot.done().await?.len();
    ensure!(done == 1, "one key was used, and {done} tasks were done");
    Ok(())
}

async fn a_task_is_cancelled_over_http(lab: Lab) -> Outcome {
    lab.promise("`DELETE /tasks/{id}` cancels: 200 with the status, also again; 409 when it has ended, 404 when it is not there");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &[]).await?;
    let id = front.accepted(r#"{"kind":"crash"}"#, &[]).await?;
    for _ in 0..2 {
        let answer = front.ask(&Request::delete(format!("/tasks/{id}"))).await?;
        let status = body_of(&answer)?;
        ensure!(
            answer.status == 200 && status["state"] == "cancelled" && status["id"] == json!(id),
            "`DELETE` was answered with {}: {status}",
            answer.status
        );
    }
    let _worker = depot.worker(&[])?;
    let id = front
        .accepted(r#"{"kind":"sleep","payload":{"millis":1}}"#, &[])
        .await?;
    depot.until(&id, State::Succeeded).await?;
    let answer = front.ask(&Request::delete(format!("/tasks/{id}"))).await?;
    problem(&answer, 409, "`DELETE` of a task that has succeeded")?;
    let answer = front.ask(&Request::delete("/tasks/nobody")).await?;
    problem(&answer, 404, "`DELETE` of a task that is not there")?;
    let running = front
        .accepted(r#"{"kind":"sleep","payload":{"millis":3600000}}"#, &[])
        .await?;
    depot.until(&running, State::Running).await?;
    let answer = front
        .ask(&Request::delete(format!("/tasks/{running}")))
        .await?;
    ensure!(
        answer.status == 200,
        "`DELETE` of a task that runs was answered with {}",
        answer.status
    );
    depot.ended_once(&[running], State::Cancelled).await
}

async fn while_a_broker_is_away_the_api_says_so(lab: Lab) -> Outcome {
    lab.promise("while RabbitMQ or Redis is away `POST /tasks` and `/healthz` are 503 with `Retry-After`; once it is back they are not, by themselves");
    let depot = Depot::new(&lab).await?;
    let front = Front::open(&depot, &["--confirm-timeout", "2s"]).await?;
    let body = r#"{"kind":"crash"}"#;
    for which in ["RabbitMQ", "Redis"] {
        let away = |on: bool| match which {
            "RabbitMQ" => depot.rabbit.proxy().refuse(on),
            _ => depot.redis.proxy().refuse(on),
        };
        away(true);
        match which {
            "RabbitMQ" => depot.rabbit.proxy().cut_all(),
            _ => depot.redis.proxy().cut_all(),
        }
        for _ in 0..2 {
            let answer = front.post(body, &[]).await?;
            problem(&answer, 503, &format!("a task while {which} is away"))?;
            let after = answer.head.headers.get("retry-after").unwrap_or_default();
            ensure!(
                after.parse::<u32>().is_ok(),
                "`Retry-After` is `{after}`, and was to be a number of seconds"
            );
        }
        let answer = front.get("/healthz").await?;
        problem(&answer, 503, &format!("`/healthz` while {which} is away"))?;
        away(false);
        let what = format!("a task to be accepted after {which} is back");
        lab.eventually(&what, || async {
            let answer = front.post(body, &[]).await?;
            Ok((answer.status == 202).then_some(()))
        })
        .await
        .map_err(|failure| failure.code("TQ18"))?;
        let what = format!("`/healthz` to be 200 after {which} is back");
        lab.eventually(&what, || async {
            let answer = front.get("/healthz").await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        if front.service().exit_status().is_some() {
            fail!("the API has ended: {}", front.service().stderr());
        }
    }
    Ok(())
}
