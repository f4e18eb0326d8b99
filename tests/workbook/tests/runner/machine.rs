//! A broker that is missing, wrong, or dies: never the learner's fault.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workbook::{Graded, turn, xtask};

/// A redis-server of this test's own, which it may kill.
struct Server {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(password: Option<&str>) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let mut child = Command::new("redis-server")
            .arg("-")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: `cargo xtask setup`");
        let mut settings = format!("port {port}\nbind 127.0.0.1\nsave \"\"\n");
        if let Some(password) = password {
            settings.push_str(&format!("requirepass {password}\n"));
        }
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(settings.as_bytes())
            .expect("written");
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                Instant::now() < deadline,
                "redis-server does not listen on {port}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Server {
            child,
            url: format!("redis://127.0.0.1:{port}/"),
            _folder: folder,
        }
    }

    fn kill(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL).expect("the server runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_given_url_is_used() {
    let _turn = turn();
    let server = Server::start(None);
    let output = xtask(&["grade", "1.1", "--solution", "--format", "json"])
        .env("REDIS_URL", &server.url)
        .output()
        .expect("runs");
    let graded = Graded::of(output);
    assert_eq!(graded.code, Some(0), "{:#?}", graded.checks());
    let client = redis::Client::open(server.url.as_str()).expect("a URL");
    let calls: String = redis::cmd("INFO")
        .arg("commandstats")
        .query(&mut client.get_connection().expect("connects"))
        .expect("answers");
    assert!(
        calls.contains("cmdstat_xadd"),
        "the broker that was given was not used: {calls}"
    );
}

#[test]
fn a_broker_that_dies_costs_no_points() {
    let _turn = turn();
    let mut server = Server::start(None);
    let running = xtask(&["grade", "1", "--solution", "--format", "json"])
        .env("REDIS_URL", &server.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the runner starts");
    // In the middle: some checks have sent entries.
    let client = redis::Client::open(server.url.as_str()).expect("a URL");
    let mut connection = client.get_connection().expect("connects");
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let info: String = redis::cmd("INFO")
            .arg("stats")
            .query(&mut connection)
            .expect("answers");
        let commands = info
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"))
            .and_then(|n| n.trim().parse::<u64>().ok());
        if commands > Some(20_000) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the run never got to work: {info}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill();
    let graded = Graded::of(running.wait_with_output().expect("ends"));
    let verdicts = graded.verdicts();
    assert_eq!(graded.code, Some(3), "{verdicts:?}\n{}", graded.stderr);
    assert!(verdicts.contains_key("infrastructure"), "{verdicts:?}");
    let blamed: Vec<_> = graded
        .checks()
        .into_iter()
        .filter(|(_, verdict, ..)| verdict != "passed" && verdict != "infrastructure")
        .collect();
    assert!(
        blamed.is_empty(),
        "the reference was blamed for a broker that died: {blamed:#?}"
    );
    assert_eq!(
        graded.report["points"].as_u64().unwrap_or(0)
            + graded.report["unjudged"].as_u64().unwrap_or(0),
        100,
        "{}",
        graded.report
    );
}

#[test]
fn without_any_broker_the_learner_reads_what_to_do() {
    let _turn = turn();
    let output = xtask(&["grade", "1.1", "--solution"])
        .env("WORKBOOK_BROKERS", "docker")
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .env_remove("REDIS_URL")
        .output()
        .expect("runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("WORKBOOK_BROKERS") || said.contains("ocker"),
        "{said}"
    );
}

#[test]
fn a_given_url_that_does_not_answer_is_named() {
    let _turn = turn();
    for url in ["redis://127.0.0.1:1/", "not a url"] {
        let output = xtask(&["grade", "1.1", "--solution"])
            .env("REDIS_URL", url)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("REDIS_URL") && said.contains(url), "{said}");
    }
}

/// The service in the hands of somebody who holds it wrong: exit code and message for each case.
#[test]
fn the_service_says_what_is_wrong() {
    let _turn = turn();
    let server = Server::start(None);
    let locked = Server::start(Some("s3cret"));
    let client = redis::Client::open(server.url.as_str()).expect("a URL");
    let _: () = redis::cmd("SET")
        .arg("text")
        .arg("x")
        .query(&mut client.get_connection().expect("connects"))
        .expect("set");
    let service = |arguments: &[&str], input: &str| {
        let mut child = xtask(&[&["run", "1", "--solution", "--"][..], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the runner starts");
        // The service may end before it has read everything.
        let _ = child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("ends");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let line = "{\"a\":1}\n";
    for (arguments, code, word) in [
        (
            vec!["send", "--redis", "redis://127.0.0.1:1/", "--stream", "s"],
            69,
            "127.0.0.1:1",
        ),
        (
            vec!["send", "--redis", "nonsense", "--stream", "s"],
            2,
            "nonsense",
        ),
        (
            vec!["send", "--redis", &server.url, "--stream", "text"],
            76,
            "text",
        ),
        (
            vec!["send", "--redis", &locked.url, "--stream", "s"],
            77,
            "assword",
        ),
        (
            vec![
                "work",
                "--redis",
                &server.url,
                "--stream",
                "text",
                "--group",
                "g",
                "--consumer",
                "c",
            ],
            76,
            "text",
        ),
        (
            vec![
                "work",
                "--redis",
                &locked.url,
                "--stream",
                "s",
                "--group",
                "g",
                "--consumer",
                "c",
            ],
            77,
            "assword",
        ),
        (
            vec![
                "work",
                "--redis",
                "redis://127.0.0.1:1/",
                "--stream",
                "s",
                "--group",
                "g",
                "--consumer",
                "c",
            ],
            69,
            "127.0.0.1:1",
        ),
        (vec!["work", "--redis", &server.url], 2, "--stream"),
    ] {
        let (ended, said) = service(&arguments, line);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(
            said.contains(word),
            "{arguments:?} does not mention {word:?}: {said}"
        );
        assert!(
            !said.contains("s3cret") && !said.contains("panicked"),
            "{said}"
        );
    }
}
