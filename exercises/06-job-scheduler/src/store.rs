// Stub 92089b2b6f40eec3: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The schedule, in Redis: which jobs there are, when they are due, and which runs have not ended.

use std::time::Duration;

use crate::error::Error;
use crate::job::{Job, NewJob};
use crate::names::Names;
use crate::run::{Reply, Run};
use crate::term::Term;
use crate::time::Time;

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
pub struct Store {}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names) -> Result<Store, Error> {
        todo!("stage 1: connect, and remember the names")
    }

    /// Says that there is a service of this name: jobs may name it from now on.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away; so for all that follow.
    pub async fn add_service(&self, service: &str) -> Result<(), Error> {
        todo!("stage 1: SADD P:services")
    }

    /// Adds a job. From then on it is due at its [first](crate::first) time, and in the list of all jobs.
    /// All of it happens, or nothing.
    ///
    /// # Errors
    /// [`Error::BadJob`] if a name is none, or for the schedule; with the place `/service` if no such
    /// service was ever [added](Self::add_service). [`Error::Duplicate`] if there is a job of this name,
    /// whatever its state: that one stays as it is.
    pub async fn add(&self, job: &NewJob, now: Time) -> Result<Job, Error> {
        todo!(
            "stage 1: look at the names, the first time, then one script: known? HSET, ZADD P:due, ZADD P:all"
        )
    }

    /// The jobs that are due at `now` (their time is not later), `max` at most, those that have been due
    /// for longest first. Nothing changes.
    ///
    /// A job whose record cannot be read is left out and keeps nobody waiting: it is put off by a minute.
    pub async fn due(&self, now: Time, max: usize) -> Result<Vec<Due>, Error> {
        todo!("stage 1: ZRANGE P:due BYSCORE, then the jobs' hashes")
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
        todo!(
            "stage 1: a script: is it still due at that time? HSET and ZADD for each run, ZADD or ZREM for the job (stage 5: is the lease ours?)"
        )
    }

    /// The open runs that are to be published at `now`, `max` at most, those first whose time came first.
    /// Each has the token of `term`. Nothing changes.
    pub async fn open(&self, term: &Term, now: Time, max: usize) -> Result<Vec<Run>, Error> {
        todo!("stage 3: ZRANGE P:open BYSCORE, then the runs' hashes")
    }

    /// Says that these runs were published, and that RabbitMQ has confirmed them: unless a reply comes, they
    /// are to be published again at `again`. One that has ended meanwhile stays ended, and one whose next
    /// attempt is waited for stays as it is.
    ///
    /// # Errors
    /// From stage 5: [`Error::Fenced`] unless the lease is this term's at that moment, and nothing is
    /// changed then.
    pub async fn published(&self, term: &Term, runs: &[Run], again: Time) -> Result<(), Error> {
        todo!(
            "stage 3: a script: ZADD XX for each whose attempt is the same (stage 5: is the lease ours?)"
        )
    }

    /// Makes every open run one that is to be published at once: a new leader does not know which of them
    /// the last one has published, nor whether what it published will be refused. In steps that each hold
    /// Redis up for milliseconds at most. Attempts that are waited for come at once too.
    ///
    /// # Errors
    /// From stage 5: [`Error::Fenced`] unless the lease is this term's.
    pub async fn take_over(&self, term: &Term) -> Result<(), Error> {
        todo!(
            "stage 3: a page of P:open after the other: ZADD XX with the score 0 (stage 5: is the lease ours?)"
        )
    }

    /// Deals with a reply. Dealing with it again changes nothing, and says the same.
    ///
    /// A success ends the run, whichever of its attempts it is of: the effect has happened. A failure counts
    /// if it is that of the present attempt: if there are attempts left the next one is to be published at
    /// `again`, or else the run has failed. What has ended is no longer open, and an entry is added to the
    /// [history](Names::history) of its job, in the same step; the last hundred are kept. What is known of
    /// the run itself is kept for a day, so that a reply that comes again finds it.
    pub async fn settle(&self, reply: &Reply, now: Time, again: Time) -> Result<Settled, Error> {
        todo!("stage 3: one script: success, failure with attempts left, or the last failure")
    }

    /// When there will be something to do, as far as is known: a job due, or a run to be published. Nothing
    /// if there is no job and no run.
    pub async fn wake_at(&self) -> Result<Option<Time>, Error> {
        todo!("stage 3: the least score of P:due and of P:open")
    }
}
