//! `cargo xtask stubs`.

use crate::context::Context;
use crate::exit::Exit;

/// What `stubs` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask stubs`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask stubs` is not written yet")
}
