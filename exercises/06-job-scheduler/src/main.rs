//! The scheduler as a service: a command line around the library.

mod service;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use service::{Cli, ending};

#[tokio::main]
async fn main() -> ExitCode {
    ending::report_panics();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("JOB_SCHEDULER_LOG")
                .unwrap_or_else(|_| "warn,lapin=off".into()),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match service::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ending::report(&error),
    }
}
