//! The project's own tasks: build-ebpf, demo, bench, dist.

fn main() {}
