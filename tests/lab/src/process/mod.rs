//! The candidate's service as a child process: started, talked to, paused and killed.

mod builder;
mod output;
mod service;
pub(crate) mod tree;

pub use builder::ServiceBuilder;
pub use service::Service;
