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
mod frame;
mod maps;
mod parse;
mod persistence;
mod schedule;
mod service;
mod transmit;

use aya_ebpf::{macros::xdp, programs::XdpContext};

use crate::frame::Frame;

/// Entry point of the data plane.
#[xdp]
pub fn millrace(context: XdpContext) -> u32 {
    let frame = Frame::new(&context);
    let verdict = match parse::packet(&frame) {
        Ok(packet) => balance::packet(&frame, &packet),
        Err(reason) => transmit::Verdict::pass(reason),
    };
    count::reason(verdict.reason);
    verdict.action
}

/// Nothing here panics; the linker only wants the symbol.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
