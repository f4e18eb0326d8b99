//! `cargo xtask atlas`: makes every mistake of the atlas, and sees to it that it is caught and diagnosed.

pub mod page;
mod patch;
mod report;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use futures::stream;

use crate::candidate::Candidate;
use crate::checks;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::interrupt::or_interrupted;
use crate::manifest::Exercise;
use crate::model::{Grade, Verdict};
use crate::session::{Options, Selection, Session};
use crate::stubs;
use page::Page;

/// Mistakes under way at once: one that is built, and one that is checked.
const AT_ONCE: usize = 2;

/// What `atlas` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The exercise, by number or name; all of them without it
    exercise: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only this mistake
    #[arg(long, value_name = "CODE")]
    only: Option<String>,
    /// Run every check of the exercise against each mistake, not only the one that has to catch it
    #[arg(long)]
    all: bool,
    /// Leave out the reference, which has to pass everything
    #[arg(long)]
    mistakes_only: bool,
    /// Install missing brokers without asking
    #[arg(long)]
    yes: bool,
}

/// How the result is printed.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Pretty,
    /// One object.
    Json,
}

/// What became of one mistake.
pub struct Outcome {
    /// Its page.
    pub page: Page,
    /// The exercise it was made in.
    pub exercise: String,
    /// The named check failed.
    pub caught: bool,
    /// It failed with the page's own code.
    pub diagnosed: bool,
    /// Why it is not caught and diagnosed; empty if it is.
    pub why: String,
    /// Every check that ran.
    pub grade: Option<Grade>,
}

/// Runs `cargo xtask atlas`.
pub fn run(args: Args, ctx: &Context) -> Result<Exit> {
    let exercises = match &args.exercise {
        Some(name) => vec![ctx.exercise(name)?],
        None => ctx.exercises()?.iter().collect(),
    };
    let pages = pages(ctx, &exercises, args.only.as_deref())?;
    let options = Options {
        yes: args.yes,
        // Two at once would write over each other's progress.
        quiet: true,
        ..Options::default()
    };
    let session = Session::new(ctx, options);
    let references = if args.mistakes_only {
        Vec::new()
    } else {
        grade_references(&session, &exercises, &pages)?
    };
    let outcomes = ctx
        .runtime()?
        .block_on(or_interrupted(judge_all(ctx, &session, pages, args.all)))?;
    match args.format {
        Format::Json => println!("{}", report::json(&outcomes, &references)),
        Format::Pretty => print!("{}", report::pretty(&outcomes, &references)),
    }
    Ok(exit(&outcomes, &references))
}

/// The pages to run, each with its exercise.
fn pages<'a>(
    ctx: &Context,
    exercises: &[&'a Exercise],
    only: Option<&str>,
) -> Result<Vec<(&'a Exercise, Page)>> {
    let mut found = Vec::new();
    for page in page::read_all(&ctx.root.join(page::FOLDER))? {
        let exercise = exercises
            .iter()
            .find(|e| e.manifest.code == page.exercise_code());
        let is_wanted = only.is_none_or(|code| code.eq_ignore_ascii_case(&page.code));
        if let Some(exercise) = exercise.filter(|_| is_wanted) {
            found.push((*exercise, page));
        }
    }
    if found.is_empty() {
        let what = only.map_or("a page".to_owned(), |code| format!("a page {code}"));
        return Err(Usage(format!(
            "the atlas has no such mistake: looked in {} for {what} of {}",
            page::FOLDER,
            exercises
                .iter()
                .map(|e| e.name())
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .into());
    }
    Ok(found)
}

/// Grades the reference of each exercise that has a page among `pages`.
fn grade_references(
    session: &Session,
    exercises: &[&Exercise],
    pages: &[(&Exercise, Page)],
) -> Result<Vec<Grade>> {
    let concerned = exercises.iter().filter(|exercise| {
        pages
            .iter()
            .any(|(other, _)| other.number == exercise.number)
    });
    concerned
        .map(|exercise| {
            let grade = session.grade(&Candidate::Reference, &[Selection::all(exercise)])?;
            eprintln!(
                "the reference of {}: {} of {} points",
                exercise.name(),
                grade.points,
                grade.max
            );
            Ok(grade)
        })
        .collect()
}

/// Judges every mistake, in order. While the checks look at one, the next is built: checks mostly wait, and a build does not.
async fn judge_all(
    ctx: &Context,
    session: &Session<'_>,
    pages: Vec<(&Exercise, Page)>,
    all: bool,
) -> Result<Vec<Outcome>> {
    let total = pages.len();
    let mut judged = stream::iter(pages)
        .map(|(exercise, page)| judge(ctx, session, exercise, page, all))
        .buffered(AT_ONCE);
    let mut outcomes = Vec::new();
    while let Some(outcome) = judged.next().await {
        let outcome = outcome?;
        let number = outcomes.len() + 1;
        eprintln!(
            "{number} of {total}: {} {}",
            outcome.page.code,
            outcome.verdict()
        );
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Makes the mistake of a page and grades it.
async fn judge(
    ctx: &Context,
    session: &Session<'_>,
    exercise: &Exercise,
    page: Page,
    all: bool,
) -> Result<Outcome> {
    // A page that does not fit the reference any more is one mistake that nobody catches; the others still count.
    let files = match modules(exercise, &page).with_context(|| ctx.shown(&page.path)) {
        Ok(files) => files,
        Err(error) => {
            return Ok(Outcome {
                exercise: exercise.name().to_owned(),
                caught: false,
                diagnosed: false,
                why: format!("{error:#}"),
                grade: None,
                page,
            });
        }
    };
    let candidate = Candidate::Modules {
        label: page.code.clone(),
        files,
    };
    let selection = Selection {
        stage: checks::stage_of(&page.caught_by).filter(|_| !all),
        check: (!all).then(|| page.caught_by.clone()),
        ..Selection::all(exercise)
    };
    let grade = session.judge(&candidate, &[selection]).await?;
    Ok(Outcome::of(exercise, page, grade))
}

/// The reference's modules with the page's mistake made in them.
pub fn modules(exercise: &Exercise, page: &Page) -> Result<stubs::Modules> {
    let mut files = stubs::reference(exercise)?;
    let diff = page
        .diff
        .as_deref()
        .context("the fenced ```diff block that makes the mistake is missing")?;
    let changed = patch::apply(&files, diff)?;
    files.extend(changed);
    Ok(files)
}

impl Outcome {
    fn of(exercise: &Exercise, page: Page, grade: Grade) -> Self {
        let check = grade.check(&page.caught_by);
        let caught =
            check.is_some_and(|check| matches!(check.verdict, Verdict::Failed | Verdict::TooSlow));
        let code = check.and_then(|check| check.code.clone());
        let diagnosed = caught && code.as_deref() == Some(page.code.as_str());
        let broken = grade
            .exercises
            .iter()
            .find_map(|e| e.compile_error.as_ref());
        let trouble = grade.exercises.iter().find_map(|e| e.trouble.as_ref());
        let why = match (check, broken, trouble) {
            _ if diagnosed => String::new(),
            (_, Some(error), _) => format!("it does not compile:\n{}", error.rendered),
            (_, _, Some(trouble)) => trouble.clone(),
            (None, _, _) => format!("there is no check {}", page.caught_by),
            (Some(check), _, _) if caught => format!(
                "{} fails with the code {}: {}",
                page.caught_by,
                code.as_deref().unwrap_or("(none)"),
                check.message
            ),
            (Some(check), _, _) => format!(
                "{} {}: {}",
                page.caught_by,
                crate::model::words(check.verdict),
                check.message
            ),
        };
        Outcome {
            exercise: exercise.name().to_owned(),
            caught,
            diagnosed,
            why,
            grade: Some(grade),
            page,
        }
    }

    /// The outcome in one word or two.
    fn verdict(&self) -> &'static str {
        match (self.caught, self.diagnosed) {
            (true, true) => "caught and diagnosed",
            (true, false) => "caught, but NOT DIAGNOSED",
            (false, _) => "NOT CAUGHT",
        }
    }
}

fn exit(outcomes: &[Outcome], references: &[Grade]) -> Exit {
    let grades = outcomes
        .iter()
        .filter_map(|outcome| outcome.grade.as_ref())
        .chain(references);
    if grades
        .clone()
        .any(|grade| grade.exit() == Exit::Infrastructure)
    {
        return Exit::Infrastructure;
    }
    let is_right = outcomes.iter().all(|outcome| outcome.diagnosed)
        && references.iter().all(|grade| grade.exit() == Exit::Passed);
    if is_right { Exit::Passed } else { Exit::Failed }
}
