//! The agent of the Millrace balancer: keepalived's promises on an XDP data plane.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_user::cli::main()
}
