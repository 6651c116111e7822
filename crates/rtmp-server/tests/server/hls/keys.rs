//! Encrypted segments: keys, who gets them, and the files of both.

use std::fs;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::routing::get;
use std::sync::{Arc, Mutex};

use super::client::{HlsClient, beside, seconds};
use super::{PLAYLIST, origin, publisher, serve};
use crate::support::{until, web_server};
use rtmp_server::config::Role;

const KEYS: &str = "hls_keys on; hls_fragments_per_key 2;";

/// The URIs of keys in a playlist.
fn keys(playlist: &super::client::Answer) -> Vec<String> {
    let methods = playlist.attributes("#EXT-X-KEY", "METHOD");
    assert!(methods.iter().all(|it| it == "AES-128"), "{playlist:?}");
    playlist.attributes("#EXT-X-KEY", "URI")
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_get_keys_and_others_do_not() {
    for ctx in ["", "hls_ts_ctx off;"] {
        let (origin, http) = origin(&format!("{KEYS} {ctx}"));
        let _publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let playlist = player.fetch(&media).await;
        let keys = keys(&playlist);
        assert!(keys.len() >= 2, "{playlist:?}");
        let mut known = Vec::new();
        for uri in &keys {
            let target = beside(PLAYLIST, uri);
            let key = player.fetch(&target).await;
            assert_eq!(key.body.len(), 16);
            assert_eq!(key.field("Cache-Control"), Some("no-store"));
            assert!(!known.contains(&key.body), "a key of its own");
            known.push(key.body);
            let (name, _) = target.split_once('?').expect("a session");
            assert_eq!(player.get(name).await.status, 403, "{ctx} {name}");
        }
        let segment = player.fetch(&beside(PLAYLIST, &playlist.uris()[0])).await;
        // Padded, and no packet of MPEG-TS at its begin.
        assert!(segment.body.len().is_multiple_of(16) && !segment.body.len().is_multiple_of(188));
        assert_ne!(segment.body[0], 0x47);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_for_keys_leads_to_this_server_unless_they_are_in_files() {
    let (origin, http) = origin(&format!("{KEYS} hls_key_url https://keys.example:8088;"));
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let uri = keys(&player.fetch(&media).await).remove(0);
    let path = uri.strip_prefix("https://keys.example:8088").unwrap();
    assert!(
        path.starts_with("/live/s-") && path.contains("?hls_ctx="),
        "{uri}"
    );
    assert_eq!(player.fetch(path).await.body.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_written_to_files_as_srs_writes_them() {
    let (segments, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hls = format!(
        "{KEYS} hls_path {}; hls_key_file_path {}; hls_key_file [app]/k-[seq].key; \
         hls_key_url https://keys.example/x/;",
        segments.path().display(),
        secret.path().display()
    );
    let (origin, http) = serve(Role::Origin, &hls, "");
    let mut publisher = publisher(&origin, 9).await;
    let file = segments.path().join("live/s.m3u8");
    until(|| fs::read_to_string(&file).is_ok_and(|text| text.matches("#EXT-X-KEY").count() >= 2))
        .await;
    let text = fs::read_to_string(&file).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("#EXT-X-KEY"))
        .unwrap();
    let uri = line.split('"').nth(1).unwrap();
    let name = uri.strip_prefix("https://keys.example/x/live/k-").unwrap();
    let written = secret.path().join(format!("live/k-{name}"));
    assert_eq!(fs::read(&written).unwrap().len(), 16);
    // Viewers over HTTP are sent there, too.
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let playlist = player.fetch(&media).await;
    assert!(keys(&playlist).contains(&uri.to_owned()), "{playlist:?}");
    // They go with the last segment that needs them.
    publisher.publish(&seconds(9, 60)).await;
    until(|| !written.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_hls_notify_fetches_a_url_with_what_it_names() {
    type Fetched = Arc<Mutex<Vec<String>>>;
    let fetched = Fetched::default();
    let note = |State(fetched): State<Fetched>, OriginalUri(uri): OriginalUri| async move {
        fetched.lock().unwrap().push(uri.to_string());
        "x".repeat(1 << 20)
    };
    let router = Router::new()
        .fallback(get(note))
        .with_state(fetched.clone());
    let web = web_server(router).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let hooks = format!(
        "http_hooks {{ enabled on; on_hls_notify http://{web}/n/[app]/[stream]/[ts_url]; }}"
    );
    let (origin, _) = serve(Role::Origin, &format!("hls_path {path};"), &hooks);
    let _publisher = publisher(&origin, 9).await;
    until(|| fetched.lock().unwrap().len() >= 2).await;
    for uri in fetched.lock().unwrap().iter() {
        assert!(
            uri.starts_with("/n/live/s/live/s-") && uri.ends_with(".ts"),
            "{uri}"
        );
    }
    // A segment with a host in its URL is fetched itself.
    let entry = format!("hls_path {path}; hls_entry_prefix http://{web}/cdn;");
    fetched.lock().unwrap().clear();
    let (other, _) = serve(Role::Origin, &entry, &hooks);
    let _other_publisher = publisher(&other, 9).await;
    let is_entry = |uri: &String| uri.starts_with("/cdn/live/s-");
    until(|| fetched.lock().unwrap().iter().any(is_entry)).await;
}
