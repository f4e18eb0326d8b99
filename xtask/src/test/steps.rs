//! One step of the test after the other, each with its time and, if it fails, what it said.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use owo_colors::OwoColorize as _;

use crate::context::Context;
use crate::exit::{Exit, Interrupted};

/// The lines of a failed step that are shown; the whole is in its log.
const SHOWN: usize = 80;

/// Runs the steps and remembers how they ended.
pub struct Steps<'a> {
    ctx: &'a Context,
    logs: PathBuf,
    ended: Vec<Ended>,
}

struct Ended {
    name: String,
    passed: bool,
    took: Duration,
}

impl<'a> Steps<'a> {
    /// No step yet.
    ///
    /// # Errors
    /// The folder of the logs cannot be made.
    pub fn new(ctx: &'a Context) -> Result<Self> {
        let logs = ctx.state().join("test");
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        Ok(Steps {
            ctx,
            logs,
            ended: Vec::new(),
        })
    }

    /// Runs a program as a step: it passes if the program ends with 0. A program that cannot be started is a failure too.
    ///
    /// # Errors
    /// [`Interrupted`], and nothing else.
    pub fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = self
            .logs
            .join(format!("{}.log", name.replace([' ', '/'], "-")));
        self.step(name, || run(command, &log))
    }

    /// Runs `work` as a step: it passes if that returns nothing to complain about.
    ///
    /// # Errors
    /// [`Interrupted`], and nothing else: the steps after it are not wanted any more.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Vec<String>>) -> Result<()> {
        println!("----   {name}");
        let began = Instant::now();
        let problems = match work() {
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => vec![format!("{error:#}")],
            Ok(problems) => problems,
        };
        let ended = Ended {
            name: name.to_owned(),
            passed: problems.is_empty(),
            took: began.elapsed(),
        };
        for problem in &problems {
            for line in problem.lines() {
                println!("       {line}");
            }
        }
        println!("{}", self.line(&ended));
        self.ended.push(ended);
        Ok(())
    }

    /// The table of all steps, and the last line: how many passed and failed. True if none failed.
    pub fn finish(&self) -> bool {
        println!();
        for ended in &self.ended {
            println!("{}", self.line(ended));
        }
        let failed = self.ended.iter().filter(|ended| !ended.passed).count();
        println!("\n{} passed, {failed} failed", self.ended.len() - failed);
        failed == 0
    }

    fn line(&self, ended: &Ended) -> String {
        let sign = match (ended.passed, self.ctx.terminal.colour) {
            (true, false) => "ok    ".to_owned(),
            (true, true) => "ok    ".green().to_string(),
            (false, false) => "FAILED".to_owned(),
            (false, true) => "FAILED".red().to_string(),
        };
        format!("{sign} {:6.1} s  {}", ended.took.as_secs_f64(), ended.name)
    }
}

/// Runs a program with its output in `log`. What it said last is the complaint if it fails.
fn run(command: &mut Command, log: &PathBuf) -> Result<Vec<String>> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let copy = file
        .try_clone()
        .with_context(|| format!("writing {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .status()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if status.success() {
        return Ok(Vec::new());
    }
    // Ctrl-C goes to the program as well, and may reach it alone.
    let signal = status
        .signal()
        .map(|signal| signal == Signal::SIGINT as i32);
    if signal == Some(true) || status.code() == Some(i32::from(Exit::Interrupted.number())) {
        return Err(Interrupted.into());
    }
    let said = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Ok(vec![format!(
        "{tail}\n{status}; all of it is in {}",
        log.display()
    )])
}
