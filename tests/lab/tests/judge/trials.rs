//! What the judge must say to each specimen.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::judge::{Endpoints, Job, Report, Verdict, run_check};
use libtest_mimic::{Failed, Trial};

use crate::specimens::is_running;

/// Makes this program behave as the test crate of an exercise.
pub const AS_SUITE: &str = "SPECIMEN_SUITE";

type Outcome = Result<(), Failed>;

pub fn all() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, run: fn() -> Outcome| trials.push(Trial::test(name, run));
    add("a_kept_promise_passes", a_kept_promise_passes);
    add(
        "a_broken_promise_fails_with_its_code",
        a_broken_promise_fails_with_its_code,
    );
    add(
        "a_panic_is_told_with_its_place",
        a_panic_is_told_with_its_place,
    );
    add("a_panic_of_a_task_is_not_held_against_the_check", || {
        passes("verdicts::a_task_panics")
    });
    add(
        "a_stub_is_told_as_such_and_at_once",
        a_stub_is_told_as_such_and_at_once,
    );
    add(
        "a_seed_repeats_what_is_random",
        a_seed_repeats_what_is_random,
    );
    add(
        "a_check_that_does_not_exist_is_nobodys_fault",
        a_check_that_does_not_exist_is_nobodys_fault,
    );
    add(
        "without_a_receipt_nothing_passes",
        without_a_receipt_nothing_passes,
    );
    add("an_endless_loop_is_too_slow", an_endless_loop_is_too_slow);
    add(
        "endless_memory_is_told_as_such",
        endless_memory_is_told_as_such,
    );
    add("endless_output_holds_up_nothing", || {
        passes("tricks::prints_for_ever")
    });
    add("nothing_survives_a_check", nothing_survives_a_check);
    add("nothing_survives_the_judge", nothing_survives_the_judge);
    add("its_keys_are_removed", its_keys_are_removed);
    add(
        "a_broker_that_dies_is_nobodys_fault",
        a_broker_that_dies_is_nobodys_fault,
    );
    add("an_own_redis_keeps_its_data_and_its_address", || {
        passes("brokers::own_redis_survives")
    });
    add(
        "an_own_redis_ends_with_its_check",
        an_own_redis_ends_with_its_check,
    );
    add("a_service_is_talked_to", || {
        passes("services::a_service_is_talked_to")
    });
    add("a_service_is_killed", || {
        passes("services::a_service_is_killed")
    });
    add("a_service_is_paused", || {
        passes("services::a_service_is_paused")
    });
    add("a_service_that_ends_says_why", a_service_that_ends_says_why);
    add(
        "a_stub_in_a_service_is_told_as_such",
        a_stub_in_a_service_is_told_as_such,
    );
    add("a_dropped_service_takes_its_children_along", || {
        passes("services::a_dropped_service_takes_its_children_along")
    });
    add("a_service_has_its_own_settings_only", || {
        passes("services::a_service_has_its_own_settings_only")
    });
    add(
        "checks_are_described_with_their_limits",
        checks_are_described_with_their_limits,
    );
    add(
        "a_suite_is_a_test_binary_like_any_other",
        a_suite_is_a_test_binary_like_any_other,
    );
    add(
        "a_suite_without_a_broker_says_so",
        a_suite_without_a_broker_says_so,
    );
    trials
}

/// A job with all that a specimen may need, and nothing it must not have.
fn job(check: &str) -> Job {
    Job {
        binary: this_program(),
        check: check.to_owned(),
        service: Some(this_program()),
        brokers: Endpoints::default(),
        seed: 7,
        patience: lab::patience(),
        limit: Duration::from_secs(60).mul_f64(lab::patience()),
        memory: 1024 * 1024 * 1024,
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

fn judge(job: &Job) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(run_check(job))
}

/// Judges a specimen that leaves a note, with the service's program as a script that sets where.
fn judge_noting(job: &Job) -> (Report, String) {
    let place = tempfile::tempdir().expect("there is a temporary directory");
    let note = place.path().join("note");
    let mut job = job.clone();
    job.binary = noting(place.path(), &note);
    let report = judge(&job);
    let text = std::fs::read_to_string(note).unwrap_or_default();
    (report, text)
}

/// A script that is this program with `WORKBOOK_SPECIMEN_NOTE` set: trials run side by side, so the
/// environment of this process is not theirs to change.
fn noting(place: &Path, note: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = place.join("specimen");
    let text = format!(
        "#!/bin/sh\nWORKBOOK_SPECIMEN_NOTE='{}' exec '{}' \"$@\"\n",
        note.display(),
        this_program().display()
    );
    // Through `sh`: another thread that forks at this moment must not hold the script open for
    // writing, or it cannot be executed.
    let status = Command::new("sh")
        .arg("-c")
        .arg(r#"printf %s "$1" > "$2""#)
        .arg("sh")
        .arg(text)
        .arg(&script)
        .status();
    assert!(status.expect("sh is everywhere").success());
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    script
}

fn expect(condition: bool, report: &Report) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(Failed::from(format!("the judge said: {report:#?}")))
    }
}

fn passes(check: &str) -> Outcome {
    let report = judge(&job(check));
    expect(report.verdict == Verdict::Passed, &report)
}

fn a_kept_promise_passes() -> Outcome {
    let report = judge(&job("verdicts::keeps_its_promise"));
    expect(
        report.verdict == Verdict::Passed && report.message.is_empty(),
        &report,
    )?;
    expect(
        report.promise.as_deref() == Some("two and two are four"),
        &report,
    )
}

fn a_broken_promise_fails_with_its_code() -> Outcome {
    let report = judge(&job("verdicts::breaks_its_promise"));
    expect(
        report.verdict == Verdict::Failed && report.code.as_deref() == Some("SQ42"),
        &report,
    )?;
    expect(
        report.promise.is_some() && report.observed.as_deref() == Some("they are 5"),
        &report,
    )
}

fn a_panic_is_told_with_its_place() -> Outcome {
    let report = judge(&job("verdicts::panics"));
    expect(
        report.verdict == Verdict::Failed && report.message.contains("no entry 7"),
        &report,
    )?;
    expect(
        report.message.contains("specimens.rs:") && !report.message.contains("RUST_BACKTRACE"),
        &report,
    )
}

fn a_stub_is_told_as_such_and_at_once() -> Outcome {
    let report = judge(&job("verdicts::reaches_a_stub"));
    expect(
        report.verdict == Verdict::Failed && report.todo_stage == Some(3),
        &report,
    )?;
    let message = "Stage 3 is not written yet: bound what is in flight: a semaphore";
    expect(report.message == message && report.millis < 8_000, &report)
}

fn a_seed_repeats_what_is_random() -> Outcome {
    let (report, first) = judge_noting(&job("verdicts::tells_its_seed"));
    let (_, second) = judge_noting(&job("verdicts::tells_its_seed"));
    expect(first == second && first.starts_with("7 "), &report)?;
    let (report, other) = judge_noting(&Job {
        seed: 8,
        ..job("verdicts::tells_its_seed")
    });
    expect(
        other.split(' ').next_back() != first.split(' ').next_back(),
        &report,
    )
}

fn a_check_that_does_not_exist_is_nobodys_fault() -> Outcome {
    let report = judge(&job("verdicts::forgotten"));
    expect(report.verdict == Verdict::Infrastructure, &report)?;
    let report = judge(&Job {
        binary: "/no/such/program".into(),
        ..job("verdicts::panics")
    });
    expect(report.verdict == Verdict::Infrastructure, &report)
}

fn without_a_receipt_nothing_passes() -> Outcome {
    for (specimen, words) in [
        ("tricks::ends_early", "exit code 0"),
        ("tricks::forges_a_receipt", "exit code 0"),
        ("tricks::kills_itself", "SIGABRT"),
        ("tricks::recurses", "overflowed"),
    ] {
        let report = judge(&job(specimen));
        expect(
            report.verdict == Verdict::Failed && report.message.contains(words),
            &report,
        )?;
    }
    // A program that knows nothing of checks.
    let report = judge(&Job {
        binary: "/bin/true".into(),
        ..job("verdicts::keeps_its_promise")
    });
    expect(report.verdict == Verdict::Failed, &report)
}

fn an_endless_loop_is_too_slow() -> Outcome {
    let (report, pid) = judge_noting(&Job {
        limit: Duration::from_secs(2),
        ..job("tricks::loops")
    });
    expect(report.verdict == Verdict::TooSlow, &report)?;
    expect(!pid.is_empty() && !is_running(&pid), &report)
}

fn endless_memory_is_told_as_such() -> Outcome {
    if !cfg!(target_os = "linux") {
        // macOS does not enforce a limit of the address space.
        return Ok(());
    }
    let report = judge(&job("tricks::eats_memory"));
    expect(
        report.verdict == Verdict::Failed && report.message.contains("memory"),
        &report,
    )
}

fn nothing_survives_a_check() -> Outcome {
    let (report, pids) = judge_noting(&job("tricks::leaves_processes"));
    let pids: Vec<&str> = pids.split(' ').collect();
    expect(
        report.verdict == Verdict::Passed && pids.len() == 2,
        &report,
    )?;
    expect(eventually(|| !is_running(pids[0])), &report)?;
    if cfg!(target_os = "linux") {
        expect(eventually(|| !is_running(pids[1])), &report)?;
    }
    let (report, file) = judge_noting(&job("tricks::leaves_files"));
    expect(
        report.verdict == Verdict::Passed && !file.is_empty() && !Path::new(&file).exists(),
        &report,
    )
}

/// The part of this program that [`nothing_survives_the_judge`] kills.
pub fn judge_for_ever() -> ExitCode {
    let job = Job {
        limit: Duration::from_secs(3600),
        ..job("tricks::loops")
    };
    println!("{}", judge(&job));
    ExitCode::SUCCESS
}

fn nothing_survives_the_judge() -> Outcome {
    let place = tempfile::tempdir()?;
    let note = place.path().join("note");
    let mut judge = Command::new(this_program())
        .arg("judge-for-ever")
        .env("WORKBOOK_SPECIMEN_NOTE", &note)
        .env("TMPDIR", place.path())
        .spawn()?;
    let pid = || std::fs::read_to_string(&note).unwrap_or_default();
    if !eventually(|| is_running(&pid())) {
        return Err("the check did not begin".into());
    }
    judge.kill()?;
    judge.wait()?;
    if !eventually(|| !is_running(&pid())) {
        return Err("the check goes on without its judge".into());
    }
    let left = std::fs::read_dir(place.path())?
        .flatten()
        .map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["note"]);
    Ok(())
}

/// A broker that a trial may lose.
struct Broker {
    server: Child,
    url: String,
}

impl Broker {
    fn start() -> Result<Self, Failed> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let port_text = port.to_string();
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port_text])
            .stdout(Stdio::null())
            .spawn()?;
        let broker = Broker {
            server,
            url: format!("redis://127.0.0.1:{port}"),
        };
        if eventually(|| broker.ask("PING", "hello").is_ok()) {
            Ok(broker)
        } else {
            Err("no Redis".into())
        }
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            redis: Some(self.url.clone()),
            ..Endpoints::default()
        }
    }

    fn ask(&self, command: &str, argument: &str) -> redis::RedisResult<redis::Value> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection()?;
        redis::cmd(command).arg(argument).query(&mut connection)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn its_keys_are_removed() -> Outcome {
    let broker = Broker::start()?;
    broker.ask("INCR", "somebody-elses")?;
    let (report, key) = judge_noting(&Job {
        brokers: broker.endpoints(),
        ..job("brokers::names_are_its_own")
    });
    expect(
        report.verdict == Verdict::Passed && key.starts_with("orders-"),
        &report,
    )?;
    expect(broker.ask("EXISTS", &key)? == redis::Value::Int(0), &report)?;
    expect(
        broker.ask("EXISTS", "somebody-elses")? == redis::Value::Int(1),
        &report,
    )
}

fn a_broker_that_dies_is_nobodys_fault() -> Outcome {
    for specimen in [
        "brokers::the_broker_dies",
        "brokers::the_broker_dies_and_it_loops",
    ] {
        let broker = Broker::start()?;
        let limit = Duration::from_secs(8).mul_f64(lab::patience());
        let report = judge(&Job {
            brokers: broker.endpoints(),
            limit,
            ..job(specimen)
        });
        expect(
            report.verdict == Verdict::Infrastructure && report.code.is_none(),
            &report,
        )?;
    }
    // None at all.
    let report = judge(&job("brokers::names_are_its_own"));
    expect(report.verdict == Verdict::Infrastructure, &report)
}

fn an_own_redis_ends_with_its_check() -> Outcome {
    let (report, url) = judge_noting(&job("brokers::own_redis_is_left_paused"));
    expect(
        report.verdict == Verdict::Failed && url.starts_with("redis://"),
        &report,
    )?;
    let address = url.trim_start_matches("redis://").to_owned();
    expect(
        eventually(|| std::net::TcpStream::connect(&address).is_err()),
        &report,
    )
}

fn a_service_that_ends_says_why() -> Outcome {
    let report = judge(&job("services::a_service_ends_by_itself"));
    expect(
        report.verdict == Verdict::Failed && report.message.contains("there is no such stream"),
        &report,
    )
}

fn a_stub_in_a_service_is_told_as_such() -> Outcome {
    let report = judge(&job("services::a_service_reaches_a_stub"));
    expect(
        report.verdict == Verdict::Failed && report.todo_stage == Some(4),
        &report,
    )?;
    expect(report.message.ends_with("claim what others left"), &report)
}

fn checks_are_described_with_their_limits() -> Outcome {
    let output = Command::new(this_program()).arg("--describe").output()?;
    let all: Vec<lab::Described> =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let limit = |name: &str| {
        all.iter()
            .find(|check| check.name == name)
            .map(|check| check.limit_secs)
    };
    assert_eq!(limit("verdicts::tells_its_seed"), Some(7));
    assert_eq!(limit("tricks::loops"), Some(60));
    Ok(())
}

fn suite(arguments: &[&str], environment: (&str, &str)) -> Result<(bool, String), Failed> {
    let output = Command::new(this_program())
        .args(arguments)
        .env(AS_SUITE, "1")
        .env_remove("REDIS_URL")
        .env("WORKBOOK_STATE", "/no/such/directory")
        .env("WORKBOOK_SEED", "11")
        .env(environment.0, environment.1)
        .output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

fn a_suite_is_a_test_binary_like_any_other() -> Outcome {
    let native = ("WORKBOOK_BROKERS", "native");
    let (_, text) = suite(&["--list", "--format", "terse"], native)?;
    assert!(
        text.lines()
            .any(|line| line == "verdicts::keeps_its_promise: test"),
        "{text}"
    );
    let (passed, text) = suite(&["--exact", "verdicts::keeps_its_promise"], native)?;
    assert!(passed && text.contains("1 passed"), "{text}");
    let (passed, text) = suite(&["breaks_its_promise"], native)?;
    assert!(
        !passed && text.contains("failed [SQ42]: they are 5"),
        "{text}"
    );
    assert!(
        text.contains("promise: two and two are four") && text.contains("seed: 11"),
        "{text}"
    );
    Ok(())
}

fn a_suite_without_a_broker_says_so() -> Outcome {
    let (passed, text) = suite(&["keeps_its_promise"], ("REDIS_URL", "redis://127.0.0.1:1"))?;
    assert!(
        !passed
            && text.contains("infrastructure: the checks of specimens need a broker, and no Redis"),
        "{text}"
    );
    Ok(())
}

/// Looks again and again; false if it was in vain for ten seconds, stretched by the patience.
fn eventually(mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10).mul_f64(lab::patience()) {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
