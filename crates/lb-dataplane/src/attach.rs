//! Attaching the program to interfaces.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;

use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use service_kit::with_causes;

use super::error::Error;
use super::options::AttachMode;
use super::pins::PinDirectory;
use super::refusal;

/// Driver that delivers frames of native XDP only under conditions
/// ([`veth_refusal`]).
const VETH: &str = "veth";

/// The program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// Never [`AttachMode::Auto`]: what was chosen.
    pub mode: AttachMode,
    /// In generic mode after [`AttachMode::Auto`]: the reason why native was refused.
    pub native_refused: Option<String>,
    /// The reason why it is not attached at the moment, if it is not.
    pub lost: Option<String>,
}

/// An attachment with its link: dropped, the link detaches the program, unless it is
/// pinned.
pub(crate) type Attached = (Attachment, XdpLink);

/// Attaches `program` to `interface` as `mode` asks. With `pins`, a program
/// that an earlier agent has left there is replaced in one step, and the
/// attachment outlives us.
pub(crate) fn attach(
    program: &mut Xdp,
    interface: &str,
    mode: AttachMode,
    pins: Option<&PinDirectory>,
) -> Result<Attached, Error> {
    let interface_index = index_of(interface)?;
    if let Some(pins) = pins
        && let Some(attached) = replace(program, interface, interface_index, mode, pins)?
    {
        return Ok(attached);
    }
    let (link, mode, native_refused) = attach_new(program, interface, interface_index, mode)?;
    let link = match pins {
        None => link,
        Some(pins) => pins
            .keep(link, interface_index, mode)
            .map_err(|source| Error::Pins {
                operation: "pin what attaches the program",
                source,
            })?,
    };
    let attachment = Attachment {
        interface: interface.to_owned(),
        interface_index,
        mode,
        native_refused,
        lost: None,
    };
    Ok((attachment, link))
}

/// Replaces the program that an earlier agent has left on an interface;
/// `None` if there is none, or not in this mode.
fn replace(
    program: &mut Xdp,
    interface: &str,
    interface_index: u32,
    mode: AttachMode,
    pins: &PinDirectory,
) -> Result<Option<Attached>, Error> {
    let failed = |source| Error::Pins {
        operation: "read what is pinned",
        source,
    };
    for found in pins.attachments().map_err(failed)? {
        if found.interface_index != interface_index {
            continue;
        }
        if mode == AttachMode::Auto || mode == found.mode {
            let replaced = found.open().and_then(|link| {
                let id = program.attach_to_link(link).map_err(io::Error::other)?;
                program.take_link(id).map_err(io::Error::other)
            });
            match replaced {
                Ok(link) => {
                    let native_refused = (mode == AttachMode::Auto
                        && found.mode == AttachMode::Generic)
                        .then(|| {
                            veth_refusal(interface)
                                .unwrap_or_else(|| "generic mode was found, and kept".to_owned())
                        });
                    let attachment = Attachment {
                        interface: interface.to_owned(),
                        interface_index,
                        mode: found.mode,
                        native_refused,
                        lost: None,
                    };
                    return Ok(Some((attachment, link)));
                }
                Err(error) => log::warn!(
                    "{interface}: the program that was found cannot be replaced: {}",
                    with_causes(&error)
                ),
            }
        } else {
            log::warn!("{interface}: detached, to be attached in another mode");
        }
        found.remove().map_err(failed)?;
    }
    Ok(None)
}

/// Attaches anew; returns the mode, and the reason if it is not native.
fn attach_new(
    program: &mut Xdp,
    interface: &str,
    interface_index: u32,
    mode: AttachMode,
) -> Result<(XdpLink, AttachMode, Option<String>), Error> {
    let refused = |mode, reason| Error::Attach {
        interface: interface.to_owned(),
        mode,
        reason,
    };
    let native_refused = match mode {
        AttachMode::Generic => None,
        AttachMode::Native => {
            return match try_attach(program, interface_index, XdpMode::Driver) {
                Ok(link) => Ok((link, AttachMode::Native, None)),
                Err(reason) => Err(refused("native", reason)),
            };
        }
        AttachMode::Auto => match veth_refusal(interface) {
            Some(reason) => Some(reason),
            None => match try_attach(program, interface_index, XdpMode::Driver) {
                Ok(link) => return Ok((link, AttachMode::Native, None)),
                Err(reason) => Some(reason),
            },
        },
    };
    match try_attach(program, interface_index, XdpMode::Skb) {
        Ok(link) => Ok((link, AttachMode::Generic, native_refused)),
        Err(reason) => Err(refused("generic", reason)),
    }
}

/// The reason why native mode is not chosen for a veth pair.
fn veth_refusal(interface: &str) -> Option<String> {
    driver_of(interface)
        .is_some_and(|driver| driver == VETH)
        .then(|| {
            "a veth pair delivers what native XDP transmits only if the peer runs an XDP \
             program too; ask for native mode where it does"
                .to_owned()
        })
}

fn try_attach(program: &mut Xdp, interface_index: u32, mode: XdpMode) -> Result<XdpLink, String> {
    let attached = program
        .attach_to_if_index(interface_index, mode)
        .and_then(|id| program.take_link(id));
    let error = match attached {
        Ok(link) => return Ok(link),
        Err(error) => error,
    };
    let code = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let words = || {
        let program = program.fd().ok()?.as_fd();
        refusal::kernel_message(program, interface_index, mode)
    };
    Err(match code {
        Some(nix::libc::EBUSY) => "another XDP program is attached; `ip link` shows it, \
                                   `ip link set … xdp off` removes it"
            .to_owned(),
        Some(nix::libc::EPERM) => "this needs CAP_NET_ADMIN and CAP_BPF".to_owned(),
        _ => match words() {
            Some(words) => match refusal::advice(&words) {
                Some(advice) => format!("the kernel says: {words}; {advice}"),
                None => format!("the kernel says: {words}"),
            },
            None if code == Some(nix::libc::EOPNOTSUPP) => {
                "the driver has no native XDP".to_owned()
            }
            None => with_causes(&error),
        },
    })
}

/// The index of an interface.
pub(crate) fn index_of(interface: &str) -> Result<u32, Error> {
    nix::net::if_::if_nametoindex(interface).map_err(|_| Error::UnknownInterface {
        name: interface.to_owned(),
    })
}

/// Name of the driver of `interface`, as `ethtool -i` shows it.
fn driver_of(interface: &str) -> Option<String> {
    use nix::libc;
    use std::os::fd::AsRawFd as _;

    /// `struct ethtool_drvinfo` of linux/ethtool.h.
    #[repr(C)]
    struct DriverInformation {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    const ETHTOOL_GDRVINFO: u32 = 3;

    let name = CString::new(interface).ok()?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
    let mut information = DriverInformation {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: an `ifreq` is plain data for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut information).cast();
    // SAFETY: the request names a structure of the size that this command
    // fills, and both live until the call returns.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    let driver = information.driver.split(|byte| *byte == 0).next()?;
    (result == 0).then(|| String::from_utf8_lossy(driver).into_owned())
}
