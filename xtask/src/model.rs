//! What a grade is: the one shape that scoring fills in and every report reads. Its JSON is a public interface; fields are only added.

use std::path::PathBuf;

use serde::Serialize;

use crate::build::CompileError;
use crate::exit::Exit;
use crate::manifest::Tier;

pub use lab::judge::Verdict;

/// The grade of one candidate.
#[derive(Clone, Debug, Serialize)]
pub struct Grade {
    /// Points reached.
    pub points: u32,
    /// Points there are in what was graded.
    pub max: u32,
    /// Points that could not be judged, because something outside the candidate went wrong.
    pub unjudged: u32,
    /// What was graded, in words.
    pub candidate: String,
    /// What names it on the command line, such as `--solution`; empty for the working copy.
    pub arguments: String,
    /// The seed of every check: the same seed gives the same faults again.
    pub seed: u64,
    /// One entry an exercise, in order.
    pub exercises: Vec<ExerciseGrade>,
    /// Where the time went.
    pub timings: Timings,
}

/// The grade of one exercise.
#[derive(Clone, Debug, Serialize)]
pub struct ExerciseGrade {
    /// The crate's name.
    pub name: String,
    /// Its number, as in `cargo xtask grade 1`.
    pub number: u32,
    /// One line for people.
    pub title: String,
    /// Points reached.
    pub points: u32,
    /// Points there are in the stages that were graded.
    pub max: u32,
    /// Points that could not be judged.
    pub unjudged: u32,
    /// One entry a graded stage, in order.
    pub stages: Vec<StageGrade>,
    /// What a reader should know about the candidate's files.
    pub notes: Vec<String>,
    /// Why nothing could be run: rustc's first error.
    pub compile_error: Option<CompileError>,
    /// Why nothing could be judged: what is wrong outside the candidate, and what to try.
    pub trouble: Option<String>,
    /// The chapter's file, from the workbook's folder.
    pub chapter: String,
}

/// The grade of one stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageGrade {
    /// 1 for the first.
    pub id: u32,
    /// One idea, in a few words.
    pub title: String,
    /// Points reached.
    pub points: u32,
    /// Points there are.
    pub max: u32,
    /// Points that could not be judged.
    pub unjudged: u32,
    /// `core` or `deep`.
    pub tier: Tier,
    /// The section of the chapter.
    pub anchor: String,
    /// One entry a check, as the exercise lists them.
    pub checks: Vec<CheckGrade>,
}

/// The verdict of one check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckGrade {
    /// `stage_1_send::a_message_becomes_one_entry`.
    pub name: String,
    /// `passed`, `failed`, `blocked`, `broken`, `too-slow` or `infrastructure`.
    pub verdict: Verdict,
    /// The mistake of the atlas that it looks like.
    pub code: Option<String>,
    /// What the learner reads.
    pub message: String,
    /// How long it ran.
    pub millis: u64,
    /// What the check holds the candidate to.
    pub promise: Option<String>,
    /// What happened instead.
    pub observed: Option<String>,
    /// Who did what when, as a diagram of text.
    pub history: Option<String>,
    /// The same as a picture for a browser.
    pub picture: Option<PathBuf>,
    /// The stage that has to be done first.
    pub blocked_by: Option<u32>,
    /// The stage whose unwritten code it ran into.
    pub todo_stage: Option<u32>,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timings {
    /// Laying out and building.
    pub build: u64,
    /// Waiting for brokers after the build: they start while it runs.
    pub brokers: u64,
    /// Running the checks.
    pub checks: u64,
    /// From the command's start to the report.
    pub total: u64,
}

impl CheckGrade {
    /// A check that never ran.
    pub fn unrun(name: &str, verdict: Verdict, message: &str) -> Self {
        CheckGrade {
            name: name.to_string(),
            verdict,
            code: None,
            message: message.to_string(),
            millis: 0,
            promise: None,
            observed: None,
            history: None,
            picture: None,
            blocked_by: None,
            todo_stage: None,
        }
    }

    /// The promise in words: the name without its stage.
    pub fn title(&self) -> String {
        let name = self.name.rsplit("::").next().unwrap_or(&self.name);
        name.replace('_', " ")
    }
}

impl From<lab::judge::Report> for CheckGrade {
    fn from(report: lab::judge::Report) -> Self {
        CheckGrade {
            name: report.check,
            verdict: report.verdict,
            code: report.code,
            message: printable(report.message),
            millis: report.millis,
            promise: report.promise.map(printable),
            observed: report.observed.map(printable),
            history: report.history.map(printable),
            picture: report.picture,
            blocked_by: None,
            todo_stage: report.todo_stage,
        }
    }
}

/// Without control characters: what a candidate says must not steer the terminal of whoever grades it.
fn printable(text: String) -> String {
    if !text.chars().any(is_control) {
        return text;
    }
    text.chars()
        .map(|c| if is_control(c) { '\u{fffd}' } else { c })
        .collect()
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

impl StageGrade {
    /// How many of its checks ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    }

    /// Whether there are checks, and all of them passed.
    pub fn is_done(&self) -> bool {
        !self.checks.is_empty() && self.count(Verdict::Passed) == self.checks.len()
    }
}

impl ExerciseGrade {
    /// All checks, with the stage each belongs to.
    pub fn checks(&self) -> impl Iterator<Item = (&StageGrade, &CheckGrade)> {
        self.stages
            .iter()
            .flat_map(|stage| stage.checks.iter().map(move |check| (stage, check)))
    }
}

impl Grade {
    /// How many checks ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        let stages = self.exercises.iter().flat_map(|exercise| &exercise.stages);
        stages.map(|stage| stage.count(verdict)).sum()
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&CheckGrade> {
        let mut checks = self.exercises.iter().flat_map(ExerciseGrade::checks);
        checks
            .find(|(_, check)| check.name == name)
            .map(|(_, check)| check)
    }

    /// How a command that ends with this grade ends.
    pub fn exit(&self) -> Exit {
        let troubled = self
            .exercises
            .iter()
            .any(|exercise| exercise.trouble.is_some());
        let mut stages = self.exercises.iter().flat_map(|exercise| &exercise.stages);
        if troubled || self.count(Verdict::Infrastructure) > 0 {
            Exit::Infrastructure
        } else if !self.exercises.is_empty() && stages.all(StageGrade::is_done) {
            Exit::Passed
        } else {
            Exit::Failed
        }
    }
}

/// The verdict as people read it.
pub fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Blocked => "blocked",
        Verdict::Broken => "broken",
        Verdict::TooSlow => "too slow",
        Verdict::Infrastructure => "infrastructure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_candidate_says_cannot_steer_a_terminal() {
        assert_eq!(printable("a\n\tb\u{1b}[2J".into()), "a\n\tb\u{fffd}[2J");
    }
}
