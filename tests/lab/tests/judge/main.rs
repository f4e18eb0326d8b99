//! The judge against checks and candidates that do their worst.
//!
//! This binary plays all parts: without arguments it is the judge that is tested, as a
//! [`lab::Suite`] it has the checks to be judged, and as `service` the service that they start.

mod service;
mod specimens;
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("service") => service::main(&arguments[1..]),
        Some("judge-for-ever") => trials::judge_for_ever(),
        _ if std::env::var_os(trials::AS_SUITE).is_some() => specimens::suite().main(),
        Some("--run-check" | "--keep-brokers" | "--describe") => specimens::suite().main(),
        _ => {
            let trials = trials::all();
            libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
        }
    }
}
