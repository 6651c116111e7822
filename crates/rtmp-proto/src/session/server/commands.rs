//! The effect of each command of a client, in the order in which clients send
//! them.

use super::streams::Activity;
use super::{
    ConnectRequest, PendingConnect, PlayRequest, PlayStart, PublishKind, PublishRequest,
    ServerEvent, ServerSession, Stage, reply,
};
use crate::session::error::SessionError;
use crate::session::name::{AppName, NameError, StreamName};
use crate::session::properties::GOP_CACHE;
use crate::session::status::{Status, code};
use crate::wire::Limit;
use crate::wire::amf0::Value;
use crate::wire::message::{Command, UserControl};

impl ServerSession {
    /// Obeys and answers a command that came on message stream `stream_id`.
    pub(super) fn command(
        &mut self,
        command: Command,
        stream_id: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        match (&self.stage, command.name.as_str()) {
            (Stage::Connecting, "connect") => self.connect(command, out)?,
            (Stage::Connecting, _) => {
                let status = Status::error(code::CALL_FAILED, "connect first");
                self.answer_error(&command, &status, out);
                self.refused(status);
            }
            (_, "connect") => {
                let status = Status::error(code::CALL_FAILED, "already connected");
                self.answer_error(&command, &status, out);
                self.refused(status);
            }
            (_, "releaseStream" | "FCPublish") => self.answer(&command, Value::Undefined, out),
            (_, "createStream") => self.create_stream(&command, out)?,
            (_, "publish") => self.publish(&command, stream_id, out)?,
            (_, "FCSubscribe") => {
                self.answer(&command, Value::Undefined, out);
                self.send(&reply::on_fc_subscribe().to_message(0), out);
            }
            (_, "FCUnsubscribe") => {
                self.answer(&command, Value::Undefined, out);
                self.send(&reply::on_fc_unsubscribe().to_message(0), out);
            }
            (_, "getStreamLength") => self.answer(&command, Value::Number(0.0), out),
            (_, "play") => self.play(&command, stream_id, out)?,
            (_, "pause" | "pauseRaw") => self.pause(&command, stream_id, out),
            (_, "receiveAudio") => {
                if let Some(stream_id) = self.played(stream_id) {
                    let receive = flag(&command, 0).unwrap_or(true);
                    self.queued
                        .push_back(ServerEvent::ReceiveAudio { stream_id, receive });
                }
            }
            (_, "receiveVideo") => {
                if let Some(stream_id) = self.played(stream_id) {
                    let receive = flag(&command, 0).unwrap_or(true);
                    self.queued
                        .push_back(ServerEvent::ReceiveVideo { stream_id, receive });
                }
            }
            (_, "FCUnpublish") => self.fc_unpublish(&command, out),
            (_, "closeStream") => {
                self.unpublish(stream_id, out);
                self.stop(stream_id);
            }
            (_, "deleteStream") => self.delete_stream(&command, stream_id),
            (_, "_result" | "_error" | "onStatus") => {}
            // As SRS does: whoever wants an answer gets an empty one.
            _ => self.answer(&command, Value::Null, out),
        }
        Ok(())
    }

    fn connect(&mut self, command: Command, out: &mut Vec<u8>) -> Result<(), SessionError> {
        let object = &command.object;
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let tc_url = text("tcUrl");
        let name = match AppName::parse(text("app"), tc_url, &self.limits) {
            Ok(name) => name,
            Err(error) => {
                let status = Status::error(code::CONNECT_INVALID_APP, error.to_string());
                self.send(
                    &reply::error(command.transaction_id, &status).to_message(0),
                    out,
                );
                return Err(error.into());
            }
        };
        let four_cc_list = four_ccs(object.get("fourCcList"));
        self.stage = Stage::ConnectRequested(Box::new(PendingConnect {
            transaction_id: command.transaction_id,
            object_encoding: object
                .get("objectEncoding")
                .and_then(Value::as_number)
                .unwrap_or(0.0),
            enhanced: !four_cc_list.is_empty(),
            has_gop_cache: object.get(GOP_CACHE).is_some(),
            name: name.clone().without_idle_parameters(),
        }));
        let request = ConnectRequest {
            vhost: name.vhost,
            app: name.app,
            parameters: name.parameters,
            tc_url: tc_url.to_owned(),
            page_url: text("pageUrl").to_owned(),
            flash_ver: text("flashVer").to_owned(),
            gop_cache: object.get(GOP_CACHE).and_then(Value::as_bool),
            four_cc_list,
            reconnects: has_reconnect(object.get("capsEx")),
            arguments: command.arguments,
            object: command.object,
        };
        self.queued
            .push_back(ServerEvent::Connect(Box::new(request)));
        Ok(())
    }

    fn create_stream(&mut self, command: &Command, out: &mut Vec<u8>) -> Result<(), SessionError> {
        match self.streams.create() {
            Some(id) => {
                self.answer(command, Value::Number(f64::from(id)), out);
                Ok(())
            }
            None => {
                let status = Status::error(code::CALL_FAILED, "too many message streams");
                self.answer_error(command, &status, out);
                let allowed = self.limits.message_streams;
                Err(SessionError::Limit {
                    limit: Limit::MessageStreams,
                    allowed,
                })
            }
        }
    }

    fn publish(
        &mut self,
        command: &Command,
        stream_id: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        // publish(false) is Flash's way to stop publishing.
        if command.arguments.first() == Some(&Value::Boolean(false)) {
            self.unpublish(stream_id, out);
            return Ok(());
        }
        let Some((stream_id, name)) =
            self.request_target(command, stream_id, code::PUBLISH_BAD_NAME, out)?
        else {
            return Ok(());
        };
        let kind = match command.arguments.get(1).and_then(Value::as_str) {
            Some("record") => PublishKind::Record,
            Some("append") => PublishKind::Append,
            _ => PublishKind::Live,
        };
        self.stop(stream_id);
        self.streams.set(stream_id, Activity::PublishRequested);
        let request = PublishRequest {
            stream_id,
            key: name.key,
            parameters: name.parameters,
            kind,
        };
        self.queued
            .push_back(ServerEvent::Publish(Box::new(request)));
        Ok(())
    }

    fn play(
        &mut self,
        command: &Command,
        stream_id: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        // play(false) is Flash's way to stop playing.
        if command.arguments.first() == Some(&Value::Boolean(false)) {
            self.stop(stream_id);
            return Ok(());
        }
        let Some((stream_id, name)) =
            self.request_target(command, stream_id, code::PLAY_FAILED, out)?
        else {
            return Ok(());
        };
        let number = |index: usize| command.arguments.get(index).and_then(Value::as_number);
        self.stop(stream_id);
        self.streams.set(stream_id, Activity::PlayRequested);
        let request = PlayRequest {
            stream_id,
            key: name.key,
            parameters: name.parameters,
            start: play_start(number(1)),
            duration_ms: number(2).filter(|&ms| ms > 0.0).map(|ms| ms as u32),
            reset: flag(command, 3).unwrap_or(true),
        };
        self.queued.push_back(ServerEvent::Play(Box::new(request)));
        Ok(())
    }

    /// The message stream and the name that `publish` or `play` is about;
    /// `None`: it has been refused.
    ///
    /// Some home-made clients never create a stream, or send everything on
    /// message stream 0, and other servers let them.
    fn request_target(
        &mut self,
        command: &Command,
        stream_id: u32,
        refusal: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<Option<(u32, StreamName)>, SessionError> {
        let target = match stream_id {
            0 => self.streams.first(Activity::Idle).unwrap_or(1),
            id => id,
        };
        let name = command
            .arguments
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Stage::Connected(connected) = &self.stage else {
            unreachable!("publish and play are obeyed only once connected")
        };
        let name = connected.stream(name, &self.limits);
        let why = match &name {
            Ok(_) if self.streams.is_valid(target) => None,
            Ok(_) => Some("no such message stream".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let Some(why) = why else {
            return Ok(name.ok().map(|name| (target, name)));
        };
        let status = Status::error(refusal, why);
        self.send_status(stream_id, &status, out);
        if let Err(error @ NameError::TooLong { .. }) = name {
            return Err(error.into());
        }
        self.refused(status);
        Ok(None)
    }

    /// Tells the caller what has been refused without asking it.
    fn refused(&mut self, status: Status) {
        self.queued
            .push_back(ServerEvent::Refused(Box::new(status)));
    }

    fn pause(&mut self, command: &Command, stream_id: u32, out: &mut Vec<u8>) {
        let Some(stream_id) = self.played(stream_id) else {
            return;
        };
        let paused = flag(command, 0).unwrap_or(true);
        let (code, description) = match paused {
            true => (code::PAUSE_NOTIFY, "Paused stream."),
            false => (code::UNPAUSE_NOTIFY, "Unpaused stream."),
        };
        self.send_status(stream_id, &Status::notice(code, description), out);
        let event = match paused {
            true => UserControl::StreamEof(stream_id),
            false => UserControl::StreamBegin(stream_id),
        };
        self.send_user_control(event, out);
        self.queued
            .push_back(ServerEvent::Pause { stream_id, paused });
    }

    /// The stream that a command about playing is meant for.
    fn played(&self, stream_id: u32) -> Option<u32> {
        let played = |activity| matches!(activity, Activity::Playing | Activity::PlayDeferred);
        let target = match stream_id {
            0 => {
                let deferred = || self.streams.only(Activity::PlayDeferred);
                self.streams.only(Activity::Playing).or_else(deferred)?
            }
            id => id,
        };
        played(self.streams.activity(target)).then_some(target)
    }

    /// FMLE and its like take leave by name and on message stream 0; they have
    /// one stream. Whoever has several has to say which: deleteStream.
    fn fc_unpublish(&mut self, command: &Command, out: &mut Vec<u8>) {
        if let Some(stream_id) = self.streams.only(Activity::Publishing) {
            self.send(&reply::on_fc_unpublish().to_message(stream_id), out);
            self.answer(command, Value::Undefined, out);
            self.unpublish(stream_id, out);
        } else {
            self.answer(command, Value::Undefined, out);
        }
    }

    /// Ends a publish at the client's wish, and tells it so.
    fn unpublish(&mut self, stream_id: u32, out: &mut Vec<u8>) {
        let stream_id = match stream_id {
            0 => self.streams.only(Activity::Publishing).unwrap_or(0),
            id => id,
        };
        if self.streams.activity(stream_id) == Activity::Publishing {
            self.stop(stream_id);
            let status = Status::notice(code::UNPUBLISH_SUCCESS, "Stop publishing stream.");
            self.send_status(stream_id, &status, out);
        }
    }

    /// Ends what goes on on a message stream; the stream stays.
    fn stop(&mut self, stream_id: u32) {
        let activity = self.streams.activity(stream_id);
        if activity == Activity::Publishing {
            self.queued
                .push_back(ServerEvent::PublishEnded { stream_id });
        } else if activity.is_play() {
            self.queued.push_back(ServerEvent::PlayEnded { stream_id });
        } else {
            return;
        }
        self.streams.set(stream_id, Activity::Idle);
    }

    fn delete_stream(&mut self, command: &Command, stream_id: u32) {
        let named = command.arguments.first().and_then(Value::as_number);
        let stream_id = named.map_or(stream_id, |number| number as u32);
        self.stop(stream_id);
        if self.streams.activity(stream_id) != Activity::None {
            self.streams.set(stream_id, Activity::None);
        }
    }

    /// Answers a call that wants an answer.
    fn answer(&mut self, command: &Command, value: Value, out: &mut Vec<u8>) {
        if wants_answer(command) {
            self.send(
                &reply::result(command.transaction_id, value).to_message(0),
                out,
            );
        }
    }

    fn answer_error(&mut self, command: &Command, status: &Status, out: &mut Vec<u8>) {
        if wants_answer(command) {
            self.send(
                &reply::error(command.transaction_id, status).to_message(0),
                out,
            );
        }
    }
}

fn wants_answer(command: &Command) -> bool {
    command.transaction_id > 0.0
}

fn flag(command: &Command, index: usize) -> Option<bool> {
    command.arguments.get(index).and_then(Value::as_bool)
}

/// The specification counts in seconds, clients in milliseconds: -2 and -2000
/// both mean "live or recorded", -1 and -1000 "live".
fn play_start(number: Option<f64>) -> PlayStart {
    match number {
        Some(-1.0 | -1000.0) => PlayStart::Live,
        Some(ms) if ms >= 0.0 => PlayStart::Recorded(ms as u32),
        _ => PlayStart::LiveOrRecorded,
    }
}

/// True if `capsEx` has the bit of clients that understand the Reconnect Request
/// (Enhanced RTMP v2, *Enhancing NetConnection connect command*).
fn has_reconnect(caps_ex: Option<&Value>) -> bool {
    const RECONNECT: u32 = 1;
    let caps_ex = caps_ex.and_then(Value::as_number).unwrap_or(0.0);
    // A number that is no mask becomes one of the nearest value, or 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float is cut to the range"
    )]
    let mask = caps_ex as u32;
    mask & RECONNECT != 0
}

/// `fourCcList`: strings in an array of either kind.
fn four_ccs(list: Option<&Value>) -> Vec<String> {
    let code = |value: &Value| value.as_str().map(str::to_owned);
    match list {
        Some(Value::StrictArray(values)) => values.iter().filter_map(code).collect(),
        Some(list) => list
            .properties()
            .iter()
            .filter_map(|(_, value)| code(value))
            .collect(),
        None => Vec::new(),
    }
}
