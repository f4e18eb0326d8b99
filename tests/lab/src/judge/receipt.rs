//! What a check's process leaves behind as its very last act.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The content of the receipt's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// The token of the ticket.
    pub(super) token: String,
    /// `None` if the check is content.
    pub(super) objection: Option<Objection>,
    /// What the candidate was held to.
    pub(super) promise: Option<String>,
}

/// Why a check is not content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Objection {
    pub(super) infrastructure: bool,
    pub(super) observed: String,
    pub(super) code: Option<String>,
    pub(super) history: Option<String>,
    pub(super) picture: Option<String>,
    /// The stage whose `todo!` was reached, and what that says is to be done.
    pub(super) todo: Option<(u32, String)>,
}

impl Receipt {
    /// Writes it in one step: the file is there as a whole or not at all.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let unfinished = file.with_extension("unfinished");
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(unfinished, file)
    }

    /// Reads it; `None` unless it is there, whole, and repeats `token`.
    pub(super) fn read(file: &Path, token: &str) -> Option<Self> {
        let receipt: Receipt = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        (receipt.token == token).then_some(receipt)
    }
}
