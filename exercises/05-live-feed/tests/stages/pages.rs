//! Stages 5 and 7, continued: the dashboard that comes with the feed, in a real browser.
//!
//! The page is given. What is checked here is that the feed keeps it going: that it shows no gap and
//! no duplicate, and that a text stays a text up to the eye.

use lab::browser::Page;
use lab::{Check, Failure, Lab, Outcome, ensure};

use crate::durable::Durable;
use crate::feed::{Feed, quiet};
use crate::node::Process;

pub fn of_stage_5() -> Vec<Check> {
    lab::checks![the_dashboard_shows_what_arrives_as_text.limit_secs(120)]
}

pub fn of_stage_7() -> Vec<Check> {
    lab::checks![a_dashboard_survives_the_restart_of_its_server.limit_secs(120)]
}

async fn is_connected(page: &Page) -> Outcome {
    page.until(
        "the dashboard to be connected",
        "return document.getElementById('status').dataset.state === 'connected'",
    )
    .await?;
    Ok(())
}

/// The cells of one kind that the dashboard shows, newest first.
async fn shown(page: &Page, cell: &str) -> Result<Vec<String>, Failure> {
    let script = "return [...document.querySelectorAll('#events tr[data-id] .' + arguments[0])].map((e) => e.textContent)";
    let texts = page.eval_with(script, vec![cell.into()]).await?;
    Ok(serde_json::from_value(texts)?)
}

/// Waits until the dashboard has counted so many events.
async fn has_counted(page: &Page, count: usize) -> Outcome {
    page.until(
        &format!("the dashboard to count {count} events"),
        &format!("return Number(document.getElementById('count').textContent) >= {count}"),
    )
    .await?;
    Ok(())
}

async fn the_dashboard_shows_what_arrives_as_text(lab: Lab) -> Outcome {
    lab.promise("The dashboard shows each event as soon as it is published, with its type and its id. Data that looks like markup is shown as it is, and does nothing.");
    let feed = Feed::start(&lab, quiet()).await?;
    let page = lab
        .browser()
        .await?
        .open(&format!("http://{}/", feed.addr))
        .await?;
    is_connected(&page).await?;
    let texts = [
        "plain",
        "<script>document.title = 'broken'</script>",
        "<img src=x onerror=\"document.title='broken'\">",
        "&lt;b&gt; \u{202e}x ☕ 😀 'quoted' \"twice\"",
        "  two\n lines ",
    ];
    let mut posted = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        posted.push(feed.post("t", text).await?);
        has_counted(&page, n + 1).await?;
    }
    let (mut data, mut ids) = (shown(&page, "data").await?, shown(&page, "id").await?);
    data.reverse();
    ids.reverse();
    ensure!(
        data == texts && ids == posted,
        "{texts:?} were published as {posted:?}; the dashboard shows {data:?} as {ids:?}"
    );
    let odd = page.count("#events script, #events img, #events b").await?;
    let title = page.eval("return document.title").await?;
    ensure!(
        odd == 0 && title != "broken",
        "data became markup: there are {odd} such elements, and the title is {title}"
    );
    page.screenshot("live-feed.png").await?;
    page.phone().await?;
    let wider = page
        .eval("return document.documentElement.scrollWidth - window.innerWidth")
        .await?;
    ensure!(
        wider.as_f64().is_some_and(|wider| wider <= 0.0),
        "on a phone the dashboard is {wider} pixels wider than the screen"
    );
    let errors = page.console_errors().await?;
    ensure!(
        errors.is_empty(),
        "the browser's console shows errors: {errors:?}"
    );
    Ok(())
}

async fn a_dashboard_survives_the_restart_of_its_server(lab: Lab) -> Outcome {
    lab.promise("When the server is killed and started again under an open dashboard, the dashboard comes back by itself and shows what was published meanwhile, each event once and none missing.");
    let durable = Durable::new(&lab).await?;
    let url = durable.redis.url();
    let mut flags = durable.flags(&url);
    flags.extend(["--retry", "200ms"]);
    let node = Process::start(&lab, &flags).await?;
    let addr = node.addr;
    let page = lab
        .browser()
        .await?
        .open(&format!("http://{addr}/"))
        .await?;
    is_connected(&page).await?;
    let mut posted = node.post_many("t", 5).await?;
    has_counted(&page, 5).await?;
    lab.history().fault("node", "killed");
    node.service.kill();
    node.service.wait().await?;
    page.until(
        "the dashboard to say that it is not connected",
        "return document.getElementById('status').dataset.state !== 'connected'",
    )
    .await?;
    for n in 0..5 {
        posted.push(durable.add_event("*", &format!("meanwhile {n}")).await?);
    }
    let node = Process::start_at(&lab, addr, &flags).await?;
    is_connected(&page).await?;
    posted.extend(node.post_many("t", 5).await?);
    has_counted(&page, 15).await?;
    let mut ids = shown(&page, "id").await?;
    ids.reverse();
    let missed = page.text("#missed").await?;
    ensure!(
        ids == posted && missed == "0",
        "15 events were published, {posted:?}; the dashboard shows {ids:?} and says that it missed events {missed} times"
    );
    Ok(())
}
