//! The checks of exercise 05, stage by stage.
//!
//! Each check holds a candidate to one promise: over the wire, against `serve` in this process or the
//! service as processes of its own, or by the one pure function, `frame`. It never looks at how the
//! candidate is written. The lab (`tests/lab`) runs each check in a process of its own and believes
//! only what that process reports at its very end.

mod durable;
mod feed;
mod limits;
mod node;
mod outages;
mod pages;
mod sequence;
mod soak;
mod stage_1_frame;
mod stage_2_fan_out;
mod stage_3_resume;
mod stage_4_expire;
mod stage_5_heartbeat;
mod stage_6_slow;
mod stage_7_durable;
mod stage_8_topics;
mod stage_9_stop;
mod texts;

fn main() -> std::process::ExitCode {
    lab::Suite::new("live-feed", env!("CARGO_BIN_EXE_live-feed"))
        .browser()
        .stage("stage_1_frame", stage_1_frame::checks())
        .stage("stage_2_fan_out", stage_2_fan_out::checks())
        .stage("stage_3_resume", stage_3_resume::checks())
        .stage("stage_4_expire", stage_4_expire::checks())
        .stage(
            "stage_5_heartbeat",
            both(stage_5_heartbeat::checks(), pages::of_stage_5()),
        )
        .stage("stage_6_slow", both(stage_6_slow::checks(), soak::checks()))
        .stage(
            "stage_7_durable",
            both(
                stage_7_durable::checks(),
                both(outages::checks(), pages::of_stage_7()),
            ),
        )
        .stage(
            "stage_8_topics",
            both(stage_8_topics::checks(), limits::checks()),
        )
        .stage("stage_9_stop", stage_9_stop::checks())
        .main()
}

/// A stage whose checks stand in two files.
fn both(mut one: Vec<lab::Check>, two: Vec<lab::Check>) -> Vec<lab::Check> {
    one.extend(two);
    one
}
