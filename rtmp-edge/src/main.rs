//! The RTMP edge: pulls each stream once from its origin and serves it to many.

use std::process::ExitCode;

fn main() -> ExitCode {
    rtmp_edge::main()
}
