//! A connection for the program that the process becomes.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Connection;
use super::send::Unsent;
use crate::hand_over::{HandOverError, HandedOver, Inherited};
use crate::server::Server;
use crate::server::hls::SessionUse;
use crate::server::http_flv::{Play, PlayPart};
use crate::server::upgrade::{Participant, TaskParts};
use crate::stream::Stream;
use crate::transport::{StdTransport, Transport, TransportPart};

/// A connection whose requests for HLS are answered, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct HttpPart {
    pub(in crate::server) client: u64,
    socket: TransportPart,
    /// The request that has no answer yet, and what follows.
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    input: Bytes,
    /// The token of the session that has begun with the request.
    #[serde(default)]
    new_token: Option<String>,
    has_answered: bool,
    unsent: Option<UnsentPart>,
    /// A play that has been let in, and waits. A program that does not know of it reads the
    /// request again.
    #[serde(default)]
    waiting: Option<Box<PlayPart>>,
}

/// An [`Unsent`].
#[derive(Debug, Serialize, Deserialize)]
struct UnsentPart {
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    bytes: Bytes,
    /// The rest of the body, in the log of segments of the stream.
    segment: Option<Range<u64>>,
    /// Id of the stream that the bytes are counted for.
    stream: Option<u64>,
    /// Id of the viewer that they are counted for.
    viewer: Option<u64>,
    keep_alive: bool,
}

impl HttpPart {
    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn check(&self) -> Result<(), HandOverError> {
        self.socket.check()
    }

    /// Id of the viewer by HLS whose answer is under way.
    pub(in crate::server) fn viewer(&self) -> Option<u64> {
        self.unsent.as_ref()?.viewer
    }
}

impl Unsent {
    /// What is left for the program that the process becomes.
    ///
    /// # Errors
    /// It is no longer in memory.
    fn part(&self) -> io::Result<UnsentPart> {
        let mut part = UnsentPart {
            bytes: self.bytes.clone(),
            segment: None,
            stream: self.stream.as_ref().map(|stream| stream.id()),
            viewer: self.viewer.as_ref().map(|viewer| viewer.id),
            keep_alive: self.keep_alive,
        };
        if let Some((log, range)) = &self.segment {
            let output = self.stream.as_ref().and_then(|stream| stream.hls());
            match output.is_some_and(|output| Arc::ptr_eq(output.log(), log)) {
                true => part.segment = Some(range.clone()),
                // A packager that runs no more is not handed over.
                false => {
                    let rest = log.copy(range.clone())?;
                    part.bytes = [&*self.bytes, &*rest].concat().into();
                }
            }
        }
        Ok(part)
    }

    fn take_over(
        part: UnsentPart,
        server: &Server,
        streams: &HashMap<u64, Arc<Stream>>,
        session: Option<SessionUse>,
    ) -> Result<Self, HandOverError> {
        let stream = part.stream.and_then(|id| streams.get(&id).cloned());
        let segment = match part.segment {
            None => None,
            Some(range) => {
                let output = stream.as_ref().and_then(|stream| stream.hls());
                let missing = || HandOverError::Missing("segment of its answer".to_owned());
                Some((output.ok_or_else(missing)?.log().clone(), range))
            }
        };
        Ok(Self {
            bytes: part.bytes,
            segment,
            stream,
            viewer: part.viewer.and_then(|id| server.clients.find(id)),
            _session: session,
            keep_alive: part.keep_alive,
        })
    }
}

impl Connection {
    /// Writes itself down for the program that the process becomes, with what is left of an
    /// answer, and stands still until the server goes on.
    pub(super) async fn park(&self, participant: &Participant, unsent: Option<&Unsent>) {
        let write = |parts: &mut TaskParts| self.write_down(parts, unsent, None);
        participant.park(write).await;
    }

    /// The same with `play`, which waits for its stream.
    pub(in crate::server) async fn park_waiting(&self, participant: &Participant, play: &Play) {
        let write = |parts: &mut TaskParts| self.write_down(parts, None, Some(play));
        participant.park(write).await;
    }

    /// Writes the connection down for the program that the process becomes.
    ///
    /// # Errors
    /// None: what cannot be handed over ends with the upgrade.
    pub(super) fn write_down(
        &self,
        parts: &mut TaskParts,
        unsent: Option<&Unsent>,
        waiting: Option<&Play>,
    ) -> Result<(), HandOverError> {
        let mut handed_over = HandedOver::default();
        let socket = self.socket.part(&mut handed_over);
        let unsent = match unsent.map(Unsent::part).transpose() {
            Ok(unsent) => unsent,
            // This program could not go on with it either: it ends with the upgrade.
            Err(error) => {
                log::debug!("{}: it is not handed over: {error}", self.client);
                return Ok(());
            }
        };
        parts.handed_over.extend(&handed_over);
        parts.http.push(HttpPart {
            client: self.client.id,
            socket,
            input: [&*self.head, &*self.input].concat().into(),
            new_token: self.new_token.get().map(str::to_owned),
            has_answered: self.has_answered,
            unsent,
            waiting: waiting.map(|play| Box::new(play.part())),
        });
        Ok(())
    }

    /// Goes on with a connection that this process has had before; `session` is that of its
    /// answer under way.
    ///
    /// # Errors
    /// Something that it needs is missing.
    pub(in crate::server) fn take_over(
        server: &Arc<Server>,
        part: HttpPart,
        streams: &HashMap<u64, Arc<Stream>>,
        session: Option<SessionUse>,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let client = server.clients.handed_over(part.client)?;
        let socket = StdTransport::take_over(&part.socket, inherited)?;
        let unsent = part
            .unsent
            .map(|unsent| Unsent::take_over(unsent, server, streams, session));
        let waiting = part
            .waiting
            .map(|play| Play::take_over(*play, server, streams).map(Box::new))
            .transpose()?;
        let mut connection = Self::new(server.clone(), client, Transport::from_std(socket)?);
        match waiting {
            None => connection.input = BytesMut::from(part.input),
            // It has been read.
            Some(_) => connection.head = part.input,
        }
        connection.waiting = waiting;
        connection.new_token = part.new_token.map(Into::into).unwrap_or_default();
        connection.has_answered = part.has_answered;
        connection.unsent = unsent.transpose()?;
        Ok(connection)
    }
}
