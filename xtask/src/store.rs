//! Files that the runner keeps under `.workbook/`.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

/// Replaces the file in one step, so that a reader or a killed run never leaves half of it.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let what = || format!("writing {}", path.display());
    let folder = path.parent().with_context(what)?;
    std::fs::create_dir_all(folder).with_context(what)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}
