//! Who publishes, what is kept of it, and for how long.

use std::time::{Duration, Instant};

use rtmp_proto::wire::MessageType;

use super::support::{Server, append, message, picture, publish, settings};
use crate::stream::AppendError;

#[test]
fn empty_messages_are_not_kept() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    for message_type in [
        MessageType::DATA_AMF0,
        MessageType::DATA_AMF3,
        MessageType::VIDEO,
    ] {
        let empty = message(message_type, 0, Vec::new());
        publish(&mut publication, &vec![empty; 1_000]);
    }
    assert!(!stream.has_begun());
}

#[test]
fn a_second_publisher_is_refused_unless_the_first_has_fallen_silent() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut first = stream.publish(now).unwrap();
    assert!(stream.publish(now + Duration::from_millis(1_900)).is_err());
    let silent = now + Duration::from_secs(2);
    let mut second = stream.publish(silent).unwrap();
    let refused = append(&mut first, &[picture(0, true)], silent);
    assert!(matches!(refused, Err(AppendError::TakenOver)));
    drop(first);
    assert!(
        stream.is_published(),
        "the former publisher's end is not the present one's"
    );
    append(&mut second, &[picture(0, true)], silent).unwrap();
}

#[test]
fn a_publisher_that_nobody_listens_to_is_not_silent() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let second = |number| now + Duration::from_secs(number);
    let publication = stream.publish(now).unwrap();
    publication.expect_silence_until(second(10));
    assert_eq!(
        stream.publish(second(11)).unwrap_err(),
        crate::stream::Busy::Publisher
    );
    let taken_over = stream.publish(second(12)).unwrap();
    publication.expect_silence_until(second(100));
    assert!(
        stream.publish(second(14)).is_ok(),
        "its word counts no more"
    );
    drop(taken_over);
}

#[test]
fn a_stream_that_nobody_holds_is_forgotten_after_its_time() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let patience = Duration::from_secs(10);
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    let later = now + Duration::from_secs(3_600);
    drop(stream);
    publish(&mut publication, &[picture(0, true)]);
    server.registry.sweep(later, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "it has a publisher");
    drop(publication);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "its publisher may return");
    server.registry.sweep(later, |_| patience);
    assert_eq!(server.registry.list().len(), 0);
}

#[test]
fn a_stream_that_nobody_has_published_is_forgotten_as_soon_as_nobody_wants_it() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let patience = Duration::from_secs(3_600);
    let subscription = stream.add_subscription();
    drop(stream);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "somebody waits for it");
    // Whoever publishes nothing leaves nothing.
    drop(subscription.stream().publish(now).unwrap());
    drop(subscription);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 0);
}
