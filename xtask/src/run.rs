//! `cargo xtask run`.

use crate::context::Context;
use crate::exit::Exit;

/// What `run` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask run`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask run` is not written yet")
}
