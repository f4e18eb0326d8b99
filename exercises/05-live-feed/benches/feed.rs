//! How fast the feed is.

fn main() {}
