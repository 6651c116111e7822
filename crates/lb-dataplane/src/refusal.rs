//! The kernel's error message for a refused attachment.
//!
//! bpf(2) returns an error number only. Netlink, the older interface for attaching,
//! returns the driver's message as well (`NLMSGERR_ATTR_MSG`, "extended ack"). Therefore
//! a refused request is repeated over netlink.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::programs::XdpMode;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Numbers of linux/if_link.h and linux/netlink.h.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
const NLM_F_CAPPED: u16 = 1 << 8;
const NLM_F_ACK_TLVS: u16 = 1 << 9;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// `struct nlmsghdr` in bytes.
const HEADER: usize = 16;

/// Asks the kernel to attach `program` in `mode` to an interface that has refused it, and
/// returns its message, if any. Should it accept this time, the program is detached
/// again.
pub(crate) fn kernel_message(
    program: BorrowedFd<'_>,
    interface_index: u32,
    mode: XdpMode,
) -> Option<String> {
    let socket = Socket::open().ok()?;
    let flags = mode_flags(mode);
    let answer = socket
        .attach(
            interface_index,
            program.as_raw_fd(),
            flags | XDP_FLAGS_UPDATE_IF_NOEXIST,
        )
        .ok()?;
    if answer.error == 0 {
        const NONE: i32 = -1;
        if let Err(error) = socket.attach(interface_index, NONE, flags) {
            log::warn!("interface {interface_index}: cannot detach again: {error}");
        }
    }
    answer.words
}

/// `XDP_FLAGS_…` of linux/if_link.h.
fn mode_flags(mode: XdpMode) -> u32 {
    match mode {
        XdpMode::Skb => 1 << 1,
        XdpMode::Driver => 1 << 2,
        _ => 0,
    }
}

/// A remedy for a refusal, found by a word of its message.
pub(crate) fn advice(words: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str); 4] = [
        ("mtu", "lower the MTU: `ip link set IF mtu N`"),
        ("lro", "switch LRO off: `ethtool -K IF lro off`"),
        ("queue", "give it other queues: `ethtool -L IF ...`"),
        ("channel", "give it other queues: `ethtool -L IF ...`"),
    ];
    let words = words.to_lowercase();
    let found = ADVICE.iter().find(|(word, _)| {
        let mut parts = words.split(|c: char| !c.is_alphanumeric());
        parts.any(|part| part.strip_suffix('s').unwrap_or(part) == *word)
    });
    found.map(|(_, advice)| *advice)
}

/// A netlink socket that is told the reasons of refusals.
struct Socket(std::os::fd::OwnedFd);

/// The answer to a request.
struct Answer {
    /// 0, or a negative errno(3).
    error: i32,
    words: Option<String>,
}

impl Socket {
    fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: the value is an int that lives until the call returns.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(socket))
    }

    /// `RTM_SETLINK` with `IFLA_XDP`, as `ip link set … xdp` sends it.
    fn attach(&self, interface_index: u32, program: i32, flags: u32) -> io::Result<Answer> {
        let xdp = [
            attribute(IFLA_XDP_FD, &program.to_ne_bytes()),
            attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes()),
        ]
        .concat();
        let mut information = [0; 16];
        information[4..8].copy_from_slice(&interface_index.to_ne_bytes());
        let body = [&information[..], &attribute(IFLA_XDP | NLA_F_NESTED, &xdp)].concat();
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        request.extend(libc::RTM_SETLINK.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        send(self.0.as_fd().as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        read_answer(&answer[..length])
            .ok_or_else(|| io::Error::other("the kernel's answer is not understood"))
    }
}

/// A netlink attribute, filled up to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Reads an `NLMSG_ERROR`.
fn read_answer(message: &[u8]) -> Option<Answer> {
    let u16_at = |offset: usize| Some(u16::from_ne_bytes(*message.get(offset..)?.first_chunk()?));
    let u32_at = |offset: usize| Some(u32::from_ne_bytes(*message.get(offset..)?.first_chunk()?));
    if u16_at(4)? != libc::NLMSG_ERROR as u16 {
        return None;
    }
    let (flags, error) = (u16_at(6)?, u32_at(HEADER)?.cast_signed());
    let quoted = HEADER + 4;
    let quoted_length = match flags & NLM_F_CAPPED {
        0 => u32_at(quoted)? as usize,
        _ => HEADER,
    };
    let mut words = None;
    if flags & NLM_F_ACK_TLVS == 0 {
        return Some(Answer { error, words });
    }
    let mut offset = quoted + quoted_length.next_multiple_of(4);
    while let (Some(length), Some(kind)) = (u16_at(offset), u16_at(offset + 2)) {
        let length = usize::from(length);
        let Some(value) = message.get(offset + 4..offset + length) else {
            break;
        };
        if kind == NLMSGERR_ATTR_MSG {
            let text = value.split(|byte| *byte == 0).next()?;
            words = Some(String::from_utf8_lossy(text).into_owned());
        }
        offset += length.next_multiple_of(4);
    }
    Some(Answer { error, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u16, quoted: &[u8], attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 4];
        message.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend((-libc::ERANGE).to_ne_bytes());
        message.extend(quoted);
        message.extend(attributes);
        message
    }

    #[test]
    fn the_kernels_words_are_found_behind_what_it_quotes() {
        let words = [
            attribute(2, &7u32.to_ne_bytes()),
            attribute(NLMSGERR_ATTR_MSG, b"no way\0"),
        ]
        .concat();
        let mut whole = vec![0; 40];
        whole[..4].copy_from_slice(&40u32.to_ne_bytes());
        for message in [
            answer(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[0; HEADER], &words),
            answer(NLM_F_ACK_TLVS, &whole, &words),
        ] {
            let read = read_answer(&message).expect("an answer");
            assert_eq!(read.error, -libc::ERANGE);
            assert_eq!(read.words.as_deref(), Some("no way"));
            // All but what fills the last attribute up.
            for length in 0..message.len() - 1 {
                let cut = read_answer(&message[..length]);
                assert_eq!(cut.and_then(|cut| cut.words), None, "{length}");
            }
        }
        let silent = answer(NLM_F_CAPPED, &[0; HEADER], &words);
        assert_eq!(read_answer(&silent).expect("an answer").words, None);
    }

    #[test]
    fn advice_goes_by_what_the_driver_complains_of() {
        let about = |words| advice(words).is_some_and(|advice| advice.contains("MTU"));
        assert!(about("Peer MTU is too large to set XDP"));
        assert!(!about(
            "XDP expects number of rx queues not less than peer tx queues"
        ));
        assert_eq!(
            advice("underlying driver does not support XDP in native mode"),
            None
        );
    }
}
