//! `--exec`: a handler that is a command of the shell.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs `sh -c command` with the line on its standard input. An exit code other than 0 is a failure.
/// What it prints goes to standard error: our standard output is for results.
pub async fn run(command: &str, line: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("running `{command}`: {error}");
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(io::stderr())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read its input.
        match input.write_all(format!("{line}\n").as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => drop(input),
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{command}` failed: {status}"))
    }
}
