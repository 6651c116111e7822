//! SRS's variables in the arguments of programs.

use jiff::Timestamp;
use rtmp_proto::session::StreamKey;

use crate::server::file_names;

/// `template` with the values of `variables`, such as `("[app]", "live")`; `None` if a value
/// would change what the argument means.
///
/// The values are publishers' own words. Without a shell they cannot name other programs;
/// but an argument could become an option, or a file one of another directory.
pub(in crate::server) fn of_stream(template: &str, variables: &[(&str, &str)]) -> Option<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    // In one pass: a value may contain what looks like a variable.
    'text: while !rest.is_empty() {
        for (name, value) in variables {
            if let Some(after) = rest.strip_prefix(name) {
                if !is_harmless(value) {
                    return None;
                }
                filled.push_str(value);
                rest = after;
                continue 'text;
            }
        }
        let next = rest.chars().next()?;
        filled.push(next);
        rest = &rest[next.len_utf8()..];
    }
    let becomes_option = filled.starts_with('-') && !template.starts_with('-');
    let becomes_path = filled.starts_with('/') && !template.starts_with('/');
    let becomes_url = names_protocol(&filled) && !names_protocol(template);
    let is_ours_to_be = is_url(template, &filled);
    let is_safe = !becomes_option && !becomes_path && (!becomes_url || is_ours_to_be);
    is_safe.then_some(filled)
}

/// True if ffmpeg takes `text` for a URL (`url_find_protocol` in `libavformat/avio.c`):
/// `file:/etc/passwd` is one.
fn names_protocol(text: &str) -> bool {
    let beginning = text.split(['/', '?']).next().unwrap_or_default();
    beginning.contains(':') || text.starts_with("subfile,")
}

/// True if a URL is what the template asks for, and it is one of a server.
fn is_url(template: &str, filled: &str) -> bool {
    const VARIABLES: [&str; 4] = ["[url]", "[tcUrl]", "[swfUrl]", "[pageUrl]"];
    const SCHEMES: [&str; 4] = ["rtmp://", "rtmps://", "http://", "https://"];
    VARIABLES.iter().any(|it| template.starts_with(it))
        && SCHEMES.iter().any(|it| filled.starts_with(it))
}

fn is_harmless(value: &str) -> bool {
    !value.chars().any(char::is_control) && value.split('/').all(|part| part != "..")
}

/// `template` with the variables of the time, in UTC.
pub(in crate::server) fn fill_in_time(template: &str, now: Timestamp) -> String {
    let nobody = StreamKey {
        vhost: "[vhost]".to_owned(),
        app: "[app]".to_owned(),
        stream: "[stream]".to_owned(),
    };
    file_names::of_time(template, &nobody, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fills_its_variable_and_nothing_else() {
        let fill =
            |template, stream| of_stream(template, &[("[app]", "live"), ("[stream]", stream)]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(fill("./[app]-[stream].flv", "a"), some("./live-a.flv"));
        assert_eq!(fill("[stream][stream]", "[app]"), some("[app][app]"));
        assert_eq!(fill("[other] ü", "a"), some("[other] ü"));
        for name in ["../a", "a/../b", "a\nb"] {
            assert_eq!(fill("./[stream].flv", name), None, "{name}");
        }
        assert_eq!(fill("[stream]", "-y"), None);
        assert_eq!(fill("[stream]", "/etc/passwd"), None);
        assert_eq!(fill("-x[stream]", "a"), some("-xa"));
        for name in [
            "file:x",
            "tcp:1.2.3.4",
            "http://h/x",
            "subfile,,start,0,end,0,,:x",
        ] {
            assert_eq!(fill("[stream]", name), None, "{name}");
            assert_eq!(fill("[stream].flv?x=http://h", name), None, "{name}");
        }
        assert_eq!(fill("./[stream]", "a:b"), some("./a:b"));
        assert_eq!(fill("rtmp://h/[stream]", "a:b"), some("rtmp://h/a:b"));
        assert_eq!(fill("a[stream]", "-y"), some("a-y"));
    }

    #[test]
    fn a_url_is_filled_in_where_one_is_asked_for() {
        let fill = |url| of_stream("[tcUrl]", &[("[tcUrl]", url)]);
        assert_eq!(fill("rtmp://h/a").as_deref(), Some("rtmp://h/a"));
        assert_eq!(fill("file:///etc/passwd"), None);
        assert_eq!(
            of_stream("[param]", &[("[param]", "?a:b")]).as_deref(),
            Some("?a:b")
        );
    }

    #[test]
    fn the_time_is_filled_in() {
        let now = "2026-11-29T09:08:07.045Z".parse().unwrap();
        let filled = fill_in_time("[2006][01]-[timestamp]-[stream]", now);
        assert_eq!(filled, "202611-1795943287045-[stream]");
    }
}
