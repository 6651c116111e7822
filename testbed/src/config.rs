//! The configuration files of a cluster: the deployment's own where they fit,
//! else files like them.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::server::{HTTP_API_PORT, HTTP_PORT, HTTPS_PORT, RTMP_PORT};

/// The virtual address of the deployment.
pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 200);
/// The origin, where the encoder pushes to.
pub const ORIGIN: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 228);
/// The second origin, where there is one.
pub(crate) const SECOND_ORIGIN: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 229);
/// The balancer.
pub(crate) const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 208);
/// The second balancer, where there is one.
pub const STANDBY: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 209);
/// The encoder's machine.
pub(crate) const ENCODER: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 10);

/// The web server that has the page to copy, where browsers watch.
pub(crate) const WEBSITE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 20);

/// The way out of the deployment's subnet, where there is one.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 1);
/// The router's other leg.
pub(crate) const OUTER_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The files of the deployment, as they were deployed.
pub const DEPLOYED_KEEPALIVED_CONF: &str = include_str!("../../examples/keepalived.conf");
/// See [`DEPLOYED_KEEPALIVED_CONF`].
pub const DEPLOYED_ORIGIN_CONF: &str = include_str!("../../examples/origin.conf");
/// See [`DEPLOYED_KEEPALIVED_CONF`].
pub const DEPLOYED_EDGE_CONF: &str = include_str!("../../examples/edge.conf");

/// The address of an edge, counted from 0: the deployment's two, then others.
#[must_use]
pub(crate) fn edge_address(index: u8) -> Ipv4Addr {
    let last = match index {
        0 => 211,
        1 => 207,
        more => 230 + more,
    };
    Ipv4Addr::new(172, 16, 1, last)
}

/// The address of a client's machine, counted from 0.
#[must_use]
pub(crate) fn client_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 1, 101 + index)
}

/// The address of a client's machine behind the router, counted from 0
/// (TEST-NET-2, RFC 5737).
#[must_use]
pub(crate) fn outer_client_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 101 + index)
}

/// The edge's file `conf`, with a second origin that it pulls from at the same time.
pub(crate) fn with_second_origin(conf: &str) -> String {
    let one = format!("{ORIGIN}:{RTMP_PORT}");
    let both = format!("{one} {SECOND_ORIGIN}:{RTMP_PORT};\n    origin_redundancy 2");
    conf.replace(&one, &both)
}

/// How often the balancer looks at its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthChecks {
    /// As deployed: every 6 s, three more tries 3 s apart.
    Deployed,
    /// Every second, one more try a second later, so that tests are quick.
    #[default]
    Quick,
}

impl HealthChecks {
    /// Seconds of `delay_loop`, `connect_timeout`, `delay_before_retry`, and
    /// the number of retries.
    fn timing(self) -> [u32; 4] {
        match self {
            Self::Deployed => [6, 3, 3, 3],
            Self::Quick => [1, 1, 1, 1],
        }
    }

    /// The longest that a server which refuses connections stays in rotation:
    /// almost a `delay_loop` until the check, then the retries (each answered
    /// at once), and the same again for a busy machine.
    #[must_use]
    pub fn refusal_noticed_within(self) -> std::time::Duration {
        let [delay_loop, _, delay_before_retry, retries] = self.timing();
        std::time::Duration::from_secs(2 * u64::from(delay_loop + retries * delay_before_retry))
    }
}

/// A `keepalived.conf` for the deployment's service and these real servers.
#[must_use]
pub fn keepalived_conf(checks: HealthChecks, real_servers: &[Ipv4Addr]) -> String {
    let deployed = [edge_address(0), edge_address(1)];
    if checks == HealthChecks::Deployed && real_servers == deployed {
        return DEPLOYED_KEEPALIVED_CONF.to_owned();
    }
    let (head, _) = DEPLOYED_KEEPALIVED_CONF
        .split_once("virtual_server ")
        .expect("the deployment has a virtual server");
    head.to_owned() + &virtual_server(RTMP_PORT, checks, real_servers)
}

/// The virtual server of a port of the VIP.
pub(crate) fn virtual_server(port: u16, checks: HealthChecks, real_servers: &[Ipv4Addr]) -> String {
    let [delay_loop, connect_timeout, delay_before_retry, retries] = checks.timing();
    let mut text = format!(
        "virtual_server {VIP} {port} {{\n    delay_loop {delay_loop}\n    lb_algo rr\n    \
         lb_kind DR\n    persistence_timeout 50\n    protocol TCP\n"
    );
    for address in real_servers {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n    real_server {address} {port} {{\n        weight 1\n        TCP_CHECK {{\n            \
             connect_timeout {connect_timeout}\n            nb_get_retry {retries}\n            \
             delay_before_retry {delay_before_retry}\n        }}\n    }}\n"
        );
    }
    text + "}\n"
}

/// The virtual host of edges that serve browsers, of which HLS has segments of MPEG-TS. The
/// default one has LL-HLS.
pub const HLS_TS_VHOST: &str = "hls-ts";
/// Likewise with segments of fMP4.
pub const HLS_FMP4_VHOST: &str = "hls-fmp4";

/// The configuration of a server that serves browsers, too; by TLS with a key and its
/// certificate.
///
/// # Panics
/// When the deployment's file is no longer what it was.
pub(crate) fn with_http(conf: &str, tls: Option<(&Path, &Path)>) -> String {
    let begin = "vhost __defaultVhost__ {\n";
    let (head, vhost) = conf
        .split_once(begin)
        .unwrap_or_else(|| panic!("no `{begin}` in:\n{conf}"));
    let hls = "        enabled on;\n        hls_fragment 1;\n        hls_window 10;\n";
    let vhosts = [
        ("__defaultVhost__", "        hls_low_latency on;\n"),
        (HLS_TS_VHOST, ""),
        (HLS_FMP4_VHOST, "        hls_use_fmp4 on;\n"),
    ];
    let vhosts = vhosts.map(|(name, kind)| {
        format!(
            "vhost {name} {{\n    http_remux {{\n        enabled on;\n    }}\n    \
             hls {{\n{hls}{kind}    }}\n{vhost}"
        )
    });
    let https = tls.map_or(String::new(), |(key, cert)| {
        format!(
            "    https {{\n        enabled on;\n        listen {HTTPS_PORT};\n        \
             key {};\n        cert {};\n    }}\n",
            key.display(),
            cert.display()
        )
    });
    let http = format!("http_server {{\n    enabled on;\n    listen {HTTP_PORT};\n{https}}}\n");
    head.to_owned() + &http + &vhosts.concat()
}

/// The configuration of a server that has the page for operators, too.
pub(crate) fn with_api(conf: &str, has_password: bool) -> String {
    let auth = match has_password {
        true => {
            "    auth {\n        enabled on;\n        username admin;\n        password secret;\n    }\n"
        }
        false => "",
    };
    format!("http_api {{\n    enabled on;\n    listen {HTTP_API_PORT};\n{auth}}}\n{conf}")
}

/// A `keepalived.conf` for a second director of the deployment, of which only
/// the virtual router is served: the kernel may have no IPVS.
///
/// # Panics
/// When the deployment's file is no longer what it was.
#[must_use]
pub fn virtual_router_conf(state: &str, priority: u8) -> String {
    let (router, _) = DEPLOYED_KEEPALIVED_CONF
        .split_once("virtual_server ")
        .expect("the deployment has a virtual server");
    with_role(router, state, priority)
}

/// `conf` for a director of another role.
///
/// # Panics
/// When the deployment's file is no longer what it was.
pub(crate) fn with_role(conf: &str, state: &str, priority: u8) -> String {
    for line in ["state MASTER", "priority 100"] {
        assert!(conf.contains(line), "no `{line}` in:\n{conf}");
    }
    conf.replace("state MASTER", &format!("state {state}"))
        .replace("priority 100", &format!("priority {priority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_differs_in_its_role_alone() {
        let standby = with_role(DEPLOYED_KEEPALIVED_CONF, "BACKUP", 90);
        let changed: Vec<&str> = standby
            .lines()
            .zip(DEPLOYED_KEEPALIVED_CONF.lines())
            .filter(|(standby, deployed)| standby != deployed)
            .map(|(standby, _)| standby.trim())
            .collect();
        assert_eq!(changed, ["state BACKUP", "priority 90"]);
    }

    #[test]
    fn two_edges_checked_as_deployed_use_the_deployments_file_unchanged() {
        let edges = [edge_address(0), edge_address(1)];
        assert_eq!(
            keepalived_conf(HealthChecks::Deployed, &edges),
            DEPLOYED_KEEPALIVED_CONF
        );
    }

    #[test]
    fn each_edge_becomes_a_real_server() {
        let edges = [edge_address(0), edge_address(1), edge_address(2)];
        let text = keepalived_conf(HealthChecks::Quick, &edges);
        for address in edges {
            assert!(
                text.contains(&format!("real_server {address} 1935 {{")),
                "{text}"
            );
        }
        assert_eq!(
            text.matches('{').count(),
            text.matches('}').count(),
            "{text}"
        );
    }
}
