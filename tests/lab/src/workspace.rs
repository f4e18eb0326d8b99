//! What the lab knows about where it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

/// The directory with the runner's state, `.workbook` at the root of the workspace.
/// `WORKBOOK_STATE` names another one.
pub fn state_directory() -> PathBuf {
    match std::env::var_os("WORKBOOK_STATE") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
            lab.ancestors().nth(2).unwrap_or(lab).join(".workbook")
        }
    }
}

/// This program's file, as it was called when it started: to start it again, as a keeper for example.
///
/// Asked later, the system may answer "deleted", because cargo has built the program anew meanwhile.
/// The new one at the same place will do. So `main` asks first, by way of
/// [`keep_if_asked`](crate::brokers::keep_if_asked).
///
/// # Errors
/// The system does not tell.
pub fn program() -> io::Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    match PROGRAM.get() {
        Some(program) => Ok(program.clone()),
        None => {
            let program = std::env::current_exe()?;
            Ok(PROGRAM.get_or_init(|| program).clone())
        }
    }
}

/// The factor by which deadlines are stretched on this machine. `WORKBOOK_PATIENCE` sets it;
/// otherwise it is 1, and 2 where fewer than four threads run at once.
pub fn patience() -> f64 {
    let given = std::env::var("WORKBOOK_PATIENCE")
        .ok()
        .and_then(|text| text.parse().ok());
    let given = given.filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    given.unwrap_or_else(|| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        if threads < 4 { 2.0 } else { 1.0 }
    })
}
