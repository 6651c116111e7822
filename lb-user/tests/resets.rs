//! A viewer whose server is gone is told so: a real TCP connection in a network
//! namespace of its own. Needs root.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd as _;

use etherparse::PacketBuilder;
use lb_model::OrphanPolicy;
use lb_user::resets::{Job, ResetReport, Resets};
use netbed::alone::{ip, on_a_host_of_its_own};
use netbed::{TIME_LIMIT, wait_for};
use nix::libc;
use nix::sched::CloneFlags;

use packet_bed::{Bed, DIRECTOR, ROUTER, server, service, state};

/// A viewer, the server at the other end, and the service's address, which
/// nobody holds any more when this returns.
fn viewer(service: &str, client: &str) -> (TcpStream, TcpStream) {
    let family = if service.starts_with('[') { "-6" } else { "-4" };
    let bare = |end: &str| end.parse::<SocketAddr>().expect("an end").ip().to_string();
    for end in [service, client] {
        let (address, length) = (bare(end), if family == "-6" { 128 } else { 32 });
        let nodad = if family == "-6" { " nodad" } else { "" };
        ip(&format!(
            "{family} addr add {address}/{length} dev lo{nodad}"
        ));
    }
    let listener = TcpListener::bind(service).expect("the address is there");
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(client.parse().expect("an end")),
        socket2::Type::STREAM,
        None,
    )
    .expect("a socket");
    let end = |end: &str| end.parse::<SocketAddr>().expect("an end").into();
    socket.bind(&end(client)).expect("the address is there");
    // An address of IPv6 is there before the kernel has a route to it.
    wait_for("a connection", || socket.connect(&end(service)).is_ok());
    let (served, _) = listener.accept().expect("accepted");
    let viewer = TcpStream::from(socket);
    viewer
        .set_read_timeout(Some(TIME_LIMIT))
        .expect("a time-out can be set");
    // A director need not hold the address that it answers for.
    let length = if family == "-6" { 128 } else { 32 };
    ip(&format!(
        "{family} addr del {}/{length} dev lo",
        bare(service)
    ));
    (viewer, served)
}

/// The sequence number that the stack awaits on `socket` (`TCP_REPAIR`, tcp.h).
fn awaited_sequence(socket: &TcpStream) -> u32 {
    const TCP_RECV_QUEUE: libc::c_int = 1;
    let set = |option, value: libc::c_int| {
        // SAFETY: the option is an int, and lives until the call returns.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as u32,
            )
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    };
    set(libc::TCP_REPAIR, 1);
    set(libc::TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
    let (mut sequence, mut length) = (0_u32, 4);
    // SAFETY: the option is four bytes, and both live until the call returns.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUEUE_SEQ,
            (&raw mut sequence).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // Without a window probe, which would be answered.
    set(libc::TCP_REPAIR, -1);
    sequence
}

/// Frames by which the packet path learns of the connection: a SYN, and a
/// segment that acknowledges everything before `sequence`.
fn introduction(from: SocketAddr, to: SocketAddr, sequence: u32) -> [Vec<u8>; 2] {
    let ethernet = || PacketBuilder::ethernet2(ROUTER, DIRECTOR);
    let network = || match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet().ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet().ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => panic!("both ends are of one family"),
    };
    let segment = || network().tcp(from.port(), to.port(), 1000, 65_535);
    [segment().syn(), segment().ack(sequence)].map(|segment| {
        let mut frame = Vec::new();
        segment.write(&mut frame, &[]).expect("a vector takes it");
        frame
    })
}

/// Has the agent's part done for a viewer that has last acknowledged what lies
/// before `sequence`, and whose server dies then.
fn server_dies(viewer: &TcpStream, sequence: u32) -> ResetReport {
    server_dies_after(viewer, sequence, false, false)
}

/// The same. `taken_over`: only the viewer's later packets have come to this director.
/// `second_chance`: servers pass packets on.
fn server_dies_after(
    viewer: &TcpStream,
    sequence: u32,
    taken_over: bool,
    second_chance: bool,
) -> ResetReport {
    let (client, vip) = (
        viewer.local_addr().expect("its own end"),
        viewer.peer_addr().expect("its other end"),
    );
    let mut one = service("172.16.1.200:1935", &[]);
    one.address = vip;
    one.servers = vec![server("edge 1", vip.port())];
    one.sloppy = taken_over;
    let second_chance = second_chance.then_some(vip).into_iter().collect();
    let mut bed = Bed::new(state([one])).expect("root may load the program");
    let frames = introduction(client, vip, sequence);
    // The first ack enters a connection that is taken over, the second one establishes it.
    let frames = if taken_over {
        [&frames[1], &frames[1]]
    } else {
        frames.each_ref()
    };
    for frame in frames {
        bed.send(frame);
    }
    bed.desired.services[0].servers[0].alive = false;
    let changes = bed.dataplane.apply(&bed.desired).expect("applies");
    assert_eq!(changes.removed_servers.len(), 1, "{changes:?}");
    assert_eq!(changes.removed_servers[0].orphans, OrphanPolicy::Reset);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    Resets::start(tell).start_job(Job {
        snapshot: bed.dataplane.conntrack_snapshot(),
        removed: changes.removed_servers,
        rate: NonZeroU32::new(1000).expect("not zero"),
        second_chance,
    });
    told.blocking_recv().expect("a report")
}

/// `TcpExt` of netstat(8): how often the stack has asked back.
fn challenges() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").expect("readable");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut both = names.split(' ').zip(values.split(' '));
    let found = both.find(|(name, _)| *name == "TCPChallengeACK");
    found
        .expect("this kernel counts them")
        .1
        .parse()
        .expect("a number")
}

fn assert_reset(mut viewer: TcpStream) {
    let error = viewer.read(&mut [0]).expect_err("nothing was ever sent");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_viewer_takes_the_reset_with_the_number_that_it_last_acknowledged() {
    for (service, client) in [
        ("10.9.0.200:1935", "10.9.0.2:5000"),
        ("[2001:db8:9::c8]:1935", "[2001:db8:9::2]:5000"),
    ] {
        on_a_host_of_its_own(CloneFlags::empty(), move || {
            let (viewer, _server) = viewer(service, client);
            let told = server_dies(&viewer, awaited_sequence(&viewer));
            assert_eq!((told.viewers, &told.failed), (1, &None), "{service}");
            assert_reset(viewer);
        });
    }
}

#[test]
#[ignore = "needs root"]
fn a_connection_that_another_server_may_have_is_not_reset() {
    for (taken_over, second_chance, viewers) in
        [(true, true, 0), (true, false, 1), (false, true, 1)]
    {
        on_a_host_of_its_own(CloneFlags::empty(), move || {
            let (viewer, _server) = viewer("10.9.0.200:1935", "10.9.0.2:5000");
            let sequence = awaited_sequence(&viewer);
            let told = server_dies_after(&viewer, sequence, taken_over, second_chance);
            assert_eq!(told.viewers, viewers, "{taken_over} {second_chance}");
            if viewers == 1 {
                assert_reset(viewer);
            } else {
                viewer.set_nonblocking(true).expect("it can be set");
                let error = (&viewer).read(&mut [0]).expect_err("nothing was sent");
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            }
        });
    }
}

#[test]
#[ignore = "needs root"]
fn a_viewer_whose_last_acknowledgement_was_lost_asks_back() {
    on_a_host_of_its_own(CloneFlags::empty(), || {
        let (viewer, _server) = viewer("10.9.0.200:1935", "10.9.0.2:5000");
        let late = awaited_sequence(&viewer).wrapping_sub(5000);
        let before = challenges();
        let told = server_dies(&viewer, late);
        assert_eq!((told.viewers, told.failed), (1, None));
        // What it says then is answered by the packet path, with its own number.
        wait_for("a challenge ACK", || challenges() != before);
    });
}
