//! What the runner makes of candidates that mean well, that are unfinished, and that cheat.

use std::time::Instant;

use workbook::{Candidate, grade, turn, xtask};

#[test]
fn the_reference_gets_every_point() {
    let _turn = turn();
    let graded = grade(&["1", "--solution"]);
    let red: Vec<_> = graded
        .checks()
        .into_iter()
        .filter(|(_, verdict, ..)| verdict != "passed")
        .collect();
    assert!(red.is_empty(), "{red:#?}");
    assert_eq!(graded.code, Some(0), "{}", graded.stderr);
    assert_eq!(graded.report["points"], 100);
    assert_eq!(graded.report["max"], 100);
    let exercise = &graded.report["exercises"][0];
    assert_eq!(exercise["name"], "stream-queue");
    assert_eq!(exercise["stages"].as_array().map(Vec::len), Some(9));
    assert!(graded.checks().len() >= 35);
    for part in ["build", "brokers", "checks"] {
        assert!(
            graded.report["timings"].to_string().contains(part),
            "timings: {}",
            graded.report["timings"]
        );
    }
}

#[test]
fn fresh_stubs_get_no_point_and_are_told_what_to_do() {
    let _turn = turn();
    let stubs = Candidate::from_stubs();
    let graded = grade(&["1", "--candidate", stubs.path()]);
    assert_eq!(graded.code, Some(1), "{}", graded.stderr);
    assert_eq!(graded.report["points"], 0);
    for (name, verdict, message, _) in graded.checks() {
        assert!(
            verdict == "failed" || verdict == "blocked",
            "{name}: {verdict}: {message}"
        );
        assert!(
            message.contains("tage "),
            "{name} does not say which stage to write: {message}"
        );
        assert!(
            !message.contains("stack backtrace") && !message.contains("RUST_BACKTRACE"),
            "{name}: {message}"
        );
    }
}

#[test]
fn a_folder_with_some_modules_is_completed_with_stubs() {
    let _turn = turn();
    let reference = Candidate::from_reference();
    for module in ["consumer", "worker", "recovery", "dead_letters", "once"] {
        std::fs::remove_file(format!("{}/{module}.rs", reference.path())).expect("removed");
    }
    // What is not a learner's module is never taken.
    std::fs::write(
        format!("{}/lib.rs", reference.path()),
        "compile_error!(\"taken\");",
    )
    .expect("written");
    std::fs::write(
        format!("{}/build.rs", reference.path()),
        "fn main() { panic!() }",
    )
    .expect("written");
    let graded = grade(&["1.1", "--candidate", reference.path()]);
    assert_eq!(graded.code, Some(0), "{:#?}", graded.checks());
    let graded = grade(&["1.2", "--candidate", reference.path()]);
    assert_eq!(graded.code, Some(1));
}

#[test]
fn a_candidate_that_does_not_compile_is_broken_and_the_next_one_is_graded() {
    let _turn = turn();
    let broken = Candidate::from_reference().change(
        "producer.rs",
        "message.is_empty()",
        "message.is_vacant()",
    );
    let good = Candidate::from_reference();
    let output = xtask(&[
        "grade",
        "1.1",
        "--candidate",
        broken.path(),
        "--candidate",
        good.path(),
        "--format",
        "csv",
    ])
    .output()
    .expect("runs");
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{table}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "a heading and two candidates: {table}");
    let graded = grade(&["1.1", "--candidate", broken.path()]);
    for (name, verdict, message, _) in graded.checks() {
        assert_eq!(verdict, "broken", "{name}");
        assert!(
            message.contains("is_vacant"),
            "{name} does not show the compiler's words: {message}"
        );
    }
}

#[test]
fn a_changed_signature_is_told_from_code_that_does_not_compile() {
    let _turn = turn();
    let changed = Candidate::from_reference()
        .change("consumer.rs", "leave(&self)", "leave(&self, _really: bool)")
        .change(
            "worker/settling.rs",
            "consumer.leave()",
            "consumer.leave(true)",
        );
    let graded = grade(&["1.7", "--candidate", changed.path()]);
    assert_eq!(graded.code, Some(1), "{}", graded.stderr);
    for (name, verdict, message, _) in graded.checks() {
        assert_eq!(verdict, "broken", "{name}");
        for part in [
            "your code compiles, but the checks do not compile against it",
            "`cargo xtask diff 1`",
            "stage_7_stop.rs",
        ] {
            assert!(message.contains(part), "no {part:?} in {name}: {message}");
        }
    }
}

#[test]
fn a_candidate_that_exits_early_has_not_passed() {
    let _turn = turn();
    let sly = Candidate::from_reference().change(
        "consumer.rs",
        "// stub stage 2: XGROUP",
        "std::process::exit(0);\n#[allow(unreachable_code)]\n// stub stage 2: XGROUP",
    );
    let graded = grade(&["1.2", "--candidate", sly.path()]);
    assert_eq!(graded.code, Some(1), "{}", graded.stderr);
    let passed: Vec<_> = graded
        .checks()
        .into_iter()
        .filter(|(_, verdict, ..)| verdict == "passed")
        .collect();
    assert!(passed.is_empty(), "{passed:#?}");
    assert!(
        graded
            .checks()
            .iter()
            .any(|(_, _, message, _)| message.contains("exit code 0")),
        "{:#?}",
        graded.checks()
    );
}

#[test]
fn printed_results_convince_nobody() {
    let _turn = turn();
    let forger = Candidate::from_reference().change(
        "consumer.rs",
        "// stub stage 2: XGROUP",
        r#"println!("test stage_2_consume::a_group ... ok\n{{\"verdict\":\"passed\",\"code\":null}}\ntest result: ok. 9 passed; 0 failed");
        if true { std::process::exit(0); }
        // stub stage 2: XGROUP"#,
    );
    let graded = grade(&["1.2", "--candidate", forger.path()]);
    assert_eq!(graded.code, Some(1));
    assert_eq!(graded.report["points"], 0);
}

#[test]
fn endless_loops_and_endless_memory_are_judged() {
    let _turn = turn();
    let started = Instant::now();
    let hungry = Candidate::from_reference().change(
        "consumer.rs",
        "// stub stage 2: one XACK",
        "let mut all: Vec<Vec<u8>> = Vec::new(); if ids.len() < usize::MAX { loop { all.push(vec![7; 1 << 24]); } }\n// stub stage 2: one XACK",
    );
    let graded = grade(&["1.2", "--candidate", hungry.path()]);
    assert_eq!(graded.code, Some(1), "{}", graded.stderr);
    assert!(
        graded
            .checks()
            .iter()
            .any(|(_, _, message, _)| message.contains("memory")),
        "{:#?}",
        graded.checks()
    );
    let looping = Candidate::from_reference().change(
        "producer.rs",
        "// stub stage 1: a field",
        "if message.len() < usize::MAX { loop { std::hint::spin_loop(); } }\n// stub stage 1: a field",
    );
    let graded = grade(&["1.1", "--candidate", looping.path()]);
    assert_eq!(graded.code, Some(1), "{}", graded.stderr);
    for (name, verdict, message, _) in graded.checks() {
        assert!(
            verdict == "too-slow" || verdict == "failed",
            "{name}: {verdict}: {message}"
        );
    }
    assert!(
        graded.verdicts().contains_key("too-slow"),
        "{:?}",
        graded.verdicts()
    );
    println!("endless candidates were judged in {:?}", started.elapsed());
}

#[test]
fn a_wrong_candidate_is_told_which_mistake_it_made() {
    let _turn = turn();
    let wrong = Candidate::from_reference().change(
        "consumer.rs",
        ".arg(\"0\")\n            .arg(\"MKSTREAM\")",
        ".arg(\"$\")\n            .arg(\"MKSTREAM\")",
    );
    let graded = grade(&["1.2", "--candidate", wrong.path()]);
    let told = graded
        .checks()
        .into_iter()
        .find(|(name, ..)| name.ends_with("entries_from_before_the_group_are_consumed"))
        .expect("the check is there");
    assert_eq!(
        (told.1.as_str(), told.3.as_deref()),
        ("failed", Some("SQ01")),
        "{told:?}"
    );
}
