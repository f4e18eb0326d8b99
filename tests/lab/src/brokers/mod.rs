//! Brokers for checks: real ones, from whatever this machine has.
//!
//! For each kind of broker there is a ladder; the first rung that holds is taken:
//!
//! 0. one that `cargo xtask brokers up` keeps warm, if it answers;
//! 1. `REDIS_URL`, `AMQP_URL`: if set it must work, nothing else is tried then;
//! 2. a container, if an engine answers and has the pinned image or can pull it;
//! 3. a local process of `redis-server` or `rabbitmq-server`, on a free port with a directory of its own.
//!
//! `WORKBOOK_BROKERS=docker` or `native` allows only the second or only the third.
//!
//! A run whose checks need one also has a desk for [browsers](crate::browser). Nothing is started
//! there before a check asks, and a machine without a browser is no reason to start no broker.
//!
//! # Who removes them
//! What the ladder starts belongs to a [`Keeper`]: a process of its own, outside the terminal's
//! foreground group, that holds the brokers until its standard input ends. That happens however
//! the process that wanted them ends, also by SIGKILL. Should the keeper itself be killed, then
//! on Linux a local `redis-server` dies with it (`setpriv --pdeathsig`); whatever is left is
//! swept when the next keeper starts, see [`mod@sweep`].

mod bench;
mod container;
mod desk;
mod force;
mod handle;
mod health;
mod keep;
mod keeper;
mod ladder;
mod mend;
mod native_amqp;
mod native_redis;
mod own;
mod own_rabbit;
mod port;
mod rabbit;
pub mod sweep;
mod types;
mod url;
pub mod warm;

pub use bench::{with_brokers, with_redis};
pub use container::{AMQP_IMAGE, REDIS_IMAGE};
pub use handle::Redis;
pub use keep::keep_if_asked;
pub use keeper::Keeper;
pub use own::OwnRedis;
pub use own_rabbit::OwnRabbit;
pub use rabbit::{Queue, Rabbit, Taken};
pub use types::{Attempt, Endpoints, How, Served, Unavailable, Wanted};

pub(crate) use container::remove_labelled;
pub(crate) use health::{forget_keys, redis_answers, silent};
pub(crate) use own::{CHECK_LABEL, note_of_containers};
pub(crate) use rabbit::{Direct, forget_declared};
pub(crate) use sweep::end_processes;
