//! The checks of exercise 06, stage by stage.
//!
//! Each check holds a candidate to one promise: over the public API, HTTP, the wire, or what Redis and
//! RabbitMQ themselves say afterwards. It never looks at how the candidate is written. The lab (`tests/lab`)
//! runs each check in a process of its own and believes only what that process reports at its very end.

#![allow(
    clippy::drop_non_drop,
    reason = "a stub has nothing to drop yet, what a learner writes may"
)]

mod big;
mod board;
mod front;
mod oracle;
mod stage_1_delayed;
mod stage_2_cron;
mod stage_3_dispatch;
mod stage_4_lead;
mod stage_5_fence;
mod stage_6_once;
mod stage_7_misfire;
mod stage_8_workflows;
mod stage_9_operate;

fn main() -> std::process::ExitCode {
    let wanted = lab::brokers::Wanted {
        redis: true,
        amqp: true,
        browser: true,
    };
    lab::Suite::new("job-scheduler", env!("CARGO_BIN_EXE_job-scheduler"))
        .brokers(wanted)
        .stage("stage_1_delayed_jobs", stage_1_delayed::checks())
        .stage("stage_2_cron_and_intervals", stage_2_cron::checks())
        .stage("stage_3_dispatch", stage_3_dispatch::checks())
        .stage("stage_4_lead", stage_4_lead::checks())
        .stage("stage_5_fence", stage_5_fence::checks())
        .stage(
            "stage_6_once",
            both(stage_6_once::checks(), big::of_stage_6()),
        )
        .stage("stage_7_misfire", stage_7_misfire::checks())
        .stage("stage_8_workflows", stage_8_workflows::checks())
        .stage("stage_9_operate", stage_9_operate::checks())
        .main()
}

/// A stage whose checks stand in two files.
fn both(mut one: Vec<lab::Check>, two: Vec<lab::Check>) -> Vec<lab::Check> {
    one.extend(two);
    one
}
