//! How the service ends: one line on standard error that says why, and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use chat_server::Error;
use given::ending::tell;
pub use given::ending::{complain, report_panics};

/// Says what went wrong and picks the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(tell(error).map_or(1, Error::exit_code))
}

/// Writes a line to standard output, if anyone listens.
pub fn print(line: &serde_json::Value) {
    let mut output = io::stdout();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
