//! The judge's side of a check.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::output::Output;
use super::receipt::{Objection, Receipt};
use super::{MARK_VARIABLE, RUN_CHECK, Report, Ticket, Verdict, environment, exit, strays};
use crate::brokers::{self, Endpoints};
use crate::browser::PICTURES;
use crate::state_directory;

/// A check to be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The test binary: a program whose `main` is a [`Suite`](crate::Suite).
    pub binary: PathBuf,
    /// The check's full name.
    pub check: String,
    /// The candidate's service.
    pub service: Option<PathBuf>,
    /// The run's brokers.
    pub brokers: Endpoints,
    /// The seed of all that is random.
    pub seed: u64,
    /// The factor by which the check's own deadlines are stretched.
    pub patience: f64,
    /// The time after which the check is given up. Patience is not applied to it again.
    pub limit: Duration,
    /// The address space that the check, and each service it starts, may use, in bytes; 0 for
    /// no limit. Where the system does not enforce it (macOS), there is none.
    pub memory: u64,
}

/// Runs a check and waits for its end. Afterwards none of its processes is left, its temporary
/// files are gone, and so are the keys that it made in the run's Redis and what it declared in the run's
/// RabbitMQ. Dropping the future kills
/// the check's process group.
pub async fn run_check(job: &Job) -> Report {
    let start = Instant::now();
    let mut report = match attempt(job).await {
        Ok(report) => report,
        Err(error) => blank(
            job,
            Verdict::Infrastructure,
            format!("the check could not be started: {error}"),
        ),
    };
    report.millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

async fn attempt(job: &Job) -> io::Result<Report> {
    let place = Place::make()?;
    let ticket = Ticket {
        token: random_word(),
        receipt: place.receipt(),
        check: job.check.clone(),
        service: job.service.clone(),
        brokers: job.brokers.clone(),
        seed: job.seed,
        patience: job.patience,
        memory: job.memory,
        mark: random_word()[..8].to_owned(),
        leftovers: place.leftovers(),
    };
    let mut child = spawn(job, &place, &ticket.mark)?;
    let group = Group::of(&child);
    let output = Output::drain(child.stdout.take());
    let errors = Output::drain(child.stderr.take());
    // The pipe stays open: its end tells the check that the judge is gone.
    let mut stdin = child.stdin.take();
    if let Some(pipe) = &mut stdin {
        let mut line = serde_json::to_vec(&ticket)?;
        line.push(b'\n');
        // A binary that does not read its ticket leaves no receipt either.
        let _ = pipe.write_all(&line).await;
    }
    let ended = tokio::time::timeout(job.limit, child.wait()).await;
    drop(group);
    strays::kill_marked(&ticket.mark);
    let _ = child.wait().await;
    let (_, errors) = (output.finish().await, errors.finish().await);

    let report = match ended {
        Ok(status) => match Receipt::read(&ticket.receipt, &ticket.token) {
            Some(receipt) => with_receipt(job, receipt),
            None => without_receipt(job, status?, &errors).await,
        },
        Err(_) => at_the_limit(job).await,
    };
    clean_up(job, &place, &ticket.mark).await;
    Ok(report)
}

fn spawn(job: &Job, place: &Place, mark: &str) -> io::Result<Child> {
    let mut command = Command::new(&job.binary);
    // A candidate is told its broker; it must not find another one, or a password, on its own.
    environment::scrub(&mut command);
    // Whoever asked for pictures meant their own directory, and the check has another one.
    if let Some(pictures) = std::env::var_os(PICTURES).filter(|path| !path.is_empty()) {
        command.env(PICTURES, std::path::absolute(pictures)?);
    }
    command
        .args([RUN_CHECK, &job.check])
        .current_dir(place.work())
        .env("TMPDIR", place.work())
        .env(MARK_VARIABLE, mark)
        // Each arena reserves address space, of which a check has not much.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// The check's process group, killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Group(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map(Pid::from_raw),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails if nobody of the group is left, which is well.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The directories of one check; removed when this is dropped.
struct Place(tempfile::TempDir);

impl Place {
    fn make() -> io::Result<Self> {
        let place = Place(
            tempfile::Builder::new()
                .prefix("workbook-check-")
                .tempdir()?,
        );
        fs::create_dir(place.work())?;
        fs::create_dir(place.leftovers())?;
        Ok(place)
    }

    /// Where the check runs, and where its temporary files go.
    fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    fn leftovers(&self) -> PathBuf {
        self.0.path().join("leftovers")
    }

    fn receipt(&self) -> PathBuf {
        self.0.path().join("receipt.json")
    }
}

fn with_receipt(job: &Job, receipt: Receipt) -> Report {
    let Some(objection) = receipt.objection else {
        let mut report = blank(job, Verdict::Passed, String::new());
        report.promise = receipt.promise;
        return report;
    };
    let verdict = if objection.infrastructure {
        Verdict::Infrastructure
    } else {
        Verdict::Failed
    };
    let mut report = blank(job, verdict, message(&objection));
    report.promise = receipt.promise;
    report.picture = objection
        .picture
        .and_then(|markup| save_picture(job, &markup));
    report.todo_stage = objection.todo.map(|(stage, _)| stage);
    report.observed = Some(objection.observed);
    // A stage that is not written yet is no mistake.
    report.code = objection.code.filter(|_| report.todo_stage.is_none());
    report.history = objection.history;
    report
}

fn message(objection: &Objection) -> String {
    match &objection.todo {
        Some((stage, task)) => format!("Stage {stage} is not written yet: {task}"),
        None => objection.observed.clone(),
    }
}

async fn without_receipt(job: &Job, status: ExitStatus, errors: &str) -> Report {
    match broker_is_gone(job).await {
        Some(why) => blank(job, Verdict::Infrastructure, why),
        None => blank(
            job,
            Verdict::Failed,
            exit::describe(status, errors, job.memory),
        ),
    }
}

async fn at_the_limit(job: &Job) -> Report {
    match broker_is_gone(job).await {
        Some(why) => blank(job, Verdict::Infrastructure, why),
        None => {
            let limit = job.limit.as_secs_f64();
            blank(
                job,
                Verdict::TooSlow,
                format!("the check had not ended after its limit of {limit:.0} s"),
            )
        }
    }
}

async fn broker_is_gone(job: &Job) -> Option<String> {
    let limit = Duration::from_secs(5).mul_f64(job.patience);
    brokers::silent(&job.brokers, limit).await
}

fn blank(job: &Job, verdict: Verdict, message: String) -> Report {
    Report {
        check: job.check.clone(),
        verdict,
        code: None,
        observed: (!message.is_empty()).then(|| message.clone()),
        message,
        promise: None,
        history: None,
        picture: None,
        todo_stage: None,
        seed: job.seed,
        millis: 0,
    }
}

/// Writes the picture to where the learner finds it. A verdict does not depend on it.
fn save_picture(job: &Job, markup: &str) -> Option<PathBuf> {
    let extension = if markup.trim_start().starts_with("<svg") {
        "svg"
    } else {
        "html"
    };
    let directory = state_directory().join("pictures");
    let file = directory.join(format!("{}.{extension}", job.check.replace("::", ".")));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&file, markup))
        .ok()?;
    Some(file)
}

async fn clean_up(job: &Job, place: &Place, mark: &str) {
    if let Some(url) = &job.brokers.redis {
        // A broker that is gone holds no keys.
        let _ = brokers::forget_keys(url, mark, Duration::from_secs(10)).await;
    }
    // RabbitMQ has no list to ask for: what was declared, the proxies have written down.
    if let Some(url) = &job.brokers.amqp
        && let Ok(note) = fs::read_to_string(note_of_declared(&place.leftovers()))
    {
        let _ = brokers::forget_declared(url, &note, mark, Duration::from_secs(10)).await;
    }
    // Those of an own broker that are in no process group of the check's.
    brokers::end_processes(&place.leftovers());
    if has_containers(&place.leftovers()) {
        let own = |labels: &std::collections::HashMap<String, String>| {
            labels
                .get(brokers::CHECK_LABEL)
                .is_some_and(|value| value == mark)
        };
        let _ = brokers::remove_labelled(brokers::CHECK_LABEL, own).await;
    }
}

/// The file by which a check tells its judge what was declared in the run's RabbitMQ.
pub(crate) fn note_of_declared(leftovers: &Path) -> PathBuf {
    leftovers.join("declared")
}

fn has_containers(leftovers: &Path) -> bool {
    brokers::note_of_containers(leftovers).exists()
}

/// 128 random bits in hexadecimal.
fn random_word() -> String {
    format!("{:032x}", rand::random::<u128>())
}
