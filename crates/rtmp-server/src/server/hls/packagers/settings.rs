//! The settings of a packager.

use rtmp_proto::session::StreamKey;

use crate::config::{self, HlsKeys};
use crate::server::file_names;
use crate::server::hls::asked::container;
use crate::stream::{HlsKeySettings, HlsSettings, KeyUri};
use crate::uri::encode_path;

/// The settings of the packager of the stream `key` by those of its vhost.
pub(super) fn settings(hls: &config::Hls, key: &StreamKey) -> HlsSettings {
    HlsSettings {
        segments: hls::segmenter::Settings {
            container: container(hls),
            part_target: hls.part,
            fragment: hls.fragment,
            max_fragments: hls.aof_ratio,
            wait_keyframe: hls.wait_keyframe,
            min_target: hls.fragment.mul_f64(hls.td_ratio),
            irregular: false,
            short_first: true,
        },
        window: hls.window,
        low_latency: hls.low_latency,
        keys: hls.keys.as_ref().map(|keys| HlsKeySettings {
            segments_per_key: keys.fragments_per_key.into(),
            uri: key_uri(hls, keys, key),
        }),
    }
}

/// The URIs of keys. With `hls_path` they are in files, which another server gives out if
/// `hls_key_url` names one; else they are this server's, by whatever address.
fn key_uri(hls: &config::Hls, keys: &HlsKeys, key: &StreamKey) -> KeyUri {
    let Some(url) = keys.url.as_ref().map(|url| url.trim_end_matches('/')) else {
        return KeyUri::Served(String::new());
    };
    match hls.files {
        Some(_) => KeyUri::File {
            directory: url.to_owned(),
            name: file_names::of_stream(&keys.file, key),
        },
        None => {
            let directory = hls.location.directory(&key.app);
            KeyUri::Served(format!("{url}{}/", encode_path(&directory)))
        }
    }
}
