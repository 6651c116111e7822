//! URIs of playlists, resolved to request targets (RFC 3986 §5).

/// The target of `uri` as it stands in the playlist at `base`; `None` if it is
/// elsewhere than at `origin`, which is a scheme, a host and a port.
pub(crate) fn resolve(base: &str, origin: &str, uri: &str) -> Option<String> {
    let base = base.split(['?', '#']).next().unwrap_or_default();
    let uri = uri.split('#').next().unwrap_or_default();
    if let Some(rest) = uri.strip_prefix(origin) {
        return rest.starts_with('/').then(|| rest.to_owned());
    }
    // A colon before any slash ends a scheme.
    let first = uri.split(['/', '?']).next().unwrap_or_default();
    if first.contains(':') || uri.starts_with("//") {
        return None;
    }
    if uri.starts_with('/') {
        return Some(without_dots(uri));
    }
    if uri.starts_with('?') {
        return Some(format!("{base}{uri}"));
    }
    let folder = base.rfind('/').map_or(0, |slash| slash + 1);
    Some(without_dots(&format!("{}{uri}", &base[..folder])))
}

/// Takes `.` and `..` out of the path (RFC 3986 §5.2.4).
fn without_dots(target: &str) -> String {
    let end = target.find('?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if !path.contains("/.") {
        return target.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for word in path.split('/').skip(1) {
        match word {
            "." => {}
            ".." => {
                kept.pop();
            }
            word => kept.push(word),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_resolved_against_the_playlist() {
        let base = "/live/s.m3u8?token=a/b";
        for (uri, expected) in [
            ("s-1.m4s?x=/", Some("/live/s-1.m4s?x=/")),
            ("/other/1.ts", Some("/other/1.ts")),
            ("../x/./1.ts", Some("/x/1.ts")),
            ("?hls_ctx=1", Some("/live/s.m3u8?hls_ctx=1")),
            ("http://a:80/1.ts", Some("/1.ts")),
            ("http://b/1.ts", None),
            ("https://a:80/1.ts", None),
            ("//a/1.ts", None),
        ] {
            assert_eq!(
                resolve(base, "http://a:80", uri).as_deref(),
                expected,
                "{uri}"
            );
        }
    }
}
