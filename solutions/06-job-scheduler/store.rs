//! The schedule, in Redis: which jobs there are, when they are due, and which runs have not ended.

use std::time::Duration;

use crate::error::Error;
use crate::job::{Job, NewJob};
use crate::names::Names;
use crate::run::{Reply, Run};
use crate::term::Term;
use crate::time::Time;

// solution only
use std::sync::Arc;

use redis::{FromRedisValue, ScriptInvocation};

use crate::connection::Link;
use crate::job::JobState;
use crate::schedule::first;
use crate::time::from_millis;

#[path = "store/records.rs"]
mod records;
#[path = "store/scripts.rs"]
mod scripts;
pub(crate) use records::{Stored, job_of, json};
// end solution only

/// A job that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The job.
    pub job: NewJob,
    /// The time for which it is due.
    pub at: Time,
}

/// What is to become of a job that is due: see [`Store::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job's name.
    pub job: String,
    /// The time for which it was due when somebody looked.
    pub at: Time,
    /// The times for which it runs now.
    pub runs: Vec<Time>,
    /// When it is due next; nothing if never.
    pub next: Option<Time>,
}

/// What a reply has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// The run has ended, now or before: with this result, or for this reason.
    Ended(Result<serde_json::Value, String>),
    /// The attempt has failed, and another will be made.
    Again,
    /// Nothing: there is no such run, or the reply is that of an attempt before the present one.
    Nothing,
}

/// The schedule. Cheap to clone; after a lost connection the next call connects again.
///
/// All it knows is in Redis, under the [names](Names), and every change is one atomic step: so any number of
/// nodes may use it at once, and whoever dies in the middle leaves nothing half done.
#[derive(Debug, Clone)]
pub struct Store {
    // solution only
    pub(crate) link: Arc<Link>,
    pub(crate) names: Names,
    // end solution only
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names) -> Result<Store, Error> {
        // stub stage 1: connect, and remember the names
        Ok(Store {
            link: Arc::new(Link::connect(redis).await?),
            names: names.clone(),
        })
        // end stub
    }

    /// Says that there is a service of this name: jobs may name it from now on.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away; so for all that follow.
    pub async fn add_service(&self, service: &str) -> Result<(), Error> {
        // stub stage 1: SADD P:services
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("SADD")
            .arg(self.names.services())
            .arg(service)
            .query_async(&mut connection)
            .await;
        self.link.answer(answer).await
        // end stub
    }

    /// Adds a job. From then on it is due at its [first](crate::first) time, and in the list of all jobs.
    /// All of it happens, or nothing.
    ///
    /// # Errors
    /// [`Error::BadJob`] if a name is none, or for the schedule; with the place `/service` if no such
    /// service was ever [added](Self::add_service). [`Error::Duplicate`] if there is a job of this name,
    /// whatever its state: that one stays as it is.
    pub async fn add(&self, job: &NewJob, now: Time) -> Result<Job, Error> {
        // stub stage 1: look at the names, the first time, then one script: known? HSET, ZADD P:due, ZADD P:all
        job.check()?;
        let first = first(&job.schedule, now)?;
        let mut call = scripts::ADD.key(self.names.job(&job.name));
        call.key(self.names.services())
            .key(self.names.due())
            .key(self.names.all());
        call.arg(&job.name)
            .arg(&job.service)
            .arg(first.timestamp_millis());
        call.arg(records::fields(job, first));
        let answer: String = self.run(&call).await?;
        match answer.as_str() {
            "added" => Ok(Job {
                job: job.clone(),
                state: JobState::Active,
                next: Some(first),
            }),
            "duplicate" => Err(Error::Duplicate("job", job.name.clone())),
            _ => Err(Error::bad(
                "/service",
                format!(
                    "there is no service `{}`: it was never started",
                    job.service
                ),
            )),
        }
        // end stub
    }

    /// The jobs that are due at `now` (their time is not later), `max` at most, those that have been due
    /// for longest first. Nothing changes.
    ///
    /// A job whose record cannot be read is left out and keeps nobody waiting: it is put off by a minute.
    pub async fn due(&self, now: Time, max: usize) -> Result<Vec<Due>, Error> {
        // stub stage 1: ZRANGE P:due BYSCORE, then the jobs' hashes
        let mut call = scripts::DUE.key(self.names.due());
        call.arg(now.timestamp_millis())
            .arg(max)
            .arg(self.names.job(""));
        let rows: Vec<(String, i64, Vec<String>)> = self.run(&call).await?;
        let mut due = Vec::with_capacity(rows.len());
        for (name, at, fields) in rows {
            match job_of(&name, fields) {
                Ok((job, _)) => due.push(Due {
                    job,
                    at: from_millis(at),
                }),
                Err(error) => self.put_off(&name, at, now, &error).await?,
            }
        }
        Ok(due)
        // end stub
    }

    /// Claims jobs that are due: for each time in `runs` there is an open run from now on, to be published
    /// at once ([`P:run:ID`](Names::run), [`P:open`](Names::open)), and the job is due at `next`; without
    /// `next` it is [done](crate::JobState::Done). Each claim is one atomic step, and counts only if the
    /// job is still due `at` that time: of any number of nodes that claim the same, one has it. A run that
    /// is there already, or was, is not made again. Returns how many claims counted.
    ///
    /// It takes one round trip for up to a hundred claims, and no claim holds Redis up for the others for
    /// longer than milliseconds.
    ///
    /// `attempts` is how many attempts each run has.
    ///
    /// # Errors
    /// From stage 5: [`Error::Fenced`] unless the lease is this term's at that moment, and nothing is
    /// changed then.
    pub async fn claim(
        &self,
        term: &Term,
        claims: &[Claim],
        attempts: u32,
    ) -> Result<usize, Error> {
        // stub stage 1: a script: is it still due at that time? HSET and ZADD for each run, ZADD or ZREM for the job (stage 5: is the lease ours?)
        let mut counted = 0;
        for part in claims.chunks(PAGE) {
            let mut call = scripts::CLAIM.key(self.names.leader());
            call.key(self.names.due()).key(self.names.open());
            call.arg(term.to_string()).arg(attempts);
            for prefix in [self.names.job(""), self.names.run(""), self.names.done("")] {
                call.arg(prefix);
            }
            for claim in part {
                call.arg(&claim.job).arg(claim.at.timestamp_millis());
                let next = claim.next.map(|next| next.timestamp_millis().to_string());
                call.arg(next.unwrap_or_default()).arg(claim.runs.len());
                for run in &claim.runs {
                    call.arg(run.timestamp_millis());
                }
            }
            let answer: i64 = self.run(&call).await?;
            counted += usize::try_from(answer).map_err(|_| Error::Fenced(term.to_string()))?;
        }
        Ok(counted)
        // end stub
    }

    /// The open runs that are to be published at `now`, `max` at most, those first whose time came first.
    /// Each has the token of `term`. Nothing changes.
    pub async fn open(&self, term: &Term, now: Time, max: usize) -> Result<Vec<Run>, Error> {
        // stub stage 3: ZRANGE P:open BYSCORE, then the runs' hashes
        let mut call = scripts::OPEN.key(self.names.open());
        call.arg(now.timestamp_millis())
            .arg(max)
            .arg(self.names.run(""));
        let rows: Vec<Vec<String>> = self.run(&call).await?;
        rows.into_iter()
            .map(|fields| records::run_of(fields, term.token))
            .collect()
        // end stub
    }

    /// Says that these runs were published, and that RabbitMQ has confirmed them: unless a reply comes, they
    /// are to be published again at `again`. One that has ended meanwhile stays ended, and one whose next
    /// attempt is waited for stays as it is.
    ///
    /// # Errors
    /// From stage 5: [`Error::Fenced`] unless the lease is this term's at that moment, and nothing is
    /// changed then.
    pub async fn published(&self, term: &Term, runs: &[Run], again: Time) -> Result<(), Error> {
        // stub stage 3: a script: ZADD XX for each whose attempt is the same (stage 5: is the lease ours?)
        for part in runs.chunks(PAGE) {
            let mut call = scripts::PUBLISHED.key(self.names.leader());
            call.key(self.names.open());
            call.arg(term.to_string())
                .arg(again.timestamp_millis())
                .arg(self.names.run(""));
            for run in part {
                call.arg(run.id()).arg(run.attempt);
            }
            self.fenced(term, &call).await?;
        }
        Ok(())
        // end stub
    }

    /// Makes every open run one that is to be published at once: a new leader does not know which of them
    /// the last one has published, nor whether what it published will be refused. In steps that each hold
    /// Redis up for milliseconds at most. Attempts that are waited for come at once too.
    ///
    /// # Errors
    /// From stage 5: [`Error::Fenced`] unless the lease is this term's.
    pub async fn take_over(&self, term: &Term) -> Result<(), Error> {
        // stub stage 3: a page of P:open after the other: ZADD XX with the score 0 (stage 5: is the lease ours?)
        loop {
            let mut call = scripts::TAKE_OVER.key(self.names.leader());
            call.key(self.names.open());
            call.arg(term.to_string()).arg(PAGE);
            if self.fenced(term, &call).await? < PAGE {
                return Ok(());
            }
        }
        // end stub
    }

    /// Deals with a reply. Dealing with it again changes nothing, and says the same.
    ///
    /// A success ends the run, whichever of its attempts it is of: the effect has happened. A failure counts
    /// if it is that of the present attempt: if there are attempts left the next one is to be published at
    /// `again`, or else the run has failed. What has ended is no longer open, and an entry is added to the
    /// [history](Names::history) of its job, in the same step; the last hundred are kept. What is known of
    /// the run itself is kept for a day, so that a reply that comes again finds it.
    pub async fn settle(&self, reply: &Reply, now: Time, again: Time) -> Result<Settled, Error> {
        // stub stage 3: one script: success, failure with attempts left, or the last failure
        let id = reply.id();
        let mut call = scripts::SETTLE.key(self.names.run(&id));
        call.key(self.names.open())
            .key(self.names.history(&reply.job));
        let error = reply.error.clone().unwrap_or_default();
        call.arg(&id).arg(reply.attempt).arg(u8::from(reply.ok));
        call.arg(reply.result.to_string()).arg(error);
        call.arg(now.timestamp_millis())
            .arg(again.timestamp_millis());
        call.arg(reply.scheduled_for.timestamp_millis())
            .arg(KEEP.as_millis() as u64);
        let (answer, said): (String, String) = self.run(&call).await?;
        Ok(match answer.as_str() {
            "succeeded" => Settled::Ended(Ok(records::json(&self.names.run(&id), &said)?)),
            "failed" => Settled::Ended(Err(said)),
            "again" => Settled::Again,
            _ => Settled::Nothing,
        })
        // end stub
    }

    /// When there will be something to do, as far as is known: a job due, or a run to be published. Nothing
    /// if there is no job and no run.
    pub async fn wake_at(&self) -> Result<Option<Time>, Error> {
        // stub stage 3: the least score of P:due and of P:open
        let mut call = scripts::WAKE_AT.key(self.names.due());
        call.key(self.names.open());
        let millis: Option<i64> = self.run(&call).await?;
        Ok(millis.map(from_millis))
        // end stub
    }
}

// solution only
/// How many records one script handles: it must not hold Redis up for long.
const PAGE: usize = 100;
/// How long a run that has ended is known.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, Error> {
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.link.answer(answer).await
    }

    /// Runs a script that answers with a negative number if the lease is not this term's.
    async fn fenced(&self, term: &Term, call: &ScriptInvocation<'_>) -> Result<usize, Error> {
        let answer: i64 = self.run(call).await?;
        usize::try_from(answer).map_err(|_| Error::Fenced(term.to_string()))
    }

    async fn put_off(&self, job: &str, at: i64, now: Time, why: &Error) -> Result<(), Error> {
        tracing::error!("the job `{job}` is put off by a minute: {why}");
        let mut call = scripts::PUT_OFF.key(self.names.due());
        call.arg(job).arg(at).arg(now.timestamp_millis() + 60_000);
        self.run(&call).await
    }
}
// end solution only
