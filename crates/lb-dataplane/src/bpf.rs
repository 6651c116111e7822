//! bpf(2) for the commands that aya does not offer.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

/// Commands of linux/bpf.h.
const OBJ_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;

/// `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct ObjectAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` for `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkAttributes {
    link_fd: u32,
}

/// Detaches the program of the link that is pinned at `path`, also if another process
/// holds the link (Linux 5.9).
///
/// The kernel would do so too with the last name and descriptor gone, but at a
/// time of its own choosing.
///
/// # Errors
/// The kernel's.
pub(crate) fn detach(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut named = ObjectAttributes {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the name is a C string that lives until the call returns.
    let link = unsafe { bpf(OBJ_GET, &mut named) }?;
    // SAFETY: the kernel has just opened it for us.
    let link = unsafe { OwnedFd::from_raw_fd(link as _) };
    let mut attached = LinkAttributes {
        link_fd: link.as_raw_fd() as u32,
    };
    // SAFETY: the attributes point to nothing.
    unsafe { bpf(LINK_DETACH, &mut attached) }.map(drop)
}

/// The system call.
///
/// # Safety
/// `attributes` are those of `command`, and what they point to is alive and as
/// large as the command takes it to be.
pub(crate) unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the caller guarantees it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
