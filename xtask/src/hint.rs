//! `cargo xtask hint`.

use crate::context::Context;
use crate::exit::Exit;

/// What `hint` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask hint`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask hint` is not written yet")
}
