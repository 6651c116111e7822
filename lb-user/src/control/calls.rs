//! Requests on their way to the agent's loop.

use tokio::sync::{mpsc, oneshot};

use super::protocol::{Request, Response};
use lb_dataplane::ConntrackSnapshot;

/// A request to the agent's loop, with the sender of its answer.
#[derive(Debug)]
pub enum Call {
    /// One of the protocol's.
    Request(Request, oneshot::Sender<Response>),
    /// The tables of connections, to be read in another thread.
    ConntrackSnapshot(oneshot::Sender<ConntrackSnapshot>),
}

/// Asks the agent's loop.
pub(super) async fn call(request: Request, calls: &mpsc::Sender<Call>) -> Response {
    let (answer, response) = oneshot::channel();
    if calls.send(Call::Request(request, answer)).await.is_err() {
        return stopping();
    }
    response.await.unwrap_or_else(|_| stopping())
}

/// The tables of connections; `None` if the agent is stopping.
pub(super) async fn conntrack_snapshot(calls: &mpsc::Sender<Call>) -> Option<ConntrackSnapshot> {
    let (answer, snapshot) = oneshot::channel();
    calls.send(Call::ConntrackSnapshot(answer)).await.ok()?;
    snapshot.await.ok()
}

/// The answer of an agent whose loop has ended.
pub(super) fn stopping() -> Response {
    Response::Refused("the agent is stopping".to_owned())
}
