//! What became of a check.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The verdict on one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// It is not.
    Failed,
    /// Not run, because an earlier stage that it depends on failed.
    Blocked,
    /// Not run, because the candidate does not compile.
    Broken,
    /// Ended at its time limit.
    TooSlow,
    /// Nothing can be said, for a reason that is not the candidate's.
    Infrastructure,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Blocked => "blocked",
            Verdict::Broken => "broken",
            Verdict::TooSlow => "too slow",
            Verdict::Infrastructure => "infrastructure",
        })
    }
}

/// The report on one check. Its [`Display`](fmt::Display) is the whole of it as plain text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The check's full name, `stage_1_send::a_message_becomes_one_entry`.
    pub check: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The mistake in the atlas that it looks like.
    pub code: Option<String>,
    /// What the learner reads; empty if the check passed.
    pub message: String,
    /// What the candidate was held to.
    pub promise: Option<String>,
    /// What was seen instead.
    pub observed: Option<String>,
    /// The history that proves it, drawn as text.
    pub history: Option<String>,
    /// The same as a picture that a browser opens.
    pub picture: Option<PathBuf>,
    /// The stage that is not written yet and was needed.
    pub todo_stage: Option<u32>,
    /// The seed, with which it can be had again.
    pub seed: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if let Some(code) = &self.code {
            write!(f, " [{code}]")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(promise) = &self.promise {
            write!(f, "\npromise: {promise}")?;
        }
        if let Some(observed) = self
            .observed
            .as_ref()
            .filter(|observed| **observed != self.message)
        {
            write!(f, "\nobserved: {observed}")?;
        }
        if let Some(history) = &self.history {
            write!(f, "\n{history}")?;
        }
        if let Some(picture) = &self.picture {
            write!(f, "\npicture: {}", picture.display())?;
        }
        if self.verdict != Verdict::Passed {
            write!(f, "\nseed: {}", self.seed)?;
        }
        Ok(())
    }
}
