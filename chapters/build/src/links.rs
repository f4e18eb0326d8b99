//! Checks that every link and image inside the book leads somewhere.
//!
//! The Markdown is read first, because it gives the line to mend; then the HTML, which
//! also holds what was included and what mdBook added.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{BrokenLink, Event, LinkType, Options, Parser, Tag};

use crate::{Pages, Problem, files_below, html};

/// The attributes that lead to another file or place, by tag.
const LEADS: &[(&str, &str)] = &[
    ("a", "href"),
    ("img", "src"),
    ("image", "href"),
    ("link", "href"),
    ("script", "src"),
    ("source", "src"),
    ("use", "href"),
];

/// Checks every page of a built book.
pub fn check(pages: &Pages) -> Result<Vec<Problem>> {
    let mut site = Site::read(&pages.output)?;
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();

    for page in &pages.pages {
        let file = pages.source.join(page);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let html_page = html_of(page);
        for (line, target) in markdown_links(&text, &mut |line, reference| {
            problems.push(Problem {
                file: file.clone(),
                line,
                what: format!("nothing defines the reference [{reference}]"),
            });
        }) {
            if let Some(what) = site.broken(&html_page, &target) {
                told.insert((html_page.clone(), as_html(&target)));
                problems.push(Problem {
                    file: file.clone(),
                    line,
                    what,
                });
            }
        }
    }

    for page in site.pages() {
        let file = pages.output.join(&page);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        for tag in html::tags(&text) {
            for target in leads(&tag) {
                if told.contains(&(page.clone(), target.to_owned())) {
                    continue;
                }
                if let Some(what) = site.broken(&page, target) {
                    problems.push(Problem {
                        file: file.clone(),
                        line: tag.line,
                        what,
                    });
                }
            }
        }
    }
    Ok(problems)
}

fn leads(tag: &html::Tag) -> impl Iterator<Item = &str> {
    LEADS
        .iter()
        .filter(|(name, _)| *name == tag.name)
        .filter_map(|(_, attribute)| tag.attribute(attribute))
}

/// The links and images of a page with their lines. A reference that nothing defines is told to
/// `undefined`: Markdown would print its brackets.
fn markdown_links(text: &str, undefined: &mut dyn FnMut(usize, &str)) -> Vec<(usize, String)> {
    let line_of = |offset: usize| 1 + text[..offset].matches('\n').count();
    let mut broken = |link: BrokenLink<'_>| {
        // `[x]` alone is often meant as text; `[x][y]` and `[x][]` are not.
        if matches!(link.link_type, LinkType::Reference | LinkType::Collapsed) {
            undefined(line_of(link.span.start), &link.reference);
        }
        None
    };
    let mut found = Vec::new();
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES;
    let parser = Parser::new_with_broken_link_callback(text, options, Some(&mut broken));
    for (event, range) in parser.into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                found.push((line_of(range.start), dest_url.into_string()));
            }
            Event::Html(raw) | Event::InlineHtml(raw) => {
                for tag in html::tags(&raw) {
                    let line = line_of(range.start) + tag.line - 1;
                    found.extend(leads(&tag).map(|target| (line, target.to_owned())));
                }
            }
            _ => {}
        }
    }
    found
}

/// The built files and the ids in each page.
struct Site {
    files: BTreeSet<PathBuf>,
    ids: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Site {
    fn read(output: &Path) -> Result<Site> {
        let mut site = Site {
            files: BTreeSet::new(),
            ids: BTreeMap::new(),
        };
        for file in files_below(output)? {
            let relative = file.strip_prefix(output).unwrap_or(&file).to_path_buf();
            if relative.extension().is_some_and(|e| e == "html") {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("reading {}", file.display()))?;
                let ids = html::tags(&text)
                    .iter()
                    .filter_map(|tag| tag.attribute("id").map(str::to_owned))
                    .collect();
                site.ids.insert(relative.clone(), ids);
            }
            site.files.insert(relative);
        }
        Ok(site)
    }

    /// The pages to check. 404.html is served under any address, so its links are not relative to
    /// where it lies; toc.html is shown inside the others.
    fn pages(&self) -> Vec<PathBuf> {
        self.ids
            .keys()
            .filter(|page| **page != Path::new("404.html") && **page != Path::new("toc.html"))
            .cloned()
            .collect()
    }

    /// Why `target`, found on `page`, leads nowhere; nothing if it leads somewhere or outside.
    fn broken(&mut self, page: &Path, target: &str) -> Option<String> {
        if target.is_empty() || target.starts_with("//") || has_scheme(target) {
            return None;
        }
        if target.starts_with('/') {
            return Some(format!(
                "{target} begins at the root of the server, and the book may lie anywhere"
            ));
        }
        let target_html = as_html(target);
        let (path, id) = match target_html.split_once('#') {
            Some((path, id)) => (path, Some(id)),
            None => (target_html.as_str(), None),
        };
        let path = path.split('?').next().unwrap_or(path);
        let mut file = if path.is_empty() {
            page.to_path_buf()
        } else {
            join(page, path)
        };
        if path.ends_with('/') {
            file = file.join("index.html");
        }
        if !self.files.contains(&file) {
            return Some(format!("{target} leads to no file of the book"));
        }
        let id = id?;
        let known = self.ids.get(&file).is_some_and(|ids| ids.contains(id));
        (!known && !id.is_empty()).then(|| format!("{target}: the page has no place named #{id}"))
    }
}

/// `path` as seen from `page`, without `.` and `..`.
fn join(page: &Path, path: &str) -> PathBuf {
    let mut joined = page.parent().map(Path::to_path_buf).unwrap_or_default();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                // One step above the book stays visible as a file that is not there.
                if !joined.pop() {
                    joined.push("..");
                }
            }
            Component::CurDir => {}
            other => joined.push(other),
        }
    }
    joined
}

fn has_scheme(target: &str) -> bool {
    target
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.contains(['/', '#', '?', '.']))
}

/// The address of a page in the built book.
fn html_of(page: &Path) -> PathBuf {
    if page.file_name().is_some_and(|name| name == "README.md") {
        page.with_file_name("index.html")
    } else {
        page.with_extension("html")
    }
}

/// A link to a Markdown file as mdBook rewrites it.
fn as_html(target: &str) -> String {
    let (path, id) = match target.split_once('#') {
        Some((path, id)) => (path, format!("#{id}")),
        None => (target, String::new()),
    };
    match path.strip_suffix(".md") {
        Some(path) => format!("{path}.html{id}"),
        None => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let ids = BTreeSet::from(["here".to_owned()]);
        Site {
            files: ["a.html", "atlas/b.html", "x.svg"]
                .map(PathBuf::from)
                .into(),
            ids: BTreeMap::from([("a.html".into(), ids), ("atlas/b.html".into(), [].into())]),
        }
    }

    #[test]
    fn links_that_lead_somewhere_are_left_alone() {
        let mut site = site();
        let page = Path::new("atlas/b.html");
        for good in [
            "../a.md#here",
            "../a.html",
            "../x.svg",
            "https://x.org/y",
            "mailto:a@b.c",
        ] {
            assert_eq!(site.broken(page, good), None, "{good}");
        }
    }

    #[test]
    fn missing_files_places_and_roots_are_told() {
        let mut site = site();
        let page = Path::new("atlas/b.html");
        for bad in ["a.md", "../a.md#gone", "#gone", "/a.html", "../../a.html"] {
            assert!(site.broken(page, bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn links_in_code_do_not_count_and_undefined_references_do() {
        let mut undefined = Vec::new();
        let found = markdown_links("`[a](b)`\n\n[c](d.md) [e][f]\n", &mut |line, name| {
            undefined.push((line, name.to_owned()));
        });
        assert_eq!(found, [(3, "d.md".to_owned())]);
        assert_eq!(undefined, [(3, "f".to_owned())]);
    }
}
