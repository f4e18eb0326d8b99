//! `cargo xtask diff`.

use crate::context::Context;
use crate::exit::Exit;

/// What `diff` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask diff`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask diff` is not written yet")
}
