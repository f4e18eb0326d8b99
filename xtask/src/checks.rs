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
///
/// `main.rs` says which lists make a stage, `.stage("stage_3_share", stage_3_share::checks())`, and each list, in its module, which
/// checks: `lab::checks![one_promise, another.limit_secs(120)]`.
pub fn in_sources(exercise: &Exercise) -> anyhow::Result<Vec<Check>> {
    let folder = exercise.path.join("tests/stages");
    let read = |module: &str| {
        let path = folder.join(format!("{module}.rs"));
        std::fs::read_to_string(&path)
            .with_context(|| format!("looking for checks in {}", path.display()))
    };
    let mut checks = Vec::new();
    for (name, lists) in stages(&read("main")?) {
        let Some(stage) = stage_of(name) else {
            continue;
        };
        for (module, list) in lists {
            let text = read(module)?;
            checks.extend(listed(&text, list).map(|function| Check {
                name: format!("{name}::{function}"),
                stage,
                limit: Duration::ZERO,
            }));
        }
    }
    Ok(checks)
}

/// The stages of a `main.rs`, and the calls, module and function, whose lists make each of them.
fn stages(main: &str) -> impl Iterator<Item = (&str, Vec<(&str, &str)>)> {
    // What follows the last stage is no list.
    let (suite, _) = main.split_once(".main()").unwrap_or((main, ""));
    suite.split(".stage(").skip(1).filter_map(|text| {
        let (name, rest) = text.trim_start().strip_prefix('"')?.split_once('"')?;
        let calls = rest.split(|c: char| !(is_in_a_name(c) || c == ':'));
        Some((
            name,
            calls.filter_map(|call| call.split_once("::")).collect(),
        ))
    })
}

/// The names in the list that the function `list` makes.
fn listed<'a>(module: &'a str, list: &str) -> impl Iterator<Item = &'a str> {
    let body = module
        .split_once(&format!("fn {list}()"))
        .and_then(|(_, rest)| rest.split_once("checks!["))
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(body, _)| body);
    body.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split(','))
        .filter_map(|entry| entry.trim().split(|c| !is_in_a_name(c)).next())
        .filter(|name| !name.is_empty())
}

fn is_in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
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
    fn checks_are_found_where_main_says_they_are() {
        let main = "lab::Suite::new(\"x\").browser()\n.stage(\"stage_1_send\", stage_1_send::checks())\n\
                    .stage(\n\"stage_2_share\",\nboth(stage_2_share::checks(), pages::of_stage_2()),\n)\n.main()\nfn both(one: Vec<lab::Check>)";
        let stages: Vec<_> = stages(main).collect();
        assert_eq!(
            stages,
            [
                ("stage_1_send", vec![("stage_1_send", "checks")]),
                (
                    "stage_2_share",
                    vec![("stage_2_share", "checks"), ("pages", "of_stage_2")]
                ),
            ]
        );
        let module = "pub fn of_stage_1() -> Vec<Check> {\n lab::checks![other]\n}\npub fn of_stage_2() -> Vec<Check> {\n\
                      lab::checks![\n  one_promise,\n  // why\n  another.limit_secs(120),\n ]\n}\nasync fn helper(lab: Lab)";
        let names: Vec<_> = listed(module, "of_stage_2").collect();
        assert_eq!(names, ["one_promise", "another"]);
    }
}
