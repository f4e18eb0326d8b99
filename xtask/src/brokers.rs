//! `cargo xtask brokers`: brokers that stay warm between grades.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use lab::brokers::warm::{self, Warm};
use lab::brokers::{Keeper, Wanted};

use crate::context::Context;
use crate::exit::{Exit, Infrastructure};
use crate::manifest::Broker;
use crate::setup;

/// What `brokers` takes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start them; they stay until `down`, and every grade uses them
    Up {
        /// Which; without it those that the exercises need
        broker: Vec<Name>,
    },
    /// Stop them, with everything they started
    Down,
    /// Show those that answer; exits with 1 if there are none
    Status,
    /// Start them the way a grade does, and stop them again
    #[command(hide = true)]
    Try { broker: Vec<Name> },
}

/// A broker as the command line names it.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Redis,
    #[value(alias = "amqp")]
    Rabbitmq,
}

/// Runs `cargo xtask brokers`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    match args.action {
        Action::Up { broker } => up(ctx, &named(ctx, &broker)?),
        Action::Down => down(),
        Action::Status => status(ctx),
        Action::Try { broker } => attempt(ctx, &named(ctx, &broker)?),
    }
}

fn named(ctx: &Context, names: &[Name]) -> Result<Vec<Broker>> {
    if names.is_empty() {
        return setup::brokers(ctx);
    }
    let brokers = names.iter().map(|name| match name {
        Name::Redis => Broker::Redis,
        Name::Rabbitmq => Broker::Amqp,
    });
    Ok(brokers.collect())
}

/// What to ask the lab for.
pub fn wanted(brokers: &[Broker]) -> Wanted {
    Wanted {
        redis: brokers.contains(&Broker::Redis),
        amqp: brokers.contains(&Broker::Amqp),
        browser: false,
    }
}

/// Starts brokers for the time that the keeper lives; offers to install them where none can be had.
///
/// # Errors
/// [`Infrastructure`] with all that was tried.
pub fn keep(ctx: &Context, brokers: &[Broker]) -> Result<Keeper> {
    let runtime = ctx.runtime()?;
    let start = || runtime.block_on(Keeper::start(wanted(brokers)));
    match start() {
        Ok(keeper) => Ok(keeper),
        Err(first) => {
            if !setup::offer(ctx, brokers, false)? {
                return Err(Infrastructure(first.to_string()).into());
            }
            start().map_err(|error| Infrastructure(error.to_string()).into())
        }
    }
}

fn up(ctx: &Context, brokers: &[Broker]) -> Result<Exit> {
    let runtime = ctx.runtime()?;
    let start = || runtime.block_on(warm::up(wanted(brokers)));
    let warm = match start() {
        Ok(warm) => warm,
        Err(first) if !setup::offer(ctx, brokers, false)? => {
            return Err(Infrastructure(first.to_string()).into());
        }
        Err(_) => start().map_err(|error| Infrastructure(error.to_string()))?,
    };
    show(&warm);
    println!("They stay until `cargo xtask brokers down`.");
    Ok(Exit::Passed)
}

fn down() -> Result<Exit> {
    if warm::down()? {
        println!("The brokers are down.");
    } else {
        println!("No brokers were up.");
    }
    Ok(Exit::Passed)
}

fn status(ctx: &Context) -> Result<Exit> {
    match ctx.runtime()?.block_on(warm::status()) {
        Some(warm) => {
            show(&warm);
            Ok(Exit::Passed)
        }
        None => {
            println!("No brokers are up. Start them: cargo xtask brokers up");
            Ok(Exit::Failed)
        }
    }
}

fn show(warm: &Warm) {
    for (name, served) in warm.all() {
        println!("{name} answers at {} ({})", served.url, served.how);
    }
    println!("Kept by process {}.", warm.pid);
}

fn attempt(ctx: &Context, brokers: &[Broker]) -> Result<Exit> {
    let keeper = ctx
        .runtime()?
        .block_on(Keeper::start(wanted(brokers)))
        .map_err(|error| Infrastructure(error.to_string()))?;
    for (name, served) in keeper.how() {
        println!("{name}: {}", served.how);
    }
    Ok(Exit::Passed)
}
