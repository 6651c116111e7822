//! Packets that several CPUs handle at once, and while the agent changes the tables.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use aya::programs::ProgramFd;
use nix::libc;

use packet_bed::frames::*;
use packet_bed::{Bed, service, state};

const XDP_TX: u32 = 3;

/// The program of a bed, for a thread of its own.
struct Program(ProgramFd);

/// `union bpf_attr` of linux/bpf.h for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    program_fd: u32,
    verdict: u32,
    in_bytes: u32,
    out_bytes: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration_ns: u32,
}

impl Program {
    fn of(bed: &Bed) -> Self {
        Self(bed.program().fd().expect("the program can be opened"))
    }

    /// The verdict on `frame`, and the frame afterwards.
    fn judge(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        const BPF_PROG_TEST_RUN: libc::c_long = 10;
        let mut out = vec![0_u8; frame.len() + 256];
        let mut attributes = TestRunAttributes {
            program_fd: self.0.as_fd().as_raw_fd() as u32,
            in_bytes: frame.len() as u32,
            out_bytes: out.len() as u32,
            input: frame.as_ptr() as u64,
            output: out.as_mut_ptr() as u64,
            ..TestRunAttributes::default()
        };
        // SAFETY: the attributes are those of the command, and both buffers live
        // and are as long as they say until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                &raw mut attributes,
                size_of_val(&attributes),
            )
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        out.truncate(attributes.out_bytes as usize);
        (attributes.verdict, out)
    }
}

/// How often threads try to meet. Where one processor does everything, as in an emulated
/// machine, they meet only when the kernel interrupts one of them.
fn rounds() -> u16 {
    if has_one_processor() { 1000 } else { 20_000 }
}

fn has_one_processor() -> bool {
    thread::available_parallelism().is_ok_and(|processors| processors.get() == 1)
}

/// The second packet moves a connection from one table to another; another CPU that
/// looks it up meanwhile finds it.
#[test]
#[ignore = "needs root"]
fn a_connection_is_not_lost_while_another_processor_moves_it() {
    let connections = rounds();
    let Some(bed) = Bed::shared(state([service("172.16.1.200:1935", &["edge 1"])])) else {
        return;
    };
    // Number of times that each thread has reached the start of a round, where both spin
    // so that they begin at the same time.
    let come = AtomicUsize::new(0);
    let turns = if has_one_processor() { 1 } else { 1000 };
    let meet = |meeting: usize| {
        come.fetch_add(1, Ordering::AcqRel);
        for turn in 1_usize.. {
            if come.load(Ordering::Acquire) >= 2 * meeting {
                break;
            }
            if turn.is_multiple_of(turns) {
                thread::yield_now();
            }
        }
    };
    let lost = AtomicUsize::new(0);
    thread::scope(|scope| {
        for is_first in [true, false] {
            let (program, meet, lost) = (Program::of(&bed), &meet, &lost);
            scope.spawn(move || {
                let mut meetings = 1..;
                let mut meet = || meet(meetings.next().expect("it goes on"));
                for port in 1..=connections {
                    let ack = tcp(ALICE, port, A);
                    if is_first {
                        program.judge(&tcp(ALICE, port, S));
                    }
                    meet();
                    let (action, _) = program.judge(&ack);
                    lost.fetch_add(usize::from(action != XDP_TX), Ordering::Relaxed);
                    meet();
                }
            });
        }
    });
    assert_eq!(lost.into_inner(), 0, "of {connections} connections");
}

/// All CPUs share one round robin; none takes the turn by which another one would come
/// to the server that has room.
#[test]
#[ignore = "needs root"]
fn a_server_with_room_is_found_while_another_processor_looks_for_one() {
    const SERVERS: u8 = 64;
    let mut desired = state([service("172.16.1.200:1935", &["edge 1"])]);
    let servers = &mut desired.services[0].servers;
    let only = servers.remove(0);
    for number in 1..=SERVERS {
        let mut server = only.clone();
        server.address.set_ip([172, 16, 3, number].into());
        server.thresholds.upper = u32::from(number != SERVERS);
        servers.push(server);
    }
    let Some(mut bed) = Bed::shared(desired) else {
        return;
    };
    for port in 1..=SERVERS {
        bed.send(&tcp(ALICE, port.into(), S));
    }
    let connections = rounds();
    let refused: usize = thread::scope(|scope| {
        let clients = [BOB, CAROL].map(|client| {
            let program = Program::of(&bed);
            scope.spawn(move || {
                let verdicts = (1..=connections).map(|port| program.judge(&tcp(client, port, S)));
                verdicts.filter(|(action, _)| *action != XDP_TX).count()
            })
        });
        let refused = clients.map(|client| client.join().expect("it ends"));
        refused.iter().sum()
    });
    assert_eq!(refused, 0, "of {} connections", 2 * u32::from(connections));
}

#[test]
#[ignore = "needs root"]
fn no_packet_sees_half_a_change() {
    const CHANGES: usize = 100;
    const EDGE_1: [u8; 6] = [2, 0, 0, 1, 0, 0];
    let viewed = || service("172.16.1.200:1935", &["edge 1"]);
    // Behind other services in every table.
    let others = (1..8).map(|port| service(&format!("172.16.1.200:{port}"), &["edge 2"]));
    let states = [state([viewed()]), state(others.chain([viewed()]))];
    let Some(mut bed) = Bed::shared(states[0].clone()) else {
        return;
    };
    bed.send(&tcp(ALICE, 1, S));
    bed.send(&tcp(ALICE, 1, A));
    let is_over = AtomicBool::new(false);
    let program = Program::of(&bed);
    let (judged, wrong) = thread::scope(|scope| {
        let judge = scope.spawn(|| {
            let (mut judged, mut wrong) = (0, 0);
            let mut ports = (2..=u16::MAX).cycle();
            while !is_over.load(Ordering::Relaxed) {
                let opens = tcp(BOB, ports.next().expect("it goes on"), S);
                for frame in [opens, tcp(ALICE, 1, A)] {
                    let (action, out) = program.judge(&frame);
                    judged += 1;
                    wrong += usize::from(action != XDP_TX || out[..6] != EDGE_1);
                }
            }
            (judged, wrong)
        });
        let mut changes = states.iter().cycle().take(CHANGES);
        let outcome = changes.try_for_each(|state| bed.dataplane.apply(state).map(drop));
        is_over.store(true, Ordering::Relaxed);
        outcome.expect("the states are applied");
        judge.join().expect("it ends")
    });
    assert!(judged > 0, "no packet came meanwhile");
    assert_eq!(wrong, 0, "of {judged} packets");
}
