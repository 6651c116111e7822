//! Which datagrams count, and what of them. No I/O.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::Router;
use lb_wire::clients::{self, Client, Clients, Stamp};

/// Maximum number of directors, by virtual router, whose last datagram is remembered.
const MAX_SOURCES: usize = 1000;

/// Where a datagram came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The sender's address.
    pub(super) source: IpAddr,
    /// Name of the interface that has received it.
    pub(super) interface: String,
    /// True if it has crossed no router.
    pub(super) is_on_link: bool,
}

/// Judges datagrams.
#[derive(Debug, Default)]
pub(super) struct Acceptance {
    /// The last datagram that counted, by virtual router and sender. Never forgotten, so that
    /// none counts twice.
    last: HashMap<(usize, IpAddr), Stamp>,
}

impl Acceptance {
    /// What a datagram tells, and of which of `routers`, if it counts.
    pub(super) fn read<'r>(
        &mut self,
        routers: &'r [Router],
        origin: &Origin,
        datagram: &[u8],
    ) -> Option<(&'r Router, Clients)> {
        let id = clients::virtual_router_id(datagram)?;
        let mut all = routers.iter().enumerate();
        let (number, router, mut told) = all.find_map(|(number, router)| {
            let is_it = router.id == id && router.interface == origin.interface;
            let told = (is_it && may_speak(router, origin))
                .then(|| decode(router, origin, datagram))
                .flatten()?;
            router
                .services
                .contains(&told.service)
                .then_some((number, router, told))
        })?;
        let key = (number, origin.source);
        let is_newer = match self.last.get(&key) {
            Some(last) => told.stamp > *last,
            None => self.last.len() < MAX_SOURCES,
        };
        if !is_newer {
            return None;
        }
        self.last.insert(key, told.stamp);
        let service = told.service;
        told.clients.retain(|client| is_client_of(service, client));
        Some((router, told))
    }
}

/// Whoever is on the link, as with adverts; from farther away only peers that sign.
fn may_speak(router: &Router, origin: &Origin) -> bool {
    let is_peer = router.destinations.contains(&origin.source);
    origin.is_on_link || (is_peer && !router.secrets.is_empty())
}

fn decode(router: &Router, origin: &Origin, datagram: &[u8]) -> Option<Clients> {
    let secrets = router.secrets.iter().map(Vec::as_slice);
    let without = router.secrets.is_empty().then_some(&[][..]);
    clients::decode(datagram, origin.source, secrets.chain(without))
}

/// True if such a client can have connected to the service: others would have segments sent
/// to whoever is named.
fn is_client_of(service: SocketAddr, client: &Client) -> bool {
    let end = client.client;
    let is_port = service.port() == 0 || service.port() == client.port;
    end.is_ipv4() == service.is_ipv4()
        && is_unicast(end.ip())
        && end.port() != 0
        && client.port != 0
        && is_port
}

/// True for a global or private address of one machine.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // "This network", and what is reserved, broadcast included (RFC 6890 §2.2.2).
            (1..240).contains(&address.octets()[0])
                && !address.is_loopback()
                && !address.is_multicast()
                && !address.is_link_local()
        }
        IpAddr::V6(address) => {
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an end")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A virtual router with one peer by name.
    fn router(secrets: &[&str]) -> Router {
        Router {
            id: 51,
            interface: "eth0".to_owned(),
            source: None,
            virtual_addresses: Vec::new(),
            destinations: vec![ip("172.16.9.9")],
            secrets: secrets.iter().map(|it| it.as_bytes().to_vec()).collect(),
            services: vec![end("172.16.1.200:1935")],
            max_silence: Duration::from_secs(15),
        }
    }

    fn told(number: u64) -> Clients {
        Clients {
            virtual_router_id: 51,
            stamp: Stamp {
                started_ms: 1000,
                number,
            },
            service: end("172.16.1.200:1935"),
            server: end("172.16.1.10:1935"),
            clients: vec![client("10.0.0.7:40000", 1935)],
        }
    }

    fn client(end_: &str, port: u16) -> Client {
        Client {
            client: end(end_),
            port,
            awaited_sequence: 7,
        }
    }

    fn origin(source: &str, interface: &str, is_on_link: bool) -> Origin {
        Origin {
            source: ip(source),
            interface: interface.to_owned(),
            is_on_link,
        }
    }

    #[test]
    fn who_may_speak() {
        const LINK: &str = "172.16.1.10";
        const PEER: &str = "172.16.9.9";
        for (what, counts, secrets, source, interface, is_on_link, signed_with) in [
            ("on the link", true, &[][..], LINK, "eth0", true, ""),
            ("signed", true, &["new", "old"], LINK, "eth0", true, "old"),
            ("not signed", false, &["new"], LINK, "eth0", true, ""),
            ("signed, not agreed", false, &[], LINK, "eth0", true, "new"),
            ("another secret", false, &["new"], LINK, "eth0", true, "x"),
            ("another interface", false, &[], LINK, "eth1", true, ""),
            (
                "interface, signed",
                false,
                &["new"],
                LINK,
                "eth1",
                true,
                "new",
            ),
            ("from afar", false, &[], LINK, "eth0", false, ""),
            ("afar, signed", false, &["new"], LINK, "eth0", false, "new"),
            ("a peer from afar", false, &[], PEER, "eth0", false, ""),
            ("and signed", true, &["new"], PEER, "eth0", false, "new"),
            ("a peer on the link", true, &[], PEER, "eth0", true, ""),
        ] {
            let routers = [router(secrets)];
            let datagram = clients::encode(&told(1), ip(source), signed_with.as_bytes());
            let origin = origin(source, interface, is_on_link);
            let read = Acceptance::default().read(&routers, &origin, &datagram);
            assert_eq!(read, counts.then(|| (&routers[0], told(1))), "{what}");
        }
    }

    #[test]
    fn only_own_virtual_routers_and_services_count() {
        let routers = [router(&[])];
        let origin = origin("172.16.1.10", "eth0", true);
        let mut changed = [told(1), told(1), told(1)];
        changed[0].virtual_router_id = 52;
        changed[1].service = end("172.16.1.201:1935");
        changed[2].service = end("172.16.1.200:1936");
        for told in changed {
            let datagram = clients::encode(&told, origin.source, b"");
            let read = Acceptance::default().read(&routers, &origin, &datagram);
            assert_eq!(read, None, "{told:?}");
        }
    }

    #[test]
    fn only_those_who_can_be_clients_are_taken() {
        for (end, port, counts) in [
            ("10.0.0.7:40000", 1935, true),
            ("203.0.113.7:1", 1935, true),
            ("10.0.0.7:0", 1935, false),
            ("10.0.0.7:40000", 0, false),
            ("10.0.0.7:40000", 1936, false),
            ("0.0.0.0:40000", 1935, false),
            ("127.0.0.1:40000", 1935, false),
            ("169.254.0.1:40000", 1935, false),
            ("224.0.0.18:40000", 1935, false),
            ("255.255.255.255:40000", 1935, false),
            ("[2001:db8::7]:40000", 1935, false),
        ] {
            let client = client(end, port);
            assert_eq!(is_client_of(told(1).service, &client), counts, "{client:?}");
        }
        for (text, counts) in [
            ("[2001:db8::7]:40000", true),
            ("[fd00::7]:40000", true),
            ("[::]:40000", false),
            ("[::1]:40000", false),
            ("[fe80::7]:40000", false),
            ("[ff02::12]:40000", false),
            ("10.0.0.7:40000", false),
        ] {
            let client = client(text, 1935);
            let service = end("[2001:db8::c8]:0");
            assert_eq!(is_client_of(service, &client), counts, "{client:?}");
        }
        let (routers, origin) = ([router(&[])], origin("172.16.1.10", "eth0", true));
        let mut mixed = told(1);
        mixed.clients.push(client("127.0.0.1:40000", 1935));
        let datagram = clients::encode(&mixed, origin.source, b"");
        let read = Acceptance::default().read(&routers, &origin, &datagram);
        assert_eq!(read, Some((&routers[0], told(1))));
    }

    #[test]
    fn what_was_recorded_counts_no_more() {
        let routers = [router(&["secret"])];
        let (a, b) = (
            origin("172.16.1.10", "eth0", true),
            origin("172.16.1.11", "eth0", true),
        );
        let mut acceptance = Acceptance::default();
        let mut counts = |origin: &Origin, started_ms, number| {
            let mut told = told(number);
            told.stamp.started_ms = started_ms;
            let datagram = clients::encode(&told, origin.source, b"secret");
            acceptance.read(&routers, origin, &datagram).is_some()
        };
        assert!(counts(&a, 1000, 1));
        assert!(!counts(&a, 1000, 1), "sent again");
        assert!(counts(&a, 1000, 3));
        assert!(!counts(&a, 1000, 2), "older");
        assert!(counts(&b, 1000, 2), "another director");
        assert!(counts(&a, 1001, 1), "started anew");
        assert!(!counts(&a, 1000, 4), "from before its start");
    }
}
