//! `cargo xtask images`: the pinned broker images, built from the distribution's packages.
//!
//! For machines whose container engine reaches no registry. Where it reaches one, the official images of the same names do.

mod recipe;
mod sources;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::exit::{Exit, Infrastructure};
use crate::manifest::Broker;
use crate::setup;
use crate::system::{self, Tool};
use recipe::Recipe;

/// The release whose packages have the pinned versions.
const CODENAME: &str = "bookworm";

/// What `images` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Only this broker's image: redis or rabbitmq
    broker: Option<String>,
    /// Build also an image that is there already
    #[arg(long)]
    force: bool,
}

/// Runs `cargo xtask images`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let brokers = match args.broker.as_deref() {
        None => setup::brokers(ctx)?,
        Some(name) => vec![setup::broker_named(name)?],
    };
    for broker in brokers {
        ensure(ctx, broker, args.force)?;
    }
    Ok(Exit::Passed)
}

/// Builds a broker's image unless it is there, and starts it once.
///
/// # Errors
/// [`Infrastructure`] if this machine cannot build it, with what to do instead.
pub fn ensure(ctx: &Context, broker: Broker, force: bool) -> Result<()> {
    let recipe = recipe::of(broker);
    if let Engine::Missing(why) = engine() {
        return Err(Infrastructure(format!(
            "building {}: no container engine answers ({why}).\n\
             Start one (on Debian: apt-get install -y docker.io), or work without containers: cargo xtask setup",
            recipe.image()
        ))
        .into());
    }
    if !force && has_image(broker) {
        println!("{} is there already", recipe.image());
        return Ok(());
    }
    if let Some(other) = other_system() {
        return pull(&recipe, &other);
    }
    setup::install(ctx, &[Tool::Mmdebstrap], false)?;
    build(&recipe)?;
    check_version(&recipe)?;
    try_once(broker).with_context(|| {
        format!(
            "{} was built but does not start; to build it again: cargo xtask images --force",
            recipe.image()
        )
    })?;
    println!("{} is built, and starts", recipe.image());
    Ok(())
}

/// What building the missing images of these brokers takes: nothing where they are there, are pulled, or have no engine to run them.
pub fn tools(brokers: &[Broker]) -> Vec<Tool> {
    let is_built = matches!(engine(), Engine::Ready(_))
        && other_system().is_none()
        && !brokers.iter().all(|broker| has_image(*broker));
    if is_built {
        vec![Tool::Mmdebstrap]
    } else {
        Vec::new()
    }
}

/// Whether a container engine answers.
pub enum Engine {
    /// It does; its version.
    Ready(String),
    /// None does, and why.
    Missing(String),
}

/// Asks the container engine for its version.
pub fn engine() -> Engine {
    let output = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Engine::Missing(format!("running docker: {error}")),
        Ok(output) if output.status.success() => {
            Engine::Ready(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            Engine::Missing(last.unwrap_or("docker says nothing").trim().to_owned())
        }
    }
}

/// The name of a broker's image.
pub fn image(broker: Broker) -> String {
    recipe::of(broker).image()
}

/// Whether the engine has a broker's image.
pub fn has_image(broker: Broker) -> bool {
    system::output(
        "docker",
        &["image", "inspect", "--format", "{{.Id}}", &image(broker)],
    )
    .is_some()
}

/// The name of this system, unless its packages are the pinned versions.
fn other_system() -> Option<String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"').to_owned())
    };
    let is_pinned = value("ID=").as_deref() == Some("debian")
        && value("VERSION_CODENAME=").as_deref() == Some(CODENAME);
    (!is_pinned).then(|| value("PRETTY_NAME=").unwrap_or_else(|| std::env::consts::OS.to_owned()))
}

/// Where the packages have other versions, the official image is the only one that is right.
fn pull(recipe: &Recipe, system: &str) -> Result<()> {
    let image = recipe.image();
    println!("pulling {image}: the packages of {system} have another version");
    let status = Command::new("docker")
        .args(["pull", &image])
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("pulling {image}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Infrastructure(format!(
        "pulling {image}: docker ended with {status}, see above.\n\
         It can be built without a registry on Debian 12 only. Without containers: cargo xtask setup --native"
    ))
    .into())
}

fn build(recipe: &Recipe) -> Result<()> {
    let folder = tempfile::tempdir().context("creating a temporary folder for the image")?;
    let script = folder.path().join("docker-entrypoint.sh");
    std::fs::write(&script, recipe.entry_point)
        .with_context(|| format!("writing {}", script.display()))?;
    let tar = folder.path().join("image.tar");
    println!(
        "building {} from {}'s package {}",
        recipe.image(),
        CODENAME,
        recipe.package
    );
    let mut unpack = Command::new("mmdebstrap");
    unpack
        .args(["--variant=essential", "--quiet"])
        .arg(format!("--include={}", recipe.package))
        .arg(format!(
            "--customize-hook=copy-in {} /usr/local/bin",
            script.display()
        ))
        .arg("--customize-hook=chmod 755 \"$1/usr/local/bin/docker-entrypoint.sh\"")
        .arg(format!("--customize-hook=mkdir -p \"$1{}\"", recipe.data))
        .arg(CODENAME)
        .arg(&tar)
        .args(sources::of_release(Path::new("/etc/apt"), CODENAME)?);
    finish(&mut unpack, "unpacking the packages with mmdebstrap")?;
    let mut import = Command::new("docker");
    import.arg("import");
    for change in recipe.changes() {
        import.args(["--change", &change]);
    }
    import.arg(&tar).arg(recipe.image()).stdout(Stdio::null());
    finish(&mut import, "importing the image with docker")
}

fn finish(command: &mut Command, doing: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| doing.to_owned())?;
    if !status.success() {
        return Err(Infrastructure(format!("{doing}: it ended with {status}, see above")).into());
    }
    Ok(())
}

/// The tag promises a version; an image with another one is worse than none.
fn check_version(recipe: &Recipe) -> Result<()> {
    let query = ["-W", "-f", "${Version}", recipe.package];
    let image = recipe.image();
    let mut args = vec!["run", "--rm", "--entrypoint", "dpkg-query", &image];
    args.extend(query);
    let version = system::output("docker", &args)
        .with_context(|| format!("asking {} for its version", recipe.image()))?;
    if recipe.is_version(&version) {
        return Ok(());
    }
    system::output("docker", &["rmi", &image]);
    bail!(
        "the packages of {CODENAME} hold version {version}, but {} is pinned; the image was removed again",
        recipe.image()
    )
}

/// Starts the image once, the way the lab does it for a grade.
fn try_once(broker: Broker) -> Result<()> {
    let runner = lab::program().context("finding this program")?;
    let output = Command::new(runner)
        .args(["brokers", "try", setup::name_of(broker)])
        .env("WORKBOOK_BROKERS", "docker")
        .env_remove("REDIS_URL")
        .env_remove("AMQP_URL")
        .stdin(Stdio::null())
        .output()
        .context("starting the image")?;
    if !output.status.success() {
        bail!(
            "{}",
            String::from_utf8_lossy(&output.stderr).trim().to_owned()
        );
    }
    Ok(())
}
