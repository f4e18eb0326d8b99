//! Markdown for a terminal: paragraphs wrapped, headings bold, code indented, diffs coloured.

use owo_colors::OwoColorize as _;

use crate::diff;

/// Renders the Markdown of a page for a terminal of `width` columns.
pub fn render(markdown: &str, width: usize, colour: bool) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if let Some(language) = trimmed.strip_prefix("```") {
            flush(&mut paragraph, &mut out, width);
            let code: String = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .map(|line| format!("{line}\n"))
                .collect();
            let is_diff = language == "diff" && colour;
            let code = if is_diff { diff::coloured(&code) } else { code };
            for line in code.lines() {
                out.push_str(format!("    {line}").trim_end());
                out.push('\n');
            }
        } else if trimmed.starts_with('#') {
            flush(&mut paragraph, &mut out, width);
            let heading = trimmed.trim_start_matches('#').trim();
            let heading = if colour {
                heading.bold().to_string()
            } else {
                heading.to_owned()
            };
            out.push_str(&heading);
            out.push('\n');
        } else if trimmed.is_empty() {
            flush(&mut paragraph, &mut out, width);
            if !out.ends_with("\n\n") && !out.is_empty() {
                out.push('\n');
            }
        } else {
            if starts_item(trimmed) || trimmed.starts_with('|') {
                flush(&mut paragraph, &mut out, width);
            }
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(trimmed);
        }
    }
    flush(&mut paragraph, &mut out, width);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Wraps each line of a text by itself: lines of code, which are short, stay as they are.
pub fn wrap_lines(text: &str, width: usize) -> String {
    let lines = text.lines().map(|line| {
        if line.chars().count() <= width {
            line.to_owned()
        } else {
            let indent = &line[..line.len() - line.trim_start().len()];
            format!(
                "{indent}{}",
                wrap(line, width - indent.len().min(width), indent)
            )
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Breaks a text at blanks so that no line is longer than `width`, unless a single word is. All lines but the first begin
/// with `indent`.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        let is_fresh = lines.last().is_some_and(|line| line.trim().is_empty());
        if !is_fresh && line + 1 + word.chars().count() > width {
            lines.push(indent.to_owned());
        } else if !is_fresh && let Some(line) = lines.last_mut() {
            line.push(' ');
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn flush(paragraph: &mut String, out: &mut String, width: usize) {
    if paragraph.is_empty() {
        return;
    }
    let text = without_link_targets(paragraph);
    // A table keeps its lines, a list item hangs below its bullet.
    let wrapped = if text.starts_with('|') {
        text
    } else {
        wrap(&text, width, if starts_item(&text) { "  " } else { "" })
    };
    out.push_str(&wrapped);
    out.push('\n');
    paragraph.clear();
}

fn starts_item(line: &str) -> bool {
    let numbered = line
        .split_once(". ")
        .is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    numbered || line.starts_with("- ") || line.starts_with("* ")
}

/// `[the text](the-target.md)` is `the text`: a target inside the book says nothing in a terminal.
fn without_link_targets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        out.push_str(before);
        let parts = link
            .split_once("](")
            .filter(|(label, _)| !label.contains(['[', ']']))
            .and_then(|(label, tail)| Some((label, tail.split_once(')')?)));
        match parts {
            Some((label, (target, tail))) => {
                out.push_str(label);
                if target.starts_with("http") {
                    out.push_str(&format!(" ({target})"));
                }
                rest = tail;
            }
            None => {
                out.push('[');
                rest = link;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_and_code_is_not() {
        let page = "# SQ03: Title\n\nOne two three\nfour five.\n\n```diff\n-a long line of code that stays\n```\n";
        assert_eq!(
            render(page, 15, false),
            "SQ03: Title\n\nOne two three\nfour five.\n\n    -a long line of code that stays\n"
        );
    }

    #[test]
    fn items_hang_below_their_bullet() {
        assert_eq!(
            render("- one two\n- three four", 10, false),
            "- one two\n- three\n  four\n"
        );
        assert_eq!(render("1. one\n2. two", 20, false), "1. one\n2. two\n");
    }

    #[test]
    fn links_keep_their_text() {
        assert_eq!(
            without_link_targets("see [the chapter](../a.md#b), x[0] ok"),
            "see the chapter, x[0] ok"
        );
        assert_eq!(
            without_link_targets("[Redis](https://redis.io)"),
            "Redis (https://redis.io)"
        );
    }

    #[test]
    fn lines_that_fit_keep_their_indentation() {
        assert_eq!(
            wrap_lines("if a {\n    b;\n}\none two three", 8),
            "if a {\n    b;\n}\none two\nthree"
        );
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        assert_eq!(wrap("a bbbbbbbbbb c", 5, ""), "a\nbbbbbbbbbb\nc");
    }
}
