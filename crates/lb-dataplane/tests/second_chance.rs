//! The program of the second chance: what becomes of packets, with real sockets in a
//! network namespace of the test's own. Needs root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, TcpHeader};
use lb_dataplane::Error;
use lb_dataplane::second_chance::{
    Counts, Hop, LEFT_ALONE, NextHops, PASSED_ON, SecondChance, ServiceHops,
};
use net_types::MacAddress;
use nix::sched::CloneFlags;
use socket2::{Domain, Protocol, Socket, Type};

/// The address of the loopback interface, which test runs come in by.
const OWN: [u8; 6] = [0; 6];
const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// The server that is asked first.
const FIRST: [u8; 6] = [2, 0, 0, 0, 0, 11];
/// The server that is asked after this one.
const NEXT: [u8; 6] = [2, 0, 0, 0, 0, 12];

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 200);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 201);
/// The port of a client without a connection here.
const STRANGER: u16 = 40_000;

const HOPS: u8 = 64;

/// The place of the only service at `vip`: every packet has the same next servers.
fn service(vip: IpAddr, port: u16) -> ServiceHops {
    let hop = |server: [u8; 6], generation| Hop {
        server: MacAddress(server),
        generation,
    };
    let next = NextHops {
        from_director: Some(hop(FIRST, 0)),
        from_server: Some(hop(NEXT, 3)),
    };
    ServiceHops {
        address: SocketAddr::new(vip, port),
        hash_port: true,
        places: vec![next; 61],
    }
}

/// Runs `test` with the program, which does what `service` says for `vip` and a port of its
/// own, and with a listener there.
fn with_program(
    vip: impl Into<IpAddr>,
    test: impl FnOnce(SecondChance, TcpListener, u16) + Send + 'static,
) {
    let vip = vip.into();
    netbed::alone::on_a_host_of_its_own(CloneFlags::empty(), move || {
        let mut program = match SecondChance::load(1024) {
            Ok(program) => program,
            Err(error @ Error::MissingCapability { .. }) => netbed::skip!("{error}"),
            Err(error) => panic!("{error}"),
        };
        let listener = TcpListener::bind((vip, 0)).expect("it listens");
        let port = listener.local_addr().expect("its address").port();
        program
            .apply(&[service(vip, port)])
            .expect("there is room for one service");
        test(program, listener, port);
    });
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The next program, or the stack, gets it as it is.
    LeftAlone,
    /// It goes to the server with this MAC address, and has one hop less.
    PassedOn([u8; 6]),
}

use Fate::{LeftAlone, PassedOn};

/// Sends a frame through the program; whatever must hold of each is checked.
fn fate(program: &mut SecondChance, frame: &[u8]) -> Fate {
    let run = program.test_run(frame, 1).expect("it runs");
    if run.action == LEFT_ALONE {
        assert_eq!(run.frame, frame, "it is as it was");
        return LeftAlone;
    }
    assert_eq!(run.action, PASSED_ON, "the action of a redirection");
    let (macs, packet) = run.frame.split_at(12);
    assert_eq!(&macs[6..], OWN, "it comes from this server");
    let mut expected = frame[12..].to_vec();
    if expected[..2] == [8, 0] {
        expected[2 + 8] -= 1;
        let header = &mut expected[2..22];
        header[10..12].fill(0);
        let checksum = net_types::internet_checksum(&[&*header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        expected[2 + 7] -= 1;
    }
    assert_eq!(packet, expected, "only the hops have changed");
    PassedOn(macs[..6].try_into().expect("six bytes"))
}

/// A segment with the flags that `set` sets.
fn segment(
    from: [u8; 6],
    to: Ipv4Addr,
    ports: (u16, u16),
    hops: u8,
    set: fn(&mut TcpHeader),
) -> Vec<u8> {
    let mut header = TcpHeader::new(ports.0, ports.1, 1000, 65_535);
    set(&mut header);
    let builder = PacketBuilder::ethernet2(from, OWN).ipv4(CLIENT.octets(), to.octets(), hops);
    let builder = builder.tcp_header(header);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"").expect("a vector takes it");
    frame
}

fn ack(header: &mut TcpHeader) {
    header.ack = true;
    header.acknowledgment_number = 5000;
}

fn syn(header: &mut TcpHeader) {
    header.syn = true;
}

/// A connection from [`CLIENT`], and its port.
fn connect(vip: IpAddr, port: u16, client: IpAddr) -> (TcpStream, u16) {
    let socket =
        Socket::new(Domain::for_address((vip, port).into()), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(client, 0).into())
        .expect("the client's address");
    socket
        .connect(&SocketAddr::new(vip, port).into())
        .expect("connected");
    let stream: TcpStream = socket.into();
    let client_port = stream.local_addr().expect("its address").port();
    (stream, client_port)
}

#[test]
#[ignore = "needs root"]
fn packets_of_connections_elsewhere_are_passed_on() {
    with_program(VIP, |mut program, listener, port| {
        let (_client, known) = connect(VIP.into(), port, CLIENT.into());
        let (accepted, _) = listener.accept().expect("the connection");
        let (closing, closed) = connect(VIP.into(), port, CLIENT.into());
        let (ended, _) = listener.accept().expect("the connection");
        // The server ends first, so that it remembers the connection (TIME_WAIT).
        drop(ended);
        drop(closing);
        let cases: &[(&str, Vec<u8>, Fate)] = &[
            (
                "a segment of a connection that this server has",
                segment(DIRECTOR, VIP, (known, port), HOPS, ack),
                LeftAlone,
            ),
            (
                "a segment of a connection that this server has just ended",
                segment(DIRECTOR, VIP, (closed, port), HOPS, ack),
                LeftAlone,
            ),
            (
                "a segment of a connection that it does not have, from a director",
                segment(DIRECTOR, VIP, (STRANGER, port), HOPS, ack),
                PassedOn(FIRST),
            ),
            (
                "the same, passed on by another server",
                segment(FIRST, VIP, (STRANGER, port), HOPS, ack),
                PassedOn(NEXT),
            ),
            (
                "a segment that ends a connection elsewhere",
                segment(DIRECTOR, VIP, (STRANGER, port), HOPS, |header| {
                    ack(header);
                    header.fin = true;
                }),
                PassedOn(FIRST),
            ),
            (
                "a reset of a connection elsewhere",
                segment(DIRECTOR, VIP, (STRANGER, port), HOPS, |header| {
                    header.rst = true;
                }),
                PassedOn(FIRST),
            ),
            (
                "a segment that opens a connection",
                segment(DIRECTOR, VIP, (STRANGER, port), HOPS, syn),
                LeftAlone,
            ),
            (
                "a segment without a hop left",
                segment(DIRECTOR, VIP, (STRANGER, port), 1, ack),
                LeftAlone,
            ),
            (
                "a segment to an address without a service",
                segment(DIRECTOR, ELSEWHERE, (STRANGER, port), HOPS, ack),
                LeftAlone,
            ),
            (
                "a segment to a port without a service",
                segment(DIRECTOR, VIP, (STRANGER, port ^ 1), HOPS, ack),
                LeftAlone,
            ),
            (
                "an error about a packet of a connection that this server has",
                too_big(VIP, (port, known)),
                LeftAlone,
            ),
            (
                "an error about a packet of a connection elsewhere",
                too_big(VIP, (port, STRANGER)),
                PassedOn(FIRST),
            ),
            ("an echo request", echo_request(VIP), LeftAlone),
            (
                "a datagram to the service's address and port",
                datagram(VIP, port),
                LeftAlone,
            ),
            (
                "a frame that ends within the TCP header",
                segment(DIRECTOR, VIP, (STRANGER, port), HOPS, ack)[..50].to_vec(),
                LeftAlone,
            ),
            (
                "a later fragment",
                {
                    let mut frame = segment(DIRECTOR, VIP, (STRANGER, port), HOPS, ack);
                    frame[21] = 1;
                    frame
                },
                LeftAlone,
            ),
        ];
        for (sentence, frame, expected) in cases {
            assert_eq!(fate(&mut program, frame), *expected, "{sentence}");
        }
        drop(accepted);
        let mut passed_on = vec![0; 8];
        (passed_on[0], passed_on[3]) = (4, 1);
        let counts = Counts {
            passed_on,
            no_target: 0,
            hops_exceeded: 1,
        };
        assert_eq!(program.counts().expect("the counters"), counts);
    });
}

#[test]
#[ignore = "needs root"]
fn ipv6_has_a_second_chance_too() {
    const LOCALHOST: Ipv6Addr = Ipv6Addr::LOCALHOST;
    with_program(LOCALHOST, |mut program, listener, port| {
        let (_client, known) = connect(LOCALHOST.into(), port, LOCALHOST.into());
        let _accepted = listener.accept().expect("the connection");
        let segment = |client_port, hops| {
            let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
                .ipv6(LOCALHOST.octets(), LOCALHOST.octets(), hops)
                .tcp(client_port, port, 1000, 65_535)
                .ack(5000);
            let mut frame = Vec::new();
            builder.write(&mut frame, b"").expect("a vector takes it");
            frame
        };
        let error = |client_port| {
            let quoted = segment(client_port, HOPS);
            let mut quoted = quoted[14..].to_vec();
            // From the service to the client.
            quoted[40..42].copy_from_slice(&port.to_be_bytes());
            quoted[42..44].copy_from_slice(&u16::to_be_bytes(client_port));
            let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
                .ipv6(LOCALHOST.octets(), LOCALHOST.octets(), HOPS)
                .icmpv6(Icmpv6Type::PacketTooBig { mtu: 1280 });
            let mut frame = Vec::new();
            builder
                .write(&mut frame, &quoted)
                .expect("a vector takes it");
            frame
        };
        for (sentence, frame, expected) in [
            ("a connection here", segment(known, HOPS), LeftAlone),
            ("one elsewhere", segment(STRANGER, HOPS), PassedOn(FIRST)),
            ("without a hop left", segment(STRANGER, 1), LeftAlone),
            ("an error about one here", error(known), LeftAlone),
            (
                "an error about one elsewhere",
                error(STRANGER),
                PassedOn(FIRST),
            ),
        ] {
            assert_eq!(fate(&mut program, &frame), expected, "{sentence}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_answer_to_a_syn_cookie_is_for_this_server() {
    with_program(VIP, |mut program, _listener, port| {
        fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").expect("cookies for every SYN");
        let cookie = syn_ack_number(port);
        let answer = |acknowledged: u32| {
            let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
                .ipv4(CLIENT.octets(), VIP.octets(), HOPS)
                .tcp(STRANGER, port, 1001, 65_535)
                .ack(acknowledged);
            let mut frame = Vec::new();
            builder.write(&mut frame, b"").expect("a vector takes it");
            frame
        };
        let right = answer(cookie.wrapping_add(1));
        assert_eq!(fate(&mut program, &right), LeftAlone, "the right answer");
        let wrong = answer(cookie.wrapping_add(77_777));
        assert_eq!(fate(&mut program, &wrong), PassedOn(FIRST), "a wrong one");
    });
}

/// The sequence number with which the listener answers a SYN of [`STRANGER`].
fn syn_ack_number(port: u16) -> u32 {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("a raw socket");
    socket
        .bind(&SocketAddr::new(CLIENT.into(), 0).into())
        .expect("the client's address");
    let mut header = TcpHeader::new(STRANGER, port, 1000, 65_535);
    header.syn = true;
    header.checksum = header
        .calc_checksum_ipv4_raw(CLIENT.octets(), VIP.octets(), &[])
        .expect("a checksum");
    let mut bytes = Vec::new();
    header.write(&mut bytes).expect("a vector takes it");
    socket
        .send_to(&bytes, &SocketAddr::new(VIP.into(), 0).into())
        .expect("sent");
    socket
        .set_read_timeout(Some(netbed::TIME_LIMIT))
        .expect("a time limit");
    loop {
        use std::io::Read as _;
        let mut packet = [0; 256];
        let length = (&socket).read(&mut packet).expect("an answer");
        let segment = &packet[20..length];
        let (header, _) = TcpHeader::from_slice(segment).expect("a TCP header");
        if header.syn && header.ack && header.destination_port == STRANGER {
            return header.sequence_number;
        }
    }
}

#[test]
#[ignore = "needs root"]
fn services_come_change_and_go() {
    with_program(VIP, |mut program, _listener, port| {
        let frame = segment(DIRECTOR, VIP, (STRANGER, port), HOPS, ack);
        let other = segment(DIRECTOR, ELSEWHERE, (STRANGER, port), HOPS, ack);
        assert_eq!(fate(&mut program, &frame), PassedOn(FIRST));
        let mut changed = service(VIP.into(), port);
        changed.places = vec![
            NextHops {
                from_director: Some(Hop {
                    server: MacAddress(NEXT),
                    generation: 9,
                }),
                from_server: None,
            };
            251
        ];
        let added = service(ELSEWHERE.into(), port);
        program.apply(&[added.clone(), changed]).expect("both fit");
        assert_eq!(fate(&mut program, &frame), PassedOn(NEXT));
        assert_eq!(fate(&mut program, &other), PassedOn(FIRST));
        let counts = program.counts().expect("the counters");
        assert_eq!(counts.passed_on[7], 1, "old generations count together");
        program.apply(&[added]).expect("one is gone");
        assert_eq!(fate(&mut program, &frame), LeftAlone);
        let mut last = service(VIP.into(), port);
        last.places = vec![NextHops::default(); 61];
        program.apply(&[last]).expect("it fits");
        assert_eq!(fate(&mut program, &frame), LeftAlone);
        assert_eq!(program.counts().expect("the counters").no_target, 1);
        let mut large = service(VIP.into(), port);
        large.places = vec![NextHops::default(); 1031];
        let refused = program.apply(&[large]).expect_err("there is room for 1024");
        assert!(refused.to_string().contains("--places"), "{refused}");
    });
}

#[test]
#[ignore = "needs root"]
fn it_attaches_to_an_ingress_and_leaves_nothing() {
    netbed::alone::with_interfaces(CloneFlags::empty(), || {
        for _ in 0..2 {
            let mut program = SecondChance::load(61).expect("it loads");
            program.attach("near").expect("it attaches");
            let refused = program.attach("nowhere").expect_err("there is none");
            assert!(refused.to_string().contains("nowhere"), "{refused}");
        }
    });
}

/// The cost of a packet, by the kernel's own measurement. Says figures, judges none.
#[test]
#[ignore = "needs root"]
fn costs_are_measured() {
    const REPEAT: u32 = 200_000;
    with_program(VIP, |mut program, listener, port| {
        let (_client, known) = connect(VIP.into(), port, CLIENT.into());
        let _accepted = listener.accept().expect("the connection");
        let mut stranger = segment(DIRECTOR, VIP, (STRANGER, port), 255, ack);
        let mut cost = |what: &str, frame: &[u8]| {
            // Three times: the best is the least disturbed.
            let runs = (0..3).map(|_| program.test_run(frame, REPEAT).expect("it runs").duration);
            println!("{what}: {} ns", runs.min().expect("three").as_nanos());
        };
        let elsewhere = segment(DIRECTOR, ELSEWHERE, (STRANGER, port), HOPS, ack);
        cost("no service", &elsewhere);
        cost(
            "a connection here",
            &segment(DIRECTOR, VIP, (known, port), HOPS, ack),
        );
        cost(
            "a SYN",
            &segment(DIRECTOR, VIP, (STRANGER, port), HOPS, syn),
        );
        // Its hops and MAC addresses change with the first run: it then has no hop left
        // or is passed on all the same; either way a place is looked up.
        stranger[6] = 4;
        cost("a connection elsewhere", &stranger);
    });
}

/// "Fragmentation needed" about a packet from the service to the client.
fn too_big(vip: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let quoted = PacketBuilder::ipv4(vip.octets(), CLIENT.octets(), 60)
        .tcp(ports.0, ports.1, 9000, 1000)
        .ack(7);
    let mut packet = Vec::new();
    quoted.write(&mut packet, b"").expect("a vector takes it");
    // As little as a router may quote (RFC 792).
    packet.truncate(28);
    let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
        .ipv4([10, 0, 0, 1], vip.octets(), HOPS)
        .icmpv4(Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
        ));
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &packet)
        .expect("a vector takes it");
    frame
}

fn echo_request(vip: Ipv4Addr) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
        .ipv4(CLIENT.octets(), vip.octets(), HOPS)
        .icmpv4_echo_request(1, 1);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &[0; 64])
        .expect("a vector takes it");
    frame
}

fn datagram(vip: Ipv4Addr, port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(DIRECTOR, OWN)
        .ipv4(CLIENT.octets(), vip.octets(), HOPS)
        .udp(STRANGER, port);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &[0; 64])
        .expect("a vector takes it");
    frame
}
