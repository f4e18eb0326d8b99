//! Where browsers and their drivers are.

use std::path::PathBuf;

/// What a Chromium is called, by who packages it. Chrome is one, too.
const PROGRAMS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// Where macOS keeps them.
const APPLICATIONS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// The driver, and where Debian keeps it besides the `PATH`.
const DRIVERS: [&str; 2] = ["chromedriver", "/usr/lib/chromium/chromedriver"];

/// The browsers of this machine that can be driven, in the order in which they are tried.
pub fn programs() -> Vec<PathBuf> {
    let on_path = PROGRAMS.iter().filter_map(|name| which::which(name).ok());
    let applications = APPLICATIONS.iter().map(PathBuf::from);
    on_path
        .chain(applications.filter(|path| path.is_file()))
        .collect()
}

/// The program that drives them.
pub fn driver() -> Option<PathBuf> {
    DRIVERS.iter().find_map(|name| which::which(name).ok())
}
