//! A connection for the program that the process becomes.

use std::net::TcpStream;
use std::os::fd::{AsFd, RawFd};

use serde::{Deserialize, Serialize};

use super::key_limit::KeyLimit;
use super::{Encryption, KernelTls, StdTransport, Transport};
use crate::hand_over::{HandOverError, HandedOver, Inherited, hand_over};

/// A connection for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TransportPart {
    descriptor: RawFd,
    encryption: EncryptionPart,
}

/// Who encrypts it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum EncryptionPart {
    None,
    /// The kernel, which keeps the keys with the socket.
    Kernel {
        records_left: u64,
        closed: bool,
    },
}

impl Encryption {
    /// `None` where this process encrypts: its keys are not handed over.
    fn part(&self) -> Option<EncryptionPart> {
        match self {
            Self::None => Some(EncryptionPart::None),
            Self::Kernel(kernel) => Some(EncryptionPart::Kernel {
                records_left: kernel.limit.left(),
                closed: kernel.is_closed(),
            }),
            Self::User(_) => None,
        }
    }
}

fn part(
    socket: impl AsFd,
    encryption: &Encryption,
    handed_over: &mut HandedOver,
) -> Option<TransportPart> {
    encryption.part().map(|encryption| TransportPart {
        descriptor: hand_over(socket, handed_over),
        encryption,
    })
}

impl StdTransport {
    /// The connection for the program that the process becomes; `None` where this process
    /// encrypts.
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> Option<TransportPart> {
        part(&self.tcp, &self.encryption, handed_over)
    }

    /// Goes on with a connection that this process has had before.
    ///
    /// # Errors
    /// Its descriptor is missing.
    pub(crate) fn take_over(
        part: &TransportPart,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        Ok(Self {
            tcp: TcpStream::from(inherited.take(part.descriptor)?),
            encryption: match part.encryption {
                EncryptionPart::None => Encryption::None,
                EncryptionPart::Kernel {
                    records_left,
                    closed,
                } => {
                    let limit = KeyLimit::of_records(records_left);
                    Encryption::Kernel(KernelTls::resume(limit, closed))
                }
            },
        })
    }
}

impl Transport {
    /// As [`StdTransport::part`].
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> Option<TransportPart> {
        part(&self.tcp, &self.encryption, handed_over)
    }
}
