//! A packager that runs, until its stream ends or nobody wants its segments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Running;
use crate::hand_over::{HandOverError, HandedOver};
use crate::server::Server;
use crate::server::hls::files::{StreamFiles, Written};
use crate::server::hooks::SegmentEvent;
use crate::stream::{FeedItem, FeedReader, Finished, HlsPart, Packager, Stream, lock};

/// A packager for the program that the process becomes.
#[derive(Debug)]
pub(in crate::server::hls) struct FrozenPackager {
    /// Id of its stream.
    pub(in crate::server::hls) stream: u64,
    pub(in crate::server::hls) part: HlsPart,
    pub(in crate::server::hls) handed_over: HandedOver,
    pub(in crate::server::hls) files: Option<Arc<StreamFiles>>,
}

/// Who asks for what a packager has gets it; `None` if it cannot be handed over.
pub(super) type Freeze = oneshot::Sender<Result<Option<FrozenPackager>, HandOverError>>;

/// The reason why a packager runs no more.
enum PackagerEnd {
    /// The stream has ended for good.
    StreamEnded,
    /// Nobody asks for its segments, or others are made.
    Unwanted,
    /// Its playlist says that segments begin with keyframes, and one does not.
    Irregular,
    /// Its segments cannot be written.
    Failed(std::io::Error),
}

/// A packager that runs.
pub(super) struct PackagerTask {
    pub(super) server: Arc<Server>,
    pub(super) stream: Arc<Stream>,
    pub(super) packager: Packager,
    pub(super) files: Option<Arc<StreamFiles>>,
    pub(super) dispose: Duration,
    /// Requests for what it has.
    pub(super) frozen: mpsc::UnboundedReceiver<Freeze>,
}

impl PackagerTask {
    pub(super) async fn run(mut self, reader: FeedReader) {
        let end = self.package(reader).await;
        match &end {
            PackagerEnd::StreamEnded => self.finish(),
            PackagerEnd::Unwanted => self.stream.end_hls(self.packager.output()),
            PackagerEnd::Irregular => {
                let key = self.stream.key();
                let longest = self.packager.output().target_duration().as_secs();
                log::info!(
                    "{key}: keyframes come more than {longest} s apart (EXT-X-TARGETDURATION): \
                     HLS begins anew with longer segments"
                );
                self.stream.set_hls_irregular();
                self.stream.end_hls(self.packager.output());
            }
            PackagerEnd::Failed(error) => {
                log::warn!("{}: HLS cannot go on: {error}", self.stream.key());
                self.stream.end_hls(self.packager.output());
                let packagers = &self.server.hls.packagers;
                packagers.failed(&self.stream, Instant::now());
            }
        }
        log::info!("{}: HLS ends", self.stream.key());
        self.forget();
        let Self {
            server,
            stream,
            packager,
            files,
            dispose,
            frozen,
        } = self;
        // Whoever asks from now on learns that there is nothing to hand over.
        drop(frozen);
        let Some(files) = files else { return };
        let writer = &server.hls.files;
        if let PackagerEnd::StreamEnded = end {
            writer.write_playlist(&files, packager.output());
            if dispose.is_zero() {
                return;
            }
            // Names are left: segments take no memory until their files are removed.
            drop((stream, packager));
            writer.remove_at(Instant::now() + dispose, &files).await;
            return;
        }
        writer.remove(&files);
    }

    /// The packager runs no more.
    fn forget(&self) {
        let mut running = lock(&self.server.hls.packagers.running);
        let id = self.stream.id();
        let is_own = |it: &Running| Arc::ptr_eq(&it.output, self.packager.output());
        if running.get(&id).is_some_and(is_own) {
            running.remove(&id);
        }
    }

    /// Packages as long as it is wanted and can be done.
    async fn package(&mut self, mut reader: FeedReader) -> PackagerEnd {
        let output = self.packager.output().clone();
        // Either may have changed before this task began.
        let mut states = self.stream.state();
        states.mark_changed();
        let mut changes = output.changes();
        changes.mark_changed();
        loop {
            if output.has_broken_promise() {
                return PackagerEnd::Irregular;
            }
            tokio::select! {
                biased;
                batch = reader.next() => {
                    let Some(batch) = batch else {
                        return PackagerEnd::Unwanted;
                    };
                    if let Err(error) = self.take(&batch) {
                        return PackagerEnd::Failed(error);
                    }
                }
                // An error cannot be: the sender is the stream's, which we hold.
                _ = states.changed() => {
                    if states.borrow_and_update().ended {
                        return PackagerEnd::StreamEnded;
                    }
                }
                _ = changes.changed() => {
                    if output.is_abandoned() {
                        return PackagerEnd::Unwanted;
                    }
                }
                // There is a sender as long as it runs.
                Some(freeze) = self.frozen.recv() => {
                    // Nobody publishes any more: nothing comes behind what is queued.
                    while let Some(batch) = reader.take_queued() {
                        if let Err(error) = self.take(&batch) {
                            return PackagerEnd::Failed(error);
                        }
                    }
                    // An error means that the upgrade has been given up.
                    let _ = freeze.send(self.part());
                }
            }
        }
    }

    fn take(&mut self, batch: &[FeedItem]) -> std::io::Result<()> {
        let finished = self.packager.take(batch)?;
        self.report(&finished);
        Ok(())
    }

    /// What it has, for the program that the process becomes.
    fn part(&self) -> Result<Option<FrozenPackager>, HandOverError> {
        let mut handed_over = HandedOver::default();
        let part = self.packager.part(&self.stream, &mut handed_over)?;
        Ok(part.map(|part| FrozenPackager {
            stream: self.stream.id(),
            part,
            handed_over,
            files: self.files.clone(),
        }))
    }

    /// The stream has ended: viewers get what is left.
    fn finish(&mut self) {
        match self.packager.end() {
            Ok(finished) => self.report(&finished),
            Err(error) => log::warn!("{}: the end is missing: {error}", self.stream.key()),
        }
    }

    /// Has segments written, and tells hooks of them.
    pub(super) fn report(&self, finished: &[Finished]) {
        let Some(files) = &self.files else { return };
        for segment in finished {
            let (server, stream) = (self.server.clone(), self.stream.clone());
            let told = move |written: Written| notify(&server, &stream, &written);
            let output = self.packager.output();
            let writer = &self.server.hls.files;
            writer.write(files, output, segment.clone(), told);
        }
    }
}

/// Notifies `on_hls` of a segment that has been written.
fn notify(server: &Arc<Server>, stream: &Arc<Stream>, written: &Written) {
    let config = server.config();
    let Some(vhost) = config.vhost(&stream.key().vhost) else {
        return;
    };
    let hooks = &vhost.http_hooks;
    if hooks.on_hls.is_empty() && hooks.on_hls_notify.is_empty() {
        return;
    }
    let publisher = server.clients.publisher(stream.key());
    let event = SegmentEvent {
        publisher: publisher.as_deref(),
        parameters: &stream.parameters(),
        stream,
        duration: written.segment.duration,
        number: written.segment.number,
        file: &written.file,
        url: &written.url,
        m3u8: &written.m3u8,
        m3u8_url: &written.m3u8_url,
    };
    server.hooks.notify(&hooks.on_hls, &event);
    let urls = &hooks.on_hls_notify;
    server.hooks.fetch(urls, &event, vhost.hls.nb_notify);
}
