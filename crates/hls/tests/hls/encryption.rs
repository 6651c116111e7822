//! Encrypted segments, as OpenSSL decrypts them.

use std::convert::Infallible;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hls::encryption::Encryptor;
use hls::segmenter::{Output, Part, SegmentEnd};

use crate::properties::handed_over;

fn part(bytes: &[u8]) -> Output {
    Output::Part(Part {
        bytes: Bytes::copy_from_slice(bytes),
        duration: Duration::from_millis(300),
        independent: true,
    })
}

fn decrypted(key: &[u8], number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["enc", "-d", "-aes-128-cbc", "-K", &HEXLOWER.encode(key)])
        .args(["-iv", &format!("{number:032x}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut stdin = openssl.stdin.take().expect("a pipe");
    stdin.write_all(bytes).expect("openssl reads");
    drop(stdin);
    let output = openssl.wait_with_output().expect("openssl ends");
    assert!(
        output.status.success(),
        "segment {number} cannot be decrypted"
    );
    output.stdout
}

#[test]
fn each_segment_decrypts_to_its_parts_and_keys_change_where_asked() {
    // Parts of less than a block, of whole blocks, and empty ones.
    let segments: [&[&[u8]]; 4] = [
        &[b"a", b"0123456789abcdef", b""],
        &[&[7; 1_000], &[8; 24]],
        &[b""],
        &[&[9; 188]],
    ];
    let mut encryptor = Encryptor::new(5, 2);
    let mut outputs = Vec::new();
    let mut keys = 0;
    for parts in segments {
        outputs.extend(parts.iter().map(|bytes| part(bytes)));
        outputs.push(Output::SegmentEnd(SegmentEnd {
            duration: Duration::from_secs(2),
            pictures: 1,
        }));
    }
    let mut new_key = || {
        keys += 1;
        Ok::<_, Infallible>([keys; 16])
    };
    // Handed over within a segment, between its parts.
    let mut rest = outputs.split_off(2);
    let Ok(()) = encryptor.encrypt(&mut outputs, &mut new_key);
    let Ok(()) = handed_over(&encryptor).encrypt(&mut rest, new_key);
    outputs.extend(rest);
    let (mut number, mut key, mut bytes) = (5, [0; 16], Vec::new());
    let mut first_of_key = Vec::new();
    for output in outputs {
        match output {
            Output::Key(new) => {
                key = new;
                first_of_key.push(number);
            }
            Output::Part(part) => bytes.extend_from_slice(&part.bytes),
            Output::SegmentEnd(_) => {
                let plain = segments[usize::try_from(number - 5).unwrap()].concat();
                assert_eq!(decrypted(&key, number, &bytes), plain);
                bytes.clear();
                number += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first_of_key, [5, 6, 8]);
}
