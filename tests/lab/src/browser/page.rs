//! One page, as a person would use it and as a developer would look into it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fantoccini::Locator;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::wd::WindowHandle;
use serde_json::{Value, json};

use super::commands::Vendor;
use super::picture;
use super::session::{Session, Turn, failure, first_line, is_for_now};
use crate::{Failure, Outcome};

/// A page in a window of its own. Clones are the same one.
#[derive(Clone)]
pub struct Page {
    session: Arc<Session>,
    window: WindowHandle,
}

impl Page {
    pub(super) fn new(session: Arc<Session>, window: WindowHandle) -> Self {
        Page { session, window }
    }

    /// Loads another address in this window, and waits until it is loaded.
    pub async fn goto(&self, url: &str) -> Outcome {
        let turn = self.turn().await?;
        turn.run(&format!("loading {url}"), turn.client().goto(url))
            .await
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Outcome {
        let turn = self.turn().await?;
        turn.run("loading the page again", turn.client().refresh())
            .await
    }

    /// Closes the window. Commands to it fail from then on.
    pub async fn close(self) -> Outcome {
        let turn = self.turn().await?;
        turn.run("closing the window", turn.client().close_window())
            .await
    }

    /// Runs the body of a function in the page, such as `return document.title`, and gives what it
    /// returns. A promise is waited for.
    pub async fn eval(&self, js: &str) -> Result<Value, Failure> {
        self.eval_with(js, Vec::new()).await
    }

    /// The same with `arguments[0]`, `arguments[1]` and so on.
    pub async fn eval_with(&self, js: &str, arguments: Vec<Value>) -> Result<Value, Failure> {
        let turn = self.turn().await?;
        let what = format!("the script `{}`", first_line(js.trim()));
        turn.run(&what, turn.client().execute(js, arguments)).await
    }

    /// Waits until a script gives something that counts as true in JavaScript, and returns that.
    /// `what` completes the sentence "waited for …".
    pub async fn until(&self, what: &str, js: &str) -> Result<Value, Failure> {
        let look = || async {
            let value = self.eval(js).await?;
            Ok(is_true(&value).then_some(value))
        };
        self.session.lab().eventually(what, look).await
    }

    /// Waits for an element and returns its text as it is drawn.
    pub async fn text(&self, css: &str) -> Result<String, Failure> {
        let js =
            "const found = document.querySelector(arguments[0]); return found && found.innerText";
        let look = || async {
            let text = self.eval_with(js, vec![css.into()]).await?;
            Ok(text.as_str().map(str::to_owned))
        };
        self.session
            .lab()
            .eventually(&format!("an element `{css}` on the page"), look)
            .await
    }

    /// Waits until the text of an element, as it is drawn, contains `part`.
    pub async fn text_contains(&self, css: &str, part: &str) -> Outcome {
        let js = "const found = document.querySelector(arguments[0]); \
                  return [Boolean(found && found.innerText.includes(arguments[1])), found && found.innerText]";
        let last = Mutex::new(Value::Null);
        let look = || async {
            let mut seen = self.eval_with(js, vec![css.into(), part.into()]).await?;
            let is_there = seen[0] == true;
            *last.lock().unwrap_or_else(PoisonError::into_inner) = seen[1].take();
            Ok(is_there.then_some(()))
        };
        let what = format!("`{part}` to be read in the element `{css}`");
        let waited = self.session.lab().eventually(&what, look).await;
        waited.map_err(
            |failure| match last.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Value::String(text) => failure.also(format!("it says `{}`", shortened(&text))),
                _ => failure.also("there is no such element"),
            },
        )
    }

    /// How many elements there are at this moment.
    pub async fn count(&self, css: &str) -> Result<usize, Failure> {
        let js = "return document.querySelectorAll(arguments[0]).length";
        let count = self.eval_with(js, vec![css.into()]).await?;
        Ok(count
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0))
    }

    /// Waits for an element that can be clicked, and clicks it in the middle.
    pub async fn click(&self, css: &str) -> Outcome {
        self.act(css, "be clicked", Act::Click).await
    }

    /// Waits for an element that takes input, and types the text after what is there. A line feed is
    /// the Enter key; [`Key`]s can be in the text, too.
    pub async fn type_into(&self, css: &str, text: &str) -> Outcome {
        self.act(css, "take input", Act::Type(text)).await
    }

    /// Waits for a field and empties it.
    pub async fn clear(&self, css: &str) -> Outcome {
        self.act(css, "be emptied", Act::Clear).await
    }

    /// Presses and releases a key, wherever the focus is.
    pub async fn press(&self, key: Key) -> Outcome {
        let value = char::from(key);
        let keys = KeyActions::new("keyboard".into())
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        let turn = self.turn().await?;
        turn.run("pressing a key", turn.client().perform_actions(keys))
            .await
    }

    /// Makes what the page is drawn in `width` by `height` pixels large, as on a desk.
    pub async fn set_size(&self, width: u32, height: u32) -> Outcome {
        self.emulate(width, height, 1, false).await
    }

    /// Draws the page as a phone does: 390 by 844, two pixels of the screen for each, with a finger
    /// for a mouse.
    pub async fn phone(&self) -> Outcome {
        self.emulate(390, 844, 2, true).await
    }

    async fn emulate(&self, width: u32, height: u32, scale: u32, phone: bool) -> Outcome {
        let screen = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": scale,
            "mobile": phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", screen)
            .await?;
        self.devtools(
            "Emulation.setTouchEmulationEnabled",
            json!({ "enabled": phone }),
        )
        .await?;
        Ok(())
    }

    /// Says that the person prefers dark colours, or light ones (`prefers-color-scheme`).
    pub async fn prefers_dark(&self, dark: bool) -> Outcome {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features)
            .await?;
        Ok(())
    }

    /// Cuts the page off from the network, or connects it again. New connections fail while it is
    /// off; to cut one that is open, put a proxy in between.
    pub async fn offline(&self, offline: bool) -> Outcome {
        self.devtools("Network.enable", json!({})).await?;
        let conditions = json!({
            "offline": offline,
            "latency": 0,
            "downloadThroughput": -1,
            "uploadThroughput": -1,
        });
        self.devtools("Network.emulateNetworkConditions", conditions)
            .await?;
        Ok(())
    }

    /// The errors on the console since the browser started: what scripts threw and did not catch,
    /// `console.error`, what the content policy refused, what could not be loaded. Of all pages of
    /// this browser, because it keeps one list; each begins with the address that it is about.
    pub async fn console_errors(&self) -> Result<Vec<String>, Failure> {
        let turn = self.turn().await?;
        let entries = turn
            .run("the console", turn.client().issue_cmd(Vendor::console()))
            .await?;
        let new = entries.as_array().into_iter().flatten();
        let mut errors = self
            .session
            .console
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        errors.extend(new.filter_map(|entry| entry["message"].as_str().map(str::to_owned)));
        Ok(errors.clone())
    }

    /// Takes a picture of what is visible, as PNG. A relative path is put under the directory that
    /// `WORKBOOK_PICTURES` names, so that authors can make the pictures of a README anew; without
    /// that variable it goes with the check. Returns where it is.
    pub async fn screenshot(&self, path: impl AsRef<Path>) -> Result<PathBuf, Failure> {
        let turn = self.turn().await?;
        let png = turn.run("a picture", turn.client().screenshot()).await?;
        let place = picture::place_for(path.as_ref());
        let written = match place.parent() {
            Some(directory) => std::fs::create_dir_all(directory),
            None => Ok(()),
        };
        written
            .and_then(|()| std::fs::write(&place, png))
            .map_err(|error| {
                Failure::infrastructure(format!("cannot write {}: {error}", place.display()))
            })?;
        Ok(place)
    }

    /// A command of the DevTools protocol for this page, for what has no method here.
    pub async fn devtools(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let turn = self.turn().await?;
        let command = Vendor::devtools(method, params);
        turn.run(method, turn.client().issue_cmd(command)).await
    }

    async fn turn(&self) -> Result<Turn<'_>, Failure> {
        self.session.turn(&self.window).await
    }

    /// Does something with the element as soon as it is there and lets it be done.
    async fn act(&self, css: &str, what: &str, act: Act<'_>) -> Outcome {
        let last = Mutex::new(None);
        let look = || async {
            let turn = self.turn().await?;
            let acted = async {
                let element = turn.client().find(Locator::Css(css)).await?;
                act.on(element).await
            };
            // Told apart here: what is only so for now is no failure.
            let acted = turn
                .run(css, async {
                    match acted.await {
                        Err(error) if is_for_now(&error) => Ok(Err(error)),
                        acted => acted.map(Ok),
                    }
                })
                .await?;
            match acted {
                Ok(()) => Ok(Some(())),
                Err(error) => {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Ok(None)
                }
            }
        };
        let what = format!("an element `{css}` that can {what}");
        let waited = self.session.lab().eventually(&what, look).await;
        let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        waited.map_err(|waited| match last {
            Some(error) => waited.also(failure(&format!("`{css}`"), error).observed.clone()),
            None => waited,
        })
    }
}

/// What is done with an element.
#[derive(Clone, Copy)]
enum Act<'a> {
    Click,
    Type(&'a str),
    Clear,
}

impl Act<'_> {
    async fn on(self, element: Element) -> Result<(), CmdError> {
        match self {
            Act::Click => element.click().await,
            Act::Type(text) => element.send_keys(text).await,
            Act::Clear => element.clear().await,
        }
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// Enough of a text for a message.
fn shortened(text: &str) -> String {
    const ENOUGH: usize = 200;
    if text.chars().count() <= ENOUGH {
        return text.to_owned();
    }
    let start: String = text.chars().take(ENOUGH).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_javascripts() {
        for value in [json!(null), json!(false), json!(0), json!("")] {
            assert!(!is_true(&value), "{value}");
        }
        for value in [json!(true), json!(-1), json!("0"), json!([]), json!({})] {
            assert!(is_true(&value), "{value}");
        }
    }
}
