//! Who leads: one node at a time, for as long as it gives signs of life.

use std::time::Duration;

use crate::error::Error;
use crate::names::Names;
use crate::term::Term;

// solution only
use std::sync::{Arc, LazyLock};

use redis::{FromRedisValue, Script, ScriptInvocation};

use crate::connection::Link;
// end solution only

/// The lease of the leader, as one node sees it. Cheap to clone.
///
/// It is the key [`P:leader`](Names::leader) in Redis, which goes away by itself when nobody renews it; its
/// value is the [`Term`] as text. Redis alone decides who leads: its clock counts, and no node's.
#[derive(Debug, Clone)]
pub struct Lease {
    // solution only
    link: Arc<Link>,
    names: Names,
    node: String,
    length: Duration,
    // end solution only
}

impl Lease {
    /// The lease for the node `node`; whoever has it leads for `length`, in milliseconds and at least one,
    /// after its last sign of life.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(
        redis: &str,
        names: &Names,
        node: &str,
        length: Duration,
    ) -> Result<Lease, Error> {
        // stub stage 4: connect, and remember the rest
        Ok(Lease {
            link: Arc::new(Link::connect(redis).await?),
            names: names.clone(),
            node: node.to_owned(),
            length,
        })
        // end stub
    }

    /// Takes the lease, if nobody has it: not this node either. The new term's token is one more than the
    /// last that was given out ([`P:token`](Names::token)), and nothing is given out to those who come too
    /// late. All of it is one atomic step.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away. Then it may have been taken all the same; it
    /// ends by itself.
    pub async fn acquire(&self) -> Result<Option<Term>, Error> {
        // stub stage 4: one script: EXISTS, INCR, SET … PX
        let mut call = ACQUIRE.key(self.names.leader());
        call.key(self.names.token());
        call.arg(&self.node).arg(self.millis());
        let token: Option<u64> = self.run(&call).await?;
        Ok(token.map(|token| Term {
            node: self.node.clone(),
            token,
        }))
        // end stub
    }

    /// Makes the lease last for its whole length from now on, if this term still has it. One that has
    /// ended is not taken again, even if nobody else has it. Returns whether the term goes on.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn renew(&self, term: &Term) -> Result<bool, Error> {
        // stub stage 4: one script: is the value ours? PEXPIRE
        let mut call = RENEW.key(self.names.leader());
        call.arg(term.to_string()).arg(self.millis());
        self.run(&call).await
        // end stub
    }

    /// Gives the lease up, if this term still has it: another node may take it at once. Returns whether
    /// this term had it.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn release(&self, term: &Term) -> Result<bool, Error> {
        // stub stage 4: one script: is the value ours? DEL
        let mut call = RELEASE.key(self.names.leader());
        call.arg(term.to_string());
        self.run(&call).await
        // end stub
    }

    /// The term that goes on now, whoever has it.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away, [`Error::BadRecord`] if what is there is no
    /// term.
    pub async fn holder(&self) -> Result<Option<Term>, Error> {
        // stub stage 4: one GET
        let mut connection = self.link.connection().await?;
        let key = self.names.leader();
        let answer = redis::cmd("GET")
            .arg(&key)
            .query_async(&mut connection)
            .await;
        let value: Option<String> = self.link.answer(answer).await?;
        let term = value.map(|text| {
            text.parse().map_err(|()| Error::BadRecord {
                key,
                why: format!("`{text}` is no term"),
            })
        });
        term.transpose()
        // end stub
    }
}

// solution only
impl Lease {
    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Error> {
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.link.answer(answer).await
    }

    /// Never nothing: Redis refuses that.
    fn millis(&self) -> u64 {
        let millis = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        millis.clamp(1, i64::MAX as u64 / 2)
    }
}

/// KEYS: lease, counter. ARGV: node, milliseconds.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 1 then return false end
        local token = redis.call('INCR', KEYS[2])
        redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. token, 'PX', ARGV[2])
        return token",
    )
});

/// KEYS: lease. ARGV: term, milliseconds.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

/// KEYS: lease. ARGV: term.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        return redis.call('DEL', KEYS[1])",
    )
});
// end solution only
