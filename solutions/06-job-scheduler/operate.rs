//! What operators do: look, pause, resume, delete.

use crate::error::Error;
use crate::job::Job;
use crate::run::Past;
use crate::store::Store;
use crate::time::Time;

// solution only
use std::sync::LazyLock;

use redis::Script;

use crate::job::{JobState, NewJob, Schedule};
use crate::run::RunState;
use crate::schedule::next;
use crate::store::{Stored, job_of, json};
use crate::time::{from_millis, later};
// end solution only

impl Store {
    /// A job as it stands; nothing if there is none of this name.
    ///
    /// # Errors
    /// Those of the connection (so for all that follow), and [`Error::BadRecord`].
    pub async fn job(&self, name: &str) -> Result<Option<Job>, Error> {
        // stub stage 9: the job's hash and its score, in one step
        let found = self.look_up(name).await?;
        Ok(found.map(|(job, stored, next)| Job {
            job,
            state: stored.state,
            next,
        }))
        // end stub
    }

    /// Jobs in the order of their names (byte by byte), `max` at most: those after `after`, or from the
    /// first.
    ///
    /// # Errors
    /// [`Error::BadRecord`].
    pub async fn jobs(&self, after: Option<&str>, max: usize) -> Result<Vec<Job>, Error> {
        // stub stage 9: ZRANGE P:all BYLEX, and each job
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("ZRANGE")
            .arg(self.names.all())
            .arg(from)
            .arg("+")
            .arg(&["BYLEX", "LIMIT", "0"])
            .arg(max.min(i64::MAX as usize))
            .query_async(&mut connection)
            .await;
        let names: Vec<String> = self.link.answer(answer).await?;
        let jobs = futures::future::try_join_all(names.iter().map(|name| self.job(name))).await?;
        Ok(jobs.into_iter().flatten().collect())
        // end stub
    }

    /// How a job's last runs ended, the latest end first, `max` at most.
    ///
    /// # Errors
    /// [`Error::BadRecord`].
    pub async fn history(&self, name: &str, max: usize) -> Result<Vec<Past>, Error> {
        // stub stage 9: XREVRANGE P:history:NAME
        let key = self.names.history(name);
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("XREVRANGE")
            .arg(&key)
            .arg(&["+", "-", "COUNT"])
            .arg(max.min(i64::MAX as usize))
            .query_async(&mut connection)
            .await;
        let entries: Vec<(String, Vec<String>)> = self.link.answer(answer).await?;
        entries
            .into_iter()
            .map(|(_, fields)| past(&key, &fields))
            .collect()
        // end stub
    }

    /// Pauses a job: it is not due any more. Runs that are open come to their end. Pausing again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Wrong`] if it is done.
    pub async fn pause(&self, name: &str) -> Result<Job, Error> {
        // stub stage 9: one script: HSET, ZREM
        let mut call = PAUSE.key(self.names.job(name));
        call.key(self.names.due()).arg(name);
        let _: i64 = self.run(&call).await?;
        let job = self.known(name).await?;
        match job.state {
            JobState::Done => Err(Error::Wrong {
                job: name.to_owned(),
                state: job.state,
            }),
            _ => Ok(job),
        }
        // end stub
    }

    /// Lets a paused job go on. What fell into the pause is passed over, whatever its misfire policy: a job
    /// by `cron` is due at its first time after `now`, one with `every` so much after `now`, and one that runs
    /// once at its time, or if that has passed, never: it is done. One that is active stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Wrong`] if it is done.
    pub async fn resume(&self, name: &str, now: Time) -> Result<Job, Error> {
        // stub stage 9: the next time, then one script: if it is paused, HSET and ZADD
        if let Some((job, stored, _)) = self.look_up(name).await? {
            let next = match &job.schedule {
                Schedule::Cron { .. } => next(&job.schedule, now),
                Schedule::Every { every } => Some(later(now, *every)),
                _ => Some(stored.first).filter(|first| *first > now),
            };
            let mut call = RESUME.key(self.names.job(name));
            call.key(self.names.due()).arg(name);
            let next = next.map(|next| next.timestamp_millis().to_string());
            call.arg(next.unwrap_or_default());
            let was: String = self.run(&call).await?;
            if was == JobState::Done.as_str() {
                return Err(Error::Wrong {
                    job: name.to_owned(),
                    state: JobState::Done,
                });
            }
        }
        self.known(name).await
        // end stub
    }

    /// Deletes a job with its history: another may have its name at once. Runs that are open come to their
    /// end.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        // stub stage 9: one script: DEL, ZREM, ZREM
        let mut call = DELETE.key(self.names.job(name));
        call.key(self.names.history(name))
            .key(self.names.due())
            .key(self.names.all());
        call.arg(name);
        match self.run(&call).await? {
            0 => Err(Error::NotFound("job", name.to_owned())),
            _ => Ok(()),
        }
        // end stub
    }
}

// solution only
impl Store {
    async fn known(&self, name: &str) -> Result<Job, Error> {
        let job = self.job(name).await?;
        job.ok_or_else(|| Error::NotFound("job", name.to_owned()))
    }

    async fn look_up(&self, name: &str) -> Result<Option<(NewJob, Stored, Option<Time>)>, Error> {
        let mut call = LOOK_UP.key(self.names.job(name));
        call.key(self.names.due()).arg(name);
        let (fields, score): (Vec<String>, Option<f64>) = self.run(&call).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let (job, stored) = job_of(name, fields)?;
        Ok(Some((
            job,
            stored,
            score.map(|score| from_millis(score as i64)),
        )))
    }
}

fn past(key: &str, fields: &[String]) -> Result<Past, Error> {
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        let pair = pairs.find(|pair| pair[0] == name);
        pair.map_or("", |pair| pair[1].as_str())
    };
    let state: RunState = json(key, &format!("\"{}\"", field("state")))?;
    let failed = state == RunState::Failed;
    Ok(Past {
        scheduled_for: from_millis(json(key, field("scheduled_for"))?),
        ended_at: from_millis(json(key, field("ended_at"))?),
        state,
        attempts: json(key, field("attempts"))?,
        error: failed.then(|| field("error").to_owned()),
    })
}

/// KEYS: job, due. ARGV: name.
static LOOK_UP: LazyLock<Script> = LazyLock::new(|| {
    Script::new("return {redis.call('HGETALL', KEYS[1]), redis.call('ZSCORE', KEYS[2], ARGV[1])}")
});

/// KEYS: job, due. ARGV: name.
static PAUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'state') ~= 'active' then return 0 end
        redis.call('HSET', KEYS[1], 'state', 'paused')
        return redis.call('ZREM', KEYS[2], ARGV[1])",
    )
});

/// KEYS: job, due. ARGV: name, next time or nothing.
static RESUME: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local state = redis.call('HGET', KEYS[1], 'state') or ''
        if state ~= 'paused' then return state end
        if ARGV[2] == '' then
            redis.call('HSET', KEYS[1], 'state', 'done')
        else
            redis.call('HSET', KEYS[1], 'state', 'active')
            redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
        end
        return state",
    )
});

/// KEYS: job, history, due, all. ARGV: name.
static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZREM', KEYS[3], ARGV[1])
        redis.call('ZREM', KEYS[4], ARGV[1])
        redis.call('DEL', KEYS[2])
        return redis.call('DEL', KEYS[1])",
    )
});
// end solution only
