//! What must come of each check, and of the processes it had.

use std::process::Command;

use lab::judge::Verdict;
use libtest_mimic::{Failed, Trial};

use crate::run::{AS_SUITE, Run, Said, this_program};

type Outcome = Result<(), Failed>;

pub fn all() -> Vec<Trial> {
    // Where there is no browser, only that is tried.
    let is_here = !lab::browser::programs().is_empty() && lab::browser::driver().is_some();
    let mut trials = Vec::new();
    for name in [
        "two_windows_talk",
        "two_browsers_share_nothing",
        "the_console_is_read",
        "pictures_have_the_size",
        "dark_is_dark",
        "offline_is_offline",
        "what_is_missing_is_named",
        "a_page_that_hangs_is_told",
        "the_internet_is_not_there",
    ] {
        let pass = move || passes(&format!("pages::{name}"));
        trials.push(Trial::test(name, pass).with_ignored_flag(!is_here));
    }
    let mut add = |name: &str, run: fn() -> Outcome| {
        trials.push(Trial::test(name, run).with_ignored_flag(!is_here));
    };
    add(
        "pictures_are_kept_where_the_author_wants",
        pictures_are_kept,
    );
    add("a_killed_check_loses_its_browser", a_killed_check_loses_it);
    add("a_killed_run_leaves_no_browser", a_killed_run);
    add("an_interrupt_leaves_no_browser", an_interrupt);
    add("the_browser_of_a_killed_keeper_is_swept", a_killed_keeper);
    add("cargo_test_has_the_same_browser", cargo_test);
    trials.push(Trial::test(
        "without_a_browser_only_the_check_is_not_judged",
        without_a_browser,
    ));
    trials
}

fn judged(check: &str, environment: &[(&str, &str)]) -> Result<Said, Failed> {
    Run::of(check, environment)?.end()
}

fn passes(check: &str) -> Outcome {
    let said = judged(check, &[])?;
    match said.report.verdict {
        Verdict::Passed if said.outlived.is_empty() => Ok(()),
        Verdict::Passed => Err(format!("these outlived the check: {:#?}", said.outlived).into()),
        _ => Err(said.report.to_string().into()),
    }
}

fn pictures_are_kept() -> Outcome {
    let place = tempfile::tempdir()?;
    let pictures = place.path().join("pictures");
    let said = judged(
        "pages::pictures_have_the_size",
        &[("WORKBOOK_PICTURES", &pictures.display().to_string())],
    )?;
    assert_eq!(said.report.verdict, Verdict::Passed, "{}", said.report);
    for name in ["desk.png", "small.png", "deep/phone.png"] {
        assert!(pictures.join(name).is_file(), "{name} was not kept");
    }
    Ok(())
}

fn a_killed_check_loses_it() -> Outcome {
    let said = judged("ends::aborts", &[])?;
    assert_eq!(said.report.verdict, Verdict::Failed, "{}", said.report);
    assert!(said.report.message.contains("SIGABRT"), "{}", said.report);
    assert!(said.outlived.is_empty(), "{:#?}", said.outlived);
    Ok(())
}

fn a_killed_run() -> Outcome {
    let mut run = Run::of("ends::waits", &[])?;
    run.until_it_is_up()?;
    run.kill()?;
    run.leaves_nothing()
}

fn an_interrupt() -> Outcome {
    let mut run = Run::of("ends::waits", &[])?;
    run.until_it_is_up()?;
    run.interrupt_its_group()?;
    run.leaves_nothing()
}

fn a_killed_keeper() -> Outcome {
    let mut run = Run::of("ends::waits", &[])?;
    run.until_it_is_up()?;
    run.kill_keeper()?;
    run.kill()?;
    assert!(!run.browsers().is_empty(), "nothing is left to be swept");
    let said = run.beside("ends::passes")?.end()?;
    assert_eq!(said.report.verdict, Verdict::Passed, "{}", said.report);
    run.leaves_nothing()
}

/// What a learner does who does not use the runner.
fn cargo_test() -> Outcome {
    let output = Command::new(this_program())
        .args(["--exact", "ends::passes"])
        .env(AS_SUITE, "1")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    Ok(())
}

fn without_a_browser() -> Outcome {
    let place = tempfile::tempdir()?;
    let path = place.path().display().to_string();
    let said = judged("ends::passes", &[("PATH", &path)])?;
    assert_eq!(
        said.report.verdict,
        Verdict::Infrastructure,
        "{}",
        said.report
    );
    let text = said.report.message;
    // On macOS the applications are found without a path.
    if cfg!(target_os = "linux") {
        assert!(
            text.contains("no browser can be had on this machine")
                && text.contains("chromium and chromedriver: they are not installed")
                && text.contains("to mend it:"),
            "{text}"
        );
    }
    Ok(())
}
