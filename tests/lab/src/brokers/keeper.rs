//! The process that holds a run's brokers and removes them, however the run ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::force::Force;
use super::ladder::Broker;
use super::{Attempt, Endpoints, Served, Unavailable, Wanted, warm};

/// The hidden argument that makes a program a keeper.
pub(super) const KEEP: &str = "--keep-brokers";
/// The argument after it, for a keeper that waits for SIGTERM instead of the end of its input.
pub(super) const DETACHED: &str = "detached";
const ATTACHED: &str = "attached";

/// How long the keeper may take to clean up before its end is no longer waited for.
const CLEANUP: Duration = Duration::from_secs(20);

/// Holds a run's brokers. Dropping it removes those that it started.
#[derive(Debug)]
pub struct Keeper {
    redis: Option<Served>,
    amqp: Option<Served>,
    browser: Option<String>,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// The keeper cleans up when this pipe ends: also when this process is killed.
    stdin: Option<ChildStdin>,
}

/// What a keeper says, once, on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) result: Result<Brokers, Unavailable>,
}

/// The brokers that a keeper started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Brokers {
    pub(super) redis: Option<Served>,
    pub(super) amqp: Option<Served>,
    /// The address of the desk for browsers.
    #[serde(default)]
    pub(super) browser: Option<String>,
    /// The keeper's directory, by whose lock one sees whether it lives.
    pub(super) home: std::path::PathBuf,
}

impl Keeper {
    /// Supplies the brokers `wanted`, by the ladder of [the module](super).
    ///
    /// The program must call [`keep_if_asked`](super::keep_if_asked) first thing in its `main`: what must be started
    /// is started by this same program, executed once more.
    ///
    /// # Errors
    /// [`Unavailable`] when a broker cannot be had, with all that was tried.
    pub async fn start(wanted: Wanted) -> Result<Keeper, Unavailable> {
        let force = force_for(wanted)?;
        let mut keeper = Keeper {
            redis: None,
            amqp: None,
            browser: None,
            process: None,
        };
        let mut missing = wanted;
        if wanted.redis {
            keeper.redis = there_already(Broker::Redis, force).await?;
            missing.redis = keeper.redis.is_none();
        }
        if wanted.amqp {
            keeper.amqp = there_already(Broker::Amqp, force).await?;
            missing.amqp = keeper.amqp.is_none();
        }
        if !missing.is_empty() {
            let (child, brokers) = launch(missing, ATTACHED).await?;
            keeper.process = Some(child);
            keeper.redis = keeper.redis.or(brokers.redis);
            keeper.amqp = keeper.amqp.or(brokers.amqp);
            keeper.browser = brokers.browser;
        }
        Ok(keeper)
    }

    /// Where the brokers are.
    pub fn endpoints(&self) -> Endpoints {
        let url = |served: &Option<Served>| served.as_ref().map(|served| served.url.clone());
        Endpoints {
            redis: url(&self.redis),
            amqp: url(&self.amqp),
            browser: self.browser.clone(),
        }
    }

    /// Each broker by name, with where it came from.
    pub fn how(&self) -> Vec<(&'static str, Served)> {
        let redis = self
            .redis
            .iter()
            .map(|served| (Broker::Redis.name(), served.clone()));
        redis
            .chain(
                self.amqp
                    .iter()
                    .map(|served| (Broker::Amqp.name(), served.clone())),
            )
            .collect()
    }

    /// The process id of the keeper, if anything had to be started.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let start = Instant::now();
        while start.elapsed() < CLEANUP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A warm broker, or the one that was given.
async fn there_already(broker: Broker, force: Force) -> Result<Option<Served>, Unavailable> {
    if let Some(served) = warm::answering(broker)
        .await
        .filter(|served| force.accepts(served.how))
    {
        return Ok(Some(served));
    }
    if force != Force::Nothing {
        return Ok(None);
    }
    broker.given().await.transpose()
}

pub(super) fn force_for(wanted: Wanted) -> Result<Force, Unavailable> {
    let broker = if wanted.redis {
        Broker::Redis
    } else {
        Broker::Amqp
    };
    Force::from_env().map_err(|attempt| Unavailable {
        broker: broker.name().into(),
        tried: vec![attempt],
    })
}

/// Starts a keeper that outlives this process, until it gets SIGTERM.
pub(super) async fn detach(wanted: Wanted) -> Result<(u32, Brokers), Unavailable> {
    force_for(wanted)?;
    let (mut process, brokers) = launch(wanted, DETACHED).await?;
    // Nothing depends on this end of the pipe; the drop must not wait for the keeper's end.
    process.stdin = None;
    let pid = process.child.id();
    std::mem::forget(process);
    Ok((pid, brokers))
}

async fn launch(wanted: Wanted, mode: &str) -> Result<(Process, Brokers), Unavailable> {
    let broker = if wanted.redis {
        Broker::Redis
    } else {
        Broker::Amqp
    };
    let failed = |why: String| Unavailable {
        broker: broker.name().into(),
        tried: vec![Attempt {
            way: "the keeper, a process of the lab".into(),
            why,
            mend: None,
        }],
    };
    let program = crate::program().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args([KEEP, mode, &names(wanted)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Ctrl-C on the terminal goes to the foreground group. The keeper is to live on for
        // as long as it takes to clean up.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let process = Process { child, stdin };
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let read = stdout
            .map(|stdout| BufReader::new(stdout).read_line(&mut line))
            .transpose();
        read.map(|_| line)
    });
    let line = line.await.map_err(|error| failed(error.to_string()))?;
    let line = line.map_err(|error| failed(error.to_string()))?;
    let report: Report = serde_json::from_str(&line).map_err(|_| {
        failed(
            "it ended before it had said anything. Does `main` begin with `keep_if_asked`?".into(),
        )
    })?;
    Ok((process, report.result?))
}

fn names(wanted: Wanted) -> String {
    let names = [
        (wanted.redis, "redis"),
        (wanted.amqp, "amqp"),
        (wanted.browser, "browser"),
    ];
    let names: Vec<&str> = names
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, name)| *name)
        .collect();
    names.join(",")
}
