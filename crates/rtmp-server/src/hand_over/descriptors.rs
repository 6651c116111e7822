//! Descriptors that stay open when the process becomes another program.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Descriptors that are to stay open.
#[derive(Debug, Default)]
pub(crate) struct HandedOver(Vec<RawFd>);

impl HandedOver {
    /// Adds one.
    pub(crate) fn add(&mut self, number: RawFd) {
        self.0.push(number);
    }

    /// Adds those of `others`.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> &[RawFd] {
        &self.0
    }

    /// Has them stay open when the process becomes another program, or not.
    ///
    /// # Errors
    /// One of them is not open.
    pub(crate) fn set_inheritable(&self, inheritable: bool) -> io::Result<()> {
        let flag = match inheritable {
            true => FdFlag::empty(),
            false => FdFlag::FD_CLOEXEC,
        };
        for &number in &self.0 {
            // SAFETY: whoever has added the number keeps it open until the process becomes
            // another program, or goes on: all that could close it is stopped.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(descriptor, FcntlArg::F_SETFD(flag))?;
        }
        Ok(())
    }
}

/// Descriptors that this process has from the program that it was.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// By their numbers, which are small: a process gets the lowest that is free.
    by_number: Vec<Option<OwnedFd>>,
}

impl Inherited {
    /// Those with these numbers, as far as they are open.
    ///
    /// # Safety
    /// They must be those that the program before has handed over, and be adopted once.
    pub(crate) unsafe fn adopt(numbers: &[RawFd]) -> Self {
        let mut by_number = Vec::new();
        for &number in numbers {
            let Ok(place) = usize::try_from(number) else {
                continue;
            };
            // SAFETY: a number that is not open is only asked about, and left out below.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            if fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
                continue;
            }
            if by_number.len() <= place {
                by_number.resize_with(place + 1, || None);
            }
            // One that two have written down is one nevertheless: it must not be closed here.
            if by_number[place].is_none() {
                // SAFETY: it is open, and nobody else in this process has it, as the caller
                // promises.
                by_number[place] = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        Self { by_number }
    }

    /// The descriptor of this number, once.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        let place = usize::try_from(number).ok();
        let descriptor = place.and_then(|place| self.by_number.get_mut(place)?.take());
        descriptor.ok_or_else(|| {
            let text = format!("descriptor {number} has not been handed over");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }
}

/// The number of an open descriptor, which `handed_over` keeps open.
pub(crate) fn hand_over(descriptor: impl AsFd, handed_over: &mut HandedOver) -> RawFd {
    let number = descriptor.as_fd().as_raw_fd();
    handed_over.add(number);
    number
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn is_closed_by_exec(number: RawFd) -> bool {
        // SAFETY: the tests keep it open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(descriptor, FcntlArg::F_GETFD).unwrap() & FdFlag::FD_CLOEXEC.bits() != 0
    }

    #[test]
    fn a_descriptor_is_handed_over_and_taken_once() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut handed_over = HandedOver::default();
        let number = hand_over(&other, &mut handed_over);
        assert_eq!(hand_over(&other, &mut handed_over), number);
        handed_over.set_inheritable(true).unwrap();
        assert!(!is_closed_by_exec(number));
        handed_over.set_inheritable(false).unwrap();
        assert!(is_closed_by_exec(number));
        std::mem::forget(other);
        // SAFETY: it has just been given up.
        let mut inherited = unsafe { Inherited::adopt(handed_over.numbers()) };
        assert!(is_closed_by_exec(number));
        let mut taken = UnixStream::from(inherited.take(number).unwrap());
        one.write_all(b"x").unwrap();
        let mut byte = [0];
        taken.read_exact(&mut byte).unwrap();
        assert!(inherited.take(number).is_err(), "taken twice");
    }
}
