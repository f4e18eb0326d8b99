//! Which checks an exercise has.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::environment;
use crate::manifest::Exercise;

/// One check, as the test binary describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `stage_1_send::a_message_becomes_one_entry`.
    pub name: String,
    /// The stage it belongs to.
    pub stage: u32,
    /// How long it may run.
    pub limit: Duration,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    limit_secs: u64,
}

/// Asks a test binary for its checks.
pub async fn described_by(binary: &Path) -> anyhow::Result<Vec<Check>> {
    let what = || format!("asking {} for its checks", binary.display());
    let mut command = tokio::process::Command::new(binary);
    command
        .arg("--describe")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    environment::scrub(&mut command);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .with_context(what)?
        .with_context(what)?;
    if !output.status.success() {
        bail!("{}: it ended with {}", what(), output.status);
    }
    let described: Vec<Described> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("understanding the checks that {} lists", binary.display()))?;
    described
        .into_iter()
        .map(|check| {
            let stage = stage_of(&check.name).with_context(|| {
                format!(
                    "the check {} does not begin with its stage, as in stage_3_…::",
                    check.name
                )
            })?;
            Ok(Check {
                stage,
                limit: Duration::from_secs(check.limit_secs),
                name: check.name,
            })
        })
        .collect()
}

/// The checks as the sources name them, for when there is no binary because the candidate does not compile.
pub fn in_sources(exercise: &Exercise) -> anyhow::Result<Vec<Check>> {
    let folder = exercise.path.join("tests/stages");
    let what = || format!("looking for checks in {}", folder.display());
    let mut checks = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        let Some(module) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let Some(stage) = stage_of(module) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(what)?;
        checks.extend(functions(&text).map(|function| Check {
            name: format!("{module}::{function}"),
            stage,
            limit: Duration::ZERO,
        }));
    }
    checks.sort_by(|a, b| (a.stage, &a.name).cmp(&(b.stage, &b.name)));
    Ok(checks)
}

/// The names of the functions that are checks: `async fn NAME(lab: Lab) -> Outcome`, at the margin.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let rest = line.strip_prefix("async fn ")?;
        let (name, arguments) = rest.split_once('(')?;
        let (arguments, result) = arguments.split_once(") -> ")?;
        (arguments.ends_with(": Lab") && !arguments.contains(',') && result.starts_with("Outcome"))
            .then_some(name)
    })
}

/// 3 for `stage_3_share::anything`.
pub fn stage_of(name: &str) -> Option<u32> {
    name.strip_prefix("stage_")?.split('_').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_stands_in_the_name() {
        assert_eq!(stage_of("stage_3_share::x"), Some(3));
        assert_eq!(stage_of("queue"), None);
    }

    #[test]
    fn checks_are_found_in_sources_and_helpers_are_not() {
        let text = "pub async fn a_promise(lab: Lab) -> Outcome {\nasync fn _b(_lab: Lab) -> Outcome {\n\
                    async fn helper(lab: &Lab) -> Outcome {\npub async fn two(lab: Lab, n: u8) -> Outcome {\n\
                    pub fn checks() -> Vec<lab::Check> {";
        assert_eq!(functions(text).collect::<Vec<_>>(), ["a_promise", "_b"]);
    }
}
