//! A running service.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;

use super::output::Lines;
use super::tree;
use crate::panics::{self, Panic};
use crate::{Failure, Lab, Outcome};

/// Lines of standard output that are kept, and of standard error.
const LINES: usize = 200_000;
const ERROR_LINES: usize = 500;

/// A running service. Dropping it kills it and its own children with SIGKILL.
pub struct Service {
    lab: Lab,
    pid: Pid,
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    stdout: Lines,
    stderr: Lines,
    /// The next line that [`next_json`](Service::next_json) gives out.
    next: AtomicUsize,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Service {
    pub(super) fn adopt(lab: Lab, mut child: Child) -> Result<Self, Failure> {
        let missing = || Failure::infrastructure("a service was started without its pipes");
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let stdin = Arc::new(tokio::sync::Mutex::new(child.stdin.take()));
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                tell.send_replace(Some(status));
            }
        });
        Ok(Service {
            lab,
            pid: Pid::from_raw(pid),
            stdin,
            stdout: Lines::read(stdout, LINES, |_| {}),
            stderr: Lines::read(stderr, ERROR_LINES, notice_todo),
            next: AtomicUsize::new(0),
            ended,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// The lines of standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// The lines of standard output so far that are JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        self.lines()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The next line of standard output that no earlier call has given out, as soon as it is there.
    ///
    /// # Errors
    /// A [`Failure`] when the line is not JSON, when standard output ends, or after the
    /// [deadline](Lab::deadline).
    pub async fn next_json(&self) -> Result<Value, Failure> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let line = self.patiently("print a line", self.stdout.nth(n)).await?;
        let Some(line) = line else {
            return Err(Failure::observed(format!(
                "a line of JSON was expected of the service, and its output ended{}",
                self.last_words()
            )));
        };
        serde_json::from_str(&line).map_err(|error| {
            Failure::observed(format!(
                "the service printed a line that is not JSON ({error}): {line}"
            ))
        })
    }

    /// What came on standard error: the last 500 lines.
    pub fn stderr(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Writes a line to standard input.
    ///
    /// # Errors
    /// A [`Failure`] when standard input was closed, the service does not read on, or it has ended.
    pub async fn write_line(&self, line: &str) -> Outcome {
        let stdin = Arc::clone(&self.stdin);
        let text = format!("{line}\n");
        let written = self
            .patiently("read its standard input", async move {
                match stdin.lock().await.as_mut() {
                    Some(pipe) => pipe.write_all(text.as_bytes()).await,
                    None => Err(std::io::ErrorKind::BrokenPipe.into()),
                }
            })
            .await?;
        written.map_err(|error| {
            Failure::observed(format!(
                "the service takes no more input ({error}){}",
                self.last_words()
            ))
        })
    }

    /// Closes standard input: the service reads its end.
    pub fn close_stdin(&self) {
        match self.stdin.try_lock() {
            Ok(mut pipe) => *pipe = None,
            // A line is being written at this moment; it comes first.
            Err(_) => {
                let stdin = Arc::clone(&self.stdin);
                tokio::spawn(async move { *stdin.lock().await = None });
            }
        }
    }

    /// Asks it to stop: SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Kills it: SIGKILL. Its own children live on, as after a crash, until the check has ended.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Pauses it: SIGSTOP. It does not notice, and its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on: SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.exit_status().is_none() {
            // The only way to fail is that it ended just now.
            let _ = kill(self.pid, signal);
        }
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Fails if the service has ended although nobody asked it to.
    pub fn expect_running(&self) -> Outcome {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => Err(Failure::observed(format!(
                "the service ended by itself ({status}){}",
                self.last_words()
            ))),
        }
    }

    /// Waits until it has ended and all it printed has been read.
    ///
    /// # Errors
    /// A [`Failure`] after the [deadline](Lab::deadline).
    pub async fn wait(&self) -> Result<ExitStatus, Failure> {
        let mut ended = self.ended.clone();
        let status = self
            .patiently("end", async move {
                ended.wait_for(Option::is_some).await.map(|status| *status)
            })
            .await?
            .ok()
            .flatten()
            .ok_or_else(|| Failure::infrastructure("the lab lost sight of a service"))?;
        // Children of the service may keep the pipes open; what they print is of no interest.
        let rest = async { tokio::join!(self.stdout.end(), self.stderr.end()) };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        Ok(status)
    }

    async fn patiently<T>(
        &self,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let limit = self.lab.deadline();
        tokio::time::timeout(limit, future).await.map_err(|_| {
            Failure::observed(format!(
                "waited {limit:.0?} for the service to {what}, in vain{}",
                self.last_words()
            ))
        })
    }

    /// The end of standard error, for a message.
    fn last_words(&self) -> String {
        let said = self.stderr.all();
        if said.is_empty() {
            return String::new();
        }
        let tail = said[said.len().saturating_sub(5)..].join("\n  ");
        format!("; its standard error ends with:\n  {tail}")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.exit_status().is_some() {
            return;
        }
        let children = tree::descendants(self.pid);
        self.signal(Signal::SIGKILL);
        for child in children {
            let _ = kill(child, Signal::SIGKILL);
        }
    }
}

/// A `todo!` in the service counts like one in the check's own process.
fn notice_todo(line: &str) {
    if panics::stage_of(line).is_some() {
        panics::remember(Panic {
            message: line.to_owned(),
            place: "the service".into(),
        });
    }
}
