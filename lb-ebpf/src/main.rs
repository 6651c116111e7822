//! The XDP program of the Millrace balancer.
//!
//! Read in this order: [`parse`] turns a frame into a [`parse::Packet`],
//! [`balance`] decides which real server it belongs to, [`transmit`] sends it
//! there. Everything else serves one of the three.
#![no_std]
#![no_main]
// Inline assembly for atomics, see `atomic`.
#![feature(asm_experimental_arch)]

mod atomic;
mod balance;
mod clock;
mod count;
mod flow;
mod fragments;
mod frame;
mod headers;
mod load;
mod maps;
mod martian;
mod parse;
mod peers;
mod persistence;
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

/// Entry point of the data plane; takes frames that lie in several buffers.
#[xdp(frags)]
pub fn millrace(context: XdpContext) -> u32 {
    let reason = match fast_path(context.ctx) {
        Some(reason) => reason,
        None => {
            let reason = slow_path(context.ctx);
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

// The two are called, not inlined, so that neither stands on the other's stack.

/// The verdict on a frame like most.
#[inline(always)]
fn fast_path(context: *mut xdp_md) -> Option<Reason> {
    let context = XdpContext::new(context);
    parse::fast::packet::<balance::FastPath>(&Frame::new(&context))
}

/// The verdict on any frame.
#[inline(never)]
fn slow_path(context: *mut xdp_md) -> Reason {
    let context = XdpContext::new(context);
    let frame = Frame::new(&context);
    match parse::packet(&frame) {
        Ok(packet) => balance::packet(&frame, packet),
        Err(reason) => reason,
    }
}

/// Nothing here panics; the linker only wants the symbol.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
