//! `cargo xtask doctor`.

use crate::context::Context;
use crate::exit::Exit;

/// What `doctor` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask doctor`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask doctor` is not written yet")
}
