//! What a check's process sees of the judge's environment.
//!
//! The candidate runs in that process and can print what it finds there. So it gets what programs
//! and container engines need, and nothing else: above all no broker's password and no token of a
//! CI system.

use tokio::process::Command;

/// Passed on by name.
const NAMES: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "CI",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "DOCKER_HOST",
    "XDG_RUNTIME_DIR",
];

/// Passed on when the name begins so: language, the workbook's own settings, the container engine's
/// (those of them that are a path or an address; its passwords are not).
const PREFIXES: [&str; 6] = [
    "LC_",
    "WORKBOOK_",
    "TESTCONTAINERS_",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
];

/// Leaves `command` only what a candidate may see.
pub(super) fn scrub(command: &mut Command) -> &mut Command {
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        if name.to_str().is_some_and(is_passed_on) {
            command.env(name, value);
        }
    }
    command
}

fn is_passed_on(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_finds_its_programs_and_no_secret() {
        for name in ["PATH", "LC_ALL", "WORKBOOK_BROKERS", "DOCKER_HOST"] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in [
            "REDIS_URL",
            "AMQP_URL",
            "GITHUB_TOKEN",
            "DOCKER_AUTH_CONFIG",
            "CARGO_REGISTRY_TOKEN",
        ] {
            assert!(!is_passed_on(name), "{name}");
        }
    }
}
