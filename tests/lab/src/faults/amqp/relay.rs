//! One connection: carries bytes both ways, unchanged, and reads along.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::Action;
use super::super::proxy::Control;
use super::super::trigger::{Phase, State};
use super::parse::{Parser, Unit};
use super::proxy::Shared;
use super::{Frame, Side};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How long RabbitMQ may take to work off what it was sent on a connection that is cut.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Carries one connection until either side ends it, a fault does, or all are cut.
pub(super) async fn run(
    client: TcpStream,
    broker: TcpStream,
    connection: u64,
    control: watch::Receiver<Control>,
    shared: &Arc<Shared>,
) {
    // Small frames must not wait for the acknowledgement of those before.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let gone = CancellationToken::new();
    let direction = |from, reader, writer| Direction {
        connection,
        from,
        reader,
        writer,
        control: control.clone(),
        gone: gone.clone(),
        shared: shared.clone(),
    };
    let up = direction(Side::Client, from_client, to_broker).carry();
    let down = direction(Side::Broker, from_broker, to_client).carry();
    tokio::pin!(up, down);
    let both = async {
        tokio::select! {
            ended = &mut up => match ended {
                // A client that has said its last word is still answered.
                Ended::Over => drop(down.await),
                Ended::Cut => {}
                // Gone for the client. RabbitMQ reads what is on its way, and then that there is no more.
                Ended::CutAfter(state) => {
                    gone.cancel();
                    let _ = tokio::time::timeout(LAST_WORK, down).await;
                    state.fire();
                }
            },
            _ = &mut down => {}
        }
    };
    let cuts = control.borrow().cuts;
    let mut all = control.clone();
    tokio::select! {
        () = both => {}
        _ = all.wait_for(|control| control.cuts != cuts) => {}
    }
}

/// Why a direction carries nothing more.
enum Ended {
    /// Its sender has closed it.
    Over,
    /// A fault, before what it struck at was passed on.
    Cut,
    /// A fault, after that.
    CutAfter(Arc<State>),
}

struct Direction {
    connection: u64,
    from: Side,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    control: watch::Receiver<Control>,
    /// Nobody is to hear anything any more: what still comes is thrown away.
    gone: CancellationToken,
    shared: Arc<Shared>,
}

impl Direction {
    async fn carry(mut self) -> Ended {
        let mut parser = Parser::default();
        let mut chunk = vec![0; CHUNK];
        let gone = self.gone.clone();
        loop {
            let read = tokio::select! {
                read = self.reader.read(&mut chunk) => read,
                () = gone.cancelled(), if self.from == Side::Broker => break,
            };
            let Ok(length @ 1..) = read else {
                let _ = self.writer.shutdown().await;
                return Ended::Over;
            };
            parser.feed(&chunk[..length]);
            while let Some(unit) = parser.next() {
                if let Some(ended) = self.pass(unit).await {
                    return ended;
                }
            }
        }
        let _ = self.writer.shutdown().await;
        while matches!(self.reader.read(&mut chunk).await, Ok(1..)) {}
        Ended::Over
    }

    /// Passes a unit on, unless a fault wants it otherwise.
    async fn pass(&mut self, unit: Unit) -> Option<Ended> {
        let (bytes, mut frame) = match unit {
            Unit::Raw(bytes) => return self.write(&bytes).await,
            Unit::Method {
                bytes,
                channel,
                method,
                message,
            } => {
                let frame = Frame {
                    connection: self.connection,
                    channel,
                    seq: 0,
                    at: self.shared.now(),
                    from: self.from,
                    method,
                    message,
                    passed: false,
                };
                (bytes, frame)
            }
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
        self.shared.note(action.describe(&frame.name(), phase));
        match action {
            Action::CutAfter if self.from == Side::Client => {
                let ended = self.write_frame(&bytes, &frame).await;
                let _ = self.writer.shutdown().await;
                ended.or(Some(Ended::CutAfter(state)))
            }
            Action::CutBefore | Action::CutAfter => {
                state.fire();
                Some(Ended::Cut)
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
        // Before it is out: whoever receives it may look at the log at once.
        self.shared.passed(frame.seq);
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<Ended> {
        let flowing = self.control.wait_for(|control| !control.stall).await;
        // The proxy itself has ended.
        flowing.ok()?;
        match self.writer.write_all(bytes).await {
            Ok(()) => None,
            Err(_) => Some(Ended::Cut),
        }
    }
}
