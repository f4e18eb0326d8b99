//! Stages 7 and 8, continued: the page that comes with the server, in a real browser.
//!
//! The page is given. What is checked here is that the server keeps it going: that it never shows a
//! gap or a duplicate, and that a text stays a text up to the eye.

use std::time::Duration;

use chat_server::Options;
use lab::browser::{Key, Page};
use lab::{Check, Failure, Lab, Outcome, ensure};

use crate::house::{House, Node, roomy};
use crate::person::Person;

pub fn of_stage_7() -> Vec<Check> {
    lab::checks![
        two_pages_chat_and_a_text_is_shown_as_text.limit_secs(120),
        a_page_that_says_too_much_learns_what_arrived.limit_secs(120),
    ]
}

pub fn of_stage_8() -> Vec<Check> {
    lab::checks![a_page_stays_while_its_server_is_started_anew.limit_secs(120)]
}

/// The texts that the page shows as messages, in order.
async fn shown(page: &Page) -> Result<Vec<String>, Failure> {
    let texts = page
        .eval("return [...document.querySelectorAll('#log li.message .text')].map((e) => e.textContent)")
        .await?;
    Ok(serde_json::from_value(texts)?)
}

async fn is_connected(page: &Page) -> Outcome {
    page.until(
        "the page to be connected",
        "return document.body.dataset.state === 'connected'",
    )
    .await?;
    Ok(())
}

async fn two_pages_chat_and_a_text_is_shown_as_text(lab: Lab) -> Outcome {
    lab.promise("Two people chat by the page, with the keyboard alone. What they write is shown as they wrote it, markup included, and a page that is loaded anew shows it again.");
    let house = House::open(roomy()).await?;
    let browser = lab.browser().await?;
    let url = format!("http://{}/", house.addr);
    let ada = browser.open(&url).await?;
    ada.until(
        "the name to have the focus",
        "return document.activeElement.id === 'name'",
    )
    .await?;
    ada.type_into("#name", "ada").await?;
    ada.press(Key::Tab).await?;
    ada.until(
        "the room to come next",
        "return document.activeElement.id === 'room'",
    )
    .await?;
    ada.type_into("#room", "tea\n").await?;
    is_connected(&ada).await?;
    ada.until(
        "the message to have the focus",
        "return document.activeElement.id === 'text'",
    )
    .await?;
    let bob = browser
        .open(&format!("{url}?name=bob&room=tea&enter=1"))
        .await?;
    is_connected(&bob).await?;

    let texts = [
        "hello bob",
        "<script>document.title = 'broken'</script>",
        "<img src=x onerror=\"document.title='broken'\">",
        "&lt;b&gt; \u{202e}x ☕ 😀 'quoted' \"twice\"",
    ];
    // Characters beyond the keyboard go in by the other client of the room.
    let cem = Person::in_room(&lab, house.addr, "cem", "tea").await?;
    for text in texts {
        match text.is_ascii() {
            true => ada.type_into("#text", &format!("{text}\n")).await?,
            false => cem.say("tea", text).await?,
        }
        lab.eventually(&format!("the other page to show {text:?}"), || async {
            Ok(shown(&bob).await?.iter().any(|t| t == text).then_some(()))
        })
        .await?;
    }
    bob.type_into("#text", "hello ada\n").await?;
    let mut all: Vec<&str> = texts.to_vec();
    all.push("hello ada");
    for page in [&ada, &bob] {
        lab.eventually("both pages to show all that was said", || async {
            Ok((shown(page).await?.len() >= all.len()).then_some(()))
        })
        .await?;
        let texts = shown(page).await?;
        ensure!(
            texts == all,
            "five things were said, {all:?}; a page shows {texts:?}"
        );
        let odd = page.count("#log script, #log img, #log b").await?;
        let title = page.eval("return document.title").await?;
        ensure!(
            odd == 0 && title != "broken",
            "a text became markup: there are {odd} such elements in the log, and the title is {title}"
        );
    }
    bob.reload().await?;
    lab.eventually(
        "the page to show all that was said, loaded anew",
        || async { Ok((shown(&bob).await? == all).then_some(())) },
    )
    .await?;
    ada.screenshot("chat.png").await?;
    bob.phone().await?;
    let wider = bob
        .eval("return document.documentElement.scrollWidth - window.innerWidth")
        .await?;
    ensure!(
        wider.as_f64().is_some_and(|wider| wider <= 0.0),
        "on a phone the page is {wider} pixels wider than the screen"
    );
    bob.screenshot("chat-phone.png").await?;
    let errors = ada.console_errors().await?;
    ensure!(errors.is_empty(), "the browser's console says {errors:?}");
    Ok(())
}

async fn a_page_that_says_too_much_learns_what_arrived(lab: Lab) -> Outcome {
    lab.promise("A page that says more than its rate allows does not mark as not sent what the others got; and when it has joined again with `since`, it knows what that was, because a replay has a client's own messages too.");
    let house = House::open(Options { rate: 1, ..roomy() }).await?;
    let ada = Person::in_room(&lab, house.addr, "ada", "tea").await?;
    let browser = lab.browser().await?;
    let page = browser
        .open(&format!("http://{}/?name=bob&room=tea&enter=1", house.addr))
        .await?;
    is_connected(&page).await?;
    // The page has asked twice, which is all it may. Once more it may say something, and then the
    // question that it asks after that is too much.
    lab.within(Duration::from_millis(1_200)).await;
    const SAID: usize = 4;
    for n in 0..SAID {
        page.type_into("#text", &format!("message {n}\n")).await?;
    }
    lab.eventually(
        "the page to mark as sent what ada heard, and nothing else",
        || async {
            let lines = page
                .eval("return [...document.querySelectorAll('#log li.mine')].map((e) => [e.querySelector('.text').textContent, e.dataset.state])")
                .await?;
            let lines: Vec<(String, String)> = serde_json::from_value(lines)?;
            let heard = ada.messages();
            let was_heard = |text: &str| heard.iter().any(|m| m["text"] == text);
            let wrong = lines
                .iter()
                .find(|(text, state)| state == "failed" && was_heard(text));
            if let Some((text, _)) = wrong {
                lab::fail!("ada heard {text:?}, and the page says that it was not sent");
            }
            let known = lines
                .iter()
                .all(|(text, state)| (state == "sent") == was_heard(text));
            Ok((known && lines.len() == SAID).then_some(()))
        },
    )
    .await
}

async fn a_page_stays_while_its_server_is_started_anew(lab: Lab) -> Outcome {
    lab.promise("A page stays open while its server is killed and started anew, while others go on talking at another node. It comes back by itself, and shows everything once and in order.");
    let (one, two) = (lab.redis().await?, lab.redis().await?);
    let prefix = lab.unique("chat");
    let options = Options {
        redis: Some(two.url()),
        prefix: prefix.clone(),
        ..roomy()
    };
    let other = House::open(options).await?;
    let ada = Person::in_room(&lab, other.addr, "ada", "tea").await?;
    let url = one.url();
    let arguments = ["--redis", &url, "--prefix", &prefix, "--rate", "0"];
    let mut node = Node::start(&lab, &arguments).await?;
    let addr = node.addr;
    let browser = lab.browser().await?;
    let page = browser
        .open(&format!("http://{addr}/?name=bob&room=tea&enter=1"))
        .await?;
    is_connected(&page).await?;
    let mut said = 0;
    for round in 0..2 {
        for moment in ["before", "while the server is away", "after"] {
            if moment == "while the server is away" {
                lab.history().fault("server of the page", "killed");
                node.service.kill();
                node.service.wait().await?;
            }
            for _ in 0..10 {
                ada.say("tea", &format!("message {said}")).await?;
                said += 1;
            }
            if moment == "while the server is away" {
                lab.within(Duration::from_millis(300)).await;
                node = Node::start_at(&lab, addr, &arguments).await?;
            }
        }
        lab.eventually("the page to show all that was said", || async {
            Ok((shown(&page).await?.len() >= said).then_some(()))
        })
        .await
        .map_err(|failure| {
            failure.also(format!("its server was started anew {} times", round + 1))
        })?;
        let expected: Vec<String> = (0..said).map(|n| format!("message {n}")).collect();
        let texts = shown(&page).await?;
        ensure!(
            texts == expected,
            "{said} messages were said; the page shows {}, and not each once in order: {texts:?}",
            texts.len()
        );
    }
    is_connected(&page).await?;
    page.type_into("#text", "back again\n").await?;
    ada.until("ada to hear the page again", |f| f["text"] == "back again")
        .await?;
    node.service.expect_running()?;
    Ok(())
}
