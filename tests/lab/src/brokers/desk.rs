//! The keeper's desk for browsers: everyone who connects gets a driver of their own, and has it until
//! the connection ends. Nobody has to give anything back, and nobody can forget to.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Attempt, Unavailable, mend, sweep};
use crate::browser::{self, Leased};

/// How long a driver may take to start on an idle machine. It starts no browser yet.
const START: Duration = Duration::from_secs(15);

/// How often a start is tried: its port may be somebody else's, too, on one of the two kinds of
/// addresses on which it listens.
const TRIES: usize = 3;

/// What the driver and the browser see of the environment. A check can have the driver start any
/// program, so they get no more than a check itself.
const ENVIRONMENT: [&str; 6] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "FONTCONFIG_FILE",
];

/// The desk. [`close`](Desk::close) ends all that it has handed out.
pub(super) struct Desk {
    address: SocketAddr,
    close: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Desk {
    /// Opens one that keeps its files in `home`, a keeper's directory.
    pub(super) async fn open(home: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (close, closed) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, home.to_owned(), closed));
        Ok(Desk {
            address,
            close,
            serving,
        })
    }

    /// Where it is.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends all drivers and browsers, and waits until they and their files are gone.
    pub(super) async fn close(self) {
        self.close.send_replace(true);
        let _ = self.serving.await;
    }
}

async fn serve(listener: TcpListener, home: PathBuf, closed: watch::Receiver<bool>) {
    // Starting a browser keeps a processor busy for a second. Ten at once would all be late.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let starting = Arc::new(Semaphore::new(cores));
    let mut customers = JoinSet::new();
    let mut closing = closed.clone();
    for number in 1u64.. {
        let connection = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closed| *closed) => break,
        };
        if let Ok((connection, _)) = connection {
            let directory = home.join(format!("browser-{number}"));
            let (home, starting, closed) = (home.clone(), starting.clone(), closed.clone());
            customers.spawn(attend(connection, home, directory, starting, closed));
        }
        while customers.try_join_next().is_some() {}
    }
    while customers.join_next().await.is_some() {}
}

/// One customer, from the first word to the end of the connection.
async fn attend(
    connection: TcpStream,
    home: PathBuf,
    directory: PathBuf,
    starting: Arc<Semaphore>,
    mut closed: watch::Receiver<bool>,
) {
    let mut driver = None;
    let attend = async {
        let (mut input, mut output) = connection.into_split();
        let place = starting.acquire().await;
        let answer = start(&home, &directory, &mut driver).await;
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        output.write_all(&line).await?;
        // The first byte says that the browser is up. The end of the input is the end of the check.
        input.read_u8().await?;
        drop(place);
        tokio::io::copy(&mut input, &mut tokio::io::sink()).await
    };
    tokio::select! {
        // How it ended is of no interest: a reset is as good an end as any.
        _ = attend => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
    if let Some(driver) = driver {
        end(driver).await;
    }
    remove(&directory).await;
}

async fn start(
    home: &Path,
    directory: &Path,
    driver: &mut Option<Child>,
) -> Result<Leased, Unavailable> {
    let browsers = browser::programs();
    let (way, why) = match (browsers.is_empty(), browser::driver()) {
        (true, None) => (
            "chromium and chromedriver".into(),
            "they are not installed".into(),
        ),
        (true, Some(_)) => ("chromium".into(), "it is not installed".into()),
        (false, None) => ("chromedriver".into(), "it is not installed".into()),
        (false, Some(program)) => {
            let mut why = String::new();
            for _ in 0..TRIES {
                match start_driver(&program, home, directory, driver).await {
                    Ok((url, log)) => return Ok(Leased { url, browsers, log }),
                    Err(error) => why = error,
                }
                if let Some(failed) = driver.take() {
                    end(failed).await;
                }
            }
            (program.display().to_string(), why)
        }
    };
    let mend = mend::browser();
    Err(Unavailable {
        broker: "browser".into(),
        tried: vec![Attempt { way, why, mend }],
    })
}

/// Starts a driver in a process group of its own, to which the browser will belong, too, and returns
/// its URL and its log. `driver` is set as soon as there is a process.
async fn start_driver(
    program: &Path,
    home: &Path,
    directory: &Path,
    driver: &mut Option<Child>,
) -> Result<(String, PathBuf), String> {
    let cannot_write =
        |error: io::Error| format!("cannot write into {}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(cannot_write)?;
    let log = directory.join("driver.log");
    let errors = File::create(directory.join("errors.log")).map_err(cannot_write)?;
    let mut command = Command::new(program);
    command.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command
        .arg("--port=0")
        // Also the sign by which a sweep knows this process.
        .arg(format!("--log-path={}", log.display()))
        // Profiles, caches and settings: all of it goes away with the directory.
        .env("HOME", directory)
        .env("TMPDIR", directory)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it cannot be executed: {error}"))?;
    let child = driver.insert(child);
    let pid = child.id().unwrap_or_default();
    sweep::write_down(home, pid, true, &directory.display().to_string()).map_err(cannot_write)?;
    let stdout = child.stdout.take();
    let port = async {
        let mut lines = BufReader::new(stdout?).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(port) = port_in(&line) {
                // Whatever it says later has to go somewhere.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(port);
            }
        }
        None
    };
    let limit = START.mul_f64(crate::patience());
    match tokio::time::timeout(limit, port).await {
        Ok(Some(port)) => Ok((format!("http://127.0.0.1:{port}"), log)),
        Ok(None) => Err(format!("it ended at once: {}", last_words(directory))),
        Err(_) => Err(format!(
            "it did not say within {limit:.0?} where it listens: {}",
            last_words(directory)
        )),
    }
}

/// 43211 of `ChromeDriver was started successfully on port 43211.`
fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("started successfully on port ")?;
    rest.trim_end_matches('.').parse().ok()
}

fn last_words(directory: &Path) -> String {
    let logs = ["errors.log", "driver.log"]
        .map(|log| std::fs::read_to_string(directory.join(log)).unwrap_or_default());
    let lines: Vec<&str> = logs
        .iter()
        .flat_map(|log| log.lines())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

/// Kills the driver and everything in its group, which is the browser with all its processes.
async fn end(mut driver: Child) {
    if let Some(pid) = driver.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = driver.wait().await;
}

/// Removes the directory. A process that is just being killed may still write into it.
async fn remove(directory: &Path) {
    for _ in 0..200 {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_what_the_driver_says() {
        let line = "ChromeDriver was started successfully on port 43211.";
        assert_eq!(port_in(line), Some(43211));
        assert_eq!(port_in("Starting ChromeDriver 156.0 on port 0"), None);
    }
}
