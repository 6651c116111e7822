//! Claims that keep a stream: of those who play it, and of those who may be
//! about to publish it.

use std::sync::Arc;

use super::Stream;

/// Somebody who plays a stream or waits to: as long as it is held, the stream
/// is wanted.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
}

impl Subscription {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.subscriptions.send_modify(|count| *count -= 1);
    }
}

/// Somebody who may be about to publish: as long as it is held, those who wait
/// for the stream wait on.
#[derive(Debug)]
pub struct ExpectedPublisher {
    stream: Arc<Stream>,
}

impl Drop for ExpectedPublisher {
    fn drop(&mut self) {
        self.stream.state.send_modify(|state| state.expected -= 1);
    }
}

impl Stream {
    /// Counts its holder among those who want the stream.
    #[must_use]
    pub fn add_subscription(self: &Arc<Self>) -> Subscription {
        self.subscriptions.send_modify(|count| *count += 1);
        Subscription {
            stream: self.clone(),
        }
    }

    /// Tells those who wait that somebody may be about to publish the stream.
    #[must_use]
    pub fn expect_publisher(self: &Arc<Self>) -> ExpectedPublisher {
        self.state.send_modify(|state| state.expected += 1);
        ExpectedPublisher {
            stream: self.clone(),
        }
    }
}
