//! What every command knows about where it runs: the workspace, the terminal, the exercises.

use std::cell::OnceCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::Usage;
use crate::manifest::{self, Exercise};

/// What every command is given.
pub struct Context {
    /// The folder of the workspace's `Cargo.toml`, absolute.
    pub root: PathBuf,
    /// What standard output can show.
    pub terminal: Terminal,
    /// The environment variable `CI` is set: never ask, install what is missing.
    pub ci: bool,
    exercises: OnceCell<Vec<Exercise>>,
    runtime: OnceCell<tokio::runtime::Runtime>,
}

/// What the user's terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Standard error is a terminal: progress may move.
    pub stderr: bool,
    /// Standard input and standard error are terminals: a question can be asked.
    pub can_ask: bool,
    /// Standard output may be coloured (a terminal, and `NO_COLOR` is not set).
    pub colour: bool,
    /// Columns to use, at most 100.
    pub width: usize,
}

impl Terminal {
    fn detect() -> Self {
        let stdout = std::io::stdout().is_terminal();
        let stderr = std::io::stderr().is_terminal();
        // https://no-color.org: set and not empty switches colour off. A "dumb" terminal shows escapes as text.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(100usize);
        Terminal {
            stderr: stderr && !refused,
            can_ask: std::io::stdin().is_terminal() && stderr,
            colour: stdout && !refused,
            width: columns.clamp(60, 100),
        }
    }
}

impl Context {
    /// Finds the workspace from the current folder upwards (so that a copy of the workspace grades itself), else from where cargo
    /// says this runner's package is.
    pub fn detect() -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("finding out the current folder")?;
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = [Some(here.clone()), package]
            .into_iter()
            .flatten()
            .find_map(|start| workspace_above(&start))
            .ok_or_else(|| {
                Usage(format!(
                    "looked for the workbook from {} upwards and found no folder with Cargo.toml, exercises/ and xtask/.\n\
                     Change into the workbook's folder and run `cargo xtask` there.",
                    here.display()
                ))
            })?;
        Ok(Self::at(root))
    }

    /// A context for the workspace at `root`.
    pub fn at(root: PathBuf) -> Self {
        Context {
            root,
            terminal: Terminal::detect(),
            ci: std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false"),
            exercises: OnceCell::new(),
            runtime: OnceCell::new(),
        }
    }

    /// All exercises, in order of their numbers. Read and validated once.
    pub fn exercises(&self) -> anyhow::Result<&[Exercise]> {
        if self.exercises.get().is_none() {
            let loaded = manifest::load_all(&self.root)?;
            // Nobody else can have set it: a context is never shared between threads.
            let _ = self.exercises.set(loaded);
        }
        Ok(self.exercises.get().map(Vec::as_slice).unwrap_or_default())
    }

    /// The exercise that `text` names: `1`, `01`, `stream-queue` or `01-stream-queue`.
    pub fn exercise(&self, text: &str) -> anyhow::Result<&Exercise> {
        manifest::find(self.exercises()?, text)
    }

    /// `.workbook/`: everything the runner remembers or writes while it works. May not exist yet.
    pub fn state(&self) -> PathBuf {
        self.root.join(".workbook")
    }

    /// `path` as the user would type it: relative to the workspace where it is inside.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// The one runtime of this process, started when first needed.
    pub fn runtime(&self) -> anyhow::Result<&tokio::runtime::Runtime> {
        if self.runtime.get().is_none() {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("starting the runner's threads")?;
            let _ = self.runtime.set(runtime);
        }
        self.runtime.get().context("starting the runner's threads")
    }
}

fn workspace_above(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|folder| {
            folder.join("Cargo.toml").is_file()
                && folder.join("exercises").is_dir()
                && folder.join("xtask").is_dir()
        })
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_found_from_a_folder_deep_inside() {
        let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let root = workspace_above(&inside).unwrap();
        assert_eq!(root.join("xtask"), Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}
