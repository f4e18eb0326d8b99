//! How the service ends: one line on standard error that says why, and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use live_feed::Error;

/// Another program listens at the address.
const ADDRESS_TAKEN: u8 = 98;

/// Says what went wrong and picks the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let mut code = 1;
    let mut story = Vec::new();
    for cause in error.chain() {
        story.push(cause.to_string());
        if let Some(known) = cause.downcast_ref::<Error>() {
            code = known.exit_code();
            // Its text tells of its own causes.
            break;
        }
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if io == Some(io::ErrorKind::AddrInUse) {
            code = ADDRESS_TAKEN;
        }
    }
    complain(&format!("error: {}", story.join(": ")));
    ExitCode::from(code)
}

/// Writes a line to standard error, if anyone listens.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Makes a panic one line. Code that is not written yet ends the process wherever it is called from:
/// in the task of a connection its panic would otherwise pass for a client that left.
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
