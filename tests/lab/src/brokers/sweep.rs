//! Removes what keepers left behind that were killed before they could clean up.
//!
//! Each keeper has a directory in the system's temporary directory, with a file that it keeps
//! locked for its whole life, and a list of the processes it started. The lock ends with the
//! process, however it ends: a directory whose lock is free has no owner any more. Containers carry
//! their keeper's directory, and the machine it is on, as labels.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::container::remove_labelled;

const PREFIX: &str = "workbook-brokers-";
const LOCK: &str = "lock";
const PROCESSES: &str = "processes";

const KEEPER_LABEL: &str = "org.workbook.keeper";
const MACHINE_LABEL: &str = "org.workbook.machine";

/// A keeper's directory. Removed when it is dropped.
pub(super) struct Home {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Home {
    /// Makes a directory and locks it.
    pub(super) fn make() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // Locked before it has the name that the sweep looks for: there is no moment at which it
        // looks abandoned.
        let unnamed = directory.path().join("lock.new");
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&unnamed)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        fs::rename(&unnamed, directory.path().join(LOCK))?;
        Ok(Home {
            path: directory.keep(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down a process, to be killed by a later sweep if need be. Its command line contains
    /// `sign`, by which the sweep knows that the number has not gone to another one. A `group` is
    /// killed as a whole.
    pub(super) fn write_down(&self, pid: u32, group: bool, sign: &str) -> io::Result<()> {
        write_down(&self.path, pid, group, sign)
    }

    /// What this keeper's containers are marked with.
    pub(super) fn labels(&self) -> Vec<(String, String)> {
        labels(&self.path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What [`Home::write_down`] does, for those who know only where the home is.
pub(super) fn write_down(home: &Path, pid: u32, group: bool, sign: &str) -> io::Result<()> {
    let mut list = OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join(PROCESSES))?;
    writeln!(list, "{pid} {} {sign}", if group { "group" } else { "one" })
}

/// The labels of containers that may be removed when `directory` is gone.
pub(super) fn labels(directory: &Path) -> Vec<(String, String)> {
    vec![
        (KEEPER_LABEL.into(), directory.display().to_string()),
        (MACHINE_LABEL.into(), machine()),
    ]
}

/// Removes processes, directories and containers whose keeper is gone. What cannot be removed is
/// left to the next sweep.
pub async fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            end_processes(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    sweep_containers().await;
}

/// Removes containers whose keeper's directory is gone from this machine.
async fn sweep_containers() {
    let here = machine();
    let condemned = |labels: &HashMap<String, String>| {
        let keeper = labels.get(KEEPER_LABEL).map(Path::new);
        labels.get(MACHINE_LABEL) == Some(&here) && keeper.is_some_and(|keeper| !keeper.exists())
    };
    // Without an engine there are no containers. One that hangs must not hold up a run.
    let sweep = remove_labelled(KEEPER_LABEL, condemned);
    let _ = tokio::time::timeout(Duration::from_secs(5), sweep).await;
}

/// True if the keeper that locked this directory has ended.
pub(super) fn is_abandoned(directory: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(directory.join(LOCK)) else {
        return false;
    };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

/// Kills what was [written down](write_down) in this directory and still runs.
pub(crate) fn end_processes(directory: &Path) {
    let list = fs::read_to_string(directory.join(PROCESSES)).unwrap_or_default();
    for line in list.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(pid), Some(kind), Some(sign)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = pid.parse() else { continue };
        if !command_line(pid).contains(sign) {
            continue;
        }
        let pid = Pid::from_raw(number);
        let _ = if kind == "group" {
            killpg(pid, Signal::SIGKILL)
        } else {
            kill(pid, Signal::SIGKILL)
        };
    }
}

/// The command line of a process; empty if there is none of that number.
fn command_line(pid: &str) -> String {
    let output = Command::new("ps")
        .args(["-o", "command=", "-p", pid])
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// A name for this machine: engines may be shared by several, and a path means something on one only.
fn machine() -> String {
    let name =
        nix::sys::utsname::uname().map(|names| names.nodename().to_string_lossy().into_owned());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{} {}", name.unwrap_or_default(), boot.trim())
        .trim()
        .to_owned()
}
