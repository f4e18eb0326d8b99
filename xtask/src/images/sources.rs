//! The system's own package sources, as far as they are the distribution's.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Collects the sources below `/etc/apt` that serve the release `codename` with its updates and security fixes, in the form that
/// mmdebstrap takes as mirrors: one-line entries (`deb …`).
///
/// Other vendors' sources are left out: their keys are not in the image, and nothing in it comes from them.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn of_release(etc_apt: &Path, codename: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let list = etc_apt.join("sources.list");
    if list.is_file() {
        found.extend(read(&list, codename, one_line)?);
    }
    let parts = etc_apt.join("sources.list.d");
    if parts.is_dir() {
        let mut files: Vec<_> = fs::read_dir(&parts)
            .with_context(|| format!("reading {}", parts.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => found.extend(read(&file, codename, one_line)?),
                Some("sources") => found.extend(read(&file, codename, deb822)?),
                _ => {}
            }
        }
    }
    found.dedup();
    Ok(found)
}

fn read(file: &Path, codename: &str, parse: fn(&str, &str) -> Vec<String>) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(parse(&text, codename))
}

/// Whether a suite belongs to the release: `bookworm`, `bookworm-updates`, `bookworm-security`.
fn is_of(suite: &str, codename: &str) -> bool {
    suite
        .strip_prefix(codename)
        .is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(text: &str, codename: &str) -> Vec<String> {
    let entries = text.lines().map(str::trim).filter(|line| {
        let Some(rest) = line.strip_prefix("deb ") else {
            return false;
        };
        let rest = rest.trim_start();
        let rest = match rest.split_once(']') {
            Some((options, rest)) if options.starts_with('[') => rest,
            _ => rest,
        };
        rest.split_whitespace()
            .nth(1)
            .is_some_and(|suite| is_of(suite, codename))
    });
    entries.map(str::to_owned).collect()
}

/// The stanzas of a `.sources` file, one entry for each of their suites.
fn deb822(text: &str, codename: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let value = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let is_binary =
            value("Types").is_some_and(|types| types.split_whitespace().any(|t| t == "deb"));
        let is_off = value("Enabled").is_some_and(|enabled| enabled.eq_ignore_ascii_case("no"));
        let (Some(uris), Some(suites), Some(components)) =
            (value("URIs"), value("Suites"), value("Components"))
        else {
            continue;
        };
        if !is_binary || is_off {
            continue;
        }
        // A key that is written out inline does not fit into one line; the release's own keys are in apt's keyring anyway.
        let key = value("Signed-By").filter(|key| key.starts_with('/'));
        let options = key.map_or(String::new(), |key| format!("[signed-by={key}] "));
        for suite in suites
            .split_whitespace()
            .filter(|suite| is_of(suite, codename))
        {
            for uri in uris.split_whitespace() {
                found.push(format!("deb {options}{uri} {suite} {components}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_of_the_release_are_taken_and_other_vendors_left_out() {
        let text = "Types: deb\n# a comment\nURIs: http://a/debian\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main\nSigned-By: /k.gpg\n\nTypes: deb-src\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n\nTypes: deb\nURIs: https://vendor\nSuites: nodistro\nComponents: main\n";
        assert_eq!(
            deb822(text, "bookworm"),
            [
                "deb [signed-by=/k.gpg] http://a/debian bookworm main",
                "deb [signed-by=/k.gpg] http://a/debian bookworm-updates main",
            ]
        );
    }

    #[test]
    fn a_stanza_that_is_switched_off_is_left_out() {
        let text = "Types: deb\nEnabled: no\nURIs: http://a\nSuites: bookworm\nComponents: main\n";
        assert!(deb822(text, "bookworm").is_empty());
    }

    #[test]
    fn one_line_entries_are_taken_with_their_options() {
        let text = "# deb http://a bookworm main\ndeb http://a bookworm main\ndeb [arch=amd64 signed-by=/k] http://a bookworm-security main\ndeb https://v cloud-sdk-bookworm main\ndeb-src http://a bookworm main\n";
        assert_eq!(
            one_line(text, "bookworm"),
            [
                "deb http://a bookworm main",
                "deb [arch=amd64 signed-by=/k] http://a bookworm-security main",
            ]
        );
    }
}
