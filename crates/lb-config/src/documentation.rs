//! The keyword tables of docs/configuration.md, made from the rows and from the
//! descriptions in the JSON Schema.

use std::fmt::Write as _;

use serde_json::Value;

use crate::keyword::{Block, Documentation, Meaning, Row};
use crate::keywords::{
    AUTH_HMAC, CONNECTION, DISCOVER, GLOBAL_DEFS, NOTIFY, REAL_SERVER, RECOVERY, TIMING,
    TRACK_FILE, URL, VIRTUAL_SERVER, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP, block_of,
    empty_kind,
};
use crate::schema::schema;
use crate::vocabulary::Vocabulary;

/// Keywords that keepalived does not know.
const OURS: [&str; 33] = [
    "discover",
    "real_server_template",
    "dns",
    "dns_server",
    "etcd",
    "etcd_ca",
    "etcd_cert",
    "etcd_key",
    "etcd_username",
    "etcd_password",
    "prefix",
    "max_servers",
    "slow_start",
    "flap_limit",
    "flap_window",
    "flap_hold_down",
    "flap_hold_down_max",
    "orphans",
    "expire_quiescent",
    "sloppy",
    "announce",
    "track_quorum",
    "mac_address",
    "lb_tunnel_source4",
    "lb_tunnel_source6",
    "lb_reset_rate",
    "lb_withdraw_delay",
    "lb_syn_validation",
    "lb_syn_validation_rate",
    "lb_syn_validation_half_open",
    "lb_connection_rate",
    "lb_connection_burst",
    "lb_deny_file",
];

/// A table in Markdown for each kind of block, and for keywords that several have.
pub fn keyword_tables() -> String {
    let schema = schema();
    let definition = |name: &str| &schema["$defs"][name];
    let mut out = Tables::default();
    out.of_block(&GLOBAL_DEFS, definition("GlobalDefs"));
    out.of_block(&TRACK_FILE, definition("TrackFile"));
    out.of_block(&VRRP_SCRIPT, definition("VrrpScript"));
    out.of_block(&VRRP_SYNC_GROUP, definition("VrrpSyncGroup"));
    out.of_block(&VRRP_INSTANCE, definition("VrrpInstance"));
    out.of_block(&AUTH_HMAC, definition("AuthHmac"));
    let instance = definition("VrrpInstance");
    out.shared("in `vrrp_instance` and `vrrp_sync_group`", NOTIFY, instance);
    let service = definition("VirtualServer");
    out.of_block(&VIRTUAL_SERVER, service);
    out.of_block(&REAL_SERVER, definition("RealServer"));
    out.of_block(&DISCOVER, definition("Discover"));
    out.shared("in `virtual_server` and `real_server`", RECOVERY, service);
    let place = "in `virtual_server`, `real_server` and all checks but `FILE_CHECK`";
    out.shared(place, TIMING, service);
    let check = definition("Check");
    out.shared("in all checks but `FILE_CHECK`", CONNECTION, check);
    for kind in check["oneOf"].as_array().into_iter().flatten() {
        let keyword = kind["properties"]["type"]["const"].as_str();
        if let Some(empty) = keyword.and_then(empty_kind) {
            out.of_block(block_of(&empty).1, kind);
        }
    }
    out.of_block(&URL, definition("UrlCheck"));
    out.text
}

#[derive(Default)]
struct Tables {
    text: String,
}

impl Tables {
    fn of_block<T>(&mut self, block: &Block<T>, definition: &Value) {
        let rows = block.rows().flat_map(|row| row.documentation());
        self.table(block.place(), rows.collect(), definition);
    }

    fn shared<T>(&mut self, place: &str, rows: &[&dyn Row<T>], definition: &Value) {
        let rows = rows.iter().flat_map(|row| row.documentation());
        self.table(place, rows.collect(), definition);
    }

    /// One table, unless it would be empty.
    fn table(&mut self, place: &str, rows: Vec<Documentation>, definition: &Value) {
        if rows.is_empty() {
            return;
        }
        self.line(format_args!(
            "\n| {place} | argument | meaning |\n|---|---|---|"
        ));
        for Documentation {
            names,
            argument,
            meaning,
        } in rows
        {
            let shown: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let ours = if OURS.contains(&names[0]) {
                " *ours*"
            } else {
                ""
            };
            let argument = argument.replace(" to 4294967295", " or more");
            let meaning = match meaning {
                Meaning::Given(meaning) => meaning.to_owned(),
                Meaning::OfField(field) => description(definition, &[field, names[0]]),
            };
            self.line(format_args!(
                "| {}{ours} | {argument} | {meaning} |",
                shown.join(", ")
            ));
        }
    }

    fn line(&mut self, line: impl std::fmt::Display) {
        writeln!(self.text, "{line}").expect("a string can always grow");
    }
}

/// The description of a property, which has one of `names`, as a table cell.
fn description(definition: &Value, names: &[&str]) -> String {
    let mut properties = names.iter().map(|name| &definition["properties"][name]);
    let text = properties.find_map(|property| property["description"].as_str());
    let text = text.unwrap_or_default().split_whitespace();
    let text = text.collect::<Vec<_>>().join(" ").replace('|', r"\|");
    text.trim_end_matches('.').to_owned()
}
