use std::sync::Arc;

use axum::extract::WebSocketUpgrade;
use axum::response::Response;

use crate::server::{Knock, Server};

pub async fn echo(_server: Arc<Server>, _upgrade: WebSocketUpgrade) -> Response {
    todo!("stage 1: echo")
}

pub async fn connect(_server: Arc<Server>, _knock: Knock, _upgrade: WebSocketUpgrade) -> Response {
    todo!("stage 1: connect")
}
