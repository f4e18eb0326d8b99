//! `cargo xtask doctor`: what this machine has, what it lacks, and what mends it.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use owo_colors::OwoColorize as _;

use crate::context::Context;
use crate::exit::Exit;
use crate::images::{self, Engine};
use crate::manifest::Broker;
use crate::setup;
use crate::system::{self, Manager, Tool};

/// What `doctor` takes.
#[derive(clap::Args)]
pub struct Args {}

/// A build of everything needs about this much, in bytes.
const DISK: u64 = 4 << 30;

/// One line of the table.
struct Finding {
    what: String,
    state: State,
    detail: String,
    /// The command that mends it.
    mend: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Not there, and the workbook gets by without it.
    Absent,
    /// Not there, and something does not work without it.
    Bad,
}

/// Runs `cargo xtask doctor`.
pub fn run(_args: Args, ctx: &Context) -> Result<Exit> {
    let manager = Manager::detect();
    let mut findings = vec![rust(), linker(manager), git(manager), disk(ctx), ports()];
    let engine = images::engine();
    findings.push(container_engine(&engine));
    let mut is_supplied = true;
    for broker in setup::brokers(ctx)? {
        let ways = [
            given(broker),
            image(broker, &engine),
            server(broker, manager),
        ];
        let has_one = ways.iter().flatten().any(|way| way.state == State::Good);
        is_supplied &= has_one;
        findings.extend(ways.into_iter().flatten().map(|way| Finding {
            state: if has_one || way.state == State::Good {
                way.state
            } else {
                State::Bad
            },
            ..way
        }));
    }
    if setup::needs_browser(ctx)? {
        findings.push(browser(manager));
    }
    show(&findings, ctx.terminal.colour);
    if findings.iter().all(|finding| finding.state != State::Bad) {
        println!("\nEverything the workbook needs is there.");
        return Ok(Exit::Passed);
    }
    if !is_supplied {
        println!("\nA broker can be had in no way yet. All at once: cargo xtask setup");
    }
    Ok(Exit::Infrastructure)
}

fn show(findings: &[Finding], colour: bool) {
    let width = findings
        .iter()
        .map(|f| f.what.chars().count())
        .max()
        .unwrap_or(0);
    for finding in findings {
        let state = match finding.state {
            State::Good => "ok     ",
            State::Absent => "absent ",
            State::Bad => "MISSING",
        };
        let state = match (colour, finding.state) {
            (true, State::Good) => state.green().to_string(),
            (true, State::Absent) => state.dimmed().to_string(),
            (true, State::Bad) => state.red().to_string(),
            (false, _) => state.to_owned(),
        };
        println!("{state}  {:width$}  {}", finding.what, finding.detail);
        if let Some(mend) = finding
            .mend
            .as_ref()
            .filter(|_| finding.state != State::Good)
        {
            println!("{:9}{:width$}  mend it: {mend}", "", "");
        }
    }
}

fn finding(what: &str, is_good: bool, detail: String, mend: Option<String>) -> Finding {
    let state = if is_good { State::Good } else { State::Bad };
    Finding {
        what: what.to_owned(),
        state,
        detail,
        mend,
    }
}

fn rust() -> Finding {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = system::output(&rustc, &["--version"]).unwrap_or_default();
    let version = said.split_whitespace().nth(1).unwrap_or("none").to_owned();
    let is_good = number(&version) >= number(needed);
    let detail = format!("{version}, at least {needed} is needed");
    finding(
        "Rust",
        is_good,
        detail,
        Some("rustup update stable".to_owned()),
    )
}

/// `1.88.0` as numbers, to be compared.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn linker(manager: Option<Manager>) -> Finding {
    tool("linker", Tool::Linker, manager)
}

fn git(manager: Option<Manager>) -> Finding {
    tool("git", Tool::Git, manager)
}

fn tool(what: &str, tool: Tool, manager: Option<Manager>) -> Finding {
    let found = tool.find();
    let detail = found
        .as_ref()
        .map_or("not on PATH".to_owned(), |path| path.display().to_string());
    finding(what, found.is_some(), detail, mend(manager, tool))
}

fn mend(manager: Option<Manager>, tool: Tool) -> Option<String> {
    manager.and_then(|manager| manager.advice(&[tool]))
}

// macOS counts blocks in 32 bits.
#[allow(clippy::useless_conversion)]
fn disk(ctx: &Context) -> Finding {
    let free = nix::sys::statvfs::statvfs(&ctx.root).ok().map(|stat| {
        u64::from(stat.fragment_size()).saturating_mul(u64::from(stat.blocks_available()))
    });
    let detail = free.map_or("unknown".to_owned(), |free| {
        format!("{:.1} GiB free", free as f64 / (1u64 << 30) as f64)
    });
    // What cannot be measured is not held against the machine.
    let is_good = free.is_none_or(|free| free >= DISK);
    finding(
        "disk",
        is_good,
        detail,
        Some("cargo clean (in projects you have built)".to_owned()),
    )
}

/// The browser and its driver, which have to be of one version.
fn browser(manager: Option<Manager>) -> Finding {
    let said = setup::BROWSER.map(|tool| {
        let path = tool.find()?;
        system::output(&path.to_string_lossy(), &["--version"])
    });
    let (is_good, detail) = match &said {
        [Some(browser), Some(driver)] => {
            let is_good = major(browser) == major(driver);
            let remark = if is_good {
                ""
            } else {
                ", which are not of one version"
            };
            // A driver says more than its version: a commit, in brackets.
            let driver = driver.split(" (").next().unwrap_or(driver);
            let browser = browser.split(" built on").next().unwrap_or(browser);
            (is_good, format!("{browser} and {driver}{remark}"))
        }
        [None, _] => (
            false,
            "no chromium, for checks that look at a page".to_owned(),
        ),
        [_, None] => (
            false,
            "no chromedriver, for checks that look at a page".to_owned(),
        ),
    };
    let mend = manager.and_then(|manager| manager.advice(&setup::BROWSER));
    finding("browser", is_good, detail, mend)
}

/// 156 of `Chromium 156.0.8078.79 built on Debian`.
fn major(said: &str) -> Option<u32> {
    let mut words = said.split([' ', '.']);
    words.find_map(|word| word.parse().ok())
}

fn ports() -> Finding {
    let free =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    match free {
        Ok(_) => finding("ports", true, "127.0.0.1 has free ones".to_owned(), None),
        Err(error) => {
            let detail = format!("none can be had on 127.0.0.1: {error}");
            finding("ports", false, detail, Some("ip link set lo up".to_owned()))
        }
    }
}

fn container_engine(engine: &Engine) -> Finding {
    let (state, detail) = match engine {
        Engine::Ready(version) => (State::Good, version.clone()),
        Engine::Missing(why) => (State::Absent, why.clone()),
    };
    Finding {
        what: "container engine".to_owned(),
        state,
        detail,
        mend: None,
    }
}

fn given(broker: Broker) -> Option<Finding> {
    let variable = setup::url_variable(broker);
    setup::is_given(broker).then(|| finding(variable, true, "is set".to_owned(), None))
}

fn image(broker: Broker, engine: &Engine) -> Option<Finding> {
    let Engine::Ready(_) = engine else {
        return None;
    };
    let has = images::has_image(broker);
    Some(Finding {
        what: format!("image {}", images::image(broker)),
        state: if has { State::Good } else { State::Absent },
        detail: if has { "is there" } else { "is not there" }.to_owned(),
        mend: Some(format!(
            "docker pull {}, or without a registry: cargo xtask images {}",
            images::image(broker),
            setup::name_of(broker)
        )),
    })
}

fn server(broker: Broker, manager: Option<Manager>) -> Option<Finding> {
    let tool = Tool::Server(broker);
    let found = tool.find();
    Some(Finding {
        what: format!("{} as a process", setup::name_of(broker)),
        state: if found.is_some() {
            State::Good
        } else {
            State::Absent
        },
        detail: found.map_or("not on PATH".to_owned(), |path| path.display().to_string()),
        mend: mend(manager, tool),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_and_its_driver_are_compared_by_their_first_number() {
        assert_eq!(
            major("Chromium 156.0.8078.79 built on Debian 12"),
            Some(156)
        );
        assert_eq!(
            major("ChromeDriver 156.0.8078.79 (abc-refs/x@{#1})"),
            Some(156)
        );
        assert_eq!(major("nothing of the kind"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("1.100.0") > number("1.88"));
        assert!(number("1.88.0-nightly") >= number("1.88"));
        assert!(number("none") < number("1.88"));
    }
}
