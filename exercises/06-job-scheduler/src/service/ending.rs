//! How the service ends: one line on standard error that says why, and an exit code.

use std::io;
use std::process::ExitCode;

pub use given::ending::report_panics;
use given::ending::tell;
use job_scheduler::Error;

/// Another program listens at the address.
const ADDRESS_TAKEN: u8 = 98;

/// Says what went wrong and picks the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let code = match tell(error) {
        Some(known) => Error::exit_code(known),
        None if is_address_taken(error) => ADDRESS_TAKEN,
        None => 1,
    };
    ExitCode::from(code)
}

fn is_address_taken(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::AddrInUse)
}
