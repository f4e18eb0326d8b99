//! One run at a time lays out and builds in a workspace; each run has a folder of its own for what it executes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};

use crate::context::Context;

/// How often a taken lock is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A lock on a file, released when dropped or when the process ends, however it ends.
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the lock under which a candidate is laid out and built, so that two runs never build one another's files.
/// `waiting` is called once if somebody else has it.
pub async fn for_building(ctx: &Context, waiting: impl Fn()) -> anyhow::Result<Lock> {
    let path = ctx.state().join("build.lock");
    let mut said = false;
    loop {
        if let Some(lock) = try_lock(&path)? {
            return Ok(lock);
        }
        if !said {
            waiting();
            said = true;
        }
        // Polled and not waited for in a thread: a thread that waits for a lock cannot be told to stop by Ctrl-C.
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

fn try_lock(path: &Path) -> anyhow::Result<Option<Lock>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating the folder {}", folder.display()))?;
    }
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening the lock {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Lock(lock))),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => {
            Err(std::io::Error::from(errno)).with_context(|| format!("locking {}", path.display()))
        }
    }
}

/// A folder under `.workbook/runs/` for one run's binaries, removed when dropped.
pub struct RunFolder {
    path: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Creates one, and removes those whose run was killed.
    pub fn create(ctx: &Context) -> anyhow::Result<Self> {
        let runs = ctx.state().join("runs");
        std::fs::create_dir_all(&runs)
            .with_context(|| format!("creating the folder {}", runs.display()))?;
        sweep(&runs);
        let path = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&runs)
            .with_context(|| format!("creating a folder in {}", runs.display()))?
            .keep();
        let lock =
            try_lock(&path.join("lock"))?.context("locking a folder that was just created")?;
        Ok(RunFolder { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders whose lock nobody holds. Best effort: what cannot be removed now may be the next time.
fn sweep(runs: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else {
        return;
    };
    for entry in entries.flatten() {
        let lock = entry.path().join("lock");
        // Without a lock file it may have been created a moment ago by another run.
        if lock.is_file() && matches!(try_lock(&lock), Ok(Some(_))) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = try_lock(&path).unwrap();
        assert!(first.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(first);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_runs_folder_goes_with_it_and_those_of_the_dead_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let ctx = Context::at(root.path().to_path_buf());
        let alive = RunFolder::create(&ctx).unwrap();
        let dead = ctx.state().join("runs/run-dead");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::write(dead.join("lock"), "").unwrap();
        let second = RunFolder::create(&ctx).unwrap();
        assert!(alive.path().exists() && !dead.exists());
        let path = second.path().to_path_buf();
        drop(second);
        assert!(!path.exists());
    }
}
