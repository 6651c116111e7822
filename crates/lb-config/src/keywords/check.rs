//! Checkers.

use lb_model::config::{
    Check, CheckKind, CheckTiming, ConnectionOptions, LoadUrl, Script, StatusCodes, UrlCheck,
    bounds, hex,
};

use crate::argument::{
    Address, Choice, Command, Flag, Number, Own, Switch, Text, Time, Weight, unbounded,
};
use crate::keyword::{Block, Explained, Field, Nested, Row, nested, rows};
use crate::names::RECORD_TYPES;
use crate::vocabulary::{NOT_YET, NotServed};

/// Addresses and ports that a check connects to and from.
pub(crate) const CONNECTION: &[&dyn Row<ConnectionOptions>] = rows!(ConnectionOptions {
    connect_ip: Address,
    connect_port: Number(bounds::PORT),
    bindto: Address,
    bind_port: Number(bounds::PORT),
});

/// Times of checks, and failures that they may have.
pub(crate) const TIMING: &[&dyn Row<CheckTiming>] = rows!(CheckTiming {
    delay_loop: Time::MoreThan0,
    connect_timeout: Time::MoreThan0,
    // Older keepalived spelled it `nb_get_retry`, under HTTP_GET only; the deployments
    // that write it under TCP_CHECK mean the same.
    ["retry", "nb_get_retry"] retry: Number(0..=u32::MAX),
    delay_before_retry: Time::From0,
    warmup: Time::From0,
    alpha: Switch,
});

/// Keywords of nearly every check.
const COMMON: [&[&dyn Row<Check>]; 2] = [
    nested!(Check, connection: CONNECTION),
    nested!(Check, timing: TIMING),
];

/// The keyword of a kind of check, and the keywords in its block.
pub(crate) fn block_of(kind: &CheckKind) -> (&'static str, &'static Block<Check>) {
    match kind {
        CheckKind::Tcp => ("TCP_CHECK", &TCP_CHECK),
        CheckKind::Http { .. } => ("HTTP_GET", &HTTP_GET),
        CheckKind::Https { .. } => ("SSL_GET", &SSL_GET),
        CheckKind::Misc { .. } => ("MISC_CHECK", &MISC_CHECK),
        CheckKind::Udp { .. } => ("UDP_CHECK", &UDP_CHECK),
        CheckKind::Dns { .. } => ("DNS_CHECK", &DNS_CHECK),
        CheckKind::Smtp { .. } => ("SMTP_CHECK", &SMTP_CHECK),
        CheckKind::Ping => ("PING_CHECK", &PING_CHECK),
        CheckKind::File { .. } => ("FILE_CHECK", &FILE_CHECK),
        CheckKind::Rtmp { .. } => ("RTMP_CHECK", &RTMP_CHECK),
        CheckKind::Flv { .. } => ("FLV_CHECK", &FLV_CHECK),
        CheckKind::Load { .. } => ("LOAD_CHECK", &LOAD_CHECK),
    }
}

/// The kind of check that a keyword begins, before its block is read.
pub(crate) fn empty_kind(keyword: &str) -> Option<CheckKind> {
    Some(match keyword {
        "TCP_CHECK" => CheckKind::Tcp,
        "HTTP_GET" => CheckKind::Http { url: Vec::new() },
        "SSL_GET" => CheckKind::Https {
            url: Vec::new(),
            enable_sni: false,
        },
        "MISC_CHECK" => CheckKind::Misc {
            misc_path: Script::default(),
            misc_timeout: None,
            misc_dynamic: false,
        },
        "UDP_CHECK" => CheckKind::Udp {
            payload: None,
            require_reply: None,
            min_reply_length: None,
            max_reply_length: None,
        },
        "DNS_CHECK" => CheckKind::Dns {
            record_type: None,
            name: None,
        },
        "SMTP_CHECK" => CheckKind::Smtp { helo_name: None },
        "PING_CHECK" => CheckKind::Ping,
        "FILE_CHECK" => CheckKind::File {
            track_file: String::new(),
            weight: None,
            reverse: false,
        },
        "RTMP_CHECK" => CheckKind::Rtmp {
            app: None,
            stream: None,
            play_timeout: None,
            virtualhost: None,
        },
        "FLV_CHECK" => CheckKind::Flv {
            app: None,
            stream: String::new(),
            play_timeout: None,
            virtualhost: None,
            tls: false,
        },
        "LOAD_CHECK" => CheckKind::Load {
            url: None,
            username: None,
            password: None,
        },
        _ => return None,
    })
}

/// Reason why a row never meets another kind of check: [`block_of`] chooses the rows.
const OWN_KIND: &str = "the rows of a block are those of its kind of check";

/// The rows of the fields of one kind of check.
macro_rules! rows_of_kind {
    ($kind:ident { $($([$($name:literal),+])? $field:ident: $argument:expr),* $(,)? }) => {
        &[&Nested::<Check, CheckKind> {
            get: |it| &it.kind,
            get_mut: |it| &mut it.kind,
            rows: &[$(
                &Field::<CheckKind, _> {
                    names: rows!(@names $([$($name),+])? $field),
                    field: stringify!($field),
                    get: |kind| match kind {
                        CheckKind::$kind { $field, .. } => $field,
                        _ => unreachable!("{OWN_KIND}"),
                    },
                    get_mut: |kind| match kind {
                        CheckKind::$kind { $field, .. } => $field,
                        _ => unreachable!("{OWN_KIND}"),
                    },
                    argument: &$argument,
                } as &dyn Row<CheckKind>,
            )*],
            is_shared: false,
        } as &dyn Row<Check>]
    };
}

/// Keywords that no checker serves.
const ALIKE: NotServed = NotServed {
    because: NOT_YET,
    words: &["bind_if", "fwmark", "log_all_failures"],
};

/// Keywords that no checker of pages serves.
const OF_PAGES: NotServed = NotServed {
    because: NOT_YET,
    words: &["http_protocol", "fast_recovery"],
};

pub(crate) static TCP_CHECK: Block<Check> = Block {
    place: "in `TCP_CHECK`",
    rows: &[COMMON[0], COMMON[1]],
    not_served: &[ALIKE],
};

pub(crate) static PING_CHECK: Block<Check> = Block {
    place: "in `PING_CHECK`",
    rows: &[COMMON[0], COMMON[1]],
    not_served: &[ALIKE],
};

pub(crate) static HTTP_GET: Block<Check> = Block {
    place: "in `HTTP_GET`",
    rows: &[&[&PAGES], COMMON[0], COMMON[1]],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "it has no meaning without TLS",
            words: &["enable_sni"],
        },
    ],
};

pub(crate) static SSL_GET: Block<Check> = Block {
    place: "in `SSL_GET`",
    rows: &[
        rows_of_kind!(Https { enable_sni: Flag }),
        &[&PAGES],
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "the host that pages are asked of is named; see `virtualhost`",
            words: &["sni_name"],
        },
    ],
};

pub(crate) static URL: Block<UrlCheck> = Block {
    place: "in `url`",
    rows: &[
        rows!(UrlCheck {
            path: WORD,
            status_code: STATUS_CODES,
            digest: Text,
            virtualhost: Text,
            regex: PATTERN,
            regex_no_match: Flag,
        }),
        &[&Explained {
            names: &["regex_options"],
            argument: "options of PCRE",
            meaning: "Options of `regex`: `caseless`, `multiline`, `dotall`, `extended`, `ungreedy`",
        }],
    ],
    not_served: &[NotServed {
        because: NOT_YET,
        words: &[
            "regex_stack",
            "regex_min_offset",
            "regex_max_offset",
            "tls_compliant",
        ],
    }],
};

pub(crate) static MISC_CHECK: Block<Check> = Block {
    place: "in `MISC_CHECK`",
    rows: &[
        rows_of_kind!(Misc {
            misc_path: Command,
            misc_timeout: Time::MoreThan0,
            misc_dynamic: Flag,
        }),
        &[&USER],
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

pub(crate) static UDP_CHECK: Block<Check> = Block {
    place: "in `UDP_CHECK`",
    rows: &[
        rows_of_kind!(Udp {
            payload: PAYLOAD,
            require_reply: REPLY,
            min_reply_length: Number(0..=u16::MAX),
            max_reply_length: Number(0..=u16::MAX),
        }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

pub(crate) static DNS_CHECK: Block<Check> = Block {
    place: "in `DNS_CHECK`",
    rows: &[
        rows_of_kind!(Dns {
            ["type"] record_type: Choice {
                names: &RECORD_TYPES,
                read: |reader, item| {
                    let names = RECORD_TYPES.map(|(name, _)| name).join(", ");
                    reader.choice(item, &RECORD_TYPES, &format!("one of {names}"))
                },
            },
            name: DOMAIN,
        }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

pub(crate) static SMTP_CHECK: Block<Check> = Block {
    place: "in `SMTP_CHECK`",
    rows: &[
        rows_of_kind!(Smtp { helo_name: HOST }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[
        ALIKE,
        NotServed {
            because: "the server itself is checked; give each other host a check of its own, \
                      with `connect_ip`",
            words: &["host"],
        },
    ],
};

pub(crate) static FILE_CHECK: Block<Check> = Block {
    place: "in `FILE_CHECK`",
    rows: &[
        rows_of_kind!(File { track_file: WORD }),
        &[&Weight::<Check, i32> {
            range: bounds::FILE_WEIGHT,
            get: |check| match check.kind {
                CheckKind::File {
                    weight, reverse, ..
                } => (weight, reverse),
                _ => unreachable!("{OWN_KIND}"),
            },
            set: |check, given| match &mut check.kind {
                CheckKind::File {
                    weight, reverse, ..
                } => (*weight, *reverse) = given,
                _ => unreachable!("{OWN_KIND}"),
            },
        }],
    ],
    not_served: &[NotServed {
        because: "the number is always added to the weight of the server",
        words: &["dynamic"],
    }],
};

pub(crate) static RTMP_CHECK: Block<Check> = Block {
    place: "in `RTMP_CHECK`",
    rows: &[
        rows_of_kind!(Rtmp {
            app: Text,
            stream: Text,
            play_timeout: Time::MoreThan0,
            virtualhost: Text,
        }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

pub(crate) static FLV_CHECK: Block<Check> = Block {
    place: "in `FLV_CHECK`",
    rows: &[
        rows_of_kind!(Flv {
            app: Text,
            stream: WORD,
            play_timeout: Time::MoreThan0,
            virtualhost: Text,
            tls: Flag,
        }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

pub(crate) static LOAD_CHECK: Block<Check> = Block {
    place: "in `LOAD_CHECK`",
    rows: &[
        rows_of_kind!(Load {
            url: LOAD_URL,
            username: Text,
            password: Text,
        }),
        COMMON[0],
        COMMON[1],
    ],
    not_served: &[ALIKE],
};

const PAGES: Explained = Explained {
    names: &["url"],
    argument: "block",
    meaning: "A page; one at least",
};

/// `USER [GROUP]` of a script.
pub(super) const USER: Explained = Explained {
    names: &["user"],
    argument: r"user \[group\]",
    meaning: "User, and group, that the script runs as",
};

/// A word that must be there.
const WORD: Own<String> = Own {
    read: |reader, item| reader.text(item),
    write: |out, keyword, word| out.text(keyword, Some(word)),
    check: unbounded,
    limits: &[],
    placeholder: "word",
};

/// `200 300-399 …`
const STATUS_CODES: Own<Vec<StatusCodes>> = Own {
    read: |reader, item| reader.status_codes(item),
    write: |out, keyword, codes| {
        let words = codes
            .iter()
            .map(|StatusCodes(low, high)| match low == high {
                true => format!(" {low}"),
                false => format!(" {low}-{high}"),
            });
        if !codes.is_empty() {
            out.line(format_args!("{keyword}{}", words.collect::<String>()));
        }
    },
    check: |bounds, keyword, codes| {
        for StatusCodes(low, high) in codes {
            bounds.within(keyword, Some(*low), &bounds::STATUS_CODE);
            bounds.within(keyword, Some(*high), &(*low..=*bounds::STATUS_CODE.end()));
        }
    },
    limits: &[],
    placeholder: "codes and ranges from 100 to 999",
};

/// A text with a check of JSON: true if the text, or its default, is right.
macro_rules! checked_text {
    ($name:ident, $placeholder:literal, $default:literal, $expected:expr, $is_right:expr) => {
        const $name: Own<Option<String>> = Own {
            read: |reader, item| reader.text(item).map(Some),
            write: |out, keyword, text| out.text(keyword, text.as_ref()),
            check: |bounds, keyword, text| {
                let text = text.as_deref().unwrap_or($default);
                let is_right: fn(&str) -> bool = $is_right;
                bounds.holds(is_right(text), keyword, text, $expected);
            },
            limits: &[],
            placeholder: $placeholder,
        };
    };
}

checked_text!(PATTERN, "pattern", "", "a regular expression", |pattern| {
    regex::bytes::Regex::new(pattern).is_ok()
});
checked_text!(DOMAIN, "name", ".", "a domain name", |name| {
    simple_dns::Name::new(name.strip_suffix('.').unwrap_or(name)).is_ok()
});
checked_text!(
    LOAD_URL,
    "URL",
    "http://127.0.0.1/",
    LoadUrl::EXPECTED,
    |url| LoadUrl::parse(url).is_some()
);
checked_text!(HOST, "name", "localhost", "the name of a host", |name| {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic())
});

/// Bytes to send.
const PAYLOAD: Own<Option<String>> = Own {
    read: |reader, item| reader.hexadecimal(item, hex::is_payload).map(Some),
    write: |out, keyword, digits| out.value(keyword, digits.as_ref()),
    check: |bounds, keyword, digits| {
        let digits = digits.as_deref().unwrap_or("0");
        bounds.holds(hex::is_payload(digits), keyword, digits, hex::EXPECTED);
    },
    limits: &[],
    placeholder: "hexadecimal digits",
};

/// Bytes to expect.
const REPLY: Own<Option<String>> = Own {
    read: |reader, item| reader.hexadecimal(item, is_reply).map(Some),
    write: |out, keyword, digits| out.value(keyword, digits.as_ref()),
    check: |bounds, keyword, digits| {
        let digits = digits.as_deref().unwrap_or_default();
        bounds.holds(is_reply(digits), keyword, digits, hex::EXPECTED);
    },
    limits: &[],
    placeholder: r"\[hexadecimal digits and `x`\]",
};

fn is_reply(digits: &str) -> bool {
    hex::parse(digits).is_some()
}
