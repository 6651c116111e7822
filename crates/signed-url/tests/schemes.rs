//! The schemes against signatures that other programs made, and against forgeries.

use std::net::IpAddr;

use proptest::prelude::*;
use signed_url::{Encoding, Hash, Key, Policy, Refusal, Request, Scheme, SchemeError};

const NOW: u64 = 1_700_000_000;
const LATER: u64 = NOW + 3_600;

fn policy(scheme: Scheme) -> Policy {
    let key = |name: &str, secret: &str| Key {
        name: name.to_owned(),
        secret: secret.to_owned(),
    };
    Policy::new(scheme, vec![key("new", "s3cret"), key("old", "before")])
}

fn request(query: &str) -> Request<'_> {
    Request {
        uri: "/live/livestream.flv",
        app: "live",
        stream: "livestream",
        query,
        remote_addr: "::ffff:192.0.2.7".parse().unwrap(),
    }
}

fn template() -> Scheme {
    let text = "{app}/{stream}?{expires}".parse().unwrap();
    Scheme::template(
        Hash::HmacSha256,
        Encoding::Base64Url,
        text,
        ("sign", "t"),
        true,
    )
    .unwrap()
}

fn schemes() -> [Scheme; 5] {
    [
        Scheme::tencent(Hash::Md5),
        Scheme::tencent(Hash::Sha256),
        Scheme::aliyun(),
        Scheme::secure_link(),
        template(),
    ]
}

#[test]
fn signatures_of_others_are_valid() {
    for (scheme, query, key) in [
        // By Python's hashlib and hmac.
        (
            Scheme::tencent(Hash::Md5),
            "txSecret=3a2da379b5762ed7a5fbac84da5dd3b6&txTime=6553ff10",
            "new",
        ),
        (
            Scheme::tencent(Hash::Md5),
            "a=b&txTime=6553FF10&txSecret=E193BD39392B52DF94D10B3B8F84E01F",
            "new",
        ),
        (
            Scheme::tencent(Hash::Sha256),
            "txSecret=8730213490b65d7fb1d7346a7abd246198baffa6944e6cbaafd7b161bf618088\
             &txTime=6553ff10",
            "old",
        ),
        (
            Scheme::aliyun(),
            "auth_key=1700003600-477b3bbc253f467b8def6711128c7bec-0-\
             cb9b015b3463e32f8806070d3c66f287",
            "new",
        ),
        (
            Scheme::secure_link(),
            "md5=nhNKBQMNwCVWQj7HQWqT1A&expires=1700003600",
            "new",
        ),
        (
            Scheme::secure_link(),
            "md5=nhNKBQMNwCVWQj7HQWqT1A==&expires=1700003600",
            "new",
        ),
        (
            template(),
            "sign=Dr1rPsU71Z6VLelEMtyHFpfGHOQuQGuium7K40tLp7A&t=6553ff10",
            "new",
        ),
    ] {
        assert_eq!(
            policy(scheme).verify(&request(query), NOW),
            Ok(key),
            "{query}"
        );
    }
}

/// The examples of <https://nginx.org/en/docs/http/ngx_http_secure_link_module.html> and
/// of Alibaba Cloud's "Type A signing".
#[test]
fn signatures_of_the_documentations_are_valid() {
    let one_key = |scheme, secret: &str| {
        let key = Key {
            name: "only".to_owned(),
            secret: secret.to_owned(),
        };
        Policy::new(scheme, vec![key])
    };
    let nginx = Request {
        uri: "/s/link",
        remote_addr: "127.0.0.1".parse().unwrap(),
        ..request("md5=_e4Nc3iduzkWRm01TBBNYw&expires=2147483647")
    };
    let policy = one_key(Scheme::secure_link(), "secret");
    assert_eq!(policy.verify(&nginx, 2_147_483_646), Ok("only"));
    let aliyun = Request {
        uri: "/video/standard/1K.html",
        ..request("auth_key=1444435200-0-0-80cd3862d699b7118eed99103f2a3a4f")
    };
    let policy = one_key(Scheme::aliyun(), "aliyuncdnexp1234");
    assert_eq!(policy.verify(&aliyun, 1_444_435_199), Ok("only"));
}

#[test]
fn what_is_signed_is_valid_until_it_expires() {
    for scheme in schemes() {
        let policy = policy(scheme);
        let query = policy.sign(&request("a=b"), LATER, 7).unwrap();
        assert!(query.starts_with("a=b&"), "{query}");
        let signed = request(&query);
        for (now, verdict) in [
            (0, Ok("new")),
            (LATER - 1, Ok("new")),
            (LATER, Err(Refusal::Expired)),
            (u64::MAX, Err(Refusal::Expired)),
        ] {
            assert_eq!(policy.verify(&signed, now), verdict, "{query} at {now}");
        }
    }
}

#[test]
fn one_character_more_or_less_or_another_makes_a_signature_void() {
    for scheme in schemes() {
        let policy = policy(scheme);
        let query = policy.sign(&request(""), LATER, 7).unwrap();
        for at in 0..query.len() {
            let (before, after) = query.split_at(at);
            let (first, rest) = after.split_at(1);
            // Not the other case of a digit, which is the same digit.
            let other = if first == "0" { "1" } else { "0" };
            for forged in [
                format!("{before}{other}{rest}"),
                format!("{before}{rest}"),
                format!("{before}{other}{after}"),
            ] {
                let verdict = policy.verify(&request(&forged), NOW);
                // `=` behind a signature of nginx's is padding; a zero before a
                // time is in the text that is signed.
                assert!(verdict.is_err(), "{forged} is as good as {query}");
            }
        }
    }
}

#[test]
fn a_signature_is_for_one_stream_and_nginx_s_for_one_address() {
    for scheme in schemes() {
        let binds_address = scheme == Scheme::secure_link();
        let policy = policy(scheme);
        let query = policy.sign(&request(""), LATER, 7).unwrap();
        let other_stream = Request {
            uri: "/live/other.flv",
            stream: "other",
            ..request(&query)
        };
        let verdict = policy.verify(&other_stream, NOW);
        assert_eq!(verdict, Err(Refusal::Mismatch), "{query}");
        let other_address = Request {
            remote_addr: "2001:db8::1".parse::<IpAddr>().unwrap(),
            ..request(&query)
        };
        let verdict = policy.verify(&other_address, NOW);
        assert_eq!(verdict.is_ok(), !binds_address, "{query}");
    }
}

#[test]
fn no_digit_moves_between_a_name_and_a_time() {
    let text = "{key}{stream}{expires}".parse().unwrap();
    let decimal = Scheme::template(Hash::Sha256, Encoding::Hex, text, ("s", "t"), false);
    for scheme in [Scheme::tencent(Hash::Md5), decimal.unwrap()] {
        let policy = policy(scheme);
        for (signed, asked, moved) in [
            ("cam1", "cam", "1"),
            ("cam0", "cam", "0"),
            ("cam10", "cam", "10"),
        ] {
            let of = |stream| Request {
                stream,
                ..request("")
            };
            let query = policy.sign(&of(signed), LATER, 7).unwrap();
            let (before, time) = query.rsplit_once('=').unwrap();
            let forged = format!("{before}={moved}{time}");
            let forged = Request {
                query: &forged,
                ..of(asked)
            };
            assert_eq!(policy.verify(&forged, NOW), Err(Refusal::Malformed));
            // The other way, it has expired.
            let (first, rest) = time.split_at(1);
            let forged = format!("{before}={rest}");
            let longer = format!("{signed}{first}");
            let forged = Request {
                query: &forged,
                ..of(&longer)
            };
            assert_eq!(policy.verify(&forged, NOW), Err(Refusal::Expired));
        }
    }
}

#[test]
fn what_is_missing_or_cannot_be_read_is_said() {
    for (query, refusal) in [
        ("", Refusal::Unsigned),
        ("txsecret=1&txtime=2", Refusal::Unsigned),
        ("txSecret=00", Refusal::Malformed),
        ("txTime=6553ff10", Refusal::Malformed),
        ("txSecret=xyz&txTime=6553ff10", Refusal::Malformed),
        ("txSecret=00&txTime=", Refusal::Malformed),
        ("txSecret=00&txTime=+6553ff10", Refusal::Malformed),
        ("txSecret=00&txTime=-1", Refusal::Malformed),
        ("txSecret=00&txTime=10000000000000000", Refusal::Malformed),
        ("txSecret=&txTime=6553ff10", Refusal::Mismatch),
        ("txSecret=00&txTime=6553ff10", Refusal::Mismatch),
        ("txSecret=00&txTime=1", Refusal::Mismatch),
    ] {
        let policy = policy(Scheme::tencent(Hash::Md5));
        assert_eq!(policy.verify(&request(query), NOW), Err(refusal), "{query}");
    }
    for query in [
        "auth_key=",
        "auth_key=1-2-00",
        "auth_key=1-2-3-4-00",
        "auth_key=x-0-0-00",
    ] {
        let policy = policy(Scheme::aliyun());
        let verdict = policy.verify(&request(query), NOW);
        assert_eq!(verdict, Err(Refusal::Malformed), "{query}");
    }
}

#[test]
fn a_scheme_whose_signatures_are_worth_nothing_is_none() {
    for (hash, text, error) in [
        (Hash::Md5, "{stream}{expires}", SchemeError::NoKey),
        (Hash::Sha256, "{key}{stream}", SchemeError::NoExpiry),
        (Hash::HmacSha256, "{app}{expires}", SchemeError::NoStream),
    ] {
        let text = text.parse().unwrap();
        let scheme = Scheme::template(hash, Encoding::Hex, text, ("sign", "t"), false);
        assert_eq!(scheme, Err(error));
    }
    let text = "{key}{stream}{expires}".parse().unwrap();
    let scheme = Scheme::template(Hash::Md5, Encoding::Hex, text, ("t", "t"), false);
    assert_eq!(scheme, Err(SchemeError::OneParameter));
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?}", policy(Scheme::aliyun()));
    assert!(
        printed.contains("new") && !printed.contains("s3cret"),
        "{printed}"
    );
}

proptest! {
    #[test]
    fn no_query_makes_a_verdict_panic_or_is_valid(query in "\\PC{0,200}", now: u64) {
        for scheme in schemes() {
            prop_assert!(policy(scheme).verify(&request(&query), now).is_err());
        }
    }

    #[test]
    fn parameters_that_look_right_are_not_valid(
        secret in "[0-9a-fA-F]{0,80}", time in "[0-9a-fA-F+-]{0,40}", now: u64,
    ) {
        for query in [
            format!("txSecret={secret}&txTime={time}"),
            format!("auth_key={time}-0-0-{secret}"),
            format!("md5={secret}&expires={time}"),
            format!("sign={secret}&t={time}"),
        ] {
            for scheme in schemes() {
                prop_assert!(policy(scheme).verify(&request(&query), now).is_err());
            }
        }
    }
}
