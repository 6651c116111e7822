//! The programs that `cargo xtask bench xdp` compares the data plane with, which do the
//! least that any program must, and the one that restores a frame so that a program can
//! run on it again. Never part of a release.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_abi::{Address, Flow, FlowKey, Macs};

/// As the data plane's own table of the same name.
#[btf_map]
static FLOWS: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();

/// The program that [`again`] goes on with.
#[btf_map]
static MEASURED: ProgramArray<1> = ProgramArray::new();

/// The frame that [`again`] restores.
#[btf_map]
static ORIGINAL: Array<Original, 1> = Array::new();

/// A frame before the program under measurement has changed it.
#[repr(C)]
struct Original {
    /// Bytes of the whole frame.
    length: u32,
    /// Its start: all that a reply changes of Ethernet, IPv4 and TCP.
    start: [u32; START_WORDS],
}

const START_WORDS: usize = 13;

/// As [`Original::start`], as it lies in the frame.
#[repr(C, packed(2))]
struct Start([u32; START_WORDS]);

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

/// Undoes what a program has done to the frame, an outer header included, and runs
/// [`MEASURED`] on it.
#[xdp(frags)]
fn again(context: XdpContext) -> u32 {
    let Some(original) = ORIGINAL.get(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: the context is the one that the kernel gave us.
    let length = unsafe { bpf_xdp_get_buff_len(context.ctx) };
    if length != u64::from(original.length) {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(context.ctx, length as i32 - original.length as i32) };
    }
    let start = context.data();
    if start + size_of::<Start>() > context.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: the frame holds all of it, at an even address, and these are
    // integers.
    let words = unsafe { &mut *(start as *mut Start) };
    for word in 0..START_WORDS {
        words.0[word] = original.start[word];
    }
    // SAFETY: nothing of this program is needed any more.
    unsafe { MEASURED.tail_call(&context, 0) };
    XDP_ABORTED
}

/// Makes room for an outer IPv4 header: what [`again`] has to undo.
#[xdp(frags)]
fn grow(context: XdpContext) -> u32 {
    // SAFETY: as above.
    unsafe { bpf_xdp_adjust_head(context.ctx, -20) };
    XDP_TX
}

/// Nothing at all.
#[xdp(frags)]
fn bare_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Swaps the MAC addresses and transmits.
#[xdp(frags)]
fn swap(context: XdpContext) -> u32 {
    let Some(headers) = headers(&context) else {
        return XDP_PASS;
    };
    swap_macs(headers);
    XDP_TX
}

/// One look-up by the key of the data plane, two MAC addresses, transmit.
#[xdp(frags)]
fn one_look_up(context: XdpContext) -> u32 {
    let Some(headers) = headers(&context) else {
        return XDP_PASS;
    };
    let key = Aligned(FlowKey {
        client: Address::from_ipv4_word(headers.source),
        port: headers.source_port,
        service: 0,
        // Not a constant: the compiler would store it together with its neighbours, in a
        // word that is not aligned.
        service_port: headers.destination_port,
        reserved: 0,
    });
    if FLOWS.get_ptr_mut(&key.0).is_none() {
        return XDP_PASS;
    }
    swap_macs(headers);
    XDP_TX
}

/// A value that the compiler writes in words. It may access words at any address, as words
/// in frames are not aligned; on the stack the verifier requires that they are.
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
