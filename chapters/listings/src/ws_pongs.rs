//! What tungstenite keeps for a client that sends pings and does not read.

use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

// ANCHOR: link
/// A connection over which pings come in and nothing goes out, until it is opened.
struct Link {
    incoming: io::Cursor<Vec<u8>>,
    open: bool,
    written: usize,
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.open { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}
// ANCHOR_END: link

pub fn run() {
    // ANCHOR: pongs
    let small = WebSocketConfig::default()
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(8 * 1024);
    for (name, config) in
        [("by default", WebSocketConfig::default()), ("bounded", small)]
    {
        // 10,000 pings of 125 bytes, each masked with zeros.
        let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'?'; 125]].concat();
        let incoming = io::Cursor::new(ping.repeat(10_000));
        let link = Link { incoming, open: false, written: 0 };
        let mut socket =
            WebSocket::from_raw_socket(link, Role::Server, Some(config));
        let mut pings = 0;
        while socket.read().is_ok() {
            pings += 1;
        }
        socket.get_mut().open = true;
        let _ = socket.flush();
        println!("{name}: {pings} pings, {} bytes kept", socket.get_ref().written);
    }
    // ANCHOR_END: pongs
}
