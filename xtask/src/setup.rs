//! `cargo xtask setup`.

use crate::context::Context;
use crate::exit::Exit;
use crate::manifest::Broker;

/// What `setup` takes.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `cargo xtask setup`.
pub fn run(_args: Args, _ctx: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`cargo xtask setup` is not written yet")
}

/// Installs the brokers that no rung of the ladder supplies, after asking where that is due. True if something was installed and
/// it is worth another try.
pub fn offer(_ctx: &Context, _missing: &[Broker], _yes: bool) -> anyhow::Result<bool> {
    Ok(false)
}
