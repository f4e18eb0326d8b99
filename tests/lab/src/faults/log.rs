//! What the proxy has seen so far.

use std::time::Duration;

use super::{Exchange, Reply};

/// About how much memory a log may take, in bytes. A candidate that polls in a
/// hot loop must not take the memory of the check that is to tell it so.
const MOST_MEMORY: usize = 128 << 20;

/// Exchanges in the order in which their commands came, over all connections.
#[derive(Debug, Default)]
pub(super) struct Log {
    exchanges: Vec<Exchange>,
    memory: usize,
    /// Commands that came when the log was full.
    unrecorded: usize,
    pub(super) round_trips: usize,
    /// The faults that struck, in words.
    pub(super) faults: Vec<(Duration, String)>,
}

impl Log {
    /// The `seq` of the next command.
    pub(super) fn next(&self) -> usize {
        self.exchanges.len() + self.unrecorded
    }

    pub(super) fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    pub(super) fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    pub(super) fn push(&mut self, exchange: Exchange) {
        if self.memory > MOST_MEMORY {
            self.unrecorded += 1;
            return;
        }
        self.memory += size_of::<Exchange>();
        self.memory += exchange
            .command
            .iter()
            .map(|word| 48 + word.len())
            .sum::<usize>();
        self.exchanges.push(exchange);
    }

    pub(super) fn get_mut(&mut self, seq: usize) -> Option<&mut Exchange> {
        self.exchanges.get_mut(seq)
    }

    pub(super) fn answer(&mut self, seq: usize, reply: Reply, now: Duration) {
        if let Some(exchange) = self.exchanges.get_mut(seq) {
            self.memory += size_of_reply(&reply);
            exchange.reply = Some(reply);
            exchange.replied = Some(now);
        }
    }

    /// Gives the commands of a transaction their own results, once `EXEC` has told them.
    pub(super) fn answer_members(&mut self, members: &[usize], results: &[Reply], now: Duration) {
        // One member fewer or more and nobody knows whose result is whose.
        if members.len() == results.len() {
            for (seq, result) in members.iter().zip(results) {
                self.answer(*seq, result.clone(), now);
            }
        }
    }
}

fn size_of_reply(reply: &Reply) -> usize {
    let inside = match reply {
        Reply::Bulk(bytes) => bytes.len(),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            items.iter().map(size_of_reply).sum()
        }
        Reply::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| size_of_reply(key) + size_of_reply(value))
            .sum(),
        _ => 0,
    };
    48 + inside
}
