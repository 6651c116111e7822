//! The agent of the Millrace balancer: health checks, VRRP and configuration of keepalived
//! on an XDP data plane.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_user::cli::main()
}
