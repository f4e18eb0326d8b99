//! How a service is started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::process::Service;
use crate::{Failure, Lab};

/// A service that has not been started yet. Made by [`Lab::service`].
#[derive(Clone)]
pub struct ServiceBuilder {
    lab: Lab,
    program: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

impl ServiceBuilder {
    pub(crate) fn new(lab: Lab, program: Option<PathBuf>, arguments: Vec<OsString>) -> Self {
        ServiceBuilder {
            lab,
            program,
            arguments,
            environment: Vec::new(),
        }
    }

    /// Runs this program instead of the candidate's service.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Sets an environment variable for the service.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it, with pipes for all three standard streams. It stays in the check's process
    /// group, so it cannot outlive the check.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when the check has no service or it cannot be executed.
    pub fn start(self) -> Result<Service, Failure> {
        let program = self.program.ok_or_else(|| {
            Failure::infrastructure("this check was started without a service to run")
        })?;
        let mut command = Command::new(&program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in settings_from_outside(&program) {
            command.env_remove(name);
        }
        command.envs(self.environment);
        let child = command.spawn().map_err(|error| {
            Failure::infrastructure(format!("cannot execute {}: {error}", program.display()))
        })?;
        Service::adopt(self.lab, child)
    }
}

/// Variables of the person who runs the checks that would set the service's flags:
/// `STREAM_QUEUE_…` for `stream-queue`.
fn settings_from_outside(program: &std::path::Path) -> Vec<OsString> {
    let name = program
        .file_stem()
        .map(|name| name.to_string_lossy().to_uppercase());
    let prefix = format!("{}_", name.unwrap_or_default().replace('-', "_"));
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with(&prefix))
        .collect()
}
