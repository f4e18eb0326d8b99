//! The plain clients, and a scheduler to measure.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use job_scheduler::{
    Dispatcher, Names, NewJob, Schedule, Store, Term, Time, declare_service, time,
};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;

use crate::PAGE;

pub struct Bare {
    pub names: Names,
    pub store: Store,
    pub term: Term,
    pub client: MultiplexedConnection,
    /// In confirm mode.
    pub channel: Channel,
    amqp: String,
    made: AtomicUsize,
    _connection: Connection,
}

/// Long ago: due.
pub fn past() -> Time {
    time::from_millis(1_700_000_000_000)
}

impl Bare {
    pub async fn open(amqp: &str, redis: &str) -> anyhow::Result<Bare> {
        let names = Names::new(&format!("bench-{}", rand::random::<u32>()))?;
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare_service(&channel, &names, "mail").await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let store = Store::connect(redis, &names).await?;
        store.add_service("mail").await?;
        let mut client = redis::Client::open(redis)?
            .get_multiplexed_async_connection()
            .await?;
        let term = Term {
            node: "bench".to_owned(),
            token: 1,
        };
        let _: () = redis::cmd("SET")
            .arg(names.leader())
            .arg(term.to_string())
            .query_async(&mut client)
            .await?;
        Ok(Bare {
            names,
            store,
            term,
            client,
            channel,
            amqp: amqp.to_owned(),
            made: AtomicUsize::new(0),
            _connection: connection,
        })
    }

    pub async fn dispatcher(&self) -> anyhow::Result<Dispatcher> {
        Ok(Dispatcher::connect(&self.amqp, &self.names).await?)
    }

    /// Adds jobs that are due.
    pub async fn fill(&self, count: usize) {
        let first = self.made.fetch_add(count, Ordering::Relaxed);
        let at = past();
        let before = time::from_millis(at.timestamp_millis() - 1);
        for n in first..first + count {
            let job = NewJob::new(format!("job-{n}"), Schedule::At { at }, "mail");
            self.store.add(&job, before).await.expect("added");
        }
    }

    /// Fills a sorted set of the plain client's.
    pub async fn fill_bare(&self, count: usize) {
        let mut add = redis::cmd("ZADD");
        add.arg(format!("{}:bare", self.names));
        for n in 0..count {
            add.arg(1).arg(format!("job-{n}"));
        }
        let mut client = self.client.clone();
        add.query_async::<u64>(&mut client).await.expect("added");
    }

    /// What the plain clients do with a page: read, publish with confirms, remove.
    pub async fn work_page(&self) -> usize {
        let key = format!("{}:bare", self.names);
        let mut client = self.client.clone();
        let jobs: Vec<String> = redis::cmd("ZRANGEBYSCORE")
            .arg(&key)
            .arg(&["-inf", "1", "LIMIT", "0"])
            .arg(PAGE)
            .query_async(&mut client)
            .await
            .expect("a page");
        if jobs.is_empty() {
            return 0;
        }
        let mut confirms = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let properties = BasicProperties::default().with_delivery_mode(2);
            let sent = self.channel.basic_publish(
                self.names.exchange().into(),
                self.names.key("mail").into(),
                options,
                job.as_bytes(),
                properties,
            );
            confirms.push(sent.await.expect("sent"));
        }
        for confirm in confirms {
            assert_eq!(confirm.await.expect("an answer"), Confirmation::Ack(None));
        }
        redis::cmd("ZREM")
            .arg(&key)
            .arg(&jobs)
            .query_async::<u64>(&mut client)
            .await
            .expect("removed");
        jobs.len()
    }

    /// Throws away what was published and what is open.
    pub async fn empty(&self) {
        let queue = self.names.queue("mail");
        let purged = self.channel.queue_purge(queue.into(), Default::default());
        purged.await.expect("a count");
        let mut client = self.client.clone();
        redis::cmd("DEL")
            .arg(self.names.open())
            .query_async::<u64>(&mut client)
            .await
            .expect("deleted");
    }

    pub async fn delete(&self) -> anyhow::Result<()> {
        let names = &self.names;
        for queue in [names.queue("mail"), names.replies()] {
            let deleted = self.channel.queue_delete(queue.into(), Default::default());
            deleted.await.context("deleting a queue")?;
        }
        let exchange = names.exchange();
        let deleted = self
            .channel
            .exchange_delete(exchange.into(), Default::default());
        deleted.await.context("deleting the exchange")?;
        let mut client = self.client.clone();
        let mut cursor = 0;
        loop {
            let page: (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{names}*"))
                .arg("COUNT")
                .arg(1_000)
                .query_async(&mut client)
                .await?;
            if !page.1.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(page.1).query_async::<u64>(&mut client).await?;
            }
            cursor = page.0;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
