//! The words of each block.

use super::*;
use crate::config::reader::read;

/// Guards the vocabularies: a word must not be listed as served and then be
/// answered with "unknown word" or "is ignored".
#[test]
fn every_word_that_is_listed_as_served_is_read() {
    use crate::config::reader::vocabulary as v;
    let in_server = |inside: &str| {
        format!("virtual_server 10.0.0.1 80 {{\nreal_server 10.0.0.2 80 {{\n{inside}")
    };
    let around: [(&v::Vocabulary, &str, &str); 14] = [
        (&v::TOP_LEVEL, "", ""),
        (&v::GLOBAL_DEFS, "global_defs {\n", "\n}"),
        (&v::VRRP_INSTANCE, "vrrp_instance V {\n", "\n}"),
        (&v::VRRP_SYNC_GROUP, "vrrp_sync_group G {\n", "\n}"),
        (&v::VRRP_SCRIPT, "vrrp_script S {\n", "\n}"),
        (&v::VIRTUAL_SERVER, "virtual_server 10.0.0.1 80 {\n", "\n}"),
        (&v::REAL_SERVER, &in_server(""), "\n}\n}"),
        (&v::TCP_CHECK, &in_server("TCP_CHECK {\n"), "\n}\n}\n}"),
        (&v::PING_CHECK, &in_server("PING_CHECK {\n"), "\n}\n}\n}"),
        (&v::HTTP_GET, &in_server("HTTP_GET {\n"), "\n}\n}\n}"),
        (&v::URL, &in_server("HTTP_GET {\nurl {\n"), "\n}\n}\n}\n}"),
        (&v::MISC_CHECK, &in_server("MISC_CHECK {\n"), "\n}\n}\n}"),
        (&v::UDP_CHECK, &in_server("UDP_CHECK {\n"), "\n}\n}\n}"),
        (&v::RTMP_CHECK, &in_server("RTMP_CHECK {\n"), "\n}\n}\n}"),
    ];
    for (vocabulary, before, after) in around {
        for word in vocabulary.served {
            let mut diagnostics = Diagnostics::new(Path::new("t.conf").into());
            let text = format!("{before}{word} x{after}");
            let lines = expand::expand(Path::new("t.conf"), &text, "main", &mut diagnostics);
            let directives = tree::parse(&lines, &mut diagnostics);
            read(&directives, &mut diagnostics);
            for said in messages(&diagnostics.into_list()) {
                let about_it = said.contains(&format!("`{word}`"));
                let unread = said.contains("unknown word") || said.contains("is ignored");
                assert!(
                    !(about_it && unread),
                    "{word} is listed as served, but: {said}"
                );
            }
        }
    }
}
