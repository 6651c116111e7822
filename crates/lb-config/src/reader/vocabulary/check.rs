//! Checkers.

use super::{NOT_YET, NotServed, TIMING, Vocabulary};

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

pub const TCP_CHECK: Vocabulary = Vocabulary {
    block: "in `TCP_CHECK`",
    served: &[CONNECTION, TIMING],
    not_served: &[ALIKE],
};

pub const PING_CHECK: Vocabulary = Vocabulary {
    block: "in `PING_CHECK`",
    served: &[CONNECTION, TIMING],
    not_served: &[ALIKE],
};

pub const HTTP_GET: Vocabulary = Vocabulary {
    block: "in `HTTP_GET`",
    served: &[CONNECTION, TIMING, &["url"]],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "it has no meaning without TLS",
            words: &["enable_sni"],
        },
    ],
};

pub const SSL_GET: Vocabulary = Vocabulary {
    block: "in `SSL_GET`",
    served: &[CONNECTION, TIMING, &["url", "enable_sni"]],
    not_served: &[
        ALIKE,
        OF_PAGES,
        NotServed {
            because: "the host that pages are asked of is named; see `virtualhost`",
            words: &["sni_name"],
        },
    ],
};

pub const URL: Vocabulary = Vocabulary {
    block: "in `url`",
    served: &[&[
        "path",
        "digest",
        "status_code",
        "virtualhost",
        "regex",
        "regex_no_match",
        "regex_options",
    ]],
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

pub const MISC_CHECK: Vocabulary = Vocabulary {
    block: "in `MISC_CHECK`",
    served: &[
        CONNECTION,
        TIMING,
        &["misc_path", "misc_timeout", "misc_dynamic", "user"],
    ],
    not_served: &[ALIKE],
};

pub const UDP_CHECK: Vocabulary = Vocabulary {
    block: "in `UDP_CHECK`",
    served: &[
        CONNECTION,
        TIMING,
        &[
            "payload",
            "require_reply",
            "min_reply_length",
            "max_reply_length",
        ],
    ],
    not_served: &[ALIKE],
};

pub const DNS_CHECK: Vocabulary = Vocabulary {
    block: "in `DNS_CHECK`",
    served: &[CONNECTION, TIMING, &["type", "name"]],
    not_served: &[ALIKE],
};

pub const SMTP_CHECK: Vocabulary = Vocabulary {
    block: "in `SMTP_CHECK`",
    served: &[CONNECTION, TIMING, &["helo_name"]],
    not_served: &[
        ALIKE,
        NotServed {
            because: "the server itself is checked; give each other host a check of its own, \
                      with `connect_ip`",
            words: &["host"],
        },
    ],
};

pub const FILE_CHECK: Vocabulary = Vocabulary {
    block: "in `FILE_CHECK`",
    served: &[&["track_file", "weight"]],
    not_served: &[NotServed {
        because: "the number is always added to the weight of the server",
        words: &["dynamic"],
    }],
};

pub const RTMP_CHECK: Vocabulary = Vocabulary {
    block: "in `RTMP_CHECK`",
    served: &[
        CONNECTION,
        TIMING,
        &["app", "stream", "play_timeout", "virtualhost"],
    ],
    not_served: &[ALIKE],
};
