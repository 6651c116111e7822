//! Timestamps of chunks: extended ones, differences, and what repeats them.

use crate::tools::{assert_reads, counting, hex, message, wire};

#[test]
fn a_timestamp_of_ffffff_or_more_is_extended() {
    for (field, extension, timestamp) in [
        ("fffffe", "", 0x00ff_fffe),
        ("ffffff", "00ffffff", 0x00ff_ffff),
        ("ffffff", "01000000", 0x0100_0000),
        ("ffffff", "80000000", 0x8000_0000),
        ("ffffff", "ffffffff", 0xffff_ffff),
    ] {
        let bytes = [
            hex("06"),
            hex(field),
            hex("000001 09 01000000"),
            hex(extension),
            b"x".to_vec(),
        ];
        assert_reads(&bytes.concat(), &[message(timestamp, 9, 1, b"x")]);
    }
}

#[test]
fn a_difference_of_ffffff_or_more_is_extended() {
    assert_reads(
        &hex("06  000001 000001 09 01000000  61   46  ffffff 000001 09  01000000  62"),
        &[message(1, 9, 1, b"a"), message(0x0100_0001, 9, 1, b"b")],
    );
}

#[test]
fn an_extended_timestamp_may_be_repeated_on_continuations() {
    let payload = counting(300);
    let bytes = wire(
        "06  ffffff 00012c 09 01000000  01020304  p128
         c6  01020304  p128  c6  01020304  p",
        &[('p', &payload)],
    );
    assert_reads(&bytes, &[message(0x0102_0304, 9, 1, &payload)]);
}

#[test]
fn an_extended_timestamp_may_be_left_out_on_continuations() {
    let payload = counting(300);
    let bytes = wire(
        "06  ffffff 00012c 09 01000000  01020304  p128  c6  p128  c6  p",
        &[('p', &payload)],
    );
    assert_reads(&bytes, &[message(0x0102_0304, 9, 1, &payload)]);
}

#[test]
fn a_payload_that_begins_like_the_extended_timestamp_is_told_from_it() {
    // The last chunk has two bytes, which are the timestamp's first two, and
    // the next message follows at once.
    let payload = [counting(128), hex("0102")].concat();
    let bytes = wire(
        "06  ffffff 000082 09 01000000  01020304  p128  c6  p
         04  000001 000001 08 01000000  61",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[message(0x0102_0304, 9, 1, &payload), message(1, 8, 1, b"a")],
    );
}

#[test]
fn a_message_whose_last_chunk_differs_from_the_timestamp_is_not_held_back() {
    // One byte is left, and nothing follows: it must be delivered all the same.
    let payload = [counting(128), hex("ff")].concat();
    let bytes = wire(
        "06  ffffff 000081 09 01000000  01020304  p128  c6  p",
        &[('p', &payload)],
    );
    assert_reads(&bytes, &[message(0x0102_0304, 9, 1, &payload)]);
}

#[test]
fn some_repeat_the_difference_and_some_the_timestamp_on_continuations() {
    let payload = counting(130);
    for repeated in ["01000000", "01000005"] {
        let script = format!(
            "06  000005 000001 09 01000000  61
             46  ffffff 000082 09  01000000  p128  c6  {repeated}  p"
        );
        let bytes = wire(&script, &[('p', &payload)]);
        assert_reads(
            &bytes,
            &[message(5, 9, 1, b"a"), message(0x0100_0005, 9, 1, &payload)],
        );
    }
}

#[test]
fn an_extended_timestamp_ends_with_the_next_plain_one() {
    let payload = counting(130);
    let bytes = wire(
        "06  ffffff 000001 09 01000000  01020304  61
         46  000001 000082 09  p128  c6  p",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[
            message(0x0102_0304, 9, 1, b"a"),
            message(0x0102_0305, 9, 1, &payload),
        ],
    );
}

#[test]
fn timestamps_may_go_backwards() {
    assert_reads(
        &hex("06  0003e8 000001 09 01000000  61   06  00000a 000001 09 01000000  62"),
        &[message(1000, 9, 1, b"a"), message(10, 9, 1, b"b")],
    );
}

#[test]
fn timestamps_pass_two_to_the_31_and_wrap_at_two_to_the_32() {
    assert_reads(
        &hex(
            "06  ffffff 000001 09 01000000  7fffffff  61   46  000002 000001 09  62
              06  ffffff 000001 09 01000000  ffffffff  63   46  000002 000001 09  64",
        ),
        &[
            message(0x7fff_ffff, 9, 1, b"a"),
            message(0x8000_0001, 9, 1, b"b"),
            message(0xffff_ffff, 9, 1, b"c"),
            message(1, 9, 1, b"d"),
        ],
    );
}
