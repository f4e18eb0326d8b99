//! The check's side: inside the test binary, in a process of its own.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{getpgrp, getpid};

use super::Ticket;
use super::receipt::{Objection, Receipt};
use crate::check::{Check, Outcome};
use crate::illustrate::illustrate;
use crate::lab::Setting;
use crate::{Failure, Kind, Lab, brokers, panics};

/// Runs the check that `find` gives for the ticket's name, writes the receipt, and ends the process.
pub(crate) fn run_as_child(find: impl Fn(&str) -> Option<Check>) -> ExitCode {
    let ticket = match read_ticket() {
        Ok(ticket) => ticket,
        Err(error) => {
            eprintln!("no ticket on standard input: {error}");
            return ExitCode::from(2);
        }
    };
    end_with_the_judge(
        ticket.receipt.parent().map(Path::to_owned),
        ticket.leftovers.clone(),
    );
    let Some(check) = find(&ticket.check) else {
        return settle(
            &ticket,
            None,
            Err(Failure::infrastructure(format!(
                "this binary has no check called {}; it may be older than the list it was taken from",
                ticket.check
            ))),
        );
    };
    // Nothing of the candidate has run yet, and no thread of ours either.
    limit_memory(ticket.memory);
    panics::record();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::infrastructure(format!("cannot start a runtime: {error}"));
            return settle(&ticket, None, Err(failure));
        }
    };
    let (promise, outcome) = runtime.block_on(run(&ticket, check));
    let code = settle(&ticket, promise, outcome);
    // Not waiting for what the candidate has left running: the judge ends it.
    runtime.shutdown_background();
    code
}

fn read_ticket() -> std::io::Result<Ticket> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The judge keeps our standard input open. When it ends, the judge is gone, perhaps killed: then
/// nobody would end what this check has started, and remove the `place` that it had.
fn end_with_the_judge(place: Option<PathBuf>, leftovers: PathBuf) {
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        brokers::end_processes(&leftovers);
        if let Some(place) = place {
            let _ = std::fs::remove_dir_all(place);
        }
        if getpgrp() == getpid() {
            let _ = killpg(getpgrp(), Signal::SIGKILL);
        }
        std::process::abort();
    });
}

fn limit_memory(bytes: u64) {
    // A system that has no such limit (macOS) says so by an error, and runs without.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if bytes > 0 {
        let _ = setrlimit(Resource::RLIMIT_AS, bytes, bytes);
    }
}

/// Runs the check, and asks the broker whether a failure may be its.
async fn run(ticket: &Ticket, check: Check) -> (Option<String>, Outcome) {
    let redis = ticket.brokers.redis.as_deref();
    let before = match identity(redis, ticket.patience).await {
        Ok(identity) => identity,
        Err(failure) => return (None, Err(failure)),
    };
    let setting = Setting {
        seed: ticket.seed,
        mark: ticket.mark.clone(),
        patience: ticket.patience,
        service: ticket.service.clone(),
        leftovers: ticket.leftovers.clone(),
        brokers: ticket.brokers.clone(),
    };
    let lab = match Lab::new(setting) {
        Ok(lab) => lab,
        Err(error) => {
            return (
                None,
                Err(Failure::infrastructure(format!(
                    "cannot start a thread: {error}"
                ))),
            );
        }
    };
    let outcome = match tokio::spawn(check.run(lab.clone())).await {
        Ok(outcome) => outcome,
        Err(gone) => Err(Failure::observed(panic_text(gone))),
    };
    let outcome = match outcome {
        Err(failure) if failure.kind == Kind::Violated => {
            let limit = Duration::from_secs(5).mul_f64(ticket.patience);
            let silent = brokers::silent(&ticket.brokers, limit).await;
            match identity(redis, ticket.patience).await {
                Ok(after) if after == before => Err(match silent {
                    None => illustrate(&lab, failure),
                    Some(why) => Failure::infrastructure(why),
                }),
                Ok(_) => Err(Failure::infrastructure(
                    "the run's Redis was started anew in the middle of the check",
                )),
                Err(gone) => Err(gone),
            }
        }
        outcome => outcome,
    };
    (lab.promised(), outcome)
}

/// Which start of the run's Redis answers.
async fn identity(redis: Option<&str>, patience: f64) -> Result<Option<String>, Failure> {
    let Some(url) = redis else { return Ok(None) };
    let limit = Duration::from_secs(5).mul_f64(patience);
    match brokers::redis_answers(url, limit).await {
        Ok(identity) => Ok(Some(identity.run_id)),
        Err(why) => Err(Failure::infrastructure(format!(
            "the run's Redis does not answer: {why}"
        ))),
    }
}

/// What is said of a panic that ended the check: its text, and where it happened.
fn panic_text(gone: tokio::task::JoinError) -> String {
    match gone.try_into_panic() {
        Ok(payload) => {
            let text = panics::text_of(payload.as_ref());
            let place = panics::seen()
                .into_iter()
                .rev()
                .find(|panic| panic.message == text);
            let place = place
                .map(|panic| format!(" ({})", panic.place))
                .unwrap_or_default();
            format!("panicked: {text}{place}")
        }
        Err(_) => "the check was cancelled".to_owned(),
    }
}

/// Writes the receipt.
fn settle(ticket: &Ticket, promise: Option<String>, outcome: Outcome) -> ExitCode {
    let objection = outcome.err().map(|failure| Objection {
        infrastructure: failure.kind == Kind::Infrastructure,
        observed: failure.observed.clone(),
        code: failure.code.map(str::to_owned),
        history: failure.history.clone(),
        picture: failure.picture.clone(),
        todo: todo(&failure),
    });
    let content = objection.is_none();
    let receipt = Receipt {
        token: ticket.token.clone(),
        objection,
        promise,
    };
    match receipt.write(&ticket.receipt) {
        Ok(()) if content => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the receipt cannot be written: {error}");
            ExitCode::from(3)
        }
    }
}

/// A stub that was reached explains the failure better than what came of it.
fn todo(failure: &Failure) -> Option<(u32, String)> {
    if failure.kind == Kind::Infrastructure {
        return None;
    }
    let panic = panics::first_todo()?;
    Some((panic.stage()?, panics::task_of(&panic.message).to_owned()))
}
