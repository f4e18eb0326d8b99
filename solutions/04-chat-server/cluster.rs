use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::frames::{ErrorFrame, Message};
use crate::history::Kept;
use crate::hub::Hub;
use crate::options::Options;

#[derive(Debug)]
pub struct Cluster {}

impl Cluster {
    pub async fn connect(_url: &str, _options: &Options) -> Result<Self, Error> {
        todo!("stage 8: x")
    }
    pub fn start(&self, _hub: &Arc<Hub>, _over: CancellationToken) {}
    pub async fn claim(&self, _hub: &Hub, _name: &str) -> Result<bool, Error> {
        todo!()
    }
    pub async fn release(&self, _hub: &Hub, _name: &str) {
        todo!()
    }
    pub async fn join(&self, _hub: &Hub, _name: &str, _room: &str) -> Result<bool, ErrorFrame> {
        todo!()
    }
    pub async fn leave(&self, _hub: &Hub, _name: &str, _room: &str) -> Result<bool, ErrorFrame> {
        todo!()
    }
    pub async fn say(&self, _hub: &Hub, _message: &Message) -> Result<(), ErrorFrame> {
        todo!()
    }
    pub async fn members(&self, _room: &str) -> Result<Vec<String>, ErrorFrame> {
        todo!()
    }
    pub async fn kept(&self, _room: &str, _after: u64, _last: u64, _most: usize) -> Vec<Kept> {
        todo!()
    }
    pub async fn leave_for_good(&self) {}
}
