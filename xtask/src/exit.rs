//! How a command ends: its exit code, and the errors that carry one.

use std::process::ExitCode;

/// How a command ended. Every `run` of a command returns one of these; an error that is neither [`Usage`], [`Infrastructure`] nor
/// [`Interrupted`] ends the process like [`Exit::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything passed, or there was nothing to judge (0).
    Passed,
    /// Something was judged and failed (1).
    Failed,
    /// The command line asks for something that does not exist (2).
    Usage,
    /// Something outside the candidate is missing or broke: no broker, no space, no network (3).
    Infrastructure,
    /// Ctrl-C, or a request of the system to end (130).
    Interrupted,
    /// The exit code of a program that was run for the caller.
    Code(u8),
}

impl Exit {
    /// The number the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Infrastructure => 3,
            Exit::Interrupted => 130,
            Exit::Code(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.number())
    }
}

/// The command line names something that does not exist, or contradicts itself: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

/// Something outside the candidate is missing or broke: exit code 3.
#[derive(Debug)]
pub struct Infrastructure(pub String);

/// The user ended it: exit code 130.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for Infrastructure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Infrastructure {}
impl std::error::Error for Interrupted {}

/// The exit code that an error stands for.
pub fn of_error(error: &anyhow::Error) -> Exit {
    if error.is::<Usage>() {
        Exit::Usage
    } else if error.is::<Infrastructure>() {
        Exit::Infrastructure
    } else if error.is::<Interrupted>() {
        Exit::Interrupted
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_keeps_its_exit_code_under_added_context() {
        let error = Err::<(), _>(Usage("no such exercise".into()))
            .context("reading the command line")
            .unwrap_err();
        assert_eq!(of_error(&error), Exit::Usage);
        assert_eq!(of_error(&anyhow::anyhow!("anything else")), Exit::Failed);
        assert_eq!(of_error(&Interrupted.into()).number(), 130);
    }
}
