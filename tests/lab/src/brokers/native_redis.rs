//! Redis as a local process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{health, port};

/// How often a start is tried: the free port may be taken by somebody else in the meantime.
const TRIES: usize = 5;

/// A `redis-server` of ours. Dropping it kills it.
pub(crate) struct NativeRedis {
    settings: Settings,
    port: u16,
    child: Child,
}

/// How it is to run.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    /// For its files; made by the caller, who also removes it.
    pub(crate) directory: PathBuf,
    /// True if what it holds is to survive SIGKILL.
    pub(crate) durable: bool,
    /// True if it is to die with the thread that starts it (Linux). Only for a thread that lives
    /// as long as the process.
    pub(crate) die_with_parent: bool,
    /// How long a start may take.
    pub(crate) limit: Duration,
}

impl NativeRedis {
    /// Starts one on a free port and waits until it answers.
    pub(crate) async fn start(settings: Settings) -> Result<Self, String> {
        let mut why = String::new();
        for _ in 0..TRIES {
            let port = port::free().map_err(|error| format!("there is no free port: {error}"))?;
            let child = spawn(&settings, port)?;
            let mut redis = NativeRedis {
                settings: settings.clone(),
                port,
                child,
            };
            match redis.ready().await {
                Ok(()) => return Ok(redis),
                Err(error) => why = error,
            }
            if !why.contains("in use") {
                break;
            }
        }
        Err(why)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`kill`](Self::kill), on the same port and with the same files.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.child = spawn(&self.settings, self.port)?;
        self.ready().await
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal)
            .map_err(|error| format!("cannot send it {signal}: {error}"))
    }

    /// Asks until it answers that it is this very process: on the port there could be another one.
    async fn ready(&mut self) -> Result<(), String> {
        let start = tokio::time::Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "redis-server ended at once ({status}): {}",
                    self.last_words()
                ));
            }
            match health::redis_answers(&self.url(), self.settings.limit).await {
                Ok(identity) if identity.process_id == self.child.id() => return Ok(()),
                Ok(_) if start.elapsed() > self.settings.limit => {
                    return Err(format!("port {} is in use by another Redis", self.port));
                }
                Err(why) if start.elapsed() > self.settings.limit => {
                    return Err(format!(
                        "redis-server was started and does not answer: {why}"
                    ));
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(log_file(&self.settings.directory)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

impl Drop for NativeRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("redis.log")
}

fn spawn(settings: &Settings, port: u16) -> Result<Child, String> {
    let log = File::create(log_file(&settings.directory))
        .and_then(|log| Ok((log.try_clone()?, log)))
        .map_err(|error| {
            format!(
                "cannot write into {}: {error}",
                settings.directory.display()
            )
        })?;
    let mut command = match which::which("setpriv") {
        Ok(setpriv) if settings.die_with_parent && cfg!(target_os = "linux") => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(&settings.program);
            command
        }
        _ => Command::new(&settings.program),
    };
    command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
    command.args(["--appendonly", if settings.durable { "yes" } else { "no" }]);
    if settings.durable {
        command.args(["--appendfsync", "always"]);
    }
    command
        .arg("--dir")
        .arg(&settings.directory)
        .arg("--port")
        .arg(port.to_string());
    command
        .current_dir(&settings.directory)
        .stdin(Stdio::null())
        .stdout(log.0)
        .stderr(log.1)
        .spawn()
        .map_err(|error| format!("cannot execute {}: {error}", settings.program.display()))
}
