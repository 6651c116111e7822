//! `sign URL`: signs a URL as the configuration says.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use rtmp_proto::session::{AppName, Parameters, StreamKey};
use rtmp_proto::wire::Limits;
use signed_url::Request;

use crate::config::{Action, Config, Vhost};

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
        let Named { key, path } = Named::parse(place, query, config)?;
        let vhost = find_vhost(config, &key.vhost)?;
        let policy = vhost.signed_urls.policy(action).ok_or_else(|| {
            let block = if self.publish { "publish" } else { "play" };
            anyhow!(
                "the vhost {} has no `signed_urls {{ {block} {{ … }} }}`",
                vhost.name
            )
        })?;
        let request = Request {
            uri: &path,
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

/// The stream that a URL names, as the server reads it.
struct Named {
    key: StreamKey,
    /// The path that is signed: by HTTP with `%xx` decoded.
    path: String,
}

impl Named {
    /// The stream of `place`, the part of a URL before its `query`.
    ///
    /// # Errors
    /// It is no URL of a stream.
    fn parse(place: &str, query: &str, config: &Config) -> anyhow::Result<Self> {
        let (scheme, rest) = place
            .split_once("://")
            .context("a URL begins with rtmp:// or http://")?;
        let (host, path) = rest.split_once('/').context("the URL has no path")?;
        match scheme {
            "rtmp" | "rtmps" => {
                let (app, stream) = path
                    .rsplit_once('/')
                    .context("the URL has no application and stream")?;
                let name = AppName::parse(app, place, &Limits::default())?;
                Ok(Self {
                    key: stream_key(&name, stream, query)?,
                    path: format!("/{path}"),
                })
            }
            "http" | "https" | "ws" | "wss" => Self::of_http(host, path, query, config),
            _ => bail!("{scheme}:// is none of rtmp, rtmps, http, https, ws and wss"),
        }
    }

    fn of_http(host: &str, path: &str, query: &str, config: &Config) -> anyhow::Result<Self> {
        // Read as a request for it is.
        let head = format!("GET /{path}?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let request = http_flv::request::parse(head.as_bytes())
            .map_err(|error| anyhow!("no request can ask for this URL: {error}"))?;
        let request = request.context("no request can ask for this URL: it is too long")?;
        let parameters = Parameters(request.query.clone());
        let named = parameters.get("vhost").or_else(|| parameters.get("domain"));
        let requested = named.unwrap_or(&request.host).to_owned();
        let vhost = find_vhost(config, &requested)?;
        let place = vhost.http_remux.mount.stream(&request.path).or_else(|| {
            let (app, file) = vhost.hls.location.split(&request.path)?;
            Some((app, file.strip_suffix(".m3u8")?))
        });
        let (app, stream) = place.with_context(|| {
            format!(
                "the path is neither one of `http_remux {{ mount }}` of the vhost {} nor one of \
                 `hls {{ hls_m3u8_file }}`",
                vhost.name
            )
        })?;
        let name = AppName {
            vhost: requested,
            app: app.to_owned(),
            parameters: Parameters::default(),
        };
        Ok(Self {
            key: stream_key(&name, stream, query)?,
            path: request.path.clone(),
        })
    }
}

fn stream_key(name: &AppName, stream: &str, query: &str) -> anyhow::Result<StreamKey> {
    Ok(name
        .stream(&format!("{stream}?{query}"), &Limits::default())?
        .key)
}

fn find_vhost<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a Arc<Vhost>> {
    let vhost = config.vhost(name);
    vhost.ok_or_else(|| anyhow!("there is no vhost {name}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{self, Role};
    use crate::server::Asked;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: SignOptions,
    }

    fn config() -> Config {
        let text = "vhost __defaultVhost__ { }
            vhost a.example {
                http_remux { enabled on; mount [vhost]/video/[app]/[stream].flv; }
                signed_urls { enabled on;
                    play { scheme secure_link; key a s3cret; }
                    publish { scheme tencent; key a s3cret; }
                }
            }";
        config::load(text, Role::Origin).unwrap().config
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
                &[
                    "--client",
                    "192.0.2.7",
                    "https://a.example:8443/video/li%76e/%78.flv",
                ],
                Action::Play,
                Some("/video/live/x.flv"),
            ),
            (
                &[
                    "--client",
                    "192.0.2.7",
                    "http://192.0.2.1/live/x.m3u8?vhost=a.example",
                ],
                Action::Play,
                Some("/live/x.m3u8"),
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
            ("http://a.example/live/x.flv", "neither one of `http_remux"),
            ("http://a.example/video/live/x%2.flv", "no request can ask"),
        ] {
            let error = sign(&[url]).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
