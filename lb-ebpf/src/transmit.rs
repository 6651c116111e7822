//! Direct routing: two MAC addresses, and out.

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use lb_common::{Macs, Reason};

use crate::frame::Frame;
use crate::service::Chosen;

/// What the kernel is told, and what is counted.
pub struct Verdict {
    pub action: u32,
    pub reason: Reason,
}

impl Verdict {
    /// Leaves the packet to the host's own stack.
    #[inline(always)]
    pub fn pass(reason: Reason) -> Self {
        Self {
            action: XDP_PASS,
            reason,
        }
    }
}

/// Sends the frame to `chosen`.
#[inline(always)]
pub fn direct(frame: &Frame, chosen: Chosen) -> Verdict {
    let Some(macs) = frame.at::<Macs>(0) else {
        return Verdict::pass(Reason::Truncated);
    };
    let server = chosen.server;
    let returns = server.interface_index == frame.interface_index();
    // SAFETY: `at` has checked that the frame holds both addresses.
    let macs = unsafe { &mut *macs };
    // A switch that floods shows us frames for other hosts: forwarding those
    // would double them.
    if returns && macs.destination != server.macs.source {
        return Verdict::pass(Reason::OtherHost);
    }
    macs.destination.copy_from(&server.macs.destination);
    macs.source.copy_from(&server.macs.source);
    if returns {
        return Verdict {
            action: XDP_TX,
            reason: Reason::Forwarded,
        };
    }
    // SAFETY: takes numbers only.
    let action = unsafe { bpf_redirect(server.interface_index, 0) };
    Verdict {
        action: action as u32,
        reason: Reason::Redirected,
    }
}
