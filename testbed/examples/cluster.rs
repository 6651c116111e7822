//! A cluster to look around in, until standard input ends.
//!
//! ```text
//! cargo build --workspace --bins --examples
//! sudo target/debug/examples/cluster
//! ```
//!
//! A line `panic` on standard input makes it panic: what it started must not
//! outlive it in that case either.

use std::io::{self, BufRead};

use testbed::{Cluster, ServerKind, Source};

fn main() -> anyhow::Result<()> {
    let builder = match std::env::args().nth(1).as_deref() {
        None => Cluster::builder(),
        Some("nginx") => Cluster::builder()
            .servers(ServerKind::NginxRtmp)
            .without_balancer(),
        Some(other) => anyhow::bail!("unknown argument {other}: expected nothing, or nginx"),
    };
    let cluster = builder.start()?;
    cluster.push(&Source::Generated)?;
    println!("directory {}", cluster.directory().display());
    for host in cluster.hosts() {
        println!("namespace {} {}", host.network_namespace()?, host.name());
    }
    println!("ready; end the input (Ctrl-D) to remove it");
    for line in io::stdin().lock().lines() {
        assert!(line? != "panic", "as asked");
    }
    Ok(())
}
