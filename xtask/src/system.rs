//! What this system is and how it installs things.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::manifest::Broker;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and what descends from them.
    Apt,
    /// Fedora and what descends from it.
    Dnf,
    /// Arch Linux.
    Pacman,
    /// Homebrew, on macOS or Linux.
    Brew,
}

/// A program that the workbook can use and a system can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The server of a broker.
    Server(Broker),
    /// A Chromium, for the checks that look at a page.
    Browser,
    /// The program that drives it, of the same version.
    WebDriver,
    /// Builds a file system from a distribution's packages, for the images.
    Mmdebstrap,
    /// A C compiler and linker, which rustc links with.
    Linker,
    /// Git.
    Git,
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(pub Vec<String>);

impl Manager {
    /// The package manager of this system; none that the workbook knows if `None`.
    pub fn detect() -> Option<Self> {
        [
            ("apt-get", Manager::Apt),
            ("dnf", Manager::Dnf),
            ("pacman", Manager::Pacman),
            ("brew", Manager::Brew),
        ]
        .into_iter()
        .find(|(program, _)| which::which(program).is_ok())
        .map(|(_, manager)| manager)
    }

    /// The package that brings a tool, or `None` where this system has none.
    pub fn package(self, tool: Tool) -> Option<&'static str> {
        match (tool, self) {
            (Tool::Server(Broker::Redis), Manager::Apt) => Some("redis-server"),
            // Arch has the fork that kept the licence; it brings the same `redis-server`.
            (Tool::Server(Broker::Redis), Manager::Pacman) => Some("valkey"),
            (Tool::Server(Broker::Redis), Manager::Dnf | Manager::Brew) => Some("redis"),
            (Tool::Server(Broker::Amqp), Manager::Apt | Manager::Dnf) => Some("rabbitmq-server"),
            (Tool::Server(Broker::Amqp), Manager::Pacman | Manager::Brew) => Some("rabbitmq"),
            // Chrome where Chromium is not kept up to date; it is the same engine.
            (Tool::Browser, Manager::Brew) => Some("google-chrome"),
            (Tool::Browser, _) => Some("chromium"),
            (Tool::WebDriver, Manager::Apt) => Some("chromium-driver"),
            (Tool::WebDriver, Manager::Dnf | Manager::Brew) => Some("chromedriver"),
            // Arch has both in one package.
            (Tool::WebDriver, Manager::Pacman) => Some("chromium"),
            (Tool::Mmdebstrap, Manager::Apt | Manager::Dnf) => Some("mmdebstrap"),
            (Tool::Mmdebstrap, Manager::Pacman | Manager::Brew) => None,
            (Tool::Linker, Manager::Apt) => Some("build-essential"),
            (Tool::Linker, Manager::Dnf | Manager::Pacman | Manager::Brew) => Some("gcc"),
            (Tool::Git, _) => Some("git"),
        }
    }

    /// The commands that install `packages`, in order. None if there is nothing to install.
    ///
    /// `caller` says whether they need `sudo` and whether it may ask for a password.
    pub fn install(self, packages: &[&str], caller: Caller) -> Vec<CommandLine> {
        if packages.is_empty() {
            return Vec::new();
        }
        let command = |words: &[&str], packages: &[&str]| {
            let prefix: &[&str] = match (self, caller) {
                (Manager::Brew, _) | (_, Caller::Root) => &[],
                (_, Caller::UserWhoCanAnswer) => &["sudo"],
                (_, Caller::User) => &["sudo", "-n"],
            };
            let words = prefix.iter().chain(words).chain(packages);
            CommandLine(words.map(|word| (*word).to_owned()).collect())
        };
        match self {
            Manager::Apt => vec![
                command(&["apt-get", "update"], &[]),
                // The workbook starts servers of its own. These two variables keep the package's scripts, under SysV init
                // and under systemd, from starting one as a service on the port that a learner may want.
                command(
                    &[
                        "env",
                        "DEBIAN_FRONTEND=noninteractive",
                        "RUNLEVEL=1",
                        "SYSTEMD_OFFLINE=1",
                        "apt-get",
                        "install",
                        "-y",
                        "--no-install-recommends",
                    ],
                    packages,
                ),
            ],
            Manager::Dnf => vec![command(&["dnf", "install", "-y"], packages)],
            Manager::Pacman => vec![command(
                &["pacman", "-S", "--needed", "--noconfirm"],
                packages,
            )],
            Manager::Brew => vec![command(&["brew", "install"], packages)],
        }
    }

    /// The commands that a person types to get `tools`, joined for a terminal; `None` if this system has no package for one.
    pub fn advice(self, tools: &[Tool]) -> Option<String> {
        let packages: Option<Vec<_>> = tools.iter().map(|tool| self.package(*tool)).collect();
        let mut packages = packages?;
        packages.dedup();
        let commands = self.install(&packages, Caller::of_this_process(true));
        let commands: Vec<_> = commands.iter().map(ToString::to_string).collect();
        Some(commands.join(" && "))
    }
}

/// With which rights the commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The superuser.
    Root,
    /// Somebody else at a terminal: `sudo` may ask for the password.
    UserWhoCanAnswer,
    /// Somebody else, with nobody there: `sudo` has to fail instead of asking.
    User,
}

impl Caller {
    /// The caller of this process.
    pub fn of_this_process(can_answer: bool) -> Self {
        if is_root() {
            Caller::Root
        } else if can_answer {
            Caller::UserWhoCanAnswer
        } else {
            Caller::User
        }
    }
}

fn is_root() -> bool {
    output("id", &["-u"]).is_some_and(|id| id == "0")
}

impl CommandLine {
    /// The command, ready to be run.
    pub fn command(&self) -> Command {
        let mut words = self.0.iter();
        let mut command = Command::new(words.next().map_or("true", String::as_str));
        command.args(words);
        command
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Tool {
    /// The program by which it is found, the first of several names that is there.
    pub fn find(self) -> Option<PathBuf> {
        match self {
            // The lab has to find the same ones, so it is the one who knows where they are.
            Tool::Browser => return lab::browser::programs().into_iter().next(),
            Tool::WebDriver => return lab::browser::driver(),
            _ => {}
        }
        self.programs()
            .iter()
            .find_map(|program| find_program(program))
    }

    /// The programs that would do.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Tool::Server(Broker::Redis) => &["redis-server"],
            Tool::Server(Broker::Amqp) => &["rabbitmq-server"],
            Tool::Browser | Tool::WebDriver => &[],
            Tool::Mmdebstrap => &["mmdebstrap"],
            Tool::Linker => &["cc", "gcc", "clang"],
            Tool::Git => &["git"],
        }
    }
}

/// Finds a program on `PATH` or where Debian keeps servers, which the `PATH` of a user there leaves out.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let places =
        ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(|dir| PathBuf::from(dir).join(program));
    which::which(program)
        .ok()
        .or_else(|| places.into_iter().find(|path| path.is_file()))
}

/// The first line that a program prints, or `None` if it is not there or fails.
pub fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(manager: Manager, packages: &[&str], caller: Caller) -> Vec<String> {
        let commands = manager.install(packages, caller);
        commands.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn apt_updates_first_and_starts_no_service() {
        let commands = shown(Manager::Apt, &["redis-server"], Caller::Root);
        assert_eq!(commands[0], "apt-get update");
        assert!(commands[1].contains("RUNLEVEL=1"), "{commands:?}");
        assert!(
            commands[1].ends_with("--no-install-recommends redis-server"),
            "{commands:?}"
        );
    }

    #[test]
    fn sudo_never_asks_where_nobody_answers() {
        assert_eq!(
            shown(Manager::Dnf, &["redis"], Caller::User),
            ["sudo -n dnf install -y redis"]
        );
        assert_eq!(
            shown(Manager::Dnf, &["redis"], Caller::UserWhoCanAnswer),
            ["sudo dnf install -y redis"]
        );
        assert_eq!(
            shown(Manager::Brew, &["redis"], Caller::User),
            ["brew install redis"]
        );
    }

    #[test]
    fn nothing_to_install_is_no_command() {
        assert!(shown(Manager::Apt, &[], Caller::Root).is_empty());
    }

    #[test]
    fn every_system_has_a_browser_and_what_drives_it() {
        let packages = |manager: Manager| {
            [Tool::Browser, Tool::WebDriver].map(|tool| manager.package(tool).unwrap())
        };
        assert_eq!(packages(Manager::Apt), ["chromium", "chromium-driver"]);
        assert_eq!(packages(Manager::Dnf), ["chromium", "chromedriver"]);
        assert_eq!(packages(Manager::Pacman), ["chromium", "chromium"]);
        assert_eq!(packages(Manager::Brew), ["google-chrome", "chromedriver"]);
    }

    #[test]
    fn every_system_has_the_brokers() {
        for manager in [Manager::Apt, Manager::Dnf, Manager::Pacman, Manager::Brew] {
            for broker in [Broker::Redis, Broker::Amqp] {
                assert!(manager.package(Tool::Server(broker)).is_some());
            }
        }
    }
}
