//! Hexadecimal strings of `UDP_CHECK` (keepalived.conf(5)).

/// Bytes with the masks under which they count: `x` stands for any digit.
///
/// Digits pair up from the start of each word; one that is left over is a byte
/// of its own. `None` if anything else is there.
pub fn parse(text: &str) -> Option<Vec<(u8, u8)>> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let digits: Vec<(u8, u8)> = word.chars().map(digit).collect::<Option<_>>()?;
        for pair in digits.chunks(2) {
            bytes.push(match *pair {
                [(high, high_mask), (low, low_mask)] => {
                    (high << 4 | low, high_mask << 4 | low_mask)
                }
                [(low, mask)] => (low, 0xf0 | mask),
                _ => return None,
            });
        }
    }
    Some(bytes)
}

/// Expectation where a hexadecimal string is none.
pub const EXPECTED: &str = "hexadecimal digits, such as `AB 12 f`";

/// True if a string names bytes to send: some, and each in full.
pub fn is_payload(text: &str) -> bool {
    let whole = |bytes: &[(u8, u8)]| bytes.iter().all(|(_, mask)| *mask == 0xff);
    parse(text).is_some_and(|bytes| !bytes.is_empty() && whole(&bytes))
}

fn digit(c: char) -> Option<(u8, u8)> {
    match c {
        'x' | 'X' => Some((0, 0)),
        _ => c.to_digit(16).map(|value| (value as u8, 0x0f)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_as_the_manual_shows() {
        let bytes = parse("Ab12f 3 456 546443123").expect("hexadecimal");
        let values: Vec<u8> = bytes.iter().map(|(value, _)| *value).collect();
        assert_eq!(
            values,
            [
                0xab, 0x12, 0x0f, 0x03, 0x45, 0x06, 0x54, 0x64, 0x43, 0x12, 0x03
            ]
        );
        assert!(bytes.iter().all(|(_, mask)| *mask == 0xff));
        assert_eq!(
            parse("aX xb x"),
            Some(vec![(0xa0, 0xf0), (0x0b, 0x0f), (0, 0xf0)])
        );
        assert_eq!(parse("zz"), None);
    }
}
