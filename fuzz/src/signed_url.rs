//! The fuzz target of `signed-url`. Called by `cargo fuzz` and, with the corpus that is
//! kept in the repository, by a plain test of `signed-url`.

use std::net::IpAddr;

use signed_url::{Encoding, Hash, Key, Policy, Request, Scheme};

/// Queries and streams that a client chooses: none is valid without the key, and a signed
/// one is until it expires.
pub fn signatures(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (query, stream) = text.split_once('\0').unwrap_or((&text, "livestream"));
    let key = || Key {
        name: "fuzzed".to_owned(),
        secret: "a secret that nobody guesses".to_owned(),
    };
    let uri = format!("/live/{stream}");
    let request = Request {
        uri: &uri,
        app: "live",
        stream,
        query,
        remote_addr: IpAddr::from([192, 0, 2, 7]),
    };
    let template = "{app} {stream} {expires}".parse();
    let template = Scheme::template(
        Hash::HmacSha256,
        Encoding::Base64Url,
        template.expect("it is a template"),
        ("sign", "until"),
        true,
    );
    for scheme in [
        Scheme::tencent(Hash::Md5),
        Scheme::aliyun(),
        Scheme::secure_link(),
        template.expect("it is a scheme"),
    ] {
        let policy = Policy::new(scheme, vec![key()]);
        assert!(policy.verify(&request, 0).is_err());
        let signed = Request {
            query: "",
            ..request
        };
        let query = policy.sign(&signed, 1_000, 7).expect("there is a key");
        let signed = Request {
            query: &query,
            ..request
        };
        assert_eq!(policy.verify(&signed, 999), Ok("fuzzed"));
        assert!(policy.verify(&signed, 1_000).is_err());
    }
}
