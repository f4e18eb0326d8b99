//! Progress on standard error: moving on a terminal, a line now and then elsewhere. Standard output stays for results.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;
use crate::model::Verdict;

/// Plain progress says how far the checks are at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows what the runner is doing.
pub struct Display {
    bar: Option<ProgressBar>,
    plain: bool,
    state: Mutex<State>,
}

struct State {
    label: String,
    done: usize,
    total: usize,
    failed: usize,
    said: Instant,
}

impl Display {
    /// Moving on a terminal, lines elsewhere, nothing at all if `quiet`.
    pub fn new(ctx: &Context, quiet: bool) -> Self {
        let bar = (ctx.terminal.stderr && !quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Display {
            plain: bar.is_none() && !quiet,
            bar,
            state: Mutex::new(State {
                label: String::new(),
                done: 0,
                total: 0,
                failed: 0,
                said: Instant::now(),
            }),
        }
    }

    /// What is being worked on from here: the exercise, and the candidate if there are several.
    pub fn label(&self, label: String) {
        if let Ok(mut state) = self.state.lock() {
            state.label = label;
        }
    }

    /// A new step begins; always said.
    pub fn step(&self, text: &str) {
        let Ok(state) = self.state.lock() else { return };
        let text = format!("{}: {text}", state.label);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.plain => eprintln!("{text}"),
            None => {}
        }
    }

    /// A detail of the current step; said only where it can be overwritten.
    pub fn detail(&self, text: &str) {
        if let (Some(bar), Ok(state)) = (&self.bar, self.state.lock()) {
            bar.set_message(format!("{}: {text}", state.label));
        }
    }

    /// `total` checks begin, `jobs` side by side.
    pub fn checks(&self, total: usize, jobs: usize) {
        if let Ok(mut state) = self.state.lock() {
            (state.done, state.total, state.failed, state.said) = (0, total, 0, Instant::now());
        }
        let plural = if total == 1 { "check" } else { "checks" };
        self.step(&format!("{total} {plural}, up to {jobs} side by side"));
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(0);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len}  {msg}")
            {
                bar.set_style(style);
            }
        }
    }

    /// One check has ended.
    pub fn ended(&self, verdict: Verdict) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        state.done += 1;
        state.failed += usize::from(verdict != Verdict::Passed);
        let text = format!("{}: {} do not pass so far", state.label, state.failed);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            if state.failed > 0 {
                bar.set_message(text);
            }
        } else if self.plain && state.said.elapsed() >= PLAIN_EVERY {
            state.said = Instant::now();
            eprintln!(
                "{}: {} of {} checks done",
                state.label, state.done, state.total
            );
        }
    }

    /// Back to what it was before the checks.
    pub fn checks_ended(&self) {
        if let Some(bar) = &self.bar {
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_message("");
        }
    }

    /// Runs `ask` with the terminal to itself.
    pub fn suspended<T>(&self, ask: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(ask),
            None => ask(),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
