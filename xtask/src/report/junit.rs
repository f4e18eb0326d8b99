//! The report for CI systems.

use std::time::Duration;

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::model::{CheckGrade, Grade, Verdict, words};

/// A suite for each stage. What could not be judged is an error, what waits for an earlier stage is skipped.
pub fn render(grades: &[Grade]) -> anyhow::Result<String> {
    let mut report = Report::new("workbook");
    for grade in grades {
        for exercise in &grade.exercises {
            for stage in &exercise.stages {
                let name = format!("{} {} {}", exercise.name, stage.id, stage.title);
                let mut suite = TestSuite::new(match grades.len() {
                    1 => name,
                    _ => format!("{}: {name}", grade.candidate),
                });
                suite.add_test_cases(stage.checks.iter().map(|check| case(&exercise.name, check)));
                report.add_test_suite(suite);
            }
        }
    }
    let text = report.to_string().context("writing the report as JUnit")?;
    Ok(match text.ends_with('\n') {
        true => text,
        false => text + "\n",
    })
}

fn case(exercise: &str, check: &CheckGrade) -> TestCase {
    let mut status = match check.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Blocked => TestCaseStatus::skipped(),
        Verdict::Infrastructure => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Failed | Verdict::Broken | Verdict::TooSlow => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
    };
    if check.verdict != Verdict::Passed {
        let first = check.message.lines().next().unwrap_or_default();
        let code = check
            .code
            .as_deref()
            .map(|code| format!(" [{code}]"))
            .unwrap_or_default();
        let history = check.history.as_deref().unwrap_or_default();
        status.set_message(format!("{}{code}: {first}", words(check.verdict)));
        status.set_type(
            check
                .code
                .clone()
                .unwrap_or_else(|| words(check.verdict).to_string()),
        );
        status.set_description(format!("{}\n{history}", check.message));
    }
    let mut case = TestCase::new(check.name.clone(), status);
    case.set_classname(exercise);
    case.set_time(Duration::from_millis(check.millis));
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::grade;
    use Verdict::{Blocked, Failed, Infrastructure, Passed};

    #[test]
    fn each_verdict_is_what_a_ci_system_makes_of_it() {
        let text = render(&[grade(&[&[Passed, Failed], &[Blocked], &[Infrastructure]])]).unwrap();
        assert!(
            text.contains("tests=\"4\" skipped=\"1\" failures=\"1\" errors=\"1\""),
            "{text}"
        );
        assert!(text.contains("<skipped"), "{text}");
        assert!(text.contains("classname=\"stream-queue\""), "{text}");
    }
}
