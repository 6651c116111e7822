//! What native XDP on veth needs beside the program under test.
//!
//! A veth device delivers packets that its driver's XDP program sent back
//! (`XDP_TX`) only if the peer has an XDP program of its own; and a packet whose
//! sender left the checksum to the hardware loses it on that way, so that
//! senders must compute it themselves.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;

use netbed::{Host, INTERFACE};

/// Lets XDP run natively on the host at `port` of the switch. The program at
/// the switch's end stays as long as the returned file is open.
pub(crate) fn prepare(switch: &Host, port: &str, senders: &[&Host]) -> Result<File> {
    for sender in senders {
        sender
            .sh(&format!("ethtool --offload {INTERFACE} tx off"))
            .context("ethtool comes with Debian's package ethtool")?;
    }
    let port = port.to_owned();
    switch.within(move || attach_pass(&port))
}

/// Attaches a program that passes everything to an interface of this namespace.
fn attach_pass(interface: &str) -> Result<File> {
    const XDP_PASS: i32 = 2;
    // `r0 = XDP_PASS; exit` (RFC 9669 §4, §5).
    let program = [Instruction::new(0xb7, XDP_PASS), Instruction::new(0x95, 0)];
    let load = ProgLoad {
        prog_type: 6, // BPF_PROG_TYPE_XDP
        insn_cnt: u32::try_from(program.len())?,
        insns: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..ProgLoad::default()
    };
    let program = bpf(5, &load).context("BPF_PROG_LOAD of an empty XDP program failed")?; // needs CAP_BPF
    let link = LinkCreate {
        prog_fd: u32::try_from(program.as_raw_fd())?,
        target_ifindex: if_nametoindex(interface)?,
        attach_type: 37, // BPF_XDP
        flags: 1 << 2,   // XDP_FLAGS_DRV_MODE
    };
    let link = bpf(28, &link).with_context(|| format!("cannot attach XDP to {interface}"))?;
    Ok(link.into())
}

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(opcode: u8, immediate: i32) -> Self {
        Self {
            opcode,
            registers: 0,
            offset: 0,
            immediate,
        }
    }
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that every kernel knows.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part of `union bpf_attr` for `BPF_LINK_CREATE` that XDP needs.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// bpf(2) for the commands that return a file descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: `attributes` is a `repr(C)` struct without padding that the kernel
    // reads for as many bytes as we say; pointers in it are alive in the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            std::mem::size_of::<T>(),
        )
    };
    let descriptor = Errno::result(result)?;
    // SAFETY: the kernel has just given it to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor.try_into()?) })
}
