//! `http_api`: the HTTP API, who may ask it, and from which pages.

use std::net::SocketAddr;

use conf_kit::{Diagnostic, Diagnostics, Directive, Location};
use serde::Serialize;
use service_kit::Credentials;

use super::model::Config;
use super::schema::Globals;
use super::setting::{Setting, apply};
use super::tls::{TLS_LISTENER, TlsBlock};
use super::value::{socket_addresses, switch};

/// `http_api { enabled on; listen 1985; … }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpApi {
    /// Address that the API answers at.
    pub listen: SocketAddr,
    /// True if pages of any site may ask (CORS, JSONP).
    pub crossdomain: bool,
    /// `auth`: user and password that each request needs; `None` where none is needed.
    #[serde(skip)]
    pub auth: Option<Credentials>,
    /// `raw_api`: what may be changed over HTTP.
    pub raw_api: RawApi,
}

impl Config {
    /// Keeps the address of `old`, at which this process answers or does not, and takes
    /// over what else is set.
    pub(crate) fn keep_http_api_listen(&mut self, old: &Self) {
        match (&mut self.http_api, &old.http_api) {
            (Some(api), Some(old)) => api.listen = old.listen,
            (api, old) => api.clone_from(old),
        }
    }
}

/// `raw_api { enabled; allow_reload; allow_update; }`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RawApi {
    /// True if it answers at all.
    pub enabled: bool,
    /// True if it may have the configuration read again.
    pub allow_reload: bool,
    /// True if it may have streams recorded, or not.
    pub allow_update: bool,
}

/// `http_api { … }` while it is read.
#[derive(Debug, Clone)]
pub(super) struct HttpApiBlock {
    enabled: bool,
    api: HttpApi,
    auth: AuthBlock,
    pub(super) https: TlsBlock,
    /// Where it stands, for mistakes of all of it.
    location: Location,
}

/// `auth { … }` while it is read.
#[derive(Debug, Clone, Default)]
struct AuthBlock {
    enabled: bool,
    username: String,
    password: String,
}

impl HttpApiBlock {
    /// The defaults, at `listen`.
    pub(super) fn new(listen: SocketAddr) -> Self {
        Self {
            enabled: false,
            api: HttpApi {
                listen,
                crossdomain: true,
                auth: None,
                raw_api: RawApi::default(),
            },
            auth: AuthBlock::default(),
            https: TlsBlock::new(1990),
            location: Location::default(),
        }
    }

    /// The API, if it is on. Whoever reaches an address off the loopback can end any
    /// connection, unless `auth` is on: that is worth a warning.
    pub(super) fn finish(self, diagnostics: &mut Diagnostics) -> Option<HttpApi> {
        let Self {
            enabled,
            mut api,
            auth,
            location,
            ..
        } = self;
        if !enabled {
            return None;
        }
        if auth.enabled {
            if auth.username.is_empty() || auth.password.is_empty() {
                let message = "`auth` of `http_api` needs a `username` and a `password`";
                diagnostics.error(&location, message);
            }
            api.auth = Some(Credentials {
                username: auth.username,
                password: auth.password,
            });
        } else if !api.listen.ip().is_loopback() {
            let message = format!(
                "whoever reaches `http_api` at {} can end any connection: listen at 127.0.0.1, \
                 or set `auth {{ enabled on; username …; password …; }}`",
                api.listen
            );
            diagnostics.warn(&location, message);
        }
        Some(api)
    }
}

/// Reads `http_api { … }`.
pub(super) fn http_api(
    globals: &mut Globals,
    children: &[Directive],
    diagnostics: &mut Diagnostics,
) {
    let block = &mut globals.http_api;
    block.enabled = false;
    if let Some(first) = children.first() {
        block.location = first.location.clone();
    }
    apply(block, children, HTTP_API, "in `http_api`", &[], diagnostics);
}

const HTTP_API: &[Setting<HttpApiBlock>] = &[
    Setting::new("enabled", |block, directive| {
        block.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("listen", |block, directive| {
        if let [address] = socket_addresses(directive)?[..] {
            block.api.listen = address;
            return Ok(());
        }
        Err(directive.error("`http_api` listens at one address only"))
    }),
    Setting::new("crossdomain", |block, directive| {
        block.api.crossdomain = switch(directive)?;
        Ok(())
    }),
    Setting::block("auth", |block, children, diagnostics| {
        apply(
            &mut block.auth,
            children,
            AUTH,
            "in `auth` of `http_api`",
            &[],
            diagnostics,
        );
    }),
    Setting::block("raw_api", |block, children, diagnostics| {
        apply(
            &mut block.api.raw_api,
            children,
            RAW_API,
            "in `raw_api`",
            &[],
            diagnostics,
        );
    }),
    Setting::block("https", |block, children, diagnostics| {
        block
            .https
            .read(children, TLS_LISTENER, "in `https`", diagnostics);
    }),
];

const AUTH: &[Setting<AuthBlock>] = &[
    Setting::new("enabled", |auth, directive| {
        auth.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::new("username", username),
    Setting::new("password", |auth, directive| {
        // The message shows none of the words.
        let [password] = directive.arguments.as_slice() else {
            return Err(directive.error("`password` expects one word, a password"));
        };
        password.clone_into(&mut auth.password);
        Ok(())
    }),
];

fn username(auth: &mut AuthBlock, directive: &Directive) -> Result<(), Diagnostic> {
    let name = directive.argument("a user's name")?;
    if name.contains(':') {
        let message = "a user's name has no colon: it would end the name (RFC 7617 §2)";
        return Err(directive.error(message));
    }
    name.clone_into(&mut auth.username);
    Ok(())
}

const ALWAYS_OFF: &str = "SRS has it off since version 4, too";

const RAW_API: &[Setting<RawApi>] = &[
    Setting::new("enabled", |raw, directive| {
        raw.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::new("allow_reload", |raw, directive| {
        raw.allow_reload = switch(directive)?;
        Ok(())
    }),
    Setting::ignored("allow_query", ALWAYS_OFF),
    Setting::new("allow_update", |raw, directive| {
        raw.allow_update = switch(directive)?;
        Ok(())
    }),
];

#[cfg(test)]
mod tests {
    use crate::config::{Loaded, Role, load};

    #[test]
    fn the_block_is_read_as_srs_reads_it() {
        let Loaded {
            config, warnings, ..
        } = load(
            "http_api { enabled on; listen 192.0.2.1:1985; crossdomain off; \
             raw_api { enabled on; allow_reload on; } \
             auth { enabled on; username admin; password a:b; } }",
            Role::Origin,
        )
        .unwrap();
        assert_eq!(warnings, []);
        let api = config.http_api.unwrap();
        assert_eq!(api.listen, "192.0.2.1:1985".parse().unwrap());
        assert!(!api.crossdomain);
        let auth = api.auth.unwrap();
        assert_eq!((&*auth.username, &*auth.password), ("admin", "a:b"));
        assert!(!format!("{auth:?}").contains("a:b"), "{auth:?}");
        assert!(api.raw_api.enabled && api.raw_api.allow_reload);
        let api = load(
            "http_api { enabled on; listen 127.0.0.1:1985; }",
            Role::Origin,
        );
        let api = api.unwrap().config.http_api.unwrap();
        assert!(api.crossdomain && api.auth.is_none() && !api.raw_api.enabled);
        assert_eq!(
            load("http_api { listen 1985; }", Role::Origin)
                .unwrap()
                .config
                .http_api,
            None
        );
    }

    #[test]
    fn an_api_that_others_reach_without_a_password_is_a_warning() {
        for (text, warnings) in [
            ("listen 1985;", 1),
            ("listen 192.0.2.1:1985;", 1),
            ("listen 127.0.0.1:1985;", 0),
            ("listen [::1]:1985;", 0),
            (
                "listen 1985; auth { enabled off; username a; password b; }",
                1,
            ),
            (
                "listen 1985; auth { enabled on; username a; password b; }",
                0,
            ),
        ] {
            let loaded = load(&format!("http_api {{ enabled on; {text} }}"), Role::Origin).unwrap();
            assert_eq!(loaded.warnings.len(), warnings, "{text}");
        }
        assert_eq!(
            load("http_api { listen 1985; }", Role::Origin)
                .unwrap()
                .warnings,
            []
        );
    }

    #[test]
    fn a_password_that_lets_nobody_in_is_a_mistake() {
        for auth in [
            "enabled on;",
            "enabled on; username a;",
            "enabled on; password b;",
            "enabled on; username a:b; password c;",
        ] {
            let text = format!("http_api {{ enabled on; auth {{ {auth} }} }}");
            assert!(load(&text, Role::Origin).is_err(), "{auth}");
        }
    }
}
