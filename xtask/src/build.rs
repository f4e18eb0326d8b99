//! Building a candidate with cargo, and telling whose fault it is when that fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::candidate::Candidate;
use crate::context::Context;
use crate::environment;
use crate::manifest::Exercise;

/// How a build ended.
#[derive(Debug)]
pub enum Build {
    /// Both binaries are there.
    Done(Binaries),
    /// rustc refused the exercise's crate.
    Broken(CompileError),
    /// Something outside the candidate: no space, no network, no linker. The text says what and what to try.
    Infrastructure(String),
}

/// What a build made, where cargo put it. The next build overwrites both.
#[derive(Debug)]
pub struct Binaries {
    /// The checks.
    pub checks: PathBuf,
    /// The exercise's service.
    pub service: PathBuf,
}

/// The first error of rustc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompileError {
    /// The file as the learner knows it, such as `consumer.rs`; none for an error of the linker.
    pub file: Option<String>,
    /// Its line, from 1.
    pub line: Option<u64>,
    /// One line: what is wrong.
    pub message: String,
    /// What rustc shows, cut to a screen.
    pub rendered: String,
    /// How many errors there are besides this one.
    pub more: usize,
    /// What to make of it, if the candidate's own code compiles and only what is built around it does not.
    pub note: Option<String>,
}

impl CompileError {
    /// One line for a report: what does not compile, and where.
    pub fn summary(&self) -> String {
        match &self.note {
            Some(note) => format!("{note} ({self})"),
            None => format!("does not compile: {self}"),
        }
    }
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// The lines of rustc's error that are shown.
const SCREEN: usize = 40;

/// Builds the candidate's checks and service; `progress` hears what cargo is doing.
///
/// First without the network. Only if a crate turns out to be missing it is fetched, by a cargo that runs nothing of the candidate
/// and may therefore see the whole environment, and the build is tried again. Errors: cargo cannot be run at all.
///
/// Where only our checks or the service do not compile, the candidate has changed a signature, or we have broken them. The reference
/// tells which.
pub async fn build(
    ctx: &Context,
    candidate: &Candidate,
    exercise: &Exercise,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Build> {
    let build = build_fetching(ctx, candidate, exercise, progress).await?;
    let Build::Broken(error) = &build else {
        return Ok(build);
    };
    if error.note.is_none() {
        return Ok(build);
    }
    let reference = match candidate {
        Candidate::Reference => None,
        _ => Some(build_fetching(ctx, &Candidate::Reference, exercise, progress).await?),
    };
    let own = match &reference {
        None => error,
        Some(Build::Broken(own)) if own.note.is_some() => own,
        Some(_) => return Ok(build),
    };
    Ok(Build::Infrastructure(ours_are_broken(exercise, own)))
}

/// What is said when not even the reference compiles with what is built around it.
fn ours_are_broken(exercise: &Exercise, error: &CompileError) -> String {
    format!(
        "the checks or the service of {} do not compile, not even with the reference, so they say nothing about a candidate:\n{}\n\
         `git status` shows whether the workbook was changed.",
        exercise.name(),
        error.rendered
    )
}

async fn build_fetching(
    ctx: &Context,
    candidate: &Candidate,
    exercise: &Exercise,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Build> {
    let first = attempt(ctx, candidate, exercise, progress).await?;
    let Attempt::Missing(_) = first else {
        return Ok(first.into_build());
    };
    progress("downloading crates");
    if let Err(why) = fetch(ctx).await? {
        return Ok(Build::Infrastructure(format!(
            "downloading the crates that {} needs failed:\n{why}\n\
             Try `cargo fetch --locked` in {}; it needs the network once.",
            exercise.name(),
            ctx.root.display()
        )));
    }
    Ok(attempt(ctx, candidate, exercise, progress)
        .await?
        .into_build())
}

enum Attempt {
    Ended(Build),
    /// A crate is not on this machine; what cargo said.
    Missing(String),
}

impl Attempt {
    fn into_build(self) -> Build {
        match self {
            Attempt::Ended(build) => build,
            Attempt::Missing(said) => Build::Infrastructure(format!(
                "a crate is missing although it was fetched:\n{said}\nTry `cargo fetch --locked`."
            )),
        }
    }
}

async fn attempt(
    ctx: &Context,
    candidate: &Candidate,
    exercise: &Exercise,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Attempt> {
    let mut command = cargo(ctx);
    command.args(["build", "--offline", "--message-format=json", "--package"]);
    command.args([
        exercise.name(),
        "--test",
        "stages",
        "--bin",
        exercise.name(),
    ]);
    // A learner may add a crate to the exercise in the working copy; everything else is built with the workbook's lockfile.
    if !matches!(candidate, Candidate::WorkingCopy) {
        command.arg("--locked");
    }
    if let Some(feature) = candidate.feature() {
        command.args(["--features", feature]);
    }
    environment::scrub(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that Ctrl-C reaches the runner alone and the runner decides what ends when.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .context("starting cargo to build the candidate")?;
    let group = GroupGuard::of(&child);
    let stdout = child.stdout.take().context("reading cargo's messages")?;
    let stderr = child.stderr.take().context("reading cargo's messages")?;
    let (messages, said) = tokio::join!(read_messages(stdout), read_said(stderr, progress));
    let status = child.wait().await.context("waiting for cargo")?;
    group.ended();
    Ok(judge(exercise, status.success(), messages?, said?))
}

/// What cargo printed as JSON, as far as it matters here.
#[derive(Debug, Default)]
struct Messages {
    errors: Vec<Value>,
    checks: Option<PathBuf>,
    service: Option<PathBuf>,
}

impl Messages {
    fn take(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return;
        };
        match message["reason"].as_str() {
            Some("compiler-message") if is_error(&message["message"]) => self.errors.push(message),
            Some("compiler-artifact") => {
                let Some(path) = message["executable"].as_str().map(PathBuf::from) else {
                    return;
                };
                match message["target"]["kind"][0].as_str() {
                    Some("test") => self.checks = Some(path),
                    Some("bin") => self.service = Some(path),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn is_error(message: &Value) -> bool {
    let level = message["level"].as_str().unwrap_or_default();
    let text = message["message"].as_str().unwrap_or_default();
    // The last message of a failed crate only counts the others.
    level.starts_with("error") && !text.starts_with("aborting due to")
}

async fn read_messages(stdout: tokio::process::ChildStdout) -> anyhow::Result<Messages> {
    let mut messages = Messages::default();
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines
        .next_line()
        .await
        .context("reading cargo's messages")?
    {
        messages.take(&line);
    }
    Ok(messages)
}

/// Passes on what cargo is doing; keeps the rest, of which the end matters.
async fn read_said(
    stderr: tokio::process::ChildStderr,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<String> {
    let mut kept: std::collections::VecDeque<String> = Default::default();
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await.context("reading what cargo says")? {
        match line.trim_start().strip_prefix("Compiling ") {
            Some(what) => progress(&format!(
                "compiling {}",
                what.split(" (").next().unwrap_or(what)
            )),
            None if line
                .trim_start()
                .starts_with("Blocking waiting for file lock") =>
            {
                progress("waiting for another cargo");
            }
            None => {
                kept.push_back(line);
                if kept.len() > SCREEN {
                    kept.pop_front();
                }
            }
        }
    }
    Ok(Vec::from(kept).join("\n"))
}

fn judge(exercise: &Exercise, succeeded: bool, messages: Messages, said: String) -> Attempt {
    if succeeded {
        return Attempt::Ended(match (messages.checks, messages.service) {
            (Some(checks), Some(service)) => Build::Done(Binaries { checks, service }),
            _ => Build::Infrastructure(format!(
                "cargo built {} but named no binary for its checks or its service.\n\
                 Does its Cargo.toml still have the test `stages` and a src/main.rs?",
                exercise.name()
            )),
        });
    }
    if is_missing_crate(&said) {
        return Attempt::Missing(said);
    }
    let own = |message: &&Value| {
        message["target"]["name"]
            .as_str()
            .is_some_and(|target| target == "stages" || target.replace('_', "-") == exercise.name())
    };
    let outside = messages
        .errors
        .iter()
        .filter_map(|error| error["message"]["rendered"].as_str())
        .chain([said.as_str()])
        .find_map(of_the_machine);
    let errors: Vec<&Value> = messages.errors.iter().filter(own).collect();
    Attempt::Ended(match (outside, errors.first()) {
        (Some(advice), _) => Build::Infrastructure(format!(
            "building {} failed because of this machine:\n{}\n{advice}",
            exercise.name(),
            last_lines(&said, 8)
        )),
        (None, Some(first)) => Build::Broken(CompileError {
            note: around_the_modules(exercise, &errors),
            ..compile_error(first, errors.len() - 1)
        }),
        (None, None) => {
            let other = messages
                .errors
                .first()
                .and_then(|error| error["message"]["rendered"].as_str())
                .unwrap_or_default();
            Build::Infrastructure(format!(
                "building what {} stands on failed:\n{}{}\n\
                 Nothing of a candidate was compiled yet. `git status` shows whether the workbook itself was changed; \
                 `cargo xtask doctor` shows what this machine lacks.",
                exercise.name(),
                first_lines(other, SCREEN),
                last_lines(&said, 12)
            ))
        }
    })
}

/// What to tell if the library, which has the candidate's modules, compiles, and what is built on it does not.
fn around_the_modules(exercise: &Exercise, errors: &[&Value]) -> Option<String> {
    let of = |kind: &str| {
        errors
            .iter()
            .filter(|error| error["target"]["kind"][0] == kind)
            .count()
    };
    let (checks, service) = (of("test"), of("bin"));
    let what = match (checks, service) {
        _ if checks + service < errors.len() => return None,
        (0, _) => "the service does",
        (_, 0) => "the checks do",
        _ => "the checks and the service do",
    };
    Some(format!(
        "your code compiles, but {what} not compile against it: a signature was changed; compare with `cargo xtask diff {}`",
        exercise.number
    ))
}

fn is_missing_crate(said: &str) -> bool {
    [
        "--offline was specified",
        "you're using offline mode",
        "you may wish to retry without `--offline`",
        "attempting to make an HTTP request",
        "without the offline flag",
    ]
    .iter()
    .any(|sign| said.contains(sign))
}

/// What to try, if the text shows that the machine and not the code is at fault.
fn of_the_machine(text: &str) -> Option<&'static str> {
    let signs = [
        (
            "No space left on device",
            "Free some space on the disk (`cargo clean` removes all builds) and run again.",
        ),
        (
            "Disk quota exceeded",
            "Free some of your quota and run again.",
        ),
        (
            "Read-only file system",
            "The workbook's folder cannot be written. Copy it to one that can.",
        ),
        (
            "linker `",
            "Install a C compiler and linker (`build-essential`, `gcc` or the Xcode command line tools).",
        ),
        (
            "Cannot allocate memory",
            "The machine ran out of memory. Close something, or run again with CARGO_BUILD_JOBS=1.",
        ),
        (
            "(signal: 9, SIGKILL",
            "The system ended the compiler, most often for want of memory. Run again with CARGO_BUILD_JOBS=1.",
        ),
        (
            "Permission denied (os error 13)",
            "A file below target/ belongs to another user. Make it yours, or remove target/.",
        ),
    ];
    let linker_missing = |sign: &str| sign != "linker `" || text.contains("` not found");
    signs
        .into_iter()
        .find(|(sign, _)| text.contains(sign) && linker_missing(sign))
        .map(|(_, advice)| advice)
}

fn compile_error(message: &Value, more: usize) -> CompileError {
    let message = &message["message"];
    let span = message["spans"]
        .as_array()
        .and_then(|spans| spans.iter().find(|span| span["is_primary"] == true));
    let rendered = message["rendered"].as_str().unwrap_or_default();
    CompileError {
        file: span
            .and_then(|span| span["file_name"].as_str())
            .map(short_path),
        line: span.and_then(|span| span["line_start"].as_u64()),
        message: headline(message),
        rendered: first_lines(&shorten_paths(rendered), SCREEN),
        more,
        note: None,
    }
}

/// `error[E0308]: mismatched types`
fn headline(message: &Value) -> String {
    let text = message["message"]
        .as_str()
        .unwrap_or("rustc gave no reason");
    let text = text.lines().next().unwrap_or_default();
    match message["code"]["code"].as_str() {
        Some(code) => format!("error[{code}]: {text}"),
        None => format!("error: {text}"),
    }
}

/// `exercises/01-x/src/../../../.workbook/candidate/01-x/worker.rs` is `worker.rs` to its author, and nobody wants to read a path
/// that goes up and down again.
fn short_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            "." => {}
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    match path
        .split_once(".workbook/candidate/")
        .map(|(_, rest)| rest)
    {
        Some(rest) => rest
            .split_once('/')
            .map_or(rest, |(_, file)| file)
            .to_string(),
        None => path,
    }
}

fn shorten_paths(rendered: &str) -> String {
    rendered
        .lines()
        .map(|line| {
            // `--> file` begins an excerpt, `::: file` goes on in another file.
            let arrow = ["--> ", "::: "].into_iter().find(|arrow| {
                let place = line.trim_start();
                place.starts_with(arrow)
            });
            match arrow.and_then(|arrow| Some((arrow, line.split_once(arrow)?))) {
                Some((arrow, (indent, path))) => format!("{indent}{arrow}{}", short_path(path)),
                None => line.to_string(),
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn first_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.len() <= count {
        return lines.join("\n");
    }
    format!(
        "{}\n… {} more lines",
        lines[..count].join("\n"),
        lines.len() - count
    )
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Fetches all crates of the lockfile. The inner error is what cargo said.
async fn fetch(ctx: &Context) -> anyhow::Result<Result<(), String>> {
    let mut command = cargo(ctx);
    command.args(["fetch", "--locked"]).stdin(Stdio::null());
    environment::forget_this_runner(&mut command);
    command.process_group(0).kill_on_drop(true);
    let output = command
        .output()
        .await
        .context("starting cargo to download crates")?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(if output.status.success() {
        Ok(())
    } else {
        Err(last_lines(&said, 12))
    })
}

fn cargo(ctx: &Context) -> tokio::process::Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = tokio::process::Command::new(program);
    command.current_dir(&ctx.root);
    command
}

/// Ends cargo and the compilers it started when the build is abandoned.
struct GroupGuard(Option<nix::unistd::Pid>);

impl GroupGuard {
    fn of(child: &tokio::process::Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        GroupGuard(pid.map(nix::unistd::Pid::from_raw))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // SIGINT as a terminal would send it: cargo and rustc leave no half-written file behind.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGINT);
        }
    }
}

/// Copies both binaries into `folder`, so that the next build may overwrite cargo's.
pub fn take(binaries: &Binaries, folder: &Path) -> anyhow::Result<Binaries> {
    let copy = |from: &Path, name: &str| {
        let to = folder.join(name);
        // A copy and not a link: some linkers write into the existing file, which would change a link under the running checks.
        std::fs::copy(from, &to)
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        anyhow::Ok(to)
    };
    Ok(Binaries {
        checks: copy(&binaries.checks, "checks")?,
        service: copy(&binaries.service, "service")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;

    fn error(target: &str, file: &str, rendered: &str) -> String {
        let kind = match target {
            "stages" => "test",
            "stream-queue" => "bin",
            _ => "lib",
        };
        serde_json::json!({
            "reason": "compiler-message",
            "target": {"name": target, "kind": [kind]},
            "message": {
                "level": "error",
                "message": "mismatched types",
                "rendered": rendered,
                "spans": [
                    {"is_primary": false, "file_name": "other.rs", "line_start": 1},
                    {"is_primary": true, "file_name": file, "line_start": 12},
                ],
            },
        })
        .to_string()
    }

    fn judged(lines: &[String], said: &str) -> Attempt {
        let mut messages = Messages::default();
        lines.iter().for_each(|line| messages.take(line));
        judge(&sample(), false, messages, said.to_string())
    }

    #[test]
    fn an_error_in_a_learners_module_is_broken_and_names_the_file_as_the_learner_knows_it() {
        let file = "exercises/01-stream-queue/src/../../../.workbook/candidate/01-stream-queue/consumer.rs";
        let rendered = format!("error[E0308]: mismatched types\n  --> {file}:12:5\n");
        let lines = [
            error("stream_queue", file, &rendered),
            error("stages", "x.rs", ""),
        ];
        let Attempt::Ended(Build::Broken(error)) = judged(&lines, "error: could not compile")
        else {
            panic!("not broken");
        };
        assert_eq!(error.file.as_deref(), Some("consumer.rs"));
        assert_eq!((error.line, error.more), (Some(12), 1));
        assert!(
            error.rendered.contains("--> consumer.rs:12:5"),
            "{}",
            error.rendered
        );
    }

    #[test]
    fn a_changed_signature_is_told_from_code_that_does_not_compile() {
        let (checks, service) = ("stages", "stream-queue");
        for (targets, told) in [
            (
                &[checks][..],
                Some("but the checks do not compile against it"),
            ),
            (
                &[service],
                Some("but the service does not compile against it"),
            ),
            (
                &[service, checks, checks],
                Some("but the checks and the service do not compile against it"),
            ),
            (&["stream_queue"], None),
            (&["stream_queue", checks], None),
        ] {
            let lines: Vec<_> = targets
                .iter()
                .map(|target| error(target, "tests/stages/queue.rs", "error: x"))
                .collect();
            let Attempt::Ended(Build::Broken(error)) = judged(&lines, "") else {
                panic!("not broken");
            };
            match (told, &error.note) {
                (None, None) => assert!(error.summary().starts_with("does not compile: ")),
                (Some(told), Some(note)) => {
                    assert!(note.contains(told), "{note}");
                    assert!(note.contains("`cargo xtask diff 1`"), "{note}");
                    assert!(
                        error.summary().contains("queue.rs:12"),
                        "{}",
                        error.summary()
                    );
                }
                other => panic!("{targets:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_full_disk_or_a_missing_linker_is_never_the_candidates_fault() {
        for text in [
            "error: failed to write: No space left on device (os error 28)",
            "error: linker `cc` not found",
        ] {
            let ended = judged(&[error("stream_queue", "src/worker.rs", text)], "");
            assert!(
                matches!(ended, Attempt::Ended(Build::Infrastructure(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_in_a_crate_below_is_infrastructure() {
        let ended = judged(&[error("lab", "tests/lab/src/lib.rs", "error: x")], "");
        assert!(matches!(ended, Attempt::Ended(Build::Infrastructure(_))));
    }

    #[test]
    fn a_missing_crate_is_fetched_before_anybody_is_blamed() {
        let said = "error: failed to download `rand v0.10.0`\n\nCaused by:\n  attempting to make an HTTP request, but --offline was specified";
        assert!(matches!(judged(&[], said), Attempt::Missing(_)));
    }

    #[test]
    fn paths_are_shortened_and_long_errors_cut() {
        assert_eq!(short_path("a/src/../../b/./c.rs"), "b/c.rs");
        assert_eq!(short_path("../c.rs"), "../c.rs");
        assert_eq!(first_lines("1\n2\n3", 2), "1\n2\n… 1 more lines");
        assert_eq!(last_lines("1\n2\n3", 2), "2\n3");
    }
}
