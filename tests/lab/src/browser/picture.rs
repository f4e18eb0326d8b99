//! Where pictures go.

use std::path::{Path, PathBuf};

/// The variable that names the directory in which pictures are kept. Without it they go with the check.
pub(crate) const PICTURES: &str = "WORKBOOK_PICTURES";

/// Where a picture called `name` is written. An absolute path stays as it is.
pub(super) fn place_for(name: &Path) -> PathBuf {
    // The judge has made it absolute: a check runs in a directory of its own.
    let directory = std::env::var_os(PICTURES).filter(|directory| !directory.is_empty());
    directory
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(name)
}
