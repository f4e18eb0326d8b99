//! The checks of exercise 03, stage by stage.
//!
//! Each check holds a candidate to one promise: over the public API, HTTP, the wire, or what RabbitMQ and
//! Redis themselves say afterwards. It never looks at how the candidate is written. The lab (`tests/lab`)
//! runs each check in a process of its own and believes only what that process reports at its very end.

#![allow(
    clippy::drop_non_drop,
    reason = "a stub has nothing to drop yet, what a learner writes may"
)]

mod big;
mod corners;
mod depot;
mod front;
mod http;
mod openapi;
mod stage_1_topology;
mod stage_2_submit;
mod stage_3_work;
mod stage_4_retry;
mod stage_5_crash;
mod stage_6_idempotency;
mod stage_7_cancel;
mod stage_8_reconnect;
mod stage_9_stop;

fn main() -> std::process::ExitCode {
    let wanted = lab::brokers::Wanted {
        redis: true,
        amqp: true,
        browser: false,
    };
    lab::Suite::new("task-queue", env!("CARGO_BIN_EXE_task-queue"))
        .brokers(wanted)
        .stage("stage_1_topology", stage_1_topology::checks())
        .stage(
            "stage_2_submit",
            all([
                stage_2_submit::checks(),
                http::of_stage_2(),
                corners::of_stage_2(),
            ]),
        )
        .stage(
            "stage_3_work",
            all([stage_3_work::checks(), corners::of_stage_3()]),
        )
        .stage(
            "stage_4_retry",
            all([stage_4_retry::checks(), corners::of_stage_4()]),
        )
        .stage(
            "stage_5_crash",
            all([stage_5_crash::checks(), corners::of_stage_5()]),
        )
        .stage(
            "stage_6_idempotency",
            all([
                stage_6_idempotency::checks(),
                http::of_stage_6(),
                corners::of_stage_6(),
            ]),
        )
        .stage(
            "stage_7_cancel",
            all([
                stage_7_cancel::checks(),
                http::of_stage_7(),
                corners::of_stage_7(),
            ]),
        )
        .stage(
            "stage_8_reconnect",
            all([
                stage_8_reconnect::checks(),
                http::of_stage_8(),
                big::of_stage_8(),
                corners::of_stage_8(),
            ]),
        )
        .stage(
            "stage_9_stop",
            all([stage_9_stop::checks(), corners::of_stage_9()]),
        )
        .main()
}

/// A stage whose checks stand in several files.
fn all<const N: usize>(parts: [Vec<lab::Check>; N]) -> Vec<lab::Check> {
    parts.into_iter().flatten().collect()
}
