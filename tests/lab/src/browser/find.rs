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
    which::which("chromedriver").ok()
}

/// Whether this system's packages bring a browser that can be driven. Ubuntu's is a snap: it sees
/// neither our temporary directory nor a home of ours.
pub fn is_packaged() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    !release.lines().any(|line| line == "ID=ubuntu")
}
