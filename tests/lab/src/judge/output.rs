//! Reads what a child prints, for ever, and keeps the first and the last of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// What is kept of one stream, in bytes. A child that prints without end fills no memory, and
/// because reading never stops it is not held up either.
const CAP: usize = 256 * 1024;

/// The output of a child, while it is being read.
pub(super) struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    pub(super) fn drain<R>(stream: Option<R>) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..read]);
                if kept.len() > 2 * CAP {
                    // The end tells more than the beginning.
                    let superfluous = kept.len() - CAP;
                    kept.drain(..superfluous);
                }
            }
        });
        Output { kept, reader }
    }

    /// The last of what was printed, once the stream has ended; or at once if it does not end in a
    /// second, because somebody else holds it open.
    pub(super) async fn finish(mut self) -> String {
        let limit = std::time::Duration::from_secs(1);
        let _ = tokio::time::timeout(limit, &mut self.reader).await;
        self.reader.abort();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept[kept.len().saturating_sub(CAP)..]).into_owned()
    }
}
