//! The Internet checksum.

use std::net::IpAddr;

/// The Internet checksum over `parts`, one after the other (RFC 1071). 0 over bytes
/// that contain their own right checksum.
///
/// Every part but the last has an even number of bytes: words do not go from one part
/// to the next.
#[must_use]
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for word in parts.iter().flat_map(|part| part.chunks(2)) {
        // An odd byte is the high one of a word (RFC 1071 §1).
        let low = word.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([word[0], low]));
        // Folded each time, so that no length overflows.
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The pseudo-header that the checksum of `length` bytes of `protocol` covers besides
/// (RFC 9293 §3.1, RFC 8200 §8.1). Both addresses are of one family.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize, protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    // The fields of the two families differ in width and order, not in sum.
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_has_the_sum_that_it_gives() {
        // RFC 1071 §3: the sum is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&[&bytes]), !0xddf2);
    }

    #[test]
    fn parts_are_one_after_the_other_and_an_odd_byte_is_a_high_one() {
        let whole = [1, 2, 3, 4, 5];
        let expected = !(0x0102 + 0x0304 + 0x0500);
        assert_eq!(internet_checksum(&[&whole]), expected);
        assert_eq!(internet_checksum(&[&whole[..2], &whole[2..]]), expected);
        assert_eq!(internet_checksum(&[]), 0xffff);
    }

    #[test]
    fn carries_come_around_at_any_length() {
        // 2^17 words of all ones: each carry comes around to the same sum.
        let ones = vec![0xff; 1 << 18];
        assert_eq!(internet_checksum(&[&ones]), 0);
    }

    #[test]
    fn bytes_that_contain_their_checksum_have_0() {
        // An ICMP echo request as ping(8) sends it, and a TCP SYN with its pseudo-header.
        let mut echo = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xab, 0xcd];
        let checksum = internet_checksum(&[&echo]);
        echo[2..4].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(internet_checksum(&[&echo]), 0);
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let [source, destination] = [source, destination].map(|it| it.parse().expect("one"));
            let pseudo_header = pseudo_header(source, destination, 20, 6);
            let mut tcp = [7; 20];
            tcp[16..18].fill(0);
            let checksum = internet_checksum(&[&pseudo_header, &tcp]);
            tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
            assert_eq!(internet_checksum(&[&pseudo_header, &tcp]), 0);
        }
    }
}
