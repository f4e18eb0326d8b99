//! `exercise.toml`: what an exercise is, and how a learner names it on the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::exit::Usage;

/// Points of a whole exercise.
pub const POINTS: u32 = 100;

/// One exercise: its manifest and where it lies.
#[derive(Clone, Debug)]
pub struct Exercise {
    /// 1 to 99, from the folder's name.
    pub number: u32,
    /// The folder's name, such as `01-stream-queue`; the same under `exercises/` and `solutions/`.
    pub folder: String,
    /// The folder under `exercises/`, absolute.
    pub path: PathBuf,
    /// The folder under `solutions/`, absolute.
    pub solution: PathBuf,
    /// What `exercise.toml` says.
    pub manifest: Manifest,
}

/// The contents of `exercise.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The crate, and the service's binary: `stream-queue`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The two letters that the codes of its mistakes begin with.
    pub code: String,
    /// The brokers its checks need: `redis`, `amqp`.
    #[serde(default)]
    pub brokers: Vec<Broker>,
    /// Whether some of its checks look at its page with a browser.
    #[serde(default)]
    pub browser: bool,
    /// Its chapter's file under `chapters/src/`.
    pub chapter: String,
    /// The learner's modules: `NAME.rs`, with an optional folder `NAME/`.
    pub modules: Vec<String>,
    /// The stages, in order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// A broker that checks need.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Broker {
    /// A Redis server.
    Redis,
    /// A RabbitMQ server.
    #[serde(alias = "rabbitmq")]
    Amqp,
}

/// One stage of an exercise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// 1 for the first.
    pub id: u32,
    /// One idea, in a few words.
    pub title: String,
    /// All stages of an exercise together make [`POINTS`].
    pub points: u32,
    /// Everybody's, or for those who go on.
    pub tier: Tier,
    /// The stages whose code this one stands on.
    #[serde(default)]
    pub needs: Vec<u32>,
    /// The section of the chapter.
    pub anchor: String,
    /// The learner's modules that this stage is about.
    #[serde(default)]
    pub modules: Vec<String>,
    /// From a nudge to nearly the code.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// How far a learner has to go for a stage.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Stages everybody should do.
    Core,
    /// Stages for those who go on.
    Deep,
}

impl Exercise {
    /// The crate's name, which is also the binary's.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The stage with this id.
    pub fn stage(&self, id: u32) -> Option<&Stage> {
        self.manifest.stages.iter().find(|stage| stage.id == id)
    }

    /// All stages that `id` stands on, directly or through others, lowest first; without `id` itself.
    pub fn needed_by(&self, id: u32) -> Vec<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            let needs = self.stage(next).map(|stage| stage.needs.as_slice());
            for &need in needs.unwrap_or_default() {
                if need != id && found.insert(need) {
                    open.push(need);
                }
            }
        }
        found.into_iter().collect()
    }

    /// What a learner types to name a stage of this exercise: `1.3`.
    pub fn stage_label(&self, stage: u32) -> String {
        format!("{}.{stage}", self.number)
    }
}

/// Reads and validates all exercises under `root/exercises`, in order of their numbers.
pub fn load_all(root: &Path) -> anyhow::Result<Vec<Exercise>> {
    let folder = root.join("exercises");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("listing the exercises in {}", folder.display()))?;
    let mut exercises = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("listing the exercises in {}", folder.display()))?
            .path();
        if path.join("exercise.toml").is_file() {
            exercises.push(load(root, &path)?);
        }
    }
    exercises.sort_by_key(|exercise| exercise.number);
    if exercises.is_empty() {
        bail!(
            "looked for exercises in {} and found no folder with an exercise.toml.\n\
             Is this a complete copy of the workbook? `git status` shows what is missing.",
            folder.display()
        );
    }
    Ok(exercises)
}

/// Reads and validates the exercise in the folder `path`.
pub fn load(root: &Path, path: &Path) -> anyhow::Result<Exercise> {
    let file = path.join("exercise.toml");
    let folder = path
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("reading the name of the folder {}", path.display()))?
        .to_string();
    let number = folder
        .split('-')
        .next()
        .and_then(|digits| digits.parse().ok())
        .with_context(|| {
            format!("the folder {folder} under exercises/ must begin with its number, as in 01-stream-queue")
        })?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("reading the manifest {}", file.display()))?;
    let manifest: Manifest = toml::from_str(&text)
        .with_context(|| format!("understanding the manifest {}", file.display()))?;
    let problems = problems(&manifest);
    if !problems.is_empty() {
        bail!(
            "the manifest {} contradicts itself:\n  {}",
            file.display(),
            problems.join("\n  ")
        );
    }
    Ok(Exercise {
        number,
        path: path.to_path_buf(),
        solution: root.join("solutions").join(&folder),
        folder,
        manifest,
    })
}

/// Everything in a manifest that cannot be right, one sentence each.
pub fn problems(manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    let points: u32 = manifest.stages.iter().map(|stage| stage.points).sum();
    if points != POINTS {
        found.push(format!(
            "the stages' points add up to {points}, not {POINTS}"
        ));
    }
    if manifest.modules.is_empty() {
        found.push("no modules: a learner would have nothing to write".to_string());
    }
    for module in &manifest.modules {
        if !is_module_name(module) {
            found.push(format!("`{module}` is not the name of a module"));
        }
    }
    let mut seen = BTreeSet::new();
    for stage in &manifest.stages {
        if !seen.insert(stage.id) {
            found.push(format!("two stages have the id {}", stage.id));
        }
        for need in &stage.needs {
            if !manifest.stages.iter().any(|other| other.id == *need) {
                found.push(format!(
                    "stage {} needs stage {need}, which does not exist",
                    stage.id
                ));
            }
            if *need >= stage.id {
                found.push(format!(
                    "stage {} needs stage {need}, which is not before it",
                    stage.id
                ));
            }
        }
        for module in &stage.modules {
            if !manifest.modules.contains(module) {
                found.push(format!(
                    "stage {} names the unknown module `{module}`",
                    stage.id
                ));
            }
        }
    }
    found
}

fn is_module_name(name: &str) -> bool {
    !name.is_empty()
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The exercise that `text` names: `1`, `01`, `stream-queue` or `01-stream-queue`. Unknown: a usage error that lists what there is.
pub fn find<'a>(exercises: &'a [Exercise], text: &str) -> anyhow::Result<&'a Exercise> {
    let number: Option<u32> = text.parse().ok();
    exercises
        .iter()
        .find(|exercise| {
            number == Some(exercise.number) || text == exercise.name() || text == exercise.folder
        })
        .ok_or_else(|| {
            let known: Vec<_> = exercises
                .iter()
                .map(|exercise| format!("{} ({})", exercise.number, exercise.name()))
                .collect();
            Usage(format!(
                "there is no exercise `{text}`. There are: {}.",
                known.join(", ")
            ))
            .into()
        })
}

/// `EX` or `EX.STAGE` as a learner types it, found among the exercises.
pub fn find_stage<'a>(
    exercises: &'a [Exercise],
    text: &str,
) -> anyhow::Result<(&'a Exercise, Option<&'a Stage>)> {
    let Some((exercise, stage)) = text.rsplit_once('.') else {
        return Ok((find(exercises, text)?, None));
    };
    let exercise = find(exercises, exercise)?;
    let found = stage.parse().ok().and_then(|id| exercise.stage(id));
    match found {
        Some(stage) => Ok((exercise, Some(stage))),
        None => {
            let first = exercise.manifest.stages.first().map_or(0, |stage| stage.id);
            let last = exercise.manifest.stages.last().map_or(0, |stage| stage.id);
            Err(Usage(format!(
                "exercise {} ({}) has no stage `{stage}`. Its stages are {} to {}.",
                exercise.number,
                exercise.name(),
                exercise.stage_label(first),
                exercise.stage_label(last),
            ))
            .into())
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::exit::{self, Exit};

    /// An exercise of three stages (40, 30, 30 points) that stand on each other, for tests.
    pub fn sample() -> Exercise {
        let manifest: Manifest = toml::from_str(
            r#"
            name = "stream-queue"
            title = "A message queue"
            code = "SQ"
            brokers = ["redis"]
            chapter = "01-redis-streams.md"
            modules = ["producer", "consumer"]
            [[stage]]
            id = 1
            title = "Send"
            points = 40
            tier = "core"
            needs = []
            anchor = "sending"
            modules = ["producer"]
            hints = ["a", "b", "c"]
            [[stage]]
            id = 2
            title = "Consume"
            points = 30
            tier = "core"
            needs = [1]
            anchor = "consuming"
            modules = ["consumer"]
            [[stage]]
            id = 3
            title = "Share"
            points = 30
            tier = "deep"
            needs = [2]
            anchor = "sharing"
            "#,
        )
        .unwrap();
        Exercise {
            number: 1,
            folder: "01-stream-queue".into(),
            path: "/w/exercises/01-stream-queue".into(),
            solution: "/w/solutions/01-stream-queue".into(),
            manifest,
        }
    }

    #[test]
    fn an_exercise_is_found_by_every_name_it_has() {
        let exercises = [sample()];
        for text in ["1", "01", "stream-queue", "01-stream-queue"] {
            assert_eq!(find(&exercises, text).unwrap().number, 1, "{text}");
            let (_, stage) = find_stage(&exercises, &format!("{text}.3")).unwrap();
            assert_eq!(stage.map(|stage| stage.id), Some(3), "{text}.3");
        }
        assert!(find_stage(&exercises, "1").unwrap().1.is_none());
    }

    #[test]
    fn an_unknown_exercise_or_stage_is_a_usage_error_that_lists_what_there_is() {
        let exercises = [sample()];
        for text in ["2", "1.4", "1.x", "1.", "queue", "", ".3"] {
            let error = find_stage(&exercises, text).unwrap_err();
            assert_eq!(exit::of_error(&error), Exit::Usage, "{text}");
        }
        let error = find_stage(&exercises, "1.4").unwrap_err();
        assert!(error.to_string().contains("1.1 to 1.3"), "{error}");
    }

    #[test]
    fn needs_are_followed_through_other_stages() {
        let exercise = sample();
        assert_eq!(exercise.needed_by(3), [1, 2]);
        assert_eq!(exercise.needed_by(1), [0u32; 0]);
    }

    #[test]
    fn an_exercise_has_a_browser_only_if_it_asks_for_one() {
        assert!(!sample().manifest.browser);
        let text = r#"
            name = "chat-server"
            title = "Chat"
            code = "CS"
            browser = true
            chapter = "06-websocket.md"
            modules = ["room"]
            stage = []
            "#;
        assert!(toml::from_str::<Manifest>(text).unwrap().browser);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let mut manifest = sample().manifest;
        assert!(problems(&manifest).is_empty());
        manifest.stages[0].points = 41;
        manifest.stages[1].needs = vec![3];
        manifest.modules.push("../etc".into());
        assert_eq!(problems(&manifest).len(), 3);
    }
}
