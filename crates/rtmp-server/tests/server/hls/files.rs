//! Segments and playlists in files, as SRS writes them.

use std::fs;
use std::path::Path;

use super::client::{Answer, HlsClient, seconds};
use super::{PLAYLIST, hooks, origin, publisher, serve};
use crate::hooks::Site;
use crate::support::until;
use rtmp_server::config::Role;

fn names(directory: &Path, ending: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_stream_is_written_to_hls_path_without_a_viewer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let site = Site::default();
    let hooks = hooks(&site, &[("on_hls", "/zero")]).await;
    let (origin, http) = serve(Role::Origin, &format!("hls_path {path};"), &hooks);
    let mut publisher = publisher(&origin, 9).await;
    let live = directory.path().join("live");
    let playlist = live.join("s.m3u8");
    until(|| playlist.exists()).await;
    let text = fs::read_to_string(&playlist).unwrap();
    let segments: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!segments.is_empty(), "{text}");
    for name in &segments {
        assert!(name.starts_with("s-") && name.ends_with(".ts"), "{text}");
        let bytes = fs::read(live.join(name)).unwrap();
        assert!(bytes.len().is_multiple_of(188) && bytes[0] == 0x47);
    }
    // The same segments over HTTP, by the same path.
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    player.fetch(&media).await;
    until(|| !site.actions().is_empty()).await;
    {
        let asked = site.asked.lock().unwrap();
        let event = &asked[0];
        assert_eq!(event["action"], "on_hls");
        assert_eq!(event["app"], "live");
        assert_eq!(event["m3u8_url"], "live/s.m3u8");
        let url = event["url"].as_str().unwrap();
        assert!(
            url.starts_with("live/s-") && url.ends_with(".ts"),
            "{event}"
        );
        assert!(
            Path::new(event["file"].as_str().unwrap()).is_absolute(),
            "{event}"
        );
        let seq_no = event["seq_no"].as_u64().unwrap();
        assert!(url.contains(&seq_no.to_string()), "{event}");
    }
    // What no player can ask for any more is removed.
    let first = segments[0].to_owned();
    publisher.publish(&seconds(9, 60)).await;
    until(|| !live.join(&first).exists()).await;
    until(|| names(&live, ".tmp").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_removed_some_time_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let hls = format!("hls_path {path}; hls_use_fmp4 on; hls_dispose 0.1;");
    let (origin, _) = serve(Role::Origin, &hls, "publish_return_timeout 100;");
    let publisher = publisher(&origin, 9).await;
    let live = directory.path().join("live");
    until(|| live.join("s.m3u8").exists()).await;
    assert_eq!(names(&live, ".mp4"), ["s-init.mp4"]);
    assert!(!names(&live, ".m4s").is_empty());
    drop(publisher);
    until(|| fs::read_dir(&live).unwrap().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_costs_viewers_nothing() {
    crate::support::keep_log();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let (origin, http) = origin(&format!("hls_path {path};"));
    let mut publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let first = player.fetch(&media).await;
    until(|| !crate::support::log_lines(&path).is_empty()).await;
    publisher.publish(&seconds(9, 15)).await;
    let moved = |playlist: &Answer| playlist.uris() != first.uris();
    player.fetch_until(&media, moved).await;
    let lines = crate::support::log_lines(&path);
    assert_eq!(lines.len(), 1, "once: {lines:?}");
}
