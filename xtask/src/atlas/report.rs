//! What the atlas command prints.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Outcome;
use crate::exit::Exit;
use crate::model::{CheckGrade, Grade, Verdict, words};

/// The public interface: fields are added, none taken away.
pub fn json(outcomes: &[Outcome], references: &[Grade]) -> Value {
    let mistakes = outcomes.iter().map(|outcome| {
        json!({
            "code": outcome.page.code,
            "exercise": outcome.exercise,
            "caught": outcome.caught,
            "diagnosed": outcome.diagnosed,
            "by": outcome.page.caught_by,
            "title": outcome.page.title,
            "why": outcome.why,
            "checks": checks(outcome).map(|check| json!({
                "name": check.name,
                "verdict": check.verdict,
                "code": check.code,
            })).collect::<Vec<_>>(),
        })
    });
    let references = references.iter().map(|grade| {
        let names = grade
            .exercises
            .iter()
            .map(|exercise| exercise.name.as_str());
        json!({
            "exercise": names.collect::<Vec<_>>().join(", "),
            "passed": grade.exit() == Exit::Passed,
        })
    });
    json!({
        "mistakes": mistakes.collect::<Vec<_>>(),
        "references": references.collect::<Vec<_>>(),
    })
}

/// The matrix of mistakes and checks, then what is wrong with it.
pub fn pretty(outcomes: &[Outcome], references: &[Grade]) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{}  {:28} {}",
            outcome.page.code,
            outcome.verdict(),
            outcome.page.title
        );
        let _ = writeln!(out, "      {}", row(outcome));
    }
    out.push_str("Each sign is a check: . passed, * failed with this mistake's code, F failed with another or none,\n");
    out.push_str("S too slow, b blocked, ? not judged. The named check stands in brackets.\n");
    for outcome in outcomes.iter().filter(|outcome| !outcome.diagnosed) {
        let _ = writeln!(
            out,
            "\n{}: {}\n  {}",
            outcome.page.code,
            outcome.verdict(),
            outcome.why
        );
    }
    for grade in references
        .iter()
        .filter(|grade| grade.exit() != Exit::Passed)
    {
        let _ = writeln!(out, "\nThe reference does not pass everything:");
        for (_, check) in grade
            .exercises
            .iter()
            .flat_map(|exercise| exercise.checks())
        {
            if check.verdict != Verdict::Passed {
                let _ = writeln!(
                    out,
                    "  {} {}: {}",
                    check.name,
                    words(check.verdict),
                    check.message
                );
            }
        }
    }
    let right = outcomes.iter().filter(|outcome| outcome.diagnosed).count();
    let _ = writeln!(
        out,
        "\n{right} of {} mistakes are caught and diagnosed",
        outcomes.len()
    );
    out
}

/// One sign for each check, in groups of a stage.
fn row(outcome: &Outcome) -> String {
    let mut row = String::new();
    let mut stage = "";
    for check in checks(outcome) {
        let module = check.name.split("::").next().unwrap_or_default();
        if module != stage {
            let number = crate::checks::stage_of(module).unwrap_or_default();
            let _ = write!(row, "{}{number}:", if stage.is_empty() { "" } else { "  " });
            stage = module;
        }
        let sign = sign(check, &outcome.page.code);
        if check.name == outcome.page.caught_by {
            let _ = write!(row, "[{sign}]");
        } else {
            row.push(sign);
        }
    }
    row
}

fn sign(check: &CheckGrade, code: &str) -> char {
    match check.verdict {
        Verdict::Passed => '.',
        Verdict::Failed if check.code.as_deref() == Some(code) => '*',
        Verdict::Failed => 'F',
        Verdict::TooSlow => 'S',
        Verdict::Blocked => 'b',
        Verdict::Broken | Verdict::Infrastructure => '?',
    }
}

fn checks(outcome: &Outcome) -> impl Iterator<Item = &CheckGrade> {
    outcome
        .grade
        .iter()
        .flat_map(|grade| &grade.exercises)
        .flat_map(|exercise| exercise.checks().map(|(_, check)| check))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: Verdict, code: Option<&str>) -> CheckGrade {
        CheckGrade {
            code: code.map(str::to_owned),
            ..CheckGrade::unrun("stage_1_send::a", verdict, "")
        }
    }

    #[test]
    fn a_sign_tells_the_own_code_from_another() {
        assert_eq!(sign(&check(Verdict::Failed, Some("SQ03")), "SQ03"), '*');
        assert_eq!(sign(&check(Verdict::Failed, Some("SQ04")), "SQ03"), 'F');
        assert_eq!(sign(&check(Verdict::Failed, None), "SQ03"), 'F');
        assert_eq!(sign(&check(Verdict::Passed, None), "SQ03"), '.');
    }
}
