//! The XDP program of the Millrace balancer.
//!
//! Read in this order: [`parse`] reads a frame's headers into a [`packet::Packet`],
//! [`balance`] chooses the real server, [`transmit`] sends the packet there. Every other
//! module is used by one of the three.
#![no_std]
#![no_main]
// Inline assembly for BPF is unstable: see `atomic` and `frame`.
#![feature(asm_experimental_arch)]

mod atomic;
mod balance;
mod clock;
mod count;
mod decision;
mod flow;
mod flow_context;
mod fragments;
mod frame;
mod headers;
mod interface;
mod load;
mod maps;
mod packet;
mod parse;
mod peers;
mod persistence;
mod protection;
mod reply;
mod schedule;
mod service_table;
mod trace;
mod transmit;
mod tunnel;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::{macros::xdp, programs::XdpContext};
use lb_abi::{Action, Reason};

use crate::frame::Frame;

/// Entry point of the data plane. `frags`: it accepts frames that lie in several buffers.
#[xdp(frags)]
fn millrace(context: XdpContext) -> u32 {
    let reason = match fast_path(context.ctx) {
        Some(reason) => reason,
        None => {
            let reason = Reason::from_number(slow_path(context.ctx));
            if trace::is_on() {
                trace::decision(context.ctx, reason);
            }
            reason
        }
    };
    count::reason(reason);
    match reason.action() {
        Action::Pass => XDP_PASS,
        Action::Transmit => XDP_TX,
        Action::Redirect => XDP_REDIRECT,
        Action::Drop => XDP_DROP,
    }
}

/// The verdict on a frame of the fast path; `None` for any other frame.
///
/// Inlined into the entry point: a call would cost the fast path a return.
#[inline(always)]
fn fast_path(context: *mut xdp_md) -> Option<Reason> {
    let context = XdpContext::new(context);
    parse::fast::packet::<balance::FastPath>(&Frame::new(&context))
}

/// The number of the verdict on any frame ([`Reason`]).
///
/// Not inlined, so that its stack frame is not the fast path's as well. Global, so that the
/// verifier looks at it once, by itself ("Verifying global functions",
/// Documentation/bpf/verifier.rst), and not once for each way that the fast path leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn slow_path(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    let frame = Frame::new(&context);
    let reason = match parse::packet(&frame) {
        Ok(packet) => balance::packet(&frame, packet),
        Err(reason) => reason,
    };
    reason as u32
}

/// Never called, since nothing here panics; the linker needs the symbol.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
