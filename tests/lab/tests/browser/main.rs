//! Checks with a real browser, from the first window to the last process.
//!
//! This binary plays all parts: without arguments it is the judge of what the others do, as `judge` it
//! is a run with one check, and as a [`lab::Suite`] it has the checks, which serve the page themselves.

mod pages;
mod run;
mod specimens;
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("judge") => run::judge_one(&arguments[1]),
        Some("--run-check" | "--keep-brokers" | "--describe") => specimens::suite().main(),
        _ if std::env::var_os(run::AS_SUITE).is_some() => specimens::suite().main(),
        _ => {
            let trials = trials::all();
            libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
        }
    }
}
