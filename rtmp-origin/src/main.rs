//! The RTMP origin: takes publishers, serves players and edges.

fn main() {}
