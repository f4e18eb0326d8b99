//! Walks along the commands that a candidate sends: at the first, the second, the third … something
//! happens to it, until a run goes through in which it has sent fewer.

use std::future::Future;
use std::sync::Arc;

use crate::faults::{Action, Exchange, Fault, Trigger};
use crate::{Failure, Lab, Outcome, Redis};

/// What happens at the chosen command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The connection is cut, and the command was not carried out.
    CutBefore,
    /// The connection is cut; the command was carried out, and its answer is lost.
    CutAfter,
    /// The process is killed before the command arrives.
    KillBefore,
    /// The process is killed; the command arrives.
    KillAfter,
}

/// A crash at one command.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Which command, from 1.
    pub nth: usize,
    /// What happens there.
    pub crash: Crash,
}

impl Point {
    /// Arms it at this proxy.
    pub fn arm(self, redis: &Redis) -> Fault {
        let action = match self.crash {
            Crash::CutBefore => Action::CutBefore,
            Crash::CutAfter => Action::CutAfter,
            Crash::KillBefore | Crash::KillAfter => Action::Hold,
        };
        redis
            .proxy()
            .arm(Trigger::request(counts).nth(self.nth), action)
    }

    /// What the killed one had sent arrives, or does not.
    pub fn after_the_kill(self, fault: &Fault) {
        if self.crash == Crash::KillAfter {
            fault.release();
        }
    }

    /// For the message of a failure.
    pub fn blame(self, redis: &Redis) -> String {
        let struck = redis.proxy().faults();
        let what = struck
            .first()
            .map_or("nothing struck".to_owned(), |(_, text)| text.clone());
        format!("{:?} at command {} ({what})", self.crash, self.nth)
    }
}

/// Commands at which something is lost: not those by which a client library says hello.
fn counts(exchange: &Exchange) -> bool {
    ![
        "CLIENT", "PING", "HELLO", "AUTH", "SELECT", "COMMAND", "SCRIPT",
    ]
    .iter()
    .any(|name| exchange.is(name))
}

/// Runs `run` at every command in turn, each of `crashes` taking its turn by the seed, a few at a
/// time, until the fault does not strike any more, and `most` of them at most. `run` says whether it
/// struck.
///
/// # Errors
/// That of a run, and a failure if no command came at all.
pub async fn walk<F, Fut>(lab: &Lab, crashes: &[Crash], most: usize, run: F) -> Outcome
where
    F: Fn(Point) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<bool, Failure>> + Send + 'static,
{
    const AT_ONCE: usize = 6;
    let run = Arc::new(run);
    let mut struck = 0;
    for first in (1..=most).step_by(AT_ONCE) {
        let runs: Vec<_> = (first..first + AT_ONCE)
            .flat_map(|nth| {
                crashes
                    .iter()
                    .map(move |crash| Point { nth, crash: *crash })
            })
            .map(|point| {
                let run = Arc::clone(&run);
                tokio::spawn(async move { run(point).await })
            })
            .collect();
        let mut all = true;
        for run in runs {
            let fired = match run.await {
                Ok(outcome) => outcome?,
                Err(gone) => return Err(Failure::observed(format!("a run ended with: {gone}"))),
            };
            struck += usize::from(fired);
            all &= fired;
        }
        if !all {
            crate::ensure!(
                struck > 0,
                "no command went to Redis at which anything could be cut or killed"
            );
            lab.history()
                .note("lab", &format!("{struck} crash points were walked"));
            return Ok(());
        }
    }
    // So many commands are a candidate's right: the points walked stand for the rest.
    Ok(())
}
