//! From one form to the other and back.

use proptest::prelude::*;

use super::*;
use lb_model::config::{Script, VrrpScript};

/// The configuration in `text`, as read, written as keepalived.conf and read again, and written as
/// JSON and read again.
fn there_and_back(text: &str) -> [Config; 3] {
    let config = load_text(text).expect("the text is accepted").config;
    let written = to_keepalived(&config);
    let again = load_text(&written).unwrap_or_else(|refused| panic!("{refused}\n{written}"));
    let json = load_json(&to_json(&config).to_string()).expect("the JSON is accepted");
    [config, again.config, json.config]
}

#[test]
fn what_is_converted_says_the_same() {
    let advanced =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keepalived-advanced.conf");
    let advanced = load_for(&advanced, "main")
        .expect("the example is accepted")
        .config;
    for text in [DEPLOYMENT, EVERYTHING, &to_keepalived(&advanced)] {
        let [config, keepalived, json] = there_and_back(text);
        assert_eq!(config, keepalived);
        assert_eq!(config, json);
    }
}

/// Guards the test above: a word that is served and not in the file would be
/// converted without a test.
#[test]
fn the_file_of_everything_has_every_word_that_is_served() {
    use crate::keywords as v;
    let words: Vec<&str> = EVERYTHING.split_whitespace().collect();
    for vocabulary in v::ALL {
        for word in vocabulary.served() {
            assert!(
                words.contains(&word),
                "`{word}` {} is missing",
                vocabulary.place()
            );
        }
    }
}

#[test]
fn the_deployment_is_written_as_a_person_would() {
    let config = load_text(DEPLOYMENT)
        .expect("the deployment's file is accepted")
        .config;
    let written = to_keepalived(&config);
    let expected = "\
vrrp_instance VI_1 {
    state MASTER
    interface eth2
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        172.16.1.200
    }
}

virtual_server 172.16.1.200 1935 {
    delay_loop 6
";
    assert_eq!(written.get(..expected.len()), Some(expected), "{written}");
}

proptest! {
    /// Words of the operator's choice may hold anything: blanks, quotes,
    /// braces, dollar signs, line ends.
    #[test]
    fn any_word_survives(
        words in proptest::collection::vec(".*|[ \"'\\\\{}#!$\n\\PC]{0,8}", 1..4),
        user in proptest::option::of("[ \"'\\\\{}#!$a-z]{0,8}"),
        micros in 1u64..1_000_000_000_000,
    ) {
        let time = Some(Seconds(std::time::Duration::from_micros(micros)));
        let script = VrrpScript {
            name: words[0].clone(),
            script: Script { command: words, user, ..Script::default() },
            interval: time,
            timeout: None,
            weight: None,
            reverse: false,
            rise: None,
            fall: None,
            init_fail: false,
            location: Default::default(),
        };
        let config = Config { vrrp_script: vec![script], ..Default::default() };
        let written = to_keepalived(&config);
        let again = load_text(&written).map_err(|refused| TestCaseError::fail(format!("{refused}\n{written}")))?;
        prop_assert_eq!(&config, &again.config, "{}", written);
        let json = load_json(&to_json(&config).to_string()).expect("the JSON is accepted");
        prop_assert_eq!(config, json.config);
    }
}
