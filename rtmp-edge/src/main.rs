//! The RTMP edge: pulls each stream once from its origin and serves it to many.

fn main() {}
