//! The checks of exercise 04, stage by stage.
//!
//! Each check holds a candidate to one promise, over the wire: against `serve` in the check's own
//! process, or against the service as processes that are killed and paused. It never looks at how the
//! candidate is written. The lab (`tests/lab`) runs each check in a process of its own and believes
//! only what that process reports at its very end.

mod house;
mod pages;
mod person;
mod stage_1_echo;
mod stage_2_broadcast;
mod stage_3_rooms;
mod stage_4_refuse;
mod stage_5_heartbeat;
mod stage_6_slow_consumers;
mod stage_7_resume;
mod stage_8_nodes;
mod stage_9_stop;

fn main() -> std::process::ExitCode {
    lab::Suite::new("chat-server", env!("CARGO_BIN_EXE_chat-server"))
        .browser()
        .stage("stage_1_echo", stage_1_echo::checks())
        .stage("stage_2_broadcast", stage_2_broadcast::checks())
        .stage("stage_3_rooms", stage_3_rooms::checks())
        .stage("stage_4_refuse", stage_4_refuse::checks())
        .stage("stage_5_heartbeat", stage_5_heartbeat::checks())
        .stage("stage_6_slow_consumers", stage_6_slow_consumers::checks())
        .stage(
            "stage_7_resume",
            both(stage_7_resume::checks(), pages::of_stage_7()),
        )
        .stage(
            "stage_8_nodes",
            both(stage_8_nodes::checks(), pages::of_stage_8()),
        )
        .stage("stage_9_stop", stage_9_stop::checks())
        .main()
}

/// A stage whose checks stand in two files.
fn both(mut one: Vec<lab::Check>, two: Vec<lab::Check>) -> Vec<lab::Check> {
    one.extend(two);
    one
}
