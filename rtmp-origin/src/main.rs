//! The RTMP origin: takes publishers, serves players and edges.

use std::process::ExitCode;

fn main() -> ExitCode {
    rtmp_origin::main()
}
