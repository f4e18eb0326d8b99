//! A Redis as a check sees it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use super::health;
use crate::Failure;
use crate::faults::Proxy;

/// A Redis behind a proxy of this check's own. Clones are the same one.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: String,
    proxy: Proxy,
    limit: Duration,
    direct: Mutex<MultiplexedConnection>,
}

impl Redis {
    pub(crate) async fn connect(
        upstream: &str,
        proxy: Proxy,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let direct = open(upstream, limit).await?;
        let inner = Inner {
            upstream: upstream.to_owned(),
            proxy,
            limit,
            direct: Mutex::new(direct),
        };
        Ok(Redis {
            inner: Arc::new(inner),
        })
    }

    /// What a candidate is given: the address of the proxy.
    pub fn url(&self) -> String {
        self.inner.proxy.url()
    }

    /// The lab's own connection, past the proxy: what it does is in no log, and no fault strikes
    /// it. Opened again if it was lost.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when Redis does not answer.
    pub async fn direct(&self) -> Result<MultiplexedConnection, Failure> {
        let mut direct = self.inner.direct.lock().await;
        let pong: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut *direct).await;
        if pong.is_err() {
            *direct = open(&self.inner.upstream, self.inner.limit).await?;
        }
        Ok(direct.clone())
    }

    /// The proxy between the candidate and Redis.
    pub fn proxy(&self) -> &Proxy {
        &self.inner.proxy
    }

    /// The broker's own address. Candidates never get it.
    pub fn upstream(&self) -> &str {
        &self.inner.upstream
    }
}

async fn open(url: &str, limit: Duration) -> Result<MultiplexedConnection, Failure> {
    health::connect(url, limit).await.map_err(|error| {
        Failure::infrastructure(format!("the run's Redis does not answer: {error}"))
    })
}
