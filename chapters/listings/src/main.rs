//! `cargo run -p listings -- NAME` runs one listing of the book.

use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).with_context(|| {
        format!("which listing? one of {}", listings::NAMES.join(", "))
    })?;
    let redis = std::env::var("REDIS_URL")
        .unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    // A stream of its own, so that a Redis with other things in it stays as it is.
    let stream = format!("listing:{name}:{}", std::process::id());
    let result = listings::run(&name, &redis, &stream)
        .await
        .with_context(|| format!("running {name} against {redis}"));
    listings::orders::clean_up(&redis, &stream).await.ok();
    result
}
