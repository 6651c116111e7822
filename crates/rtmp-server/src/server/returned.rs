//! Players that have left their fan-out workers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Server;
use super::connection::Connection;
use super::upgrade::Participant;
use super::viewer::Viewer;
use crate::stream::fanout::ReturnedPlayer;

/// Takes players back that have left their fan-out workers.
pub(super) async fn receive_returned(
    server: Arc<Server>,
    mut returned: mpsc::UnboundedReceiver<(ReturnedPlayer<Viewer>, Participant)>,
) {
    while let Some((player, participant)) = returned.recv().await {
        let ReturnedPlayer {
            id,
            socket,
            dialogue,
            unsent,
            reason,
        } = player;
        match dialogue {
            Viewer::Rtmp(dialogue) => {
                let player = ReturnedPlayer {
                    id,
                    socket,
                    dialogue,
                    unsent,
                    reason,
                };
                if let Some(connection) =
                    Connection::from_worker(server.clone(), player, participant)
                {
                    tokio::spawn(Box::new(connection).run());
                }
            }
            Viewer::Flv(player) => {
                tokio::spawn(player.end(server.clone(), socket, unsent, reason));
            }
        }
    }
}
