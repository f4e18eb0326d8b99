//! `cargo xtask setup`: installs what is missing, the way this system installs things.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::exit::{Exit, Infrastructure, Usage};
use crate::images::{self, Engine};
use crate::manifest::Broker;
use crate::system::{Caller, CommandLine, Manager, Tool, output};

/// What `setup` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Install the brokers' servers also where containers would do
    #[arg(long)]
    native: bool,
}

/// Runs `cargo xtask setup`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let mut tools = Vec::new();
    for broker in brokers(ctx)? {
        let server = Tool::Server(broker);
        let is_supplied = !args.native && (is_given(broker) || is_contained(broker));
        if server.find().is_none() && !is_supplied {
            tools.push(server);
        }
    }
    let mut installed = install(ctx, &tools, args.yes)?;
    // After the brokers: where a browser cannot be had, they are there all the same.
    if needs_browser(ctx)? {
        installed |= install(ctx, &BROWSER, args.yes)?;
    }
    if installed {
        println!("Everything is installed.");
    } else {
        println!("Nothing is missing.");
    }
    Ok(Exit::Passed)
}

/// Installs the brokers that no rung of the ladder supplies, after asking where that is due.
///
/// True if something was installed and it is worth another try.
///
/// # Errors
/// [`Infrastructure`] with the commands to type, if nobody is there to ask or the answer is no.
pub fn offer(ctx: &Context, missing: &[Broker], yes: bool) -> Result<bool> {
    let tools: Vec<_> = missing.iter().map(|broker| Tool::Server(*broker)).collect();
    install(ctx, &tools, yes)
}

/// What the checks that look at a page need.
pub const BROWSER: [Tool; 2] = [Tool::Browser, Tool::WebDriver];

/// Whether an exercise has such checks.
pub fn needs_browser(ctx: &Context) -> Result<bool> {
    let exercises = ctx.exercises()?;
    Ok(exercises.iter().any(|exercise| exercise.manifest.browser))
}

/// Installs the browser if it is missing and somebody agrees, or `yes` or `CI` does for everybody.
///
/// Without it only the checks that ask for it cannot be judged, and they say what to do. So nothing that goes wrong here is an
/// error, and an answer that is no is remembered: nobody is asked twice.
pub fn offer_browser(ctx: &Context, yes: bool) {
    let refusal = ctx.state().join("without-browser");
    let may_install = yes || ctx.ci || (ctx.terminal.can_ask && !refusal.exists());
    if !may_install || BROWSER.iter().all(|tool| tool.find().is_some()) {
        return;
    }
    eprintln!("Some checks look at a page with a browser, and there is none.");
    if let Err(error) = install(ctx, &BROWSER, yes) {
        eprintln!(
            "{error:#}\nGoing on without: those checks cannot be judged, and nothing is taken from you."
        );
        // Only to spare a question; if it cannot be written, it is asked again.
        let _ = std::fs::create_dir_all(ctx.state()).and_then(|()| std::fs::write(&refusal, ""));
    }
}

/// Installs those of `tools` that are not there. True if there was something to install.
///
/// # Errors
/// [`Infrastructure`] with the commands to type: nobody to ask, an answer that is no, no package, or an installation that fails.
pub fn install(ctx: &Context, tools: &[Tool], yes: bool) -> Result<bool> {
    let missing: Vec<_> = tools
        .iter()
        .copied()
        .filter(|tool| tool.find().is_none())
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let manager = Manager::detect().ok_or_else(|| {
        Infrastructure(format!(
            "installing {}: this system has none of apt, dnf, pacman and brew. Install it by hand, so that it is on PATH.",
            names(&missing)
        ))
    })?;
    let mut packages: Vec<_> = missing
        .iter()
        .filter(|tool| !BROWSER.contains(tool) || lab::browser::is_packaged())
        .filter_map(|tool| manager.package(*tool))
        .collect();
    let are_known = packages.len() == missing.len();
    // One package may bring several.
    packages.dedup();
    if !are_known {
        return Err(Infrastructure(format!(
            "installing {}: this system's packages do not have it. Install it by hand, so that it is on PATH.",
            names(&missing)
        ))
        .into());
    }
    let commands = manager.install(&packages, Caller::of_this_process(ctx.terminal.can_ask));
    if !(yes || ctx.ci) {
        agree(ctx, &packages, &commands)?;
    }
    for command in &commands {
        run_visibly(command)?;
    }
    match missing.iter().find(|tool| tool.find().is_none()) {
        None => Ok(true),
        Some(tool) => Err(Infrastructure(format!(
            "the packages {} are installed, but {} is still not on PATH",
            packages.join(", "),
            name(*tool)
        ))
        .into()),
    }
}

/// Adds components of the Rust toolchain that are not there, such as `clippy`.
///
/// # Errors
/// [`Infrastructure`] if one is missing and rustup cannot add it.
pub fn components(components: &[&str]) -> Result<()> {
    for component in components {
        // Their programs are named alike: `cargo fmt`, `cargo clippy`.
        let verb = component.trim_start_matches("rust");
        if output("cargo", &[verb, "--version"]).is_none() {
            let words = ["rustup", "component", "add", component];
            run_visibly(&CommandLine(words.map(str::to_owned).to_vec()))?;
        }
    }
    Ok(())
}

/// The brokers that the exercises need, each once.
pub fn brokers(ctx: &Context) -> Result<Vec<Broker>> {
    let mut found = Vec::new();
    for broker in ctx
        .exercises()?
        .iter()
        .flat_map(|exercise| &exercise.manifest.brokers)
    {
        if !found.contains(broker) {
            found.push(*broker);
        }
    }
    Ok(found)
}

/// The broker that a command line names.
///
/// # Errors
/// A usage error that lists the names.
pub fn broker_named(text: &str) -> Result<Broker> {
    match text {
        "redis" => Ok(Broker::Redis),
        "rabbitmq" | "amqp" => Ok(Broker::Amqp),
        _ => Err(Usage(format!("there is no broker `{text}`: redis or rabbitmq")).into()),
    }
}

/// What a command line calls a broker.
pub fn name_of(broker: Broker) -> &'static str {
    match broker {
        Broker::Redis => "redis",
        Broker::Amqp => "rabbitmq",
    }
}

/// Whether the environment names a broker to use.
pub fn is_given(broker: Broker) -> bool {
    std::env::var_os(url_variable(broker)).is_some_and(|url| !url.is_empty())
}

/// The environment variable that names a broker to use.
pub fn url_variable(broker: Broker) -> &'static str {
    match broker {
        Broker::Redis => "REDIS_URL",
        Broker::Amqp => "AMQP_URL",
    }
}

/// Whether a container engine answers and has the broker's image.
fn is_contained(broker: Broker) -> bool {
    matches!(images::engine(), Engine::Ready(_)) && images::has_image(broker)
}

/// Asks once.
fn agree(ctx: &Context, packages: &[&str], commands: &[CommandLine]) -> Result<()> {
    let list: Vec<_> = commands
        .iter()
        .map(|command| format!("  {command}"))
        .collect();
    let list = list.join("\n");
    let refused = |why: &str| {
        Err(Infrastructure(format!(
            "{} missing, and {why}. To install: cargo xtask setup --yes, or\n{list}",
            packages.join(", ") + if packages.len() == 1 { " is" } else { " are" }
        ))
        .into())
    };
    if !ctx.terminal.can_ask {
        return refused("nobody is there to ask");
    }
    eprint!(
        "Missing: {}. Install now?\n{list}\n[Y/n] ",
        packages.join(", ")
    );
    std::io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    let read = std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("reading the answer")?;
    match answer.trim().to_lowercase().as_str() {
        // The end of the input is nobody's yes.
        "" if read == 0 => refused("there was no answer"),
        "" | "y" | "yes" => Ok(()),
        _ => refused("it was not to be installed"),
    }
}

/// Runs a command with its output on standard error, since standard output carries results only.
fn run_visibly(line: &CommandLine) -> Result<()> {
    eprintln!("$ {line}");
    let status = line
        .command()
        .stdin(std::process::Stdio::inherit())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("running {line}"))?;
    if !status.success() {
        return Err(Infrastructure(format!("`{line}` ended with {status}, see above")).into());
    }
    Ok(())
}

fn name(tool: Tool) -> &'static str {
    match tool {
        Tool::Server(Broker::Redis) => "redis-server",
        Tool::Server(Broker::Amqp) => "rabbitmq-server",
        Tool::Browser => "chromium",
        Tool::WebDriver => "chromedriver",
        Tool::Mmdebstrap => "mmdebstrap",
        Tool::Linker => "a C compiler (cc)",
        Tool::Git => "git",
    }
}

fn names(tools: &[Tool]) -> String {
    tools
        .iter()
        .map(|tool| name(*tool))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_as_in_the_manifest_or_as_its_product() {
        for broker in [Broker::Redis, Broker::Amqp] {
            assert_eq!(broker_named(name_of(broker)).expect("known"), broker);
        }
        assert_eq!(broker_named("amqp").expect("known"), Broker::Amqp);
        assert!(broker_named("kafka").is_err());
    }
}
