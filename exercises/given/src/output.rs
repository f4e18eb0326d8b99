//! Standard output, which carries results and nothing else.

use std::io;

use anyhow::Result;
use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Stdout};

/// Writes whole lines, and hands each on at once.
pub struct Output(Stdout);

impl Output {
    /// Ours.
    #[expect(
        clippy::new_without_default,
        reason = "it is the process's output, not an empty one"
    )]
    pub fn new() -> Self {
        Output(tokio::io::stdout())
    }

    /// Writes a value as one line of JSON.
    pub async fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value)?;
        Ok(self.text(&format!("{line}\n")).await?)
    }

    /// Writes text that ends with a line's end.
    pub async fn text(&mut self, lines: &str) -> io::Result<()> {
        self.0.write_all(lines.as_bytes()).await?;
        self.0.flush().await
    }
}
