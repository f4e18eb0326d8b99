//! The checks of exercise 02, stage by stage.
//!
//! Each check holds a candidate to one promise: over the public API, the wire, or what Redis itself
//! says afterwards. It never looks at how the candidate is written. The lab (`tests/lab`) runs each
//! check in a process of its own and believes only what that process reports at its very end.

#![allow(
    clippy::drop_non_drop,
    reason = "a stub has nothing to drop yet, what a learner writes may"
)]

mod hall;
mod heard;
mod market;
mod races;
mod room;
mod stage_1_publish;
mod stage_2_isolate;
mod stage_3_order;
mod stage_4_push_back;
mod stage_5_route;
mod stage_6_drain;
mod stage_7_durable;
mod stage_8_outbox;
mod stage_9_saga;
mod stored;
mod survive;

fn main() -> std::process::ExitCode {
    lab::Suite::new("event-bus", env!("CARGO_BIN_EXE_event-bus"))
        .stage("stage_1_publish", stage_1_publish::checks())
        .stage("stage_2_isolate", stage_2_isolate::checks())
        .stage("stage_3_order", stage_3_order::checks())
        .stage(
            "stage_4_push_back",
            both(stage_4_push_back::checks(), room::checks()),
        )
        .stage(
            "stage_5_route",
            both(stage_5_route::checks(), races::checks()),
        )
        .stage("stage_6_drain", stage_6_drain::checks())
        .stage(
            "stage_7_durable",
            both(stage_7_durable::checks(), survive::checks()),
        )
        .stage("stage_8_outbox", stage_8_outbox::checks())
        .stage("stage_9_saga", stage_9_saga::checks())
        .main()
}

/// A stage whose checks stand in two files.
fn both(mut one: Vec<lab::Check>, two: Vec<lab::Check>) -> Vec<lab::Check> {
    one.extend(two);
    one
}
