//! Points.

use crate::model::{ExerciseGrade, Grade, StageGrade, Verdict};

/// Fills in the points of every stage and their sums.
///
/// A stage gives its points in proportion to its passed checks, rounded down, so that only all of them give all. Checks that could
/// not be judged give nothing and take nothing: what they were worth is `unjudged`.
pub fn count(exercise: &mut ExerciseGrade) {
    for stage in &mut exercise.stages {
        let passed = stage.count(Verdict::Passed);
        let open = stage.count(Verdict::Infrastructure);
        stage.points = share(stage, passed);
        stage.unjudged = share(stage, passed + open) - stage.points;
    }
    let sum = |of: fn(&StageGrade) -> u32| exercise.stages.iter().map(of).sum::<u32>();
    let (points, max, unjudged) = (
        sum(|stage| stage.points),
        sum(|stage| stage.max),
        sum(|stage| stage.unjudged),
    );
    (exercise.points, exercise.max, exercise.unjudged) = (points, max, unjudged);
}

/// Adds the exercises up.
pub fn add_up(grade: &mut Grade) {
    let sum = |of: fn(&ExerciseGrade) -> u32| grade.exercises.iter().map(of).sum::<u32>();
    let (points, max, unjudged) = (
        sum(|exercise| exercise.points),
        sum(|exercise| exercise.max),
        sum(|exercise| exercise.unjudged),
    );
    (grade.points, grade.max, grade.unjudged) = (points, max, unjudged);
}

fn share(stage: &StageGrade, passed: usize) -> u32 {
    if stage.checks.is_empty() {
        return 0;
    }
    // At most `max`, since no more checks pass than there are.
    (u64::from(stage.max) * passed as u64 / stage.checks.len() as u64) as u32
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::manifest::tests::sample;
    use crate::model::{CheckGrade, Timings};
    use Verdict::{Failed, Infrastructure, Passed};

    /// The sample exercise with these verdicts, a slice a stage.
    pub fn graded(verdicts: &[&[Verdict]]) -> ExerciseGrade {
        let exercise = sample();
        let stages = exercise.manifest.stages.iter().zip(verdicts);
        ExerciseGrade {
            name: exercise.manifest.name.clone(),
            number: 1,
            title: exercise.manifest.title.clone(),
            points: 0,
            max: 0,
            unjudged: 0,
            stages: stages
                .map(|(stage, verdicts)| StageGrade {
                    id: stage.id,
                    title: stage.title.clone(),
                    points: 0,
                    max: stage.points,
                    unjudged: 0,
                    tier: stage.tier,
                    anchor: stage.anchor.clone(),
                    checks: (1..)
                        .zip(verdicts.iter())
                        .map(|(number, verdict)| {
                            let name = format!("stage_{}_x::promise_number_{number}", stage.id);
                            CheckGrade::unrun(&name, *verdict, "said\nmore")
                        })
                        .collect(),
                })
                .collect(),
            notes: Vec::new(),
            compile_error: None,
            trouble: None,
            chapter: "chapters/src/01-redis-streams.md".into(),
        }
    }

    /// A grade of the sample exercise, counted.
    pub fn grade(verdicts: &[&[Verdict]]) -> Grade {
        let mut exercise = graded(verdicts);
        count(&mut exercise);
        let mut grade = Grade {
            points: 0,
            max: 0,
            unjudged: 0,
            candidate: "your working copy".into(),
            arguments: String::new(),
            seed: 7,
            exercises: vec![exercise],
            timings: Timings::default(),
        };
        add_up(&mut grade);
        grade
    }

    #[test]
    fn a_stage_gives_points_in_proportion_rounded_down() {
        let grade = grade(&[&[Passed, Passed, Failed], &[Passed, Passed], &[Failed]]);
        let points: Vec<_> = grade.exercises[0]
            .stages
            .iter()
            .map(|stage| stage.points)
            .collect();
        assert_eq!(points, [26, 30, 0]);
        assert_eq!((grade.points, grade.max, grade.unjudged), (56, 100, 0));
        assert_eq!(grade.exit(), Exit::Failed);
    }

    #[test]
    fn what_could_not_be_judged_gives_nothing_and_is_told_apart() {
        let grade = grade(&[
            &[Passed, Infrastructure, Failed],
            &[Passed],
            &[Infrastructure],
        ]);
        assert_eq!(
            (grade.points, grade.max, grade.unjudged),
            (13 + 30, 100, 13 + 30)
        );
        assert_eq!(grade.exit(), Exit::Infrastructure);
    }

    #[test]
    fn all_points_need_all_checks_and_a_stage_without_checks_gives_none() {
        let all = grade(&[&[Passed], &[Passed, Passed], &[Passed]]);
        assert_eq!((all.points, all.exit()), (100, Exit::Passed));
        let empty = grade(&[&[Passed], &[], &[Passed]]);
        assert_eq!((empty.points, empty.exit()), (70, Exit::Failed));
    }
}
