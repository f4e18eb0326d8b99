//! One connection: carries bytes both ways, unchanged, and reads along.

use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::super::Action;
use super::super::proxy::Control;
use super::super::trigger::{Phase, State};
use super::parse::{Parser, Unit};
use super::proxy::Shared;
use super::{Frame, Side, ending};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Carries one connection until either side ends it, a fault does, or all are cut: then there were more
/// than `cuts`.
pub(super) async fn run(
    client: TcpStream,
    broker: TcpStream,
    connection: u64,
    mut control: watch::Receiver<Control>,
    cuts: u64,
    shared: &Arc<Shared>,
) {
    // Small frames must not wait for the acknowledgement of those before.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let direction = |from, reader, writer| Direction {
        connection,
        from,
        reader,
        writer,
        parser: Parser::default(),
        control: control.clone(),
        shared: shared.clone(),
    };
    let mut up = direction(Side::Client, from_client, to_broker);
    let mut down = direction(Side::Broker, from_broker, to_client);
    shared.opened();
    let ended = tokio::select! {
        ended = carry_both(&mut up, &mut down) => ended,
        _ = control.wait_for(|control| control.cuts != cuts) => Ended::Cut(None),
    };
    shared.closed();
    let Ended::Cut(struck) = ended else { return };
    // Gone for the client. RabbitMQ still works off what it was sent.
    drop((up.reader, down.writer));
    let channel = struck.as_ref().map_or(0, |struck| struck.channel);
    ending::work_off(down.reader, up.writer, down.parser, channel, |frame| {
        shared.record(&mut Frame {
            connection,
            seq: 0,
            at: shared.now(),
            ..frame
        });
    })
    .await;
    if let Some(struck) = struck {
        struck.state.fire();
    }
}

async fn carry_both(up: &mut Direction, down: &mut Direction) -> Ended {
    let (mut up, mut down) = (pin!(up.carry()), pin!(down.carry()));
    tokio::select! {
        ended = &mut up => match ended {
            // A client that has said its last word is still answered.
            Ended::Over => down.await,
            cut => cut,
        },
        ended = &mut down => ended,
    }
}

/// Why a direction carries nothing more.
enum Ended {
    /// One side has closed it.
    Over,
    /// The lab has, by a fault or altogether.
    Cut(Option<Struck>),
}

/// The fault that cut a connection, to be told once RabbitMQ has done what it was sent.
struct Struck {
    channel: u16,
    state: Arc<State>,
}

struct Direction {
    connection: u64,
    from: Side,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    parser: Parser,
    control: watch::Receiver<Control>,
    shared: Arc<Shared>,
}

impl Direction {
    async fn carry(&mut self) -> Ended {
        let mut chunk = vec![0; CHUNK];
        loop {
            let Ok(length @ 1..) = self.reader.read(&mut chunk).await else {
                // Its receiver may have gone as well.
                let _ = self.writer.shutdown().await;
                return Ended::Over;
            };
            self.parser.feed(&chunk[..length]);
            while let Some(unit) = self.parser.next() {
                if let Some(ended) = self.pass(unit).await {
                    return ended;
                }
            }
        }
    }

    /// Passes a unit on, unless a fault wants it otherwise.
    async fn pass(&mut self, unit: Unit) -> Option<Ended> {
        let bytes = unit.bytes;
        let Some(said) = unit.said else {
            return self.write(&bytes).await;
        };
        let mut frame = Frame {
            connection: self.connection,
            channel: said.channel,
            seq: 0,
            at: self.shared.now(),
            from: self.from,
            method: said.method,
            message: said.message,
            passed: false,
        };
        self.shared.record(&mut frame);
        let phase = match self.from {
            Side::Client => Phase::Request,
            Side::Broker => Phase::Reply,
        };
        let fault = match self.shared.armory.any(phase) {
            true => self.shared.armory.strike(phase, &frame),
            false => None,
        };
        let Some((action, state)) = fault else {
            return self.write_frame(&bytes, &frame).await;
        };
        self.shared.note(action.describe(&frame.said(), phase));
        match action {
            Action::CutBefore | Action::CutAfter => {
                if action == Action::CutAfter && self.from == Side::Client {
                    let ended = self.write_frame(&bytes, &frame).await;
                    if ended.is_some() {
                        return ended;
                    }
                }
                Some(Ended::Cut(Some(Struck {
                    channel: frame.channel,
                    state,
                })))
            }
            Action::Hold => {
                let mut released = state.released();
                state.fire();
                // The sender lives in `state`, so this cannot fail.
                let _ = released.wait_for(|released| *released).await;
                self.write_frame(&bytes, &frame).await
            }
            Action::Delay(by) => {
                state.fire();
                tokio::time::sleep(by).await;
                self.write_frame(&bytes, &frame).await
            }
        }
    }

    async fn write_frame(&mut self, bytes: &[u8], frame: &Frame) -> Option<Ended> {
        let flowing = self.flow().await;
        if flowing.is_none() {
            // Before it is out: whoever receives it may look at the log at once.
            self.shared.passed(frame.seq);
        }
        flowing.or(self.write_all(bytes).await)
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<Ended> {
        match self.flow().await {
            None => self.write_all(bytes).await,
            ended => ended,
        }
    }

    /// Waits until the network is not stalled.
    async fn flow(&mut self) -> Option<Ended> {
        let flowing = self.control.wait_for(|control| !control.stall).await;
        // It fails when the proxy itself has ended.
        flowing.is_err().then_some(Ended::Over)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Option<Ended> {
        let written = self.writer.write_all(bytes).await;
        written.is_err().then_some(Ended::Over)
    }
}
