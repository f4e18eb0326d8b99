//! Reads what a child prints, line by line, so that it can be asked for at any time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::watch;

/// A longer line is cut into pieces of this size, so that a child cannot fill the memory.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// The lines that came so far. Clones share them.
#[derive(Clone)]
pub(crate) struct Lines {
    kept: Arc<Mutex<Kept>>,
    /// Counts up with every line; closed at the end of the stream.
    arrived: watch::Receiver<()>,
}

struct Kept {
    lines: VecDeque<String>,
    /// Lines that were thrown away at the front.
    dropped: usize,
    limit: usize,
}

impl Lines {
    /// Reads `stream` in a task of its own and keeps the last `limit` lines. `look` sees each.
    pub(crate) fn read<R, F>(stream: R, limit: usize, look: F) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        F: Fn(&str) + Send + 'static,
    {
        let kept = Arc::new(Mutex::new(Kept {
            lines: VecDeque::new(),
            dropped: 0,
            limit,
        }));
        let (tell, arrived) = watch::channel(());
        let lines = Lines { kept, arrived };
        let sink = lines.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = (&mut reader)
                    .take(LONGEST_LINE)
                    .read_until(b'\n', &mut line)
                    .await;
                if !matches!(read, Ok(1..)) {
                    return; // Dropping `tell` wakes the waiters for the last time.
                }
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\n').unwrap_or(&text);
                look(text);
                sink.lock().push(text.to_owned());
                tell.send_replace(());
            }
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Line `n`, counted from the first one ever; waits until it is there. `None` when the stream
    /// ended before.
    pub(crate) async fn nth(&self, n: usize) -> Option<String> {
        let mut arrived = self.arrived.clone();
        loop {
            let ended = arrived.has_changed().is_err();
            arrived.mark_unchanged();
            if let Some(line) = self.lock().get(n) {
                return Some(line);
            }
            if ended || arrived.changed().await.is_err() {
                return self.lock().get(n);
            }
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn end(&self) {
        let mut arrived = self.arrived.clone();
        while arrived.changed().await.is_ok() {}
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, line: String) {
        if self.lines.len() == self.limit {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    fn get(&self, n: usize) -> Option<String> {
        self.lines.get(n.checked_sub(self.dropped)?).cloned()
    }
}
