//! The sections of a chapter, by the ids that mdBook gives them.

use std::collections::BTreeSet;

/// The id of every heading: the one it names itself (`## Sending {#sending}`), else the one made from its words.
pub fn of(markdown: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut found = BTreeSet::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len() && heading.starts_with(' ');
        if is_heading && !in_code {
            found.insert(id(heading.trim()));
        }
    }
    found
}

fn id(heading: &str) -> String {
    let named = heading
        .strip_suffix('}')
        .and_then(|heading| heading.rsplit_once("{#"))
        .map(|(_, id)| id.trim().to_owned());
    named.unwrap_or_else(|| {
        let kept = heading.chars().filter_map(|c| match c {
            _ if c.is_alphanumeric() || c == '_' || c == '-' => c.to_lowercase().next(),
            _ if c.is_whitespace() => Some('-'),
            _ => None,
        });
        kept.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_ids_of_their_own_or_of_their_words() {
        let anchors = of(
            "# Redis Streams\n\n## Sending, at last {#sending}\n### `XADD` and MAXLEN\n\n```sh\n# no heading\n```\n#tag\n",
        );
        let expected = ["redis-streams", "sending", "xadd-and-maxlen"];
        assert_eq!(anchors, expected.map(str::to_owned).into());
    }
}
