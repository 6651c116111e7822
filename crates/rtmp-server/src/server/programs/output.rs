//! The streams of this server that programs make of others.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use rtmp_proto::session::StreamKey;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::Programs;
use crate::config::server_of;
use crate::stream::lock;

/// Time for finding out the addresses of a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// True if the `rtmp://` URL `url` leads to a server on this host that listens at `listen`: by
/// a loopback address, one of an interface, or a name of either.
pub(super) async fn leads_here(url: &str, listen: &[SocketAddr]) -> bool {
    let Some((_, origin, _)) = server_of(url) else {
        return false;
    };
    let found = match origin.authority.parse::<SocketAddr>() {
        Ok(address) => vec![address],
        Err(_) => match timeout(RESOLVE_TIMEOUT, lookup_host(&*origin.authority)).await {
            Ok(Ok(found)) => found.collect(),
            // Then ffmpeg does not find it either.
            _ => return false,
        },
    };
    let own = own_addresses();
    found.iter().any(|it| {
        let listens = |listen: &&SocketAddr| {
            let is_there = listen.ip() == it.ip()
                || listen.ip().is_unspecified() && own.contains(&it.ip())
                || it.ip().is_loopback();
            is_there && listen.port() == it.port()
        };
        listen.iter().find(listens).is_some()
    })
}

/// The addresses of this host's interfaces.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|it| it.address);
    let ips = addresses.filter_map(|it| {
        let v4 = it.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| it.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    ips.collect()
}

/// A stream that a program makes, for as long as it does.
pub(super) struct Output<'a> {
    programs: &'a Programs,
    key: StreamKey,
}

impl<'a> Output<'a> {
    pub(super) fn new(programs: &'a Programs, key: StreamKey) -> Self {
        *lock(&programs.outputs).entry(key.clone()).or_default() += 1;
        Self { programs, key }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        let mut outputs = lock(&self.programs.outputs);
        if let Some(count) = outputs.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                outputs.remove(&self.key);
            }
        }
    }
}

/// True if a program makes the stream `key`.
pub(super) fn is_output(programs: &Programs, key: &StreamKey) -> bool {
    lock(&programs.outputs).contains_key(key) || lock(&programs.former_outputs).contains_key(key)
}

/// Forgets the streams that programs have made before an upgrade, but those that are still
/// published: the ends of their connections may not have been noticed yet.
pub(super) fn forget_former(programs: &Programs, is_published: impl Fn(&StreamKey) -> bool) {
    lock(&programs.former_outputs).retain(|key, _| is_published(key));
}

/// True if `client`, which publishes the stream `key`, is a program that an upgrade has ended: the
/// end of its connection has not been noticed yet.
pub(super) fn has_ended(programs: &Programs, key: &StreamKey, client: u64) -> bool {
    lock(&programs.former_outputs).get(key) == Some(&Some(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_own_address_or_name_leads_here() {
        let any: [SocketAddr; 1] = ["0.0.0.0:1935".parse().unwrap()];
        let loopback: [SocketAddr; 1] = ["127.0.0.1:1935".parse().unwrap()];
        for (url, listen, expected) in [
            ("rtmp://127.0.0.1/live/a", &any, true),
            ("rtmp://127.0.0.1:1936/live/a", &any, false),
            ("rtmp://localhost/live/a", &any, true),
            ("rtmp://localhost/live/a", &loopback, true),
            ("rtmp://192.0.2.1/live/a", &any, false),
            ("rtmps://127.0.0.1:1935/live/a", &any, false),
            ("./a.flv", &any, false),
        ] {
            assert_eq!(leads_here(url, listen).await, expected, "{url}");
        }
        for ip in own_addresses() {
            let url = format!("rtmp://{}/live/a", SocketAddr::new(ip, 1935));
            assert!(leads_here(&url, &any).await, "{url}");
        }
    }
}
