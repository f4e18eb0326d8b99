//! Just enough of HTML to find the ids and the links of a page.

/// One opening tag.
#[derive(Debug, PartialEq)]
pub struct Tag {
    /// Its name, in lower case.
    pub name: String,
    /// Its attributes in order: name in lower case, value with entities replaced.
    pub attributes: Vec<(String, String)>,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

impl Tag {
    /// The value of an attribute, if the tag has it.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The opening tags of `text` in order. What stands in comments, scripts and styles is skipped.
pub fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        let rest = &text[start..];
        if rest.starts_with("<!--") {
            at = end_of(text, start, "-->");
            continue;
        }
        if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            at = start + 1;
            continue;
        }
        let (mut tag, length) = one_tag(rest);
        tag.line = 1 + text[..start].matches('\n').count();
        at = start + length;
        if tag.name == "script" || tag.name == "style" {
            at = end_of(text, at, &format!("</{}", tag.name));
        }
        tags.push(tag);
    }
    tags
}

/// The position after the next `end`, or the end of the text.
fn end_of(text: &str, from: usize, end: &str) -> usize {
    text[from..]
        .find(end)
        .map_or(text.len(), |found| from + found + end.len())
}

/// Reads the tag at the start of `text`; returns it and its length in bytes.
fn one_tag(text: &str) -> (Tag, usize) {
    let name_end = text[1..]
        .find(|c: char| c.is_whitespace() || c == '>' || c == '/')
        .map_or(text.len(), |n| n + 1);
    let mut tag = Tag {
        name: text[1..name_end].to_ascii_lowercase(),
        attributes: Vec::new(),
        line: 0,
    };
    let mut at = name_end;
    loop {
        let rest = &text[at..];
        let skipped = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_whitespace() || c == '/')
                .len();
        at += skipped;
        let rest = &text[at..];
        if rest.is_empty() {
            return (tag, at);
        }
        if rest.starts_with('>') {
            return (tag, at + 1);
        }
        let length = rest
            .find(|c: char| c.is_whitespace() || c == '=' || c == '>')
            .unwrap_or(rest.len())
            // A stray `=` is not a name: step over it.
            .max(1);
        let name = rest[..length].to_ascii_lowercase();
        at += length;
        let mut value = String::new();
        if let Some(after) = text[at..].strip_prefix('=') {
            at += 1;
            let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
            let (raw, taken) = match quote {
                Some(quote) => {
                    let inner = &after[1..];
                    let end = inner.find(quote).unwrap_or(inner.len());
                    (&inner[..end], (end + 2).min(after.len()))
                }
                None => {
                    let end = after
                        .find(|c: char| c.is_whitespace() || c == '>')
                        .unwrap_or(after.len());
                    (&after[..end], end)
                }
            };
            value = unescape(raw);
            at += taken;
        }
        tag.attributes.push((name, value));
    }
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_with_and_without_quotes() {
        let found = tags("<p>\n<a href=\"x.html#y\" class=big id='z'>");
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].attribute("href"), Some("x.html#y"));
        assert_eq!(found[1].attribute("class"), Some("big"));
        assert_eq!(found[1].attribute("id"), Some("z"));
        assert_eq!(found[1].line, 2);
    }

    #[test]
    fn comments_scripts_and_broken_tags_are_stepped_over() {
        let found = tags("<!-- <a href=1> --><script>'<a href=2>'</script><b =x <");
        let names: Vec<_> = found.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["script", "b"]);
    }
}
