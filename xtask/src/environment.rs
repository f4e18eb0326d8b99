//! What a candidate's build and checks may see of the environment.
//!
//! A candidate is somebody else's code. It can read its environment while it is compiled (`env!`) and while it runs, and what it
//! reads can end in a report. So it is given what cargo and the system need, and nothing else: no broker's password, no token.

use tokio::process::Command;

/// Passed on by name.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "TERM",
    "NO_COLOR",
    "CI",
    // The compilers and what they find things with.
    "CC",
    "CXX",
    "AR",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "LD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "LIBRARY_PATH",
    "SDKROOT",
    "DEVELOPER_DIR",
    "MACOSX_DEPLOYMENT_TARGET",
    "NIX_LDFLAGS",
    "NIX_CFLAGS_COMPILE",
    "CARGO",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TERM_COLOR",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_AUTO_INSTALL",
];

/// Passed on when the name begins so.
const PREFIXES: &[&str] = &[
    "LC_",
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "CARGO_PROFILE_",
    "PKG_CONFIG_",
];

/// What `cargo run` tells this runner about itself. A cargo below must not see it: build scripts would take themselves for changed.
const OF_THIS_RUNNER: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
];

/// Whether a candidate may see the variable.
pub fn is_passed_on(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Leaves `command` only what a candidate may see.
pub fn scrub(command: &mut Command) {
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        if name.to_str().is_some_and(is_passed_on) {
            command.env(name, value);
        }
    }
}

/// Removes only what describes this runner's own package.
pub fn forget_this_runner(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = |name: &str| OF_THIS_RUNNER.iter().any(|prefix| name.starts_with(prefix));
        if name.to_str().is_some_and(own) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_passed_on_and_the_compiler_finds_its_way() {
        for secret in [
            "REDIS_URL",
            "AMQP_URL",
            "GITHUB_TOKEN",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_X_TOKEN",
            "SSH_AUTH_SOCK",
        ] {
            assert!(!is_passed_on(secret), "{secret}");
        }
        for needed in ["PATH", "HOME", "CARGO_TARGET_DIR", "RUSTFLAGS", "LC_ALL"] {
            assert!(is_passed_on(needed), "{needed}");
        }
    }
}
