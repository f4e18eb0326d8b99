//! A WebSocket client that is strict, and raw enough to misbehave.
//!
//! It writes its own handshake over plain TCP, and frames of any kind: unmasked, with reserved bits,
//! cut anywhere, withheld, of a length that never comes. It can stop reading, close one direction,
//! or cut the connection so that the peer sees a reset. What the server sends is parsed by RFC 6455
//! to the letter; everything seen is kept in order, with its time.
//!
//! ```no_run
//! # async fn example(lab: lab::Lab, addr: std::net::SocketAddr) -> lab::Outcome {
//! use lab::clients::ws::{Frame, Handshake, Seen};
//!
//! let socket = Handshake::new(addr, "/echo").connect(&lab).await?;
//! socket.send(&Frame::text("hel").unfinished()).await?;
//! socket.send(&Frame::ping(b"in between")).await?;
//! socket.send(&Frame::continuation("lo")).await?;
//! assert_eq!(socket.next("the pong").await?, Seen::Pong(b"in between".to_vec()));
//! assert_eq!(socket.next("the echo").await?, Seen::Text("hello".into()));
//! # Ok(()) }
//! ```

mod frame;
mod handshake;
mod parser;
mod socket;

pub use frame::{Frame, opcode};
pub use handshake::{Answer, Handshake, Refused};
pub use parser::{Parser, Seen};
pub use socket::{Record, Socket};
