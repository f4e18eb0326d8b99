//! The listings of the book. Each module is one listing: a small program against a real Redis,
//! between sockets of this machine, or inside one process.
//!
//! A listing is given the addresses of a Redis and a RabbitMQ, and the name of a stream that nobody else
//! uses.
//! What it prints is compared with `output/NAME.txt` by this crate's test, so the output that
//! the book shows is what the code prints.

pub mod consuming;
pub mod crashes;
pub mod cut;
pub mod ev_drain;
pub mod ev_durable;
pub mod ev_first;
pub mod ev_isolate;
pub mod ev_naming;
pub mod ev_order;
pub mod ev_outbox;
pub mod ev_publish;
pub mod ev_push_back;
pub mod ev_route;
pub mod ev_saga;
pub mod feed;
pub mod first;
pub mod giving_up;
pub mod going_fast;
pub mod histories;
pub mod job_claims;
pub mod job_cron;
pub mod job_fence;
pub mod job_first;
pub mod job_flow;
pub mod job_lease;
pub mod job_misfire;
pub mod job_once;
pub mod job_open;
pub mod mq_acks;
pub mod mq_channels;
pub mod mq_confirms;
pub mod mq_dead_letters;
pub mod mq_first;
pub mod mq_keys;
pub mod mq_prefetch;
pub mod mq_priority;
pub mod mq_retries;
pub mod mq_routing;
pub mod mq_stopping;
pub mod mq_window;
pub mod one_effect;
pub mod orders;
pub mod prints;
pub mod recorded;
pub mod sending;
pub mod sharing;
pub mod slots;
pub mod sockets;
pub mod sse_beating;
pub mod sse_durable;
pub mod sse_expiring;
pub mod sse_fanning;
pub mod sse_first;
pub mod sse_framing;
pub mod sse_limits;
pub mod sse_resuming;
pub mod sse_slow;
pub mod sse_stopping;
pub mod staying_bounded;
pub mod stopping;
pub mod timeouts;
pub mod ws_broadcast;
pub mod ws_first;
pub mod ws_frames;
pub mod ws_halves;
pub mod ws_heartbeat;
pub mod ws_nodes;
pub mod ws_pongs;
pub mod ws_refusing;
pub mod ws_resuming;
pub mod ws_rooms;
pub mod ws_sessions;
pub mod ws_slow;
pub mod ws_stopping;

/// The names of the listings, in the order of the book.
pub const NAMES: &[&str] = &[
    "first",
    "sending",
    "consuming",
    "timeouts",
    "sharing",
    "slots",
    "crashes",
    "giving_up",
    "staying_bounded",
    "stopping",
    "one_effect",
    "going_fast",
    "ev_first",
    "ev_naming",
    "ev_publish",
    "ev_isolate",
    "ev_order",
    "ev_push_back",
    "ev_route",
    "ev_drain",
    "ev_durable",
    "ev_outbox",
    "ev_saga",
    "mq_first",
    "mq_routing",
    "mq_confirms",
    "mq_window",
    "mq_prefetch",
    "job_claims",
    "job_cron",
    "job_fence",
    "job_first",
    "job_flow",
    "job_lease",
    "job_misfire",
    "job_once",
    "job_open",
    "mq_acks",
    "mq_retries",
    "mq_dead_letters",
    "mq_keys",
    "mq_priority",
    "mq_channels",
    "mq_stopping",
    "cut",
    "histories",
    "recorded",
    "ws_first",
    "ws_frames",
    "ws_sessions",
    "ws_broadcast",
    "ws_rooms",
    "ws_refusing",
    "ws_heartbeat",
    "ws_halves",
    "ws_slow",
    "ws_pongs",
    "ws_resuming",
    "ws_nodes",
    "ws_stopping",
    "sse_first",
    "sse_framing",
    "sse_fanning",
    "sse_resuming",
    "sse_expiring",
    "sse_beating",
    "sse_slow",
    "sse_durable",
    "sse_limits",
    "sse_stopping",
];

/// Runs one listing by its name; it prints to standard output.
///
/// # Errors
/// When there is no listing of that name, or a broker refuses a command.
pub async fn run(
    name: &str,
    redis: &str,
    amqp: &str,
    stream: &str,
) -> anyhow::Result<()> {
    // A colon is for Redis; RabbitMQ's queues have points.
    let queue = stream.replace(':', ".");
    match name {
        "first" => first::run(redis, stream).await?,
        "sending" => sending::run(redis, stream).await?,
        "consuming" => consuming::run(redis, stream).await?,
        "timeouts" => timeouts::run(redis, stream).await?,
        "sharing" => sharing::run(redis, stream).await?,
        "slots" => slots::run().await,
        "crashes" => crashes::run(redis, stream).await?,
        "giving_up" => giving_up::run(redis, stream).await?,
        "staying_bounded" => staying_bounded::run(redis, stream).await?,
        "stopping" => stopping::run(redis, stream).await?,
        "one_effect" => one_effect::run(redis, stream).await?,
        "going_fast" => going_fast::run(redis, stream).await?,
        "ev_first" => ev_first::run().await?,
        "ev_naming" => ev_naming::run()?,
        "ev_publish" => ev_publish::run().await?,
        "ev_isolate" => ev_isolate::run().await?,
        "ev_order" => ev_order::run().await?,
        "ev_push_back" => ev_push_back::run().await?,
        "ev_route" => ev_route::run()?,
        "ev_drain" => ev_drain::run().await?,
        "ev_durable" => ev_durable::run(redis, stream).await?,
        "ev_outbox" => ev_outbox::run(redis, stream).await?,
        "ev_saga" => ev_saga::run(),
        "mq_first" => mq_first::run(amqp, &queue).await?,
        "mq_routing" => mq_routing::run(amqp, &queue).await?,
        "mq_confirms" => mq_confirms::run(amqp, &queue).await?,
        "mq_window" => mq_window::run(amqp, &queue).await?,
        "mq_prefetch" => mq_prefetch::run(amqp, &queue).await?,
        "job_claims" => job_claims::run(redis, stream).await?,
        "job_cron" => job_cron::run(redis, stream).await?,
        "job_fence" => job_fence::run(redis, stream).await?,
        "job_first" => job_first::run(redis, stream).await?,
        "job_flow" => job_flow::run(redis, stream).await?,
        "job_lease" => job_lease::run(redis, stream).await?,
        "job_misfire" => job_misfire::run(redis, stream).await?,
        "job_once" => job_once::run(redis, stream).await?,
        "job_open" => job_open::run(redis, stream).await?,
        "mq_acks" => mq_acks::run(amqp, &queue).await?,
        "mq_retries" => mq_retries::run(amqp, &queue).await?,
        "mq_dead_letters" => mq_dead_letters::run(amqp, &queue).await?,
        "mq_keys" => mq_keys::run(redis, stream).await?,
        "mq_priority" => mq_priority::run(amqp, &queue).await?,
        "mq_channels" => mq_channels::run(amqp, &queue).await?,
        "mq_stopping" => mq_stopping::run(amqp, &queue).await?,
        "cut" => cut::run(redis, stream).await?,
        "histories" => histories::run(),
        "recorded" => recorded::run(redis, stream).await?,
        "ws_first" => ws_first::run().await?,
        "ws_frames" => ws_frames::run().await?,
        "ws_sessions" => ws_sessions::run().await?,
        "ws_broadcast" => ws_broadcast::run().await?,
        "ws_rooms" => ws_rooms::run(),
        "ws_refusing" => ws_refusing::run().await?,
        "ws_heartbeat" => ws_heartbeat::run().await?,
        "ws_halves" => ws_halves::run().await?,
        "ws_slow" => ws_slow::run().await?,
        "ws_pongs" => ws_pongs::run(),
        "ws_resuming" => ws_resuming::run(),
        "ws_nodes" => ws_nodes::run(redis, stream).await?,
        "ws_stopping" => ws_stopping::run().await?,
        "sse_first" => sse_first::run().await?,
        "sse_framing" => sse_framing::run(),
        "sse_fanning" => sse_fanning::run().await?,
        "sse_resuming" => sse_resuming::run().await?,
        "sse_expiring" => sse_expiring::run(),
        "sse_beating" => sse_beating::run().await?,
        "sse_slow" => sse_slow::run().await?,
        "sse_durable" => sse_durable::run(redis, stream).await?,
        "sse_limits" => sse_limits::run().await?,
        "sse_stopping" => sse_stopping::run().await?,
        other => anyhow::bail!(
            "there is no listing {other}; there are {}",
            NAMES.join(", ")
        ),
    }
    Ok(())
}
