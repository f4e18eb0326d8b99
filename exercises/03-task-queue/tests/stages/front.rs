//! The API as a process, and a client of it.

use std::sync::Arc;

use lab::clients::http::{Client, Request, Response};
use lab::{Failure, Service, ensure};
use serde_json::Value;

use crate::depot::Depot;

/// `task-queue api`, ready.
#[derive(Clone)]
pub struct Front {
    service: Arc<Service>,
    client: Client,
}

impl Front {
    /// Starts it, with more flags.
    pub async fn open(depot: &Depot, flags: &[&str]) -> Result<Front, Failure> {
        let service = start(depot, &depot.rabbit.url(), flags)?;
        let line = service.next_json().await?;
        let addr = line["listening"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let Some(addr) = addr else {
            return Err(Failure::observed(format!(
                "the first line that the API prints was to be {{\"listening\":\"127.0.0.1:PORT\"}}, and is {line}"
            )));
        };
        Ok(Front {
            service: Arc::new(service),
            client: Client::new(addr, depot.lab.deadline()),
        })
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    pub async fn ask(&self, request: &Request) -> Result<Response, Failure> {
        Ok(self.client.request(request).await?)
    }

    pub async fn get(&self, target: &str) -> Result<Response, Failure> {
        self.ask(&Request::get(target)).await
    }

    /// Posts a task.
    pub async fn post(&self, body: &str, headers: &[(&str, &str)]) -> Result<Response, Failure> {
        let mut request = Request::post("/tasks")
            .header("content-type", "application/json")
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(&request).await
    }

    /// Posts a task that has to be accepted, and returns its id.
    pub async fn accepted(&self, body: &str, headers: &[(&str, &str)]) -> Result<String, Failure> {
        let answer = self.post(body, headers).await?;
        ensure!(
            answer.status == 202,
            "`POST /tasks` with {body} was answered with {}: {}",
            answer.status,
            text(&answer)
        );
        let id = json(&answer)?["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| Failure::observed(format!("there is no id in {}", text(&answer))))
    }
}

/// Starts the API with an address of RabbitMQ, and flags, that may be wrong.
pub fn start(depot: &Depot, amqp: &str, flags: &[&str]) -> Result<Service, Failure> {
    let (redis, name) = (depot.redis.url(), depot.names.to_string());
    let mut arguments = vec!["api", "--amqp", amqp];
    for (flag, value) in [
        ("--redis", redis.as_str()),
        ("--name", &name),
        ("--listen", "127.0.0.1:0"),
    ] {
        if !flags.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(flags);
    depot.lab.service(arguments).start()
}

/// A command of the service that has to end by itself: its exit code and what it says.
pub async fn ends(service: &Service) -> Result<(Option<i32>, String), Failure> {
    let status = service.wait().await?;
    Ok((status.code(), service.stderr()))
}

pub fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

pub fn json(answer: &Response) -> Result<Value, Failure> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::observed(format!(
            "an answer with the status {} is no JSON ({error}): {}",
            answer.status,
            text(answer)
        ))
    })
}

/// Holds an error against RFC 9457.
pub fn problem(answer: &Response, status: u16, about: &str) -> Result<Value, Failure> {
    ensure!(
        answer.status == status,
        "{about} was to be answered with {status}, and was with {}: {}",
        answer.status,
        text(answer)
    );
    let kind = answer.head.headers.get("content-type").unwrap_or_default();
    ensure!(
        kind.split(';').next().unwrap_or_default().trim() == "application/problem+json",
        "{about}: the content type of the error is `{kind}`, not `application/problem+json`"
    );
    let body = json(answer)?;
    ensure!(
        body["status"] == status && body["title"].is_string() && body["detail"].is_string(),
        "{about}: the problem lacks `status`, `title` or `detail`: {body}"
    );
    Ok(body)
}
