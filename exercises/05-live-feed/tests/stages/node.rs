//! A node as a process: it can be killed, and its output read.

use std::net::SocketAddr;
use std::ops::Deref;

use lab::{Failure, Lab, Service};

use crate::feed::Node;

/// The service as a process of its own.
pub struct Process {
    node: Node,
    pub service: Service,
}

impl Deref for Process {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Process {
    /// Starts it with these arguments and waits for the line that says where it listens.
    pub async fn start(lab: &Lab, arguments: &[&str]) -> Result<Process, Failure> {
        Process::start_with(lab, arguments, &[]).await
    }

    /// Starts it at this address, which another one has left.
    pub async fn start_at(
        lab: &Lab,
        addr: SocketAddr,
        arguments: &[&str],
    ) -> Result<Process, Failure> {
        let addr = addr.to_string();
        let all: Vec<&str> = ["--listen", &addr]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        Process::from_flags(lab, &all, &[]).await
    }

    /// The same with environment variables.
    pub async fn start_with(
        lab: &Lab,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process, Failure> {
        let any = ["--listen", "127.0.0.1:0"];
        let all: Vec<&str> = any.iter().chain(arguments).copied().collect();
        Process::from_flags(lab, &all, environment).await
    }

    async fn from_flags(
        lab: &Lab,
        all: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process, Failure> {
        let mut builder = lab.service(all);
        for (name, value) in environment {
            builder = builder.env(*name, *value);
        }
        let service = builder.start()?;
        let line = service.next_json().await?;
        let addr = line["listening"]
            .as_str()
            .and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else {
            return Err(Failure::observed(format!(
                "the first line of output is to say where the service listens, and it is {line}"
            )));
        };
        let lab = lab.clone();
        Ok(Process {
            node: Node { lab, addr },
            service,
        })
    }

    /// Sends it a signal: `-INT`.
    pub fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.service.pid().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(Failure::infrastructure(format!(
                "cannot execute kill: {other:?}"
            ))),
        }
    }

    /// The memory that it has in use, in bytes.
    pub fn memory(&self) -> Result<u64, Failure> {
        let output = std::process::Command::new("ps")
            .args(["-o", "rss=", "-p", &self.service.pid().to_string()])
            .output()
            .map_err(|error| Failure::infrastructure(format!("cannot execute ps: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kib: u64 = text
            .trim()
            .parse()
            .map_err(|_| Failure::infrastructure(format!("ps said {text:?}")))?;
        Ok(kib * 1024)
    }
}
