//! How the service ends: one line on standard error that says why, and an exit code.

use std::process::ExitCode;

use event_bus::Error;
pub use given::ending::{complain, report_panics};
use given::ending::{is_closed_output, tell};

/// Some lines of the input were not orders.
pub const BAD_INPUT: u8 = 65;

/// Says what went wrong and picks the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_output(error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    ExitCode::from(tell(error).map_or(1, Error::exit_code))
}
