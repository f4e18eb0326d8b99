//! RabbitMQ as a local process.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{health, port, sweep};

/// A `rabbitmq-server` of ours, with a node name, ports, directories and a port mapper of its
/// own, so that it neither meets nor disturbs another one. Dropping it kills it.
pub(crate) struct NativeAmqp {
    settings: Settings,
    /// For clients, between nodes, of the port mapper.
    ports: [u16; 3],
    server: Child,
    mapper: Child,
    /// Its processes were waited for: their numbers may be others' by now.
    is_gone: bool,
}

/// How it is to run.
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    /// For its files; made by the caller, who also removes it.
    pub(crate) directory: PathBuf,
    /// The directory where its processes are [written down](sweep::write_down), to be killed by others
    /// should this process be.
    pub(crate) home: PathBuf,
    /// How long a start, or an end, may take.
    pub(crate) limit: Duration,
}

/// Distributions put a script on the PATH that changes to the user `rabbitmq`, who may not write
/// into our directory; the server's own script, without that, is here.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
];

/// Executes the program `$0` with as many open files as it may have. The usual 1024 are some 800 connections;
/// then RabbitMQ waits without a word until one is closed. More than some ten thousand only cost memory.
const WITH_FILES: &str = r#"
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)" 2>/dev/null || :
exec "$0"
"#;

/// The script that starts the server, if it is installed.
pub(crate) fn program() -> Option<PathBuf> {
    let script = SCRIPTS
        .iter()
        .map(PathBuf::from)
        .find(|script| script.exists());
    script.or_else(|| which::which("rabbitmq-server").ok())
}

impl NativeAmqp {
    /// Starts one on free ports, and waits until it answers.
    pub(crate) async fn start(settings: Settings) -> Result<Self, String> {
        let ports = (|| Ok::<_, std::io::Error>([port::free()?, port::free()?, port::free()?]))();
        let ports = ports.map_err(|error| format!("there are no free ports: {error}"))?;
        let (mapper, server) = launch(&settings, ports)?;
        let mut amqp = NativeAmqp {
            settings,
            ports,
            server,
            mapper,
            is_gone: false,
        };
        amqp.ready().await?;
        Ok(amqp)
    }

    /// Waits until its files name all these queues: it writes down seconds later that a queue was declared.
    /// One that was deleted again may never be found, so it is not waited for beyond reason.
    pub(crate) async fn until_written(&self, queues: &HashSet<String>) {
        let start = tokio::time::Instant::now();
        while start.elapsed() < self.settings.limit / 4 {
            let written = tables(&self.settings.directory);
            let names =
                |queue: &String| written.windows(queue.len()).any(|w| w == queue.as_bytes());
            if queues.iter().all(names) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.is_gone {
            return;
        }
        // The server is a script with an emulator and its helpers below it.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.server.wait();
        let _ = self.mapper.wait();
        self.is_gone = true;
    }

    /// SIGTERM: it says good-bye to its clients and closes its files. What has not ended in time is killed.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        if !self.has_ended() {
            // One that is paused hears nothing.
            self.signal(Signal::SIGCONT)?;
            let script = i32::try_from(self.server.id()).map_err(|error| error.to_string())?;
            let sent = kill(Pid::from_raw(script), Signal::SIGTERM);
            sent.map_err(|error| format!("cannot send it SIGTERM: {error}"))?;
            let start = tokio::time::Instant::now();
            while !self.has_ended() && start.elapsed() < self.settings.limit {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.kill();
        Ok(())
    }

    /// Starts it again after its end, on the same ports and with the same files, and waits until it
    /// answers.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        if self.has_ended() {
            self.kill();
            (self.mapper, self.server) = launch(&self.settings, self.ports)?;
            self.is_gone = false;
        }
        self.ready().await
    }

    /// SIGSTOP or SIGCONT for all its processes.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        if self.is_gone {
            return Err("it does not run".to_owned());
        }
        let group = i32::try_from(self.mapper.id()).map_err(|error| error.to_string())?;
        killpg(Pid::from_raw(group), signal)
            .map_err(|error| format!("cannot send it {signal}: {error}"))
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.server.try_wait(), Ok(None))
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports[0])
    }

    async fn ready(&mut self) -> Result<(), String> {
        let (start, limit) = (tokio::time::Instant::now(), self.settings.limit);
        let address = format!("127.0.0.1:{}", self.ports[0]);
        loop {
            if let Ok(Some(status)) = self.server.try_wait() {
                let log =
                    std::fs::read_to_string(log_file(&self.settings.directory)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
                let tail = lines[lines.len().saturating_sub(5)..].join(" / ");
                return Err(format!("rabbitmq-server ended at once ({status}): {tail}"));
            }
            match health::amqp_answers(&address, limit).await {
                Ok(()) => return Ok(()),
                Err(why) if start.elapsed() > limit => {
                    return Err(format!(
                        "rabbitmq-server was started and does not answer: {why}"
                    ));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for NativeAmqp {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port mapper and the server, in a process group of their own, whose first is the mapper.
fn launch(settings: &Settings, ports: [u16; 3]) -> Result<(Child, Child), String> {
    // Erlang would start a port mapper by itself, as a daemon that nobody ever stops.
    // One that runs already is used instead.
    let mapper_port = ports[2].to_string();
    let mapper = Command::new("epmd")
        .args(["-port", &mapper_port, "-address", "127.0.0.1"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot execute epmd, Erlang's port mapper: {error}"))?;
    let sign = format!("epmd -port {mapper_port} ");
    let noted = sweep::write_down(&settings.home, mapper.id(), true, &sign)
        .map_err(|error| format!("cannot write into {}: {error}", settings.home.display()));
    match noted.and_then(|()| spawn(settings, ports, mapper.id())) {
        Ok(server) => Ok((mapper, server)),
        Err(why) => {
            end(mapper);
            Err(why)
        }
    }
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What Mnesia, RabbitMQ's database of what was declared, has on disk.
fn tables(directory: &Path) -> Vec<u8> {
    let entries = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let nodes = entries(&directory.join("mnesia"));
    let files = nodes.iter().flat_map(|node| entries(node));
    let of_tables = files.filter(|file| {
        let kind = file.extension().and_then(OsStr::to_str);
        matches!(kind, Some("LOG" | "DCD" | "DCL"))
    });
    of_tables
        .flat_map(|file| std::fs::read(file).unwrap_or_default())
        .collect()
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("rabbitmq.log")
}

fn spawn(
    settings: &Settings,
    [port, distribution, mapper_port]: [u16; 3],
    group: u32,
) -> Result<Child, String> {
    let (program, directory) = (&settings.program, &settings.directory);
    let group = i32::try_from(group).map_err(|error| error.to_string())?;
    let cannot =
        |error: std::io::Error| format!("cannot write into {}: {error}", directory.display());
    let log = File::create(log_file(directory)).map_err(cannot)?;
    let plugins = directory.join("enabled_plugins");
    std::fs::write(&plugins, "[].\n").map_err(cannot)?;
    let configuration = directory.join("rabbitmq.conf");
    std::fs::write(&configuration, "vm_memory_high_watermark.relative = 0.8\n").map_err(cannot)?;
    Command::new("sh")
        .args(["-c", WITH_FILES])
        .arg(program)
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("workbook-{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", directory.join("rabbitmq.pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_CONFIG_FILE", configuration)
        .env("RABBITMQ_SCHEMA_DIR", directory.join("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", directory.join("config"))
        .process_group(group)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot execute {}: {error}", program.display()))
}
