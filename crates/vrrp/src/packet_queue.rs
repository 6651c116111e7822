//! The queue into which the sockets of all virtual routers deliver.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::socket::{Channel, Received};

/// Tells the packets of one virtual router from those of another, and from its
/// own of earlier sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId(u64);

/// A packet that the sockets of a virtual router have received.
#[derive(Debug)]
pub(crate) struct Packet {
    /// The sockets.
    pub channel: ChannelId,
    /// The packet; or the error that ended the receiving.
    pub received: io::Result<Received>,
}

/// Packets in a [`PacketQueue`]; more are left in the sockets.
const MAX_QUEUED_PACKETS: usize = 64;

/// The queue into which the sockets of all virtual routers deliver.
#[derive(Debug)]
pub(crate) struct PacketQueue {
    packets: mpsc::Sender<Packet>,
    last_id: u64,
}

impl PacketQueue {
    /// An empty queue, and the end to receive from.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Packet>) {
        let (packets, received) = mpsc::channel(MAX_QUEUED_PACKETS);
        (
            Self {
                packets,
                last_id: 0,
            },
            received,
        )
    }

    /// Starts a task that receives from sockets.
    pub(crate) fn receive(&mut self, channel: Channel) -> OpenChannel {
        self.last_id += 1;
        let id = ChannelId(self.last_id);
        let channel = Arc::new(channel);
        let receiver = Arc::clone(&channel);
        let packets = self.packets.clone();
        let task = tokio::spawn(async move {
            loop {
                let received = receiver.receive().await;
                let is_over = received.is_err();
                let packet = Packet {
                    channel: id,
                    received,
                };
                if packets.send(packet).await.is_err() || is_over {
                    return;
                }
            }
        });
        OpenChannel {
            id,
            channel,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// A virtual router's sockets, and the task that receives.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    pub id: ChannelId,
    pub channel: Arc<Channel>,
    _task: AbortOnDropHandle<()>,
}
