//! `transcode [APP[/STREAM]] { … }`: what ffmpeg makes of published streams, as in SRS
//! (`srs_app_encoder.cpp`).

use conf_kit::{Diagnostics, Directive};
use rtmp_proto::session::StreamKey;
use serde::Serialize;

use super::engine::{Engine, EngineOf, engine, named_block};
use super::model::Vhost;
use super::setting::{Setting, apply, settings};
use super::value::switch;

/// The program that is run where the configuration names none.
pub(super) const FFMPEG: &str = "ffmpeg";

/// One `transcode` of a vhost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transcode {
    /// `APP`, `APP/STREAM`, or empty for all of the vhost.
    pub scope: String,
    /// True if it has an effect.
    pub enabled: bool,
    /// The path of ffmpeg, or its name in `PATH`.
    pub ffmpeg: String,
    /// The outputs, those that are off left out.
    pub engines: Vec<Engine>,
}

impl Transcode {
    /// True if the stream `key` is transcoded.
    #[must_use]
    pub fn applies_to(&self, key: &StreamKey) -> bool {
        let StreamKey { app, stream, .. } = key;
        let scope = &self.scope;
        scope.is_empty() || scope == app || *scope == format!("{app}/{stream}")
    }
}

settings! { Transcode {
    ENABLED: "enabled", |transcode, it| transcode.enabled = switch(it)?;
    FFMPEG_PATH: "ffmpeg",
        |transcode, it| transcode.ffmpeg = it.argument("the path of ffmpeg")?.to_owned();
}}

const TRANSCODE: &[Setting<Transcode>] = &[
    ENABLED,
    FFMPEG_PATH,
    Setting::any("engine", |transcode, directive, diagnostics| {
        let engine = engine(directive, EngineOf::Transcode, diagnostics);
        let enabled = engine.filter(|engine| engine.enabled);
        transcode.engines.extend(enabled);
    }),
];

/// Reads `transcode [APP[/STREAM]] { … }`.
pub(super) fn transcode(vhost: &mut Vhost, directive: &Directive, diagnostics: &mut Diagnostics) {
    let Some((scope, children)) = diagnostics.take(named_block(directive)) else {
        return;
    };
    let mut transcode = Transcode {
        scope: scope.to_owned(),
        enabled: false,
        ffmpeg: FFMPEG.to_owned(),
        engines: Vec::new(),
    };
    let place = "in `transcode`";
    apply(
        &mut transcode,
        children,
        TRANSCODE,
        place,
        &["engine"],
        diagnostics,
    );
    let known = vhost.transcodes.iter_mut().find(|it| it.scope == scope);
    match known {
        Some(known) => {
            let message = format!("`transcode {scope}` was already given: this one holds");
            diagnostics.warn(&directive.location, message);
            *known = transcode;
        }
        None => vhost.transcodes.push(transcode),
    }
}
