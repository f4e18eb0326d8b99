//! The same diagram as a page for the browser.

use std::fmt::Write;

use super::scene::Scene;
use super::{Anomaly, Event, time};

const ROWS: usize = 120;
const LANES: usize = 8;
/// All in pixels.
const LANE: usize = 190;
const ROW: usize = 30;
const LEFT: usize = 110;
const TOP: usize = 60;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2430; --faint: #9aa4b2; --paper: #fff; --bad: #c4262e; --line: #3b6fb6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --faint: #6c7686; --paper: #14181f; --bad: #ff6b6b; --line: #7fb0f5 }
}
body { margin: 2rem auto; max-width: 100rem; padding: 0 1rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.25rem } p.what { font-size: 1.1rem; max-width: 50rem }
.scroll { overflow-x: auto }
svg { font: 13px system-ui, sans-serif }
svg text { fill: var(--ink); stroke: var(--paper); stroke-width: 4px; paint-order: stroke } svg .time { fill: var(--faint); text-anchor: end }
svg .head { font-weight: 600; text-anchor: middle }
svg .lane { stroke: var(--faint); stroke-dasharray: 2 4 }
svg .way { stroke: var(--line); stroke-width: 1.5; opacity: .6; fill: none }
svg circle { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5 }
svg .bad circle { fill: var(--bad); stroke: var(--bad) } svg .bad text { fill: var(--bad); font-weight: 600 }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
tr.bad td { color: var(--bad) }
";

/// A page of its own, with nothing to load, that draws what an anomaly is about: the lanes of
/// [`diagram`](super::diagram()) with a line along each message's way, and the events as a table.
///
/// What came from a candidate is shown as text and never as markup.
pub fn picture(events: &[Event], anomaly: &Anomaly) -> String {
    let scene = Scene::new(events, anomaly, ROWS, LANES);
    let name = escape(anomaly.name);
    let explanation = escape(&anomaly.explanation);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>History: {name}</title>\n<style>{STYLE}</style>\n\
         <h1>History: {name}</h1>\n<p class=\"what\">{explanation}</p>\n\
         <div class=\"scroll\">{}</div>\n{}\n</html>\n",
        drawing(&scene, &explanation),
        table(&scene),
    )
}

fn drawing(scene: &Scene, explanation: &str) -> String {
    let x = |lane: usize| LEFT + LANE / 2 + lane * LANE;
    let y = |row: usize| TOP + row * ROW;
    let width = LEFT + scene.lanes.len() * LANE + LANE / 2;
    let height = y(scene.rows.len());
    // Writing to a string does not fail.
    let mut svg = format!(
        "<svg role=\"img\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
         <title>{explanation}</title>\n"
    );
    for (i, lane) in scene.lanes.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<line class=\"lane\" x1=\"{0}\" x2=\"{0}\" y1=\"34\" y2=\"{height}\"/>\
             <text class=\"head\" x=\"{0}\" y=\"22\">{1}</text>",
            x(i),
            escape(lane),
        );
    }
    for (i, row) in scene.rows.iter().enumerate() {
        let next = scene.rows[i + 1..]
            .iter()
            .position(|other| !row.event.id.is_empty() && other.event.id == row.event.id);
        if let Some(ahead) = next {
            let to = i + 1 + ahead;
            let _ = writeln!(
                svg,
                "<path class=\"way\" d=\"M{} {} L{} {}\"/>",
                x(row.lane),
                y(i),
                x(scene.rows[to].lane),
                y(to),
            );
        }
    }
    for (i, row) in scene.rows.iter().enumerate() {
        let class = if row.marked { " class=\"bad\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text class=\"time\" x=\"{left}\" y=\"{base}\">{when}</text>\
             <g{class}><circle cx=\"{dot}\" cy=\"{middle}\" r=\"5\"/>\
             <text x=\"{beside}\" y=\"{base}\">{label}</text></g>",
            left = LEFT - 10,
            middle = y(i),
            // The text's base line, so that it is level with the dot.
            base = y(i) + 4,
            when = time(row.event.at),
            dot = x(row.lane),
            beside = x(row.lane) + 10,
            label = escape(&row.label),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The same for those who read rather than look.
fn table(scene: &Scene) -> String {
    let mut html = "<table><tr><th>Time<th>Who<th>What<th>Message<th>\n".to_owned();
    for row in &scene.rows {
        let class = if row.marked { " class=\"bad\"" } else { "" };
        if row.skipped > 0 {
            let _ = writeln!(html, "<tr><td colspan=\"5\">… {} more …", row.skipped);
        }
        let _ = writeln!(
            html,
            "<tr{class}><td>{}<td>{}<td>{}<td>{}<td>{}",
            time(row.event.at),
            escape(&row.event.actor),
            escape(&row.event.what.to_string()),
            escape(&row.event.id),
            escape(&row.event.detail),
        );
    }
    let names: Vec<String> = scene
        .names
        .iter()
        .map(|(name, id)| format!("{name} is {}", escape(id)))
        .collect();
    let _ = write!(html, "</table>\n<p>{}</p>", names.join(", "));
    html
}

/// Text from a candidate must stay text in the page.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, c| {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
        safe
    })
}
