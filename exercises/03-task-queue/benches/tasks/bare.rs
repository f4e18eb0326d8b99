//! The plain clients, and what they do to the same queues.

use anyhow::Context as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
};
use redis::aio::MultiplexedConnection;
use task_queue::{Names, NewTask, Submit, Task, Work};

use crate::TASKS;

pub struct Bare {
    pub amqp: String,
    pub redis: String,
    pub names: Names,
    pub connection: Connection,
    /// In confirm mode.
    pub channel: Channel,
    pub client: MultiplexedConnection,
}

impl Bare {
    pub async fn open(amqp: &str, redis: &str) -> anyhow::Result<Bare> {
        let names = Names::new(&format!("bench-{}", rand::random::<u32>()))?;
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        task_queue::declare(&channel, &names).await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let client = redis::Client::open(redis)?;
        Ok(Bare {
            amqp: amqp.to_owned(),
            redis: redis.to_owned(),
            names,
            connection,
            channel,
            client: client.get_multiplexed_async_connection().await?,
        })
    }

    pub fn submit_options(&self) -> Submit {
        Submit {
            names: self.names.clone(),
            confirm_timeout: std::time::Duration::from_secs(60),
            ..Submit::new(&self.amqp, &self.redis)
        }
    }

    pub fn work_options(&self, concurrency: u16) -> Work {
        Work {
            names: self.names.clone(),
            concurrency,
            ..Work::new(&self.amqp, &self.redis)
        }
    }

    /// Publishes a task as a submitter does.
    pub async fn publish(&self, id: &str) -> PublisherConfirm {
        let body = Task::of(&task(), id).body().expect("JSON");
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(id.into());
        let exchange = self.names.exchange();
        let sent = self.channel.basic_publish(
            exchange.into(),
            "nothing".into(),
            options,
            &body,
            properties,
        );
        sent.await.expect("sent")
    }

    /// Writes a status as a submitter does.
    pub async fn write(&self, id: &str) {
        let mut command = redis::cmd("HSET");
        command
            .arg(self.names.task_key(id))
            .arg("kind")
            .arg("nothing");
        command.arg(&["state", "queued", "attempts", "0", "progress", "0"]);
        let mut client = self.client.clone();
        let written = command.query_async::<u64>(&mut client);
        written.await.expect("a count");
    }

    /// Writes that an attempt has begun.
    pub async fn begin(&self, id: &str) {
        let mut command = redis::cmd("HSET");
        command.arg(self.names.task_key(id));
        command.arg(&["state", "running", "attempts", "1", "progress", "0"]);
        let mut client = self.client.clone();
        let written = command.query_async::<u64>(&mut client);
        written.await.expect("a count");
    }

    /// Writes that a task has ended.
    pub async fn end(&self, id: &str) {
        let mut steps = redis::pipe();
        let key = self.names.task_key(id);
        let ended = ["state", "succeeded", "progress", "100", "result", "null"];
        steps.atomic().cmd("HSET").arg(&key).arg(&ended).ignore();
        steps.cmd("PEXPIRE").arg(&key).arg(86_400_000).ignore();
        let done = steps.cmd("XADD").arg(self.names.done_key());
        done.arg(&["MAXLEN", "~", "100000", "*", "id", id, "state", "succeeded"])
            .ignore();
        let mut client = self.client.clone();
        let written = steps.query_async::<()>(&mut client);
        written.await.expect("written");
    }

    /// Puts tasks into the queue, which is empty.
    pub async fn fill(&self) {
        let mut confirms = Vec::new();
        for _ in 0..TASKS {
            confirms.push(self.publish(&new_id()).await);
        }
        for confirm in confirms {
            stored(confirm).await;
        }
    }

    /// Throws away what is in the queue.
    pub async fn empty(&self) {
        let queue = self.names.queue();
        let purged = self.channel.queue_purge(queue.into(), Default::default());
        purged.await.expect("a count");
    }

    pub async fn delete(&self) -> anyhow::Result<()> {
        let names = &self.names;
        for queue in [names.queue(), names.high_queue(), names.dead_queue()] {
            let deleted = self
                .channel
                .queue_delete(queue.into(), QueueDeleteOptions::default());
            deleted.await.context("deleting a queue")?;
        }
        for exchange in [
            names.exchange(),
            names.high_exchange(),
            names.dead_exchange(),
        ] {
            let deleted = self
                .channel
                .exchange_delete(exchange.into(), Default::default());
            deleted.await.context("deleting an exchange")?;
        }
        let mut client = self.client.clone();
        // A measurement leaves a million of them: a page at a time, not one by one.
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{names}:*"));
            scan.arg("COUNT").arg(1000);
            let page: (u64, Vec<String>) = scan.query_async(&mut client).await?;
            if !page.1.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(page.1).query_async::<u64>(&mut client).await?;
            }
            cursor = page.0;
            if cursor == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// RabbitMQ has stored it, in a queue.
pub async fn stored(confirm: PublisherConfirm) {
    let said = confirm.await.expect("an answer");
    assert_eq!(said, Confirmation::Ack(None));
}

pub fn task() -> NewTask {
    NewTask::new("nothing", serde_json::json!({"for": "nobody"}))
}

pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub fn no_arguments() -> FieldTable {
    FieldTable::default()
}
