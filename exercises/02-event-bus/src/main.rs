//! The bus as a service: a command line around the library, JSON lines on standard output.

mod service;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use service::ending;

#[tokio::main]
async fn main() -> ExitCode {
    ending::report_panics();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("EVENT_BUS_TRACE")
                .unwrap_or_else(|_| "warn".into()),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match service::run(service::Cli::parse()).await {
        Ok(code) => code,
        Err(error) => ending::report(&error),
    }
}
