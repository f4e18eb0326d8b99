//! The ladder and the keeper, as processes: what is chosen, what is said when nothing can be had,
//! and that nothing is left behind however a run ends.
//!
//! Each trial starts this program again as `hold`, with an environment and a temporary directory
//! of its own: it asks for a broker, says what it got, and holds it until its input ends.

mod held;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use held::{Held, eventually, this_program};
use lab::brokers::{How, keep_if_asked};
use libtest_mimic::{Failed, Trial};

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = keep_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("hold") => held::hold(),
        Some("warm-up") => held::warm_up(),
        Some("warm-down") => held::warm_down(),
        _ => libtest_mimic::run(&libtest_mimic::Arguments::from_args(), all()).exit_code(),
    }
}

fn all() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, run: fn() -> Outcome| trials.push(Trial::test(name, run));
    add("a_given_url_comes_first", a_given_url_comes_first);
    add(
        "a_given_url_that_fails_is_not_replaced",
        a_given_url_that_fails_is_not_replaced,
    );
    add("a_process_can_be_forced", a_process_can_be_forced);
    add("a_forced_way_is_the_only_one", a_forced_way_is_the_only_one);
    add(
        "a_process_follows_when_no_engine_answers",
        a_process_follows_when_no_engine_answers,
    );
    add(
        "what_cannot_be_had_is_explained",
        what_cannot_be_had_is_explained,
    );
    add("a_wrong_setting_is_explained", a_wrong_setting_is_explained);
    add(
        "an_ordinary_end_leaves_nothing",
        an_ordinary_end_leaves_nothing,
    );
    add("a_killed_run_leaves_nothing", a_killed_run_leaves_nothing);
    add(
        "an_interrupt_from_the_terminal_leaves_nothing",
        an_interrupt_from_the_terminal_leaves_nothing,
    );
    add(
        "a_killed_keeper_is_swept_by_the_next",
        a_killed_keeper_is_swept_by_the_next,
    );
    add("a_living_keeper_is_not_swept", a_living_keeper_is_not_swept);
    add(
        "a_warm_broker_is_used_and_stays",
        a_warm_broker_is_used_and_stays,
    );
    let image = has_image(lab::brokers::REDIS_IMAGE);
    let mut add = |name: &str, run: fn() -> Outcome| {
        trials.push(Trial::test(name, run).with_ignored_flag(!image));
    };
    add(
        "a_container_comes_before_a_process",
        a_container_comes_before_a_process,
    );
    add(
        "a_killed_run_leaves_no_container",
        a_killed_run_leaves_no_container,
    );
    add(
        "the_container_of_a_killed_keeper_is_swept",
        the_container_of_a_killed_keeper_is_swept,
    );
    add_amqp(&mut trials);
    trials
}

/// RabbitMQ takes seconds to start; its two ways are tried where they are to be had.
fn add_amqp(trials: &mut Vec<Trial>) {
    let image = has_image(lab::brokers::AMQP_IMAGE);
    let container = || holds_rabbitmq("docker", How::Container);
    trials.push(Trial::test("rabbitmq_comes_in_a_container", container).with_ignored_flag(!image));
    let program = which::which("rabbitmq-server").is_ok();
    let process = || holds_rabbitmq("native", How::Process);
    trials.push(Trial::test("rabbitmq_comes_as_a_process", process).with_ignored_flag(!program));
    let given = Trial::test(
        "a_given_rabbitmq_must_let_us_in",
        a_given_rabbitmq_must_let_us_in,
    );
    trials.push(given.with_ignored_flag(!program));
}

/// True where an engine has the pinned image. Elsewhere the trials with containers are ignored.
fn has_image((name, tag): (&str, &str)) -> bool {
    let inspect = Command::new("docker")
        .args(["image", "inspect", &format!("{name}:{tag}")])
        .output();
    inspect.is_ok_and(|output| output.status.success())
}

const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "unix:///no/such/engine.sock");
const NATIVE: (&str, &str) = ("WORKBOOK_BROKERS", "native");
const DOCKER: (&str, &str) = ("WORKBOOK_BROKERS", "docker");

fn a_given_url_comes_first() -> Outcome {
    let broker = Held::start(&[NATIVE])?;
    let url = broker.url()?;
    let held = Held::start(&[("REDIS_URL", &url)])?;
    assert_eq!((held.url()?, held.how()?), (url, How::Given));
    assert_eq!(
        held.keeper(),
        None,
        "nothing had to be started, and a keeper runs"
    );
    drop(held);
    assert!(broker.answers(), "somebody else's broker was stopped");
    Ok(())
}

fn a_given_url_that_fails_is_not_replaced() -> Outcome {
    let held = Held::start(&[("REDIS_URL", "redis://me:secret@127.0.0.1:1")])?;
    let text = held.refusal()?;
    assert!(
        text.contains("REDIS_URL = redis://me:***@127.0.0.1:1"),
        "{text}"
    );
    assert!(
        text.contains("unset REDIS_URL") && !text.contains("redis-server"),
        "{text}"
    );
    Ok(())
}

fn a_process_can_be_forced() -> Outcome {
    let held = Held::start(&[NATIVE, ("REDIS_URL", "redis://127.0.0.1:1")])?;
    assert_eq!(held.how()?, How::Process);
    assert!(held.answers());
    Ok(())
}

fn a_forced_way_is_the_only_one() -> Outcome {
    let held = Held::start(&[DOCKER, NO_ENGINE])?;
    let text = held.refusal()?;
    assert!(
        text.contains("the container image redis:7.0.15: no container engine answers"),
        "{text}"
    );
    assert!(
        !text.contains("a local process") && text.contains("unset WORKBOOK_BROKERS"),
        "{text}"
    );
    Ok(())
}

fn a_process_follows_when_no_engine_answers() -> Outcome {
    let held = Held::start(&[NO_ENGINE])?;
    assert_eq!(held.how()?, How::Process);
    Ok(())
}

fn what_cannot_be_had_is_explained() -> Outcome {
    let held = Held::start(&[NO_ENGINE, ("PATH", "/no/such/directory")])?;
    let text = held.refusal()?;
    let first = text.find("the container image redis:7.0.15");
    let second = text.find("a local process of redis-server: it is not installed");
    assert!(
        text.starts_with("no Redis can be had") && first.is_some() && first < second,
        "{text}"
    );
    let held = Held::start(&[("DOCKER_HOST", "tcp://127.0.0.1:1"), DOCKER])?;
    let text = held.refusal()?;
    assert!(
        text.contains("no container engine answers") && text.contains("to mend it:"),
        "{text}"
    );
    Ok(())
}

fn a_wrong_setting_is_explained() -> Outcome {
    let held = Held::start(&[("WORKBOOK_BROKERS", "podman")])?;
    let text = held.refusal()?;
    assert!(text.contains("WORKBOOK_BROKERS: it is `podman`"), "{text}");
    Ok(())
}

fn an_ordinary_end_leaves_nothing() -> Outcome {
    let mut held = Held::start(&[NATIVE])?;
    assert!(held.answers());
    held.end()?;
    // The run waits for its keeper, so this is so at once.
    assert!(!held.answers(), "Redis still answers");
    assert!(held.left().is_empty(), "left behind: {:?}", held.left());
    Ok(())
}

fn a_killed_run_leaves_nothing() -> Outcome {
    let mut held = Held::start(&[NATIVE])?;
    held.kill()?;
    assert!(eventually(|| !held.answers()), "Redis still answers");
    assert!(
        eventually(|| held.left().is_empty()),
        "left behind: {:?}",
        held.left()
    );
    assert!(eventually(|| !held.keeper_runs()), "the keeper runs on");
    Ok(())
}

fn an_interrupt_from_the_terminal_leaves_nothing() -> Outcome {
    let mut held = Held::start(&[NATIVE])?;
    held.interrupt_its_group()?;
    assert!(eventually(|| !held.answers()), "Redis still answers");
    assert!(
        eventually(|| held.left().is_empty()),
        "left behind: {:?}",
        held.left()
    );
    Ok(())
}

fn a_killed_keeper_is_swept_by_the_next() -> Outcome {
    let held = Held::start(&[NATIVE])?;
    held.kill_keeper()?;
    if cfg!(target_os = "linux") && which::which("setpriv").is_ok() {
        assert!(eventually(|| !held.answers()), "Redis outlives its keeper");
    }
    assert_eq!(held.left().len(), 1, "the keeper had no directory");
    let next = held.beside(&[NATIVE])?;
    assert!(!held.answers(), "Redis outlives the sweep");
    assert!(next.answers());
    assert_eq!(
        held.left().len(),
        1,
        "the next keeper has a directory, and the old one is gone"
    );
    Ok(())
}

fn a_living_keeper_is_not_swept() -> Outcome {
    let held = Held::start(&[NATIVE])?;
    let next = held.beside(&[NATIVE])?;
    assert!(held.answers() && next.answers());
    assert_eq!(held.left().len(), 2);
    Ok(())
}

fn a_warm_broker_is_used_and_stays() -> Outcome {
    let state = tempfile::tempdir()?;
    let state_path = state.path().display().to_string();
    let warm = |part: &str| run(part, state.path());
    let url = warm("warm-up")?;
    assert_eq!(warm("warm-up")?, url, "a second `up` starts another one");
    let state_setting = ("WORKBOOK_STATE", state_path.as_str());
    let mut held = Held::start(&[state_setting])?;
    assert_eq!(
        (held.url()?, held.is_warm()?, held.keeper()),
        (url.clone(), true, None)
    );
    held.end()?;
    assert!(held.answers(), "the warm broker was stopped with the run");
    assert_eq!(warm("warm-down")?, "stopped");
    assert!(!held.answers(), "the warm broker outlives `down`");
    assert_eq!(warm("warm-down")?, "there was none");
    let held = Held::start(&[state_setting, NATIVE])?;
    assert!(!held.is_warm()?);
    Ok(())
}

fn run(part: &str, state: &Path) -> Result<String, Failed> {
    let output = Command::new(this_program())
        .arg(part)
        .env("WORKBOOK_STATE", state)
        .env("TMPDIR", state)
        .env("WORKBOOK_BROKERS", "native")
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn a_container_comes_before_a_process() -> Outcome {
    let mut held = Held::start(&[])?;
    assert_eq!(held.how()?, How::Container);
    assert!(held.answers());
    assert_eq!(held.containers().len(), 1);
    held.end()?;
    assert!(held.containers().is_empty(), "a container is left behind");
    Ok(())
}

fn a_killed_run_leaves_no_container() -> Outcome {
    let mut held = Held::start(&[DOCKER])?;
    assert_eq!(held.containers().len(), 1);
    held.kill()?;
    assert!(
        eventually(|| held.containers().is_empty()),
        "a container is left behind"
    );
    Ok(())
}

fn the_container_of_a_killed_keeper_is_swept() -> Outcome {
    let held = Held::start(&[DOCKER])?;
    held.kill_keeper()?;
    // Time for it to go, if it went by itself: then there would be nothing to see here.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(held.containers().len(), 1);
    let _next = held.beside(&[NATIVE])?;
    assert!(held.containers().is_empty(), "the container was not swept");
    Ok(())
}

fn holds_rabbitmq(way: &str, how: How) -> Outcome {
    let mut held = Held::start(&[(held::WANTED, "rabbitmq"), ("WORKBOOK_BROKERS", way)])?;
    assert_eq!(held.how()?, how);
    assert!(held.listens());
    held.kill()?;
    assert!(eventually(|| !held.listens()), "RabbitMQ outlives its run");
    assert!(
        eventually(|| held.left().is_empty()),
        "left behind: {:?}",
        held.left()
    );
    Ok(())
}

fn a_given_rabbitmq_must_let_us_in() -> Outcome {
    let wanted = (held::WANTED, "rabbitmq");
    let broker = Held::start(&[wanted, NATIVE])?;
    let url = broker.url()?;
    let held = Held::start(&[wanted, ("AMQP_URL", &url)])?;
    assert_eq!((held.url()?, held.how()?), (url.clone(), How::Given));
    for (wrong, why) in [
        (url.replace(":guest@", ":secret@"), "ACCESS_REFUSED"),
        (url.replace("/%2f", "/nowhere"), "nowhere"),
    ] {
        let text = Held::start(&[wanted, ("AMQP_URL", &wrong)])?.refusal()?;
        assert!(
            text.contains("unset AMQP_URL") && text.contains(why),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
    Ok(())
}
