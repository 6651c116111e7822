//! A connection as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::client::Client;
use crate::transport::Transport;

/// Bytes read at once.
const READ_SIZE: usize = 16 * 1024;

/// A connection, with what was decrypted and not read.
pub(super) struct BufferedTransport {
    transport: Transport,
    input: BytesMut,
    client: Arc<Client>,
}

impl BufferedTransport {
    pub(super) fn new(transport: Transport, client: Arc<Client>) -> Self {
        Self {
            transport,
            input: BytesMut::new(),
            client,
        }
    }
}

impl AsyncRead for BufferedTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.input.is_empty() {
            let read = this
                .transport
                .poll_read(context, READ_SIZE, &mut this.input);
            let count = ready!(read)?;
            let received = &this.client.received;
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
        let count = this.input.len().min(buffer.remaining());
        buffer.put_slice(&this.input[..count]);
        this.input.advance(count);
        if this.input.is_empty() {
            this.input = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BufferedTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = ready!(this.transport.poll_write(context, bytes));
        match &written {
            Ok(count) => {
                let sent = &this.client.meter.bytes;
                sent.fetch_add(*count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                // hyper drops a connection that fails, and says nothing of its end. What
                // cannot be sent now is not sent.
                let _ = this.transport.poll_shutdown(context);
            }
            Err(_) => {}
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(context)
    }
}
