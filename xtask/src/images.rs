//! `cargo xtask images`.

use crate::context::Context;
use crate::exit::Exit;

/// What `images` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask images`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask images` is not written yet")
}
