//! URLs without what only their owners may know.

use std::borrow::Cow;

/// `text` without the users, passwords and queries of the URLs in it: cameras have the
/// former in their URLs, servers tokens in the latter.
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    const SCHEME_END: &str = "://";
    if !text.contains(SCHEME_END) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME_END) {
        let (before, url) = rest.split_at(at + SCHEME_END.len());
        shown.push_str(before);
        let end = url.find(|it: char| it.is_whitespace() || "\"'`<>".contains(it));
        let (url, after) = url.split_at(end.unwrap_or(url.len()));
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        // A password may have a slash or a question mark that is not escaped.
        match place.rsplit_once('@') {
            Some((_, host)) => shown.push_str(host),
            None if query.contains('@') => {}
            None => shown.push_str(place),
        }
        if !query.is_empty() {
            shown.push_str("?…");
        }
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_passwords_and_queries_are_left_out() {
        for (text, shown) in [
            ("nothing of the kind", "nothing of the kind"),
            ("rtsp://host/a", "rtsp://host/a"),
            ("rtsp://u:p@host:554/a?x=y", "rtsp://host:554/a?…"),
            ("rtsp://u:p@1.2.3.4/a/b", "rtsp://1.2.3.4/a/b"),
            ("rtsp://u:p/q@host/a", "rtsp://host/a"),
            ("rtsp://u:p?q@host/a", "rtsp://?…"),
            ("http://host/a?mail=b@c", "http://?…"),
            (
                "open 'rtsp://u:p@h/a?t=1' and http://u@h: no",
                "open 'rtsp://h/a?…' and http://h: no",
            ),
        ] {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }
}
