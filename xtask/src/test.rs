//! `cargo xtask test`.

use crate::context::Context;
use crate::exit::Exit;

/// What `test` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask test`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask test` is not written yet")
}
