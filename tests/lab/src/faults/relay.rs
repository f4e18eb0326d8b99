//! One connection: carries bytes both ways, unchanged, and reads along.
//!
//! Both directions live in one task. So their common state needs no lock, and the
//! order in which a client's replies come back can be kept even when the proxy
//! answers some of the commands itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::buffers::{Gate, Inbox, Outbox, opened};
use super::exchange::is_blocking;
use super::forbidden::refusal;
use super::proxy::{Control, Shared};
use super::resp::Parser;
use super::trigger::{Phase, State};
use super::{Action, Exchange, Reply};

/// Carries one connection until either side ends it, a fault does, or all are cut.
pub(super) async fn run(
    client: TcpStream,
    broker: TcpStream,
    connection: u64,
    control: watch::Receiver<Control>,
    shared: Arc<Shared>,
) {
    // Without it small frames wait for each other. If it cannot be had, they wait.
    let _ = client.set_nodelay(true);
    let _ = broker.set_nodelay(true);
    let mut relay = Relay {
        shared,
        connection,
        requests: Inbox::new(Parser::requests()),
        replies: Inbox::new(Parser::replies()),
        to_broker: Outbox::default(),
        to_client: Outbox::default(),
        expected: VecDeque::new(),
        multi: None,
        subscribed: false,
        opaque: false,
        busy: false,
        ending: None,
    };
    relay.carry(client, broker, control).await;
    relay.record_losses();
}

struct Relay {
    shared: Arc<Shared>,
    connection: u64,
    requests: Inbox,
    replies: Inbox,
    to_broker: Outbox,
    to_client: Outbox,
    /// What the client waits for, oldest first.
    expected: VecDeque<Expected>,
    multi: Option<Multi>,
    /// The client has subscribed: messages may come that answer nothing.
    subscribed: bool,
    /// Somebody does not speak RESP: bytes are passed on unread.
    opaque: bool,
    /// A round trip is under way.
    busy: bool,
    ending: Option<Ending>,
}

enum Expected {
    /// The broker's answer to a command.
    FromBroker {
        seq: usize,
        blocking: bool,
        /// For `EXEC`: the commands whose results it will tell.
        members: Vec<usize>,
        /// Cut the connection instead of passing the answer back.
        cut: Option<Arc<State>>,
    },
    /// The proxy's own answer.
    Own(Vec<u8>),
}

struct Multi {
    seq: usize,
    members: Vec<usize>,
}

/// How a connection comes to its end once a fault has struck it.
enum Ending {
    /// Answer what came earlier, then close.
    Drain,
    /// Wait for one reply, which will be swallowed.
    AwaitReply,
    /// Write what is there, then close.
    Flush,
}

impl Relay {
    async fn carry(
        &mut self,
        client: TcpStream,
        mut broker: TcpStream,
        mut control: watch::Receiver<Control>,
    ) {
        let began_at = control.borrow().cuts;
        let mut half_closed = false;
        loop {
            let now = *control.borrow_and_update();
            if now.cuts != began_at {
                return;
            }
            if now.stall {
                if control.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.take_requests();
            self.take_replies();
            self.to_broker.write_to(&broker);
            self.to_client.write_to(&client);
            self.end_round_trip();
            if self.is_over() {
                return;
            }
            // The client has said all it will say, and so has the proxy for it.
            if self.requests.ended
                && !half_closed
                && self.requests.is_open()
                && self.ending.is_none()
                && self.to_broker.is_empty()
            {
                half_closed = true;
                if broker.shutdown().await.is_err() {
                    return;
                }
            }
            let read_client = !self.requests.ended
                && self.requests.is_open()
                && self.ending.is_none()
                && self.to_broker.has_room();
            let read_broker =
                !self.replies.ended && self.replies.is_open() && self.to_client.has_room();
            tokio::select! {
                // In this order: a cut comes before anything else, and what a client has
                // already pipelined is seen before the answer to its beginning.
                biased;
                changed = control.changed() => if changed.is_err() { return },
                () = opened(&mut self.requests.gate), if !self.requests.is_open() => {}
                () = opened(&mut self.replies.gate), if !self.replies.is_open() => {}
                _ = client.readable(), if read_client => self.requests.read_from(&client),
                _ = broker.readable(), if read_broker => self.replies.read_from(&broker),
                _ = broker.writable(), if !self.to_broker.is_empty() => {}
                _ = client.writable(), if !self.to_client.is_empty() => {}
            }
        }
    }

    // From the client

    fn take_requests(&mut self) {
        let now = self.shared.now();
        while self.requests.is_open() && self.ending.is_none() && !self.opaque {
            match self.requests.next_frame() {
                Ok(Some((begin, request))) => self.take_request(begin, words(request), now),
                Ok(None) => break,
                Err(_) => self.opaque = true,
            }
        }
        if self.requests.is_open() && self.ending.is_none() {
            let all = self.opaque || self.requests.ended;
            self.requests.pass_on(&mut self.to_broker, all);
        }
        self.requests.forget_passed();
    }

    /// Decides about one command, whose bytes begin at `begin`.
    fn take_request(&mut self, begin: usize, command: Vec<Vec<u8>>, now: Duration) {
        if command.is_empty() {
            // Redis ignores an empty line or list: there will be no answer.
            return;
        }
        let mut exchange = Exchange {
            connection: self.connection,
            seq: self.shared.log().next(),
            sent: now,
            replied: None,
            transaction: self.multi.is_some(),
            multi: self.multi.as_ref().map(|multi| multi.seq),
            command,
            reply: None,
            forwarded: true,
            refused: false,
            lost: false,
        };
        if !self.busy {
            self.busy = true;
            self.shared.log().round_trips += 1;
        }
        if let Some(why) = refusal(&exchange.command) {
            self.requests.pass_on_until(begin, &mut self.to_broker);
            self.requests.drop_frame();
            self.refuse(exchange, &why, now);
            return;
        }
        let fault = match self.shared.armory.any(Phase::Request) {
            true => self.shared.armory.strike(Phase::Request, &exchange),
            false => None,
        };
        let mut cut = None;
        let mut fired = None;
        if let Some((action, state)) = fault {
            self.shared
                .note(action.describe(&exchange.name(), Phase::Request));
            match action {
                Action::CutBefore => {
                    self.requests.pass_on_until(begin, &mut self.to_broker);
                    exchange.forwarded = false;
                    exchange.lost = true;
                    self.shared.log().push(exchange);
                    self.ending = Some(Ending::Drain);
                    state.fire();
                    return;
                }
                Action::CutAfter => {
                    // The frame itself is passed on here: nothing after it will be.
                    let end = self.requests.frame;
                    self.requests.pass_on_until(end, &mut self.to_broker);
                    self.ending = Some(Ending::AwaitReply);
                    cut = Some(state);
                }
                Action::Hold | Action::Delay(_) => {
                    self.requests.pass_on_until(begin, &mut self.to_broker);
                    self.requests.gate = Some(Gate::new(exchange.seq, action, state.clone()));
                    fired = Some(state);
                }
            }
        }
        self.expect(exchange, cut);
        // Only now, so that whoever waited for it finds the command in the log.
        if let Some(state) = fired {
            state.fire();
        }
    }

    /// Writes a command down and prepares for its answer.
    fn expect(&mut self, mut exchange: Exchange, cut: Option<Arc<State>>) {
        let seq = exchange.seq;
        let mut members = Vec::new();
        let mut answers = true;
        // Commands by their first letter: this runs for every one of them.
        match exchange.command[0].first().map(u8::to_ascii_uppercase) {
            Some(b'M') if exchange.is("MULTI") => {
                exchange.transaction = true;
                exchange.multi = exchange.multi.or(Some(seq));
                self.multi.get_or_insert(Multi {
                    seq,
                    members: Vec::new(),
                });
            }
            Some(b'E') if exchange.is("EXEC") => {
                members = self
                    .multi
                    .take()
                    .map(|multi| multi.members)
                    .unwrap_or_default();
            }
            Some(b'D') if exchange.is("DISCARD") => self.multi = None,
            Some(b'R') if exchange.is("RESET") => {
                self.multi = None;
                self.subscribed = false;
            }
            // They are answered once for every channel, and by pushes in RESP3.
            Some(b'S' | b'P' | b'U') if is_subscription(&exchange) => {
                self.subscribed = true;
                answers = false;
            }
            _ => {
                if let Some(multi) = &mut self.multi {
                    multi.members.push(seq);
                }
            }
        }
        if answers {
            self.expected.push_back(Expected::FromBroker {
                seq,
                blocking: exchange.multi.is_none() && is_blocking(&exchange.command),
                members,
                cut,
            });
        }
        self.shared.log().push(exchange);
    }

    /// Answers a command in the broker's place, when its turn comes.
    fn refuse(&mut self, mut exchange: Exchange, why: &str, now: Duration) {
        exchange.forwarded = false;
        exchange.refused = true;
        exchange.reply = Some(Reply::Error(why.to_owned()));
        exchange.replied = Some(now);
        self.shared.log().push(exchange);
        self.expected
            .push_back(Expected::Own(format!("-{why}\r\n").into_bytes()));
    }

    // From the broker

    fn take_replies(&mut self) {
        let now = self.shared.now();
        if self.replies.is_open() {
            self.answer_own();
        }
        while self.replies.is_open() && !matches!(self.ending, Some(Ending::Flush)) && !self.opaque
        {
            match self.replies.next_frame() {
                Ok(Some((begin, reply))) => self.take_reply(begin, reply, now),
                Ok(None) => break,
                Err(_) => self.opaque = true,
            }
        }
        if self.replies.is_open() && !matches!(self.ending, Some(Ending::Flush)) {
            // The end of a broker may tear its last frame: the client sees it torn.
            let all = self.opaque || self.replies.ended;
            self.replies.pass_on(&mut self.to_client, all);
        }
        self.replies.forget_passed();
    }

    /// Decides about one reply, whose bytes begin at `begin`.
    fn take_reply(&mut self, begin: usize, reply: Reply, now: Duration) {
        if matches!(reply, Reply::Push(_)) || (self.subscribed && is_message(&reply)) {
            return;
        }
        let Some(Expected::FromBroker {
            seq, members, cut, ..
        }) = self.expected.pop_front()
        else {
            // Nobody asked: "too many clients" is said in this way.
            return;
        };
        let struck = self.strike_reply(seq, &reply, now);
        {
            let mut log = self.shared.log();
            if let (Reply::Array(results), false) = (&reply, members.is_empty()) {
                log.answer_members(&members, results, now);
            }
            log.answer(seq, reply, now);
        }
        if let Some(state) = cut {
            self.swallow(begin, seq, &state);
        } else if let Some((action, state)) = struck {
            match action {
                Action::CutBefore | Action::CutAfter => self.swallow(begin, seq, &state),
                Action::Hold | Action::Delay(_) => {
                    self.replies.pass_on_until(begin, &mut self.to_client);
                    self.replies.gate = Some(Gate::new(seq, action, state.clone()));
                    state.fire();
                    // The proxy's own answers wait behind it as well.
                    return;
                }
            }
        }
        self.answer_own();
    }

    fn strike_reply(
        &self,
        seq: usize,
        reply: &Reply,
        now: Duration,
    ) -> Option<(Action, Arc<State>)> {
        if !self.shared.armory.any(Phase::Reply) {
            return None;
        }
        // A copy: a trigger may look into the log, which must not be locked then.
        let mut seen = self.shared.log().get_mut(seq)?.clone();
        seen.reply = Some(reply.clone());
        seen.replied = Some(now);
        let (action, state) = self.shared.armory.strike(Phase::Reply, &seen)?;
        let half = format!("the reply of {}", seen.name());
        self.shared.note(action.describe(&half, Phase::Reply));
        Some((action, state))
    }

    /// Drops the reply that begins at `begin` and ends the connection.
    fn swallow(&mut self, begin: usize, seq: usize, state: &State) {
        self.replies.pass_on_until(begin, &mut self.to_client);
        self.replies.drop_frame();
        if let Some(exchange) = self.shared.log().get_mut(seq) {
            exchange.lost = true;
        }
        self.ending = Some(Ending::Flush);
        state.fire();
    }

    /// Writes the proxy's own answers whose turn has come.
    fn answer_own(&mut self) {
        while let Some(Expected::Own(answer)) = self.expected.front() {
            let end = self.replies.frame;
            self.replies.pass_on_until(end, &mut self.to_client);
            self.to_client.bytes.extend_from_slice(answer);
            self.expected.pop_front();
        }
    }

    // Both

    /// Nothing is asked any more that was not answered, and no request is half-way here:
    /// what comes next is a new round trip.
    fn end_round_trip(&mut self) {
        if self.busy
            && self.expected.is_empty()
            && self.to_client.is_empty()
            && self.requests.bytes.is_empty()
            && !self.requests.filled
        {
            self.busy = false;
        }
    }

    fn is_over(&self) -> bool {
        let written = self.to_client.is_empty() && self.replies.is_open();
        if self.replies.ended {
            return written;
        }
        match self.ending {
            None | Some(Ending::AwaitReply) => false,
            Some(Ending::Flush) => written,
            Some(Ending::Drain) => {
                let mut waiting = self.expected.iter();
                let waits_long =
                    |e: &Expected| matches!(e, Expected::FromBroker { blocking: true, .. });
                self.to_broker.is_empty()
                    && written
                    && (self.expected.is_empty() || waiting.any(waits_long))
            }
        }
    }

    /// After the end: marks what the client will never hear.
    fn record_losses(&mut self) {
        let mut log = self.shared.log();
        for expected in &self.expected {
            if let Expected::FromBroker { seq, .. } = expected
                && let Some(exchange) = log.get_mut(*seq)
            {
                exchange.lost = true;
            }
        }
        if let Some(gate) = &self.replies.gate
            && let Some(exchange) = log.get_mut(gate.seq)
        {
            exchange.lost = true;
        }
        if let Some(gate) = &self.requests.gate
            && let Some(exchange) = log.get_mut(gate.seq)
        {
            exchange.forwarded = false;
        }
    }
}

/// The words of a request.
fn words(request: Reply) -> Vec<Vec<u8>> {
    let Reply::Array(items) = request else {
        return Vec::new();
    };
    items
        .into_iter()
        .map(|item| match item {
            Reply::Bulk(word) => word,
            // Redis answers this with a protocol error.
            _ => Vec::new(),
        })
        .collect()
}

fn is_subscription(exchange: &Exchange) -> bool {
    [
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "SSUBSCRIBE",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "SUNSUBSCRIBE",
    ]
    .iter()
    .any(|name| exchange.is(name))
}

/// RESP2 has no pushes: a subscriber's messages are lists that say what they are.
fn is_message(reply: &Reply) -> bool {
    let kind = match reply {
        Reply::Array(items) => items.first().and_then(Reply::as_str),
        _ => None,
    };
    kind.is_some_and(|kind| kind.ends_with("message") || kind.ends_with("subscribe"))
}
