//! `cargo xtask` without a command: where am I, and what next.

use crate::context::Context;
use crate::exit::Exit;
use crate::grade;
use crate::manifest::Exercise;
use crate::progress::{ExerciseProgress, Progress};
use crate::report::Paint;

/// Columns of the bar that shows an exercise's points.
const BAR: usize = 20;

/// Shows progress and the next step.
pub fn run(ctx: &Context) -> anyhow::Result<Exit> {
    let progress = Progress::load(ctx)?;
    let exercises = ctx.exercises()?;
    let paint = Paint(ctx.terminal.colour);
    let text = if exercises
        .iter()
        .all(|exercise| progress.of(exercise).is_none())
    {
        first_steps(exercises, paint)
    } else {
        where_am_i(exercises, &progress, paint)
    };
    grade::print(&text)?;
    Ok(Exit::Passed)
}

fn first_steps(exercises: &[Exercise], paint: Paint) -> String {
    let mut text = format!("{}\n\n", paint.strong("Messages in Flight"));
    for exercise in exercises {
        let title = &exercise.manifest.title;
        text.push_str(&format!(
            "  {}  {:16} {title}\n",
            exercise.number,
            exercise.name()
        ));
    }
    let Some(first) = exercises.first() else {
        return text;
    };
    let number = first.number;
    let steps = [
        (
            "see that everything works here",
            format!("cargo xtask grade {number} --solution"),
        ),
        ("read the chapter", "cargo xtask book --open".to_string()),
        (
            "write, save, and read what holds",
            format!("cargo xtask watch {number}"),
        ),
        (
            "a hint when you are stuck",
            format!("cargo xtask hint {number}.1"),
        ),
    ];
    text.push_str("\nFirst steps:\n");
    for (what, command) in steps {
        text.push_str(&format!(
            "  {}{}\n",
            paint.command(&format!("{command:34}")),
            what
        ));
    }
    let files: Vec<String> = first
        .stage(1)
        .map(|stage| {
            stage
                .modules
                .iter()
                .map(|module| format!("{module}.rs"))
                .collect()
        })
        .unwrap_or_default();
    text.push_str(&format!(
        "\nNext: open exercises/{}/src/{}\n",
        first.folder,
        files.first().map_or("", String::as_str)
    ));
    text
}

fn where_am_i(exercises: &[Exercise], progress: &Progress, paint: Paint) -> String {
    let mut text = String::new();
    for exercise in exercises {
        let known = progress.of(exercise);
        let points: u32 = known.map_or(0, |known| {
            known.stages.values().map(|stage| stage.points).sum()
        });
        let full = (points as usize * BAR / 100).min(BAR);
        text.push_str(&format!(
            "{}  {:16} {}{} {points:>3}/100\n",
            exercise.number,
            paint.strong(&format!("{:16}", exercise.name())).trim_end(),
            paint.good(&"█".repeat(full)),
            paint.dim(&"░".repeat(BAR - full)),
        ));
        if let Some(known) = known {
            text.push_str(&stages(exercise, known, progress, paint));
        }
    }
    text.push_str(&next_step(exercises, progress, paint));
    text
}

fn stages(
    exercise: &Exercise,
    known: &ExerciseProgress,
    progress: &Progress,
    paint: Paint,
) -> String {
    let current = progress.current(exercise).map(|stage| stage.id);
    let mut text = String::new();
    for stage in &exercise.manifest.stages {
        let done = known.stages.get(&stage.id).copied().unwrap_or_default();
        let mark = match () {
            () if done.is_done() => paint.good("✓"),
            () if current == Some(stage.id) => paint.strong("→"),
            () => paint.dim("·"),
        };
        let checks = match (done.passed, done.checks) {
            (passed, all) if passed == 0 || passed == all => String::new(),
            (_, all) => format!("  {} of {all} checks pass", done.passed),
        };
        let line = format!(
            "   {mark} {} {}{}",
            exercise.stage_label(stage.id),
            stage.title,
            paint.dim(&checks)
        );
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    if let Some(error) = &known.compile_error {
        text.push_str(&format!(
            "   {} does not compile: {error}\n",
            paint.bad("✗")
        ));
    }
    text
}

fn next_step(exercises: &[Exercise], progress: &Progress, paint: Paint) -> String {
    // What was begun comes before what was not.
    let begun = exercises
        .iter()
        .filter(|exercise| progress.of(exercise).is_some());
    let rest = exercises
        .iter()
        .filter(|exercise| progress.of(exercise).is_none());
    let next = begun
        .chain(rest)
        .find_map(|exercise| progress.current(exercise).map(|stage| (exercise, stage)));
    let Some((exercise, stage)) = next else {
        return format!(
            "\nNext: all exercises are done. {}\n",
            paint.command("cargo xtask bench 1")
        );
    };
    let label = exercise.stage_label(stage.id);
    let files: Vec<String> = stage
        .modules
        .iter()
        .map(|module| format!("exercises/{}/src/{module}.rs", exercise.folder))
        .collect();
    format!(
        "\nNext: stage {label}, {}\n  write in   {}\n  read       chapters/src/{}#{}\n  grade      {}\n  stuck?     {}\n",
        stage.title,
        files.join(" and "),
        exercise.manifest.chapter,
        stage.anchor,
        paint.command(&format!("cargo xtask watch {}", exercise.number)),
        paint.command(&format!("cargo xtask hint {label}")),
    )
}
