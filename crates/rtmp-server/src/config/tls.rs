//! TLS: where it is spoken (`https`, `rtmps`), and with which certificates.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use conf_kit::{Diagnostics, Directive, Location};
use serde::Serialize;

use super::model::{Config, DEFAULT_VHOST, Vhost};
use super::setting::{Setting, apply, settings};
use super::value::{socket_addresses, switch};

/// A certificate and its private key, both as PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct CertificateFiles {
    /// The private key.
    pub key: PathBuf,
    /// The certificate, then those of the authorities up to a root.
    pub cert: PathBuf,
}

/// Addresses at which TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsListener {
    /// The addresses.
    pub listen: Vec<SocketAddr>,
    /// The certificate for clients that name no vhost with one of its own.
    pub certificate: CertificateFiles,
}

/// `enabled on; listen …; key …; cert …;` while it is read.
#[derive(Debug, Clone)]
pub(super) struct TlsBlock {
    enabled: bool,
    listener: TlsListener,
    /// HTTP/2 is offered, where HTTP is spoken.
    pub(super) http2: bool,
}

impl TlsBlock {
    /// The block before the file has spoken, with SRS's file names.
    pub(super) fn new(port: u16) -> Self {
        Self {
            enabled: false,
            listener: TlsListener {
                listen: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)],
                certificate: CertificateFiles {
                    key: "./conf/server.key".into(),
                    cert: "./conf/server.crt".into(),
                },
            },
            http2: true,
        }
    }

    /// The addresses, if it is enabled.
    pub(super) fn listener(self) -> Option<TlsListener> {
        self.enabled.then_some(self.listener)
    }

    /// Reads the block with the directives of `table`; messages name its `place`.
    pub(super) fn read(
        &mut self,
        children: &[Directive],
        table: &[Setting<Self>],
        place: &str,
        diagnostics: &mut Diagnostics,
    ) {
        self.enabled = false;
        apply(self, children, table, place, &[], diagnostics);
    }
}

const LISTEN: Setting<TlsBlock> = Setting::list("listen", |block, directive| {
    block.listener.listen = socket_addresses(directive)?;
    Ok(())
});
settings!(TlsBlock {
    ENABLED: "enabled", |block, it| block.enabled = switch(it)?;
    KEY: "key", |block, it| {
        block.listener.certificate.key = it.argument("a file name")?.into();
    };
    CERT: "cert", |block, it| {
        block.listener.certificate.cert = it.argument("a file name")?.into();
    };
    HTTP2: "http2", |block, it| block.http2 = switch(it)?;
});

/// The directives of a port with TLS.
pub(super) const TLS_LISTENER: &[Setting<TlsBlock>] = &[ENABLED, LISTEN, KEY, CERT];
/// Those of one that may offer HTTP/2.
pub(super) const HTTPS: &[Setting<TlsBlock>] = &[ENABLED, LISTEN, KEY, CERT, HTTP2];

/// `https { key …; cert …; }` of a vhost while it is read.
#[derive(Default)]
struct VhostBlock {
    key: Option<PathBuf>,
    cert: Option<PathBuf>,
}

const VHOST_CERTIFICATE: &[Setting<VhostBlock>] = &[
    Setting::new("key", |block, directive| {
        block.key = Some(directive.argument("a file name")?.into());
        Ok(())
    }),
    Setting::new("cert", |block, directive| {
        block.cert = Some(directive.argument("a file name")?.into());
        Ok(())
    }),
];

/// Reads a vhost's `https { … }`.
pub(super) fn vhost_certificate(
    vhost: &mut Vhost,
    children: &[Directive],
    diagnostics: &mut Diagnostics,
) {
    let mut block = VhostBlock::default();
    let place = "in a vhost's `https`";
    apply(
        &mut block,
        children,
        VHOST_CERTIFICATE,
        place,
        &[],
        diagnostics,
    );
    if vhost.name == DEFAULT_VHOST
        && let Some(directive) = children.first()
    {
        let message = format!(
            "no client names `{DEFAULT_VHOST}`, so that this certificate is never shown; that of \
             all others stands in `https` of `http_server` and in `rtmps`"
        );
        diagnostics.warn(&directive.location, message);
    }
    vhost.certificate = match (block.key, block.cert) {
        (Some(key), Some(cert)) => Some(CertificateFiles { key, cert }),
        _ => {
            let location = children.first().map(|directive| &directive.location);
            let name = &vhost.name;
            let message = format!(
                "the `https` of the vhost `{name}` is written `https {{ key FILE; cert FILE; }}`"
            );
            diagnostics.error(location.unwrap_or(&Location::default()), message);
            None
        }
    };
}

impl Config {
    /// `https` of `http_server`.
    #[must_use]
    pub fn https(&self) -> Option<&TlsListener> {
        self.http_server.as_ref()?.https.as_ref()
    }

    /// Keeps the addresses of `old` at which TLS is spoken, and takes over certificates.
    pub(crate) fn keep_tls_listen(&mut self, old: &Self) {
        fn keep(new: &mut Option<TlsListener>, old: Option<&TlsListener>) {
            match (&mut *new, old) {
                (Some(new), Some(old)) => new.listen.clone_from(&old.listen),
                (_, old) => *new = old.cloned(),
            }
        }
        keep(&mut self.rtmps, old.rtmps.as_ref());
        keep(&mut self.http_api_https, old.http_api_https.as_ref());
        if let Some(server) = &mut self.http_server {
            keep(&mut server.https, old.https());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, Role, load};

    fn config(text: &str) -> Config {
        let Loaded {
            config, warnings, ..
        } = load(text, Role::Origin).unwrap();
        assert_eq!(warnings, []);
        config
    }

    #[test]
    fn the_blocks_of_srs_are_read() {
        let block = "enabled on; key ./k; cert ./c;";
        let config = config(&format!(
            "rtmps {{ {block} listen 1443; }} \
             http_server {{ enabled on; https {{ {block} listen 8088 127.0.0.1:443; }} }} \
             http_api {{ enabled on; listen 127.0.0.1:1985; https {{ {block} }} }}"
        ));
        let rtmps = config.rtmps.as_ref().unwrap();
        assert_eq!(rtmps.listen[0].port(), 1443);
        assert_eq!(rtmps.certificate.cert, PathBuf::from("./c"));
        assert_eq!(config.https().unwrap().listen.len(), 2);
        assert_eq!(config.http_api_https.unwrap().listen[0].port(), 1990);
    }

    #[test]
    fn http_2_is_offered_unless_it_is_off() {
        let of = |directive: &str| {
            let block = format!("https {{ enabled on; {directive} }}");
            let config = config(&format!("http_server {{ enabled on; {block} }}"));
            config.http_server.unwrap().http2
        };
        assert!(of("") && of("http2 on;") && !of("http2 off;"));
        // RTMPS has no HTTP.
        assert!(load("rtmps { enabled on; http2 on; }", Role::Origin).is_err());
    }

    #[test]
    fn tls_is_off_where_its_block_or_the_server_is() {
        let off = config(
            "rtmps { listen 1443; } http_server { enabled off; https { enabled on; } } \
             http_api { enabled off; https { enabled on; } }",
        );
        assert_eq!((off.rtmps, off.http_api_https), (None, None));
        assert_eq!(off.http_server, None);
        let https = config("http_server { enabled on; https { enabled off; } }");
        assert_eq!(https.https(), None);
    }

    #[test]
    fn a_vhost_has_a_certificate_of_its_own_with_its_key() {
        let config = config("vhost a { https { key k; cert c; } } vhost b { }");
        let files = config.vhosts["a"].certificate.as_ref().unwrap();
        assert_eq!(files.key, PathBuf::from("k"));
        assert_eq!(config.vhosts["b"].certificate, None);
        let error = load("vhost a { https { key k; } }", Role::Origin)
            .unwrap_err()
            .to_string();
        assert!(error.contains("https { key FILE; cert FILE; }"), "{error}");
    }

    #[test]
    fn the_default_vhosts_certificate_is_shown_to_nobody() {
        let text = "vhost __defaultVhost__ { https { key k; cert c; } }";
        let warnings = load(text, Role::Origin).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            format!("{warnings:?}").contains("never shown"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_reload_keeps_the_addresses_and_takes_the_certificates() {
        let old = config("rtmps { enabled on; listen 1443; key k; cert c; }");
        let mut new = config("rtmps { enabled on; listen 1444; key l; cert d; }");
        new.keep_tls_listen(&old);
        let rtmps = new.rtmps.unwrap();
        assert_eq!(rtmps.listen, old.rtmps.as_ref().unwrap().listen);
        assert_eq!(rtmps.certificate.key, PathBuf::from("l"));
        let mut off = config("");
        off.keep_tls_listen(&old);
        assert_eq!(off.rtmps, old.rtmps);
    }
}
