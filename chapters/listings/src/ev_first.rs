//! One event, and two that hear of it.

// ANCHOR: all
use tokio::sync::broadcast;

pub async fn run() -> anyhow::Result<()> {
    let (bus, mut mail) = broadcast::channel(16);
    let mut points = bus.subscribe();

    bus.send("trip.booked 7")?;
    println!("mail: {}", mail.recv().await?);
    println!("points: {}", points.recv().await?);

    drop((mail, points));
    println!("nobody listens: {:?}", bus.send("trip.booked 8"));
    Ok(())
}
// ANCHOR_END: all
