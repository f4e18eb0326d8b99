//! The pipeline that every candidate goes through: lay out, build, list checks, run, judge.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use lab::brokers::{Keeper, Unavailable, Wanted};
use lab::judge::{Endpoints, Job, run_check};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::build::{self, Binaries, Build};
use crate::candidate::{self, Candidate};
use crate::checks::{self, Check};
use crate::context::Context;
use crate::display::Display;
use crate::durations::Durations;
use crate::exit::Exit;
use crate::interrupt::or_interrupted;
use crate::manifest::{Broker, Exercise};
use crate::model::{CheckGrade, ExerciseGrade, Grade, StageGrade, Timings, Verdict};
use crate::workspace_lock::{self, RunFolder};
use crate::{score, setup, verdict};

/// How to grade.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The seed of every check; a new one if none is given.
    pub seed: Option<u64>,
    /// Checks that run side by side; by default four for each core, since most of a check is waiting.
    pub jobs: Option<usize>,
    /// Install missing brokers without asking.
    pub yes: bool,
    /// Show no progress.
    pub quiet: bool,
}

/// What of an exercise is graded.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// The exercise.
    pub exercise: &'a Exercise,
    /// Only this stage; all of them if none.
    pub stage: Option<u32>,
    /// Only checks with this in their name.
    pub check: Option<String>,
}

impl<'a> Selection<'a> {
    /// All of an exercise.
    pub fn all(exercise: &'a Exercise) -> Self {
        Selection {
            exercise,
            stage: None,
            check: None,
        }
    }

    fn takes(&self, check: &Check) -> bool {
        self.stage.is_none_or(|stage| stage == check.stage)
            && self
                .check
                .as_ref()
                .is_none_or(|part| check.name.contains(part))
    }
}

/// Grades candidates, one after the other, on the same brokers. They end with the session.
pub struct Session<'a> {
    ctx: &'a Context,
    options: Options,
    seed: u64,
    brokers: Mutex<Brokers>,
    /// Installing was offered and came to nothing: do not offer it for every candidate again.
    refused: AtomicBool,
    /// The same for a browser.
    offered_browser: AtomicBool,
}

#[derive(Default)]
struct Brokers {
    keeper: Option<Keeper>,
    has: Wanted,
}

impl<'a> Session<'a> {
    /// Starts nothing yet: brokers come with the first candidate that needs them.
    pub fn new(ctx: &'a Context, options: Options) -> Self {
        let seed = options.seed.unwrap_or_else(random_seed);
        Session {
            ctx,
            options,
            seed,
            brokers: Mutex::default(),
            refused: AtomicBool::new(false),
            offered_browser: AtomicBool::new(false),
        }
    }

    /// Grades a candidate. A candidate that does not compile and a machine without a broker are grades too, not errors.
    ///
    /// # Errors
    /// [`crate::exit::Interrupted`] after Ctrl-C; a usage error if the candidate has none of the modules; whatever keeps the runner
    /// itself from working.
    pub fn grade(&self, candidate: &Candidate, selections: &[Selection]) -> anyhow::Result<Grade> {
        let runtime = self.ctx.runtime()?;
        runtime.block_on(or_interrupted(self.judge(candidate, selections)))
    }

    /// What [`grade`](Self::grade) does, for those who grade several at once: only one of them builds at a time, while the checks of
    /// the others run.
    ///
    /// # Errors
    /// As there, but for Ctrl-C, which is the caller's.
    pub async fn judge(
        &self,
        candidate: &Candidate,
        selections: &[Selection<'_>],
    ) -> anyhow::Result<Grade> {
        let grade = self.run(candidate, selections).await?;
        if grade.exit() == Exit::Infrastructure {
            // The broker may be what went wrong. The next candidate gets one that was looked at again.
            *self.brokers.lock().await = Brokers::default();
        }
        Ok(grade)
    }

    async fn run(
        &self,
        candidate: &Candidate,
        selections: &[Selection<'_>],
    ) -> anyhow::Result<Grade> {
        let began = Instant::now();
        let display = Display::new(self.ctx, self.options.quiet);
        let mut grade = Grade {
            points: 0,
            max: 0,
            unjudged: 0,
            candidate: candidate.label(),
            arguments: candidate.arguments(),
            seed: self.seed,
            exercises: Vec::new(),
            timings: Timings::default(),
        };
        let wanted = wanted(selections);
        for selection in selections {
            display.label(selection.exercise.name().to_string());
            let exercise = self
                .exercise(candidate, selection, wanted, &display, &mut grade.timings)
                .await?;
            grade.exercises.push(exercise);
        }
        score::add_up(&mut grade);
        grade.timings.total = millis(began);
        Ok(grade)
    }

    async fn exercise(
        &self,
        candidate: &Candidate,
        selection: &Selection<'_>,
        wanted: Wanted,
        display: &Display,
        timings: &mut Timings,
    ) -> anyhow::Result<ExerciseGrade> {
        let exercise = selection.exercise;
        let folder = RunFolder::create(self.ctx)?;
        let began = Instant::now();
        // The brokers start while the build runs. A build that fails does not wait for them.
        let brokers = self.brokers(wanted);
        tokio::pin!(brokers);
        let mut started = None;
        let laid_out = self.lay_out_and_build(candidate, exercise, &folder, display);
        tokio::pin!(laid_out);
        let (notes, build) = loop {
            tokio::select! {
                result = &mut laid_out => break result?,
                result = &mut brokers, if started.is_none() => started = Some(result),
            }
        };
        timings.build += millis(began);
        let mut grade = blank(self.ctx, selection, notes);
        let binaries = match build {
            Build::Done(binaries) => binaries,
            Build::Broken(error) => {
                let message = error.summary();
                put_all(
                    &mut grade,
                    selection,
                    &checks::in_sources(exercise)?,
                    Verdict::Broken,
                    &message,
                );
                grade.compile_error = Some(error);
                score::count(&mut grade);
                return Ok(grade);
            }
            Build::Infrastructure(why) => {
                let all = checks::in_sources(exercise)?;
                return Ok(unjudged(grade, selection, &all, why));
            }
        };
        let all = checks::described_by(&binaries.checks).await?;
        let began = Instant::now();
        let started = match started {
            Some(started) => started,
            None => {
                display.step("starting brokers");
                brokers.await
            }
        };
        let endpoints = match self.or_installed(started, wanted, display).await? {
            Ok(endpoints) => endpoints,
            Err(why) => return Ok(unjudged(grade, selection, &all, why)),
        };
        if exercise.manifest.browser && !self.offered_browser.swap(true, Ordering::Relaxed) {
            let offer = || setup::offer_browser(self.ctx, self.options.yes);
            tokio::task::block_in_place(|| display.suspended(offer));
        }
        timings.brokers += millis(began);
        let began = Instant::now();
        let chosen: Vec<Check> = all
            .into_iter()
            .filter(|check| selection.takes(check))
            .collect();
        let ran = self
            .run_checks(exercise, &binaries, &endpoints, chosen, display)
            .await?;
        timings.checks += millis(began);
        put(&mut grade, ran);
        verdict::settle(exercise, &mut grade);
        score::count(&mut grade);
        Ok(grade)
    }

    /// From layout to the copies of the binaries under the lock: afterwards another run may build what it likes.
    async fn lay_out_and_build(
        &self,
        candidate: &Candidate,
        exercise: &Exercise,
        folder: &RunFolder,
        display: &Display,
    ) -> anyhow::Result<(Vec<String>, Build)> {
        display.step("building");
        let _lock = workspace_lock::for_building(self.ctx, || {
            display.step("waiting for another run that builds in this workspace");
        })
        .await?;
        let notes = candidate::lay_out(self.ctx, candidate, exercise)?;
        let progress = |text: &str| display.detail(text);
        let build = build::build(self.ctx, candidate, exercise, &progress).await?;
        let build = match build {
            Build::Done(binaries) => Build::Done(build::take(&binaries, folder.path())?),
            other => other,
        };
        Ok((notes, build))
    }

    /// Where the brokers are; starts what is not running yet.
    async fn brokers(&self, wanted: Wanted) -> Result<Endpoints, Unavailable> {
        let mut brokers = self.brokers.lock().await;
        if let Some(keeper) = &brokers.keeper
            && brokers.has.covers(wanted)
        {
            return Ok(keeper.endpoints());
        }
        let keeper = Keeper::start(wanted).await?;
        let endpoints = keeper.endpoints();
        brokers.keeper = Some(keeper);
        brokers.has = wanted;
        Ok(endpoints)
    }

    /// If there is no broker: offers to install it, once, and tries again. The inner error is what the user should read.
    async fn or_installed(
        &self,
        started: Result<Endpoints, Unavailable>,
        wanted: Wanted,
        display: &Display,
    ) -> anyhow::Result<Result<Endpoints, String>> {
        let unavailable = match started {
            Ok(endpoints) => return Ok(Ok(endpoints)),
            Err(unavailable) => unavailable,
        };
        if self.refused.load(Ordering::Relaxed) {
            return Ok(Err(unavailable.to_string()));
        }
        let named = [(wanted.redis, Broker::Redis), (wanted.amqp, Broker::Amqp)];
        let brokers: Vec<_> = named
            .into_iter()
            .filter_map(|(is_wanted, broker)| is_wanted.then_some(broker))
            .collect();
        let offer = || setup::offer(self.ctx, &brokers, self.options.yes);
        let installed = tokio::task::block_in_place(|| display.suspended(offer));
        let why = match installed {
            Ok(true) => match self.brokers(wanted).await {
                Ok(endpoints) => return Ok(Ok(endpoints)),
                Err(still) => still.to_string(),
            },
            Ok(false) => unavailable.to_string(),
            Err(error) => format!("{unavailable}\n{error:#}"),
        };
        self.refused.store(true, Ordering::Relaxed);
        Ok(Err(why))
    }

    async fn run_checks(
        &self,
        exercise: &Exercise,
        binaries: &Binaries,
        endpoints: &Endpoints,
        mut chosen: Vec<Check>,
        display: &Display,
    ) -> anyhow::Result<Vec<(u32, CheckGrade)>> {
        let order: Vec<String> = chosen.iter().map(|check| check.name.clone()).collect();
        let mut durations = Durations::load(self.ctx, exercise.name());
        durations.sort(&mut chosen);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let jobs = self.options.jobs.unwrap_or(4 * cores).max(1);
        display.checks(chosen.len(), jobs);
        let places = Arc::new(Semaphore::new(jobs));
        let mut running = JoinSet::new();
        for check in chosen {
            let job = Job {
                binary: binaries.checks.clone(),
                check: check.name,
                service: Some(binaries.service.clone()),
                brokers: endpoints.clone(),
                seed: self.seed,
                patience: lab::patience(),
                limit: check.limit.mul_f64(lab::patience()),
                memory: MEMORY,
            };
            let places = places.clone();
            running.spawn(async move {
                let _place = places.acquire_owned().await;
                (check.stage, CheckGrade::from(run_check(&job).await))
            });
        }
        let mut ended = Vec::new();
        while let Some(joined) = running.join_next().await {
            let (stage, check) = joined.context("running a check")?;
            display.ended(check.verdict);
            if check.verdict == Verdict::Passed {
                durations.remember(&check.name, check.millis);
            }
            ended.push((stage, check));
        }
        durations.save(self.ctx, exercise.name());
        display.checks_ended();
        ended.sort_by_key(|(_, check)| order.iter().position(|name| *name == check.name));
        Ok(ended)
    }
}

/// What all of them together stand on.
fn wanted(selections: &[Selection]) -> Wanted {
    let mut wanted = Wanted::default();
    for selection in selections {
        let manifest = &selection.exercise.manifest;
        wanted.redis |= manifest.brokers.contains(&Broker::Redis);
        wanted.amqp |= manifest.brokers.contains(&Broker::Amqp);
        wanted.browser |= manifest.browser;
    }
    wanted
}

/// The address space that a check may use, in bytes: several times what the hungriest needs, and little enough that a candidate
/// which eats memory without end hurts nobody but itself.
const MEMORY: u64 = 2 << 30;

/// The grade before anything is known.
fn blank(ctx: &Context, selection: &Selection, notes: Vec<String>) -> ExerciseGrade {
    let manifest = &selection.exercise.manifest;
    let chapter = ctx.root.join("chapters/src").join(&manifest.chapter);
    let stages = manifest
        .stages
        .iter()
        .filter(|stage| selection.stage.is_none_or(|id| id == stage.id))
        .map(|stage| StageGrade {
            id: stage.id,
            title: stage.title.clone(),
            points: 0,
            max: stage.points,
            unjudged: 0,
            tier: stage.tier,
            anchor: stage.anchor.clone(),
            checks: Vec::new(),
        });
    ExerciseGrade {
        name: manifest.name.clone(),
        number: selection.exercise.number,
        title: manifest.title.clone(),
        points: 0,
        max: 0,
        unjudged: 0,
        stages: stages.collect(),
        notes,
        compile_error: None,
        trouble: None,
        chapter: ctx.shown(&chapter),
    }
}

/// Puts each check where it belongs.
fn put(grade: &mut ExerciseGrade, checks: impl IntoIterator<Item = (u32, CheckGrade)>) {
    for (id, check) in checks {
        if let Some(stage) = grade.stages.iter_mut().find(|stage| stage.id == id) {
            stage.checks.push(check);
        }
    }
}

/// Gives all checks the same verdict, since none could run.
fn put_all(
    grade: &mut ExerciseGrade,
    selection: &Selection,
    all: &[Check],
    verdict: Verdict,
    message: &str,
) {
    let mut known = BTreeSet::new();
    let unrun = all
        .iter()
        .filter(|check| selection.takes(check) && known.insert(&check.name))
        .map(|check| {
            (
                check.stage,
                CheckGrade::unrun(&check.name, verdict, message),
            )
        });
    put(grade, unrun);
}

fn unjudged(
    mut grade: ExerciseGrade,
    selection: &Selection,
    all: &[Check],
    why: String,
) -> ExerciseGrade {
    put_all(&mut grade, selection, all, Verdict::Infrastructure, &why);
    grade.trouble = Some(why);
    score::count(&mut grade);
    grade
}

/// Short enough to be typed again.
fn random_seed() -> u64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    random % 1_000_000
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
