//! Free ports.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port of the loopback interface that nobody uses at this moment. Somebody else may take it
/// before its user does: who binds it must be ready to try another.
pub(crate) fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
