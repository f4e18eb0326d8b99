//! `cargo xtask explain`: a page of the atlas, in the terminal.

mod prose;

use anyhow::Result;
use owo_colors::OwoColorize as _;

use crate::atlas::page::{self, Page};
use crate::context::Context;
use crate::exit::{Exit, Usage};

pub use prose::wrap_lines;

/// What `explain` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The mistake's code, such as SQ03; a list of all without it
    code: Option<String>,
}

/// Runs `cargo xtask explain`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let pages = page::read_all(&ctx.root.join(page::FOLDER))?;
    let Some(code) = args.code else {
        list(&pages, ctx.terminal.colour);
        return Ok(Exit::Passed);
    };
    let page = find(&pages, &code)?;
    print!(
        "{}",
        prose::render(&page.text, ctx.terminal.width, ctx.terminal.colour)
    );
    println!("\nThe page itself: {}", ctx.shown(&page.path));
    Ok(Exit::Passed)
}

fn list(pages: &[Page], colour: bool) {
    for page in pages {
        let code = if colour {
            page.code.bold().to_string()
        } else {
            page.code.clone()
        };
        println!("{code}  {}", page.title);
    }
    if let Some(first) = pages.first() {
        println!("\nRead one: cargo xtask explain {}", first.code);
    }
}

/// The page of a code, however its letters are written.
///
/// # Errors
/// A usage error that names the codes nearest to an unknown one.
fn find<'a>(pages: &'a [Page], code: &str) -> Result<&'a Page> {
    let wanted = code.to_uppercase();
    pages
        .iter()
        .find(|page| page.code == wanted)
        .ok_or_else(|| {
            let codes: Vec<_> = pages.iter().map(|page| page.code.as_str()).collect();
            let near = similar::get_close_matches(wanted.as_str(), &codes, 3, 0.5);
            let hint = if near.is_empty() {
                "`cargo xtask explain` lists them all.".to_owned()
            } else {
                format!(
                    "Near it: {}. `cargo xtask explain` lists them all.",
                    near.join(", ")
                )
            };
            Usage(format!("the atlas has no page {code}. {hint}")).into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<Page> {
        ["SQ01", "SQ03", "EB01"]
            .map(|code| Page {
                code: code.into(),
                ..Page::default()
            })
            .into()
    }

    #[test]
    fn a_code_is_found_in_small_letters_too() {
        assert_eq!(find(&pages(), "sq03").expect("a page").code, "SQ03");
    }

    #[test]
    fn an_unknown_code_names_the_near_ones() {
        let error = find(&pages(), "SQ3").expect_err("unknown").to_string();
        assert!(error.contains("SQ03"), "{error}");
        assert!(!error.contains("EB01"), "{error}");
        assert!(
            find(&pages(), "zzz")
                .expect_err("unknown")
                .to_string()
                .contains("lists them all")
        );
    }
}
