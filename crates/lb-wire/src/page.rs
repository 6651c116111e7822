//! A page as a server answers with it (`HTTP_GET`, `SSL_GET`), and what it must be.

use md5::{Digest as _, Md5};

use crate::http::Head;

/// Length of the longest body that is read where it matters, and where it does not: a
/// server that is left too soon may take that for a mistake, and a live stream has no end.
const MAX_BODY_BYTES: usize = 4 << 20;
const MAX_UNUSED_BODY_BYTES: usize = 64 * 1024;

/// A page, and the conditions for it to be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// Path with query.
    pub path: String,
    /// Value of the `Host` field.
    pub virtual_host: Option<String>,
    /// Ranges of status codes, ends included.
    pub status_codes: Vec<(u16, u16)>,
    /// MD5 of the body, in hexadecimal digits (genhash(1)).
    pub digest: Option<String>,
    /// A regular expression to look for in the body, and whether finding it is
    /// right.
    pub regex: Option<(String, bool)>,
}

impl Page {
    /// True if more than the status matters.
    pub fn needs_body(&self) -> bool {
        self.digest.is_some() || self.regex.is_some()
    }
}

/// A response, as far as it has come.
#[derive(Debug, Default)]
pub struct Response {
    /// The header, while it is not whole; then the body, if that matters.
    bytes: Vec<u8>,
    head: Option<Head>,
    body_bytes: usize,
}

impl Response {
    /// True if the head has come.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// True if anything has come.
    pub fn has_begun(&self) -> bool {
        self.head.is_some() || !self.bytes.is_empty()
    }

    /// True if what has come decides whether the page is right.
    pub fn is_enough_for(&self, page: &Page) -> bool {
        let most = match page.needs_body() {
            true => MAX_BODY_BYTES,
            false => MAX_UNUSED_BODY_BYTES,
        };
        self.head.as_ref().is_some_and(|head| {
            let length = head.content_length.unwrap_or(usize::MAX);
            self.body_bytes >= length.min(most)
        })
    }

    /// Takes what has come, for `page`.
    ///
    /// # Errors
    /// It is none.
    pub fn take(&mut self, bytes: &[u8], page: &Page) -> Result<(), String> {
        self.bytes.extend(bytes);
        self.body_bytes += bytes.len();
        if self.head.is_none()
            && let Some((head, length)) = Head::parse(&self.bytes)?
        {
            self.bytes.drain(..length);
            self.body_bytes = self.bytes.len();
            self.head = Some(head);
        }
        if self.head.is_some() && !page.needs_body() {
            self.bytes.clear();
        }
        Ok(())
    }

    /// Compares it with what `page` is to be.
    ///
    /// # Errors
    /// Why it is not right.
    pub fn judge(&self, page: &Page) -> Result<(), String> {
        let Some(head) = &self.head else {
            return Err("the answer breaks off".to_owned());
        };
        let (status, body) = (head.status, &self.bytes);
        if !page
            .status_codes
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&status))
        {
            return Err(format!("status {status}"));
        }
        if let Some(expected) = &page.digest {
            let digest: String = Md5::digest(body)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if !digest.eq_ignore_ascii_case(expected) {
                return Err(format!("digest {digest}, expected {expected}"));
            }
        }
        if let Some((pattern, right)) = &page.regex {
            let regex = regex::bytes::Regex::new(pattern).map_err(|error| error.to_string())?;
            if regex.is_match(body) != *right {
                let found = if *right { "not found" } else { "found" };
                return Err(format!("`{pattern}` {found}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            path: "/x".to_owned(),
            virtual_host: None,
            status_codes: vec![(200, 299)],
            digest: None,
            regex: None,
        }
    }

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello\n";

    #[test]
    fn a_page_is_judged_by_status_digest_and_content() {
        // md5sum of "hello\n"
        let digest = "b1946ac92492d2347c6235b4d2611184";
        let with_digest = |digest: &str| Page {
            digest: Some(digest.to_owned()),
            ..page()
        };
        let with_regex = |pattern: &str, right| Page {
            regex: Some((pattern.to_owned(), right)),
            ..page()
        };
        let moved = b"HTTP/1.1 301 Moved\r\n\r\n".as_slice();
        let table = [
            ("200 is right by default", RESPONSE, page(), None),
            ("301 is not", moved, page(), Some("status 301")),
            (
                "unless it is listed",
                moved,
                Page {
                    status_codes: vec![(301, 301)],
                    ..page()
                },
                None,
            ),
            ("the right digest", RESPONSE, with_digest(digest), None),
            (
                "the wrong digest",
                RESPONSE,
                with_digest("00"),
                Some("digest b1946ac92492d2347c6235b4d2611184, expected 00"),
            ),
            (
                "text that is there",
                RESPONSE,
                with_regex("h.llo", true),
                None,
            ),
            (
                "text that is not",
                RESPONSE,
                with_regex("bye", true),
                Some("`bye` not found"),
            ),
            (
                "text that must not be",
                RESPONSE,
                with_regex("(?i)HELLO", false),
                Some("`(?i)HELLO` found"),
            ),
            (
                "an answer cut short",
                b"HTTP/1.1 200 O".as_slice(),
                page(),
                Some("the answer breaks off"),
            ),
            (
                "another protocol",
                b"SSH-2.0-OpenSSH\r\n".as_slice(),
                page(),
                Some("the answer is not HTTP: invalid HTTP version"),
            ),
        ];
        for (what, response, page, expected) in table {
            let expected = expected.map_or(Ok(()), |reason| Err(reason.to_owned()));
            let mut taken = Response::default();
            let judgement = taken.take(response, &page);
            let judgement = judgement.and_then(|()| taken.judge(&page));
            assert_eq!(judgement, expected, "{what}");
        }
    }

    #[test]
    fn no_response_takes_much_memory() {
        let mut endless_head = Response::default();
        let mut taken = endless_head.take(b"HTTP/1.1 200 OK\r\n", &page());
        for _ in 0..crate::http::MAX_HEAD_BYTES {
            taken = taken.and_then(|()| endless_head.take(b"A: b\r\n", &page()));
        }
        assert!(taken.is_err());
        let searched = Page {
            regex: Some(("0*".to_owned(), true)),
            ..page()
        };
        for (page, most) in [(page(), 0), (searched, MAX_BODY_BYTES)] {
            let mut endless_body = Response::default();
            let first = endless_body.take(b"HTTP/1.1 200 OK\r\n\r\n", &page);
            first.expect("it is right");
            while !endless_body.is_enough_for(&page) {
                endless_body.take(&[0; 1000], &page).expect("it is right");
                assert!(endless_body.bytes.len() < most + 1000);
            }
            assert_eq!(endless_body.judge(&page), Ok(()));
        }
    }
}
