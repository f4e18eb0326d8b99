//! `cargo xtask atlas`.

pub mod page;
mod patch;

use crate::context::Context;
use crate::exit::Exit;

/// What `atlas` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask atlas`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask atlas` is not written yet")
}
