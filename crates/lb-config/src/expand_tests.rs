//! The examples of keepalived.conf(5), "ADVANCED CONFIGURATION".

use std::fs;
use std::path::Path;

use super::expand::expand;
use conf_kit::{Diagnostics, Location};

/// The expanded lines of `text`, read for the configuration id `main`.
fn lines(text: &str) -> Vec<String> {
    let (lines, complaints) = expanded(Path::new("t.conf"), text);
    assert_eq!(complaints, Vec::<String>::new());
    lines
}

fn expanded(file: &Path, text: &str) -> (Vec<String>, Vec<String>) {
    let mut diagnostics = Diagnostics::new(Location::whole(&file.to_string_lossy()));
    let lines = expand(file, text, "main", &mut diagnostics);
    let lines = lines.into_iter().map(|line| line.text).collect();
    (
        lines,
        diagnostics
            .into_list()
            .iter()
            .map(ToString::to_string)
            .collect(),
    )
}

#[test]
fn a_conditional_line_holds_for_its_configuration_id() {
    let text = "@main router_id a\n@backup router_id b\n@^main router_id c\n@^backup router_id d";
    assert_eq!(lines(text), ["router_id a", "router_id d"]);
}

#[test]
fn parameters_are_replaced_when_they_are_used_not_when_they_are_defined() {
    let text = "$ADDRESS_BASE=10.2.${ADDRESS_BASE_SUB}\n\
                $ADDRESS_BASE_SUB=0\n\
                ${ADDRESS_BASE}.100/32\n\
                $ADDRESS_BASE_SUB=10\n\
                ${ADDRESS_BASE}.100/32";
    assert_eq!(lines(text), ["10.2.0.100/32", "10.2.10.100/32"]);
}

#[test]
fn an_undefined_parameter_stays_and_an_empty_one_vanishes() {
    assert_eq!(
        lines("$EMPTY=\nscript ${HOME}/x $EMPTY y"),
        ["script ${HOME}/x  y"]
    );
}

#[test]
fn conditions_and_parameters_work_together() {
    assert_eq!(
        lines("@main $PRIORITY=240\n@backup $PRIORITY=200\npriority $PRIORITY"),
        ["priority 240"]
    );
    assert_eq!(
        lines("$IF_MAIN=@main\n$IF_MAIN priority 240"),
        ["priority 240"]
    );
}

#[test]
fn definitions_of_several_lines_nest() {
    let text = "$RS= \\\n\
                real_server 192.168.${VS_NUM}.${RS_NUM} 80 { \\\n\
                    weight 1 \\\n\
                }\n\
                $VS= \\\n\
                virtual_server 10.0.${VS_NUM}.4 80 { \\\n\
                    $RS_NUM=1 \\\n\
                    $RS \\\n\
                    $RS_NUM=2 \\\n\
                    $RS \\\n\
                }\n\
                $VS_NUM=0\n\
                $VS\n";
    assert_eq!(
        lines(text),
        [
            "virtual_server 10.0.0.4 80 {",
            "real_server 192.168.0.1 80 {",
            "weight 1",
            "}",
            "real_server 192.168.0.2 80 {",
            "weight 1",
            "}",
            "}",
        ]
    );
}

#[test]
fn sequences_and_lists_repeat_the_rest_of_their_line() {
    assert_eq!(
        lines("~SEQ(S, 0, 3) 10.0.${S}.1"),
        ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"]
    );
    assert_eq!(
        lines("~SEQx(S, 0x90, 0x10, 0xb0) fe80::${S}"),
        ["fe80::90", "fe80::a0", "fe80::b0"]
    );
    assert_eq!(
        lines("~SEQ(A, 2) ~SEQ(B, 3, 2) ${A}.${B}"),
        ["1.3", "1.2", "2.3", "2.2"]
    );
    assert_eq!(
        lines("~LST({IP, IP1}, {10,1},{20,4}) 192.168.${IP}.${IP1}"),
        ["192.168.10.1", "192.168.20.4"]
    );
    assert_eq!(
        lines("~LST(IP, 1, 2) ~LST(IP1, 5,6) ${IP}.${IP1}"),
        ["1.5", "1.6", "2.5", "2.6"]
    );
}

#[test]
fn predefined_parameters_are_known() {
    assert_eq!(
        lines("p ${_PWD} ${_INSTANCE} ${_HASH}${_BANG}"),
        ["p . main #!"]
    );
    assert_eq!(lines("${_RANDOM 7 7}"), ["7"]);
}

#[test]
fn what_never_ends_is_a_mistake() {
    for (text, complaint) in [
        (
            "$A=${B}\n$B=${A}\nx ${A}",
            "t.conf:3: `x ${A}` cannot be expanded: a parameter contains itself",
        ),
        (
            "~SEQ(A, 1, 0, 2) x",
            "t.conf:1: expected a `~SEQ` that comes to its end",
        ),
        (
            "~LST({A, B}, {1}) x",
            "t.conf:1: expected a `~LST` with as many values in each round as it has names",
        ),
        (
            "$A= \\\nx \\\n",
            "t.conf: the definition of `$A` goes on, but the file ends",
        ),
    ] {
        assert_eq!(expanded(Path::new("t.conf"), text).1, [complaint], "{text}");
    }
}

#[test]
fn included_files_are_found_beside_the_file_that_includes_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("written");
    };
    write("conf.d/1.conf", "one\ninclude deeper/*.conf");
    write("conf.d/2.conf", "two");
    write("conf.d/deeper/a.conf", "deep");
    let file = directory.path().join("keepalived.conf");
    let (lines, complaints) = expanded(&file, "include conf.d/*.conf\nend\ninclude none.d/*");
    assert_eq!(lines, ["one", "deep", "two", "end"]);
    assert_eq!(
        complaints,
        Vec::<String>::new(),
        "a pattern may match nothing"
    );

    let missing = directory.path().join("x.conf").display().to_string();
    let place = format!("{}:1: ", file.display());
    assert_eq!(
        expanded(&file, "include x.conf").1,
        [format!("{place}warning: no file matches `{missing}`")]
    );
    assert_eq!(
        expanded(&file, "includea x.conf").1,
        [format!("{place}no file matches `{missing}`")]
    );

    write("keepalived.conf", "include keepalived.conf");
    let complaints = expanded(&file, "include keepalived.conf").1;
    assert_eq!(
        complaints,
        [format!("{place}{} includes itself", file.display())]
    );
}

/// The only complaint about `text`, without its place.
fn only_complaint(text: &str) -> String {
    let (_, complaints) = expanded(Path::new("t.conf"), text);
    let [complaint] = complaints.as_slice() else {
        panic!("expected one complaint, got {complaints:#?}")
    };
    complaint.clone()
}

#[test]
fn an_expansion_that_grows_without_bound_is_refused() {
    let doubling = only_complaint("$A=$A$A\n$A");
    assert!(
        doubling.starts_with("t.conf:2: `$A$A$A") && doubling.ends_with("contains itself"),
        "{doubling}"
    );
    let branching = only_complaint("$A=\\\n$A\\\n$A\n$A x");
    assert!(
        branching.contains("a parameter contains itself"),
        "{branching}"
    );
    let long = only_complaint(&format!("$A={}\nx ${{A}}${{A}}", "y".repeat(40_000)));
    assert!(long.contains("longer than 65536 bytes"), "{long}");
    let nested = only_complaint("~SEQ(A, 1, 1000) ~SEQ(B, 1, 1000) x");
    assert!(
        nested.contains("expands to more than 100000 lines"),
        "{nested}"
    );
    let overflow = only_complaint(&format!("~SEQ(A, -1, {}) x", i64::MAX));
    assert!(
        overflow.contains("a `~SEQ` that comes to its end"),
        "{overflow}"
    );
}
