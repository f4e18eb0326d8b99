//! `cargo xtask watch`: grade the stage the learner is at whenever a file is saved, and move on when it is green.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use notify::event::ModifyKind;
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::candidate::Candidate;
use crate::context::Context;
use crate::exit::Exit;
use crate::grade::print;
use crate::interrupt::or_interrupted;
use crate::manifest::{self, Exercise, Stage};
use crate::progress::{self, Progress};
use crate::report::{self, Format};
use crate::session::{Options, Selection, Session};

/// Editors write a file in several steps: a save is over when nothing has happened for so long.
const SETTLED: Duration = Duration::from_millis(100);

/// What `watch` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise (1, 01, stream-queue), or one stage of it (1.3) to stay at; where you are without it
    #[arg(value_name = "EX[.STAGE]")]
    what: Option<String>,
    /// Install missing brokers without asking
    #[arg(long)]
    yes: bool,
    /// End after the first grade that leads to no other
    #[arg(long, hide = true)]
    once: bool,
}

/// Runs `cargo xtask watch`.
pub fn run(args: Args, ctx: &Context) -> anyhow::Result<Exit> {
    let all = ctx.exercises()?;
    let (exercise, pinned) = match &args.what {
        Some(what) => manifest::find_stage(all, what)?,
        None => {
            let begun = begun(all, &Progress::load(ctx)?);
            (begun.context("there is no exercise to watch")?, None)
        }
    };
    // Listening begins before the first grade, so that a save during it is not missed.
    let saves = Saves::listen(&exercise.path.join("src"))?;
    let session = Session::new(
        ctx,
        Options {
            yes: args.yes,
            ..Options::default()
        },
    );
    loop {
        saves.forget();
        let exit = grade_until_red(ctx, &session, exercise, pinned)?;
        if args.once {
            return Ok(exit);
        }
        println!(
            "\nWaiting for a save in {} (Ctrl-C ends)",
            ctx.shown(&exercise.path.join("src"))
        );
        ctx.runtime()?.block_on(or_interrupted(saves.next()))?;
    }
}

/// The exercise that was begun and is not done, else the first that is not done, else the first.
fn begun<'a>(all: &'a [Exercise], progress: &Progress) -> Option<&'a Exercise> {
    let open = |exercise: &&Exercise| progress.current(exercise).is_some();
    let known = |exercise: &&Exercise| progress.of(exercise).is_some();
    all.iter()
        .find(|exercise| open(exercise) && known(exercise))
        .or_else(|| all.iter().find(open))
        .or_else(|| all.first())
}

/// Grades stage after stage as long as they are green. Only the stage at hand: that is what a save is about, and it takes seconds.
fn grade_until_red(
    ctx: &Context,
    session: &Session,
    exercise: &Exercise,
    pinned: Option<&Stage>,
) -> anyhow::Result<Exit> {
    let mut last = None;
    loop {
        let current = pinned.or(Progress::load(ctx)?.current(exercise));
        let stage = current.map(|stage| stage.id);
        let selection = Selection {
            stage,
            ..Selection::all(exercise)
        };
        let grade = session.grade(&Candidate::WorkingCopy, &[selection])?;
        progress::record(ctx, &grade)?;
        print(&report::render(
            ctx,
            std::slice::from_ref(&grade),
            Format::Pretty,
            false,
        )?)?;
        // The same stage again would say the same again, and after the whole exercise there is nothing to move on to.
        let move_on =
            grade.exit() == Exit::Passed && pinned.is_none() && stage.is_some() && stage != last;
        if !move_on {
            return Ok(grade.exit());
        }
        last = stage;
        println!();
    }
}

/// Saves of source files, as the system reports them.
struct Saves {
    _watcher: notify::RecommendedWatcher,
    events: tokio::sync::Mutex<UnboundedReceiver<()>>,
}

impl Saves {
    fn listen(folder: &Path) -> anyhow::Result<Self> {
        let what = || format!("watching {}", folder.display());
        let (sender, events) = unbounded_channel();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| is_save(&event)) {
                    // The receiver is gone only when the command ends.
                    let _ = sender.send(());
                }
            })
            .with_context(what)?;
        watcher
            .watch(folder, RecursiveMode::Recursive)
            .with_context(what)?;
        Ok(Saves {
            _watcher: watcher,
            events: events.into(),
        })
    }

    /// Forgets the saves that the next build sees anyway.
    fn forget(&self) {
        if let Ok(mut events) = self.events.try_lock() {
            while events.try_recv().is_ok() {}
        }
    }

    /// Waits for a save, and until it is over.
    async fn next(&self) -> anyhow::Result<()> {
        let mut events = self.events.lock().await;
        let ended =
            "the system stopped reporting changes of files; start `cargo xtask watch` again";
        events.recv().await.context(ended)?;
        while tokio::time::timeout(SETTLED, events.recv())
            .await
            .is_ok_and(|event| event.is_some())
        {}
        Ok(())
    }
}

/// Building reads the files: that is no save, nor is a change of permissions or of times alone.
fn is_save(event: &notify::Event) -> bool {
    let changed = match event.kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Modify(_) => true,
        _ => false,
    };
    changed
        && event
            .paths
            .iter()
            .any(|path| path.extension().is_some_and(|ending| ending == "rs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, DataChange, MetadataKind};

    #[test]
    fn a_write_is_a_save_and_a_read_is_not() {
        let event = |kind, path: &str| is_save(&notify::Event::new(kind).add_path(path.into()));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert!(event(written, "src/worker.rs"));
        assert!(!event(written, "src/.worker.rs.swp"));
        assert!(!event(EventKind::Access(AccessKind::Any), "src/worker.rs"));
        assert!(!event(
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
            "src/worker.rs"
        ));
    }

    #[tokio::test]
    async fn a_save_is_noticed_and_its_steps_count_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let saves = Saves::listen(folder.path()).unwrap();
        std::fs::write(folder.path().join("worker.rs"), "a").unwrap();
        std::fs::write(folder.path().join("worker.rs"), "ab").unwrap();
        saves.next().await.unwrap();
        let again = tokio::time::timeout(Duration::from_millis(300), saves.next()).await;
        assert!(again.is_err(), "one save was reported twice");
    }
}
