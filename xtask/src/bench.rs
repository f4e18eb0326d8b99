//! `cargo xtask bench`.

use crate::context::Context;
use crate::exit::Exit;

/// What `bench` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask bench`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask bench` is not written yet")
}
