//! `cargo xtask brokers`.

use crate::context::Context;
use crate::exit::Exit;

/// What `brokers` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask brokers`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask brokers` is not written yet")
}
