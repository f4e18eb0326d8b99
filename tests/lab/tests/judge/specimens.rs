//! Checks that keep, break and try to get around the rules.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lab::{Check, Lab, Outcome, Suite, ensure};
use rand::Rng;

pub fn suite() -> Suite {
    let program = std::env::current_exe().expect("this program has a path");
    Suite::new("specimens", program)
        .stage("verdicts", verdicts())
        .stage("tricks", tricks())
        .stage("brokers", brokers())
        .stage("services", services())
}

/// The file, named by the environment, that a specimen tells its trial something by.
fn note(text: impl AsRef<[u8]>) {
    if let Some(file) = std::env::var_os("WORKBOOK_SPECIMEN_NOTE") {
        std::fs::write(file, text).expect("the trial made the directory");
    }
}

fn verdicts() -> Vec<Check> {
    lab::checks![
        keeps_its_promise,
        breaks_its_promise,
        panics,
        a_task_panics,
        reaches_a_stub,
        tells_its_seed.limit_secs(7)
    ]
}

async fn keeps_its_promise(lab: Lab) -> Outcome {
    lab.promise("two and two are four");
    lab.eventually("the sum", || async { Ok(Some(2 + 2)) })
        .await?;
    Ok(())
}

async fn breaks_its_promise(lab: Lab) -> Outcome {
    lab.promise("two and two are four");
    let sum = 5;
    ensure!(sum == 4, "SQ42", "they are {sum}");
    Ok(())
}

async fn panics(_lab: Lab) -> Outcome {
    panic!("no entry {}", 7);
}

async fn a_task_panics(lab: Lab) -> Outcome {
    // A handler may panic without ending the check: the candidate has to cope with it.
    let gone = tokio::spawn(async { panic!("a handler that fails") }).await;
    ensure!(gone.is_err(), "it did not panic");
    lab.eventually("a moment to pass", || async { Ok(Some(())) })
        .await
}

async fn reaches_a_stub(lab: Lab) -> Outcome {
    tokio::spawn(async { todo!("stage 3: bound what is in flight: a semaphore") });
    lab.eventually("something that cannot come", || async { Ok(None::<()>) })
        .await
}

async fn tells_its_seed(lab: Lab) -> Outcome {
    note(format!("{} {}", lab.seed(), lab.rng().next_u64()));
    Ok(())
}

fn tricks() -> Vec<Check> {
    lab::checks![
        ends_early,
        forges_a_receipt,
        kills_itself,
        loops,
        eats_memory,
        recurses,
        prints_for_ever,
        leaves_processes,
        leaves_files,
    ]
}

async fn ends_early(lab: Lab) -> Outcome {
    lab.promise("it is looked at to the end");
    std::process::exit(0)
}

async fn forges_a_receipt(_lab: Lab) -> Outcome {
    let forged = r#"{"token":"","objection":null,"promise":null}"#;
    println!("test result: ok\npassed\n{forged}");
    // The neighbourhood of the temporary directory is easily guessed.
    let place = PathBuf::from(std::env::var("TMPDIR").expect("the judge sets it"));
    std::fs::write(place.join("../receipt.json"), forged)?;
    std::process::exit(0)
}

async fn kills_itself(_lab: Lab) -> Outcome {
    std::process::abort()
}

async fn loops(_lab: Lab) -> Outcome {
    note(std::process::id().to_string());
    loop {
        std::hint::spin_loop();
    }
}

async fn eats_memory(_lab: Lab) -> Outcome {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 16 * 1024 * 1024]);
    }
}

async fn recurses(_lab: Lab) -> Outcome {
    #[allow(unconditional_recursion)]
    fn deeper(depth: u64) -> u64 {
        std::hint::black_box(deeper(depth + 1)) + depth
    }
    ensure!(deeper(0) > 0, "it ended");
    Ok(())
}

async fn prints_for_ever(_lab: Lab) -> Outcome {
    // Eight megabytes: more than any pipe holds, and more than the judge keeps.
    let line = "x".repeat(8191);
    for _ in 0..1024 {
        println!("{line}");
        eprintln!("{line}");
    }
    Ok(())
}

async fn leaves_processes(_lab: Lab) -> Outcome {
    let mut near = Command::new("sleep");
    let mut far = Command::new("sleep");
    near.arg("3600");
    far.arg("3600").process_group(0);
    note(format!("{} {}", near.spawn()?.id(), far.spawn()?.id()));
    Ok(())
}

async fn leaves_files(_lab: Lab) -> Outcome {
    let file = std::env::temp_dir().join("left");
    std::fs::write(&file, "behind")?;
    std::fs::write("also left", "behind")?;
    note(file.display().to_string());
    Ok(())
}

fn brokers() -> Vec<Check> {
    lab::checks![
        names_are_its_own,
        the_broker_dies,
        the_broker_dies_and_it_loops,
        own_redis_survives,
        own_redis_is_left_paused
    ]
}

async fn names_are_its_own(lab: Lab) -> Outcome {
    let redis = lab.redis().await?;
    let (one, two) = (lab.unique("orders"), lab.unique("orders"));
    ensure!(one != two, "both are {one}");
    let mut candidate = redis::Client::open(redis.url())?
        .get_multiplexed_async_connection()
        .await?;
    let _: () = redis::cmd("SET")
        .arg(&one)
        .arg(1)
        .query_async(&mut candidate)
        .await?;
    let _: () = redis::cmd("SET")
        .arg(&two)
        .arg(1)
        .query_async(&mut redis.direct().await?)
        .await?;
    ensure!(
        redis
            .proxy()
            .log()
            .iter()
            .any(|exchange| exchange.mentions(&one)),
        "the proxy did not see it"
    );
    ensure!(
        !redis
            .proxy()
            .log()
            .iter()
            .any(|exchange| exchange.mentions(&two)),
        "the proxy saw the lab"
    );
    note(one);
    Ok(())
}

async fn end_the_broker(lab: &Lab) -> Outcome {
    let redis = lab.redis().await?;
    let gone: redis::RedisResult<()> = redis::cmd("SHUTDOWN")
        .arg("NOSAVE")
        .query_async(&mut redis.direct().await?)
        .await;
    ensure!(gone.is_err(), "it answered");
    Ok(())
}

async fn the_broker_dies(lab: Lab) -> Outcome {
    end_the_broker(&lab).await?;
    lab::fail!("SQ01", "nothing was delivered")
}

async fn the_broker_dies_and_it_loops(lab: Lab) -> Outcome {
    end_the_broker(&lab).await?;
    loop {
        lab.within(Duration::from_secs(1)).await;
    }
}

async fn own_redis_survives(lab: Lab) -> Outcome {
    let redis = lab.own_redis().await?;
    let url = redis.url();
    let _: () = redis::cmd("SET")
        .arg("kept")
        .arg(7)
        .query_async(&mut redis.direct().await?)
        .await?;
    redis.kill().await?;
    ensure!(
        redis.direct().await.is_err(),
        "it answers although it was killed"
    );
    redis.start().await?;
    ensure!(redis.url() == url, "its address has changed");
    let mut candidate = redis::Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    let kept: i64 = redis::cmd("GET")
        .arg("kept")
        .query_async(&mut candidate)
        .await?;
    ensure!(kept == 7, "it holds {kept}");

    redis.pause().await?;
    let mut asked = tokio::spawn(async move {
        redis::cmd("PING")
            .query_async::<String>(&mut candidate)
            .await
    });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut asked).await;
    ensure!(early.is_err(), "it answers although it is paused");
    redis.resume().await?;
    ensure!(
        redis.direct().await.is_ok(),
        "it does not answer although it goes on"
    );
    Ok(())
}

async fn own_redis_is_left_paused(lab: Lab) -> Outcome {
    let redis = lab.own_redis().await?;
    note(redis.upstream());
    redis.pause().await?;
    std::process::exit(0)
}

fn services() -> Vec<Check> {
    lab::checks![
        a_service_is_talked_to,
        a_service_is_killed,
        a_service_is_paused,
        a_service_ends_by_itself,
        a_service_reaches_a_stub,
        a_dropped_service_takes_its_children_along,
        a_service_has_its_own_settings_only,
    ]
}

async fn a_service_is_talked_to(lab: Lab) -> Outcome {
    let service = lab.service(["service", "echo"]).start()?;
    service.write_line("first").await?;
    let line = service.next_json().await?;
    ensure!(line["line"] == "first" && line["n"] == 0, "it said {line}");
    service.write_line("second").await?;
    let line = service.next_json().await?;
    ensure!(line["line"] == "second", "it said {line}");
    service.expect_running()?;
    service.close_stdin();
    let status = service.wait().await?;
    ensure!(status.success(), "it ended with {status}");
    ensure!(
        service.json_lines().len() == 2,
        "it said {:?}",
        service.lines()
    );
    let Err(failure) = service.next_json().await else {
        lab::fail!("it said more")
    };
    ensure!(
        failure.observed.contains("its output ended"),
        "the failure reads: {failure}"
    );
    Ok(())
}

async fn a_service_is_killed(lab: Lab) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    let service = lab.service(["service", "count"]).start()?;
    service.next_json().await?;
    service.kill();
    let status = service.wait().await?;
    ensure!(status.signal() == Some(9), "it ended with {status}");
    // Signals to a process that is gone reach nobody.
    service.terminate();
    ensure!(service.expect_running().is_err(), "it is said to run");
    Ok(())
}

async fn a_service_is_paused(lab: Lab) -> Outcome {
    let service = lab.service(["service", "count"]).start()?;
    service.next_json().await?;
    service.pause();
    // What was in the pipe arrives, then no more.
    let settled = || async {
        let before = service.lines().len();
        lab.within(Duration::from_millis(100)).await;
        Ok((service.lines().len() == before).then_some(before))
    };
    let before = lab.eventually("the output to stand still", settled).await?;
    lab.within(Duration::from_millis(300)).await;
    ensure!(
        service.lines().len() == before,
        "it counts on although it is paused"
    );
    service.expect_running()?;
    service.resume();
    let more = || async { Ok((service.lines().len() > before).then_some(())) };
    lab.eventually("it to count on", more).await
}

async fn a_service_ends_by_itself(lab: Lab) -> Outcome {
    let service = lab.service(["service", "fail"]).start()?;
    let status = service.wait().await?;
    ensure!(status.code() == Some(76), "it ended with {status}");
    service.expect_running()
}

async fn a_service_reaches_a_stub(lab: Lab) -> Outcome {
    let service = lab.service(["service", "todo"]).start()?;
    service.next_json().await?;
    Ok(())
}

async fn a_dropped_service_takes_its_children_along(lab: Lab) -> Outcome {
    let service = lab.service(["service", "parent"]).start()?;
    let child = service.next_json().await?.to_string();
    drop(service);
    let gone = || async { Ok((!is_running(&child)).then_some(())) };
    lab.eventually("its child to be gone", gone).await
}

async fn a_service_has_its_own_settings_only(lab: Lab) -> Outcome {
    let service = lab
        .service(["service", "settings"])
        .env("GIVEN", "yes")
        .start()?;
    let said = service.next_json().await?;
    ensure!(said[1] == "yes" && said[2].is_null(), "it was given {said}");
    Ok(())
}

/// True if a process of that number runs, and is not just waiting to be collected.
pub fn is_running(pid: &str) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", pid]).output();
    let state = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    state.is_ok_and(|state| !state.is_empty() && !state.starts_with('Z'))
}
