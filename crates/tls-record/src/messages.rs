//! What a server of TLS 1.3 says after the handshake (RFC 8446 §4.6).

use serde::{Deserialize, Serialize};

use crate::RecordError;

/// Types of messages (RFC 8446 §4).
const NEW_SESSION_TICKET_TYPE: u8 = 4;
pub(crate) const KEY_UPDATE_TYPE: u8 = 24;
/// Bytes of a message's header: its type and length.
const HEADER_BYTES: usize = 4;
/// The most bytes of a message, as in rustls.
const MAX_MESSAGE: usize = 1 << 16;

/// What a record of the handshake says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// Nothing yet, or nothing that matters.
    Nothing,
    /// Tickets for later handshakes: whole messages, whose bodies [`tickets`] gives.
    Tickets(&'a [u8]),
    /// The server takes its next key after this record.
    KeyUpdate {
        /// It wants us to do the same.
        wants_answer: bool,
    },
}

/// The messages that a server of TLS 1.3 sends after the handshake, which records may cut.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerMessages {
    /// Part of a message.
    part: Vec<u8>,
}

impl ServerMessages {
    /// True within a message: no other record may come (RFC 8446 §5.1).
    pub(crate) fn is_within(&self) -> bool {
        !self.part.is_empty()
    }

    /// Reads the payload of the next record of the handshake. Tickets that records cut are
    /// left out: nobody cuts them who has a choice.
    ///
    /// # Errors
    /// The server must not send it.
    pub(crate) fn read<'a>(&mut self, payload: &'a [u8]) -> Result<Said<'a>, RecordError> {
        if payload.is_empty() {
            return Err(RecordError::Unexpected("nothing of a handshake"));
        }
        if !self.is_within() {
            let (said, part) = read(payload)?;
            self.part = part.to_vec();
            return Ok(said);
        }
        let mut joined = std::mem::take(&mut self.part);
        joined.extend_from_slice(payload);
        let (said, part) = read(&joined)?;
        self.part = part.to_vec();
        Ok(match said {
            Said::KeyUpdate { wants_answer } => Said::KeyUpdate { wants_answer },
            Said::Tickets(_) | Said::Nothing => Said::Nothing,
        })
    }
}

/// The bodies of `messages`, which are those of [`Content::Tickets`](crate::Content::Tickets).
pub fn tickets(mut messages: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let message = split(messages).ok()??;
        messages = message.rest;
        Some(message.body)
    })
}

/// Reads whole messages; returns the part of one that is left, too.
fn read(bytes: &[u8]) -> Result<(Said<'_>, &[u8]), RecordError> {
    let mut rest = bytes;
    while let Some(message) = split(rest)? {
        if message.message_type == KEY_UPDATE_TYPE {
            let wants_answer = read_key_update(&message)?;
            return Ok((Said::KeyUpdate { wants_answer }, &[]));
        }
        rest = message.rest;
    }
    let said = match &bytes[..bytes.len() - rest.len()] {
        [] => Said::Nothing,
        messages => Said::Tickets(messages),
    };
    Ok((said, rest))
}

/// True if the server wants the same of us.
fn read_key_update(message: &Message<'_>) -> Result<bool, RecordError> {
    if !message.rest.is_empty() {
        // Keys do not change within a record (RFC 8446 §5.1).
        return Err(RecordError::Unexpected("more behind a change of its key"));
    }
    match message.body {
        &[wants_answer @ (0 | 1)] => Ok(wants_answer == 1),
        [_] => Err(RecordError::Illegal(
            "a change of its key with an unknown wish",
        )),
        _ => Err(RecordError::Unreadable(
            "a change of its key of another length",
        )),
    }
}

/// A message, and what follows it.
struct Message<'a> {
    message_type: u8,
    body: &'a [u8],
    rest: &'a [u8],
}

/// The first message of `bytes`; `None` if it has not come as a whole.
fn split(bytes: &[u8]) -> Result<Option<Message<'_>>, RecordError> {
    let Some(&message_type) = bytes.first() else {
        return Ok(None);
    };
    if !matches!(message_type, NEW_SESSION_TICKET_TYPE | KEY_UPDATE_TYPE) {
        return Err(RecordError::Unexpected("a message of the handshake"));
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let [_, length @ ..] = *header;
    let length = length
        .iter()
        .fold(0, |it, &byte| it << 8 | usize::from(byte));
    if length > MAX_MESSAGE {
        let what = "a message of the handshake that is too long";
        return Err(RecordError::Unreadable(what));
    }
    Ok(rest.split_at_checked(length).map(|(body, rest)| Message {
        message_type,
        body,
        rest,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert;

    fn message(message_type: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[message_type], &length[1..], body].concat()
    }

    #[test]
    fn tickets_come_alone_or_several_in_a_record() {
        let one = message(NEW_SESSION_TICKET_TYPE, b"one");
        let both = [one.clone(), message(NEW_SESSION_TICKET_TYPE, b"two")].concat();
        let mut server = ServerMessages::default();
        assert_eq!(server.read(&one), Ok(Said::Tickets(&one)));
        assert_eq!(server.read(&both), Ok(Said::Tickets(&both)));
        let bodies: Vec<_> = tickets(&both).collect();
        assert_eq!(bodies, [b"one", b"two"]);
        assert!(!server.is_within());
    }

    #[test]
    fn what_a_server_must_not_say_ends_the_connection_with_its_alert() {
        let update = message(KEY_UPDATE_TYPE, &[0]);
        let cases: &[(Vec<u8>, u8)] = &[
            (vec![], alert::UNEXPECTED_MESSAGE),
            // CertificateRequest, which we have not offered to answer.
            (vec![13], alert::UNEXPECTED_MESSAGE),
            (message(KEY_UPDATE_TYPE, &[2]), alert::ILLEGAL_PARAMETER),
            (message(KEY_UPDATE_TYPE, &[0, 0]), alert::DECODE_ERROR),
            ([&*update, &*update].concat(), alert::UNEXPECTED_MESSAGE),
            ([&*update, &[24]].concat(), alert::UNEXPECTED_MESSAGE),
            (vec![NEW_SESSION_TICKET_TYPE, 1, 0, 1], alert::DECODE_ERROR),
        ];
        for (payload, expected) in cases {
            let refused = ServerMessages::default().read(payload).unwrap_err();
            assert_eq!(refused.alert(), Some(*expected), "{payload:?}: {refused}");
        }
    }

    proptest! {
        /// However records cut them, the messages say the same.
        #[test]
        fn any_cut_is_read(
            ticket in prop::collection::vec(any::<u8>(), 0..600),
            wants_answer: bool,
            cuts in prop::collection::vec(1..200_usize, 1..5),
        ) {
            let update = message(KEY_UPDATE_TYPE, &[u8::from(wants_answer)]);
            let all = [message(NEW_SESSION_TICKET_TYPE, &ticket), update].concat();
            let mut server = ServerMessages::default();
            let mut rest = &all[..];
            let mut updates = Vec::new();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                if now.is_empty() {
                    break;
                }
                rest = later;
                if let Said::KeyUpdate { wants_answer } = server.read(now).unwrap() {
                    updates.push((wants_answer, rest.len()));
                }
            }
            prop_assert_eq!(updates, [(wants_answer, 0)]);
            prop_assert!(!server.is_within());
        }
    }
}
