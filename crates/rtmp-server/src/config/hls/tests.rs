use super::*;
use crate::config::{Loaded, Role, load};

/// The settings of a vhost with this in its `hls`, and the number of warnings.
fn hls(text: &str) -> (Hls, usize) {
    let Loaded {
        config, warnings, ..
    } = load(&format!("vhost v {{ hls {{ {text} }} }}"), Role::Origin).unwrap();
    (config.vhosts["v"].hls.clone(), warnings.len())
}

#[test]
fn an_empty_block_has_srss_defaults_and_writes_no_files() {
    let (settings, warnings) = hls("enabled on;");
    assert_eq!(warnings, 0);
    assert!(settings.enabled && settings.ctx && settings.ts_ctx && !settings.use_fmp4);
    assert_eq!(settings.fragment, Duration::from_secs(10));
    assert_eq!(settings.window, Duration::from_secs(60));
    assert_eq!(settings.files, None);
    assert!(
        !load("", Role::Origin).unwrap().config.vhosts["__defaultVhost__"]
            .hls
            .enabled
    );
}

#[test]
fn hls_path_asks_for_files() {
    let (settings, warnings) = hls(
        "enabled on; hls_path ./x; hls_fragment 1.5; hls_ts_file [app]/a/[seq].ts; \
         hls_cleanup off;",
    );
    assert_eq!(warnings, 0);
    let files = settings.files.unwrap();
    assert_eq!(
        (&*files.ts_file, files.cleanup),
        ("[app]/a/[seq].ts", false)
    );
    assert_eq!(settings.fragment, Duration::from_millis(1_500));
}

#[test]
fn low_latency_means_fragmented_mp4_and_short_segments() {
    let (settings, warnings) = hls("enabled on; hls_low_latency on; hls_part 200;");
    assert_eq!(warnings, 0);
    assert!(settings.use_fmp4 && settings.low_latency);
    assert_eq!(settings.fragment, Duration::from_secs(2));
    let text = "vhost v { hls { enabled on; hls_low_latency on; hls_use_fmp4 off; } }";
    assert!(load(text, Role::Origin).is_err());
}

#[test]
fn what_cannot_be_served_as_asked_is_not_served_with_a_warning() {
    let (settings, warnings) = hls("enabled on; hls_m3u8_file [stream].m3u8;");
    assert!(!settings.enabled && warnings == 1);
    assert_eq!(hls("hls_on_error continue; hls_dts_directly on;").1, 2);
    for text in [
        "hls_fragment 0;",
        "hls_aof_ratio 0;",
        "hls_ts_file ../[seq].ts;",
    ] {
        let text = format!("vhost v {{ hls {{ {text} }} }}");
        assert!(load(&text, Role::Origin).is_err(), "{text}");
    }
}

#[test]
fn keys_are_read_as_srs_reads_them() {
    let (settings, warnings) = hls("enabled on; hls_fragments_per_key 3;");
    assert_eq!((settings.keys, warnings), (None, 0));
    let keys = hls("hls_keys on;").0.keys.unwrap();
    assert_eq!(keys.fragments_per_key, 5);
    assert_eq!(
        (&*keys.file, keys.path, keys.url),
        ("[app]/[stream]-[seq].key", None, None)
    );
    let text = "hls_keys on; hls_fragments_per_key 3; hls_key_file k/[seq].key; \
                hls_key_file_path /keys; hls_key_url https://a.example/;";
    let keys = hls(text).0.keys.unwrap();
    assert_eq!((keys.fragments_per_key, &*keys.file), (3, "k/[seq].key"));
    assert_eq!(keys.path.unwrap().to_str(), Some("/keys"));
    assert_eq!(keys.url.as_deref(), Some("https://a.example/"));
    for text in [
        "hls_keys on; hls_low_latency on;",
        "hls_fragments_per_key 0;",
        "hls_key_file ../[seq].key;",
    ] {
        assert!(
            load(&format!("vhost v {{ hls {{ {text} }} }}"), Role::Origin).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_path_names_the_application_and_the_file() {
    let (settings, _) = hls("hls_m3u8_file hls/[app]/[stream].m3u8;");
    let location = settings.location;
    assert_eq!(location.split("/hls/live/a.m3u8"), Some(("live", "a.m3u8")));
    assert_eq!(location.split("/live/a.m3u8"), None);
    assert_eq!(
        PlaylistPath::default().split("/a/b/c-1.ts"),
        Some(("a/b", "c-1.ts"))
    );
    assert_eq!(PlaylistPath::default().split("/c-1.ts"), None);
}

#[test]
fn what_hls_path_has_below_the_servers_directory_is_part_of_the_path() {
    let server = |path: &str, dir: &str| {
        let text = format!(
            "http_server {{ enabled on; {dir} }} vhost v {{ hls {{ enabled on; \
             hls_path {path}; }} }}"
        );
        let config = load(&text, Role::Origin).unwrap().config;
        config.vhosts["v"].hls.location.clone()
    };
    let plain = PlaylistPath::default();
    assert_eq!(server("./objs/nginx/html", ""), plain);
    assert_eq!(
        server("./objs/nginx/html/", "dir ./objs/nginx/html;"),
        plain
    );
    assert_eq!(server("/var/hls", "dir ./objs/nginx/html;"), plain);
    let below = server("/www/a/b", "dir /www;");
    assert_eq!(below.split("/a/b/live/s.m3u8"), Some(("live", "s.m3u8")));
}
