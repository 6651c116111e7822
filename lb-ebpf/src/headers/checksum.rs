//! The Internet checksum.

/// Internet checksum (RFC 1071) of a sum of 16-bit or 32-bit words, all as they lie
/// in the packet.
#[inline(always)]
pub(crate) fn checksum(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xFFFF_FFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    !(sum as u16)
}
