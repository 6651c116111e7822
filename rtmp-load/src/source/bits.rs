//! Writes bit strings as H.264 and AAC are specified: big-endian, with
//! Exp-Golomb codes.

/// A growing string of bits.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 when the string ends on a byte.
    used: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, highest first.
    pub(super) fn put(&mut self, count: u32, value: u32) {
        for shift in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let bit = (value >> shift & 1) as u8;
            *self.bytes.last_mut().expect("just pushed") |= bit << (7 - self.used);
            self.used = (self.used + 1) % 8;
        }
    }

    /// Appends an unsigned Exp-Golomb code, `ue(v)` of H.264 §9.1.
    pub(super) fn put_ue(&mut self, value: u32) {
        let code = value + 1;
        let length = 32 - code.leading_zeros();
        self.put(length - 1, 0);
        self.put(length, code);
    }

    /// Appends zero bits up to the next byte.
    pub(super) fn align(&mut self) {
        self.used = 0;
    }

    /// Appends whole bytes; the string must end on a byte.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.used, 0, "bytes are appended on a byte boundary only");
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of bits.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() * 8 - (8 - self.used as usize) % 8
    }

    /// The bytes, the last one filled up with zeros.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_standards_table() {
        // H.264 table 9-2: 0 → 1, 1 → 010, 2 → 011, 3 → 00100, 7 → 0001000.
        let mut bits = Bits::default();
        for value in [0, 1, 2, 3, 7] {
            bits.put_ue(value);
        }
        assert_eq!(bits.len(), 1 + 3 + 3 + 5 + 7);
        assert_eq!(bits.into_bytes(), [0b1010_0110, 0b0100_0001, 0b0000_0000]);
    }

    #[test]
    fn alignment_fills_a_begun_byte_only() {
        let mut bits = Bits::default();
        bits.align();
        bits.put(1, 1);
        bits.align();
        bits.put(8, 7);
        assert_eq!(bits.into_bytes(), [0x80, 7]);
    }
}
