//! From the commands and replies on the wire to events of a history.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Event, What};
use crate::faults::{Exchange, Reply};

/// Whose lane the events of the broker itself go to.
const BROKER: &str = "broker";

/// What was absorbed so far, so that nothing is absorbed twice.
#[derive(Debug, Default)]
pub(super) struct Absorbed {
    /// By the proxy's port, stream and group.
    done: HashMap<(u16, String, String), Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    exchanges: HashSet<usize>,
    acknowledged: HashSet<String>,
    dead: HashSet<String>,
}

impl Absorbed {
    pub(super) fn absorb(
        &mut self,
        port: u16,
        log: &[Exchange],
        stream: &str,
        group: &str,
        events: &mut Vec<Event>,
    ) {
        let progress = self
            .done
            .entry((port, stream.to_owned(), group.to_owned()))
            .or_default();
        let mut wire = Wire {
            log,
            stream,
            group,
            dead_stream: format!("{stream}:dead"),
            progress,
            events,
        };
        for exchange in log {
            // Not answered and not lost: it is still under way, and its turn will come.
            let over = exchange.reply.is_some() || exchange.lost;
            if over
                && exchange.forwarded
                && !is_queued(exchange)
                && wire.progress.exchanges.insert(exchange.seq)
            {
                wire.take(exchange);
            }
        }
    }
}

/// In a transaction whose `EXEC` has not come, or was refused.
fn is_queued(exchange: &Exchange) -> bool {
    exchange.transaction && exchange.reply == Some(Reply::Status("QUEUED".to_owned()))
}

struct Wire<'a> {
    log: &'a [Exchange],
    stream: &'a str,
    group: &'a str,
    dead_stream: String,
    progress: &'a mut Progress,
    events: &'a mut Vec<Event>,
}

impl Wire<'_> {
    fn take(&mut self, exchange: &Exchange) {
        match exchange.name().as_str() {
            "XREADGROUP" => self.read(exchange),
            "XCLAIM" | "XAUTOCLAIM" => self.claim(exchange),
            "XACK" => self.acknowledge(exchange),
            "XADD" => self.dead_letter(exchange),
            "EVAL" | "EVALSHA" | "FCALL" => self.script(exchange),
            _ => {}
        }
    }

    /// `XREADGROUP GROUP group consumer [options] STREAMS key… id…`
    fn read(&mut self, exchange: &Exchange) {
        let at_group = (1..4).find(|i| exchange.arg(*i).eq_ignore_ascii_case("GROUP"));
        let Some(at_group) = at_group.filter(|i| exchange.arg(i + 1) == self.group) else {
            return;
        };
        let consumer = exchange.arg(at_group + 2).to_owned();
        let words = exchange.args(1);
        let Some(streams) = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case("STREAMS"))
        else {
            return;
        };
        let names = &words[streams + 1..];
        let half = names.len() / 2;
        let Some(at) = names[..half].iter().position(|name| *name == self.stream) else {
            return;
        };
        let deliveries = u64::from(names[half + at] == ">");
        let no_ack = words[..streams]
            .iter()
            .any(|word| word.eq_ignore_ascii_case("NOACK"));
        let detail = if no_ack {
            "without asking for an acknowledgement"
        } else {
            ""
        };
        let entries = exchange
            .reply
            .as_ref()
            .and_then(|reply| entries_of(reply, self.stream));
        self.deliver(
            exchange,
            &consumer,
            deliveries,
            entries.unwrap_or_default(),
            detail,
        );
    }

    /// `XCLAIM key group consumer min-idle id… [options]`,
    /// `XAUTOCLAIM key group consumer min-idle start [options]`
    fn claim(&mut self, exchange: &Exchange) {
        let just_ids = exchange
            .args(5)
            .iter()
            .any(|word| word.eq_ignore_ascii_case("JUSTID"));
        if exchange.arg(1) != self.stream || exchange.arg(2) != self.group || just_ids {
            return;
        }
        let consumer = exchange.arg(3).to_owned();
        let reply = exchange.reply.as_ref().and_then(Reply::as_array);
        let entries = match reply {
            Some([_cursor, entries, ..]) if exchange.is("XAUTOCLAIM") => entries.as_array(),
            entries => entries,
        };
        self.deliver(
            exchange,
            &consumer,
            0,
            entries.unwrap_or_default(),
            "claimed",
        );
    }

    fn deliver(
        &mut self,
        exchange: &Exchange,
        consumer: &str,
        deliveries: u64,
        entries: &[Reply],
        detail: &str,
    ) {
        let at = exchange.replied.unwrap_or(exchange.sent);
        for entry in entries {
            // Entries that were deleted from the stream come back without fields.
            let Some([id, fields]) = entry.as_array() else {
                continue;
            };
            let (Some(id), false) = (id.as_str(), fields.is_nil()) else {
                continue;
            };
            if exchange.lost {
                let text = "handed out by the broker, lost on the way".to_owned();
                self.push(at, consumer, What::Note(text), id, detail);
            } else {
                self.push(at, consumer, What::Delivered { deliveries }, id, detail);
            }
        }
    }

    /// `XACK key group id…`
    fn acknowledge(&mut self, exchange: &Exchange) {
        if exchange.arg(1) != self.stream || exchange.arg(2) != self.group {
            return;
        }
        let mut seen = HashSet::new();
        let ids: Vec<String> = exchange
            .args(3)
            .into_iter()
            .filter(|id| seen.insert(*id) && !self.progress.acknowledged.contains(*id))
            .map(str::to_owned)
            .collect();
        let counted = exchange
            .reply
            .as_ref()
            .map(|reply| reply.as_int().unwrap_or(0));
        // The moment of the decision: when it was sent, not when it was confirmed.
        let at = exchange.sent;
        match counted {
            Some(0) => {}
            Some(counted) if counted as usize == ids.len() => {
                for id in ids {
                    let dead = self.is_dead_letter(exchange, &id);
                    let what = match dead {
                        true => What::Note("taken off the pending list".to_owned()),
                        false => What::Acknowledged,
                    };
                    self.push(at, BROKER, what, &id, "");
                    self.progress.acknowledged.insert(id);
                }
            }
            // Which of them the broker counted, it does not say.
            Some(_) => self.hide(at, &ids, "XACK counted only some of its ids"),
            None => self.hide(at, &ids, "the reply of XACK was lost"),
        }
    }

    /// True if this acknowledgement completes a dead letter: a step of the same
    /// transaction, or one that came before.
    fn is_dead_letter(&self, ack: &Exchange, id: &str) -> bool {
        self.progress.dead.contains(id)
            || ack.multi.is_some_and(|multi| {
                self.log
                    .iter()
                    .skip(multi)
                    .filter(|other| other.connection == ack.connection)
                    .take_while(|other| other.multi == Some(multi))
                    .any(|other| other.succeeded() && self.dead_id(other) == Some(id))
            })
    }

    /// The entry that this command moves to the dead letters.
    fn dead_id<'e>(&self, exchange: &'e Exchange) -> Option<&'e str> {
        if !exchange.is("XADD") || exchange.arg(1) != self.dead_stream {
            return None;
        }
        let words = exchange.args(2);
        let name = words.iter().position(|word| *word == "_id")?;
        words.get(name + 1).copied()
    }

    fn dead_letter(&mut self, exchange: &Exchange) {
        if exchange.arg(1) != self.dead_stream {
            return;
        }
        let id = self.dead_id(exchange).unwrap_or_default().to_owned();
        let at = exchange.sent;
        match &exchange.reply {
            Some(Reply::Error(_)) => {}
            Some(_) => {
                self.push(at, BROKER, What::DeadLettered, &id, "");
                self.progress.dead.insert(id);
            }
            None => self.hide(at, &[id], "the reply of XADD to the dead letters was lost"),
        }
    }

    fn script(&mut self, exchange: &Exchange) {
        let failed = exchange.reply.as_ref().is_some_and(Reply::is_error);
        if exchange.mentions(self.stream) && !failed {
            let text = format!("{} names the stream", exchange.name());
            self.push(exchange.sent, BROKER, What::Hidden(text), "", "");
        }
    }

    fn hide(&mut self, at: Duration, ids: &[String], why: &str) {
        for id in ids {
            self.push(at, BROKER, What::Hidden(why.to_owned()), id, "");
        }
    }

    fn push(&mut self, at: Duration, actor: &str, what: What, id: &str, detail: &str) {
        self.events.push(Event {
            at,
            actor: actor.to_owned(),
            what,
            id: id.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

/// The entries of one stream in the reply of a read: a list of pairs in RESP2, a map in RESP3.
fn entries_of<'r>(reply: &'r Reply, stream: &str) -> Option<&'r [Reply]> {
    match reply {
        Reply::Map(pairs) => pairs
            .iter()
            .find(|(name, _)| name.as_str() == Some(stream))
            .and_then(|(_, entries)| entries.as_array()),
        _ => reply
            .as_array()?
            .iter()
            .find_map(|pair| match pair.as_array() {
                Some([name, entries]) if name.as_str() == Some(stream) => entries.as_array(),
                _ => None,
            }),
    }
}
