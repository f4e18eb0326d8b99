//! How a service ends: one line on standard error that says why, and an exit code.

use std::error::Error;
use std::io::{self, Write as _};

/// Says what went wrong. Returns the first cause that is an `E`: its text tells of its own causes.
pub fn tell<E: Error + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&E> {
    let mut known = None;
    let mut story = Vec::new();
    for cause in error.chain() {
        story.push(cause.to_string());
        known = cause.downcast_ref::<E>();
        if known.is_some() {
            break;
        }
    }
    complain(&format!("error: {}", story.join(": ")));
    known
}

/// Writes a line to standard error, if anyone listens.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Makes a panic one line. Code that is not written yet ends the process wherever it is called from:
/// in a task its panic would otherwise pass for a failed attempt or a lost connection.
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

/// Whether it comes from output that nobody reads any more.
pub fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
