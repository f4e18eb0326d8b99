//! Names of what is declared, written down for whoever deletes it when the check is over, however it ends.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use amq_protocol::protocol::{AMQPClass, exchange, queue};

use super::Frame;

/// A file with a line for each queue and exchange: `queue NAME`, `exchange NAME`.
#[derive(Debug)]
pub(super) struct Notes {
    file: Option<PathBuf>,
    noted: HashSet<String>,
}

impl Notes {
    /// Without a file nothing is written: the broker itself goes when the check is over.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Notes {
            file,
            noted: HashSet::new(),
        }
    }

    /// Writes down what this frame declares, if it does. That is before RabbitMQ hears of it.
    pub(super) fn take(&mut self, frame: &Frame) {
        match &frame.method {
            AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) if !declare.passive => {
                self.write_down("queue", declare.queue.as_str());
            }
            // The name of a queue that was declared without one.
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))
                if ok.queue.as_str().starts_with("amq.gen-") =>
            {
                self.write_down("queue", ok.queue.as_str());
            }
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)) if !declare.passive => {
                self.write_down("exchange", declare.exchange.as_str());
            }
            _ => {}
        }
    }

    pub(super) fn write_down(&mut self, kind: &str, name: &str) {
        let Some(path) = &self.file else { return };
        let line = format!("{kind} {name}");
        if !name.is_empty() && !self.noted.contains(&line) {
            let file = OpenOptions::new().create(true).append(true).open(path);
            // What cannot be written down stays in the broker.
            let _ = file.and_then(|mut file| writeln!(file, "{line}"));
            self.noted.insert(line);
        }
    }
}
