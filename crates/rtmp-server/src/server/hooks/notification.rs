//! Notifications that are not delivered, which an upgrade hands over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hook_server::OrderingKey;
use crate::config::HookUrl;
use crate::stream::lock;

/// A condition.
pub(super) type Condition = Box<dyn Fn() -> bool + Send + Sync>;

/// What a web server is told.
pub(super) struct Notification {
    pub(super) url: HookUrl,
    /// Begin of its log lines.
    pub(super) name: String,
    /// Name of the event.
    pub(super) action: String,
    pub(super) body: Value,
    pub(super) ordering_keys: Vec<OrderingKey>,
    /// It says that a publication has ended: whether that is still so, which is checked when
    /// its turn has come. Else it is left out.
    pub(super) still_ended: Option<Condition>,
}

impl Notification {
    /// False if it has become wrong meanwhile.
    pub(super) fn is_still_true(&self) -> bool {
        self.still_ended.as_ref().is_none_or(|it| it())
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A [`Notification`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct NotificationPart {
    tls: bool,
    authority: String,
    path: String,
    name: String,
    action: String,
    /// JSON.
    body: String,
    ordering_keys: Vec<OrderingKey>,
    #[serde(default)]
    ends_publication: bool,
}

/// Tells whether somebody publishes the stream.
pub(super) type HasEncoder = Arc<dyn Fn(&StreamKey) -> bool + Send + Sync>;

impl From<&Notification> for NotificationPart {
    fn from(notification: &Notification) -> Self {
        Self {
            tls: notification.url.tls,
            authority: notification.url.authority.clone(),
            path: notification.url.path.clone(),
            name: notification.name.clone(),
            action: notification.action.clone(),
            body: notification.body.to_string(),
            ordering_keys: notification.ordering_keys.clone(),
            ends_publication: notification.still_ended.is_some(),
        }
    }
}

impl NotificationPart {
    /// The notification.
    ///
    /// # Errors
    /// Its body is none, with the text that says so.
    pub(super) fn resume(self, has_encoder: &HasEncoder) -> Result<Notification, String> {
        let (name, body) = (self.name, serde_json::from_str(&self.body));
        let body = body.map_err(|error| {
            format!("{name}: the event for a hook cannot be read, and is lost: {error}")
        })?;
        let is_stream = |key: &OrderingKey| match key {
            OrderingKey::Publishers(stream) => Some(stream.clone()),
            OrderingKey::Client(_) => None,
        };
        let ended = self.ordering_keys.iter().find_map(is_stream);
        let ended = ended.filter(|_| self.ends_publication);
        // The encoder may have come back to this program.
        let still_ended = ended.map(|key| {
            let has_encoder = has_encoder.clone();
            Box::new(move || !has_encoder(&key)) as Condition
        });
        Ok(Notification {
            url: HookUrl {
                tls: self.tls,
                authority: self.authority,
                path: self.path,
            },
            name,
            action: self.action,
            body,
            ordering_keys: self.ordering_keys,
            still_ended,
        })
    }
}

/// The notifications that wait, or whose answer has not come.
#[derive(Debug, Default)]
pub(super) struct Undelivered(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    by_number: BTreeMap<u64, Arc<Notification>>,
}

impl Undelivered {
    /// Adds one, until the result is dropped.
    pub(super) fn add(self: &Arc<Self>, notification: Notification) -> Entry {
        let notification = Arc::new(notification);
        let mut entries = lock(&self.0);
        entries.last += 1;
        let number = entries.last;
        entries.by_number.insert(number, notification.clone());
        Entry {
            undelivered: self.clone(),
            number,
            notification,
        }
    }

    /// Those that are still true, the oldest first.
    pub(super) fn parts(&self) -> Vec<NotificationPart> {
        let waiting: Vec<_> = lock(&self.0).by_number.values().cloned().collect();
        let still_true = waiting.iter().filter(|it| it.is_still_true());
        still_true.map(|it| NotificationPart::from(&**it)).collect()
    }
}

/// A notification that is not delivered; dropped, it is, or has been given up.
#[derive(Debug)]
pub(super) struct Entry {
    undelivered: Arc<Undelivered>,
    number: u64,
    notification: Arc<Notification>,
}

impl Entry {
    /// The notification.
    pub(super) fn notification(&self) -> &Notification {
        &self.notification
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.undelivered.0).by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use netbed::TIME_LIMIT;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::super::Hooks;
    use super::*;
    use crate::hand_over::Blob;

    fn notification(url: &str, number: u64, still_true: bool) -> Notification {
        Notification {
            url: HookUrl::parse(url).unwrap(),
            name: format!("event {number}"),
            action: "on_close".to_owned(),
            body: json!({ "number": number }),
            ordering_keys: vec![OrderingKey::Client(7)],
            still_ended: (!still_true).then(|| ended(false)),
        }
    }

    fn ended(still: bool) -> Condition {
        Box::new(move || still)
    }

    /// Reads a request; returns its path and body.
    async fn read_request(stream: &mut TcpStream) -> (String, Value) {
        let mut text = Vec::new();
        let mut buffer = [0; 1_024];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "no request");
            text.extend_from_slice(&buffer[..count]);
            let request = String::from_utf8(text.clone()).unwrap();
            if let Some((head, body)) = request.split_once("\r\n\r\n")
                && let Ok(body) = serde_json::from_str(body)
            {
                let path = head.split(' ').nth(1).unwrap();
                return (path.to_owned(), body);
            }
        }
    }

    async fn answer(stream: &mut TcpStream) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0";
        stream.write_all(answer).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_delivered_is_by_the_program_after_in_its_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?secret=x", listener.local_addr().unwrap());
        let before = Hooks::new(None, Arc::default());
        for number in 1..=3 {
            before.send(notification(&url, number, true));
        }
        before.send(notification(&url, 4, false));
        // The first one has been asked, and there is no answer.
        let (mut unanswered, _) = listener.accept().await.unwrap();
        assert_eq!(read_request(&mut unanswered).await.1["number"], 1);
        let written = Blob::of(&before.hold_undelivered()).unwrap();
        // The answer comes now: the second one's turn has come, and it waits.
        answer(&mut unanswered).await;
        let heard = async {
            while before.undelivered.parts().len() > 2 {
                yield_now().await;
            }
        };
        timeout(TIME_LIMIT, heard)
            .await
            .expect("the answer is read");
        for _ in 0..100 {
            yield_now().await;
        }
        let after = Hooks::new(None, Arc::default());
        after.resume(written.read().unwrap(), |_| false);
        for number in 1..=3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (path, body) = read_request(&mut stream).await;
            assert_eq!(
                (&*path, &body["number"]),
                ("/hook?secret=x", &json!(number))
            );
            answer(&mut stream).await;
        }
        assert!(after.flush(TIME_LIMIT).await);
        assert!(after.undelivered.parts().is_empty());
        // The program before goes on as well, where there is no other.
        before.go_on();
        let next = timeout(TIME_LIMIT, listener.accept()).await;
        let (mut next, _) = next.expect("it waits").unwrap();
        assert_eq!(read_request(&mut next).await.1["number"], 2);
    }

    fn of_stream(name: &str) -> StreamKey {
        StreamKey {
            vhost: "v".into(),
            app: "live".into(),
            stream: name.into(),
        }
    }

    #[test]
    fn the_end_of_a_stream_that_goes_on_is_told_by_neither_program() {
        for (ends_publication, stream, still_true) in [
            (true, "gone", true),
            (true, "back", false),
            (false, "back", true),
        ] {
            let key = OrderingKey::Publishers(of_stream(stream));
            let before = Notification {
                ordering_keys: vec![OrderingKey::Client(7), key],
                still_ended: ends_publication.then(|| ended(true)),
                ..notification("http://hook/", 1, true)
            };
            let written = Blob::of(&NotificationPart::from(&before)).unwrap();
            let part: NotificationPart = written.read().unwrap();
            let has_encoder: HasEncoder = Arc::new(|key| *key == of_stream("back"));
            let after = part.resume(&has_encoder).unwrap();
            assert_eq!(after.is_still_true(), still_true, "{stream}");
            assert_eq!(after.still_ended.is_some(), ends_publication);
        }
    }

    #[test]
    fn an_event_without_a_body_is_left_out() {
        let part = NotificationPart {
            body: "{".to_owned(),
            ..NotificationPart::from(&notification("http://hook/", 1, true))
        };
        let has_encoder: HasEncoder = Arc::new(|_| false);
        let lost = part.resume(&has_encoder).unwrap_err();
        assert!(lost.starts_with("event 1: "), "{lost}");
    }
}
