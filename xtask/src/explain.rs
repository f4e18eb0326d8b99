//! `cargo xtask explain`.

use crate::context::Context;
use crate::exit::Exit;

/// What `explain` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask explain`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask explain` is not written yet")
}
