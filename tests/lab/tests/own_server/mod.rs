//! A `redis-server` for the tests of the lab's own parts, which come before its brokers.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis of this test's own.
pub struct Server {
    child: Child,
    /// `host:port`
    pub addr: String,
    _directory: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        // Another process may take the port before Redis does; then the next one will do.
        for _ in 0..10 {
            if let Some(server) = Server::try_start() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    fn try_start() -> Option<Server> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server on the PATH");
        let mut server = Server {
            child,
            addr: format!("127.0.0.1:{port}"),
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && server.child.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(&server.addr).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
