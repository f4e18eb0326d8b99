//! `cargo xtask reset`.

use crate::context::Context;
use crate::exit::Exit;

/// What `reset` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask reset`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask reset` is not written yet")
}
