//! A weekend without a leader.

use anyhow::Result;

pub async fn run(_redis: &str, _stream: &str) -> Result<()> {
    // ANCHOR: policies
    // A job every minute, in seconds; late is what is older than ten.
    let (every, late) = (60_i64, 10);
    let (due, now) = (0_i64, 2 * 24 * 3600 + 5);
    let last = due + (now - due).div_euclid(every) * every;
    let on_time = now - last <= late;
    let last_late = if on_time { last - every } else { last };
    println!("missed: {}", (last_late - due) / every + 1);
    for (policy, most) in [("skip", 0), ("once", 1), ("catch up 3", 3)] {
        // From the end of the gap: never through all of it.
        let mut runs: Vec<i64> = (0..most).map(|n| last_late - n * every).collect();
        runs.reverse();
        runs.extend(on_time.then_some(last));
        println!("{policy}: {runs:?}");
    }
    println!("next: {}", last + every);
    // ANCHOR_END: policies
    Ok(())
}
