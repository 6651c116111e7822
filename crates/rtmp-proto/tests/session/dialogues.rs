//! What the usual clients say, in their order, and what they must hear.
//!
//! Orders and arguments are those of the clients' own exchanges, shortened.

use rtmp_proto::session::ServerEvent;
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::{Command, Control, UserControl, data};
use rtmp_proto::wire::{Message, MessageType};

use crate::tools::{
    CONNECT_ACCEPTED, PLAY_ACCEPTED, PUBLISH_ACCEPTED, Server, call, connect, video,
};

/// One step: what the client sends, what it hears, what the server's caller is
/// told (by name).
struct Step {
    says: Message,
    hears: &'static [&'static str],
    told: &'static [&'static str],
}

fn says(
    command: Command,
    stream_id: u32,
    hears: &'static [&'static str],
    told: &'static [&'static str],
) -> Step {
    Step {
        says: command.to_message(stream_id),
        hears,
        told,
    }
}

fn control(control: Control, told: &'static [&'static str]) -> Step {
    Step {
        says: control.to_message(),
        hears: &[],
        told,
    }
}

fn media(type_id: MessageType, payload: &[u8]) -> Step {
    let says = Message {
        message_type: type_id,
        ..video(1, payload)
    };
    Step {
        says,
        hears: &[],
        told: &["Media"],
    }
}

#[track_caller]
fn run(steps: Vec<Step>) {
    let mut server = Server::new();
    for (index, step) in steps.iter().enumerate() {
        let heard = server.send(&step.says).unwrap();
        let what = crate::tools::in_words(&step.says);
        assert_eq!(heard, step.hears, "heard after step {index}: {what}");
        let told: Vec<_> = server.events.drain(..).map(|event| name(&event)).collect();
        assert_eq!(told, step.told, "told after step {index}: {what}");
    }
}

fn name(event: &ServerEvent) -> &'static str {
    match event {
        ServerEvent::Connect(_) => "Connect",
        ServerEvent::Publish(_) => "Publish",
        ServerEvent::Play(_) => "Play",
        ServerEvent::Media(_) => "Media",
        ServerEvent::PublishEnded { .. } => "PublishEnded",
        ServerEvent::PlayEnded { .. } => "PlayEnded",
        ServerEvent::Pause { .. } => "Pause",
        ServerEvent::ReceiveAudio { .. } => "ReceiveAudio",
        ServerEvent::ReceiveVideo { .. } => "ReceiveVideo",
        ServerEvent::BufferLength { .. } => "BufferLength",
        ServerEvent::Acknowledged(_) => "Acknowledged",
        ServerEvent::Pong(_) => "Pong",
        ServerEvent::Refused(_) => "Refused",
    }
}

const UNPUBLISHED: &[&str] = &[
    "onFCUnpublish@1 NetStream.Unpublish.Success",
    "_result 6 undefined",
    "onStatus@1 NetStream.Unpublish.Success",
];

fn app(more: &[(&str, Value)]) -> Command {
    let mut properties = vec![("app", "live".into()), ("tcUrl", "rtmp://h/live".into())];
    properties.extend_from_slice(more);
    connect(&properties)
}

fn metadata() -> Step {
    let frame = data::message(0, 1, &["@setDataFrame".into(), "onMetaData".into()]);
    Step {
        says: frame,
        hears: &[],
        told: &["Media"],
    }
}

#[test]
fn obs_and_fmle_publish() {
    run(vec![
        says(
            app(&[("type", "nonprivate".into())]),
            0,
            &CONNECT_ACCEPTED,
            &["Connect"],
        ),
        control(Control::SetChunkSize(4096), &[]),
        says(
            call("releaseStream", 2, &["camera".into()]),
            0,
            &["_result 2 undefined"],
            &[],
        ),
        says(
            call("FCPublish", 3, &["camera".into()]),
            0,
            &["_result 3 undefined"],
            &[],
        ),
        says(call("createStream", 4, &[]), 0, &["_result 4 1"], &[]),
        says(call("_checkbw", 5, &[]), 0, &["_result 5 null"], &[]),
        says(
            call("publish", 5, &["camera".into(), "live".into()]),
            1,
            &PUBLISH_ACCEPTED,
            &["Publish"],
        ),
        metadata(),
        media(MessageType::AUDIO, b"\xaf\x00\x12\x10"),
        media(MessageType::VIDEO, b"\x17\x00\0\0\0\x01"),
        media(MessageType::VIDEO, b"\x17\x01\0\0\0"),
        says(
            call("FCUnpublish", 6, &["camera".into()]),
            0,
            UNPUBLISHED,
            &["PublishEnded"],
        ),
        says(call("deleteStream", 7, &[1.0.into()]), 0, &[], &[]),
    ]);
}

#[test]
fn flash_publishes() {
    // No FCPublish; sends as soon as it has asked; closes by closeStream.
    run(vec![
        says(
            app(&[("objectEncoding", 3.0.into())]),
            0,
            &CONNECT_ACCEPTED,
            &["Connect"],
        ),
        says(call("createStream", 2, &[]), 0, &["_result 2 1"], &[]),
        says(
            call("publish", 0, &["camera".into(), "live".into()]),
            1,
            &PUBLISH_ACCEPTED,
            &["Publish"],
        ),
        metadata(),
        media(MessageType::VIDEO, b"\x12\0"),
        says(
            call("closeStream", 0, &[]),
            1,
            &["onStatus@1 NetStream.Unpublish.Success"],
            &["PublishEnded"],
        ),
        // And goes on the air again on the same stream.
        says(
            call("publish", 0, &["camera".into(), "live".into()]),
            1,
            &PUBLISH_ACCEPTED,
            &["Publish"],
        ),
        says(
            call("deleteStream", 0, &[1.0.into()]),
            0,
            &[],
            &["PublishEnded"],
        ),
    ]);
}

#[test]
fn haivision_publishes() {
    // FCPublish without releaseStream, and _checkbw in the middle of it.
    run(vec![
        says(app(&[]), 0, &CONNECT_ACCEPTED, &["Connect"]),
        says(call("_checkbw", 2, &[]), 0, &["_result 2 null"], &[]),
        says(call("createStream", 3, &[]), 0, &["_result 3 1"], &[]),
        says(
            call("FCPublish", 4, &["camera".into()]),
            0,
            &["_result 4 undefined"],
            &[],
        ),
        says(
            call("publish", 5, &["camera".into(), "live".into()]),
            1,
            &PUBLISH_ACCEPTED,
            &["Publish"],
        ),
        says(call("_checkbw", 0, &[]), 0, &[], &[]),
        media(MessageType::VIDEO, b"\x17\x00\0\0\0\x01"),
    ]);
}

#[test]
fn librtmp_plays() {
    let buffer = UserControl::SetBufferLength {
        stream_id: 1,
        milliseconds: 36_000_000,
    };
    run(vec![
        says(
            app(&[("fpad", false.into())]),
            0,
            &CONNECT_ACCEPTED,
            &["Connect"],
        ),
        control(Control::WindowAckSize(2_500_000), &[]),
        control(
            Control::UserControl(UserControl::SetBufferLength {
                stream_id: 0,
                milliseconds: 300,
            }),
            &["BufferLength"],
        ),
        says(call("createStream", 2, &[]), 0, &["_result 2 1"], &[]),
        says(call("_checkbw", 3, &[]), 0, &["_result 3 null"], &[]),
        says(
            call("play", 4, &["camera".into(), (-2000.0).into()]),
            1,
            &PLAY_ACCEPTED,
            &["Play"],
        ),
        control(Control::UserControl(buffer), &["BufferLength"]),
        control(Control::Acknowledgement(1_250_000), &["Acknowledged"]),
        says(
            call("pause", 5, &[true.into(), 100.0.into()]),
            1,
            &["onStatus@1 NetStream.Pause.Notify", "StreamEof(1)"],
            &["Pause"],
        ),
        says(
            call("deleteStream", 6, &[1.0.into()]),
            0,
            &[],
            &["PlayEnded"],
        ),
    ]);
}

#[test]
fn ffmpeg_and_vlc_play() {
    run(vec![
        says(
            app(&[("fpad", false.into()), ("capabilities", 15.0.into())]),
            0,
            &CONNECT_ACCEPTED,
            &["Connect"],
        ),
        control(Control::WindowAckSize(2_500_000), &[]),
        says(call("createStream", 2, &[]), 0, &["_result 2 1"], &[]),
        says(
            call("FCSubscribe", 3, &["camera".into()]),
            0,
            &["_result 3 undefined", "onFCSubscribe NetStream.Play.Start"],
            &[],
        ),
        says(call("_checkbw", 4, &[]), 0, &["_result 4 null"], &[]),
        says(
            call("getStreamLength", 5, &["camera".into()]),
            0,
            &["_result 5 0"],
            &[],
        ),
        says(
            call("play", 6, &["camera".into(), (-2000.0).into()]),
            1,
            &PLAY_ACCEPTED,
            &["Play"],
        ),
        control(
            Control::UserControl(UserControl::SetBufferLength {
                stream_id: 1,
                milliseconds: 3000,
            }),
            &["BufferLength"],
        ),
    ]);
}

#[test]
fn flash_plays_one_stream_after_another() {
    run(vec![
        says(
            app(&[("objectEncoding", 3.0.into())]),
            0,
            &CONNECT_ACCEPTED,
            &["Connect"],
        ),
        says(call("createStream", 2, &[]), 0, &["_result 2 1"], &[]),
        says(call("receiveAudio", 0, &[false.into()]), 1, &[], &[]),
        says(
            call("play", 0, &["camera".into(), (-1000.0).into()]),
            1,
            &PLAY_ACCEPTED,
            &["Play"],
        ),
        says(
            call("receiveAudio", 0, &[true.into()]),
            1,
            &[],
            &["ReceiveAudio"],
        ),
        says(
            call("play", 0, &["second".into()]),
            1,
            &PLAY_ACCEPTED,
            &["PlayEnded", "Play"],
        ),
        says(call("closeStream", 0, &[]), 1, &[], &["PlayEnded"]),
        says(
            call("play", 0, &["third".into()]),
            1,
            &PLAY_ACCEPTED,
            &["Play"],
        ),
        says(
            call("deleteStream", 0, &[1.0.into()]),
            0,
            &[],
            &["PlayEnded"],
        ),
        says(call("createStream", 3, &[]), 0, &["_result 3 1"], &[]),
    ]);
}
