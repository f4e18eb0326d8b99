//! What an author may have forgotten: the manifest, the checks, the stubs, the chapter and the atlas have to speak of the same things.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use super::anchors;
use crate::atlas::{self, page};
use crate::checks;
use crate::context::Context;
use crate::manifest::Exercise;
use crate::stubs;

/// How many hints a stage has.
const HINTS: usize = 3;

/// How many mistakes an exercise has at least.
const MISTAKES: usize = 10;

/// Everything that does not fit together, as one line each.
///
/// # Errors
/// Files that cannot be read, and what makes a comparison impossible: a broken manifest, marker or page.
pub fn problems(ctx: &Context) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for exercise in ctx.exercises()? {
        let own = [
            stages(exercise)?,
            stub_markers(ctx, exercise)?,
            chapter(ctx, exercise)?,
            mistakes(ctx, exercise)?,
        ];
        let name = exercise.name();
        found.extend(
            own.into_iter()
                .flatten()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    Ok(found)
}

/// Stages and the modules of their checks; the number of hints.
fn stages(exercise: &Exercise) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let checks = checks::in_sources(exercise)?;
    for stage in &exercise.manifest.stages {
        let id = stage.id;
        if !checks.iter().any(|check| check.stage == id) {
            found.push(format!(
                "stage {id} has no checks in tests/stages/stage_{id}_….rs"
            ));
        }
        if stage.hints.len() != HINTS {
            found.push(format!(
                "stage {id} has {} hints, not {HINTS}",
                stage.hints.len()
            ));
        }
    }
    for check in &checks {
        if exercise.stage(check.stage).is_none() {
            found.push(format!(
                "{} belongs to no stage of exercise.toml",
                check.name
            ));
        }
    }
    Ok(found)
}

/// Stubs and the modules that a stage says it is about.
fn stub_markers(ctx: &Context, exercise: &Exercise) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for (path, ids) in stubs::generate(ctx, exercise)?.stages {
        let module = path.split(['/', '.']).next().unwrap_or_default();
        for id in ids {
            let names_it = exercise
                .stage(id)
                .is_some_and(|stage| stage.modules.iter().any(|named| named == module));
            if !names_it {
                found.insert(format!(
                    "stage {id} has a stub in {path} and does not name the module `{module}`"
                ));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The chapter and its sections.
fn chapter(ctx: &Context, exercise: &Exercise) -> Result<Vec<String>> {
    let file = ctx
        .root
        .join("chapters/src")
        .join(&exercise.manifest.chapter);
    if !file.is_file() {
        return Ok(vec![format!(
            "its chapter {} is not there",
            ctx.shown(&file)
        )]);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let anchors = anchors::of(&text);
    let missing = exercise
        .manifest
        .stages
        .iter()
        .filter(|stage| !anchors.contains(&stage.anchor));
    Ok(missing
        .map(|stage| {
            format!(
                "stage {} points to the section #{}, which {} does not have",
                stage.id,
                stage.anchor,
                ctx.shown(&file)
            )
        })
        .collect())
}

/// The atlas: every page names a check that exists and fits the reference, every code that a check gives has a page.
fn mistakes(ctx: &Context, exercise: &Exercise) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let folder = ctx.root.join(page::FOLDER);
    let pages: Vec<_> = page::read_all(&folder)?
        .into_iter()
        .filter(|page| page.exercise_code() == exercise.manifest.code)
        .collect();
    if pages.len() < MISTAKES {
        found.push(format!(
            "the atlas has {} mistakes, at least {MISTAKES} are due",
            pages.len()
        ));
    }
    let checks = checks::in_sources(exercise)?;
    let summary = ctx.root.join("chapters/src/SUMMARY.md");
    let summary =
        fs::read_to_string(&summary).with_context(|| format!("reading {}", summary.display()))?;
    for page in &pages {
        let shown = ctx.shown(&page.path);
        if !checks.iter().any(|check| check.name == page.caught_by) {
            found.push(format!(
                "{shown} names the check {}, which does not exist",
                page.caught_by
            ));
        }
        if let Err(error) = atlas::modules(exercise, page) {
            found.push(format!("{shown}: {error:#}"));
        }
        let file = page.path.file_name().unwrap_or_default().to_string_lossy();
        if !summary.contains(file.as_ref()) {
            found.push(format!("{shown} is not in chapters/src/SUMMARY.md"));
        }
    }
    for code in given_codes(exercise)? {
        if !pages.iter().any(|page| page.code == code) {
            found.push(format!(
                "a check diagnoses {code}, which has no page in {}",
                ctx.shown(&folder)
            ));
        }
    }
    Ok(found)
}

/// The codes that the sources of the checks mention, in quotes.
fn given_codes(exercise: &Exercise) -> Result<BTreeSet<String>> {
    let folder = exercise.path.join("tests/stages");
    let what = || format!("reading the checks in {}", folder.display());
    let mut codes = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(what)?;
            codes.extend(codes_in(&text, &exercise.manifest.code));
        }
    }
    Ok(codes)
}

fn codes_in(text: &str, prefix: &str) -> Vec<String> {
    text.split('"')
        .filter(|part| part.starts_with(prefix) && page::is_code(part))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_this_workbook_was_forgotten() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap().to_path_buf();
        assert_eq!(problems(&Context::at(root)).unwrap(), [""; 0]);
    }

    #[test]
    fn codes_are_found_in_quotes_only() {
        let text = "// SQ01\nensure!(a, \"SQ02\", \"text SQ04\"); x(\"SQ03\"); y(\"EB01\")";
        assert_eq!(codes_in(text, "SQ"), ["SQ02", "SQ03"]);
    }
}
