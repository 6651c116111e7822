//! The fuzz target of `vrrp`. Called by `cargo fuzz` and, with the corpus that is kept in the
//! repository, by a plain test of `vrrp`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use lb_model::config::HmacMode;
use net_types::internet_checksum;
use vrrp::packet::{
    Datagram, Format, Key, Password, Senders, SignatureSettings, Signatures, TIME_TO_LIVE, Version,
};

/// An advert that arrives: one that is accepted has our number of addresses and its whole
/// length; nobody's is without the key.
pub fn vrrp_adverts(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else {
        return;
    };
    let is_ipv6 = flags & 1 != 0;
    let version = match flags & 3 {
        0 => Version::V2,
        _ => Version::V3,
    };
    let password = (version == Version::V2 && flags & 4 != 0).then(|| Password::new("secret"));
    let addresses: &[IpAddr] = match is_ipv6 {
        true => &["fe80::1".parse().unwrap(), "2001:db8::5".parse().unwrap()],
        false => &["10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap()],
    };
    let format = Format::new(version, 51, addresses, password, Duration::from_secs(1));
    let format = format.expect("it is possible");
    // Over IPv4 a raw socket gives the header, too.
    let with_header = Datagram::from_ipv4(bytes).ok().filter(|_| !is_ipv6);
    let source: IpAddr = match is_ipv6 {
        true => "fe80::7".parse().unwrap(),
        false => "10.0.0.7".parse().unwrap(),
    };
    let mut payload = with_header.map_or(bytes, |it| it.payload).to_vec();
    if flags & 8 != 0 && version == Version::V2 && payload.len() > 8 {
        // Nobody guesses a checksum.
        payload[6..8].fill(0);
        let checksum = internet_checksum(&[&payload]);
        payload[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
    let datagram = Datagram {
        source: with_header.map_or(source, |it| it.source),
        destination: with_header.map_or(format.multicast_group(), |it| it.destination),
        time_to_live: with_header.map_or(TIME_TO_LIVE, |it| it.time_to_live),
        payload: &payload,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut signatures = signatures();
    let signed = format.check_signed(
        &datagram,
        Senders::OnLink,
        Some((&mut signatures, None)),
        now,
    );
    assert!(signed.is_err(), "{signed:?} without the key");
    if let Ok(advert) = format.check_signed(&datagram, Senders::OnLink, None, now) {
        assert_eq!(advert.source, datagram.source);
        assert!(!advert.interval.is_zero());
        let length = format
            .encode(advert.priority, datagram.source, datagram.destination)
            .len();
        assert_eq!(datagram.payload.len(), length);
    }
    // What we send with the key is accepted, once.
    let priority = bytes.first().copied().unwrap_or_default();
    let sequence = signatures.next_sequence(now).expect("it is signed");
    let (source, destination) = (datagram.source, datagram.destination);
    let sent = format.encode_signed(priority, source, destination, &signatures, sequence);
    let datagram = Datagram {
        time_to_live: TIME_TO_LIVE,
        payload: &sent,
        ..datagram
    };
    for is_first in [true, false] {
        let signatures = Some((&mut signatures, None));
        let read = format.check_signed(&datagram, Senders::OnLink, signatures, now);
        assert_eq!(read.is_ok(), is_first, "{read:?}");
    }
}

fn signatures() -> Signatures {
    Signatures::new(SignatureSettings {
        keys: vec![Key {
            id: 7,
            bytes: b"a key that nobody guesses".to_vec(),
        }],
        active_key: 7,
        time_window: Some(30),
        mode: HmacMode::Enforce,
    })
}
