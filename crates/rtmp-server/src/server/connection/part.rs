//! A connection for the program that the process becomes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rtmp_proto::session::{Parameters, PlayRequest, ServerEvent, ServerSession};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Connection;
use super::play::{Play, PlayOptions};
use super::publishing::{PublishState, PublishTarget, Publishing};
use super::role::ConnectionRole;
use super::waiting::{PlayWait, Waiting};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::server::Server;
use crate::server::client::StatsSnapshot;
use crate::server::player::ConnectInfo;
use crate::server::upgrade::TaskParts;
use crate::server::upstream::{OriginConnection, OriginConnectionPart};
use crate::stream::Stream;
use crate::stream::memory::Holding;
use crate::transport::{StdTransport, Transport, TransportPart};

/// A connection that a task serves, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct ConnectionPart {
    pub(in crate::server) client: u64,
    socket: TransportPart,
    session: Blob,
    vhost: Option<String>,
    connect_info: ConnectInfo,
    role: RolePart,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    input: Bytes,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    out: Bytes,
    #[serde(with = "crate::hand_over::monotonic")]
    accepted: Instant,
    pending_request: Option<Box<ServerEvent>>,
}

/// A [`ConnectionRole`].
#[derive(Debug, Serialize, Deserialize)]
enum RolePart {
    Idle,
    Publishing(Box<PublishingPart>),
    Waiting(Box<WaitingPart>),
}

/// A [`Publishing`].
#[derive(Debug, Serialize, Deserialize)]
struct PublishingPart {
    stream_id: u32,
    /// Id of the stream.
    stream: u64,
    parameters: Parameters,
    target: TargetPart,
    is_on_air: bool,
    begun: StatsSnapshot,
    state: PublishState,
}

/// A [`PublishTarget`].
#[derive(Debug, Serialize, Deserialize)]
enum TargetPart {
    Log(Blob),
    Origin(Box<OriginConnectionPart>),
}

/// A [`Waiting`].
#[derive(Debug, Serialize, Deserialize)]
struct WaitingPart {
    request: Box<PlayRequest>,
    /// Id of the stream.
    stream: u64,
    options: PlayOptions,
    wait: PlayWait,
}

impl ConnectionPart {
    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn check(&self) -> Result<(), HandOverError> {
        self.socket.check()?;
        self.session.read::<ServerSession>()?;
        if let RolePart::Publishing(publishing) = &self.role
            && let TargetPart::Origin(origin) = &publishing.target
        {
            origin.check()?;
        }
        Ok(())
    }
}

impl ConnectionRole {
    /// `None` if it cannot be handed over.
    fn part(&self, handed_over: &mut HandedOver) -> Result<Option<RolePart>, HandOverError> {
        Ok(Some(match self {
            Self::Idle | Self::Playing(_) => RolePart::Idle,
            Self::Publishing(publishing) => {
                let target = match &publishing.target {
                    PublishTarget::Log { publication, .. } => TargetPart::Log(publication.part()?),
                    PublishTarget::Origin(origin) => match origin.part(handed_over)? {
                        Some(part) => TargetPart::Origin(Box::new(part)),
                        None => return Ok(None),
                    },
                };
                RolePart::Publishing(Box::new(PublishingPart {
                    stream_id: publishing.stream_id,
                    stream: publishing.stream.id(),
                    parameters: publishing.parameters.clone(),
                    target,
                    is_on_air: publishing.is_on_air,
                    begun: publishing.begun,
                    state: publishing.state,
                }))
            }
            Self::Waiting(waiting) => RolePart::Waiting(Box::new(WaitingPart {
                request: waiting.play.request.clone(),
                stream: waiting.play.subscription.stream().id(),
                options: waiting.play.options,
                wait: waiting.wait,
            })),
        }))
    }
}

impl RolePart {
    /// Goes on with a role of a connection that this process has had before.
    fn take_over(
        self,
        streams: &HashMap<u64, Arc<Stream>>,
        inherited: &mut Inherited,
    ) -> Result<ConnectionRole, HandOverError> {
        let find = |id: u64| {
            let missing = || HandOverError::Missing(format!("stream {id}"));
            streams.get(&id).cloned().ok_or_else(missing)
        };
        Ok(match self {
            Self::Idle => ConnectionRole::Idle,
            Self::Publishing(part) => {
                let stream = find(part.stream)?;
                let target = match part.target {
                    TargetPart::Log(publication) => PublishTarget::Log {
                        stream_state: stream.state(),
                        publication: stream.resume_publication(&publication)?,
                        batch: Vec::new(),
                    },
                    TargetPart::Origin(origin) => {
                        let origin = OriginConnection::take_over(&origin, inherited)?;
                        PublishTarget::Origin(Box::new(origin))
                    }
                };
                ConnectionRole::Publishing(Publishing {
                    stream_id: part.stream_id,
                    stream,
                    parameters: part.parameters,
                    target,
                    is_on_air: part.is_on_air,
                    begun: part.begun,
                    state: part.state,
                })
            }
            Self::Waiting(part) => {
                let stream = find(part.stream)?;
                let stream_state = stream.state();
                ConnectionRole::Waiting(Waiting {
                    play: Play {
                        request: part.request,
                        subscription: stream.add_subscription(),
                        options: part.options,
                    },
                    stream_state,
                    wait: part.wait,
                })
            }
        })
    }
}

impl Connection {
    /// Writes itself down for the program that the process becomes, and stands still until the
    /// server goes on.
    pub(super) async fn park(&self) {
        let write = |parts: &mut TaskParts| {
            if self.close_reason.is_some() || !self.session.is_portable() {
                return Ok(());
            }
            let socket = self.socket.part(&mut parts.handed_over);
            let Some(role) = self.role.part(&mut parts.handed_over)? else {
                return Ok(());
            };
            parts.connections.push(ConnectionPart {
                client: self.client.id,
                socket,
                session: Blob::of(&self.session)?,
                vhost: self.vhost.as_ref().map(|vhost| vhost.name.clone()),
                connect_info: self.connect_info.clone(),
                role,
                input: Bytes::copy_from_slice(&self.input),
                out: Bytes::copy_from_slice(&self.out),
                accepted: self.accepted,
                pending_request: self.pending_request.clone(),
            });
            Ok(())
        };
        self.participant.park(write).await;
    }

    /// Goes on with a connection that this process has had before. Returns the number of its
    /// publication, too, if it publishes into a stream's log.
    ///
    /// # Errors
    /// It is of another form, or something that it needs is missing.
    pub(in crate::server) fn take_over(
        server: &Arc<Server>,
        part: ConnectionPart,
        streams: &HashMap<u64, Arc<Stream>>,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let client = server.clients.handed_over(part.client)?;
        let socket = StdTransport::take_over(&part.socket, inherited)?;
        let vhost = part.vhost.as_ref().and_then(|name| {
            let config = server.config();
            config
                .vhosts
                .get(name)
                .or_else(|| config.vhost(name))
                .cloned()
        });
        Ok(Self {
            participant: server.safepoint.join(),
            under_way: None,
            client,
            socket: Transport::from_std(socket)?,
            session: part.session.read()?,
            held: Holding::new(server.messages.clone()),
            vhost,
            connect_info: part.connect_info,
            role: part.role.take_over(streams, inherited)?,
            input: BytesMut::from(part.input),
            out: part.out.into(),
            accepted: part.accepted,
            last_input: Instant::now(),
            close_reason: None,
            pending_request: part.pending_request,
            server: server.clone(),
        })
    }

    /// The publication into a stream's log that it has, by the stream and its number there.
    pub(in crate::server) fn publication(&self) -> Option<(u64, u64)> {
        match &self.role {
            ConnectionRole::Publishing(Publishing {
                stream,
                target: PublishTarget::Log { publication, .. },
                ..
            }) => Some((stream.id(), publication.id())),
            _ => None,
        }
    }
}
