//! An RTMP load generator: thousands of players from one process.

fn main() {}
