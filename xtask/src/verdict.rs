//! From what each check says to what the learner is told: which failures only follow from an earlier stage.

use std::collections::BTreeMap;

use crate::manifest::Exercise;
use crate::model::{ExerciseGrade, Verdict};

/// Turns failures that only follow from another stage into `blocked`, naming that stage and what to do first.
///
/// A failure follows from another stage if the check ran into that stage's unwritten code, or if it has no diagnosis of its own and
/// a stage it stands on fails as well. A failure with a code of its own is a finding and stays.
pub fn settle(exercise: &Exercise, grade: &mut ExerciseGrade) {
    // What fails by itself, per stage, before anything is called blocked: the first such check explains the rest.
    let mut failing: BTreeMap<u32, String> = BTreeMap::new();
    for stage in &grade.stages {
        let own = |todo: Option<u32>| todo.is_none_or(|todo| todo == stage.id);
        let first = stage
            .checks
            .iter()
            .find(|check| is_failure(check.verdict) && own(check.todo_stage));
        if let Some(check) = first {
            failing.insert(stage.id, check.title());
        }
    }
    for stage in &mut grade.stages {
        let needed = exercise.needed_by(stage.id);
        for check in &mut stage.checks {
            if !is_failure(check.verdict) || check.code.is_some() {
                continue;
            }
            let unwritten = check
                .todo_stage
                .filter(|todo| *todo != stage.id && (*todo < stage.id || needed.contains(todo)));
            let standing_on = needed
                .iter()
                .find_map(|need| failing.get(need).map(|check| (*need, check)));
            let (by, why) = match (unwritten, standing_on) {
                (Some(by), _) => (by, "is not written yet".to_string()),
                // Its own unwritten code is the next step only once what it stands on works.
                (None, Some((by, check))) => (by, format!("fails its check \"{check}\"")),
                (None, None) => continue,
            };
            let title = exercise.stage(by).map_or("", |stage| stage.title.as_str());
            let label = exercise.stage_label(by);
            check.verdict = Verdict::Blocked;
            check.blocked_by = Some(by);
            check.message = format!(
                "Stage {by} ({title}) comes first: it {why}. See `cargo xtask grade {label}` and `cargo xtask hint {label}`."
            );
        }
    }
}

fn is_failure(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Failed | Verdict::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;
    use crate::score::tests::graded;
    use Verdict::{Blocked, Failed, Passed, TooSlow};

    fn verdicts(grade: &ExerciseGrade) -> Vec<Verdict> {
        grade.checks().map(|(_, check)| check.verdict).collect()
    }

    #[test]
    fn a_failure_without_a_code_is_blocked_by_a_failing_stage_below_however_far() {
        let mut grade = graded(&[&[Passed, Failed], &[Passed], &[Failed, Passed, TooSlow]]);
        settle(&sample(), &mut grade);
        assert_eq!(
            verdicts(&grade),
            [Passed, Failed, Passed, Blocked, Passed, Blocked]
        );
        let blocked = &grade.stages[2].checks[0];
        assert_eq!(blocked.blocked_by, Some(1));
        assert!(
            blocked.message.contains("Stage 1 (Send) comes first"),
            "{}",
            blocked.message
        );
        assert!(
            blocked.message.contains("cargo xtask hint 1.1"),
            "{}",
            blocked.message
        );
    }

    #[test]
    fn a_failure_with_a_code_stays_a_failure() {
        let mut grade = graded(&[&[Failed], &[Failed], &[Failed]]);
        grade.stages[2].checks[0].code = Some("SQ03".into());
        settle(&sample(), &mut grade);
        assert_eq!(verdicts(&grade), [Failed, Blocked, Failed]);
    }

    #[test]
    fn unwritten_code_of_another_stage_blocks_even_if_that_stage_was_not_graded() {
        let mut grade = graded(&[&[], &[], &[Failed, Failed]]);
        grade.stages[2].checks[0].todo_stage = Some(2);
        grade.stages[2].checks[1].todo_stage = Some(3);
        settle(&sample(), &mut grade);
        assert_eq!(verdicts(&grade), [Blocked, Failed]);
        assert_eq!(grade.stages[2].checks[0].blocked_by, Some(2));
    }

    #[test]
    fn a_fresh_stub_fails_its_first_stage_and_blocks_the_rest() {
        let mut grade = graded(&[&[Failed], &[Failed], &[Failed]]);
        for (at, todo) in [(0, 1), (1, 1), (2, 3)] {
            grade.stages[at].checks[0].todo_stage = Some(todo);
        }
        settle(&sample(), &mut grade);
        assert_eq!(verdicts(&grade), [Failed, Blocked, Blocked]);
    }
}
