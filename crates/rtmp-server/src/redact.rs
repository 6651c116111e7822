//! URLs without what only their owners may know.

use std::borrow::Cow;

/// Characters of a stream's name that are shown where it may be a key.
pub(crate) const SHOWN_CHARACTERS: usize = 4;

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
        push_url(url, &mut shown);
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Appends what is behind the `://` of a URL.
fn push_url(url: &str, shown: &mut String) {
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
}

/// The same of a text that is one URL, or the name of a file: of its end nothing has to be
/// guessed.
pub(crate) fn redacted_url(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Cow::Borrowed(url);
    };
    let mut shown = format!("{scheme}://");
    push_url(rest, &mut shown);
    Cow::Owned(shown)
}

/// The same of a URL that is published at: of the stream's name, which is a key at other
/// services, the beginning is left.
pub(crate) fn redacted_output(url: &str) -> String {
    let shown = redacted_url(url).into_owned();
    let shortened = || {
        let (place, query) = match shown.find('?') {
            Some(at) => shown.split_at(at),
            None => (&*shown, ""),
        };
        let (scheme, rest) = place.split_once("://")?;
        let (before, name) = rest.rsplit_once('/')?;
        let (host, _app) = before.split_once('/')?;
        let is_own = ["127.", "localhost", "[::1]"]
            .iter()
            .any(|it| host.starts_with(it));
        let is_secret = scheme.starts_with("rtmp") && !is_own && !name.contains('[');
        let (end, _) = name.char_indices().nth(SHOWN_CHARACTERS)?;
        is_secret.then(|| format!("{scheme}://{before}/{}…{query}", &name[..end]))
    };
    shortened().unwrap_or(shown)
}

/// [`redacted`] text of a program, which may have the URLs among its arguments in it.
pub(crate) fn redacted_words(words: &str, arguments: &[String]) -> String {
    let mut words = words.to_owned();
    for argument in arguments.iter().filter(|it| it.contains("://")) {
        words = words.replace(&**argument, &redacted_output(argument));
    }
    redacted(&words).into_owned()
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

    #[test]
    fn a_url_whose_end_is_known_hides_any_password() {
        let url = "rtsp://user:pa'ss wo\"rd<@cam/1?t=secret";
        assert_eq!(redacted_url(url), "rtsp://cam/1?…");
        assert_eq!(redacted_url("./a?b.flv"), "./a?b.flv");
        let words = format!("{url}: refused; http://u:p@h/ too");
        let shown = redacted_words(&words, &["-i".to_owned(), url.to_owned()]);
        assert_eq!(shown, "rtsp://cam/1?… refused; http://h/ too");
    }

    #[test]
    fn a_key_at_another_service_is_cut() {
        for (url, shown) in [
            (
                "rtmp://a.example/live2/abcd-efgh",
                "rtmp://a.example/live2/abcd…",
            ),
            ("rtmps://h/a/b/abcdefgh?x", "rtmps://h/a/b/abcd…?…"),
            ("rtmp://h/live/abcd", "rtmp://h/live/abcd"),
            (
                "rtmp://h/[app]/[stream]_[engine]",
                "rtmp://h/[app]/[stream]_[engine]",
            ),
            (
                "rtmp://127.0.0.1:[port]/live/small",
                "rtmp://127.0.0.1:[port]/live/small",
            ),
            ("./out/abcdefgh.flv", "./out/abcdefgh.flv"),
        ] {
            assert_eq!(redacted_output(url), shown, "{url}");
        }
    }
}
