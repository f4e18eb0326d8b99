//! A run with one check, as a process with a temporary directory of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::brokers::{Keeper, Wanted};
use lab::judge::{Job, Report, run_check};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Makes this program behave as the test crate of an exercise.
pub const AS_SUITE: &str = "SPECIMEN_SUITE";

/// What a run says at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    pub report: Report,
    /// Processes of browsers that outlived the check, while the run itself went on.
    pub outlived: Vec<String>,
}

/// Judges one check with a keeper of its own, and prints what came of it.
pub fn judge_one(check: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let wanted = Wanted {
        browser: true,
        ..Wanted::default()
    };
    let keeper = runtime
        .block_on(Keeper::start(wanted))
        .expect("a keeper of nothing but browsers always starts");
    println!("{}", keeper.pid().expect("it is a process"));
    let _ = std::io::stdout().flush();
    let job = Job {
        binary: this_program(),
        check: check.to_owned(),
        service: None,
        brokers: keeper.endpoints(),
        seed: 7,
        patience: lab::patience(),
        limit: Duration::from_secs(120).mul_f64(lab::patience()),
        memory: 2 << 30,
    };
    let report = runtime.block_on(run_check(&job));
    let place = std::env::temp_dir();
    let outlived = || browsers_of(&place);
    eventually(|| outlived().is_empty());
    let said = Said {
        report,
        outlived: outlived(),
    };
    println!("{}", serde_json::to_string(&said).expect("plain data"));
    ExitCode::SUCCESS
}

pub fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// A run, seen from outside.
pub struct Run {
    process: Child,
    place: std::sync::Arc<tempfile::TempDir>,
}

impl Run {
    pub fn of(check: &str, environment: &[(&str, &str)]) -> Result<Self, Failed> {
        let place = tempfile::Builder::new().prefix("lab-trial-").tempdir()?;
        Run::start_in(std::sync::Arc::new(place), check, environment)
    }

    /// Another one with the same temporary directory: it sees what this one leaves.
    pub fn beside(&self, check: &str) -> Result<Self, Failed> {
        Run::start_in(self.place.clone(), check, &[])
    }

    fn start_in(
        place: std::sync::Arc<tempfile::TempDir>,
        check: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, Failed> {
        use std::os::unix::process::CommandExt;
        let process = Command::new(this_program())
            .args(["judge", check])
            .env_remove("WORKBOOK_BROKERS")
            .env_remove("WORKBOOK_PICTURES")
            .env("TMPDIR", place.path())
            .env("WORKBOOK_STATE", place.path())
            .env("WORKBOOK_SPECIMEN_NOTE", place.path().join("note"))
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Run { process, place })
    }

    /// Waits for the end. Nothing may be left then.
    pub fn end(mut self) -> Result<Said, Failed> {
        let mut text = String::new();
        if let Some(stdout) = &mut self.process.stdout {
            std::io::Read::read_to_string(stdout, &mut text)?;
        }
        self.process.wait()?;
        let line = text.lines().nth(1).unwrap_or_default();
        let said: Said = serde_json::from_str(line).map_err(|error| format!("{error}: {text}"))?;
        // The run waits for its keeper, so this is so at once, but for processes that are dying.
        self.leaves_nothing()?;
        Ok(said)
    }

    /// Waits until the check says that its browser is up.
    pub fn until_it_is_up(&mut self) -> Result<(), Failed> {
        let note = self.place.path().join("note");
        let mut ended = false;
        eventually(|| {
            ended = matches!(self.process.try_wait(), Ok(Some(_)));
            ended || note.exists()
        });
        if ended {
            let mut said = String::new();
            if let Some(stdout) = &mut self.process.stdout {
                std::io::Read::read_to_string(stdout, &mut said)?;
            }
            return Err(format!("the run ended: {said}").into());
        }
        if !note.exists() {
            let logs = Command::new("sh")
                .args(["-c", "tail -n 20 \"$0\"/workbook-brokers-*/browser-*/*.log"])
                .arg(self.place.path())
                .output()?;
            let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
            return Err(format!("no browser came up: {logs}").into());
        }
        let processes = browsers_of(self.place.path());
        if processes.is_empty() {
            return Err("the trial cannot see the processes of the browser".into());
        }
        Ok(())
    }

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
    pub fn kill_keeper(&mut self) -> Result<(), Failed> {
        use std::io::BufRead;
        let mut line = String::new();
        let stdout = self.process.stdout.take().ok_or("it was piped")?;
        std::io::BufReader::new(stdout).read_line(&mut line)?;
        kill(pid_of(line.trim().parse()?), Signal::SIGKILL)?;
        Ok(())
    }

    pub fn leaves_nothing(&self) -> Result<(), Failed> {
        let place = self.place.path();
        if !eventually(|| browsers_of(place).is_empty()) {
            return Err(format!("still there: {:#?}", browsers_of(place)).into());
        }
        let files = || {
            let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names
                .filter(|name| name != "note" && name != "pictures")
                .collect::<Vec<_>>()
        };
        if !eventually(|| files().is_empty()) {
            return Err(format!("left behind: {:?}", files()).into());
        }
        Ok(())
    }

    pub fn browsers(&self) -> Vec<String> {
        browsers_of(self.place.path())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn pid_of(number: u32) -> Pid {
    Pid::from_raw(number.try_into().expect("process ids are small"))
}

/// Drivers and browsers whose command line or environment (where the system tells) speaks of the
/// directories that a keeper with this temporary directory gives them.
fn browsers_of(place: &Path) -> Vec<String> {
    let output = Command::new("/bin/ps")
        .args(["-A", "-o", "pid=,command="])
        .output()
        .expect("ps is everywhere");
    let (place, sign) = (place.display().to_string(), "/browser-");
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let pid = line.split_whitespace().next().unwrap_or_default();
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        if [line, &environment]
            .iter()
            .any(|text| text.contains(&place) && text.contains(sign))
        {
            found.push(line.trim().chars().take(150).collect());
        }
    }
    found
}

/// Looks again and again; false if it was in vain for forty seconds, stretched by the patience.
pub fn eventually(mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(40).mul_f64(lab::patience()) {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
