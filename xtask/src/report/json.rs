//! The report for programs.

use anyhow::Context as _;
use serde::Serialize;

use crate::model::Grade;

/// One candidate: the grade itself.
pub fn one(grade: &Grade) -> anyhow::Result<String> {
    text(grade)
}

/// Several candidates: `{"candidates": […]}`, each as it would be alone.
pub fn several(grades: &[Grade]) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Several<'a> {
        candidates: &'a [Grade],
    }
    text(&Several { candidates: grades })
}

fn text(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(value).context("writing the report as JSON")?;
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Failed, Passed, TooSlow};
    use crate::score::tests::grade;

    #[test]
    fn the_public_fields_are_there() {
        let text = one(&grade(&[&[Passed, Failed], &[TooSlow], &[Passed]])).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (value["points"].as_u64(), value["max"].as_u64()),
            (Some(50), Some(100))
        );
        assert!(value["timings"]["build"].is_u64());
        let exercise = &value["exercises"][0];
        assert_eq!(exercise["name"], "stream-queue");
        let stage = &exercise["stages"][0];
        assert_eq!(
            (&stage["id"], &stage["points"], &stage["max"]),
            (&1.into(), &20.into(), &40.into())
        );
        assert_eq!(stage["title"], "Send");
        let check = &stage["checks"][1];
        assert_eq!(check["verdict"], "failed");
        assert!(
            check["code"].is_null() && check["millis"].is_u64() && check["message"].is_string()
        );
        assert_eq!(exercise["stages"][1]["checks"][0]["verdict"], "too-slow");
    }
}
