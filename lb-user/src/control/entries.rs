//! Connections and persistent clients by the page: read in threads that may
//! block, and never all in memory at once.

use serde::Serialize;
use tokio::sync::mpsc;

use super::protocol::Response;
use super::selection::Selection;
use lb_dataplane::{Connection, ConntrackSnapshot, Cursor, Error, PersistentClient};

/// Entries that are read at a time.
const BATCH: usize = 512;

/// A kind of entry in the tables of connections.
pub(super) trait Entry: Serialize + Sized {
    /// Reads some, and says where to go on.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn read(
        snapshot: &ConntrackSnapshot,
        from: Cursor,
        batch: usize,
    ) -> Result<(Vec<Self>, Option<Cursor>), Error>;

    /// True if it is one of those that are asked for.
    fn is_selected(&self, selection: &Selection) -> bool;

    /// The answer that brings some.
    fn answer(entries: Vec<Self>) -> Response;
}

impl Entry for Connection {
    fn read(
        snapshot: &ConntrackSnapshot,
        from: Cursor,
        batch: usize,
    ) -> Result<(Vec<Self>, Option<Cursor>), Error> {
        snapshot.connections(from, batch)
    }

    fn is_selected(&self, selection: &Selection) -> bool {
        selection.has_connection(self)
    }

    fn answer(entries: Vec<Self>) -> Response {
        Response::Connections(entries)
    }
}

impl Entry for PersistentClient {
    fn read(
        snapshot: &ConntrackSnapshot,
        from: Cursor,
        batch: usize,
    ) -> Result<(Vec<Self>, Option<Cursor>), Error> {
        snapshot.persistent_clients(from, batch)
    }

    fn is_selected(&self, selection: &Selection) -> bool {
        selection.has_persistent_client(self)
    }

    fn answer(entries: Vec<Self>) -> Response {
        Response::PersistentClients(entries)
    }
}

/// Sends all that are selected to `answers`, and what tells their end; stops
/// when nobody takes them any more.
pub(super) fn send_all<E: Entry>(
    snapshot: &ConntrackSnapshot,
    selection: &Selection,
    answers: &mpsc::Sender<Response>,
) {
    let mut place = Some(Cursor::default());
    while let Some(from) = place {
        let answer = match E::read(snapshot, from, BATCH) {
            Ok((mut entries, next)) => {
                place = next;
                entries.retain(|entry| entry.is_selected(selection));
                if entries.is_empty() {
                    continue;
                }
                E::answer(entries)
            }
            Err(error) => {
                let _ = answers.blocking_send(Response::Refused(error.to_string()));
                return;
            }
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
    let _ = answers.blocking_send(Response::Done(Vec::new()));
}

/// Some entries, and where the next ones are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Page<E> {
    /// In no order that means anything.
    pub entries: Vec<E>,
    /// The value of `from` for the next page; `None` behind the last.
    pub next: Option<String>,
}

/// Reads entries from `from` on until there are `limit` that are selected. A
/// page ends where a bucket of the kernel's table ends, so that there may be a
/// few more.
///
/// # Errors
/// [`Error::Map`].
pub(super) fn page<E: Entry>(
    snapshot: &ConntrackSnapshot,
    selection: &Selection,
    from: Cursor,
    limit: usize,
) -> Result<Page<E>, Error> {
    let mut entries = Vec::new();
    let mut place = Some(from);
    while let Some(from) = place
        && entries.len() < limit
    {
        let batch = BATCH.min(limit - entries.len());
        let (some, next) = E::read(snapshot, from, batch)?;
        entries.extend(
            some.into_iter()
                .filter(|entry| entry.is_selected(selection)),
        );
        place = next;
    }
    Ok(Page {
        entries,
        next: place.map(|place| place.to_string()),
    })
}
