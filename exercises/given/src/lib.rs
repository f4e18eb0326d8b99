//! What the exercises need and none of them teaches: how a connection to Redis is opened and what its
//! errors mean, and how a service deals with signals, with its output, and with its end.

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod connection;
pub mod ending;
pub mod exec;
pub mod output;
pub mod signals;
pub mod trouble;
