// Stub c0ca8537f1f1416a: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Times that passed without a run.

use std::time::Duration;

use crate::job::{Misfire, Schedule};
use crate::time::Time;

/// What is to become of a job that is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The times for which it runs now, oldest first.
    pub runs: Vec<Time>,
    /// The time at which it is due next; nothing if there is none.
    pub next: Option<Time>,
}

/// What is to become of a job that has been due since `due`, which is one of its times and not later than
/// `now`.
///
/// Its times from `due` to `now`, both included, fall into two parts. What is not later than `late` is on
/// time (`now - time <= late`): all of that runs. The others are misfires, and the policy decides:
/// [`Skip`](Misfire::Skip) runs none of them, [`Once`](Misfire::Once) the last, and
/// [`CatchUp`](Misfire::CatchUp)`(n)` the last n (none for 0). The next time is the first after `now`.
///
/// However long the gap was, it takes no longer than there are runs: a job that ran every second is not
/// counted through a year. No more than a thousand times are on time, the last ones.
pub fn plan(schedule: &Schedule, misfire: Misfire, due: Time, now: Time, late: Duration) -> Plan {
    todo!(
        "stage 3: the job runs for `due`, and then for the next (stage 7: what is on time, and what the policy makes of the rest)"
    )
}
