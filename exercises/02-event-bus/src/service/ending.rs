//! How the service ends: one line on standard error that says why, and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use event_bus::Error;

/// Some lines of the input were not orders.
pub const BAD_INPUT: u8 = 65;

/// Says what went wrong and picks the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_output(error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    let mut known = None;
    let mut story = Vec::new();
    for cause in error.chain() {
        story.push(cause.to_string());
        known = cause.downcast_ref::<Error>();
        if known.is_some() {
            // Its text tells of its own causes.
            break;
        }
    }
    complain(&format!("error: {}", story.join(": ")));
    ExitCode::from(known.map_or(1, Error::exit_code))
}

/// Writes a line to standard error, if anyone listens.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Makes a panic one line. Code that is not written yet ends the process wherever it is called from:
/// in a task its panic would otherwise pass for a failed attempt.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        complain(&format!("panicked: {text}"));
        if text.starts_with("not yet implemented") {
            std::process::exit(101);
        }
    }));
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
