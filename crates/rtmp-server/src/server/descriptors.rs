//! How many descriptors may be open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::hooks;
use crate::config::Config;

/// What a connection takes at most: its own, and where it is alone with its
/// stream that stream's file in memory, and an edge's connection to the origin.
const PER_CONNECTION: u64 = 3;
/// What does not come and go with connections: logs, listeners, epolls, and
/// what the HTTP API and its clients take.
const OTHERS: u64 = 512;
/// The most that a process may have where the kernel does not say.
const DEFAULT_MOST: u64 = 1 << 20;

/// What the connections and hooks of `config` need.
fn needed(config: &Config) -> u64 {
    u64::from(config.max_connections) * PER_CONNECTION + hooks::sockets(config) + OTHERS
}

/// Allows as many descriptors as the kernel lets us have, and says if that is
/// too few for `config`. May be asked again when that changes.
pub(super) fn raise_limit(config: &Config) {
    let needed = needed(config);
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
            "only {now} descriptors may be open, and max_connections {} may take {needed}: \
             raise the limit (LimitNOFILE= in the unit, or ulimit -n)",
            config.max_connections
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Role, conf};

    fn config(text: &str) -> Config {
        let directives = conf::parse("x.conf", text).unwrap();
        config::build(&directives, Role::Origin).unwrap().config
    }

    #[test]
    fn connections_and_hooks_are_reckoned_with_what_they_bring_along() {
        let few = needed(&config("max_connections 1;"));
        assert_eq!(needed(&config("max_connections 1001;")) - few, 3_000);
        let urls = "on_play http://a/1 http://b/; on_stop http://a/2;";
        let hooks = format!("vhost v {{ http_hooks {{ enabled on; {urls} }} }}");
        let asking = config(&format!("max_connections 1; {hooks}"));
        assert_eq!(needed(&asking) - few, 640);
    }

    #[test]
    fn the_limit_is_as_high_as_may_be() {
        raise_limit(&config("max_connections 1;"));
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        assert_eq!(soft, hard.min(most.trim().parse().unwrap()));
    }
}
