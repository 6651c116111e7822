//! The body of an answer, as it comes out of the pair.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::net::UnixStream;

use super::UnderWay;

/// Bytes read at once, when the peer's window has room.
const READ_SIZE: usize = 16 * 1024;

/// A body: bytes that are there, then those of a pair.
#[derive(Debug)]
pub(super) struct PairBody {
    begun: Bytes,
    pair: Option<UnixStream>,
    _under_way: Option<UnderWay>,
}

impl PairBody {
    /// What follows `begun` in `pair`, up to its end.
    pub(super) fn new(pair: UnixStream, begun: Bytes, under_way: UnderWay) -> Self {
        Self {
            begun,
            pair: Some(pair),
            _under_way: Some(under_way),
        }
    }

    pub(super) fn of_text(text: String) -> Self {
        Self {
            begun: text.into(),
            pair: None,
            _under_way: None,
        }
    }
}

impl Body for PairBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        let Some(pair) = &mut self.pair else {
            return Poll::Ready(None);
        };
        loop {
            ready!(pair.poll_read_ready(context))?;
            // What waits for the peer's window takes no more than its length.
            let mut bytes = [0; READ_SIZE];
            return match pair.try_read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => Poll::Ready(Some(Err(error))),
                Ok(0) => {
                    self.pair = None;
                    Poll::Ready(None)
                }
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(&bytes[..count]);
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
            };
        }
    }
}
