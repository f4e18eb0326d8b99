//! RabbitMQ as checks see it: the proxy in front of a real one, looks at queues, a broker of a check's own,
//! and that nothing is left in the run's.
//!
//! The lab is tested by checks of its own, each judged as a candidate's would be. Some are meant to end
//! badly; what they leave is looked at from outside.

mod candidate;
mod counts;
mod faults;
mod leaves;
mod looks;
mod own;
mod trials;

use std::process::ExitCode;

use lab::Suite;
use lab::brokers::Wanted;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--run-check" | "--keep-brokers") => suite().main(),
        Some(trials::JUDGE_FOR_EVER) => trials::judge_for_ever(),
        _ => trials::main(),
    }
}

const AMQP: Wanted = Wanted {
    redis: false,
    amqp: true,
    browser: false,
};

fn suite() -> Suite {
    Suite::new("rabbit", "no service")
        .brokers(AMQP)
        .stage("faults", faults::checks())
        .stage("counts", counts::checks())
        .stage("looks", looks::checks())
        .stage("own", own::checks())
        .stage("leaves", leaves::checks())
}
