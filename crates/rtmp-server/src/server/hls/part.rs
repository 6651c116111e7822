//! HLS for the program that the process becomes: packagers, and who watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Hls;
use super::files::{EndedFilesPart, FilesPart, StreamFiles};
use super::packagers;
use super::sessions::SessionsPart;
use crate::hand_over::{HandOverError, HandedOver, Inherited};
use crate::server::Server;
use crate::stream::{HlsPart, Stream};

/// Time for the disk while everybody stands still.
const DISK_LIMIT: Duration = Duration::from_secs(1);

/// What a server knows of HLS, for the program that the process becomes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct HlsServerPart {
    packagers: Vec<PackagerPart>,
    /// Files of streams that have ended.
    ended: Vec<EndedFilesPart>,
    /// Ids of streams that viewers without a session play.
    without_session: Vec<u64>,
    sessions: SessionsPart,
}

/// A packager that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PackagerPart {
    /// Id of its stream.
    pub(super) stream: u64,
    pub(super) hls: HlsPart,
    pub(super) files: Option<FilesPart>,
}

impl Hls {
    /// What is known of HLS, for the program that the process becomes. Nobody may publish
    /// meanwhile.
    ///
    /// # Errors
    /// Something cannot be written down.
    pub(in crate::server) async fn part(
        &self,
        handed_over: &mut HandedOver,
    ) -> Result<HlsServerPart, String> {
        let frozen = self.packagers.freeze().await;
        let frozen = frozen.map_err(|error: HandOverError| format!("something {error}"))?;
        // Names of files are given when they are written.
        if !self.files.is_flushed_within(DISK_LIMIT).await {
            return Err("the disk is too slow: files of HLS (`hls_path`) wait for it".to_owned());
        }
        let mut packagers = Vec::new();
        for packager in frozen {
            handed_over.extend(&packager.handed_over);
            packagers.push(PackagerPart {
                stream: packager.stream,
                hls: packager.part,
                files: packager.files.map(|files| files.part()),
            });
        }
        Ok(HlsServerPart {
            packagers,
            ended: self.files.part(),
            without_session: self.packagers.without_session(),
            sessions: self.sessions.part(),
        })
    }

    /// Goes on with what this process has had before. Nobody may publish yet. Returns the ids
    /// of the viewers. What cannot be taken over is left out, with a line in the log.
    pub(in crate::server) fn take_over(
        &self,
        server: &Arc<Server>,
        part: HlsServerPart,
        streams: &HashMap<u64, Arc<Stream>>,
        inherited: &mut Inherited,
    ) -> Vec<u64> {
        // Before those that run: the files of these are theirs now.
        let ended = part.ended.into_iter();
        for (until, files) in ended.filter_map(|it| self.files.take_over(it)) {
            remove_at(server, until, files);
        }
        for packager in part.packagers {
            let files = packager.files.clone();
            if let Some(stream) = streams.get(&packager.stream) {
                match packagers::resume(server, stream, packager, inherited) {
                    Ok(()) => continue,
                    Err(error) => log::warn!("{}: its HLS begins anew: {error}", stream.key()),
                }
            }
            if let Some((until, files)) = files.and_then(|it| self.files.take_over_former(it)) {
                remove_at(server, until, files);
            }
        }
        for id in part.without_session {
            if let Some(stream) = streams.get(&id) {
                self.packagers.keep(stream.add_subscription());
            }
        }
        self.sessions.take_over(server, part.sessions, streams)
    }
}

/// Has the files of a stream removed at the time `until`.
fn remove_at(server: &Arc<Server>, until: Instant, files: Arc<StreamFiles>) {
    let server = server.clone();
    tokio::spawn(async move { server.hls.files.remove_at(until, &files).await });
}
