//! The checks of exercise 03, stage by stage.
//!
//! Each check holds a candidate to one promise: over the public API, HTTP, the wire, or what RabbitMQ and
//! Redis themselves say afterwards. It never looks at how the candidate is written. The lab (`tests/lab`)
//! runs each check in a process of its own and believes only what that process reports at its very end.

mod depot;
mod stage_1_topology;
mod stage_2_submit;
mod stage_3_work;
mod stage_4_retry;
mod stage_5_crash;

fn main() -> std::process::ExitCode {
    let both = lab::brokers::Wanted {
        redis: true,
        amqp: true,
        browser: false,
    };
    lab::Suite::new("task-queue", env!("CARGO_BIN_EXE_task-queue"))
        .brokers(both)
        .stage("stage_1_topology", stage_1_topology::checks())
        .stage("stage_2_submit", stage_2_submit::checks())
        .stage("stage_3_work", stage_3_work::checks())
        .stage("stage_4_retry", stage_4_retry::checks())
        .stage("stage_5_crash", stage_5_crash::checks())
        .main()
}
