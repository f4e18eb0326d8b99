//! The checks of exercise 01, stage by stage.
//!
//! Each check holds a candidate to one promise, over the public API, the wire or what Redis itself
//! says afterwards. It never looks at how the candidate is written. The lab (`tests/lab`) runs each
//! check in a process of its own and believes only what that process reports at its very end.

mod letters;
mod outages;
mod owners;
mod queue;
mod stage_1_send;
mod stage_2_consume;
mod stage_3_share;
mod stage_4_survive;
mod stage_5_give_up;
mod stage_6_stay_bounded;
mod stage_7_stop;
mod stage_8_one_effect;
mod stage_9_go_fast;

fn main() -> std::process::ExitCode {
    lab::Suite::new("stream-queue", env!("CARGO_BIN_EXE_stream-queue"))
        .stage("stage_1_send", stage_1_send::checks())
        .stage("stage_2_consume", stage_2_consume::checks())
        .stage("stage_3_share", stage_3_share::checks())
        .stage(
            "stage_4_survive",
            both(stage_4_survive::checks(), owners::checks()),
        )
        .stage(
            "stage_5_give_up",
            both(stage_5_give_up::checks(), letters::checks()),
        )
        .stage("stage_6_stay_bounded", stage_6_stay_bounded::checks())
        .stage("stage_7_stop", stage_7_stop::checks())
        .stage(
            "stage_8_one_effect",
            both(stage_8_one_effect::checks(), outages::checks()),
        )
        .stage("stage_9_go_fast", stage_9_go_fast::checks())
        .main()
}

/// A stage whose checks stand in two files.
fn both(mut one: Vec<lab::Check>, two: Vec<lab::Check>) -> Vec<lab::Check> {
    one.extend(two);
    one
}
