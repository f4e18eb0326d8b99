//! `cargo xtask book`.

use crate::context::Context;
use crate::exit::Exit;

/// What `book` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask book`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask book` is not written yet")
}
