//! Clients that checks talk to a candidate's service with: strict about what they are sent, and able
//! to misbehave in every way that a real peer does.

pub mod http;
pub mod sse;
pub mod ws;
