//! A node as a process, and a client of its HTTP API.

use std::sync::Arc;

use lab::clients::http::{Client, Request, Response};
use lab::{Failure, Service};
use serde_json::Value;

use crate::board::Board;

/// `job-scheduler node`, ready.
#[derive(Clone)]
pub struct Front {
    pub service: Arc<Service>,
    pub address: std::net::SocketAddr,
    client: Client,
}

impl Front {
    /// Starts it, with more flags.
    pub async fn open(board: &Board, id: &str, flags: &[&str]) -> Result<Front, Failure> {
        let service = board.node_process(id, flags)?;
        let line = service.next_json().await?;
        let address = line["listening"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let Some(address) = address else {
            return Err(Failure::observed(format!(
                "the first line that a node prints was to be {{\"listening\":\"127.0.0.1:PORT\",…}}, and is {line}"
            )));
        };
        Ok(Front {
            service: Arc::new(service),
            address,
            client: Client::new(address, board.lab.deadline()),
        })
    }

    pub async fn get(&self, target: &str) -> Result<(u16, Value), Failure> {
        answer(&self.client.request(&Request::get(target)).await?)
    }

    pub async fn post(&self, target: &str, body: &str) -> Result<(u16, Value), Failure> {
        answer(&self.posted(target, body).await?)
    }

    pub async fn posted(&self, target: &str, body: &str) -> Result<Response, Failure> {
        let request = Request::post(target)
            .header("content-type", "application/json")
            .body(body);
        Ok(self.client.request(&request).await?)
    }

    pub async fn ask(&self, request: &Request) -> Result<Response, Failure> {
        Ok(self.client.request(request).await?)
    }
}

/// The status and the body, null where there is none.
pub fn answer(response: &Response) -> Result<(u16, Value), Failure> {
    let body = match response.body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&response.body)?,
    };
    Ok((response.status, body))
}
