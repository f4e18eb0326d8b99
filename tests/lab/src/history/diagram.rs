//! A space-time diagram in plain text.

use super::scene::Scene;
use super::{Anomaly, Event, time};

/// The diagram's greatest width and the number of events it shows.
const WIDTH: usize = 100;
const ROWS: usize = 30;
const LANES: usize = 5;
/// Mark and time, at the left of every line.
const GUTTER: usize = 13;

/// Draws what an anomaly is about: a lane for every actor, time downwards, the events of the
/// anomaly's messages and the faults. A `!` and a full dot mark the events that prove it.
///
/// At most 40 lines of at most 100 columns, whatever the size of the history.
pub fn diagram(events: &[Event], anomaly: &Anomaly) -> String {
    let scene = Scene::new(events, anomaly, ROWS, LANES);
    if scene.rows.is_empty() {
        return String::new();
    }
    let width = lane_width(&scene);
    let mut lines = Vec::new();

    for chunk in scene.names.chunks(3).take(3) {
        let names: Vec<String> = chunk
            .iter()
            .map(|(name, id)| format!("{name} = {id}"))
            .collect();
        lines.push(format!("{:GUTTER$}{}", "", names.join("   ")));
    }
    let heads: String = scene.lanes.iter().map(|lane| cell(lane, width)).collect();
    lines.push(format!("{:GUTTER$}{heads}", ""));

    for row in &scene.rows {
        if row.skipped > 0 {
            let pipes: String = scene.lanes.iter().map(|_| cell("⋮", width)).collect();
            lines.push(format!(
                "{:GUTTER$}{} ({} more)",
                "",
                pipes.trim_end(),
                row.skipped
            ));
        }
        let mark = if row.marked { '!' } else { ' ' };
        let dot = if row.marked { '●' } else { '○' };
        let cells: String = (0..scene.lanes.len())
            .map(|lane| match lane == row.lane {
                true => cell(&format!("{dot} {}", row.label), width),
                false => cell("│", width),
            })
            .collect();
        lines.push(format!("{mark} {:>9}  {cells}", time(row.event.at)));
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| fit(line.trim_end(), WIDTH))
        .collect();
    lines.join("\n")
}

/// As wide as the longest label wants, within the page.
fn lane_width(scene: &Scene) -> usize {
    let labels = scene.rows.iter().map(|row| row.label.chars().count() + 4);
    let heads = scene.lanes.iter().map(|lane| lane.chars().count() + 2);
    let wanted = labels.chain(heads).max().unwrap_or(0);
    wanted.min((WIDTH - GUTTER) / scene.lanes.len())
}

fn cell(text: &str, width: usize) -> String {
    format!("{:width$}", fit(text, width - 1))
}

/// Cuts what is too long, and says so with an ellipsis. Line breaks become blanks.
fn fit(text: &str, width: usize) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    if text.chars().count() <= width {
        return text;
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}
