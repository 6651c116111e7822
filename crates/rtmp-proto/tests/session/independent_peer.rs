//! Our sessions against those of `rml_rtmp`, which shares nothing with them
//! but the handshake.

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession as RmlClient, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
    PublishRequestType, ServerSession as RmlServer, ServerSessionConfig, ServerSessionEvent,
    ServerSessionResult,
};
use rml_rtmp::time::RtmpTimestamp;
use rtmp_proto::session::{
    ClientConfig, ClientEvent, ClientSession, ConnectSettings, Purpose, ServerEvent, ServerSession,
    Status,
};
use rtmp_proto::wire::{Limits, Message, MessageType};

/// Our server and `rml_rtmp`'s client, with the wire between them.
struct AgainstClient {
    ours: ServerSession,
    peer: RmlClient,
    to_peer: Vec<u8>,
    events: Vec<ServerEvent>,
    peer_events: Vec<ClientSessionEvent>,
    /// Publishes and plays are refused with this.
    refusal: Option<Status>,
}

impl AgainstClient {
    fn connected() -> AgainstClient {
        let mut ours = ServerSession::new(&Limits::default());
        let mut handshake = Handshake::new(PeerType::Client);
        let c0_c1 = handshake.generate_outbound_p0_and_p1().unwrap();
        let mut answer = Vec::new();
        assert_eq!(ours.read(&mut &c0_c1[..], &mut answer), Ok(None));
        let c2 = match handshake.process_bytes(&answer).unwrap() {
            HandshakeProcessResult::Completed { response_bytes, .. } => response_bytes,
            other => panic!("the handshake is not complete: {other:?}"),
        };
        assert_eq!(ours.read(&mut &c2[..], &mut answer), Ok(None));

        let mut config = ClientSessionConfig::new();
        config.tc_url = Some("rtmp://example.com/live".into());
        let (peer, results) = RmlClient::new(config).unwrap();
        let mut both = AgainstClient {
            ours,
            peer,
            to_peer: Vec::new(),
            events: Vec::new(),
            peer_events: Vec::new(),
            refusal: None,
        };
        both.run(results);
        let request = both.peer.request_connection("live".into()).unwrap();
        both.run(vec![request]);
        both
    }

    /// Carries everything to and fro until both sides are silent.
    fn run(&mut self, results: Vec<ClientSessionResult>) {
        let mut from_peer = Vec::new();
        self.collect(results, &mut from_peer);
        loop {
            let mut input = &from_peer[..];
            while let Some(event) = self.ours.read(&mut input, &mut self.to_peer).unwrap() {
                self.answer(&event);
                self.events.push(event);
            }
            from_peer.clear();
            if self.to_peer.is_empty() {
                return;
            }
            let bytes = std::mem::take(&mut self.to_peer);
            let results = self.peer.handle_input(&bytes).unwrap();
            self.collect(results, &mut from_peer);
        }
    }

    fn collect(&mut self, results: Vec<ClientSessionResult>, bytes: &mut Vec<u8>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    bytes.extend_from_slice(&packet.bytes);
                }
                ClientSessionResult::RaisedEvent(event) => self.peer_events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn answer(&mut self, event: &ServerEvent) {
        let out = &mut self.to_peer;
        match (event, &self.refusal) {
            (ServerEvent::Connect(_), _) => {
                self.ours.accept_connect(&ConnectSettings::default(), out);
            }
            (ServerEvent::Publish(request), None) => {
                assert!(self.ours.accept_publish(request.stream_id, out));
            }
            (ServerEvent::Publish(request), Some(status)) => {
                assert!(self.ours.refuse_publish(request.stream_id, status, out));
            }
            (ServerEvent::Play(request), None) => {
                assert!(self.ours.accept_play(request.stream_id, out));
            }
            (ServerEvent::Play(request), Some(status)) => {
                assert!(self.ours.refuse_play(request.stream_id, status, out));
            }
            _ => {}
        }
    }
}

#[test]
fn their_client_connects() {
    let both = AgainstClient::connected();
    let [ServerEvent::Connect(request)] = &both.events[..] else {
        panic!("expected a connect, got {:?}", both.events)
    };
    assert_eq!(request.app, "live");
    assert_eq!(request.tc_url, "rtmp://example.com/live");
    assert_eq!(request.vhost, "example.com");
    assert!(
        both.peer_events
            .contains(&ClientSessionEvent::ConnectionRequestAccepted)
    );
}

#[test]
fn their_client_publishes_messages_of_any_size() {
    let mut both = AgainstClient::connected();
    let request = both
        .peer
        .request_publishing("camera?token=x".into(), PublishRequestType::Live)
        .unwrap();
    both.run(vec![request]);
    assert!(
        both.peer_events
            .contains(&ClientSessionEvent::PublishRequestAccepted)
    );
    let Some(ServerEvent::Publish(request)) = both.events.last() else {
        panic!("expected a publish, got {:?}", both.events)
    };
    assert_eq!(request.key.stream, "camera");
    assert_eq!(request.parameters.get("token"), Some("x"));

    both.events.clear();
    // Of an empty message, their serializer writes nothing at all.
    let sizes = [1, 127, 128, 129, 4096, 4097, 100_000];
    for (index, &size) in sizes.iter().enumerate() {
        let payload = Bytes::from(vec![index as u8; size]);
        let time = RtmpTimestamp::new(0xff_fff0 + 10 * index as u32);
        let result = both.peer.publish_video_data(payload, time, false).unwrap();
        both.run(vec![result]);
    }
    let expected: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(index, &size)| {
            ServerEvent::Media(Message {
                timestamp: 0xff_fff0 + 10 * index as u32,
                message_type: MessageType::VIDEO,
                stream_id: 1,
                payload: vec![index as u8; size].into(),
            })
        })
        .collect();
    assert_eq!(both.events, expected);
}

#[test]
fn their_client_plays() {
    let mut both = AgainstClient::connected();
    let request = both.peer.request_playback("camera".into()).unwrap();
    both.run(vec![request]);
    assert!(
        both.peer_events
            .contains(&ClientSessionEvent::PlaybackRequestAccepted)
    );

    let payload = Bytes::from_static(b"\x17\x01 a picture");
    let message = Message {
        timestamp: 0x0100_0000,
        message_type: MessageType::VIDEO,
        stream_id: 1,
        payload: payload.clone(),
    };
    both.ours.send(&message, &mut both.to_peer);
    both.run(vec![]);
    let expected = ClientSessionEvent::VideoDataReceived {
        timestamp: RtmpTimestamp::new(0x0100_0000),
        data: payload,
    };
    assert_eq!(both.peer_events.last(), Some(&expected));
}

#[test]
fn their_client_understands_a_refusal() {
    let mut both = AgainstClient::connected();
    both.refusal = Some(Status::publish_bad_name("camera is being published"));
    let request = both
        .peer
        .request_publishing("camera".into(), PublishRequestType::Live)
        .unwrap();
    both.run(vec![request]);
    let expected = ClientSessionEvent::UnhandleableOnStatusCode {
        code: "NetStream.Publish.BadName".into(),
    };
    assert_eq!(both.peer_events.last(), Some(&expected));
}

/// Our client and `rml_rtmp`'s server, with the wire between them.
struct AgainstServer {
    ours: ClientSession,
    peer: RmlServer,
    to_peer: Vec<u8>,
    events: Vec<ClientEvent>,
    peer_events: Vec<ServerSessionEvent>,
}

impl AgainstServer {
    fn established(purpose: Purpose) -> AgainstServer {
        let config = ClientConfig::new(purpose, "rtmp://example.com/live", "live", "camera");
        let mut to_peer = Vec::new();
        let mut ours = ClientSession::new(config, &Limits::default(), &mut to_peer).unwrap();
        let mut handshake = Handshake::new(PeerType::Server);
        let bytes = std::mem::take(&mut to_peer);
        let HandshakeProcessResult::InProgress { response_bytes } =
            handshake.process_bytes(&bytes).unwrap()
        else {
            panic!("the handshake is complete without C2")
        };
        assert_eq!(ours.read(&mut &response_bytes[..], &mut to_peer), Ok(None));
        let bytes = std::mem::take(&mut to_peer);
        let HandshakeProcessResult::Completed {
            remaining_bytes, ..
        } = handshake.process_bytes(&bytes).unwrap()
        else {
            panic!("the handshake is not complete")
        };

        let (peer, results) = RmlServer::new(ServerSessionConfig::new()).unwrap();
        let (events, peer_events) = (Vec::new(), Vec::new());
        let mut both = AgainstServer {
            ours,
            peer,
            to_peer: remaining_bytes,
            events,
            peer_events,
        };
        both.run(results);
        both
    }

    /// Carries everything to and fro until both sides are silent; the peer
    /// accepts everything.
    fn run(&mut self, results: Vec<ServerSessionResult>) {
        let mut from_peer = Vec::new();
        let mut pending = results;
        loop {
            while !pending.is_empty() {
                for result in std::mem::take(&mut pending) {
                    match result {
                        ServerSessionResult::OutboundResponse(packet) => {
                            from_peer.extend_from_slice(&packet.bytes);
                        }
                        ServerSessionResult::RaisedEvent(event) => {
                            if let ServerSessionEvent::ConnectionRequested { request_id, .. }
                            | ServerSessionEvent::PublishStreamRequested {
                                request_id, ..
                            }
                            | ServerSessionEvent::PlayStreamRequested { request_id, .. } = event
                            {
                                pending.extend(self.peer.accept_request(request_id).unwrap());
                            }
                            self.peer_events.push(event);
                        }
                        ServerSessionResult::UnhandleableMessageReceived(_) => {}
                    }
                }
            }
            let mut input = &from_peer[..];
            while let Some(event) = self.ours.read(&mut input, &mut self.to_peer).unwrap() {
                self.events.push(event);
            }
            from_peer.clear();
            if self.to_peer.is_empty() {
                return;
            }
            let bytes = std::mem::take(&mut self.to_peer);
            pending = self.peer.handle_input(&bytes).unwrap();
        }
    }
}

#[test]
fn our_client_publishes_to_their_server() {
    let mut both = AgainstServer::established(Purpose::Publish);
    assert_eq!(
        both.events,
        [ClientEvent::Connected, ClientEvent::Publishing]
    );

    for size in [1, 128, 60_000, 60_001, 200_000] {
        let message = Message {
            timestamp: 40,
            message_type: MessageType::AUDIO,
            stream_id: 0,
            payload: vec![0xaf; size].into(),
        };
        assert!(both.ours.publish(&message, &mut both.to_peer));
        both.run(vec![]);
        let Some(ServerSessionEvent::AudioDataReceived {
            data,
            timestamp,
            stream_key,
            ..
        }) = both.peer_events.last()
        else {
            panic!("expected audio, got {:?}", both.peer_events.last())
        };
        assert_eq!(data, &message.payload);
        assert_eq!(timestamp.value, 40);
        assert_eq!(stream_key, "camera");
    }

    both.ours.close(&mut both.to_peer);
    both.run(vec![]);
    assert!(
        matches!(
            both.peer_events.last(),
            Some(ServerSessionEvent::PublishStreamFinished { .. })
        ),
        "expected the end of the publish, got {:?}",
        both.peer_events.last()
    );
}

#[test]
fn our_client_plays_from_their_server() {
    let mut both = AgainstServer::established(Purpose::Play);
    assert_eq!(both.events[0], ClientEvent::Connected);
    assert!(
        both.events.contains(&ClientEvent::Playing),
        "{:?}",
        both.events
    );

    let picture = Bytes::from(vec![0x17; 10_000]);
    for time in [0, 40, 0xff_ffff, 0x0100_0020, u32::MAX] {
        let packet = both
            .peer
            .send_video_data(1, picture.clone(), RtmpTimestamp::new(time), false)
            .unwrap();
        both.run(vec![ServerSessionResult::OutboundResponse(packet)]);
        let expected = Message {
            timestamp: time,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: picture.clone(),
        };
        assert_eq!(both.events.last(), Some(&ClientEvent::Media(expected)));
    }
}
