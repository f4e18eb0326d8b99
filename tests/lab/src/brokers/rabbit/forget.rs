//! Deletes what a check has left in the run's RabbitMQ.

use std::time::Duration;

use lapin::Connection;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};

use super::connect;

/// The queues and exchanges of a check with this `mark` that a note tells of, in lines `queue NAME` and
/// `exchange NAME`. A run may use a RabbitMQ that belongs to somebody: names without the mark may be theirs.
fn own<'n>(note: &'n str, mark: &str) -> Vec<(&'n str, &'n str)> {
    let lines = note.lines().filter_map(|line| line.split_once(' '));
    // Names that RabbitMQ has made up are nobody else's.
    lines
        .filter(|(_, name)| name.contains(mark) || name.starts_with("amq.gen-"))
        .collect()
}

/// Deletes them. Nothing is done if there are none.
pub(crate) async fn forget_declared(
    url: &str,
    note: &str,
    mark: &str,
    limit: Duration,
) -> Result<(), String> {
    let own = own(note, mark);
    if own.is_empty() {
        return Ok(());
    }
    let forget = async {
        let connection = connect(url, limit).await?;
        for (kind, name) in own {
            // What cannot be deleted keeps nothing else from it: a queue may still belong to a connection
            // that is about to end, and goes with it.
            let _ = delete(&connection, kind, name).await;
        }
        let closed = connection.close(200, "done".into()).await;
        closed.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(limit, forget).await {
        Ok(forgotten) => forgotten,
        Err(_) => Err("it took too long".to_owned()),
    }
}

/// Deletes one. That it is not there is no mistake.
async fn delete(connection: &Connection, kind: &str, name: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    match kind {
        "queue" => {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(name.into(), options).await?;
        }
        _ => {
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(name.into(), options).await?;
        }
    }
    channel.close(200, "done".into()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_the_mark_is_left_alone() {
        let note =
            "queue tasks-abc-1\nqueue tasks\nexchange tasks-abc-1.dead\nqueue amq.gen-x\nodd";
        let expected = [
            ("queue", "tasks-abc-1"),
            ("exchange", "tasks-abc-1.dead"),
            ("queue", "amq.gen-x"),
        ];
        assert_eq!(own(note, "abc"), expected);
    }
}
