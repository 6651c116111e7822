//! The names of files, by the variables that SRS has.

use std::path::{Component, Path};
use std::time::Duration;

use jiff::Timestamp;
use rtmp_proto::session::StreamKey;

use crate::uri::encode_path;

/// `template` with the variables of a stream.
pub(super) fn of_stream(template: &str, key: &StreamKey) -> String {
    let name = template.replace("[vhost]", &key.vhost);
    let name = name.replace("[app]", &key.app);
    name.replace("[stream]", &key.stream)
}

/// `template` with the variables of a segment that ends at `now`.
pub(super) fn of_segment(
    template: &str,
    key: &StreamKey,
    number: u64,
    duration: Duration,
    now: Timestamp,
) -> String {
    let name = template.replace("[seq]", &number.to_string());
    let name = name.replace("[duration]", &duration.as_millis().to_string());
    of_time(&name, key, now)
}

/// `template` with the variables of a stream and of the time `now`, in UTC.
pub(super) fn of_time(template: &str, key: &StreamKey, now: Timestamp) -> String {
    let name = template.replace("[timestamp]", &now.as_millisecond().to_string());
    let local = now.strftime("%Y %m %d %H %M %S").to_string();
    let variables = ["[2006]", "[01]", "[02]", "[15]", "[04]", "[05]"];
    let times = variables.iter().zip(local.split(' '));
    let name = times.fold(name, |name, (variable, value)| {
        name.replace(variable, value)
    });
    let millisecond = format!("{:03}", now.as_millisecond().rem_euclid(1_000));
    // The stream's name last: it may contain what looks like a variable.
    of_stream(&name.replace("[999]", &millisecond), key)
}

/// The name of the initialization section of this number, from 0 on.
pub(super) fn of_initialization(template: &str, key: &StreamKey, number: u64) -> String {
    let name = of_stream(template, key);
    if number == 0 {
        return name;
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{number}.{extension}"),
        None => format!("{name}-{number}"),
    }
}

/// True if `name` lies below the directory that it is taken from.
pub(super) fn stays_below(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = components.all(|component| matches!(component, Component::Normal(_)));
    plain && !name.is_empty() && !name.contains('\0')
}

/// The URI of the file `name` in a playlist that is the file `playlist`, as SRS writes it, but
/// percent-encoded.
pub(super) fn uri(name: &str, playlist: &str, entry_prefix: &str) -> String {
    let directory = playlist
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    let below = name.strip_prefix(directory).and_then(|it| match directory {
        "" => Some(it),
        _ => it.strip_prefix('/'),
    });
    let relative = match below {
        Some(below) => below.to_owned(),
        // It lies elsewhere: up to the common root, and down.
        None => "../".repeat(playlist.matches('/').count()) + name,
    };
    let relative = encode_path(&relative);
    match entry_prefix {
        "" => relative,
        prefix if prefix.ends_with('/') || directory.is_empty() => format!("{prefix}{relative}"),
        prefix => format!("{prefix}/{}/{relative}", encode_path(directory)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StreamKey {
        StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        }
    }

    #[test]
    fn srss_variables_have_their_values() {
        let now: Timestamp = "2026-11-29T09:08:07.045Z".parse().unwrap();
        let name = |template| of_segment(template, &key(), 17, Duration::from_millis(2_040), now);
        assert_eq!(name("[app]/[stream]-[seq].ts"), "live/s-17.ts");
        assert_eq!(
            name("[vhost]/[2006][01][02]T[15][04][05].[999]-[duration].ts"),
            "v/20261129T090807.045-2040.ts"
        );
        assert_eq!(name("[timestamp].ts"), "1795943287045.ts");
        assert_eq!(
            of_initialization("[app]/[stream]-init.mp4", &key(), 0),
            "live/s-init.mp4"
        );
        assert_eq!(
            of_initialization("[app]/[stream]-init.mp4", &key(), 2),
            "live/s-init-2.mp4"
        );
    }

    #[test]
    fn a_segments_uri_is_relative_to_the_playlist() {
        let playlist = "live/s.m3u8";
        assert_eq!(uri("live/s-1.ts", playlist, ""), "s-1.ts");
        assert_eq!(uri("live/a/s-1.ts", playlist, ""), "a/s-1.ts");
        assert_eq!(uri("other/s-1.ts", playlist, ""), "../other/s-1.ts");
        assert_eq!(uri("s-1.ts", "s.m3u8", ""), "s-1.ts");
        let cdn = uri("live/s-1.ts", playlist, "http://cdn");
        assert_eq!(cdn, "http://cdn/live/s-1.ts");
    }

    #[test]
    fn names_are_encoded_in_uris_and_prefixes_are_not() {
        let uri = uri("live/#1/a\"b.ts", "live/#1/s.m3u8", "http://cdn");
        assert_eq!(uri, "http://cdn/live/%231/a%22b.ts");
    }

    #[test]
    fn a_streams_name_does_not_climb_out_of_the_directory() {
        for name in ["live/../../etc/x.ts", "/etc/x.ts", "a\0b", "", "./a/../b"] {
            assert!(!stays_below(name), "{name}");
        }
        assert!(stays_below("live/s..x-1.ts"));
    }
}
