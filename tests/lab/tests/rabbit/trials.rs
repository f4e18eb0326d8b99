//! Judges the checks and looks at what they leave.

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::brokers::Keeper;
use lab::judge::{Endpoints, Job, Report, Verdict, run_check};
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use libtest_mimic::{Arguments, Failed, Trial};

type Outcome = Result<(), Failed>;

/// Checks that are to pass.
const PASS: &[&str] = &[
    "faults::a_publish_and_its_confirm_are_written_down",
    "faults::a_confirm_is_lost",
    "faults::a_publish_is_cut_off_before",
    "faults::a_publish_is_carried_out_and_never_answered",
    "faults::an_ack_is_carried_out_at_the_cut",
    "faults::an_ack_that_is_cut_off_brings_a_redelivery",
    "faults::a_confirm_is_held_and_released",
    "faults::a_publish_is_delayed",
    "faults::a_stall_stops_heartbeats_too",
    "faults::all_connections_are_cut_and_refused",
    "faults::another_password_is_refused",
    "faults::what_is_no_amqp_is_passed_on",
    "counts::unacknowledged_deliveries_are_counted",
    "counts::two_consumers_of_a_channel_are_told_apart",
    "counts::a_channel_that_was_closed_holds_nothing",
    "counts::outstanding_confirms_are_counted",
    "counts::the_wire_becomes_a_history",
    "looks::a_queue_is_looked_at",
    "looks::a_queue_that_differs_is_explained",
    "looks::an_exchange_that_differs_is_explained",
    "looks::messages_are_published_peeked_at_and_taken",
    "looks::what_is_not_there_is_the_candidates_fault",
    "own::it_is_killed_and_comes_back_with_its_messages",
    "own::it_is_stopped_paused_and_goes_on",
];

pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let keeper = match arguments.list {
        true => None,
        false => match runtime.block_on(Keeper::start(super::AMQP)) {
            Ok(keeper) => Some(keeper),
            Err(unavailable) => {
                eprintln!("{unavailable}");
                return ExitCode::FAILURE;
            }
        },
    };
    let endpoints = keeper.as_ref().map(Keeper::endpoints).unwrap_or_default();
    let conclusion = libtest_mimic::run(&arguments, all(&Arc::new(endpoints)));
    drop(keeper);
    conclusion.exit_code()
}

fn all(endpoints: &Arc<Endpoints>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, run: fn(&Endpoints) -> Outcome| {
        let endpoints = endpoints.clone();
        trials.push(Trial::test(name, move || run(&endpoints)));
    };
    add("names_are_gone_after_a_check", |it| gone_after("names", it));
    add("names_are_gone_after_a_killed_check", |it| {
        gone_after("names_and_is_killed", it)
    });
    add("names_that_it_owns_are_gone", |it| {
        gone_after("names_past_the_proxy", it)
    });
    add("what_may_be_somebodys_stays", what_may_be_somebodys_stays);
    add(
        "an_own_rabbit_ends_with_its_check",
        an_own_rabbit_ends_with_its_check,
    );
    let native = Trial::test(
        "an_own_rabbit_ends_with_its_judge",
        an_own_rabbit_ends_with_its_judge,
    );
    trials.push(native.with_ignored_flag(which::which("rabbitmq-server").is_err()));
    for check in PASS {
        let endpoints = endpoints.clone();
        trials.push(Trial::test(*check, move || {
            let report = judge(check, &endpoints);
            expect(report.verdict == Verdict::Passed, &report)
        }));
    }
    trials
}

fn judge(check: &str, brokers: &Endpoints) -> Report {
    let job = Job {
        binary: std::env::current_exe().expect("this program has a path"),
        check: check.to_owned(),
        service: None,
        brokers: brokers.clone(),
        seed: 7,
        patience: lab::patience(),
        limit: Duration::from_secs(180).mul_f64(lab::patience()),
        memory: 4 << 30,
    };
    on_runtime(run_check(&job))
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(future)
}

fn expect(condition: bool, report: &Report) -> Outcome {
    match condition {
        true => Ok(()),
        false => Err(Failed::from(format!("the judge said: {report:#?}"))),
    }
}

/// What a check says that it leaves.
fn named(report: &Report) -> Vec<String> {
    let names = report
        .message
        .split_once("NAMES ")
        .map_or("", |(_, names)| names);
    names.split_whitespace().map(str::to_owned).collect()
}

fn gone_after(check: &str, endpoints: &Endpoints) -> Outcome {
    let report = judge(&format!("leaves::{check}"), endpoints);
    let names = named(&report);
    expect(!names.is_empty(), &report)?;
    for name in names {
        if exists(endpoints, &name)? {
            return Err(format!("`{name}` is left behind").into());
        }
    }
    Ok(())
}

fn what_may_be_somebodys_stays(endpoints: &Endpoints) -> Outcome {
    let report = judge("leaves::names_that_are_not_its_own", endpoints);
    let [queue] = &named(&report)[..] else {
        return expect(false, &report);
    };
    let stays = exists(endpoints, queue)?;
    on_runtime(async {
        let connection = connect(endpoints).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.as_str().into(), options).await?;
        connection.close(200, "done".into()).await
    })?;
    match stays {
        true => Ok(()),
        false => Err("a queue was deleted that may have been somebody's".into()),
    }
}

/// True if there is a queue or an exchange of this name.
fn exists(endpoints: &Endpoints, name: &str) -> Result<bool, Failed> {
    let ask = async {
        let connection = connect(endpoints).await?;
        let table = FieldTable::default;
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = connection.create_channel().await?;
        let queue = channel
            .queue_declare(name.into(), options, table())
            .await
            .is_ok();
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = connection.create_channel().await?;
        let kind = ExchangeKind::Fanout;
        let exchange = channel
            .exchange_declare(name.into(), kind, options, table())
            .await
            .is_ok();
        connection.close(200, "done".into()).await?;
        Ok::<bool, lapin::Error>(queue || exchange)
    };
    Ok(on_runtime(ask)?)
}

async fn connect(endpoints: &Endpoints) -> lapin::Result<Connection> {
    let url = endpoints.amqp.as_deref().unwrap_or_default();
    Connection::connect(url, ConnectionProperties::default()).await
}

fn an_own_rabbit_ends_with_its_check(endpoints: &Endpoints) -> Outcome {
    let report = judge("leaves::its_own_rabbit", endpoints);
    let [url] = &named(&report)[..] else {
        return expect(false, &report);
    };
    ends(url)
}

/// This program judges for ever as another process, and is killed.
fn an_own_rabbit_ends_with_its_judge() -> Outcome {
    let place = tempfile::tempdir()?;
    let note = place.path().join("note");
    let mut judge = Command::new(std::env::current_exe()?)
        .arg(JUDGE_FOR_EVER)
        .env("WORKBOOK_SPECIMEN_NOTE", &note)
        .env("TMPDIR", place.path())
        // A container is left for the next sweep.
        .env("WORKBOOK_BROKERS", "native")
        .spawn()?;
    let url = || std::fs::read_to_string(&note).unwrap_or_default();
    let began = eventually(|| !url().is_empty());
    judge.kill()?;
    judge.wait()?;
    if !began {
        return Err("the check did not begin".into());
    }
    ends(&url())?;
    let left = || std::fs::read_dir(place.path()).map_or(0, Iterator::count);
    match eventually(|| left() == 1) {
        true => Ok(()),
        false => Err(format!("{} files are left", left()).into()),
    }
}

pub const JUDGE_FOR_EVER: &str = "judge-for-ever";

pub fn judge_for_ever() -> ExitCode {
    println!(
        "{}",
        judge("leaves::its_own_rabbit_and_hangs", &Endpoints::default())
    );
    ExitCode::SUCCESS
}

/// Nobody listens any more where this one did.
fn ends(url: &str) -> Outcome {
    let host = url
        .split('@')
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let address = host.ok_or_else(|| format!("`{url}` is no address"))?;
    match eventually(|| std::net::TcpStream::connect(address).is_err()) {
        true => Ok(()),
        false => Err(format!("RabbitMQ goes on at {address}").into()),
    }
}

fn eventually(mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60).mul_f64(lab::patience()) {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
