//! `cargo xtask book`: builds the book.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::exit::{Exit, Infrastructure};
use crate::run;

/// What `book` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Open it in the browser
    #[arg(long)]
    open: bool,
}

/// Runs `cargo xtask book`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let status = run::cargo(ctx, "run", "book", false)
        .status()
        .context("building the book")?;
    if !status.success() {
        return Ok(Exit::Failed);
    }
    let index = ctx.root.join("chapters/book/index.html");
    println!("The book is in {}", ctx.shown(&index));
    if args.open {
        open(&index)?;
    }
    Ok(Exit::Passed)
}

/// Opens a page with whatever this system opens pages with.
fn open(page: &Path) -> Result<()> {
    // The last two are what Windows offers inside WSL.
    let openers = ["open", "xdg-open", "wslview", "explorer.exe"];
    let is_mac = cfg!(target_os = "macos");
    let opener = openers
        .into_iter()
        // Elsewhere `open` is another program.
        .filter(|opener| is_mac || *opener != "open")
        .find_map(|opener| which::which(opener).ok());
    let Some(opener) = opener else {
        return Err(Infrastructure(format!(
            "opening a browser: this system has no xdg-open. Open {} yourself.",
            page.display()
        ))
        .into());
    };
    Command::new(&opener)
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", opener.display()))?;
    Ok(())
}
