//! TLS in the kernel (Linux, Documentation/networking/tls.rst): after the handshake the
//! kernel gets the keys, and the socket is read, written and sent to as a plain one.
//!
//! Minimum kernel: 5.1 for TLS 1.3 in both directions, with the module `tls`. Whatever else
//! than data comes (alerts, messages of the handshake) makes a read fail with `EIO`, and is
//! then read by `recvmsg`. Kernels before 6.14 take no second key: a connection ends whose
//! key is used up, or whose peer changes its own.

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TlsGetRecordType, recvmsg, setsockopt};
use rustls::{ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};
use tls_record::Cipher;
use tls_record::alert::{CLOSE_NOTIFY, USER_CANCELED, WARNING};
use tls_record::content_type::ALERT;

use super::key_limit::KeyLimit;
use super::secrets::{cipher, key_and_nonce};

/// The ciphers that this kernel encrypts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelSupport([bool; Cipher::ALL.len()]);

impl KernelSupport {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It has no cipher: `NotFound` if the module `tls` is not loaded.
    pub(crate) fn probe() -> io::Result<Self> {
        let tried = Cipher::ALL.map(try_cipher);
        let has = tried.each_ref().map(Result::is_ok);
        // The reason is the same for all, or that of the cipher which every kernel has.
        let [first, ..] = tried;
        match has.contains(&true) {
            true => Ok(Self(has)),
            false => first.map(|()| Self(has)),
        }
    }

    /// True if the kernel encrypts with `suite`.
    pub(super) fn has(self, suite: SupportedCipherSuite) -> bool {
        cipher(suite).is_some_and(|cipher| self.0[cipher as usize])
    }
}

/// Sets up `cipher` for a connection with ourselves.
fn try_cipher(cipher: Cipher) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    prepare(&socket)?;
    let info = crypto_info(cipher, libc::TLS_1_3_VERSION, &[0; 32], &[0; 12], 0);
    setsockopt(&socket, TcpTlsTx, &info)?;
    setsockopt(&socket, TcpTlsRx, &info)?;
    Ok(())
}

/// The keys of one direction, as the kernel wants them; `number` is that of the next record.
fn crypto_info(
    cipher: Cipher,
    version: u16,
    key: &[u8],
    nonce: &[u8; 12],
    number: u64,
) -> TlsCryptoInfo {
    fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&bytes[..N]);
        array
    }
    let info = |cipher_type| libc::tls_crypto_info {
        version,
        cipher_type,
    };
    let rec_seq = number.to_be_bytes();
    match cipher {
        Cipher::Aes128Gcm => TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
            info: info(libc::TLS_CIPHER_AES_GCM_128),
            iv: first(&nonce[4..]),
            key: first(key),
            salt: first(nonce),
            rec_seq,
        }),
        Cipher::Aes256Gcm => TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
            info: info(libc::TLS_CIPHER_AES_GCM_256),
            iv: first(&nonce[4..]),
            key: first(key),
            salt: first(nonce),
            rec_seq,
        }),
        Cipher::Chacha20Poly1305 => {
            TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
                info: info(libc::TLS_CIPHER_CHACHA20_POLY1305),
                iv: *nonce,
                key: first(key),
                salt: [],
                rec_seq,
            })
        }
    }
}

/// Asks the kernel for its TLS at `socket`, which stays plain until there are keys.
///
/// # Errors
/// The kernel's refusal. The socket is as it was.
pub(super) fn prepare(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, TcpUlp::default(), b"tls")?)
}

/// Has the kernel encrypt and decrypt `socket`, which is prepared, from the next record on.
///
/// # Errors
/// The kernel's refusal. The connection is of no more use.
pub(super) fn install(
    socket: BorrowedFd<'_>,
    secrets: ExtractedSecrets,
    version: ProtocolVersion,
    suite: SupportedCipherSuite,
) -> io::Result<KernelTls> {
    let unknown = || io::Error::other("the kernel has no such cipher");
    let cipher = cipher(suite).ok_or_else(unknown)?;
    let number = u16::from(version);
    let (tx_number, tx) = secrets.tx;
    let (rx_number, rx) = secrets.rx;
    let (tx_key, mut tx_nonce) = key_and_nonce(&tx).ok_or_else(unknown)?;
    let (rx_key, rx_nonce) = key_and_nonce(&rx).ok_or_else(unknown)?;
    if version == ProtocolVersion::TLSv1_2 && cipher != Cipher::Chacha20Poly1305 {
        // TLS 1.2 sends half of the nonce with each record (RFC 5288 §3). The kernel counts
        // on from the one that it is given, rustls has used those from the same one on: a
        // nonce that comes twice gives the key away. In the other half of the numbers none
        // has been used.
        tx_nonce[4] ^= 0x80;
    }
    let info = crypto_info(cipher, number, tx_key, &tx_nonce, tx_number);
    setsockopt(&socket, TcpTlsTx, &info)?;
    let info = crypto_info(cipher, number, rx_key, &rx_nonce, rx_number);
    setsockopt(&socket, TcpTlsRx, &info)?;
    Ok(KernelTls::new(KeyLimit::new(suite, tx_number)))
}

/// What we keep of a connection that the kernel encrypts.
#[derive(Debug)]
pub(super) struct KernelTls {
    pub(super) limit: KeyLimit,
    /// The peer has been told that nothing more is sent.
    closed: bool,
}

impl KernelTls {
    pub(super) fn new(limit: KeyLimit) -> Self {
        Self {
            limit,
            closed: false,
        }
    }

    /// That of a connection which this process has had before.
    pub(super) fn resume(limit: KeyLimit, closed: bool) -> Self {
        Self { limit, closed }
    }

    /// The peer has been told that nothing more is sent.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counts the records of a call that sends `bytes`.
    ///
    /// # Errors
    /// `QuotaExceeded` if the key may encrypt no more.
    pub(super) fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.limit.count(bytes)
    }

    /// Says that nothing more is sent.
    ///
    /// # Errors
    /// The connection is lost, or the socket takes nothing.
    pub(super) fn send_close_notify(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        send_record(socket, ALERT, &[WARNING, CLOSE_NOTIFY])?;
        self.closed = true;
        Ok(())
    }
}

/// The result of a read of `socket`, which the kernel decrypts: it was `read`. What it could
/// not give, since it is no data, is taken from the socket here.
///
/// # Errors
/// As `read`; `Interrupted` if what came holds nothing for us.
pub(super) fn after_read(read: io::Result<usize>, socket: &impl AsFd) -> io::Result<usize> {
    match read {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => read_control(socket.as_fd()),
        read => read,
    }
}

/// Reads a record that is no data. Returns 0 if it ends the connection.
///
/// # Errors
/// `Interrupted` if it does not matter; what it means for the connection.
fn read_control(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes = [0; 256];
    let mut space = nix::cmsg_space!(u8);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let length = message.bytes;
    let kind = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::TlsGetRecordType(kind) => Some(kind),
        _ => None,
    });
    let unexpected = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
    match (kind, &bytes[..length]) {
        (_, []) | (Some(TlsGetRecordType::Alert), [_, CLOSE_NOTIFY]) => Ok(0),
        (Some(TlsGetRecordType::Alert), [WARNING, USER_CANCELED]) => {
            Err(io::ErrorKind::Interrupted.into())
        }
        (Some(TlsGetRecordType::Alert), [_, alert]) => {
            unexpected(&format!("the peer sent the TLS alert {alert}"))
        }
        (Some(TlsGetRecordType::Handshake), _) => {
            unexpected("the peer changes its TLS key, which this kernel cannot follow")
        }
        _ => unexpected("the peer sent a TLS record of an unknown kind"),
    }
}

/// Sends a record of another content type than data.
fn send_record(socket: BorrowedFd<'_>, content_type: u8, bytes: &[u8]) -> io::Result<()> {
    /// Room for one control message of one byte, aligned as its header is.
    #[repr(C)]
    union Control {
        header: libc::cmsghdr,
        bytes: [u8; 64],
    }
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a message header of zeros is one without address, data and control messages.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: they compute sizes, and touch no memory.
    let (space, length) = unsafe {
        let size = size_of::<u8>() as libc::c_uint;
        (libc::CMSG_SPACE(size), libc::CMSG_LEN(size))
    };
    message.msg_controllen = space as _;
    // SAFETY: `control` is aligned for a header and longer than `space`, so there is a first
    // header, with room for the byte behind it. `sendmsg` reads what `message` points at,
    // which lives until it returns, and writes nothing.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).write(content_type);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    match sent {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::transport::{Encryption, MAX_FRAGMENT, StdTransport};

    /// A connection whose key may encrypt `records_left` more, without the kernel's part.
    fn connection(records_left: u64) -> (StdTransport, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        let kernel = KernelTls::new(KeyLimit::of_delivery(records_left));
        let encryption = Encryption::Kernel(kernel);
        (StdTransport { tcp, encryption }, peer)
    }

    #[test]
    fn a_key_is_given_up_before_its_limit_however_it_is_used() {
        let ends = |error: io::Error| error.kind() == io::ErrorKind::QuotaExceeded;
        // Each write may be a record, full or not.
        let (mut transport, _peer) = connection(100);
        let written = (0..200).map_while(|_| transport.write(b"x").ok());
        assert_eq!(written.count(), 100);
        assert!(transport.write(b"x").is_err_and(ends));
        // What `sendfile` sends is cut into full records, and a rest.
        let (mut transport, _peer) = connection(100);
        let mut sent = 0;
        let error = loop {
            let bytes = [7; 4 * MAX_FRAGMENT];
            let send = |_: BorrowedFd<'_>| Ok(bytes.len());
            match transport.send_file(bytes.len() as u64, send, |_| unreachable!()) {
                Ok(count) => sent += count.div_ceil(MAX_FRAGMENT),
                Err(error) => break error,
            }
        };
        assert!(ends(error));
        assert!((50..=100).contains(&sent), "{sent} records");
    }

    #[test]
    fn what_is_no_error_of_tls_stays_what_it_is() {
        let (mut transport, mut peer) = connection(100);
        peer.write_all(b"data").unwrap();
        let mut buffer = [0; MAX_FRAGMENT];
        assert_eq!(transport.read(&mut buffer).unwrap(), 4);
        drop(peer);
        assert_eq!(transport.read(&mut buffer).unwrap(), 0);
    }
}
