//! The end of a connection that the lab cut: on RabbitMQ's side it is an orderly one, so that what passed
//! the proxy is certain to have been carried out.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::parse::Parser;
use super::{Frame, Side};

/// How long RabbitMQ may take to work off what it was sent. It does not answer at all while it is paused.
const LIMIT: Duration = Duration::from_secs(5);

/// Lets RabbitMQ carry out what it was sent on `channel`, and closes the connection. What it still says
/// reaches nobody; it is given to `record`.
///
/// The end of a connection overtakes what RabbitMQ has read from it: a channel that is told to end drops the
/// methods that it has not come to. So it is asked a question whose answer comes after them: the
/// `channel.flow` of a channel that flows anyway.
pub(super) async fn work_off(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut parser: Parser,
    channel: u16,
    mut record: impl FnMut(Frame),
) {
    let ask_and_close = async {
        if channel != 0 && to.write_all(&question(channel)).await.is_ok() {
            let _ = read_until(&mut from, &mut parser, &mut record, |frame| {
                answers(frame, channel)
            })
            .await;
        }
        let _ = to.shutdown().await;
        read_until(&mut from, &mut parser, &mut record, |_| false).await;
    };
    let _ = tokio::time::timeout(LIMIT, ask_and_close).await;
}

/// `channel.flow` with `active` set.
fn question(channel: u16) -> Vec<u8> {
    let mut frame = vec![1];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 5, 0, 20, 0, 20, 1, 0xce]);
    frame
}

/// The answer, or the end of whoever would give it.
fn answers(frame: &Frame, channel: u16) -> bool {
    use AMQPClass::{Channel, Connection};
    match &frame.method {
        Channel(
            channel::AMQPMethod::FlowOk(_)
            | channel::AMQPMethod::Close(_)
            | channel::AMQPMethod::CloseOk(_),
        ) => frame.channel == channel,
        Connection(connection::AMQPMethod::Close(_) | connection::AMQPMethod::CloseOk(_)) => true,
        _ => false,
    }
}

/// Reads until a frame is the `last`, or there is no more.
async fn read_until(
    from: &mut OwnedReadHalf,
    parser: &mut Parser,
    record: &mut impl FnMut(Frame),
    last: impl Fn(&Frame) -> bool,
) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        while let Some(unit) = parser.next() {
            let Some(said) = unit.said else { continue };
            let frame = Frame {
                connection: 0,
                channel: said.channel,
                seq: 0,
                at: Duration::ZERO,
                from: Side::Broker,
                method: said.method,
                message: said.message,
                passed: false,
            };
            if last(&frame) {
                return;
            }
            record(frame);
        }
        match from.read(&mut chunk).await {
            Ok(length @ 1..) => parser.feed(&chunk[..length]),
            _ => return,
        }
    }
}
