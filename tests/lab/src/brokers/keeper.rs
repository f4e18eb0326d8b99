//! The process that holds a run's brokers and removes them, however the run ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::ladder::{Broker, Force, Running};
use super::sweep::{self, Home};
use super::{Attempt, Endpoints, Served, Unavailable, Wanted, warm};

/// The hidden argument that makes a program a keeper.
const KEEP: &str = "--keep-brokers";
/// The argument after it, for a keeper that waits for SIGTERM instead of the end of its input.
const DETACHED: &str = "detached";
const ATTACHED: &str = "attached";

/// How long the keeper may take to clean up before its end is no longer waited for.
const CLEANUP: Duration = Duration::from_secs(20);

/// Holds a run's brokers. Dropping it removes those that it started.
#[derive(Debug)]
pub struct Keeper {
    redis: Option<Served>,
    amqp: Option<Served>,
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
    /// The keeper's directory, by whose lock one sees whether it lives.
    pub(super) home: std::path::PathBuf,
}

impl Keeper {
    /// Supplies the brokers `wanted`, by the ladder of [the module](super).
    ///
    /// The program must call [`keep_if_asked`] first thing in its `main`: what must be started
    /// is started by this same program, executed once more.
    ///
    /// # Errors
    /// [`Unavailable`] when a broker cannot be had, with all that was tried.
    pub async fn start(wanted: Wanted) -> Result<Keeper, Unavailable> {
        let force = force_for(wanted)?;
        let mut keeper = Keeper {
            redis: None,
            amqp: None,
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
        }
        Ok(keeper)
    }

    /// The URLs of the brokers.
    pub fn endpoints(&self) -> Endpoints {
        let url = |served: &Option<Served>| served.as_ref().map(|served| served.url.clone());
        Endpoints {
            redis: url(&self.redis),
            amqp: url(&self.amqp),
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

fn force_for(wanted: Wanted) -> Result<Force, Unavailable> {
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
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
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
    let names = [(wanted.redis, "redis"), (wanted.amqp, "amqp")];
    let names: Vec<&str> = names
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, name)| *name)
        .collect();
    names.join(",")
}

/// Becomes a keeper if the arguments say so. To be called first thing in the `main` of every
/// program that uses [`Keeper::start`], before a runtime or a thread is started. `Some` is the
/// exit code with which `main` must return.
#[must_use = "a keeper has done its work when this returns `Some`"]
pub fn keep_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(KEEP) {
        return None;
    }
    let mode = arguments.next().unwrap_or_default();
    let wanted = Wanted::from_names(arguments.next().unwrap_or_default().split(','));
    // One thread, which starts the brokers and lives as long as the process: a broker that is to
    // die with its parent dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(keep(wanted, mode == DETACHED)),
        Err(_) => return Some(ExitCode::FAILURE),
    }
    Some(ExitCode::SUCCESS)
}

async fn keep(wanted: Wanted, detached: bool) {
    // From now on this ends the waiting below, not the process.
    let mut unwanted = std::pin::pin!(until_unwanted(detached));
    let mut running = Vec::new();
    let result = tokio::select! {
        // First, so that signals are caught before anything is started.
        biased;
        () = &mut unwanted => return stop_all(running).await,
        result = start_all(wanted, &mut running) => result,
    };
    match result {
        Ok((_home, brokers)) => {
            say(&Report {
                result: Ok(brokers),
            });
            unwanted.await;
            stop_all(running).await;
        }
        Err(unavailable) => {
            stop_all(running).await;
            say(&Report {
                result: Err(unavailable),
            });
        }
    }
}

/// Ends when standard input does (unless `detached`), or when this process is asked to stop.
async fn until_unwanted(detached: bool) {
    let input = async {
        if detached {
            return std::future::pending().await;
        }
        let (tell, ended) = tokio::sync::oneshot::channel::<()>();
        // A plain thread: reading standard input cannot be cancelled.
        std::thread::spawn(move || {
            let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
            drop(tell);
        });
        let _ = ended.await;
    };
    // One that cannot be listened for cannot end the waiting either.
    let asked = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = input => {}
        () = asked(SignalKind::terminate()) => {}
        () = asked(SignalKind::interrupt()) => {}
        () = asked(SignalKind::hangup()), if !detached => {}
    }
}

async fn start_all(
    wanted: Wanted,
    running: &mut Vec<Running>,
) -> Result<(Home, Brokers), Unavailable> {
    let force = force_for(wanted)?;
    sweep::sweep().await;
    let home = Home::make().map_err(|error| Unavailable {
        broker: "broker".into(),
        tried: vec![Attempt {
            way: format!("a directory in {}", std::env::temp_dir().display()),
            why: error.to_string(),
            mend: None,
        }],
    })?;
    let mut brokers = Brokers {
        home: home.path().to_owned(),
        ..Brokers::default()
    };
    for (wanted, broker) in [(wanted.redis, Broker::Redis), (wanted.amqp, Broker::Amqp)] {
        if wanted {
            let started = broker.start(force, &home).await?;
            let served = Some(started.served());
            match broker {
                Broker::Redis => brokers.redis = served,
                Broker::Amqp => brokers.amqp = served,
            }
            running.push(started);
        }
    }
    Ok((home, brokers))
}

async fn stop_all(running: Vec<Running>) {
    for broker in running {
        broker.stop().await;
    }
}

fn say(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        // Nobody may be listening any more; then the input has ended, too.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}
