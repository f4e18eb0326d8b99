//! The broker's own word on how it ended.

use std::collections::{HashMap, HashSet};

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value};

use super::{History, What};

/// How many are asked for at once.
const PAGE: usize = 1000;

impl History {
    /// Adds what the broker's state tells about every message that was `Sent`: in
    /// `<stream>:dead` under its `_id` means `DeadLettered`; not yet delivered to `group` or
    /// in its pending list means `Pending`; neither means `Acknowledged`. Nothing that the
    /// history knows already is added again. To be called once, when the candidate is done.
    ///
    /// What a candidate does inside scripts does not show on the wire; this is how it is
    /// judged all the same.
    ///
    /// # Errors
    /// Whatever the broker refuses, such as a `stream` of another type.
    pub async fn absorb_state(
        &self,
        connection: &mut impl ConnectionLike,
        stream: &str,
        group: &str,
    ) -> RedisResult<()> {
        let dead = dead_letters(connection, &format!("{stream}:dead")).await?;
        let pending = pending(connection, stream, group).await?;
        let last = last_delivered(connection, stream, group).await?;

        let mut sent = Vec::new();
        let mut known: HashMap<String, (bool, bool)> = HashMap::new();
        for event in self.events() {
            match event.what {
                What::Sent => sent.push(event.id),
                What::Acknowledged => known.entry(event.id).or_default().0 = true,
                What::DeadLettered => known.entry(event.id).or_default().1 = true,
                _ => {}
            }
        }
        for id in sent {
            let (acknowledged, dead_lettered) = known.get(&id).copied().unwrap_or_default();
            let is_dead = dead.contains(&id);
            if is_dead && !dead_lettered {
                self.record_detail("broker", What::DeadLettered, &id, "found so at the end");
            }
            let delivered = last.is_some_and(|last| order(&id) <= Some(last));
            if pending.contains(&id) || (!delivered && !is_dead) {
                self.record_detail("broker", What::Pending, &id, "found so at the end");
            } else if !acknowledged && !is_dead && !dead_lettered {
                self.record_detail("broker", What::Acknowledged, &id, "found so at the end");
            }
        }
        Ok(())
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The `_id` of every dead letter.
async fn dead_letters(
    connection: &mut impl ConnectionLike,
    stream: &str,
) -> RedisResult<HashSet<String>> {
    let mut ids = HashSet::new();
    let mut from = "-".to_owned();
    loop {
        let page: Vec<(String, Fields)> = redis::cmd("XRANGE")
            .arg(stream)
            .arg(&from)
            .arg("+")
            .arg("COUNT")
            .arg(PAGE)
            .query_async(connection)
            .await?;
        for (id, fields) in &page {
            let original = fields.iter().find(|(name, _)| name == b"_id");
            if let Some((_, value)) = original {
                ids.insert(String::from_utf8_lossy(value).into_owned());
            }
            from = format!("({id}");
        }
        if page.len() < PAGE {
            return Ok(ids);
        }
    }
}

/// The ids that were delivered to the group and not acknowledged; empty without a group.
async fn pending(
    connection: &mut impl ConnectionLike,
    stream: &str,
    group: &str,
) -> RedisResult<HashSet<String>> {
    let mut ids = HashSet::new();
    let mut from = "-".to_owned();
    loop {
        let page: RedisResult<Vec<(String, String, u64, u64)>> = redis::cmd("XPENDING")
            .arg(stream)
            .arg(group)
            .arg(&from)
            .arg("+")
            .arg(PAGE)
            .query_async(connection)
            .await;
        let page = match page {
            Err(error) if error.code() == Some("NOGROUP") => return Ok(ids),
            page => page?,
        };
        let full = page.len() == PAGE;
        for (id, ..) in page {
            from = format!("({id}");
            ids.insert(id);
        }
        if !full {
            return Ok(ids);
        }
    }
}

/// How far the group has read; none if there is no such group.
async fn last_delivered(
    connection: &mut impl ConnectionLike,
    stream: &str,
    group: &str,
) -> RedisResult<Option<(u64, u64)>> {
    let groups: RedisResult<Vec<HashMap<String, Value>>> = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(stream)
        .query_async(connection)
        .await;
    // Without a stream there is no group: Redis calls that an error.
    let groups = match groups {
        Err(error)
            if error
                .detail()
                .is_some_and(|text| text.contains("no such key")) =>
        {
            vec![]
        }
        groups => groups?,
    };
    for group_info in groups {
        let text = |name: &str| match group_info.get(name) {
            Some(Value::BulkString(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Some(Value::SimpleString(text)) => Some(text.clone()),
            _ => None,
        };
        if text("name").as_deref() == Some(group) {
            return Ok(text("last-delivered-id").as_deref().and_then(order));
        }
    }
    Ok(None)
}

/// Stream ids in the order of the stream.
fn order(id: &str) -> Option<(u64, u64)> {
    let (millis, sequence) = id.split_once('-')?;
    Some((millis.parse().ok()?, sequence.parse().ok()?))
}
