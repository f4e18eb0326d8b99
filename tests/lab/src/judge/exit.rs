//! Puts into words how a process ended that should have left a receipt.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// What a learner reads about a check whose process ended before the check had.
pub(super) fn describe(status: ExitStatus, errors: &str, memory: u64) -> String {
    let last_lines = last_lines(errors);
    if errors.contains("memory allocation of") {
        return format!(
            "the candidate used up the memory that a check may have ({} MiB){last_lines}",
            memory / (1024 * 1024)
        );
    }
    if errors.contains("has overflowed its stack") {
        return format!("the candidate's recursion has overflowed the stack{last_lines}");
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => signal.to_string(),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => "an unknown reason".to_owned(),
    };
    format!("the candidate ended the check's process ({how}) before it finished{last_lines}")
}

fn last_lines(errors: &str) -> String {
    let lines: Vec<&str> = errors
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let tail = lines[lines.len().saturating_sub(3)..].join("\n  ");
    format!("; the last it said was:\n  {tail}")
}
