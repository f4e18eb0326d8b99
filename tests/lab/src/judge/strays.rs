//! Finds processes of a check that left its process group, as a daemon does.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::MARK_VARIABLE;

/// Kills every process that has the mark of this check in its environment. Linux tells the
/// environment of a process; elsewhere only the process group is killed.
pub(super) fn kill_marked(mark: &str) {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return;
    };
    let sign = format!("{MARK_VARIABLE}={mark}");
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == sign.as_bytes())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
