//! Nothing is left running or lying about, however a command ends.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workbook::{root, turn};

/// Where the runner puts its temporary files in these tests, and nobody else does.
fn temporary() -> PathBuf {
    let folder = root().join(".workbook/tmp");
    std::fs::create_dir_all(&folder).expect("created");
    folder
}

/// The runner, with temporary files where these tests look for them.
fn xtask(arguments: &[&str]) -> Command {
    let mut command = workbook::xtask(arguments);
    command.env("TMPDIR", temporary());
    command
}

/// Brokers, services, checks, containers and temporary folders on this machine.
fn left_behind() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        let Ok(command) = std::fs::read_to_string(process.path().join("cmdline")) else {
            continue;
        };
        let command = command.replace('\0', " ");
        if [
            "redis-server",
            "rabbitmq",
            "--keep-brokers",
            "--run-check",
            "stream-queue work",
        ]
        .iter()
        .any(|name| command.contains(name))
        {
            all.insert(format!("process {pid}: {command}"));
        }
    }
    if let Ok(listed) = Command::new("docker")
        .args(["ps", "--all", "--quiet"])
        .output()
    {
        all.extend(
            String::from_utf8_lossy(&listed.stdout)
                .lines()
                .map(|id| format!("container {id}")),
        );
    }
    for folder in [temporary(), root().join(".workbook/runs")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            all.insert(format!("folder {}", entry.path().display()));
        }
    }
    all
}

/// Waits until nothing is there that was not there before.
fn assert_clean(before: &BTreeSet<String>, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let new: Vec<String> = left_behind().difference(before).cloned().collect();
        if new.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "after {what} there is still: {new:#?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How this machine can supply a broker. Where an engine answers, it has to.
fn ways() -> Vec<&'static str> {
    let engine = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output();
    if engine.is_ok_and(|output| output.status.success()) {
        vec!["native", "docker"]
    } else {
        println!("no container engine answers: only local processes are tried");
        vec!["native"]
    }
}

/// Starts a run and sends it a signal once checks are under way.
fn interrupted(signal: Signal, ways: &str) -> Option<i32> {
    let mut running = xtask(&["grade", "1", "--solution"])
        .env("WORKBOOK_BROKERS", ways)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the runner starts");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !left_behind()
        .iter()
        .any(|name| name.contains("--run-check"))
    {
        assert!(Instant::now() < deadline, "no check was started");
        assert!(
            running.try_wait().expect("asked").is_none(),
            "the run ended before its first check was seen"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(running.id() as i32), signal).expect("the run is there");
    running.wait().expect("it ends").code()
}

#[test]
fn nothing_is_left_after_a_run() {
    let _turn = turn();
    for ways in ways() {
        let before = left_behind();
        let output = xtask(&["grade", "1.2", "--solution"])
            .env("WORKBOOK_BROKERS", ways)
            .output()
            .expect("runs");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{ways}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_clean(&before, &format!("a run with {ways} brokers"));
    }
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    let _turn = turn();
    for ways in ways() {
        let before = left_behind();
        assert_eq!(interrupted(Signal::SIGINT, ways), Some(130));
        assert_clean(&before, &format!("Ctrl-C with {ways} brokers"));
    }
}

#[test]
fn no_broker_is_left_after_the_runner_was_killed() {
    let _turn = turn();
    let before = left_behind();
    interrupted(Signal::SIGKILL, "native");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let new: Vec<String> = left_behind()
            .difference(&before)
            .filter(|name| name.starts_with("process") || name.starts_with("container"))
            .cloned()
            .collect();
        if new.is_empty() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "after SIGKILL there is still: {new:#?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // What only a living runner could remove is swept by the next run.
    let output = xtask(&["grade", "1.1", "--solution"])
        .env("WORKBOOK_BROKERS", "native")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(0));
    assert_clean(&before, "SIGKILL and one more run");
}

#[test]
fn warm_brokers_stay_until_they_are_taken_down() {
    let _turn = turn();
    let before = left_behind();
    let run = |arguments: &[&str]| {
        xtask(arguments)
            .env("WORKBOOK_BROKERS", "native")
            .output()
            .expect("runs")
    };
    assert_eq!(run(&["brokers", "up"]).status.code(), Some(0));
    let up = left_behind();
    assert!(
        up.difference(&before)
            .any(|name| name.contains("redis-server")),
        "`brokers up` started no Redis: {up:#?}"
    );
    assert_eq!(run(&["grade", "1.1", "--solution"]).status.code(), Some(0));
    let status = run(&["brokers", "status"]);
    assert!(
        String::from_utf8_lossy(&status.stdout).contains("redis://"),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
    assert_eq!(run(&["brokers", "down"]).status.code(), Some(0));
    assert_clean(&before, "`brokers down`");
}
