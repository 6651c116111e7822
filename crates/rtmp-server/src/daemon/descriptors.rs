//! The limit of open file descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;
use crate::server::max_hook_sockets;

/// Maximum number of descriptors of a connection: its socket; the log (`memfd`) of a
/// stream that it alone uses; an edge's connection to the origin.
const PER_CONNECTION: u64 = 3;
/// The same of a request by HTTP/2, whose socket is a pair.
const PER_HTTP2_REQUEST: u64 = PER_CONNECTION + 1;
/// Descriptors that do not depend on connections: log files, listeners, epolls, the
/// HTTP API and its clients.
const RESERVED: u64 = 512;
/// Maximum number of descriptors of a process if `nr_open` cannot be read.
const DEFAULT_MAX_DESCRIPTORS: u64 = 1 << 20;

/// Number of descriptors that the connections and hooks of `config` need.
fn needed(config: &Config) -> u64 {
    let http_server = config.http_server.as_ref();
    let per_connection = match http_server.is_some_and(|it| it.https.is_some() && it.http2) {
        true => PER_HTTP2_REQUEST,
        false => PER_CONNECTION,
    };
    u64::from(config.max_connections) * per_connection + max_hook_sockets(config) + RESERVED
}

/// Raises the limit as far as the kernel allows, and warns if that is too low for
/// `config`. It may be called again when that changes.
pub(super) fn raise_limit(config: &Config) {
    let needed = needed(config);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let max = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAX_DESCRIPTORS);
    let allowed = hard.min(max);
    // Root may go beyond the hard limit; all others up to it.
    let beyond = needed.min(max);
    let raised = beyond > allowed && setrlimit(Resource::RLIMIT_NOFILE, beyond, beyond).is_ok();
    if !raised && allowed > soft {
        // A refusal shows below, if it matters.
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
    use crate::config::{self, Role};

    fn config(text: &str) -> Config {
        config::load(text, Role::Origin).unwrap().config
    }

    #[test]
    fn connections_and_hooks_are_reckoned_with_what_they_bring_along() {
        let few = needed(&config("max_connections 1;"));
        assert_eq!(needed(&config("max_connections 1001;")) - few, 3_000);
        let https = "http_server { enabled on; https { enabled on; } }";
        let http2 =
            [1, 1_001].map(|max| needed(&config(&format!("max_connections {max}; {https}"))));
        assert_eq!(http2[1] - http2[0], 4_000);
        let urls = "on_play http://a/1 http://b/; on_stop http://a/2;";
        let hooks = format!("vhost v {{ http_hooks {{ enabled on; {urls} }} }}");
        let asking = config(&format!("max_connections 1; {hooks}"));
        assert_eq!(needed(&asking) - few, 640);
    }

    #[test]
    fn the_limit_is_as_high_as_may_be() {
        raise_limit(&config("max_connections 1;"));
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let max = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        assert_eq!(soft, hard.min(max.trim().parse().unwrap()));
    }
}
