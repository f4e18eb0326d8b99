//! What is graded, and how its files get to where the exercise's crate reads them.
//!
//! A candidate never brings more than the learner's own modules: tests, manifests, the lockfile and the given modules are always
//! the workbook's. Nothing in a candidate's folder is trusted: links are not followed, only regular `.rs` files of a sane size are
//! read, and a pipe or a device in place of a file does not hang the runner.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::context::Context;
use crate::exit::Usage;
use crate::manifest::Exercise;

/// The most that one file of a candidate may hold, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;
/// The most files a candidate may bring for one exercise.
const MAX_FILES: usize = 500;
/// How deep folders of modules may be nested.
const MAX_DEPTH: usize = 8;

/// What is graded.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// The learner's files under `exercises/`, as they are.
    WorkingCopy,
    /// The reference under `solutions/`.
    Reference,
    /// A submission: a whole workspace, one exercise, or a plain folder of modules.
    Directory(PathBuf),
    /// All modules, made by the runner itself (the reference with a mistake of the atlas in it).
    Modules {
        /// What reports call it.
        label: String,
        /// Every file, by its path relative to the exercise's `src/`.
        files: BTreeMap<String, String>,
    },
}

impl Candidate {
    /// What reports call it.
    pub fn label(&self) -> String {
        match self {
            Candidate::WorkingCopy => "your working copy".to_string(),
            Candidate::Reference => "the reference".to_string(),
            Candidate::Directory(path) => path.display().to_string(),
            Candidate::Modules { label, .. } => label.clone(),
        }
    }

    /// What names it on the command line of `cargo xtask grade`; nothing for the working copy, and for what the runner made itself.
    pub fn arguments(&self) -> String {
        match self {
            Candidate::WorkingCopy | Candidate::Modules { .. } => String::new(),
            Candidate::Reference => "--solution".to_string(),
            Candidate::Directory(path) => {
                format!("--candidate {}", quoted(&path.display().to_string()))
            }
        }
    }

    /// The feature of the exercise's crate that selects it.
    pub fn feature(&self) -> Option<&'static str> {
        match self {
            Candidate::WorkingCopy => None,
            Candidate::Reference => Some("solution"),
            Candidate::Directory(_) | Candidate::Modules { .. } => Some("candidate"),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%,:".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The files a candidate brings for one exercise, read into memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Path relative to the exercise's `src/`, with `/`, to the contents.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the reader of a report should know: files that were not taken, and why.
    pub notes: Vec<String>,
}

/// Where in a submission's folder the modules lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `DIR/exercises/NN-name/src`.
    Workspace,
    /// `DIR/src`.
    Exercise,
    /// `DIR` itself.
    Plain,
}

impl Shape {
    const ALL: [Shape; 3] = [Shape::Workspace, Shape::Exercise, Shape::Plain];

    fn base(self, folder: &Path, exercise: &Exercise) -> PathBuf {
        match self {
            Shape::Workspace => folder.join("exercises").join(&exercise.folder).join("src"),
            Shape::Exercise => folder.join("src"),
            Shape::Plain => folder.to_path_buf(),
        }
    }
}

/// Where in `folder` modules of the exercise lie, if anywhere, and how many of its modules are there.
pub fn locate(folder: &Path, exercise: &Exercise) -> Option<(Shape, usize)> {
    Shape::ALL.into_iter().find_map(|shape| {
        let base = shape.base(folder, exercise);
        if has_link_below(folder, &base) {
            return None;
        }
        let there = |module: &&String| {
            base.join(format!("{module}.rs")).symlink_metadata().is_ok()
                || base
                    .join(module)
                    .symlink_metadata()
                    .is_ok_and(|metadata| metadata.is_dir())
        };
        let count = exercise.manifest.modules.iter().filter(there).count();
        (count > 0).then_some((shape, count))
    })
}

/// Which of `exercises` a submission is for, when the command line does not say: all of them for a whole workspace, otherwise the
/// one it has most modules of. A usage error if it is for none.
pub fn exercises_in<'a>(
    folder: &Path,
    exercises: &'a [Exercise],
) -> anyhow::Result<Vec<&'a Exercise>> {
    let located: Vec<_> = exercises
        .iter()
        .filter_map(|exercise| {
            locate(folder, exercise).map(|(shape, count)| (exercise, shape, count))
        })
        .collect();
    if located
        .iter()
        .any(|(_, shape, _)| *shape == Shape::Workspace)
    {
        return Ok(exercises.iter().collect());
    }
    // Of two with the same count the first one: modules of the same name exist in several exercises.
    located
        .into_iter()
        .rev()
        .max_by_key(|(_, _, count)| *count)
        .map(|(exercise, _, _)| vec![exercise])
        .ok_or_else(|| nothing_found(folder, &exercises.iter().collect::<Vec<_>>()))
}

/// Reads the modules of the exercise from a submission's folder. A usage error if there are none.
pub fn read(folder: &Path, exercise: &Exercise) -> anyhow::Result<Files> {
    let Some((shape, _)) = locate(folder, exercise) else {
        return Err(nothing_found(folder, &[exercise]));
    };
    let base = shape.base(folder, exercise);
    let mut files = Files::default();
    for module in &exercise.manifest.modules {
        let name = format!("{module}.rs");
        take_file(&base.join(&name), name, &mut files)?;
        take_folder(&base.join(module), module, 1, &mut files)?;
    }
    Ok(files)
}

fn nothing_found(folder: &Path, exercises: &[&Exercise]) -> anyhow::Error {
    let mut lines = vec![format!(
        "found no module of {} in {}. Looked for these:",
        exercises
            .iter()
            .map(|exercise| exercise.name())
            .collect::<Vec<_>>()
            .join(", "),
        folder.display()
    )];
    for exercise in exercises {
        let modules: Vec<_> = exercise
            .manifest
            .modules
            .iter()
            .map(|module| format!("{module}.rs"))
            .collect();
        lines.push(format!("  {}", modules.join(", ")));
        for shape in Shape::ALL {
            lines.push(format!("    in {}", shape.base(folder, exercise).display()));
        }
    }
    lines.push("Give the folder of a workspace, of an exercise, or of its modules.".to_string());
    Usage(lines.join("\n")).into()
}

/// Whether a part of `path` below `folder` is a symbolic link. `folder` itself may be one: whoever grades has named it.
fn has_link_below(folder: &Path, path: &Path) -> bool {
    path.ancestors()
        .take_while(|part| *part != folder)
        .any(Path::is_symlink)
}

fn take_file(path: &Path, name: String, files: &mut Files) -> anyhow::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if metadata.is_symlink() {
        files
            .notes
            .push(format!("{name} is a symbolic link and was not taken"));
        return Ok(());
    }
    if !metadata.is_file() {
        files
            .notes
            .push(format!("{name} is not a regular file and was not taken"));
        return Ok(());
    }
    if files.files.len() >= MAX_FILES {
        files
            .notes
            .push(format!("{name} was not taken: more than {MAX_FILES} files"));
        return Ok(());
    }
    // What was looked at may have been exchanged since: a link is refused by the system, a pipe does not block.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .with_context(|| format!("reading the candidate's file {}", path.display()))?;
    let mut contents = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut contents)
        .with_context(|| format!("reading the candidate's file {}", path.display()))?;
    if contents.len() as u64 > MAX_FILE {
        files
            .notes
            .push(format!("{name} is larger than 1 MiB and was not taken"));
        return Ok(());
    }
    files.files.insert(name, contents);
    Ok(())
}

fn take_folder(path: &Path, name: &str, depth: usize, files: &mut Files) -> anyhow::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if metadata.is_symlink() {
        files
            .notes
            .push(format!("{name}/ is a symbolic link and was not taken"));
        return Ok(());
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    if depth > MAX_DEPTH {
        files
            .notes
            .push(format!("{name}/ is nested too deep and was not taken"));
        return Ok(());
    }
    let what = || format!("listing the candidate's folder {}", path.display());
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(path).with_context(what)? {
        // A name that is not UTF-8 cannot be a module's.
        if let Ok(name) = entry.with_context(what)?.file_name().into_string() {
            names.insert(name);
        }
    }
    for inner in names {
        let (path, name) = (path.join(&inner), format!("{name}/{inner}"));
        if inner.ends_with(".rs") {
            take_file(&path, name, files)?;
        } else {
            take_folder(&path, &name, depth + 1, files)?;
        }
    }
    Ok(())
}

/// Makes `.workbook/candidate/NN-name/` hold exactly the candidate's modules; a module it does not bring is the generated stub.
///
/// Returns notes for the report. Nothing to do for the working copy and the reference, which are read in place. The caller holds
/// the build lock.
pub fn lay_out(
    ctx: &Context,
    candidate: &Candidate,
    exercise: &Exercise,
) -> anyhow::Result<Vec<String>> {
    let Files {
        mut files,
        mut notes,
    } = match candidate {
        Candidate::WorkingCopy | Candidate::Reference => return Ok(Vec::new()),
        Candidate::Directory(folder) => match read(folder, exercise) {
            Ok(files) => files,
            // Part of a whole workspace: an exercise that was not handed in is graded as untouched.
            Err(error) if !folder.join("exercises").is_dir() => return Err(error),
            Err(_) => Files::default(),
        },
        Candidate::Modules { files, .. } => Files {
            files: files
                .iter()
                .map(|(name, text)| (name.clone(), text.clone().into_bytes()))
                .collect(),
            notes: Vec::new(),
        },
    };
    nest_like_the_working_copy(&mut files);
    let missing: Vec<String> = exercise
        .manifest
        .modules
        .iter()
        .map(|module| format!("{module}.rs"))
        .filter(|name| !files.contains_key(name))
        .collect();
    if !missing.is_empty() {
        let mut stubs = crate::stubs::generate(ctx, exercise)?.files;
        let verb = if missing.len() == 1 { "is" } else { "are" };
        notes.push(format!(
            "{} {verb} missing and graded as not written",
            missing.join(", ")
        ));
        for name in missing {
            let stub = stubs.remove(&name).unwrap_or_default();
            files.insert(name, stub.into_bytes());
        }
    }
    let target = ctx.state().join("candidate").join(&exercise.folder);
    synchronise(&target, &files)
        .with_context(|| format!("laying the candidate out in {}", target.display()))?;
    Ok(notes)
}

/// The crate reads a candidate's modules by `#[path]`, and then rustc looks for `mod part;` of `NAME.rs` beside that file, not in
/// `NAME/` as in the working copy. So what lies in `NAME/` is put beside it too: code that compiles in one place does in the other.
fn nest_like_the_working_copy(files: &mut BTreeMap<String, Vec<u8>>) {
    let nested: Vec<(String, String, Vec<u8>)> = files
        .iter()
        .filter_map(|(path, text)| {
            let (module, inner) = path.split_once('/')?;
            Some((module.to_owned(), inner.to_owned(), text.clone()))
        })
        .collect();
    for (module, inner, text) in nested {
        let beside = match inner.as_str() {
            "mod.rs" => format!("{module}.rs"),
            _ => inner,
        };
        files.entry(beside).or_insert(text);
    }
}

/// Makes `folder` hold exactly `files`. What is already right is not touched, so that cargo sees no change and builds nothing.
fn synchronise(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    remove_others(folder, "", files)?;
    for (name, contents) in files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|old| old == *contents) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, contents)?;
    }
    Ok(())
}

fn remove_others(
    folder: &Path,
    prefix: &str,
    files: &BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            let inside = format!("{name}/");
            if files.keys().any(|file| file.starts_with(&inside)) {
                remove_others(&entry.path(), &inside, files)?;
            } else {
                std::fs::remove_dir_all(entry.path())?;
            }
        } else if !files.contains_key(&name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{self, Exit};
    use crate::manifest::tests::sample;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(files: &Files) -> Vec<&str> {
        files.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_candidate_is_named_as_a_shell_takes_it() {
        let words = |folder: &str| Candidate::Directory(folder.into()).arguments();
        assert_eq!(words("submissions/ada"), "--candidate submissions/ada");
        assert_eq!(words("O'Hara $x"), r"--candidate 'O'\''Hara $x'");
        assert_eq!(Candidate::Reference.arguments(), "--solution");
        assert_eq!(Candidate::WorkingCopy.arguments(), "");
    }

    #[test]
    fn every_shape_of_a_submission_is_found_and_only_the_learners_modules_are_taken() {
        for prefix in ["", "src/", "exercises/01-stream-queue/src/"] {
            let folder = folder_with(&[
                (&format!("{prefix}producer.rs"), "p"),
                (&format!("{prefix}consumer/parts.rs"), "c"),
                (&format!("{prefix}consumer/notes.txt"), "n"),
                (&format!("{prefix}lib.rs"), "evil"),
                (&format!("{prefix}build.rs"), "evil"),
            ]);
            let files = read(folder.path(), &sample()).unwrap();
            assert_eq!(
                names(&files),
                ["consumer/parts.rs", "producer.rs"],
                "{prefix}"
            );
        }
    }

    #[test]
    fn parts_of_a_module_lie_where_rustc_looks_for_them() {
        let names = [
            "worker/mod.rs",
            "worker/held.rs",
            "worker/held/list.rs",
            "trim.rs",
        ];
        let mut files = names
            .map(|name| (name.to_owned(), name.as_bytes().to_vec()))
            .into();
        nest_like_the_working_copy(&mut files);
        let expected = ["held.rs", "held/list.rs", "trim.rs", "worker.rs"];
        assert!(
            expected.iter().all(|name| files.contains_key(*name)),
            "{files:?}"
        );
        assert_eq!(files["worker.rs"], b"worker/mod.rs");
        assert_eq!(
            files.len(),
            7,
            "the parts stay in their folder as well: {files:?}"
        );
    }

    #[test]
    fn a_folder_without_modules_is_a_usage_error_that_says_what_was_looked_for() {
        let folder = folder_with(&[("main.rs", "")]);
        let error = read(folder.path(), &sample()).unwrap_err();
        assert_eq!(exit::of_error(&error), Exit::Usage);
        assert!(
            error.to_string().contains("producer.rs, consumer.rs"),
            "{error}"
        );
        assert!(exercises_in(folder.path(), &[sample()]).is_err());
    }

    #[test]
    fn links_pipes_and_huge_files_are_not_taken() {
        let folder = folder_with(&[("secret", "s"), ("consumer.rs", "c")]);
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("secret"), at("producer.rs")).unwrap();
        std::os::unix::fs::symlink("/etc", at("producer")).unwrap();
        std::fs::create_dir(at("consumer")).unwrap();
        nix::unistd::mkfifo(&at("consumer/pipe.rs"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("consumer/huge.rs"), vec![b' '; MAX_FILE as usize + 1]).unwrap();
        let files = read(folder.path(), &sample()).unwrap();
        assert_eq!(names(&files), ["consumer.rs"]);
        assert_eq!(files.notes.len(), 4, "{:?}", files.notes);
    }

    #[test]
    fn a_linked_source_folder_is_not_followed() {
        let real = folder_with(&[("producer.rs", "p")]);
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(real.path(), folder.path().join("src")).unwrap();
        assert!(read(folder.path(), &sample()).is_err());
    }

    #[test]
    fn what_is_already_laid_out_keeps_its_time_and_the_rest_is_removed() {
        let folder = folder_with(&[("producer.rs", "p"), ("old.rs", ""), ("old/x.rs", "")]);
        let time = |name: &str| {
            let metadata = folder.path().join(name).metadata().unwrap();
            metadata.modified().unwrap()
        };
        let before = time("producer.rs");
        let files = BTreeMap::from([
            ("producer.rs".to_string(), b"p".to_vec()),
            ("parts/deep.rs".to_string(), b"d".to_vec()),
        ]);
        synchronise(folder.path(), &files).unwrap();
        assert_eq!(time("producer.rs"), before);
        assert!(folder.path().join("parts/deep.rs").is_file());
        assert!(!folder.path().join("old.rs").exists() && !folder.path().join("old").exists());
    }
}
