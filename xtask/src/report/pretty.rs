//! The report for a learner, who may be tired: where they stand, the one thing to look at now, and the next step.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::model::{CheckGrade, ExerciseGrade, Grade, StageGrade, Timings, Verdict, words};
use crate::report::Paint;

/// Lines of a history that are shown; the picture and the JSON have all of it.
const HISTORY: usize = 40;

/// The whole report.
pub fn render(ctx: &Context, grade: &Grade, with_timings: bool) -> String {
    let page = Page {
        ctx,
        paint: Paint(ctx.terminal.colour),
        width: ctx.terminal.width,
    };
    let mut text = String::new();
    for exercise in &grade.exercises {
        text.push_str(&page.exercise(exercise, grade));
    }
    if grade.exercises.len() > 1 {
        text.push_str(&page.paint.strong(&format!(
            "Together {} of {} points\n\n",
            grade.points, grade.max
        )));
    }
    if let Some(unjudged) = super::unjudged(grade) {
        text.push_str(&format!("{}\n\n", page.wrapped(&unjudged, "")));
    }
    if with_timings {
        text.push_str(&format!("{}\n\n", timings(&grade.timings)));
    }
    text.push_str(&page.next_step(grade));
    text
}

/// Where the time went, in one line.
pub fn timings(timings: &Timings) -> String {
    format!(
        "Time: build {} ms, brokers {} ms, checks {} ms, together {} ms",
        timings.build, timings.brokers, timings.checks, timings.total
    )
}

struct Page<'a> {
    ctx: &'a Context,
    paint: Paint,
    width: usize,
}

impl Page<'_> {
    fn exercise(&self, exercise: &ExerciseGrade, grade: &Grade) -> String {
        let mut text = format!(
            "{}  {}  {}\n\n",
            self.paint
                .strong(&format!("{} {}", exercise.number, exercise.name)),
            exercise.title,
            self.paint.dim(&format!("({})", grade.candidate))
        );
        let longest = exercise
            .stages
            .iter()
            .map(|stage| stage.title.chars().count())
            .max();
        for stage in &exercise.stages {
            text.push_str(&self.stage(stage, longest.unwrap_or(0)));
        }
        let sum = format!("{} of {} points", exercise.points, exercise.max);
        text.push_str(&format!("    {}\n\n", self.paint.strong(&sum)));
        for note in &exercise.notes {
            text.push_str(&format!(
                "{}\n",
                self.wrapped(&format!("Note: {note}."), "")
            ));
        }
        if !exercise.notes.is_empty() {
            text.push('\n');
        }
        if let Some(trouble) = &exercise.trouble {
            text.push_str(&format!("{}\n{trouble}\n\n", self.rule("Not judged")));
            return text;
        }
        if let Some(error) = &exercise.compile_error {
            text.push_str(&format!("{}\n", self.rule("It does not compile")));
            if let Some(note) = &error.note {
                text.push_str(&format!(
                    "{}\n\n",
                    self.wrapped(&format!("{}.", super::capitalized(note)), "")
                ));
            }
            text.push_str(&format!("{}\n", error.rendered));
            if error.more > 0 {
                text.push_str(&self.paint.dim(&format!("and {} more errors\n", error.more)));
            }
            text.push('\n');
            return text;
        }
        text.push_str(&self.findings(exercise, grade));
        text
    }

    fn stage(&self, stage: &StageGrade, width: usize) -> String {
        let (passed, all) = (stage.count(Verdict::Passed), stage.checks.len());
        let remark = match () {
            () if all == 0 => "no checks".to_string(),
            () if stage.is_done() => String::new(),
            () if stage.count(Verdict::Infrastructure) == all => "could not be judged".to_string(),
            () if stage.count(Verdict::Broken) == all => "does not compile".to_string(),
            () if stage.count(Verdict::Blocked) == all => match blocked_by(stage) {
                Some(by) => format!("waits for stage {by}"),
                None => "waits".to_string(),
            },
            () => format!("{passed} of {all} checks pass"),
        };
        let mark = match () {
            () if stage.is_done() => self.paint.good("✓"),
            () if all == 0 || stage.count(Verdict::Blocked) == all => self.paint.dim("·"),
            () if stage.count(Verdict::Infrastructure) == all => self.paint.dim("?"),
            () => self.paint.bad("✗"),
        };
        let line = format!(
            "  {mark} {}  {:width$}  {:>3}/{:<3} {}",
            stage.id,
            stage.title,
            stage.points,
            stage.max,
            self.paint.dim(&remark)
        );
        line.trim_end().to_string() + "\n"
    }

    /// The first check that does not pass in full, the others in a line each.
    fn findings(&self, exercise: &ExerciseGrade, grade: &Grade) -> String {
        let open: Vec<(&StageGrade, &CheckGrade)> = exercise
            .checks()
            .filter(|(_, check)| check.verdict != Verdict::Passed)
            .collect();
        // A finding comes before what only follows from it, and both before what nobody can help.
        let first = first_to_mend(&open);
        let mut text = String::new();
        let Some((stage, check)) = first else {
            return text;
        };
        text.push_str(&self.expanded(exercise, stage, check, grade));
        let (unwritten, found): (Vec<_>, Vec<_>) = open
            .iter()
            .filter(|(_, other)| other.name != check.name && other.verdict != Verdict::Blocked)
            .partition(|(_, check)| check.todo_stage.is_some());
        if !found.is_empty() {
            let lines: String = found
                .iter()
                .map(|(stage, check)| self.one_line(stage, check))
                .collect();
            text.push_str(&format!("Also:\n{lines}\n"));
        }
        // What is not written yet is no news: a line a stage.
        let mut stages: BTreeMap<u32, usize> = BTreeMap::new();
        for (stage, _) in unwritten {
            *stages.entry(stage.id).or_default() += 1;
        }
        for (stage, count) in stages {
            let checks = counted(count, "check runs", "checks run");
            let mark = self.paint.dim("·");
            text.push_str(&format!(
                "  {mark} {checks} into what stage {stage} has not written yet\n"
            ));
        }
        text.push_str(&self.blocked(&open));
        text.push('\n');
        text
    }

    fn expanded(
        &self,
        exercise: &ExerciseGrade,
        stage: &StageGrade,
        check: &CheckGrade,
        grade: &Grade,
    ) -> String {
        let label = format!("{}.{}", exercise.number, stage.id);
        let mut text = format!("{}\n", self.rule(&format!("{label}  {}", check.title())));
        let verdict = words(check.verdict);
        if check.verdict != Verdict::Failed {
            text.push_str(&self.field("Verdict", verdict));
        }
        if let Some(promise) = &check.promise {
            text.push_str(&self.field("Promise", promise));
        }
        match &check.observed {
            // Its panic says less than the sentence made from it.
            Some(observed) if check.todo_stage.is_none() => {
                text.push_str(&self.field("Observed", observed))
            }
            _ => text.push_str(&self.field("Observed", &check.message)),
        }
        if let Some(code) = &check.code {
            let explain = self.paint.command(&format!("cargo xtask explain {code}"));
            text.push_str(&self.field(
                "Mistake",
                &format!("looks like {code}; its story: {explain}"),
            ));
        }
        if let Some(history) = &check.history {
            text.push_str(&format!("History\n{}\n", cut(history, HISTORY)));
        }
        if let Some(picture) = &check.picture {
            text.push_str(&self.field("Picture", &self.ctx.shown(picture)));
        }
        text.push_str(&self.field("Read on", &format!("{}#{}", exercise.chapter, stage.anchor)));
        let again = format!("{} --seed {}", command_of(grade, &label), grade.seed);
        // Never broken: it is there to be copied.
        text.push_str(&format!(
            "{}{}\n\n",
            self.paint.dim(&format!("{:<10}", "Again")),
            self.paint.command(&again)
        ));
        text
    }

    fn one_line(&self, stage: &StageGrade, check: &CheckGrade) -> String {
        let mark = match check.verdict {
            Verdict::Infrastructure => self.paint.dim("?"),
            _ => self.paint.bad("✗"),
        };
        let mut remark = match check.verdict {
            Verdict::Failed => String::new(),
            verdict => format!(", {}", words(verdict)),
        };
        if let Some(code) = &check.code {
            remark.push_str(&format!(", looks like {code}"));
        }
        let title = shortened(&check.title(), self.width.saturating_sub(8 + remark.len()));
        format!(
            "  {mark} {}  {title}{}\n",
            stage.id,
            self.paint.dim(&remark)
        )
    }

    fn blocked(&self, open: &[(&StageGrade, &CheckGrade)]) -> String {
        let mut by: BTreeMap<u32, usize> = BTreeMap::new();
        for (_, check) in open {
            if let Some(stage) = check.blocked_by {
                *by.entry(stage).or_default() += 1;
            }
        }
        let mut text = String::new();
        for (stage, count) in &by {
            let checks = counted(*count, "check waits", "checks wait");
            text.push_str(&format!(
                "  {} {checks} for stage {stage}\n",
                self.paint.dim("·")
            ));
        }
        text
    }

    fn next_step(&self, grade: &Grade) -> String {
        let step =
            |text: &str, command: &str| format!("Next: {text}{}\n", self.paint.command(command));
        if let Some(exercise) = grade
            .exercises
            .iter()
            .find(|exercise| exercise.compile_error.is_some())
        {
            return step(
                "make it compile, then ",
                &command_of(grade, &exercise.number.to_string()),
            );
        }
        if grade
            .exercises
            .iter()
            .any(|exercise| exercise.trouble.is_some())
        {
            return step("see what this machine lacks: ", "cargo xtask doctor");
        }
        for exercise in &grade.exercises {
            let open: Vec<_> = exercise
                .checks()
                .filter(|(_, check)| check.verdict != Verdict::Passed)
                .collect();
            let Some((stage, check)) = first_to_mend(&open) else {
                continue;
            };
            let label = format!(
                "{}.{}",
                exercise.number,
                check.blocked_by.unwrap_or(stage.id)
            );
            if check.verdict == Verdict::Infrastructure {
                return step("run again: ", &command_of(grade, &label));
            }
            return match &check.code {
                Some(code) => step(
                    &format!("mend \"{}\"; ", shortened(&check.title(), 50)),
                    &format!("cargo xtask explain {code}"),
                ),
                None => step(
                    &format!("stage {label}; stuck? ",),
                    &format!("cargo xtask hint {label}"),
                ),
            };
        }
        match grade.exercises.first() {
            Some(exercise) if grade.points == grade.max && grade.exercises.len() == 1 => {
                self.after_success(exercise)
            }
            _ => step("everything passes. Where you are: ", "cargo xtask"),
        }
    }

    fn after_success(&self, exercise: &ExerciseGrade) -> String {
        let number = exercise.number;
        let command = match exercise.stages.as_slice() {
            [_] => "cargo xtask".to_string(),
            _ => format!("cargo xtask diff {number}"),
        };
        let what = match exercise.stages.as_slice() {
            [stage] => format!("stage {number}.{} passes. Where you are: ", stage.id),
            _ => "everything passes. Compare yours with the reference: ".to_string(),
        };
        format!("Next: {what}{}\n", self.paint.command(&command))
    }

    fn rule(&self, title: &str) -> String {
        let title = shortened(title, self.width.saturating_sub(6));
        let rest = self.width.saturating_sub(title.chars().count() + 4);
        format!(
            "── {} {}",
            self.paint.strong(&title),
            self.paint.dim(&"─".repeat(rest))
        )
    }

    fn field(&self, name: &str, text: &str) -> String {
        format!(
            "{}{}\n",
            self.paint.dim(&format!("{name:<10}")),
            self.wrapped(text, "          ")
        )
    }

    /// Breaks at words; lines after the first begin with `indent`. Lines that are there stay.
    fn wrapped(&self, text: &str, indent: &str) -> String {
        let room = self.width.saturating_sub(indent.len()).max(20);
        let mut lines: Vec<String> = Vec::new();
        for paragraph in text.trim_end().lines() {
            // What is laid out by hand (a diagram, code) would be spoilt.
            if paragraph.starts_with("  ") || paragraph.chars().count() <= room {
                lines.push(paragraph.to_string());
                continue;
            }
            let mut line = String::new();
            for word in paragraph.split(' ') {
                if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                    lines.push(std::mem::take(&mut line));
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            lines.push(line);
        }
        lines.join(&format!("\n{indent}"))
    }
}

fn first_to_mend<'a>(
    open: &[(&'a StageGrade, &'a CheckGrade)],
) -> Option<(&'a StageGrade, &'a CheckGrade)> {
    let urgency = |verdict| match verdict {
        Verdict::Failed | Verdict::TooSlow | Verdict::Broken => 0,
        Verdict::Blocked => 1,
        Verdict::Infrastructure | Verdict::Passed => 2,
    };
    open.iter()
        .copied()
        .min_by_key(|(_, check)| urgency(check.verdict))
}

/// The command that grades the same candidate.
fn command_of(grade: &Grade, what: &str) -> String {
    let command = format!("cargo xtask grade {what} {}", grade.arguments);
    command.trim_end().to_string()
}

fn blocked_by(stage: &StageGrade) -> Option<u32> {
    stage.checks.iter().find_map(|check| check.blocked_by)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn cut(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    match all.len() > lines {
        true => format!(
            "{}\n… {} more lines",
            all[..lines].join("\n"),
            all.len() - lines
        ),
        false => all.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::grade;
    use Verdict::{Blocked, Failed, Infrastructure, Passed};

    fn shown(grade: &Grade) -> String {
        let mut ctx = Context::at("/w".into());
        ctx.terminal.colour = false;
        ctx.terminal.width = 80;
        render(&ctx, grade, false)
    }

    #[test]
    fn the_first_failure_is_expanded_and_the_next_step_is_one_line() {
        let mut grade = grade(&[&[Passed], &[Failed, Failed], &[Blocked]]);
        let stages = &mut grade.exercises[0].stages;
        stages[1].checks[0].promise = Some("It holds.".into());
        stages[1].checks[0].observed = Some("It did not hold.".into());
        stages[1].checks[0].code = Some("SQ03".into());
        stages[2].checks[0].blocked_by = Some(2);
        let text = shown(&grade);
        for expected in [
            "✓ 1  Send      40/40",
            "✗ 2  Consume    0/30  0 of 2 checks pass",
            "· 3  Share      0/30  waits for stage 2",
            "40 of 100 points",
            "── 1.2  promise number 1 ─",
            "Promise   It holds.",
            "Observed  It did not hold.",
            "looks like SQ03; its story: cargo xtask explain SQ03",
            "Read on   chapters/src/01-redis-streams.md#consuming",
            "Again     cargo xtask grade 1.2 --seed 7",
            "✗ 2  promise number 2",
            "· 1 check waits for stage 2",
        ] {
            assert!(
                text.contains(expected),
                "{expected:?} is missing in\n{text}"
            );
        }
        assert!(
            text.trim_end()
                .lines()
                .last()
                .unwrap()
                .starts_with("Next: "),
            "{text}"
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn the_commands_to_type_name_the_candidate() {
        let mut failed = grade(&[&[Failed], &[Passed], &[Passed]]);
        failed.arguments = "--candidate 'submissions/ada l'".into();
        let text = shown(&failed);
        let again = "cargo xtask grade 1.1 --candidate 'submissions/ada l' --seed 7\n";
        assert!(text.contains(again), "{text}");
        let mut unjudged = grade(&[&[Infrastructure], &[Passed], &[Passed]]);
        unjudged.arguments = "--solution".into();
        let text = shown(&unjudged);
        assert!(
            text.ends_with("run again: cargo xtask grade 1.1 --solution\n"),
            "{text}"
        );
    }

    #[test]
    fn a_changed_signature_is_told_before_the_compilers_words() {
        let mut broken = grade(&[&[Verdict::Broken], &[], &[]]);
        broken.exercises[0].compile_error = Some(crate::build::CompileError {
            file: None,
            line: None,
            message: "error: x".into(),
            rendered: "error: x\n --> queue.rs".into(),
            more: 0,
            note: Some("your code compiles, but the checks do not".into()),
        });
        let text = shown(&broken);
        let told = "\nYour code compiles, but the checks do not.\n\nerror: x\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn what_could_not_be_judged_is_no_blame() {
        let text = shown(&grade(&[&[Passed], &[Infrastructure], &[Passed]]));
        assert!(
            text.contains("30 points could not be judged: said."),
            "{text}"
        );
        assert!(
            text.contains("Nothing is taken from you; run again."),
            "{text}"
        );
    }

    #[test]
    fn success_leads_on() {
        let text = shown(&grade(&[&[Passed], &[Passed], &[Passed]]));
        assert!(text.contains("100 of 100 points"), "{text}");
        assert!(text.contains("cargo xtask diff 1"), "{text}");
    }
}
