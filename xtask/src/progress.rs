//! `.workbook/progress.json`: how far the learner's own files have come.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::manifest::{Exercise, Stage};
use crate::model::{ExerciseGrade, Grade, Verdict};
use crate::store;

/// What is remembered, by the exercise's name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    exercises: BTreeMap<String, ExerciseProgress>,
}

/// What is remembered of an exercise.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ExerciseProgress {
    /// By the stage's id.
    pub stages: BTreeMap<u32, StageProgress>,
    /// The first error, if it did not compile the last time.
    pub compile_error: Option<String>,
}

/// What is remembered of a stage.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct StageProgress {
    /// Points reached the last time it was judged.
    pub points: u32,
    /// Checks that passed.
    pub passed: usize,
    /// Checks there were.
    pub checks: usize,
}

impl StageProgress {
    /// Whether all its checks passed.
    pub fn is_done(self) -> bool {
        self.checks > 0 && self.passed == self.checks
    }
}

impl Progress {
    /// What is remembered; nothing before the first grade.
    pub fn load(ctx: &Context) -> anyhow::Result<Self> {
        let path = ctx.state().join("progress.json");
        match std::fs::read_to_string(&path) {
            // A file that cannot be understood is worth less than a report that does not come.
            Ok(text) => Ok(serde_json::from_str(&text).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(error).with_context(|| format!("reading your progress from {}", path.display()))
            }
        }
    }

    /// What is remembered of the exercise, if it was ever graded.
    pub fn of(&self, exercise: &Exercise) -> Option<&ExerciseProgress> {
        self.exercises.get(exercise.name())
    }

    /// The first stage that is not done.
    pub fn current<'a>(&self, exercise: &'a Exercise) -> Option<&'a Stage> {
        let known = self.of(exercise);
        exercise.manifest.stages.iter().find(|stage| {
            let stage = known.and_then(|known| known.stages.get(&stage.id));
            !stage.is_some_and(|stage| stage.is_done())
        })
    }

    fn take(&mut self, grade: &ExerciseGrade) {
        if grade.trouble.is_some() {
            return;
        }
        let known = self.exercises.entry(grade.name.clone()).or_default();
        known.compile_error = grade.compile_error.as_ref().map(|error| error.to_string());
        // A missing semicolon unlearns nothing.
        if grade.compile_error.is_some() {
            return;
        }
        for stage in &grade.stages {
            let new = StageProgress {
                points: stage.points,
                passed: stage.count(Verdict::Passed),
                checks: stage.checks.len(),
            };
            let old = known.stages.entry(stage.id).or_default();
            // What was not judged takes nothing away.
            if stage.count(Verdict::Infrastructure) == 0 || new.points > old.points {
                *old = new;
            }
        }
    }
}

/// Remembers a grade of the working copy.
pub fn record(ctx: &Context, grade: &Grade) -> anyhow::Result<()> {
    let mut progress = Progress::load(ctx)?;
    for exercise in &grade.exercises {
        progress.take(exercise);
    }
    let text = serde_json::to_string_pretty(&progress).context("writing your progress as JSON")?;
    store::write(&ctx.state().join("progress.json"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::CompileError;
    use crate::manifest::tests::sample;
    use crate::score::tests::grade;
    use Verdict::{Broken, Failed, Infrastructure, Passed};

    fn points(progress: &Progress) -> Vec<u32> {
        let exercise = progress.of(&sample()).unwrap();
        exercise.stages.values().map(|stage| stage.points).collect()
    }

    #[test]
    fn what_was_not_judged_takes_nothing_away() {
        let mut progress = Progress::default();
        progress.take(&grade(&[&[Passed], &[Passed], &[Failed]]).exercises[0]);
        progress.take(&grade(&[&[Infrastructure], &[Failed], &[Infrastructure]]).exercises[0]);
        assert_eq!(points(&progress), [40, 0, 0]);
        assert_eq!(progress.current(&sample()).map(|stage| stage.id), Some(2));
    }

    #[test]
    fn a_compile_error_is_told_and_unlearns_nothing() {
        let mut progress = Progress::default();
        progress.take(&grade(&[&[Passed], &[Passed], &[Passed]]).exercises[0]);
        let mut broken = grade(&[&[Broken], &[Broken], &[Broken]])
            .exercises
            .remove(0);
        broken.compile_error = Some(CompileError {
            file: Some("consumer.rs".into()),
            line: Some(3),
            message: "expected `;`".into(),
            rendered: String::new(),
            more: 0,
            note: None,
        });
        progress.take(&broken);
        assert_eq!(points(&progress), [40, 30, 30]);
        let known = progress.of(&sample()).unwrap();
        assert_eq!(
            known.compile_error.as_deref(),
            Some("consumer.rs:3: expected `;`")
        );
        assert!(progress.current(&sample()).is_none());
    }

    #[test]
    fn one_stage_leaves_the_others_as_they_were() {
        let mut progress = Progress::default();
        progress.take(&grade(&[&[Passed], &[Passed], &[Failed]]).exercises[0]);
        let mut one = grade(&[&[Failed], &[Passed], &[Passed]])
            .exercises
            .remove(0);
        one.stages.truncate(1);
        progress.take(&one);
        assert_eq!(points(&progress), [0, 30, 0]);
    }
}
