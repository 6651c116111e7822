//! `sign URL`: signs a URL as the configuration says.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use rtmp_proto::session::AppName;
use rtmp_proto::wire::Limits;
use signed_url::Request;

use crate::config::{Action, Config};

/// Signs a URL by the `signed_urls` of its vhost, with the first key
#[derive(Debug, Clone, Args)]
pub(super) struct SignOptions {
    /// Configuration that has the keys
    #[arg(short = 'c', long = "conf", value_name = "FILE")]
    pub(super) conf: PathBuf,

    /// Sign for publishing, not for playing
    #[arg(long)]
    publish: bool,

    /// Seconds from now until the signature expires
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    valid_for: u32,

    /// Address of the client, for schemes that bind a signature to one
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    client: IpAddr,

    /// rtmp://HOST/APP/STREAM, http://HOST/APP/STREAM.flv, …/STREAM.m3u8 and the like
    url: String,
}

impl SignOptions {
    /// The signed URL.
    ///
    /// # Errors
    /// It is no URL of a stream, or its vhost has no `signed_urls` for the action.
    pub(super) fn sign(&self, config: &Config) -> anyhow::Result<String> {
        let action = match self.publish {
            true => Action::Publish,
            false => Action::Play,
        };
        let (place, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let (scheme, rest) = place
            .split_once("://")
            .context("a URL begins with rtmp:// or http://")?;
        let (_, path) = rest.split_once('/').context("the URL has no path")?;
        let over_http = matches!(scheme, "http" | "https" | "ws" | "wss");
        if !over_http && !matches!(scheme, "rtmp" | "rtmps") {
            bail!("{scheme}:// is none of rtmp, rtmps, http, https, ws and wss");
        }
        let (app, stream) = path
            .rsplit_once('/')
            .context("the URL has no application and stream")?;
        let stream = match stream.rsplit_once('.') {
            Some((name, "flv" | "m3u8")) if over_http => name,
            _ => stream,
        };
        let limits = Limits::default();
        let name = AppName::parse(app, &format!("{scheme}://{rest}"), &limits)?;
        let key = name.stream(&format!("{stream}?{query}"), &limits)?.key;
        let vhost = config.vhost(&key.vhost);
        let vhost = vhost.ok_or_else(|| anyhow!("there is no vhost {}", key.vhost))?;
        let policy = vhost.signed_urls.policy(action).ok_or_else(|| {
            let block = if self.publish { "publish" } else { "play" };
            anyhow!(
                "the vhost {} has no `signed_urls {{ {block} {{ … }} }}`",
                vhost.name
            )
        })?;
        let request = Request {
            uri: &format!("/{path}"),
            app: &key.app,
            stream: &key.stream,
            query,
            remote_addr: self.client,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let expires = now + u64::from(self.valid_for);
        let query = policy.sign(&request, expires, fastrand::u64(..));
        Ok(format!("{place}?{}", query.context("there is no key")?))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rtmp_proto::session::{Parameters, StreamKey};

    use super::*;
    use crate::config::{Role, build, conf};
    use crate::server::Asked;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: SignOptions,
    }

    fn config() -> Config {
        let text = "vhost __defaultVhost__ { }
            vhost a.example {
                signed_urls { enabled on;
                    play { scheme secure_link; key a s3cret; }
                    publish { scheme tencent; key a s3cret; }
                }
            }";
        let directives = conf::parse("x.conf", text).unwrap();
        build(&directives, Role::Origin).unwrap().config
    }

    fn sign(arguments: &[&str]) -> anyhow::Result<String> {
        let line = ["sign", "-c", "x.conf"].iter().chain(arguments);
        CommandLine::parse_from(line).options.sign(&config())
    }

    #[test]
    fn what_is_signed_is_permitted() {
        let config = config();
        for (arguments, action, path) in [
            (
                ["--client", "192.0.2.7", "rtmp://a.example/live/x?a=b"].as_slice(),
                Action::Play,
                None,
            ),
            (
                &["--client", "192.0.2.7", "https://a.example:8443/live/x.flv"],
                Action::Play,
                Some("/live/x.flv"),
            ),
            (
                &["--publish", "rtmp://192.0.2.1/live/x?vhost=a.example"],
                Action::Publish,
                None,
            ),
        ] {
            let signed = sign(arguments).unwrap();
            let (place, query) = signed.split_once('?').unwrap();
            let (before, _) = arguments
                .last()
                .unwrap()
                .split_once('?')
                .unwrap_or((place, ""));
            assert_eq!(place, before);
            let key = StreamKey {
                vhost: "a.example".to_owned(),
                app: "live".to_owned(),
                stream: "x".to_owned(),
            };
            let asked = Asked {
                action,
                key: &key,
                path,
                parameters: &Parameters(query.to_owned()),
                page_url: "",
                peer: IpAddr::from([192, 0, 2, 7]),
            };
            let vhost = config.vhost("a.example").unwrap();
            assert_eq!(asked.check(vhost), Ok(()), "{signed}");
        }
    }

    #[test]
    fn what_cannot_be_signed_says_why() {
        for (url, reason) in [
            ("rtmp://b.example/live/x", "has no `signed_urls { play"),
            ("live/x", "begins with rtmp://"),
            ("ftp://a.example/live/x", "is none of rtmp"),
            ("rtmp://a.example", "no path"),
            ("rtmp://a.example/x", "no application"),
        ] {
            let error = sign(&[url]).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
