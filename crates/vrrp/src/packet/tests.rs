mod signed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const US: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 1, 208));
const GROUP: IpAddr = IpAddr::V4(MULTICAST_V4);

fn deployment() -> Format {
    let address = Ipv4Addr::new(172, 16, 1, 200).into();
    let password = Some(Password::new("1111"));
    Format::new(
        Version::V2,
        51,
        &[address],
        password,
        Duration::from_secs(1),
    )
    .expect("valid")
}

fn version_3(addresses: &[IpAddr]) -> Format {
    Format::new(Version::V3, 51, addresses, None, Duration::from_millis(250)).expect("valid")
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: US,
        destination: GROUP,
        time_to_live: TIME_TO_LIVE,
        payload,
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn the_advert_of_the_deployment_is_keepaliveds_byte_for_byte() {
    let expected = bytes("2133 6401 0101 698f ac10 01c8 3131 3131 0000 0000");
    assert_eq!(deployment().encode(100, US, GROUP), expected);
}

#[test]
fn the_last_advert_of_the_deployment_is_keepaliveds_byte_for_byte() {
    let expected = bytes("2133 0001 0101 cd8f ac10 01c8 3131 3131 0000 0000");
    assert_eq!(deployment().encode(PRIORITY_LEAVING, US, GROUP), expected);
}

#[test]
fn version_2_without_a_password_still_carries_its_eight_bytes() {
    let address = Ipv4Addr::new(172, 16, 1, 200).into();
    let format = Format::new(Version::V2, 51, &[address], None, Duration::from_secs(1));
    let advert = format.expect("valid").encode(100, US, GROUP);
    assert_eq!(advert[4], 0, "authentication type");
    assert_eq!(advert[12..], [0; 8]);
}

#[test]
fn version_3_tells_its_interval_in_hundredths_of_a_second() {
    let format = version_3(&[Ipv4Addr::new(172, 16, 1, 200).into()]);
    let advert = format.encode(100, US, GROUP);
    assert_eq!(advert[..6], bytes("3133 6401 0019"));
    assert_eq!(advert.len(), 12, "no password");
}

#[test]
fn version_3_over_ipv4_is_keepaliveds_byte_for_byte() {
    let address = Ipv4Addr::new(172, 16, 1, 201).into();
    let format = Format::new(
        Version::V3,
        52,
        &[address],
        None,
        Duration::from_millis(250),
    );
    let expected = bytes("3134 c801 0019 ca67 ac10 01c9");
    assert_eq!(format.expect("valid").encode(200, US, GROUP), expected);
}

#[test]
fn version_3_over_ipv6_is_keepaliveds_byte_for_byte() {
    let addresses = ["fe80::200", "2001:db8::200"].map(|text| text.parse().expect("an address"));
    let format = Format::new(
        Version::V3,
        53,
        &addresses,
        None,
        Duration::from_millis(500),
    );
    let source = "fe80::e4d1:11ff:feba:d6ac".parse().expect("an address");
    let expected = bytes(
        "3135 c802 0032 0bf5
         fe80 0000 0000 0000 0000 0000 0000 0200
         2001 0db8 0000 0000 0000 0000 0000 0200",
    );
    let advert = format
        .expect("valid")
        .encode(200, source, MULTICAST_V6.into());
    assert_eq!(advert, expected);
}

/// Everything that can be wrong with an advert, one mistake at a time.
#[test]
fn each_fault_of_an_advert_is_refused_by_its_name() {
    let format = deployment();
    let good = format.encode(100, US, GROUP);
    // A mistake, the byte it is made in, what stands there then.
    let table = [
        (Refusal::Version, 0, 0x31),
        (Refusal::Version, 0, 0x11),
        (Refusal::AuthenticationType, 4, 0),
        (Refusal::AuthenticationType, 4, 2),
        (Refusal::Password, 12, b'2'),
        (Refusal::Password, 16, b'1'),
        (Refusal::Interval, 5, 2),
        (Refusal::Type, 0, 0x22),
        (Refusal::VirtualRouterId, 1, 52),
        (Refusal::AddressCount, 3, 2),
        (Refusal::Checksum, 2, 101),
        (Refusal::Checksum, 6, 0),
    ];
    for (expected, at, value) in table {
        let mut advert = good.clone();
        advert[at] = value;
        let result = format.check(&datagram(&advert), Senders::OnLink);
        assert_eq!(result, Err(expected), "byte {at} set to {value:#x}");
    }
    let result = format.check(&datagram(&good[..19]), Senders::OnLink);
    assert_eq!(
        result,
        Err(Refusal::Password),
        "keepalived looks for it at the end"
    );
    let result = format.check(&datagram(&good[..7]), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Length));
    let mut longer = good.clone();
    longer.splice(12..12, [0; 4]);
    let result = format.check(&datagram(&longer), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Length), "four bytes too many");
}

#[test]
fn an_advert_that_names_other_addresses_is_refused() {
    let elsewhere = Ipv4Addr::new(172, 16, 1, 201).into();
    let password = Some(Password::new("1111"));
    let other = Format::new(
        Version::V2,
        51,
        &[elsewhere],
        password,
        Duration::from_secs(1),
    );
    let advert = other.expect("valid").encode(100, US, GROUP);
    let result = deployment().check(&datagram(&advert), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Addresses));
}

#[test]
fn addresses_may_come_in_any_order() {
    let [first, second] = [[172, 16, 1, 200], [172, 16, 1, 201]].map(IpAddr::from);
    let advert = version_3(&[first, second]).encode(7, US, GROUP);
    let checked = version_3(&[second, first]).check(&datagram(&advert), Senders::OnLink);
    assert_eq!(checked.map(|advert| advert.priority), Ok(7));
}

#[test]
fn a_password_is_no_address() {
    let address = |last| IpAddr::from([b'1', b'1', b'1', last]);
    let format = |address| {
        let password = Some(Password::new("1111"));
        Format::new(
            Version::V2,
            51,
            &[address],
            password,
            Duration::from_secs(1),
        )
        .expect("valid")
    };
    let advert = format(address(2)).encode(100, US, GROUP);
    let result = format(address(b'1')).check(&datagram(&advert), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Addresses));
}

#[test]
fn an_advert_that_crossed_a_router_counts_only_among_unicast_peers() {
    let format = deployment();
    let advert = format.encode(100, US, GROUP);
    let routed = Datagram {
        time_to_live: 254,
        ..datagram(&advert)
    };
    let peer = |last, time_to_live| Peer {
        address: [172, 16, 1, last].into(),
        time_to_live,
    };
    let table = [
        (Senders::OnLink, Err(Refusal::TimeToLive)),
        (Senders::Anyone, Ok(US)),
        (
            Senders::Peers(&[peer(9, 0..=255), peer(208, 254..=255)]),
            Ok(US),
        ),
        (
            Senders::Peers(&[peer(208, 255..=255)]),
            Err(Refusal::TimeToLive),
        ),
        (Senders::Peers(&[peer(9, 0..=255)]), Err(Refusal::Sender)),
    ];
    for (senders, expected) in table {
        let result = format.check(&routed, senders).map(|advert| advert.source);
        assert_eq!(result, expected, "{senders:?}");
    }
}

#[test]
fn version_3_over_ipv4_is_believed_with_and_without_pseudo_header() {
    let format = version_3(&[Ipv4Addr::new(172, 16, 1, 200).into()]);
    let mut advert = format.encode(100, US, GROUP);
    let checked = format.check(&datagram(&advert), Senders::OnLink);
    let interval = checked.expect("believed").interval;
    assert_eq!(interval, Duration::from_millis(250));
    advert[6..8].fill(0);
    let checksum = internet_checksum(&[&advert]);
    advert[6..8].copy_from_slice(&checksum.to_be_bytes());
    assert!(format.check(&datagram(&advert), Senders::OnLink).is_ok());
    advert[6] ^= 1;
    let result = format.check(&datagram(&advert), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Checksum));
}

#[test]
fn version_3_without_a_pause_is_refused() {
    let format = version_3(&[Ipv4Addr::new(172, 16, 1, 200).into()]);
    let mut advert = format.encode(100, US, GROUP);
    advert[4..6].fill(0);
    let result = format.check(&datagram(&advert), Senders::OnLink);
    assert_eq!(result, Err(Refusal::Interval));
}

#[test]
fn an_ipv6_advert_whose_addresses_were_changed_on_the_way_is_refused() {
    let us: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
    let format = version_3(&["fe80::200".parse().expect("an address")]);
    let advert = format.encode(100, us, MULTICAST_V6.into());
    let arrived = Datagram {
        source: us,
        destination: MULTICAST_V6.into(),
        ..datagram(&advert)
    };
    assert!(format.check(&arrived, Senders::OnLink).is_ok());
    let forged = Datagram {
        source: "fe80::2".parse().expect("an address"),
        ..arrived
    };
    assert_eq!(
        format.check(&forged, Senders::OnLink),
        Err(Refusal::Checksum)
    );
}

#[test]
fn what_cannot_be_told_is_refused_at_the_start() {
    let v4: IpAddr = [10, 0, 0, 1].into();
    let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
    let second = Duration::from_secs(1);
    let password = Some(Password::new("1111"));
    let format = |version, id, addresses: &[IpAddr], password, interval| {
        Format::new(version, id, addresses, password, interval).err()
    };
    use FormatError as E;
    use Version::{V2, V3};
    assert_eq!(format(V2, 0, &[v4], None, second), Some(E::VirtualRouterId));
    assert_eq!(
        format(V2, 1, &[], None, second),
        None,
        "keepalived allows it"
    );
    assert_eq!(
        format(V3, 1, &[], None, second),
        Some(E::NoAddressInVersion3)
    );
    assert_eq!(
        format(V2, 1, &[v4; 256], None, second),
        Some(E::AddressCount(256))
    );
    assert_eq!(
        format(V3, 1, &[v4, v6], None, second),
        Some(E::MixedFamilies)
    );
    assert_eq!(format(V2, 1, &[v6], None, second), Some(E::Ipv6InVersion2));
    assert_eq!(
        format(V3, 1, &[v4], password, second),
        Some(E::PasswordInVersion3)
    );
    for interval in [second / 2, second * 256, Duration::ZERO] {
        assert_eq!(
            format(V2, 1, &[v4], None, interval),
            Some(E::IntervalInVersion2(interval))
        );
    }
    for interval in [second / 1000, second * 41, Duration::ZERO] {
        assert_eq!(
            format(V3, 1, &[v4], None, interval),
            Some(E::IntervalInVersion3(interval))
        );
    }
    assert_eq!(
        format(V3, 1, &[v6], None, Duration::from_millis(40_950)),
        None
    );
}

#[test]
fn only_the_first_eight_bytes_of_a_password_count() {
    assert_eq!(Password::new("12345678"), Password::new("123456789"));
    assert_ne!(Password::new("1234567"), Password::new("12345678"));
}

#[test]
fn an_ipv4_header_with_options_is_taken_off_whole() {
    let advert = deployment().encode(100, US, GROUP);
    let mut packet = vec![0x46, 0xc0, 0, 44, 0, 0, 0, 0, 255, 112, 0, 0];
    packet.extend([172, 16, 1, 208, 224, 0, 0, 18]);
    packet.extend([0x94, 4, 0, 0]);
    packet.extend(&advert);
    assert_eq!(Datagram::from_ipv4(&packet), Ok(datagram(&advert)));
    assert_eq!(
        Datagram::from_ipv4(&packet[..43]),
        Err(Refusal::Length),
        "cut short"
    );
    packet[0] = 0x4f;
    assert_eq!(
        Datagram::from_ipv4(&packet),
        Err(Refusal::Length),
        "a header past the end"
    );
}

fn formats() -> impl Strategy<Value = Format> {
    let v4 = prop::collection::vec(any::<Ipv4Addr>().prop_map(IpAddr::from), 1..20);
    let v6 = prop::collection::vec(any::<Ipv6Addr>().prop_map(IpAddr::from), 1..20);
    let version_2 = (
        1..=255u8,
        v4.clone(),
        prop::option::of(".{0,9}"),
        1..=255u64,
    )
        .prop_map(|(id, addresses, password, seconds)| {
            let password = password.map(|text| Password::new(&text));
            let interval = Duration::from_secs(seconds);
            Format::new(Version::V2, id, &addresses, password, interval).expect("valid")
        });
    let version_3 =
        (1..=255u8, prop_oneof![v4, v6], 1..=4095u32).prop_map(|(id, addresses, centiseconds)| {
            let interval = CENTISECOND * centiseconds;
            Format::new(Version::V3, id, &addresses, None, interval).expect("valid")
        });
    prop_oneof![version_2, version_3]
}

proptest! {
    #[test]
    fn what_is_sent_is_believed(format in formats(), priority: u8) {
        let (source, destination) = match format.is_ipv6() {
            false => (US, GROUP),
            true => (Ipv6Addr::LOCALHOST.into(), MULTICAST_V6.into()),
        };
        let payload = format.encode(priority, source, destination);
        let datagram = Datagram { source, destination, time_to_live: 255, payload: &payload };
        let interval = format.interval();
        let expected = Ok(Advert { source, priority, interval });
        prop_assert_eq!(format.check(&datagram, Senders::OnLink), expected);
    }

    #[test]
    fn an_advert_with_a_flipped_bit_is_not_believed(
        format in formats(),
        priority: u8,
        at: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let (source, destination) = match format.is_ipv6() {
            false => (US, GROUP),
            true => (Ipv6Addr::LOCALHOST.into(), MULTICAST_V6.into()),
        };
        let mut payload = format.encode(priority, source, destination);
        let at = at.index(payload.len());
        payload[at] ^= 1u8 << bit;
        let datagram = Datagram { source, destination, time_to_live: 255, payload: &payload };
        prop_assert!(format.check(&datagram, Senders::OnLink).is_err());
    }

    #[test]
    fn nothing_that_arrives_can_break_the_receiver(
        format in formats(),
        packet in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        if let Ok(datagram) = Datagram::from_ipv4(&packet) {
            let _ = format.check(&datagram, Senders::OnLink);
        }
        // The same as a payload, behind a header that looks right.
        let _ = format.check(&datagram(&packet), Senders::OnLink);
    }
}

/// As many as keepalived 2.2.7 says, tried at these MTUs: "Number of VIPs (…)
/// exceeds maximum/space available in packet (max 131 addresses)".
#[test]
fn adverts_name_as_many_addresses_as_keepaliveds_do_on_such_an_interface() {
    let v4 = [Ipv4Addr::new(10, 9, 0, 1).into(); 200];
    let mut format = Format::new(Version::V2, 8, &v4, None, Duration::from_secs(1)).expect("valid");
    assert_eq!(format.fit(1500, 0), None);
    assert_eq!(format.encode(100, US, GROUP)[3], 200);
    assert_eq!(format.fit(576, 0), Some(131));
    assert_eq!(format.encode(100, US, GROUP)[3], 131);

    let mut format = version_3(&[Ipv6Addr::LOCALHOST.into(); 121]);
    assert_eq!(format.fit(1500, 0), Some(89));
    assert_eq!(format.fit(1500, 0), None, "they fit now");
}
