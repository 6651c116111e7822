//! A connection for the program that the process becomes.

use std::net::TcpStream;
use std::os::fd::{AsFd, RawFd};

use serde::{Deserialize, Serialize};

use super::key_limit::KeyLimit;
use super::session::{Session, SessionPart};
use super::{Encryption, KernelTls, StdTransport, Transport};
use crate::hand_over::{HandOverError, HandedOver, Inherited, hand_over};

/// A connection for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TransportPart {
    descriptor: RawFd,
    encryption: EncryptionPart,
}

/// Who encrypts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum EncryptionPart {
    None,
    /// The kernel, which keeps the keys with the socket.
    Kernel {
        records_left: u64,
        closed: bool,
    },
    /// This process, with its keys.
    User(Box<SessionPart>),
}

impl TransportPart {
    /// The descriptor of a plain connection.
    pub(crate) fn plain_descriptor(&self) -> Option<RawFd> {
        matches!(self.encryption, EncryptionPart::None).then_some(self.descriptor)
    }

    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn check(&self) -> Result<(), HandOverError> {
        Encryption::take_over(&self.encryption).map(drop)
    }
}

impl Encryption {
    pub(super) fn part(&self) -> EncryptionPart {
        match self {
            Self::None => EncryptionPart::None,
            Self::Kernel(kernel) => EncryptionPart::Kernel {
                records_left: kernel.limit.left(),
                closed: kernel.is_closed(),
            },
            Self::User(session) => EncryptionPart::User(Box::new(session.part())),
        }
    }

    pub(super) fn take_over(part: &EncryptionPart) -> Result<Self, HandOverError> {
        Ok(match part {
            EncryptionPart::None => Self::None,
            EncryptionPart::Kernel {
                records_left,
                closed,
            } => {
                let limit = KeyLimit::of_records(*records_left);
                Self::Kernel(KernelTls::resume(limit, *closed))
            }
            EncryptionPart::User(part) => {
                Self::User(Box::new(Session::resume(SessionPart::clone(part))?))
            }
        })
    }
}

fn part(socket: impl AsFd, encryption: &Encryption, handed_over: &mut HandedOver) -> TransportPart {
    TransportPart {
        descriptor: hand_over(socket, handed_over),
        encryption: encryption.part(),
    }
}

impl StdTransport {
    /// The connection for the program that the process becomes.
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> TransportPart {
        part(&self.tcp, &self.encryption, handed_over)
    }

    /// Goes on with a connection that this process has had before.
    ///
    /// # Errors
    /// Its descriptor is missing, or its keys are of no use.
    pub(crate) fn take_over(
        part: &TransportPart,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        Ok(Self {
            tcp: TcpStream::from(inherited.take(part.descriptor)?),
            encryption: Encryption::take_over(&part.encryption)?,
        })
    }
}

impl Transport {
    /// As [`StdTransport::part`].
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> TransportPart {
        part(&self.tcp, &self.encryption, handed_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_over::Blob;

    /// [`EncryptionPart`] of layout 1.
    #[derive(Serialize)]
    enum Former {
        None,
        Kernel { records_left: u64, closed: bool },
    }

    #[test]
    fn a_connection_of_layout_1_goes_on() {
        let read = |former| {
            let part: EncryptionPart = Blob::of(&former).unwrap().read().unwrap();
            Encryption::take_over(&part).unwrap()
        };
        assert!(matches!(read(Former::None), Encryption::None));
        let (records_left, closed) = (7, true);
        let kernel = read(Former::Kernel {
            records_left,
            closed,
        });
        let Encryption::Kernel(kernel) = kernel else {
            panic!("{kernel:?}");
        };
        assert_eq!((kernel.limit.left(), kernel.is_closed()), (7, true));
    }
}
