//! `signed_urls { enabled on; play { scheme tencent; key NAME SECRET; } publish { … } }`.

use conf_kit::{Diagnostic, Diagnostics, Directive};
use serde::{Serialize, Serializer};
use signed_url::{Encoding, Hash, Key, Policy, Scheme, Template};

use super::model::Vhost;
use super::security::Action;
use super::setting::{Setting, apply, settings};
use super::value::switch;

/// The signatures that the URLs of a vhost need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SignedUrls {
    /// To play; `None` if none is needed.
    #[serde(serialize_with = "serialize_key_names")]
    pub play: Option<Policy>,
    /// To publish; `None` if none is needed.
    #[serde(serialize_with = "serialize_key_names")]
    pub publish: Option<Policy>,
}

impl SignedUrls {
    /// The policy for `action`; `None` if no signature is needed.
    #[must_use]
    pub fn policy(&self, action: Action) -> Option<&Policy> {
        match action {
            Action::Play => self.play.as_ref(),
            Action::Publish => self.publish.as_ref(),
        }
    }
}

/// Writes the names of the keys, and no secret.
fn serialize_key_names<S: Serializer>(
    policy: &Option<Policy>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let names = policy.as_ref().map(|it| it.key_names().collect::<Vec<_>>());
    names.serialize(serializer)
}

/// `signed_urls { … }` while it is read.
#[derive(Debug, Default)]
struct Block {
    enabled: bool,
    urls: SignedUrls,
}

const SIGNED_URLS: &[Setting<Block>] = &[
    Setting::new("enabled", |block, directive| {
        block.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::block("play", |block, children, diagnostics| {
        block.urls.play = policy("play", children, diagnostics);
    }),
    Setting::block("publish", |block, children, diagnostics| {
        block.urls.publish = policy("publish", children, diagnostics);
    }),
];

/// Reads `signed_urls { … }`.
pub(super) fn signed_urls(
    vhost: &mut Vhost,
    children: &[Directive],
    diagnostics: &mut Diagnostics,
) {
    let mut block = Block::default();
    apply(
        &mut block,
        children,
        SIGNED_URLS,
        "in `signed_urls`",
        &[],
        diagnostics,
    );
    if block.enabled && block.urls == SignedUrls::default() && !diagnostics.has_errors() {
        let location = children.first().map(|it| it.location.clone());
        let message = "`signed_urls` has neither `play` nor `publish`: no signature is needed";
        diagnostics.warn(&location.unwrap_or_default(), message);
    }
    vhost.signed_urls = if block.enabled {
        block.urls
    } else {
        SignedUrls::default()
    };
}

/// The schemes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemeName {
    Tencent,
    Aliyun,
    SecureLink,
    Template,
}

/// `play { … }` or `publish { … }` while it is read.
#[derive(Debug, Default)]
struct PolicyBlock {
    scheme: Option<SchemeName>,
    hash: Option<Hash>,
    text: Option<Template>,
    encoding: Option<Encoding>,
    signature: Option<String>,
    expires: Option<String>,
    hex_time: Option<bool>,
    keys: Vec<Key>,
}

const SCHEMES: [(&str, SchemeName); 4] = [
    ("tencent", SchemeName::Tencent),
    ("aliyun", SchemeName::Aliyun),
    ("secure_link", SchemeName::SecureLink),
    ("template", SchemeName::Template),
];
const HASHES: [(&str, Hash); 3] = [
    ("md5", Hash::Md5),
    ("sha256", Hash::Sha256),
    ("hmac-sha256", Hash::HmacSha256),
];
const ENCODINGS: [(&str, Encoding); 2] =
    [("hex", Encoding::Hex), ("base64url", Encoding::Base64Url)];
const TIME_FORMATS: [(&str, bool); 2] = [("decimal", false), ("hex", true)];

settings! { PolicyBlock {
    SCHEME: "scheme", |block, it| block.scheme = Some(
        it.choice(&SCHEMES, "`tencent`, `aliyun`, `secure_link` or `template`")?);
    HASH: "hash",
        |block, it| block.hash = Some(it.choice(&HASHES, "`md5`, `sha256` or `hmac-sha256`")?);
    TEXT: "text", |block, it| block.text = Some(template(it)?);
    ENCODING: "encoding",
        |block, it| block.encoding = Some(it.choice(&ENCODINGS, "`hex` or `base64url`")?);
    SIGNATURE: "signature", |block, it| block.signature = Some(parameter(it)?);
    EXPIRES: "expires", |block, it| block.expires = Some(parameter(it)?);
    EXPIRES_FORMAT: "expires_format",
        |block, it| block.hex_time = Some(it.choice(&TIME_FORMATS, "`decimal` or `hex`")?);
}}

const POLICY: &[Setting<PolicyBlock>] = &[
    SCHEME,
    HASH,
    TEXT,
    ENCODING,
    SIGNATURE,
    EXPIRES,
    EXPIRES_FORMAT,
    Setting::list("key", key),
];

/// Reads `key NAME SECRET;`. No message shows what may be a secret.
fn key(block: &mut PolicyBlock, directive: &Directive) -> Result<(), Diagnostic> {
    let [name, secret] = directive.arguments.as_slice() else {
        let message = "`key` expects two words, a name and a secret";
        return Err(directive.error(message));
    };
    if block.keys.iter().any(|key| key.name == *name) {
        return Err(directive.error(format!("the key `{name}` was already given")));
    }
    if secret.is_empty() {
        return Err(directive.error(format!("the key `{name}` has an empty secret")));
    }
    block.keys.push(Key {
        name: name.clone(),
        secret: secret.clone(),
    });
    Ok(())
}

/// The name of a query's parameter.
fn parameter(directive: &Directive) -> Result<String, Diagnostic> {
    let expected = "the name of a parameter: letters, digits, `_` and `-`";
    let name = directive.argument(expected)?;
    let plain = |it: char| it.is_ascii_alphanumeric() || "_-".contains(it);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err(directive.expects(expected)),
    }
}

fn template(directive: &Directive) -> Result<Template, Diagnostic> {
    let text = directive.argument("a text like `\"{key}{stream}{expires}\"`")?;
    text.parse()
        .map_err(|error| directive.error(format!("`{text}`: {error}")))
}

/// Reads `play { … }` or `publish { … }`.
fn policy(name: &str, children: &[Directive], diagnostics: &mut Diagnostics) -> Option<Policy> {
    let mut block = PolicyBlock::default();
    let place = format!("in `{name}` of `signed_urls`");
    apply(&mut block, children, POLICY, &place, &["key"], diagnostics);
    let location = children.first().map(|it| it.location.clone());
    let location = location.unwrap_or_default();
    match block.into_policy() {
        Ok(policy) => Some(policy),
        Err(mistake) => {
            diagnostics.error(&location, format!("{place}: {mistake}"));
            None
        }
    }
}

impl PolicyBlock {
    /// The policy.
    ///
    /// # Errors
    /// What is missing, or does not go together.
    fn into_policy(self) -> Result<Policy, String> {
        let name = self
            .scheme
            .ok_or("no `scheme` is given: `tencent`, `aliyun`, `secure_link` or `template`")?;
        for (directive, is_given) in [
            ("text", self.text.is_some()),
            ("encoding", self.encoding.is_some()),
            ("signature", self.signature.is_some()),
            ("expires", self.expires.is_some()),
            ("expires_format", self.hex_time.is_some()),
        ] {
            if is_given && name != SchemeName::Template {
                return Err(format!("`{directive}` is for `scheme template` only"));
            }
        }
        let scheme = match (name, self.hash) {
            (SchemeName::Tencent, Some(Hash::HmacSha256))
            | (SchemeName::Aliyun | SchemeName::SecureLink, Some(_)) => {
                return Err("the scheme has no such `hash`".to_owned());
            }
            (SchemeName::Tencent, hash) => Scheme::tencent(hash.unwrap_or(Hash::Md5)),
            (SchemeName::Aliyun, None) => Scheme::aliyun(),
            (SchemeName::SecureLink, None) => Scheme::secure_link(),
            (SchemeName::Template, hash) => {
                let signature = self.signature.unwrap_or_else(|| "sign".to_owned());
                let expires = self.expires.unwrap_or_else(|| "expires".to_owned());
                Scheme::template(
                    hash.ok_or("`scheme template` needs a `hash`")?,
                    self.encoding.unwrap_or(Encoding::Hex),
                    self.text.ok_or("`scheme template` needs a `text`")?,
                    (&signature, &expires),
                    self.hex_time.unwrap_or(false),
                )
                .map_err(|error| error.to_string())?
            }
        };
        if self.keys.is_empty() {
            return Err("no `key NAME SECRET;` is given".to_owned());
        }
        Ok(Policy::new(scheme, self.keys))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use signed_url::{Refusal, Request};

    use super::super::tests::{mistakes, origin};
    use super::super::{Action, Role};
    use super::*;

    fn vhost(signed_urls: &str) -> String {
        format!("vhost __defaultVhost__ {{ signed_urls {{ {signed_urls} }} }}")
    }

    fn request(query: &str) -> Request<'_> {
        Request {
            uri: "/live/x",
            app: "live",
            stream: "x",
            query,
            remote_addr: IpAddr::from([192, 0, 2, 7]),
        }
    }

    #[test]
    fn play_and_publish_have_schemes_and_keys_of_their_own() {
        let text = vhost(
            "enabled on;
             play { scheme tencent; key new s3cret; key old before; }
             publish {
                 scheme template; hash hmac-sha256; text \"{app} {stream} {expires}\";
                 encoding base64url; signature token; expires until; expires_format hex;
                 key only s3cret;
             }",
        );
        let urls = origin(&text).signed_urls.clone();
        let play = urls.policy(Action::Play).unwrap();
        assert_eq!(play.key_names().collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!(play.verify(&request(""), 0), Err(Refusal::Unsigned));
        let publish = urls.policy(Action::Publish).unwrap();
        let query = publish.sign(&request(""), 0xff, 0).unwrap();
        assert!(
            query.starts_with("token=") && query.ends_with("&until=ff"),
            "{query}"
        );
        let printed = serde_json::to_value(&urls).unwrap();
        let names = serde_json::json!({"play": ["new", "old"], "publish": ["only"]});
        assert_eq!(printed, names, "and no secret");
    }

    #[test]
    fn no_signature_is_needed_where_none_is_asked_for() {
        for text in [
            "enabled off; play { scheme tencent; key new s3cret; }",
            "play { scheme tencent; key new s3cret; }",
        ] {
            let urls = origin(&vhost(text)).signed_urls.clone();
            assert_eq!(urls, SignedUrls::default(), "{text}");
        }
        let urls = origin(&vhost("enabled on; play { scheme aliyun; key a b; }"));
        assert!(urls.signed_urls.policy(Action::Publish).is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (policy, expected) in [
            ("key a s3cret;", "no `scheme` is given"),
            ("scheme tencent;", "no `key NAME SECRET;` is given"),
            ("scheme tencent; key s3cret;", "`key` expects two words"),
            ("scheme tencent; key a s3cret b;", "`key` expects two words"),
            (
                "scheme tencent; key a s3cret; key a s3cret;",
                "`a` was already given",
            ),
            ("scheme tencent; key a \"\";", "`a` has an empty secret"),
            (
                "scheme tencent; hash hmac-sha256; key a s3cret;",
                "no such `hash`",
            ),
            ("scheme aliyun; hash md5; key a s3cret;", "no such `hash`"),
            (
                "scheme aliyun; encoding hex; key a s3cret;",
                "`encoding` is for `scheme template`",
            ),
            ("scheme template; hash md5; key a s3cret;", "needs a `text`"),
            (
                "scheme template; text \"{key}{uri}{expires}\"; key a s3cret;",
                "needs a `hash`",
            ),
            (
                "scheme template; hash md5; text \"{uri}{expires}\"; key a s3cret;",
                "lacks {key}",
            ),
            (
                "scheme template; text \"{name}\"; key a s3cret;",
                "there is no {name}",
            ),
            (
                "scheme template; signature a&b; key a s3cret;",
                "the name of a parameter",
            ),
        ] {
            let text = vhost(&format!("enabled on; play {{ {policy} }}"));
            let mistakes = mistakes(&text, Role::Origin);
            assert!(mistakes.contains(expected), "{policy}: {mistakes}");
            assert!(!mistakes.contains("s3cret"), "{mistakes}");
        }
    }
}
