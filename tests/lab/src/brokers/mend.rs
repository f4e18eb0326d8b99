//! Which command mends what, on this system.

/// The command that installs a package, by what each system calls it.
pub(super) fn install(debian: &str, fedora: &str, arch: &str, brew: &str) -> Option<String> {
    let sudo = if nix::unistd::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    let has = |program: &str| which::which(program).is_ok();
    if has("apt-get") {
        Some(format!("{sudo}apt-get install -y {debian}"))
    } else if has("dnf") {
        Some(format!("{sudo}dnf install -y {fedora}"))
    } else if has("pacman") {
        Some(format!("{sudo}pacman -S --noconfirm {arch}"))
    } else if has("brew") {
        Some(format!("brew install {brew}"))
    } else {
        None
    }
}

/// The command that supplies a browser and its driver.
pub(super) fn browser() -> Option<String> {
    if !crate::browser::is_packaged() {
        return Some(
            "install Google Chrome and the chromedriver of its version, so that both are on PATH (Ubuntu has Chromium as a snap only, which cannot be driven from here)"
                .into(),
        );
    }
    let by_hand = install(
        "chromium chromium-driver",
        "chromium chromedriver",
        "chromium",
        "google-chrome chromedriver",
    );
    Some(match by_hand {
        Some(command) => format!("cargo xtask setup   (or: {command})"),
        None => {
            "install Chromium and the chromedriver of its version, so that both are on PATH".into()
        }
    })
}

/// The command that makes a container engine answer.
pub(super) fn engine() -> Option<String> {
    if which::which("docker").is_err() {
        return install("docker.io", "moby-engine", "docker", "--cask docker");
    }
    if cfg!(target_os = "macos") {
        return Some("open -a Docker".into());
    }
    let sudo = if nix::unistd::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    Some(format!(
        "{sudo}systemctl start docker   (and be in the group `docker`)"
    ))
}

/// The command that supplies a pinned image without a registry.
pub(super) fn image() -> Option<String> {
    Some(
        "cargo xtask images   (builds it from the distribution's packages, without a registry)"
            .into(),
    )
}
