//! Virtual routers.

use super::check::USER;
use crate::argument::{
    Address, Choice, Command, Flag, Lines, Number, Own, Switch, Text, Time, Weight, unbounded,
};
use crate::keyword::{Block, Row, nested, rows};
use crate::names::{ANTI_REPLAY, HMAC_MODES, STATES};
use crate::vocabulary::{CHECKSUM, IPVS, MAIL, NOT_YET, NotServed, RULES, VIRTUAL_MAC};
use crate::writer::Writer;
use lb_model::config::auth_hmac::TIME_WINDOW_S;
use lb_model::config::{
    AuthHmac, AuthType, Authentication, HmacKey, InitFile, Notify, Route, TrackFile, Tracked,
    TrackedFile, UnicastPeer, VirtualIpAddress, VrrpInstance, VrrpScript, VrrpSyncGroup, bounds,
    quoted,
};

/// Scripts that run when a state changes.
pub(crate) const NOTIFY: &[&dyn Row<Notify>] = rows!(Notify {
    ["notify_master"] master: Command,
    ["notify_backup"] backup: Command,
    ["notify_fault"] fault: Command,
    ["notify_stop"] stop: Command,
    ["notify"] any: Command,
});

pub(crate) static VRRP_INSTANCE: Block<VrrpInstance> = Block {
    place: "in `vrrp_instance`",
    rows: &[
        rows!(VrrpInstance {
            state: Choice {
                names: &STATES,
                read: |reader, item| reader.choice(item, &STATES, "MASTER or BACKUP"),
            },
            interface: Text,
            version: Number(bounds::VRRP_VERSION),
            virtual_router_id: Number(1..=255),
            priority: Number(1..=255),
            advert_int: Time::MoreThan0,
            down_timer_adverts: Number(bounds::DOWN_TIMER_ADVERTS),
            authentication: PASSWORD,
            auth_hmac: AUTH_HMAC_BLOCK,
            virtual_ipaddress: ADDRESSES,
            virtual_ipaddress_excluded: ADDRESSES,
            virtual_routes: ROUTES,
            mcast_src_ip: Address,
            mcast_dst_ip: Address,
            track_src_ip: Flag,
            unicast_src_ip: Address,
            unicast_peer: PEERS,
            unicast_ttl: Number(1..=255),
            check_unicast_src: Switch,
            ["nopreempt", "preempt"] nopreempt: NO_PREEMPTION,
            preempt_delay: Time::From0,
            ["accept", "no_accept"] accept: ACCEPT,
            garp_master_delay: Time::From0,
            garp_master_repeat: Number(bounds::GARP_REPEAT),
            garp_lower_prio_delay: Time::From0,
            garp_lower_prio_repeat: Number(bounds::GARP_LOWER_PRIO_REPEAT),
            garp_master_refresh: Time::From0,
            garp_master_refresh_repeat: Number(bounds::GARP_REPEAT),
            lower_prio_no_advert: Switch,
            higher_prio_send_advert: Switch,
            dont_track_primary: Flag,
            track_interface: TRACKED_LINES,
            track_script: TRACKED_LINES,
            track_file: TRACKED_FILES,
            track_quorum: Number(-253..=-1),
        }),
        nested!(VrrpInstance, notify: NOTIFY),
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: IPVS,
            words: &["lvs_sync_daemon_interface"],
        },
        NotServed {
            because: VIRTUAL_MAC,
            words: &[
                "use_vmac",
                "use_vmac_addr",
                "vmac_xmit_base",
                "use_ipvlan",
                "garp_extra_if",
                "vmac_garp_intvl",
            ],
        },
        NotServed {
            because: CHECKSUM,
            words: &["v3_checksum_as_v2"],
        },
        NotServed {
            because: "it needs none: one without addresses is taken as it is",
            words: &["no_virtual_ipaddress"],
        },
        NotServed {
            because: "Millrace runs no such monitor; a `vrrp_script` can look at the same thing",
            words: &["track_process", "track_bfd"],
        },
        NotServed {
            because: "the family of an instance is that of its addresses",
            words: &["native_ipv6"],
        },
        NotServed {
            because: "Millrace adds a virtual address as /32 unless told otherwise, so that it \
                      has no secondary addresses",
            words: &["promote_secondaries"],
        },
        NotServed {
            because: "Millrace always looks at all addresses of an advert",
            words: &["skip_check_adv_addr"],
        },
        NotServed {
            because: "Millrace tells a deleted instance's scripts STOP",
            words: &["notify_deleted"],
        },
        NotServed {
            because: RULES,
            words: &["virtual_rules"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "vrf",
                "unicast_fault_no_peer",
                "old_unicast_checksum",
                "strict_mode",
                "debug",
                "notify_master_rx_lower_pri",
                "notify_priority_changes",
                "kernel_rx_buf_size",
                "linkbeat_use_polling",
                "owner_ignore_adverts",
                "timer_expired_backup",
                "thread_timer_expired",
            ],
        },
    ],
};

pub(crate) static VRRP_SYNC_GROUP: Block<VrrpSyncGroup> = Block {
    place: "in `vrrp_sync_group`",
    rows: &[
        rows!(VrrpSyncGroup {
            group: MEMBERS,
            track_interface: TRACKED_LINES,
            track_script: TRACKED_LINES,
            track_file: TRACKED_FILES,
        }),
        nested!(VrrpSyncGroup, notify: NOTIFY),
    ],
    not_served: &[
        NotServed {
            because: MAIL,
            words: &["smtp_alert"],
        },
        NotServed {
            because: "Millrace tells a deleted group's scripts STOP",
            words: &["notify_deleted"],
        },
        NotServed {
            because: NOT_YET,
            words: &[
                "track_process",
                "track_bfd",
                "global_tracking",
                "sync_group_tracking_weight",
                "notify_priority_changes",
            ],
        },
    ],
};

pub(crate) static VRRP_SCRIPT: Block<VrrpScript> = Block {
    place: "in `vrrp_script`",
    rows: &[
        rows!(VrrpScript {
            script: Command,
            interval: Time::MoreThan0,
            timeout: Time::MoreThan0,
        }),
        &[&Weight::<VrrpScript, i16> {
            range: bounds::TRACKED_WEIGHT,
            get: |it| (it.weight, it.reverse),
            set: |it, weight| (it.weight, it.reverse) = weight,
        }],
        rows!(VrrpScript {
            rise: Number(bounds::COUNT),
            fall: Number(bounds::COUNT),
            init_fail: Flag,
        }),
        &[&USER],
    ],
    not_served: &[],
};

pub(crate) static TRACK_FILE: Block<TrackFile> = Block {
    place: "in `track_file`",
    rows: &[
        rows!(TrackFile { file: PATH }),
        &[&Weight::<TrackFile, i32> {
            range: bounds::FILE_WEIGHT,
            get: |it| (it.weight, it.reverse),
            set: |it, weight| (it.weight, it.reverse) = weight,
        }],
        rows!(TrackFile {
            init_file: INIT_FILE,
        }),
    ],
    not_served: &[],
};

const ADDRESSES: Lines<VirtualIpAddress> = Lines {
    read: |reader, block| reader.virtual_addresses(block),
    write: Writer::virtual_address,
    check: |bounds, _, addresses| bounds.addresses(addresses),
};

const ROUTES: Lines<Route> = Lines {
    read: |reader, block| reader.routes(block),
    write: Writer::route,
    check: |bounds, _, routes| bounds.routes(routes),
};

const PEERS: Lines<UnicastPeer> = Lines {
    read: |reader, block| reader.unicast_peers(block),
    write: Writer::unicast_peer,
    check: unbounded,
};

const MEMBERS: Lines<String> = Lines {
    read: |reader, block| {
        let members = reader.block(block).iter();
        members.map(|member| member.keyword.clone()).collect()
    },
    write: |out, member| out.line(quoted(member)),
    check: unbounded,
};

const TRACKED_LINES: Lines<Tracked> = Lines {
    read: |reader, block| reader.tracked(block),
    write: Writer::tracked,
    check: |bounds, keyword, list| bounds.tracked(keyword, list),
};

const TRACKED_FILES: Lines<TrackedFile> = Lines {
    read: |reader, block| reader.tracked_files(block),
    write: Writer::tracked_file,
    check: |bounds, _, list| bounds.tracked_files(list),
};

/// `authentication { auth_type PASS … }`
const PASSWORD: Own<Option<Authentication>> = Own {
    read: |reader, block| reader.authentication(block).map(Some),
    write: |out, keyword, authentication| {
        if let Some(Authentication {
            auth_type: AuthType::Pass,
            auth_pass,
        }) = authentication
        {
            out.block(keyword, |out| {
                out.line("auth_type PASS");
                out.text("auth_pass", Some(auth_pass));
            });
        }
    },
    check: unbounded,
    limits: &[],
    placeholder: "`auth_type PASS` and `auth_pass` in a block",
};

/// `auth_hmac { … }`
const AUTH_HMAC_BLOCK: Own<Option<AuthHmac>> = Own {
    read: |reader, block| reader.auth_hmac(block).map(Some),
    write: |out, keyword, given| {
        if let Some(given) = given {
            out.block(keyword, |out| AUTH_HMAC.write(given, out));
        }
    },
    check: |bounds, _, given| {
        if let Some(given) = given {
            AUTH_HMAC.check(given, bounds);
        }
    },
    limits: &[],
    placeholder: "a block",
};

pub(crate) static AUTH_HMAC: Block<AuthHmac> = Block {
    place: "in `auth_hmac`",
    rows: &[rows!(AuthHmac {
        key: KEYS,
        active_key: Number(1..=255),
        anti_replay: Choice {
            names: &ANTI_REPLAY,
            read: |reader, item| reader.choice(item, &ANTI_REPLAY, "time or monotonic"),
        },
        time_window: Number(TIME_WINDOW_S),
        mode: Choice {
            names: &HMAC_MODES,
            read: |reader, item| {
                reader.choice(item, &HMAC_MODES, "enforce, permissive or receive-only")
            },
        },
    })],
    not_served: &[],
};

/// `key NUMBER VALUE`, once for each key.
const KEYS: Own<Vec<HmacKey>> = Own {
    // The block's reader gathers them.
    read: |_, _| None,
    write: |out, keyword, keys| {
        for HmacKey { id, value } in keys {
            out.line(format_args!("{keyword} {id} {}", quoted(value)));
        }
    },
    check: |bounds, keyword, keys| {
        let mut known = Vec::new();
        for key in keys {
            let word = format!("{keyword} {}", key.id);
            bounds.within(&word, Some(key.id), &(1..=255));
            bounds.holds(
                !known.contains(&key.id),
                &word,
                "named twice",
                "each number once",
            );
            known.push(key.id);
            if key.file().is_none()
                && let Err(given) = HmacKey::decode(&key.value)
            {
                bounds.holds(false, &word, &given, "a key of 32 to 64 bytes");
            }
        }
    },
    limits: &[],
    placeholder: "1 to 255, and characters, `hex:BYTES` or `file:PATH`",
};

/// `preempt` takes `nopreempt` back.
const NO_PREEMPTION: Own<bool> = Own {
    read: |_, item| Some(item.keyword == "nopreempt"),
    write: |out, keyword, no_preemption| out.flag(keyword, *no_preemption),
    check: unbounded,
    limits: &[],
    placeholder: "",
};

/// `accept` or `no_accept`
const ACCEPT: Own<Option<bool>> = Own {
    read: |_, item| Some(Some(item.keyword == "accept")),
    write: |out, _, accept| match accept {
        Some(true) => out.line("accept"),
        Some(false) => out.line("no_accept"),
        None => {}
    },
    check: unbounded,
    limits: &[],
    placeholder: "",
};

const PATH: Own<String> = Own {
    read: |reader, item| reader.text(item),
    write: |out, keyword, path| out.text(keyword, Some(path)),
    check: |bounds, keyword, path| bounds.holds(!path.is_empty(), keyword, "empty", "a path"),
    limits: &[("minLength", 1)],
    placeholder: "path",
};

/// `[VALUE] [overwrite]`
const INIT_FILE: Own<Option<InitFile>> = Own {
    read: |reader, item| reader.init_file(item).map(Some),
    write: |out, keyword, init| {
        if let Some(InitFile { value, overwrite }) = init {
            let overwrite = if *overwrite { " overwrite" } else { "" };
            out.line(format_args!("{keyword} {value}{overwrite}"));
        }
    },
    check: unbounded,
    limits: &[],
    placeholder: r"\[whole number\] \[overwrite\]",
};
