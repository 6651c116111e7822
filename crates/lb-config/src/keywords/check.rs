//! Checkers.

use super::{NOT_YET, TIMING};
use crate::keyword::{Block, ByHand, NotServed};

/// Where a check connects to and from.
const CONNECTION: &[&str] = &["connect_ip", "connect_port", "bindto", "bind_port"];

/// What no checker serves.
const ALIKE: NotServed = NotServed {
    because: NOT_YET,
    words: &["bind_if", "fwmark", "log_all_failures"],
};

/// What no checker of pages serves.
const OF_PAGES: NotServed = NotServed {
    because: NOT_YET,
    words: &["http_protocol", "fast_recovery"],
};

pub(crate) static TCP_CHECK: Block<()> = Block {
    place: "in `TCP_CHECK`",
    rows: &[&[&ByHand(CONNECTION), &ByHand(TIMING)]],
    not_served: &[ALIKE],
};

pub(crate) static PING_CHECK: Block<()> = Block {
    place: "in `PING_CHECK`",
    rows: &[&[&ByHand(CONNECTION), &ByHand(TIMING)]],
    not_served: &[ALIKE],
};

pub(crate) static HTTP_GET: Block<()> = Block {
    place: "in `HTTP_GET`",
    rows: &[&[&ByHand(CONNECTION), &ByHand(TIMING), &ByHand(&["url"])]],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "it has no meaning without TLS",
            words: &["enable_sni"],
        },
    ],
};

pub(crate) static SSL_GET: Block<()> = Block {
    place: "in `SSL_GET`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&["url", "enable_sni"]),
    ]],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "the host that pages are asked of is named; see `virtualhost`",
            words: &["sni_name"],
        },
    ],
};

pub(crate) static URL: Block<()> = Block {
    place: "in `url`",
    rows: &[&[&ByHand(&[
        "path",
        "digest",
        "status_code",
        "virtualhost",
        "regex",
        "regex_no_match",
        "regex_options",
    ])]],
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

pub(crate) static MISC_CHECK: Block<()> = Block {
    place: "in `MISC_CHECK`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&["misc_path", "misc_timeout", "misc_dynamic", "user"]),
    ]],
    not_served: &[ALIKE],
};

pub(crate) static UDP_CHECK: Block<()> = Block {
    place: "in `UDP_CHECK`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&[
            "payload",
            "require_reply",
            "min_reply_length",
            "max_reply_length",
        ]),
    ]],
    not_served: &[ALIKE],
};

pub(crate) static DNS_CHECK: Block<()> = Block {
    place: "in `DNS_CHECK`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&["type", "name"]),
    ]],
    not_served: &[ALIKE],
};

pub(crate) static SMTP_CHECK: Block<()> = Block {
    place: "in `SMTP_CHECK`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&["helo_name"]),
    ]],
    not_served: &[
        ALIKE,
        NotServed {
            because: "the server itself is checked; give each other host a check of its own, \
                      with `connect_ip`",
            words: &["host"],
        },
    ],
};

pub(crate) static FILE_CHECK: Block<()> = Block {
    place: "in `FILE_CHECK`",
    rows: &[&[&ByHand(&["track_file", "weight"])]],
    not_served: &[NotServed {
        because: "the number is always added to the weight of the server",
        words: &["dynamic"],
    }],
};

pub(crate) static RTMP_CHECK: Block<()> = Block {
    place: "in `RTMP_CHECK`",
    rows: &[&[
        &ByHand(CONNECTION),
        &ByHand(TIMING),
        &ByHand(&["app", "stream", "play_timeout", "virtualhost"]),
    ]],
    not_served: &[ALIKE],
};
