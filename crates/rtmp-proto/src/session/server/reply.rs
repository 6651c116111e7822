//! The fixed replies of the server.

use super::ConnectSettings;
use crate::session::properties::MARKS_PUBLICATIONS;
use crate::session::status::{Status, code};
use crate::wire::Message;
use crate::wire::amf0::Value;
use crate::wire::message::{BandwidthLimit, Command, Control, data};

/// The server that we say we are: clients parse it, and take less for one that
/// cannot do H.264.
const FMS_VERSION: &str = "FMS/3,5,3,888";
const FMS_VERSION_NUMBER: &str = "3,5,3,888";
/// Flash Media Server's capability bits, as all servers send them.
const FMS_CAPABILITIES: f64 = 127.0;

/// Window and chunk size, before the result of `connect`.
pub(super) fn connection_settings(settings: &ConnectSettings) -> Vec<Control> {
    let mut controls = Vec::with_capacity(3);
    if settings.out_ack_size > 0 {
        controls.push(Control::WindowAckSize(settings.out_ack_size));
        controls.push(Control::SetPeerBandwidth(
            settings.out_ack_size,
            BandwidthLimit::Dynamic,
        ));
    }
    controls.push(Control::SetChunkSize(settings.chunk_size));
    controls
}

/// `connect` has succeeded. `enhanced`: the client knows codecs of Enhanced
/// RTMP, and hears that we pass on any. `has_gop_cache`: it has sent `gopCache`,
/// and hears that we mark publications.
pub(super) fn connect_result(
    transaction_id: f64,
    object_encoding: f64,
    enhanced: bool,
    has_gop_cache: bool,
) -> Command {
    let mut server = vec![
        ("fmsVer".to_owned(), Value::from(FMS_VERSION)),
        ("capabilities".to_owned(), Value::from(FMS_CAPABILITIES)),
        ("mode".to_owned(), Value::from(1.0)),
    ];
    if enhanced {
        server.push((
            "fourCcList".to_owned(),
            Value::StrictArray(vec![Value::from("*")]),
        ));
    }
    if has_gop_cache {
        server.push((MARKS_PUBLICATIONS.to_owned(), true.into()));
    }
    let mut info = Status::notice(code::CONNECT_SUCCESS, "Connection succeeded.").properties();
    info.push(("objectEncoding".to_owned(), Value::from(object_encoding)));
    let version = vec![("version".to_owned(), Value::from(FMS_VERSION_NUMBER))];
    info.push(("data".to_owned(), Value::EcmaArray(version)));
    Command {
        name: "_result".to_owned(),
        transaction_id,
        object: Value::Object(server),
        arguments: vec![Value::Object(info)],
    }
}

/// Flash clients wait for this call after `connect`; others may answer it with
/// `_checkbw`.
pub(super) fn bandwidth_done() -> Command {
    Command::new("onBWDone", 0.0, vec![])
}

pub(super) fn result(transaction_id: f64, value: Value) -> Command {
    Command::new("_result", transaction_id, vec![value])
}

pub(super) fn error(transaction_id: f64, status: &Status) -> Command {
    Command::new(
        "_error",
        transaction_id,
        vec![Value::Object(status.properties())],
    )
}

pub(super) fn on_status(status: &Status) -> Command {
    Command::new("onStatus", 0.0, vec![Value::Object(status.properties())])
}

/// The call that FMLE waits for beside the status of its `publish`.
pub(super) fn on_fc_publish() -> Command {
    on_fc(
        "onFCPublish",
        Status::notice(code::PUBLISH_START, "Started publishing stream."),
    )
}

/// The answer to `FCUnpublish`.
pub(super) fn on_fc_unpublish() -> Command {
    on_fc(
        "onFCUnpublish",
        Status::notice(code::UNPUBLISH_SUCCESS, "Stop publishing stream."),
    )
}

/// The answer to `FCSubscribe`, which some players wait for before they play.
pub(super) fn on_fc_subscribe() -> Command {
    on_fc(
        "onFCSubscribe",
        Status::notice(code::PLAY_START, "Started playing stream."),
    )
}

/// The answer to `FCUnsubscribe`.
pub(super) fn on_fc_unsubscribe() -> Command {
    on_fc(
        "onFCUnsubscribe",
        Status::notice(code::PLAY_STOP, "Stopped playing stream."),
    )
}

fn on_fc(name: &str, status: Status) -> Command {
    Command::new(name, 0.0, vec![Value::Object(status.properties())])
}

/// Lets scripts in a Flash player look at what is played.
pub(super) fn sample_access(stream_id: u32) -> Message {
    data::message(
        0,
        stream_id,
        &["|RtmpSampleAccess".into(), true.into(), true.into()],
    )
}
