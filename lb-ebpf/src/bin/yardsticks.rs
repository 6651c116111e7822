//! What `cargo xtask bench xdp` measures the data plane against: the least
//! that any program must do. Never part of a release.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::{Address, Flow, FlowKey, Macs};

/// As the data plane's own table of the same name.
#[btf_map]
static FLOWS: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();

/// Ethernet, IPv4 and the ports that follow.
#[repr(C, packed(2))]
struct Headers {
    macs: Macs,
    before_addresses: [u16; 7],
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
}

/// Nothing at all.
#[xdp]
pub fn bare_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Swaps the MAC addresses and transmits.
#[xdp]
pub fn swap(context: XdpContext) -> u32 {
    let Some(headers) = headers(&context) else {
        return XDP_PASS;
    };
    swap_macs(headers);
    XDP_TX
}

/// One look-up by the key of the data plane, two MAC addresses, transmit.
#[xdp]
pub fn one_look_up(context: XdpContext) -> u32 {
    let Some(headers) = headers(&context) else {
        return XDP_PASS;
    };
    let key = Aligned(FlowKey {
        client: Address::from_ipv4_word(headers.source),
        port: headers.source_port,
        service: 0,
    });
    if FLOWS.get_ptr_mut(&key.0).is_none() {
        return XDP_PASS;
    }
    swap_macs(headers);
    XDP_TX
}

/// What the compiler, which may access words in frames wherever they lie, writes
/// in words; on the stack the verifier wants those aligned.
#[repr(align(8))]
struct Aligned<T>(T);

#[inline(always)]
#[expect(
    clippy::mut_from_ref,
    reason = "the frame is the driver's, the context only says where it lies"
)]
fn headers(context: &XdpContext) -> Option<&mut Headers> {
    let start = context.data();
    if start + size_of::<Headers>() > context.data_end() {
        return None;
    }
    // SAFETY: the frame holds all of it, at an even address, and these are
    // integers.
    Some(unsafe { &mut *(start as *mut Headers) })
}

#[inline(always)]
fn swap_macs(headers: &mut Headers) {
    let (destination, source) = (headers.macs.destination, headers.macs.source);
    headers.macs.destination.copy_from(&source);
    headers.macs.source.copy_from(&destination);
}

/// Nothing here panics; the linker only wants the symbol.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
