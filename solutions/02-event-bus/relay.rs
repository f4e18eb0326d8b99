//! The relay: from the outbox into the log, each event once, whatever dies.

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::Relay;
use crate::report::Relayed;

// solution only
#[path = "relay/ends.rs"]
mod ends;

use std::time::Duration;

use tokio::time::sleep;

use self::ends::Ends;
use crate::connection::Pauses;
// end solution only

/// Appends what comes into an outbox (`P:outbox`) to a log, until `stop`: every entry, in order,
/// with its fields as they are, once.
///
/// Once, also if it dies between any two commands, and if several relays do the same at once. For
/// that the log's Redis knows how far it is: the key `L:relayed:P` holds the id of the last outbox
/// entry that was appended, and is written in one atomic step with the append. Only after that is
/// the entry removed from the outbox. The log may lie in another Redis than the outbox.
///
/// A lost connection, to either, is rebuilt with growing pauses up to five seconds, for ever. With
/// nothing to do it waits in Redis (a blocking read, on a connection of its own). After `stop` it
/// finishes the step that is under way, and returns within a second.
///
/// # Errors
/// Only at the start: [`Error::Connect`] if either Redis cannot be reached or does not let us in.
pub async fn relay(options: Relay, stop: CancellationToken) -> Result<Relayed, Error> {
    // stub stage 8: read the outbox from its beginning; append in a script that knows the last id; XDEL
    let mut ends = Ends::connect(&options).await?;
    let mut relayed = Relayed::default();
    let mut pauses = Pauses::new();
    while let Err(error) = carry(&ends, &stop, &mut pauses, &mut relayed).await {
        tracing::warn!(%error, "lost Redis, connecting again");
        loop {
            let again = stop.run_until_cancelled(async {
                pauses.pause().await;
                Ends::connect(&options).await
            });
            match again.await {
                None => return Ok(relayed),
                Some(Ok(connected)) => break ends = connected,
                Some(Err(error)) => tracing::warn!(%error, "still no Redis"),
            }
        }
    }
    Ok(relayed)
    // end stub
}

// solution only
/// How long the step that is under way may take after a stop.
const LAST_STEP: Duration = Duration::from_millis(500);

/// Relays until the connections fail (`Err`) or it is told to stop (`Ok`).
async fn carry(
    ends: &Ends,
    stop: &CancellationToken,
    pauses: &mut Pauses,
    relayed: &mut Relayed,
) -> Result<(), Error> {
    loop {
        // Reading changes nothing, so it may be dropped.
        let Some(entries) = stop.run_until_cancelled(ends.oldest()).await else {
            return Ok(());
        };
        let entries = entries?;
        *pauses = Pauses::new();
        // Each of these may happen again, or be cut off: the log's Redis knows how far it is.
        let step = async {
            relayed.published += ends.append(&entries).await?;
            ends.remove(&entries).await
        };
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST_STEP).await;
        };
        tokio::select! {
            step = step => step?,
            () = too_late => return Ok(()),
        }
    }
}
// end solution only
