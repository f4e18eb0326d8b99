//! A process that holds a broker, seen from outside.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::brokers::{How, Keeper, Served, Unavailable, Wanted, warm};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

const REDIS: Wanted = Wanted {
    redis: true,
    amqp: false,
    browser: false,
};

/// Names the broker to hold, if it is not Redis.
pub const WANTED: &str = "TRIAL_WANTED";

/// What the holding process says.
#[derive(Serialize, Deserialize)]
struct Said {
    keeper: Option<u32>,
    got: Result<Served, Unavailable>,
    text: String,
}

/// Holds a Redis, or what the environment says, until standard input ends.
pub fn hold() -> ExitCode {
    let wanted = std::env::var(WANTED).map_or(REDIS, |name| Wanted::from_names([name]));
    let keeper = runtime().block_on(Keeper::start(wanted));
    let said = match &keeper {
        Ok(keeper) => Said {
            keeper: keeper.pid(),
            got: Ok(keeper.how().remove(0).1),
            text: String::new(),
        },
        Err(unavailable) => Said {
            keeper: None,
            text: unavailable.to_string(),
            got: Err(unavailable.clone()),
        },
    };
    println!(
        "{}",
        serde_json::to_string(&said).expect("it is plain data")
    );
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

pub fn warm_up() -> ExitCode {
    let warm = runtime()
        .block_on(warm::up(REDIS))
        .expect("Redis is installed");
    println!("{}", warm.redis().expect("it was asked for").url);
    ExitCode::SUCCESS
}

pub fn warm_down() -> ExitCode {
    let stopped = warm::down().expect("the directory is ours");
    println!("{}", if stopped { "stopped" } else { "there was none" });
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
}

pub fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// A holding process, with its own temporary directory.
pub struct Held {
    process: Child,
    said: Said,
    place: std::sync::Arc<tempfile::TempDir>,
}

impl Held {
    pub fn start(environment: &[(&str, &str)]) -> Result<Self, Failed> {
        let place = tempfile::Builder::new().prefix("lab-trial-").tempdir()?;
        Held::start_in(std::sync::Arc::new(place), environment)
    }

    /// Another one with the same temporary directory: it sees what this one leaves.
    pub fn beside(&self, environment: &[(&str, &str)]) -> Result<Self, Failed> {
        Held::start_in(self.place.clone(), environment)
    }

    fn start_in(
        place: std::sync::Arc<tempfile::TempDir>,
        environment: &[(&str, &str)],
    ) -> Result<Self, Failed> {
        let mut process = Command::new(this_program())
            .arg("hold")
            .env_remove("REDIS_URL")
            .env_remove("AMQP_URL")
            .env_remove("WORKBOOK_BROKERS")
            // No brokers that happen to be warm on this machine.
            .env("WORKBOOK_STATE", place.path())
            .env("TMPDIR", place.path())
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let said = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
        Ok(Held {
            process,
            said,
            place,
        })
    }

    fn served(&self) -> Result<&Served, Failed> {
        self.said
            .got
            .as_ref()
            .map_err(|_| Failed::from(self.said.text.clone()))
    }

    pub fn url(&self) -> Result<String, Failed> {
        Ok(self.served()?.url.clone())
    }

    pub fn how(&self) -> Result<How, Failed> {
        Ok(self.served()?.how)
    }

    pub fn is_warm(&self) -> Result<bool, Failed> {
        Ok(self.served()?.warm)
    }

    /// The text of the error.
    pub fn refusal(&self) -> Result<String, Failed> {
        match &self.said.got {
            Ok(served) => Err(format!("it was given {served:?}").into()),
            Err(_) => Ok(self.said.text.clone()),
        }
    }

    pub fn keeper(&self) -> Option<u32> {
        self.said.keeper
    }

    pub fn keeper_runs(&self) -> bool {
        self.said
            .keeper
            .is_some_and(|pid| kill(pid_of(pid), None).is_ok())
    }

    /// True if the broker answers.
    pub fn answers(&self) -> bool {
        let ask = || {
            let client = redis::Client::open(self.url().ok()?).ok()?;
            let mut connection = client
                .get_connection_with_timeout(Duration::from_secs(5))
                .ok()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        };
        ask().is_some()
    }

    /// True if somebody listens where the broker is.
    pub fn listens(&self) -> bool {
        let url = self.url().unwrap_or_default();
        let address = url
            .rsplit('@')
            .next()
            .and_then(|rest| rest.split('/').next());
        address.is_some_and(|address| std::net::TcpStream::connect(address).is_ok())
    }

    /// What keepers have left in the temporary directory.
    pub fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.path())
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// The containers of keepers with this temporary directory.
    pub fn containers(&self) -> Vec<String> {
        let format = "{{.ID}} {{.Label \"org.workbook.keeper\"}}";
        let output = Command::new("docker")
            .args([
                "ps",
                "-a",
                "--filter",
                "label=org.workbook.keeper",
                "--format",
                format,
            ])
            .output()
            .expect("docker was found before");
        let place = self.place.path().display().to_string();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| line.contains(&place))
            .map(str::to_owned)
            .collect()
    }

    /// Ends the run in the ordinary way.
    pub fn end(&mut self) -> Result<(), Failed> {
        drop(self.process.stdin.take());
        self.process.wait()?;
        Ok(())
    }

    /// SIGKILL for the run. Its end of the pipe to us goes as well, as with a real run.
    pub fn kill(&mut self) -> Result<(), Failed> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// What Ctrl-C does: SIGINT to the whole group of the run.
    pub fn interrupt_its_group(&mut self) -> Result<(), Failed> {
        killpg(pid_of(self.process.id()), Signal::SIGINT)?;
        self.process.wait()?;
        Ok(())
    }

    /// SIGKILL for the keeper alone.
    pub fn kill_keeper(&self) -> Result<(), Failed> {
        let keeper = self.said.keeper.ok_or("there is no keeper")?;
        kill(pid_of(keeper), Signal::SIGKILL)?;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // In the ordinary way, so that trials that fail leave nothing either.
        let _ = self.end();
    }
}

fn pid_of(number: u32) -> Pid {
    Pid::from_raw(number.try_into().expect("process ids are small"))
}

/// Looks again and again; false if it was in vain for twenty seconds, stretched by the patience.
pub fn eventually(mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20).mul_f64(lab::patience()) {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
