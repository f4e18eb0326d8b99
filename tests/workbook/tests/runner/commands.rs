//! Wrong usage, formats, and the small commands.

use workbook::{Candidate, turn, xtask};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = xtask(arguments).output().expect("the runner starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_would_be_right() {
    let _turn = turn();
    for arguments in [
        &["grade", "7.1"][..],
        &["grade", "1.12"],
        &["grade", "no-such-exercise"],
        &["grade", "1", "--candidate", "/no/such/folder"],
        &["grade", "1", "--solution", "--candidate", "."],
        &["grade", "1", "--format", "poem"],
        &["hint", "1.12"],
        &["explain", "SQ99"],
        &["frobnicate"],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}\n{out}\n{err}");
        assert!(
            err.len() > 20 && !err.contains("panicked"),
            "{arguments:?}: {err}"
        );
    }
    let empty = tempfile::tempdir().expect("a temporary folder");
    let (code, _, err) = run(&[
        "grade",
        "1",
        "--candidate",
        empty.path().to_str().expect("UTF-8"),
    ]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("producer"),
        "it does not say which files it looked for: {err}"
    );
}

#[test]
fn reports_come_in_every_format() {
    let _turn = turn();
    let reference = Candidate::from_reference();
    let (code, junit, err) = run(&[
        "grade",
        "1.1",
        "--candidate",
        reference.path(),
        "--format",
        "junit",
    ]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        junit.starts_with("<?xml") && junit.contains("<testcase"),
        "{junit}"
    );
    let (code, markdown, _) = run(&[
        "grade",
        "1.1",
        "--candidate",
        reference.path(),
        "--format",
        "markdown",
    ]);
    assert_eq!(code, Some(0));
    assert!(markdown.contains('|'), "{markdown}");
    let (code, pretty, _) = run(&["grade", "1.1", "--candidate", reference.path(), "--timings"]);
    assert_eq!(code, Some(0));
    assert!(
        !pretty.contains('\u{1b}'),
        "colours outside a terminal: {pretty:?}"
    );
}

#[test]
fn hints_come_one_after_the_other() {
    let _turn = turn();
    let (code, all, err) = run(&["hint", "1.4", "--all"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(all.len() > 200, "{all}");
}

#[test]
fn a_mistake_can_be_explained() {
    let _turn = turn();
    let (code, story, err) = run(&["explain", "SQ01"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(story.contains("SQ01") && story.contains('$'), "{story}");
}
