//! What the clock on the wall says, and when it says it.

use std::str::FromStr;

use anyhow::Result;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;

pub async fn run(_redis: &str, _stream: &str) -> Result<()> {
    // ANCHOR: zones
    let six = Cron::from_str("0 6 * * *")?;
    let march: DateTime<Utc> = "2026-03-28T12:00:00Z".parse()?;
    for zone in [Tz::UTC, Tz::Europe__Berlin, Tz::Asia__Kathmandu] {
        let mut time = march.with_timezone(&zone);
        let mut utc = Vec::new();
        for _ in 0..2 {
            time = six.find_next_occurrence(&time, false)?;
            utc.push(time.with_timezone(&Utc).format("%d %H:%M").to_string());
        }
        println!("6:00 in {zone}: {} UTC", utc.join(" and "));
    }
    // ANCHOR_END: zones
    // ANCHOR: changes
    for (what, after) in
        [("forward", "2026-03-28T12:00:00Z"), ("back", "2026-10-24T12:00:00Z")]
    {
        for expression in ["30 2 * * *", "0,30 2 * * *"] {
            let cron = Cron::from_str(expression)?;
            let after: DateTime<Utc> = after.parse()?;
            let mut time = after.with_timezone(&Tz::Europe__Berlin);
            let mut seen = Vec::new();
            for _ in 0..5 {
                time = cron.find_next_occurrence(&time, false)?;
                seen.push(time.format("%a %H:%M%:::z").to_string());
            }
            println!("{what}: {expression}: {}", seen.join(", "));
        }
    }
    // ANCHOR_END: changes
    // ANCHOR: bad
    for expression in ["61 * * * *", "0 0 30 2 *"] {
        let found = Cron::from_str(expression)
            .and_then(|cron| cron.find_next_occurrence(&march, false));
        println!("{expression}: {}", found.is_ok());
    }
    // ANCHOR_END: bad
    Ok(())
}
