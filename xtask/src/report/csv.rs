//! A line for each candidate, for a spreadsheet.

use std::collections::BTreeSet;

use crate::model::{Grade, Verdict};

const VERDICTS: [Verdict; 6] = [
    Verdict::Passed,
    Verdict::Failed,
    Verdict::Blocked,
    Verdict::Broken,
    Verdict::TooSlow,
    Verdict::Infrastructure,
];

/// `candidate,points,max,passed,failed,blocked,broken,too_slow,infrastructure,stage1,…`; with several exercises the stages' columns
/// carry the exercise's name.
pub fn render(grades: &[Grade]) -> String {
    let columns: BTreeSet<(u32, String, u32)> = grades
        .iter()
        .flat_map(|grade| &grade.exercises)
        .flat_map(|exercise| {
            let key = |id| (exercise.number, exercise.name.clone(), id);
            exercise.stages.iter().map(move |stage| key(stage.id))
        })
        .collect();
    let exercises: BTreeSet<u32> = columns.iter().map(|(number, _, _)| *number).collect();
    let mut header: Vec<String> = ["candidate", "points", "max"].map(String::from).into();
    header.extend(VERDICTS.map(|verdict| crate::model::words(verdict).replace(' ', "_")));
    header.extend(columns.iter().map(|(_, name, id)| match exercises.len() {
        1 => format!("stage{id}"),
        _ => format!("{name}_stage{id}"),
    }));
    let mut text = line(&header);
    for grade in grades {
        let mut fields = vec![
            grade.candidate.clone(),
            grade.points.to_string(),
            grade.max.to_string(),
        ];
        fields.extend(VERDICTS.map(|verdict| grade.count(verdict).to_string()));
        fields.extend(columns.iter().map(|(_, name, id)| {
            let exercise = grade
                .exercises
                .iter()
                .find(|exercise| exercise.name == *name);
            exercise
                .and_then(|exercise| exercise.stages.iter().find(|stage| stage.id == *id))
                .map(|stage| stage.points.to_string())
                .unwrap_or_default()
        }));
        text.push_str(&line(&fields));
    }
    text
}

fn line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

/// RFC 4180. A folder's name that a spreadsheet would take for a formula is kept from being one.
fn quoted(field: &str) -> String {
    let field = match field.starts_with(['=', '+', '-', '@']) {
        true => format!("'{field}"),
        false => field.to_string(),
    };
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::grade;
    use Verdict::{Blocked, Failed, Passed};

    #[test]
    fn a_line_for_each_candidate() {
        let mut first = grade(&[&[Passed, Failed], &[Passed], &[Blocked]]);
        first.candidate = "a,\"b\"".into();
        let text = render(&[first, grade(&[&[Passed], &[Passed], &[Passed]])]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "candidate,points,max,passed,failed,blocked,broken,too_slow,infrastructure,stage1,stage2,stage3"
        );
        assert_eq!(lines[1], "\"a,\"\"b\"\"\",50,100,2,1,1,0,0,0,20,30,0");
        assert_eq!(lines[2], "your working copy,100,100,3,0,0,0,0,0,40,30,30");
    }

    #[test]
    fn a_name_cannot_be_a_formula() {
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
