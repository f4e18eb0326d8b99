//! Helpers for the end-to-end tests of the runner in `tests/runner/`: they drive `cargo xtask` as a
//! person would, on candidates that they write into a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is there")
}

/// One test at a time: each grades a whole exercise, and some count what is left on the machine.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runner's binary, built once.
pub fn runner() -> &'static Path {
    static RUNNER: OnceLock<PathBuf> = OnceLock::new();
    RUNNER.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "xtask", "--message-format=json"])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "the runner does not build");
        String::from_utf8_lossy(&built.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "xtask")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo names the runner's binary")
    })
}

/// `cargo xtask ARGS…` in the workspace, without a terminal.
pub fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(runner());
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .env_remove("CI")
        .env("NO_COLOR", "1");
    command
}

/// What a run of `grade --format json` said.
pub struct Graded {
    pub code: Option<i32>,
    pub report: Value,
    pub stderr: String,
}

impl Graded {
    pub fn of(output: Output) -> Graded {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "standard output is not one JSON object ({error}): {}\n{stderr}",
                String::from_utf8_lossy(&output.stdout)
            )
        });
        Graded {
            code: output.status.code(),
            report,
            stderr,
        }
    }

    /// Every check as (name, verdict, message, code).
    pub fn checks(&self) -> Vec<(String, String, String, Option<String>)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut checks = Vec::new();
        for exercise in self.report["exercises"].as_array().into_iter().flatten() {
            for stage in exercise["stages"].as_array().into_iter().flatten() {
                for check in stage["checks"].as_array().into_iter().flatten() {
                    checks.push((
                        text(&check["name"]),
                        text(&check["verdict"]),
                        text(&check["message"]),
                        check["code"].as_str().map(str::to_owned),
                    ));
                }
            }
        }
        checks
    }

    /// How often each verdict was given.
    pub fn verdicts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, verdict, _, _) in self.checks() {
            *counts.entry(verdict).or_default() += 1;
        }
        counts
    }
}

/// Grades and reads the report.
pub fn grade(arguments: &[&str]) -> Graded {
    let mut all = vec!["grade"];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--format", "json"]);
    Graded::of(xtask(&all).output().expect("the runner starts"))
}

/// A candidate in a folder of its own: the reference's modules, some of them changed.
pub struct Candidate {
    folder: tempfile::TempDir,
}

impl Candidate {
    /// The reference of exercise 01 under another name.
    pub fn from_reference() -> Candidate {
        Candidate::from(&root().join("solutions/01-stream-queue"))
    }

    /// The generated stubs of exercise 01, whatever the working copy holds.
    pub fn from_stubs() -> Candidate {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let candidate = Candidate { folder };
        let written = xtask(&["stubs", "1", "--into", candidate.path()])
            .output()
            .expect("the runner starts");
        assert!(
            written.status.success(),
            "{}",
            String::from_utf8_lossy(&written.stderr)
        );
        candidate
    }

    fn from(modules: &Path) -> Candidate {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(modules, folder.path());
        Candidate { folder }
    }

    pub fn path(&self) -> &str {
        self.folder
            .path()
            .to_str()
            .expect("a temporary path is UTF-8")
    }

    /// Replaces `from` by `to` in a module; `from` must be there.
    pub fn change(self, module: &str, from: &str, to: &str) -> Candidate {
        let path = self.folder.path().join(module);
        let text = std::fs::read_to_string(&path).expect("the module is there");
        assert!(text.contains(from), "{module} does not contain {from:?}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
        self
    }
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for file in std::fs::read_dir(from).expect("a readable folder") {
        let file = file.expect("a readable folder");
        let target = to.join(file.file_name());
        if file.file_type().expect("a known type").is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).expect("copied");
        }
    }
}
