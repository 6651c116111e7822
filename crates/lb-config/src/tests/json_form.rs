//! The JSON form.

use super::*;

#[test]
fn json_mistakes_are_named_by_their_path() {
    let text = r#"{"virtual_server": [{"address": "10.0.0.1:80", "lb_algoo": "rr"}]}"#;
    let mut diagnostics = Diagnostics::new(Location::whole("t.json"));
    json::read(text, &mut diagnostics);
    assert_eq!(
        messages(&diagnostics.into_list()),
        ["t.json: unknown field `virtual_server[0].lb_algoo`, did you mean `lb_algo`?"]
    );
}

#[test]
fn json_keeps_to_the_same_bounds() {
    let text = r#"{
        "vrrp_instance": [{"name": "V", "interface": "eth0", "virtual_router_id": 1, "advert_int": 0,
            "virtual_ipaddress": [{"address": "10.0.0.1", "label": "eth0:much-too-long"}]}],
        "virtual_server": [{"address": "10.0.0.1:80", "delay_loop": 0, "persistence_timeout": 0,
            "real_server": [{"address": "10.0.0.2:80", "weight": 4294967295,
                "checks": [{"type": "TCP_CHECK", "connect_timeout": 0}]}]}]}"#;
    let refused = load_json(text).expect_err("numbers are out of bounds");
    assert_eq!(
        messages(&refused.diagnostics),
        [
            "t.json: vrrp_instance V: `advert_int` is 0 s; expected more than 0 seconds",
            "t.json: vrrp_instance V: `label` is eth0:much-too-long; expected at most 15 bytes",
            "t.json: virtual_server 10.0.0.1 80: `delay_loop` is 0 s; expected more than 0 seconds",
            "t.json: virtual_server 10.0.0.1 80: `persistence_timeout` is 0; expected 1 to 2678400",
            "t.json: real_server 10.0.0.2:80: `weight` is 4294967295; expected 0 to 65535",
            "t.json: real_server 10.0.0.2:80: `connect_timeout` is 0 s; expected more than 0 seconds",
        ]
    );
}

#[test]
fn a_misspelt_field_is_named_where_the_right_one_must_be_there() {
    let table = [
        (
            r#"{"virtual_server": [{"addres": "10.0.0.1:80"}]}"#,
            "t.json: unknown field `virtual_server[0].addres`, did you mean `address`?",
        ),
        (
            r#"{"virtual_server": [{"address": "10.0.0.1:80", "real_server": [
                {"address": "10.0.0.2:80", "checks": [{"type": "FILE_CHECK", "trackfile": "F"}]}]}]}"#,
            "t.json: unknown field `virtual_server[0].real_server[0].checks[0].trackfile`, \
             did you mean `track_file`?",
        ),
        (
            r#"{"virtual_server": [{}]}"#,
            "t.json: missing field `address`",
        ),
    ];
    for (text, expected) in table {
        let refused = load_json(text).expect_err("a field is missing");
        assert_eq!(messages(&refused.diagnostics), [expected]);
    }
}
