//! Segments and playlists in files, for another server that serves them, say.

mod part;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hls::playlist::{Found, Resource};
use hls::segmenter::Container;
use jiff::Timestamp;
use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use crate::config::{HlsFiles, HlsKeys};
use crate::server::file_names;
use crate::stream::{Finished, HlsOutput, lock};
use crate::uri::encode_path;
pub(super) use part::{EndedFilesPart, FilesPart};
pub(super) use writer::FileWriter;

/// What is told of a segment that has been written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) segment: Finished,
    /// The segment's file.
    pub(super) file: String,
    /// Its URI as `hls_entry_prefix` and the playlist's directory give it.
    pub(super) url: String,
    /// The playlist's file.
    pub(super) m3u8: String,
    /// The playlist below `hls_path`.
    pub(super) m3u8_url: String,
}

/// The files of one stream.
#[derive(Debug)]
pub(super) struct StreamFiles {
    key: Arc<StreamKey>,
    config: HlsFiles,
    keys: Option<HlsKeys>,
    container: Container,
    /// The playlist's name below `hls_path`.
    playlist: String,
    names: Mutex<Names>,
    /// All segments have been written.
    has_ended: AtomicBool,
    /// The files of the next packager of the stream: it writes the playlist now.
    successor: OnceLock<Arc<StreamFiles>>,
    /// They are removed at the server's end.
    is_removed_at_end: bool,
    has_warned: AtomicBool,
}

/// Names of files below `hls_path`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Names {
    segments: BTreeMap<u64, String>,
    initializations: BTreeMap<u64, String>,
    /// Below the directory of keys.
    keys: BTreeMap<u64, String>,
}

impl StreamFiles {
    /// The files of the stream `key`, whose segments are `output`.
    pub(super) fn new(
        key: Arc<StreamKey>,
        config: HlsFiles,
        keys: Option<HlsKeys>,
        container: Container,
        is_removed_at_end: bool,
    ) -> Self {
        Self {
            playlist: file_names::of_stream(&config.m3u8_file, &key),
            key,
            config,
            keys,
            container,
            names: Mutex::default(),
            has_ended: AtomicBool::new(false),
            successor: OnceLock::new(),
            is_removed_at_end,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Logs, once, that something could not be written.
    fn miss(&self, why: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: HLS cannot be written below {}: {why}; viewers of this server are not \
                 affected",
                self.key,
                self.config.path.display()
            );
        }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        path_below(&self.config.path, name)
    }

    /// The file of a key by its name.
    fn key_path(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.keys.as_ref().and_then(|keys| keys.path.as_ref());
        path_below(directory.unwrap_or(&self.config.path), name)
    }

    /// The name of a segment, which it keeps.
    fn name(&self, names: &mut BTreeMap<u64, String>, number: u64, duration: Duration) -> String {
        let template = match self.container {
            Container::MpegTs => &self.config.ts_file,
            Container::Fmp4 => &self.config.fmp4_file,
        };
        let name = names.entry(number).or_insert_with(|| {
            file_names::of_segment(template, &self.key, number, duration, Timestamp::now())
        });
        name.clone()
    }

    fn write_segment(&self, output: &HlsOutput, segment: &Finished) -> io::Result<Written> {
        let number = segment.number;
        // Whether or not it can be written, the playlist names it.
        let mut names = lock(&self.names);
        let name = self.name(&mut names.segments, number, segment.duration);
        drop(names);
        let path = self.path(&name)?;
        let Some(Found::Log(range)) = output.find(Resource::Segment(number)) else {
            return Err(io::Error::other("the disk is too slow"));
        };
        let bytes = output.log().copy(range)?;
        write_file(&path, &bytes, "tmp")?;
        let url = file_names::uri(&name, &self.playlist, "");
        let directory = self.playlist.rsplit_once('/').map_or("", |(it, _)| it);
        let url = match &*self.config.entry_prefix {
            "" if directory.is_empty() => url,
            "" => format!("{}/{url}", encode_path(directory)),
            prefix => file_names::uri(&name, &self.playlist, prefix),
        };
        Ok(Written {
            segment: segment.clone(),
            file: path.display().to_string(),
            url,
            m3u8: self.config.path.join(&self.playlist).display().to_string(),
            m3u8_url: encode_path(&self.playlist),
        })
    }

    /// Writes the playlist, and the initialization sections that it names.
    fn write_playlist(&self, output: &HlsOutput) -> io::Result<()> {
        if self.successor.get().is_some() {
            return Ok(());
        }
        let (names, target) = (&self.names, output.target_duration());
        let new = Mutex::new(Vec::new());
        let new_keys = Mutex::new(Vec::new());
        let newest = match self.has_ended.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => lock(names)
                .segments
                .keys()
                .next_back()
                .copied()
                .unwrap_or(0),
        };
        let text = output.media_of_files(newest, &|resource| {
            let name = match resource {
                Resource::Segment(number) => {
                    let segments = &mut lock(names).segments;
                    self.name(segments, number, target)
                }
                Resource::Initialization(version) => {
                    let template = &self.config.init_file;
                    let number = version.saturating_sub(output.first_segment());
                    let name = file_names::of_initialization(template, &self.key, number);
                    if !lock(names).initializations.contains_key(&version) {
                        lock(&new).push((version, name.clone()));
                    }
                    name
                }
                Resource::Key(number) => {
                    let Some(keys) = &self.keys else {
                        return String::new();
                    };
                    let name = file_names::of_stream(&keys.file, &self.key);
                    let name = name.replace("[seq]", &number.to_string());
                    if !lock(names).keys.contains_key(&number) {
                        lock(&new_keys).push((number, name.clone()));
                    }
                    return match &keys.url {
                        Some(url) => {
                            let name = encode_path(&name);
                            format!("{}/{name}", url.trim_end_matches('/'))
                        }
                        None => file_names::uri(&name, &self.playlist, ""),
                    };
                }
                Resource::Part { .. } => resource.name(self.container),
            };
            file_names::uri(&name, &self.playlist, &self.config.entry_prefix)
        });
        let mut written = Ok(());
        for (version, name) in lock(&new).drain(..) {
            let found = output.find(Resource::Initialization(version));
            if let Some(Found::Bytes(bytes)) = found {
                let path = self.path(&name);
                written = path.and_then(|path| write_file(&path, &bytes, "tmp"));
                if written.is_ok() {
                    lock(names).initializations.insert(version, name);
                }
            }
        }
        written?;
        for (number, name) in lock(&new_keys).drain(..) {
            if let Some(Found::Bytes(key)) = output.find(Resource::Key(number)) {
                write_file(&self.key_path(&name)?, &key, "tmp")?;
                lock(names).keys.insert(number, name);
            }
        }
        match text {
            Some(text) => write_file(&self.path(&self.playlist)?, text.as_bytes(), "temp"),
            None => Ok(()),
        }
    }

    /// Removes the files of segments that players can no longer ask this server for either.
    fn clean_up(&self, output: &HlsOutput) {
        let mut names = lock(&self.names);
        let is_gone = |number| output.find(Resource::Segment(number)).is_none();
        let gone: Vec<_> = names
            .segments
            .extract_if(.., |&number, _| is_gone(number))
            .collect();
        let is_gone = |number| output.find(Resource::Key(number)).is_none();
        let keys: Vec<_> = names
            .keys
            .extract_if(.., |&number, _| is_gone(number))
            .collect();
        drop(names);
        if self.config.cleanup {
            gone.iter().for_each(|(_, name)| self.remove(name));
            keys.iter().for_each(|(_, name)| self.remove_key(name));
        }
    }

    /// Removes all files.
    fn remove_all(&self) {
        let Names {
            segments,
            initializations,
            keys,
        } = std::mem::take(&mut *lock(&self.names));
        let names = segments.values().chain(initializations.values());
        names.for_each(|name| self.remove(name));
        keys.values().for_each(|name| self.remove_key(name));
        self.remove(&self.playlist);
    }

    /// Removes the file of a key. Another packager has none of the same name: its segments
    /// have other numbers.
    fn remove_key(&self, name: &str) {
        if let Ok(path) = self.key_path(name) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes a file, unless it is another packager's now; one that is not there is as good.
    fn remove(&self, name: &str) {
        let mut successors = std::iter::successors(self.successor.get(), |it| it.successor.get());
        let is_taken = successors.any(|it| it.config.path == self.config.path && it.has(name));
        if let (Ok(path), false) = (self.path(name), is_taken) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// True if one of them has this name.
    fn has(&self, name: &str) -> bool {
        let names = lock(&self.names);
        let mut others = names
            .segments
            .values()
            .chain(names.initializations.values());
        name == self.playlist || others.any(|other| other == name)
    }
}

/// The path of the file `name` below `directory`.
fn path_below(directory: &Path, name: &str) -> io::Result<PathBuf> {
    if !file_names::stays_below(name) {
        let message = format!("`{name}` is no name of a file below that directory");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(directory.join(name))
}

/// Writes a file beside its place, and renames it: readers get all of it, or nothing.
fn write_file(path: &Path, bytes: &[u8], suffix: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{suffix}"));
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // A part of a file is of no use, and takes room on a disk that is full.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
