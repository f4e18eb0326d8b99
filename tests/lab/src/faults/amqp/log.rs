//! What the proxy has seen so far.

use std::time::Duration;

use super::Frame;

/// About how much a log may hold, in bytes of bodies and a few hundred for each frame. A candidate that asks
/// in a hot loop must not take the memory of the check that is to tell it so.
const MOST_MEMORY: usize = 256 << 20;

/// Frames in the order in which they came, over all connections.
#[derive(Debug, Default)]
pub(super) struct Log {
    frames: Vec<Frame>,
    memory: usize,
    unrecorded: usize,
    /// The faults that struck, in words.
    pub(super) faults: Vec<(Duration, String)>,
}

impl Log {
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(super) fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    /// Gives a frame its number and keeps a copy.
    pub(super) fn push(&mut self, frame: &mut Frame) {
        frame.seq = self.frames.len() + self.unrecorded;
        if self.memory > MOST_MEMORY {
            self.unrecorded += 1;
            return;
        }
        let body = frame.message.as_ref().map_or(0, |it| it.body.len());
        self.memory += body + 512;
        self.frames.push(frame.clone());
    }

    pub(super) fn passed(&mut self, seq: usize) {
        if let Some(frame) = self.frames.get_mut(seq) {
            frame.passed = true;
        }
    }
}
