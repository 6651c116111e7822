//! The directives of vhosts, as tables.

use std::time::Duration;

use conf_kit::{Diagnostic, Directive};

use super::dvr::dvr;
use super::exec::exec;
use super::forward::{forward, forward_to};
use super::hls::hls;
use super::http_flv::http_remux;
use super::ingest::ingest;
use super::model::{HookUrl, HttpHooks, Referers, Upstream, Vhost};
use super::origin::origins;
use super::quota::quota;
use super::security::{Action, Rule, Security};
use super::setting::{NO_OTHER_FILES, NO_OTHER_PROTOCOL, Setting, apply, settings};
use super::signed_urls::signed_urls;
use super::slate::slate;
use super::tls::vhost_certificate;
use super::transcode::transcode;
use super::value::switch;
use crate::stream::SecondPublisher;

const ALWAYS_CORRECTED: &str = "every stream has one rising timeline here";

// Directives that stand in several blocks.
settings! { Vhost {
    MIN_LATENCY: "min_latency", |vhost, it| vhost.min_latency = switch(it)?;
    GOP_CACHE: "gop_cache", |vhost, it| vhost.gop_cache = switch(it)?;
    GOP_CACHE_MAX_FRAMES: "gop_cache_max_frames",
        |vhost, it| vhost.gop_cache_max_frames = it.number(0..=i32::MAX as u32)?;
    QUEUE_LENGTH: "queue_length", |vhost, it| vhost.queue_length = it.seconds_within(1..=3_600)?;
    QUEUE_BYTES: "queue_bytes", |vhost, it| vhost.queue_bytes = it.number(1 << 20..=u32::MAX)?;
    MW_LATENCY: "mw_latency", |vhost, it| vhost.mw_latency = it.milliseconds(0..=10_000)?;
    MAX_PACING_RATE: "max_pacing_rate",
        |vhost, it| vhost.max_pacing_rate = it.number(0..=100_000_000)?;
    KEYFRAME_TIMEOUT: "keyframe_timeout",
        |vhost, it| vhost.keyframe_timeout = it.milliseconds(0..=3_600_000)?;
    PLAY_WAIT_TIMEOUT: "play_wait_timeout",
        |vhost, it| vhost.play_wait_timeout = it.milliseconds(0..=3_600_000)?;
    SEND_TIMEOUT: "send_timeout",
        |vhost, it| vhost.send_timeout = it.milliseconds(1_000..=3_600_000)?;
    PUBLISH_1STPKT_TIMEOUT: "publish_1stpkt_timeout",
        |vhost, it| vhost.publish_1stpkt_timeout = it.milliseconds(100..=3_600_000)?;
    PUBLISH_NORMAL_TIMEOUT: "publish_normal_timeout",
        |vhost, it| vhost.publish_normal_timeout = it.milliseconds(100..=3_600_000)?;
    PUBLISH_RETURN_TIMEOUT: "publish_return_timeout",
        |vhost, it| vhost.publish_return_timeout = it.milliseconds(0..=3_600_000)?;
    TOKEN_TRAVERSE: "token_traverse", |vhost, it| upstream(vhost).token_traverse = switch(it)?;
    UPSTREAM_VHOST: "vhost",
        |vhost, it| upstream(vhost).vhost = Some(it.argument("the name of a vhost")?.to_owned());
    ORIGIN_CONNECT_TIMEOUT: "origin_connect_timeout",
        |vhost, it| upstream(vhost).connect_timeout = it.milliseconds(100..=60_000)?;
    ORIGIN_READ_TIMEOUT: "origin_read_timeout",
        |vhost, it| upstream(vhost).read_timeout = it.milliseconds(100..=3_600_000)?;
    ORIGIN_RETURN_TIMEOUT: "origin_return_timeout",
        |vhost, it| upstream(vhost).return_timeout = it.milliseconds(0..=86_400_000)?;
    ORIGIN_CA: "origin_ca",
        |vhost, it| upstream(vhost).ca = Some(it.argument("a file name")?.into());
    ORIGIN_REDUNDANCY: "origin_redundancy",
        |vhost, it| upstream(vhost).redundancy = it.number(1..=2)?;
    ORIGIN_LINGER: "origin_linger",
        |vhost, it| upstream(vhost).linger = it.milliseconds(0..=3_600_000)?;
}}

/// The directives of `vhost NAME { … }`. SRS 3 and later put many of them in
/// `play`, `publish` and `cluster`; both places are read.
pub(super) const VHOST: &[Setting<Vhost>] = &[
    Setting::new("enabled", |vhost, directive| {
        vhost.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::new("chunk_size", chunk_size),
    Setting::new("in_ack_size", in_ack_size),
    Setting::new("out_ack_size", out_ack_size),
    Setting::new("tcp_nodelay", tcp_nodelay),
    MIN_LATENCY,
    GOP_CACHE,
    GOP_CACHE_MAX_FRAMES,
    QUEUE_LENGTH,
    QUEUE_BYTES,
    MW_LATENCY,
    MAX_PACING_RATE,
    KEYFRAME_TIMEOUT,
    PLAY_WAIT_TIMEOUT,
    SEND_TIMEOUT,
    PUBLISH_1STPKT_TIMEOUT,
    PUBLISH_NORMAL_TIMEOUT,
    PUBLISH_RETURN_TIMEOUT,
    Setting::block("mr", |vhost, children, diagnostics| {
        let mut mr = MergedRead::default();
        apply(&mut mr, children, MERGED_READ, "in `mr`", &[], diagnostics);
        vhost.mr = mr.enabled.then_some(mr.latency);
        vhost.mr_latency = mr.latency;
    }),
    Setting::new("mode", mode),
    Setting::list("origin", origin),
    TOKEN_TRAVERSE,
    UPSTREAM_VHOST,
    ORIGIN_CONNECT_TIMEOUT,
    ORIGIN_READ_TIMEOUT,
    ORIGIN_RETURN_TIMEOUT,
    ORIGIN_LINGER,
    ORIGIN_REDUNDANCY,
    ORIGIN_CA,
    Setting::block("play", |vhost, children, diagnostics| {
        apply(vhost, children, PLAY, "in `play`", &[], diagnostics);
    }),
    Setting::block("publish", |vhost, children, diagnostics| {
        apply(vhost, children, PUBLISH, "in `publish`", &[], diagnostics);
    }),
    Setting::block("cluster", |vhost, children, diagnostics| {
        apply(vhost, children, CLUSTER, "in `cluster`", &[], diagnostics);
    }),
    Setting::block("security", |vhost, children, diagnostics| {
        vhost.security = Security::default();
        let security = &mut vhost.security;
        apply(
            security,
            children,
            SECURITY,
            "in `security`",
            &["allow", "deny"],
            diagnostics,
        );
    }),
    Setting::block("signed_urls", signed_urls),
    Setting::block("quota", quota),
    Setting::block("http_hooks", |vhost, children, diagnostics| {
        let mut hooks = Hooks::default();
        apply(
            &mut hooks,
            children,
            HTTP_HOOKS,
            "in `http_hooks`",
            &[],
            diagnostics,
        );
        vhost.http_hooks = if hooks.enabled {
            hooks.urls
        } else {
            HttpHooks::default()
        };
    }),
    // A block since SRS 3.
    Setting::value_or_block(
        "refer",
        |vhost, directive| pages(&mut vhost.referers.all, directive),
        |vhost, children, diagnostics| {
            let mut refer = Refer::default();
            apply(&mut refer, children, REFER, "in `refer`", &[], diagnostics);
            vhost.referers = if refer.enabled {
                refer.referers
            } else {
                Referers::default()
            };
        },
    ),
    Setting::list("refer_publish", |vhost, directive| {
        pages(&mut vhost.referers.publish, directive)
    }),
    Setting::list("refer_play", |vhost, directive| {
        pages(&mut vhost.referers.play, directive)
    }),
    Setting::ignored("time_jitter", ALWAYS_CORRECTED),
    Setting::ignored("mix_correct", ALWAYS_CORRECTED),
    Setting::ignored("atc", ALWAYS_CORRECTED),
    Setting::ignored("atc_auto", ALWAYS_CORRECTED),
    Setting::ignored("debug_srs_upnode", "no debug information is sent upstream"),
    Setting::ignored("bandcheck", "there is no bandwidth check"),
    Setting::value_or_block("forward", forward_to, forward),
    Setting::any("transcode", transcode),
    Setting::any("ingest", ingest),
    Setting::block("exec", exec),
    Setting::block("dvr", dvr),
    Setting::block("hls", hls),
    Setting::ignored("dash", NO_OTHER_FILES),
    Setting::ignored("hds", NO_OTHER_FILES),
    Setting::ignored("http", NO_OTHER_PROTOCOL),
    Setting::ignored("http_static", NO_OTHER_PROTOCOL),
    Setting::block("http_remux", http_remux),
    Setting::block("https", vhost_certificate),
    Setting::ignored("rtc", NO_OTHER_PROTOCOL),
    Setting::ignored("srt", NO_OTHER_PROTOCOL),
    Setting::ignored("send_min_interval", "messages are sent as they come"),
    Setting::ignored(
        "reduce_sequence_header",
        "sequence headers are sent as they come",
    ),
    Setting::ignored("rtsp", NO_OTHER_PROTOCOL),
    Setting::ignored("nack", NO_OTHER_PROTOCOL),
    Setting::ignored("twcc", NO_OTHER_PROTOCOL),
];

const PLAY: &[Setting<Vhost>] = &[
    GOP_CACHE,
    GOP_CACHE_MAX_FRAMES,
    QUEUE_LENGTH,
    QUEUE_BYTES,
    MW_LATENCY,
    MAX_PACING_RATE,
    KEYFRAME_TIMEOUT,
    PLAY_WAIT_TIMEOUT,
    SEND_TIMEOUT,
    Setting::ignored("mw_msgs", "messages are gathered by time only"),
    Setting::ignored("send_min_interval", "messages are sent as they come"),
    Setting::ignored(
        "reduce_sequence_header",
        "sequence headers are sent as they come",
    ),
    Setting::ignored("time_jitter", ALWAYS_CORRECTED),
    Setting::ignored("mix_correct", ALWAYS_CORRECTED),
    Setting::ignored("atc", ALWAYS_CORRECTED),
    Setting::ignored("atc_auto", ALWAYS_CORRECTED),
];

const PUBLISH: &[Setting<Vhost>] = &[
    Setting::new("mr", |vhost, directive| {
        vhost.mr = switch(directive)?.then_some(vhost.mr_latency);
        Ok(())
    }),
    Setting::new("mr_latency", |vhost, directive| {
        vhost.mr_latency = directive.milliseconds(0..=10_000)?;
        vhost.mr = vhost.mr.map(|_| vhost.mr_latency);
        Ok(())
    }),
    PUBLISH_1STPKT_TIMEOUT.called("firstpkt_timeout"),
    PUBLISH_NORMAL_TIMEOUT.called("normal_timeout"),
    PUBLISH_RETURN_TIMEOUT.called("return_timeout"),
    Setting::new("second_publisher", |vhost, directive| {
        const WORDS: [(&str, SecondPublisher); 3] = [
            ("refuse", SecondPublisher::Refuse),
            ("takeover", SecondPublisher::TakeOver),
            ("standby", SecondPublisher::Standby),
        ];
        let expected = "`refuse`, `takeover` or `standby`";
        vhost.second_publisher = directive.choice(&WORDS, expected)?;
        Ok(())
    }),
    Setting::new("backup", |vhost, directive| {
        vhost.second_publisher = match switch(directive)? {
            true => SecondPublisher::Standby,
            false => SecondPublisher::Refuse,
        };
        Ok(())
    }),
    Setting::new("standby_after", |vhost, directive| {
        vhost.standby_after = directive.milliseconds(100..=60_000)?;
        Ok(())
    }),
    Setting::new("slate", slate),
    Setting::new("slate_after", |vhost, directive| {
        vhost.slate_after = directive.milliseconds(100..=3_600_000)?;
        Ok(())
    }),
    Setting::new("standby_return", |vhost, directive| {
        let is_off = directive.arguments.first().is_some_and(|it| it == "off");
        vhost.standby_return = match is_off {
            true => None,
            false => Some(directive.milliseconds(0..=3_600_000)?),
        };
        Ok(())
    }),
    Setting::ignored("parse_sps", "codec headers pass through unread"),
    Setting::ignored("try_annexb_first", "codec headers pass through unread"),
    Setting::ignored(
        "kickoff_for_idle",
        "a publisher is not bound to its players",
    ),
];

const CLUSTER: &[Setting<Vhost>] = &[
    Setting::new("mode", mode),
    Setting::list("origin", origin),
    TOKEN_TRAVERSE,
    UPSTREAM_VHOST,
    ORIGIN_CA,
    ORIGIN_REDUNDANCY,
    Setting::ignored("debug_srs_upnode", "no debug information is sent upstream"),
    Setting::ignored("origin_cluster", "list the origins at the edges"),
    Setting::ignored("coworkers", "list the origins at the edges"),
    Setting::ignored("protocol", NO_OTHER_PROTOCOL),
    Setting::ignored("follow_client", NO_OTHER_PROTOCOL),
];

/// Default of `mr_latency`.
pub(super) const MR_LATENCY: Duration = Duration::from_millis(350);

/// `mr { enabled on; latency 350; }`.
#[derive(Debug)]
struct MergedRead {
    enabled: bool,
    latency: Duration,
}

impl Default for MergedRead {
    fn default() -> Self {
        Self {
            enabled: false,
            latency: MR_LATENCY,
        }
    }
}

const MERGED_READ: &[Setting<MergedRead>] = &[
    Setting::new("enabled", |mr, directive| {
        mr.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::new("latency", |mr, directive| {
        mr.latency = directive.milliseconds(0..=10_000)?;
        Ok(())
    }),
];

/// `refer { enabled on; all HOST …; publish HOST …; play HOST …; }`.
#[derive(Debug, Default)]
struct Refer {
    enabled: bool,
    referers: Referers,
}

const REFER: &[Setting<Refer>] = &[
    Setting::new("enabled", |refer, directive| {
        refer.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("all", |refer, directive| {
        pages(&mut refer.referers.all, directive)
    }),
    Setting::list("publish", |refer, directive| {
        pages(&mut refer.referers.publish, directive)
    }),
    Setting::list("play", |refer, directive| {
        pages(&mut refer.referers.play, directive)
    }),
];

fn pages(hosts: &mut Vec<String>, directive: &Directive) -> Result<(), Diagnostic> {
    *hosts = directive.words("the hosts of pages")?.to_vec();
    Ok(())
}

/// `http_hooks { enabled on; on_connect URL …; … }`.
#[derive(Debug, Default)]
struct Hooks {
    enabled: bool,
    urls: HttpHooks,
}

const HTTP_HOOKS: &[Setting<Hooks>] = &[
    Setting::new("enabled", |hooks, directive| {
        hooks.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("on_connect", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_connect, directive)
    }),
    Setting::list("on_close", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_close, directive)
    }),
    Setting::list("on_publish", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_publish, directive)
    }),
    Setting::list("on_unpublish", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_unpublish, directive)
    }),
    Setting::list("on_play", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_play, directive)
    }),
    Setting::list("on_stop", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_stop, directive)
    }),
    Setting::list("on_dvr", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_dvr, directive)
    }),
    Setting::list("on_hls", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_hls, directive)
    }),
    Setting::list("on_hls_notify", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_hls_notify, directive)
    }),
    Setting::list("on_switch", |hooks, directive| {
        hook_urls(&mut hooks.urls.on_switch, directive)
    }),
    Setting::ignored("on_forward", "nothing is forwarded: edges pull"),
];

fn hook_urls(urls: &mut Vec<HookUrl>, directive: &Directive) -> Result<(), Diagnostic> {
    let expected = "one or several URLs like `http://host:8085/path` or `https://host/path`";
    let words = directive.words(expected)?;
    let read: Option<_> = words.iter().map(|word| HookUrl::parse(word)).collect();
    *urls = read.ok_or_else(|| directive.expects(expected))?;
    Ok(())
}

const SECURITY: &[Setting<Security>] = &[
    Setting::new("enabled", |security, directive| {
        security.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("allow", |security, directive| {
        rule(security, directive, true)
    }),
    Setting::list("deny", |security, directive| {
        rule(security, directive, false)
    }),
];

fn rule(security: &mut Security, directive: &Directive, allow: bool) -> Result<(), Diagnostic> {
    let expected = "`publish` or `play`, then `all`, an address or a network";
    let mistake = || directive.expects(expected);
    let [action, whom] = directive.words(expected)? else {
        return Err(mistake());
    };
    let action = match action.as_str() {
        "publish" => Action::Publish,
        "play" => Action::Play,
        _ => return Err(mistake()),
    };
    let network = match whom.as_str() {
        "all" => None,
        network => Some(network.parse().map_err(|_| mistake())?),
    };
    security.rules.push(Rule {
        allow,
        action,
        network,
    });
    Ok(())
}

pub(super) fn chunk_size(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    vhost.chunk_size = directive.number(128..=65_536)?;
    Ok(())
}

pub(super) fn in_ack_size(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    vhost.in_ack_size = directive.number(0..=i32::MAX as u32)?;
    Ok(())
}

pub(super) fn out_ack_size(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    vhost.out_ack_size = directive.number(0..=i32::MAX as u32)?;
    Ok(())
}

pub(super) fn tcp_nodelay(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    vhost.tcp_nodelay = switch(directive)?;
    Ok(())
}

/// The upstream, with its defaults before the file has spoken.
fn upstream(vhost: &mut Vhost) -> &mut Upstream {
    vhost.upstream.get_or_insert_with(|| Upstream {
        origins: Vec::new(),
        ca: None,
        remote: None,
        vhost: None,
        token_traverse: false,
        redundancy: 1,
        connect_timeout: Duration::from_secs(3),
        read_timeout: Duration::from_secs(10),
        return_timeout: Duration::from_secs(3_600),
        linger: Duration::from_secs(10),
    })
}

fn mode(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    const REMOTE: [(&str, bool); 2] = [("local", false), ("remote", true)];
    upstream(vhost).remote = Some(directive.choice(&REMOTE, "`local` or `remote`")?);
    Ok(())
}

fn origin(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    upstream(vhost).origins = origins(directive)?;
    Ok(())
}
