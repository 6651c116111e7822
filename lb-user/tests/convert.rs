//! `lb-user convert` and `lb-user schema`, as an operator runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The output of `lb-user` with `words` as arguments.
fn printed(words: &[&str], file: Option<&Path>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-user"));
    command.args(words);
    if let Some(file) = file {
        command.arg(file);
    }
    let output = command.output().expect("lb-user exists");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_example_is_turned_into_the_other_form_and_back() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let schema = serde_json::from_str(&printed(&["schema"], None)).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let directory = tempfile::tempdir().expect("a directory");
    let (json, keepalived) = (
        directory.path().join("a.json"),
        directory.path().join("a.conf"),
    );
    let convert = &["convert", "-i", "main", "-c"];
    let mut seen = 0;
    for example in fs::read_dir(examples).expect("the examples") {
        let example = example.expect("an example").path();
        let name = example
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("keepalived") {
            continue;
        }
        seen += 1;
        let as_json = printed(convert, Some(&example));
        let value = serde_json::from_str(&as_json).expect("JSON");
        assert!(schema.is_valid(&value), "{name}:\n{as_json}");
        fs::write(&json, &as_json).expect("written");
        fs::write(&keepalived, printed(convert, Some(&json))).expect("written");
        assert_eq!(printed(convert, Some(&keepalived)), as_json, "{name}");
    }
    assert!(seen >= 2, "{seen} examples");
}
