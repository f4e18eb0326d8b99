//! `WORKBOOK_BROKERS`: the one way that is allowed.

use super::{Attempt, How};

/// What `WORKBOOK_BROKERS` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    Nothing,
    Docker,
    Native,
}

impl Force {
    /// Reads the variable.
    pub(super) fn from_env() -> Result<Self, Attempt> {
        let value = std::env::var("WORKBOOK_BROKERS").unwrap_or_default();
        match value.as_str() {
            "" | "auto" => Ok(Force::Nothing),
            "docker" => Ok(Force::Docker),
            "native" => Ok(Force::Native),
            other => Err(Attempt {
                way: "WORKBOOK_BROKERS".into(),
                why: format!("it is `{other}`, and only `docker` and `native` mean something"),
                mend: Some("unset WORKBOOK_BROKERS".into()),
            }),
        }
    }

    pub(super) fn allows_container(self) -> bool {
        self != Force::Native
    }

    pub(super) fn allows_process(self) -> bool {
        self != Force::Docker
    }

    /// True if a broker that came about in this way will do.
    pub(super) fn accepts(self, how: How) -> bool {
        match self {
            Force::Nothing => true,
            Force::Docker => how == How::Container,
            Force::Native => how == How::Process,
        }
    }
}
