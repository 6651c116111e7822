//! How many descriptors may be open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::hooks;

/// What a connection takes at most: its own, and where it is alone with its
/// stream that stream's file in memory, and an edge's connection to the origin.
const PER_CONNECTION: u64 = 3;
/// What does not come and go with connections: logs, listeners, epolls, and
/// what the HTTP API and its clients take.
const OTHERS: u64 = 512;
/// The most that a process may have where the kernel does not say.
const DEFAULT_MOST: u64 = 1 << 20;

/// What `connections` need.
fn needed(connections: u32) -> u64 {
    u64::from(connections) * PER_CONNECTION + hooks::MOST_SOCKETS + OTHERS
}

/// Allows as many descriptors as the kernel lets us have, and says if that is
/// too few for `connections`. May be asked again when those change.
pub(super) fn raise_limit(connections: u32) {
    let needed = needed(connections);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MOST);
    let allowed = hard.min(most);
    // Root may go beyond the hard limit; all others up to it.
    let beyond = needed.min(most);
    let raised = beyond > allowed && setrlimit(Resource::RLIMIT_NOFILE, beyond, beyond).is_ok();
    if !raised && allowed > soft {
        // What the kernel refuses is told below, if it matters.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, allowed, hard);
    }
    let now = getrlimit(Resource::RLIMIT_NOFILE).map_or(soft, |(soft, _)| soft);
    if now < needed {
        log::warn!(
            "only {now} descriptors may be open, and max_connections {connections} may take \
             {needed}: raise the limit (LimitNOFILE= in the unit, or ulimit -n)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_reckoned_with_what_they_bring_along() {
        assert_eq!(needed(1_000) - needed(0), 3_000);
        assert!(needed(0) >= hooks::MOST_SOCKETS);
    }

    #[test]
    fn the_limit_is_as_high_as_may_be() {
        raise_limit(1);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        assert_eq!(soft, hard.min(most.trim().parse().unwrap()));
    }
}
