//! Following a log: each event of it is handled, in order, whatever dies.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::entry::Stored;
use crate::error::{BoxError, Error};
use crate::options::Follow;
use crate::report::Followed;

// solution only
#[path = "follow/group.rs"]
mod group;
#[path = "follow/verdict.rs"]
mod verdict;

use std::time::Duration;

use tokio::time::sleep;

use self::group::Group;
use self::verdict::{Attempts, Verdict};
use crate::connection::Pauses;
use crate::entry::RawEntry;
use crate::pattern::Pattern;
// end solution only

/// Calls `handler` for each event of a log that matches the pattern, one after the other, in the
/// order of the log, until `stop`. Redis keeps the place, in the consumer group `options.group`, so
/// that a follower that comes back under the same group goes on where it was. One process at a time
/// follows under a group.
///
/// **Where it begins.** A group that is new begins at the beginning of the log, which need not exist
/// yet (`XGROUP CREATE log group 0 MKSTREAM`). One that exists goes on where it was: first with what
/// was delivered to it and not acknowledged, all of it, in order, and then with what it has not seen.
/// With `options.from` the group is set to that place at the start, before anything is read, and
/// whatever is pending from before is given up. The one consumer of the group has the group's name.
///
/// **What it does with an entry.** After the handler has returned `Ok`, and never before, the entry
/// is acknowledged (`XACK`), and then comes the next one. If the handler returns an error or panics,
/// it is called again for the same event after `options.retry_delay`, which doubles with each further
/// failure, up to ten seconds; nothing overtakes it meanwhile. After `options.attempts` calls the
/// entry is set aside: its fields as they were, then `_id` and `_reason`, go into the stream
/// `L:dead:GROUP`, and it is acknowledged, both in one atomic step. An entry that is no event (without
/// the fields `name`, `data` and `at`, or with data that is no JSON) is set aside at once. One that
/// does not match is acknowledged without a call.
///
/// **What it survives.** A lost connection is rebuilt, with growing pauses up to five seconds, for
/// ever. Nothing is skipped by it, and an event that was handled while Redis was away is acknowledged
/// afterwards, and not handled again. When the process dies, at most the one event whose handler was
/// under way, or had just ended, is handled again.
///
/// **How it ends.** After `stop` a handler call under way is finished and settled, the wait for new
/// events or for the next attempt is not: it returns within a second of that, and without Redis too.
/// What it had been given and has not handled stays pending, and comes first the next time.
///
/// It waits in Redis, not by asking again and again (`XREADGROUP … BLOCK`), on a connection that
/// nothing else uses.
///
/// # Errors
/// Only at the start: [`Error::BadPattern`], [`Error::BadStart`]; [`Error::Connect`] if Redis cannot
/// be reached or does not let us in; [`Error::Redis`] if the group cannot be created, because the key
/// is not a stream, for example.
pub async fn follow<F, Fut>(
    options: Follow,
    handler: F,
    stop: CancellationToken,
) -> Result<Followed, Error>
where
    F: Fn(Stored) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    // stub stage 7: create the group; own pending entries first, then new ones; handle, acknowledge
    let attempts = Attempts {
        pattern: Pattern::new(&options.pattern)?,
        most: options.attempts.max(1),
        first_delay: options.retry_delay,
        handler,
    };
    let from = options.from.as_ref().map(|from| from.id_before());
    let mut follower = Follower {
        begin_behind: from.transpose()?,
        group: Group::connect(&options).await?,
        options,
        attempts,
        stop,
        begun: false,
        pauses: Pauses::new(),
        decided: None,
        followed: Followed::default(),
    };
    follower.run().await?;
    Ok(follower.followed)
    // end stub
}

// solution only
/// How long the last words to Redis may take after a stop.
const LAST_WORDS: Duration = Duration::from_millis(500);

struct Follower<F> {
    options: Follow,
    attempts: Attempts<F>,
    stop: CancellationToken,
    group: Group,
    /// Where the group is to be set at the start.
    begin_behind: Option<String>,
    /// Whether the group is there, and where it should be.
    begun: bool,
    pauses: Pauses,
    /// What is to become of an entry, until Redis has confirmed it.
    decided: Option<(String, Verdict)>,
    followed: Followed,
}

impl<F, Fut> Follower<F>
where
    F: Fn(Stored) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    /// Follows until it is told to stop, over any number of lost connections.
    async fn run(&mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        loop {
            match self.serve().await {
                Ok(()) => return Ok(()),
                // Redis refused the group, and would refuse it again.
                Err(error) if !self.begun && !error.is_connection() => return Err(error),
                Err(error) => tracing::warn!(%error, "lost Redis, connecting again"),
            }
            loop {
                let again = stop.run_until_cancelled(async {
                    self.pauses.pause().await;
                    Group::connect(&self.options).await
                });
                match again.await {
                    None => return Ok(()),
                    Some(Ok(group)) => break self.group = group,
                    Some(Err(error)) => tracing::warn!(%error, "still no Redis"),
                }
            }
        }
    }

    /// Finds or makes its place in the log.
    async fn begin(&mut self) -> Result<(), Error> {
        self.group.create().await?;
        if let Some(id) = &self.begin_behind {
            self.group.begin_behind(id).await?;
            self.begin_behind = None;
        }
        self.begun = true;
        Ok(())
    }

    /// Follows on the present connections until they fail (`Err`) or it is told to stop (`Ok`).
    ///
    /// Whatever it handles it reads from its own pending entries. So nothing is missed that was
    /// delivered in a reply that never came, and nothing overtakes it. The read for new entries only
    /// waits, and makes them pending.
    async fn serve(&mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        match stop.run_until_cancelled(self.begin()).await {
            Some(begun) => begun?,
            None => return Ok(()),
        }
        loop {
            let pending = self.group.pending(self.options.batch);
            let Some(pending) = stop.run_until_cancelled(pending).await else {
                return Ok(());
            };
            let pending = pending?;
            self.pauses = Pauses::new();
            for entry in &pending {
                self.settle(entry).await?;
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            if pending.is_empty() {
                // Dropped at a stop: what it was just given is pending then, for the next time.
                let new = self.group.wait_for_new(self.options.batch);
                let Some(new) = stop.run_until_cancelled(new).await else {
                    return Ok(());
                };
                new?;
            }
        }
    }

    /// Decides about an entry, unless that was done before the connection was lost, and tells Redis.
    /// Does neither if it is told to stop first.
    async fn settle(&mut self, entry: &RawEntry) -> Result<(), Error> {
        let decided = self.decided.take().filter(|(id, _)| *id == entry.id);
        let verdict = match decided {
            Some((_, verdict)) => verdict,
            None => match self.attempts.decide(entry, &self.stop).await {
                Some(verdict) => verdict,
                None => return Ok(()),
            },
        };
        let (_, verdict) = self.decided.insert((entry.id.clone(), verdict));
        let told = async {
            match verdict {
                Verdict::Handled | Verdict::Skipped => self.group.acknowledge(&entry.id).await,
                Verdict::SetAside(reason) => self.group.set_aside(entry, reason).await,
            }
        };
        let too_late = async {
            self.stop.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            told = told => told?,
            () = too_late => return Ok(()),
        }
        match verdict {
            Verdict::Handled => self.followed.handled += 1,
            Verdict::SetAside(_) => self.followed.set_aside += 1,
            Verdict::Skipped => {}
        }
        self.decided = None;
        Ok(())
    }
}
// end solution only
