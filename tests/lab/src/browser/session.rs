//! One browser: its start, its windows, and whose fault it is when a command fails.

use std::path::Path;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};
use std::time::Duration;

use fantoccini::error::{CmdError, ErrorStatus, NewSessionError};
use fantoccini::wd::{Capabilities, WindowHandle};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use super::{Lease, Page};
use crate::{Failure, Lab};

/// How long a start may take on an idle machine, with others that start at the same time.
const START: Duration = Duration::from_secs(40);

/// The switches of the browser, besides those that its driver sets anyway.
const SWITCHES: [&str; 12] = [
    "headless=new",
    "window-size=1280,800",
    "lang=en-US",
    "force-color-profile=srgb",
    "mute-audio",
    // Containers have little shared memory, and a browser that runs out of it crashes.
    "disable-dev-shm-usage",
    // Two windows are two people: none of them is asleep because the other one is in front.
    "disable-background-timer-throttling",
    "disable-backgrounding-occluded-windows",
    "disable-renderer-backgrounding",
    // Its own process would outlive the browser.
    "disable-crash-reporter",
    // A page gets by without the internet: a check says the same with it and without.
    "no-proxy-server",
    "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]",
];

/// A browser of this check's own, with an empty profile. It ends when it and all its pages are
/// dropped, at the latest with the check. Clones are the same one.
#[derive(Clone)]
pub struct Browser {
    session: Arc<Session>,
}

pub(super) struct Session {
    lab: Lab,
    client: Client,
    /// The window that commands go to; unknown after a command that was given up.
    front: Mutex<Option<WindowHandle>>,
    /// The window that the browser started with, until a page takes it.
    unused: PlainMutex<Option<WindowHandle>>,
    /// The errors on the console so far.
    pub(super) console: PlainMutex<Vec<String>>,
    _lease: Lease,
}

impl Browser {
    pub(crate) async fn start(lab: &Lab, desk: &str) -> Result<Self, Failure> {
        let limit = START.mul_f64(lab.patience());
        let lease = Lease::take(desk, limit).await?;
        let session = Session::start(lab, lease, limit).await?;
        Ok(Browser {
            session: Arc::new(session),
        })
    }

    /// Opens a page in a window of its own, 1280 by 800, and waits until it is loaded.
    ///
    /// # Errors
    /// A [`Failure`] when the address cannot be loaded; [`Failure::infrastructure`] when the browser
    /// is gone. So for all that follow.
    pub async fn open(&self, url: &str) -> Result<Page, Failure> {
        let window = self.session.new_window().await?;
        let page = Page::new(Arc::clone(&self.session), window);
        page.goto(url).await?;
        Ok(page)
    }
}

impl Session {
    async fn start(lab: &Lab, mut lease: Lease, limit: Duration) -> Result<Self, Failure> {
        let mut refused = Vec::new();
        // Each a second time: on a busy machine a browser may be given up by its driver, or crash.
        let browsers = lease.leased.browsers.clone();
        for browser in browsers.iter().chain(&browsers) {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities(browser, lab.deadline()));
            let connect = builder.connect(&lease.leased.url);
            let Ok(connected) = tokio::time::timeout(limit, connect).await else {
                return Err(Failure::infrastructure(format!(
                    "{} had not started within {limit:.0?}; its driver's log ends with:\n{}",
                    browser.display(),
                    lease.last_words()
                )));
            };
            let client = match connected {
                Ok(client) => client,
                Err(error) => {
                    refused.push(format!("{}: {}", browser.display(), told(&error)));
                    continue;
                }
            };
            lease.started().await;
            let first = client
                .window()
                .await
                .map_err(|error| failure("a browser that starts", error))?;
            return Ok(Session {
                lab: lab.clone(),
                client,
                front: Mutex::new(Some(first.clone())),
                unused: PlainMutex::new(Some(first)),
                console: PlainMutex::default(),
                _lease: lease,
            });
        }
        refused.truncate(browsers.len());
        Err(Failure::infrastructure(format!(
            "no browser starts on this machine:\n  {}\n`cargo xtask doctor` shows whether the browser and its driver are of one version",
            refused.join("\n  ")
        )))
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Brings a window to the front, and keeps it there for as long as the answer lives.
    pub(super) async fn turn(&self, window: &WindowHandle) -> Result<Turn<'_>, Failure> {
        let mut front = self.front.lock().await;
        if front.as_ref() != Some(window) {
            *front = None;
            self.limited("a window", self.client.switch_to_window(window.clone()))
                .await?;
            *front = Some(window.clone());
        }
        Ok(Turn {
            session: self,
            _front: front,
        })
    }

    async fn new_window(&self) -> Result<WindowHandle, Failure> {
        let unused = self
            .unused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(window) = unused {
            return Ok(window);
        }
        let mut front = self.front.lock().await;
        // The browser has to be at a window that exists, whatever became of the one in front.
        let windows = self.limited("its windows", self.client.windows()).await?;
        if let Some(any) = windows.into_iter().next() {
            *front = None;
            self.limited("a window", self.client.switch_to_window(any.clone()))
                .await?;
            *front = Some(any);
        }
        let opened = self
            .limited("a new window", self.client.new_window(false))
            .await?;
        Ok(opened.handle)
    }

    /// Gives a command up when the page does not let it end.
    async fn limited<T>(
        &self,
        what: &str,
        command: impl Future<Output = Result<T, CmdError>>,
    ) -> Result<T, Failure> {
        // Longer than the limits that the driver has been given, which say more.
        let limit = 2 * self.lab.deadline();
        match tokio::time::timeout(limit, command).await {
            Ok(answer) => answer.map_err(|error| failure(what, error)),
            Err(_) => Err(Failure::observed(format!(
                "the page held the browser up: {what} did not come within {limit:.0?}"
            ))),
        }
    }
}

/// The right to give commands to one window.
pub(super) struct Turn<'a> {
    session: &'a Session,
    _front: MutexGuard<'a, Option<WindowHandle>>,
}

impl Turn<'_> {
    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// Runs a command of this window; `what` says in a failure what it was about.
    pub(super) async fn run<T>(
        &self,
        what: &str,
        command: impl Future<Output = Result<T, CmdError>>,
    ) -> Result<T, Failure> {
        self.session.limited(what, command).await
    }
}

fn capabilities(browser: &Path, deadline: Duration) -> Capabilities {
    let mut switches: Vec<String> = SWITCHES
        .iter()
        .map(|switch| format!("--{switch}"))
        .collect();
    if nix::unistd::geteuid().is_root() {
        // Chromium refuses to put root into its sandbox. What it opens here are the pages of a
        // candidate, whose code runs as root anyway. Everybody else keeps the sandbox.
        switches.push("--no-sandbox".to_owned());
    }
    let limit = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let wanted = json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "binary": browser, "args": switches },
        "goog:loggingPrefs": { "browser": "SEVERE" },
        "timeouts": { "script": limit, "pageLoad": limit, "implicit": 0 },
    });
    wanted.as_object().cloned().unwrap_or_default()
}

/// What a command's error means for the check.
pub(super) fn failure(what: &str, error: CmdError) -> Failure {
    let CmdError::Standard(said) = &error else {
        return Failure::infrastructure(format!("the browser was lost at {what}: {error}"));
    };
    let text = first_line(&said.message);
    let is_gone = [
        "tab crashed",
        "disconnected",
        "not connected to DevTools",
        "chrome not reachable",
        "not reachable",
    ]
    .iter()
    .any(|sign| text.contains(sign));
    match said.error {
        ErrorStatus::InvalidSessionId | ErrorStatus::SessionNotCreated => {
            Failure::infrastructure(format!("the browser ended at {what}: {text}"))
        }
        _ if is_gone => Failure::infrastructure(format!("the browser ended at {what}: {text}")),
        _ => Failure::observed(format!("the browser says of {what}: {text}")),
    }
}

/// True if the same command may well succeed a moment later: the page is still being drawn.
pub(super) fn is_for_now(error: &CmdError) -> bool {
    matches!(error, CmdError::Standard(said) if matches!(
        said.error,
        ErrorStatus::NoSuchElement
            | ErrorStatus::StaleElementReference
            | ErrorStatus::ElementNotInteractable
            | ErrorStatus::ElementClickIntercepted
    ))
}

/// The driver adds the version of the browser and a stack of its own.
pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn told(error: &NewSessionError) -> String {
    let text = error.to_string();
    let line = first_line(&text);
    line.chars().take(400).collect()
}
