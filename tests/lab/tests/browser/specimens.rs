//! Checks that use a browser in every way there is.

use std::path::Path;

use lab::browser::Key;
use lab::{Check, Failure, Lab, Outcome, Suite, ensure};

use crate::pages;

pub fn suite() -> Suite {
    let program = std::env::current_exe().expect("this program has a path");
    Suite::new("specimens", program)
        .brokers(lab::brokers::Wanted::default())
        .browser()
        .stage("pages", pages())
        .stage("ends", ends())
}

/// Tells the trial that the browser is up.
fn note() {
    if let Some(file) = std::env::var_os("WORKBOOK_SPECIMEN_NOTE") {
        std::fs::write(file, "up").expect("the trial made the directory");
    }
}

fn pages() -> Vec<Check> {
    lab::checks![
        two_windows_talk.limit_secs(120),
        two_browsers_share_nothing.limit_secs(120),
        the_console_is_read.limit_secs(120),
        pictures_have_the_size.limit_secs(120),
        dark_is_dark.limit_secs(120),
        offline_is_offline.limit_secs(120),
        what_is_missing_is_named.limit_secs(120),
        a_page_that_hangs_is_told.limit_secs(120),
        the_internet_is_not_there.limit_secs(120),
    ]
}

async fn two_windows_talk(lab: Lab) -> Outcome {
    let url = pages::serve().await?;
    let browser = lab.browser().await?;
    let (one, two) = (browser.open(&url).await?, browser.open(&url).await?);
    one.type_into("#say", "by Enter\n").await?;
    two.text_contains("#heard", "by Enter").await?;
    two.type_into("#say", "bygone").await?;
    two.clear("#say").await?;
    two.type_into("#say", "by Grüße & ✓").await?;
    two.click("#go").await?;
    one.text_contains("#heard", "by Grüße & ✓").await?;
    ensure!(one.text("#heard").await? == "by Grüße & ✓", "another text");
    ensure!(two.count("button").await? == 2, "not two buttons");
    // Shown only after a moment: a click waits for it.
    one.click("#later").await?;
    one.until(
        "the click to be seen",
        "return document.title === 'clicked'",
    )
    .await?;
    two.reload().await?;
    for expected in ["say", "go"] {
        two.press(Key::Tab).await?;
        let focus = two.eval("return document.activeElement.id").await?;
        ensure!(focus == expected, "the focus is at {focus}, not {expected}");
    }
    let sum = two
        .eval_with("return Promise.resolve(arguments[0] + 1)", vec![41.into()])
        .await?;
    ensure!(sum == 42, "the sum is {sum}");
    two.close().await?;
    one.reload().await?;
    let three = browser.open(&url).await?;
    ensure!(
        three.eval("return document.title").await? == "Tiny",
        "title"
    );
    Ok(())
}

async fn two_browsers_share_nothing(lab: Lab) -> Outcome {
    let url = pages::serve().await?;
    let (ada, grace) = tokio::try_join!(lab.browser(), lab.browser())?;
    let (one, two) = tokio::try_join!(ada.open(&url), grace.open(&url))?;
    one.eval("localStorage.who = 'Ada'").await?;
    let other = ada.open(&url).await?;
    ensure!(
        other.eval("return localStorage.who").await? == "Ada",
        "two windows of one person do not share their storage"
    );
    let seen = two.eval("return localStorage.who ?? null").await?;
    ensure!(seen.is_null(), "somebody else sees {seen}");
    Ok(())
}

async fn the_console_is_read(lab: Lab) -> Outcome {
    let url = pages::serve().await?;
    let page = lab.browser().await?.open(&url).await?;
    let errors = page.console_errors().await?;
    ensure!(errors.is_empty(), "errors before there are any: {errors:?}");
    page.goto(&format!("{url}?broken")).await?;
    for part in ["said on purpose", "404", "nobodyDefinedThis"] {
        lab.eventually(part, || async {
            let errors = page.console_errors().await?;
            Ok(errors
                .iter()
                .any(|error| error.contains(part) && error.contains("http://127.0.0.1:"))
                .then_some(()))
        })
        .await?;
    }
    ensure!(
        page.console_errors().await?.len() == 3,
        "they are {:?}",
        page.console_errors().await?
    );
    Ok(())
}

async fn pictures_have_the_size(lab: Lab) -> Outcome {
    let url = pages::serve().await?;
    let page = lab.browser().await?.open(&url).await?;
    let first = page.screenshot("desk.png").await?;
    let (width, height) = size_of(&first)?;
    ensure!(
        width == 1280 && (600..=800).contains(&height),
        "a window is {width} by {height}"
    );
    page.set_size(640, 480).await?;
    let small = size_of(&page.screenshot("small.png").await?)?;
    ensure!(small == (640, 480), "the picture is {small:?}");
    page.phone().await?;
    let phone = size_of(&page.screenshot("deep/phone.png").await?)?;
    ensure!(phone == (780, 1688), "the picture is {phone:?}");
    let is_phone = page
        .eval("return innerWidth === 390 && matchMedia('(pointer: coarse)').matches")
        .await?;
    ensure!(is_phone == true, "the page does not notice the phone");
    Ok(())
}

/// Width and height as the head of a PNG says them.
fn size_of(picture: &Path) -> Result<(u32, u32), Failure> {
    let png = std::fs::read(picture)?;
    ensure!(
        png.len() > 24 && png.starts_with(b"\x89PNG\r\n\x1a\n"),
        "{} is no PNG",
        picture.display()
    );
    let number = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
    Ok((number(16), number(20)))
}

async fn dark_is_dark(lab: Lab) -> Outcome {
    let page = lab.browser().await?.open(&pages::serve().await?).await?;
    let background = "return getComputedStyle(document.body).backgroundColor";
    page.prefers_dark(false).await?;
    let light = page.eval(background).await?;
    page.prefers_dark(true).await?;
    page.reload().await?;
    let dark = page.eval(background).await?;
    ensure!(light != dark, "both are {dark}");
    Ok(())
}

async fn offline_is_offline(lab: Lab) -> Outcome {
    let page = lab.browser().await?.open(&pages::serve().await?).await?;
    let loads = "return fetch('/').then(() => true, () => false)";
    page.offline(true).await?;
    ensure!(page.eval(loads).await? == false, "it loads all the same");
    ensure!(
        page.eval("return navigator.onLine").await? == false,
        "online"
    );
    page.offline(false).await?;
    ensure!(page.eval(loads).await? == true, "it does not load again");
    Ok(())
}

async fn what_is_missing_is_named(lab: Lab) -> Outcome {
    let url = pages::serve().await?;
    let browser = lab.browser().await?;
    let page = browser.open(&url).await?;
    let told = |outcome: Outcome, parts: &[&str]| match outcome {
        Ok(()) => Err(Failure::observed("nothing was missing")),
        Err(failure) if failure.kind != lab::Kind::Violated => Err(failure),
        Err(failure) => match parts.iter().find(|part| !failure.observed.contains(**part)) {
            Some(part) => Err(Failure::observed(format!("no {part} in: {failure}"))),
            None => Ok(()),
        },
    };
    let thrown = page.eval("throw new Error('out of ink')").await.map(drop);
    told(thrown, &["out of ink", "script"])?;
    let nobody = nobody_listens()?;
    let refused = page.goto(&nobody).await;
    told(refused, &[&nobody, "ERR_CONNECTION_REFUSED"])?;
    page.goto(&url).await?;
    // These three wait for the whole deadline, so they do it side by side.
    let other = lab.browser().await?.open(&url).await?;
    let (clicked, read) = tokio::join!(
        page.click("#nowhere"),
        other.text_contains("#heard", "a miracle")
    );
    told(clicked, &["`#nowhere`", "in vain"])?;
    told(read, &["a miracle", "`#heard`", "it says ``"])
}

/// An address where somebody listened just now.
fn nobody_listens() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}/", listener.local_addr()?))
}

async fn a_page_that_hangs_is_told(lab: Lab) -> Outcome {
    let page = lab.browser().await?.open(&pages::serve().await?).await?;
    match page.eval("for (;;) ;").await {
        Err(failure) if failure.kind == lab::Kind::Violated => Ok(()),
        Err(failure) => Err(failure),
        Ok(value) => Err(Failure::observed(format!("it ended with {value}"))),
    }
}

async fn the_internet_is_not_there(lab: Lab) -> Outcome {
    let page = lab.browser().await?.open(&pages::serve().await?).await?;
    let js = "return fetch('http://example.com/', {mode: 'no-cors'}).then(() => true, () => false)";
    ensure!(page.eval(js).await? == false, "it is");
    Ok(())
}

fn ends() -> Vec<Check> {
    lab::checks![passes, aborts, waits.limit_secs(600)]
}

async fn passes(lab: Lab) -> Outcome {
    let page = lab.browser().await?.open(&pages::serve().await?).await?;
    page.text("#heard").await?;
    Ok(())
}

async fn aborts(lab: Lab) -> Outcome {
    let _page = lab.browser().await?.open(&pages::serve().await?).await?;
    note();
    std::process::abort()
}

async fn waits(lab: Lab) -> Outcome {
    let _page = lab.browser().await?.open(&pages::serve().await?).await?;
    note();
    std::future::pending().await
}
