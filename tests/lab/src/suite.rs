//! The `main` of a test crate.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};

use crate::brokers::{Endpoints, Keeper, Wanted, keep_if_asked};
use crate::check::Check;
use crate::judge::{self, Job, Verdict};

/// The hidden argument that prints every check with its limit.
const DESCRIBE: &str = "--describe";

/// The address space of a check, in bytes. `WORKBOOK_MEMORY_MIB` sets another.
const MEMORY: u64 = 4 * 1024 * 1024 * 1024;

/// A check, as `--describe` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The full name, `stage_1_send::a_message_becomes_one_entry`.
    pub name: String,
    /// The stage's module, `stage_1_send`.
    pub stage: String,
    /// The time limit on an idle machine, in seconds.
    pub limit_secs: u64,
}

/// All checks of an exercise. Its [`main`](Suite::main) is the test crate's whole `main`.
///
/// Run by hand or by `cargo test` it behaves as any test binary does: names filter, `--exact` and
/// `--list` work, and so does nextest. Each check runs in a process of its own all the same, and
/// is believed only with a receipt.
pub struct Suite {
    name: String,
    service: PathBuf,
    wanted: Wanted,
    stages: Vec<(String, Vec<Check>)>,
}

impl Suite {
    /// A suite for the exercise `name`, whose service is the program `service`, with a Redis. The
    /// variable `WORKBOOK_SERVICE` names another program.
    pub fn new(name: impl Into<String>, service: impl Into<PathBuf>) -> Self {
        Suite {
            name: name.into(),
            service: service.into(),
            wanted: Wanted {
                redis: true,
                amqp: false,
                browser: false,
            },
            stages: Vec::new(),
        }
    }

    /// Says which brokers the checks need, instead of Redis alone.
    pub fn brokers(mut self, wanted: Wanted) -> Self {
        let browser = self.wanted.browser;
        self.wanted = wanted;
        self.wanted.browser |= browser;
        self
    }

    /// Says that some checks look at a page with a [browser](crate::browser).
    pub fn browser(mut self) -> Self {
        self.wanted.browser = true;
        self
    }

    /// Adds the checks of a stage; `name` is its module.
    pub fn stage(mut self, name: impl Into<String>, checks: Vec<Check>) -> Self {
        self.stages.push((name.into(), checks));
        self
    }

    /// Does what the command line asks for.
    pub fn main(self) -> ExitCode {
        if let Some(code) = keep_if_asked() {
            return code;
        }
        match std::env::args().nth(1).as_deref() {
            Some(judge::RUN_CHECK) => judge::run_as_child(|name| self.find(name)),
            Some(DESCRIBE) => self.describe(),
            _ => self.run(),
        }
    }

    fn find(&self, name: &str) -> Option<Check> {
        let (stage, check) = name.split_once("::")?;
        let (_, checks) = self.stages.iter().find(|(name, _)| name == stage)?;
        checks
            .iter()
            .find(|candidate| candidate.name == check)
            .cloned()
    }

    /// Every check, in order.
    fn described(&self) -> Vec<Described> {
        let mut all = Vec::new();
        for (stage, checks) in &self.stages {
            all.extend(checks.iter().map(|check| Described {
                name: format!("{stage}::{}", check.name),
                stage: stage.clone(),
                limit_secs: check.limit.as_secs(),
            }));
        }
        all
    }

    fn describe(&self) -> ExitCode {
        match serde_json::to_string(&self.described()) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::FAILURE,
        }
    }

    fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        let named = std::env::var_os("WORKBOOK_SERVICE").map(PathBuf::from);
        let program = named.unwrap_or_else(|| self.service.clone());
        let pinned = if arguments.list { None } else { pin(&program) };
        let service = pinned
            .as_ref()
            .map_or(program, |(_, second)| second.clone());
        let brokers = Arc::new(SharedBrokers {
            exercise: self.name.clone(),
            wanted: self.wanted,
            keeper: Mutex::new(None),
        });
        let mut trials = Vec::new();
        for check in self.described() {
            let (service, brokers) = (service.clone(), Arc::clone(&brokers));
            trials.push(Trial::test(check.name.clone(), move || {
                trial(&check, service, &brokers)
            }));
        }
        let conclusion = libtest_mimic::run(&arguments, trials);
        // The brokers are removed before this process says that it is done.
        brokers.release();
        conclusion.exit_code()
    }
}

/// Gives the program a second name that lasts as long as the directory. Another build, with other
/// features, may replace the program under its own name while the checks run.
fn pin(program: &Path) -> Option<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::Builder::new()
        .prefix(".service-")
        .tempdir_in(program.parent()?)
        .ok()?;
    let second = directory.path().join(program.file_name()?);
    std::fs::hard_link(program, &second).ok()?;
    Some((directory, second))
}

/// The brokers of this process, started when the first check needs them.
struct SharedBrokers {
    exercise: String,
    wanted: Wanted,
    keeper: Mutex<Option<Result<Keeper, String>>>,
}

impl SharedBrokers {
    fn endpoints(&self, runtime: &tokio::runtime::Runtime) -> Result<Endpoints, String> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let keeper = keeper.get_or_insert_with(|| {
            runtime
                .block_on(Keeper::start(self.wanted))
                .map_err(|why| format!("the checks of {} need a broker, and {why}", self.exercise))
        });
        keeper.as_ref().map(Keeper::endpoints).map_err(Clone::clone)
    }

    fn release(&self) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn trial(check: &Described, service: PathBuf, brokers: &SharedBrokers) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let endpoints = brokers
        .endpoints(&runtime)
        .map_err(|why| Failed::from(format!("infrastructure: {why}")))?;
    let patience = crate::patience();
    let job = Job {
        binary: crate::program()?,
        check: check.name.clone(),
        service: Some(service),
        brokers: endpoints,
        seed: number_from("WORKBOOK_SEED").unwrap_or_else(rand::random),
        patience,
        limit: std::time::Duration::from_secs(check.limit_secs).mul_f64(patience),
        memory: number_from("WORKBOOK_MEMORY_MIB").map_or(MEMORY, |mib| mib * 1024 * 1024),
    };
    let report = runtime.block_on(judge::run_check(&job));
    match report.verdict {
        Verdict::Passed => Ok(()),
        _ => Err(Failed::from(report.to_string())),
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
