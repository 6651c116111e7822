//! The JSON Schema, against what the reader of JSON accepts and refuses.

use serde_json::{Value, json};

use super::*;
use crate::keyword::{Block, Meaning, Row};
use crate::keywords as k;
use crate::validate_values;

/// True if the reader takes `given` for a configuration, whatever refers to
/// what in it.
fn is_read(given: &Value) -> Result<(), String> {
    let mut diagnostics = Diagnostics::new(Location::whole("t.json"));
    if let Some(config) = json::read(&given.to_string(), &mut diagnostics) {
        validate_values::validate(&config, &mut diagnostics);
    }
    match diagnostics.has_errors() {
        true => Err(messages(&diagnostics.into_list()).join("\n")),
        false => Ok(()),
    }
}

/// `given` with one thing changed, in every way and every place: where, what.
fn variants(given: &Value) -> Vec<(String, Value)> {
    let replacements = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(0.5),
        json!(1_000_000_000_000_u64),
        json!([]),
        json!({}),
        json!([0, 0]),
    ];
    let mut variants = Vec::new();
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        let here = given.pointer(&place).expect("the place is there");
        let mut change = |what: String, new: Value| {
            let mut changed = given.clone();
            *changed.pointer_mut(&place).expect("the place is there") = new;
            variants.push((format!("{place}: {what}"), changed));
        };
        for replacement in &replacements {
            change(format!("replaced by {replacement}"), replacement.clone());
        }
        match here {
            Value::Object(fields) => {
                let mut more = fields.clone();
                more.insert("unheard_of".to_owned(), json!(1));
                change("with another field".to_owned(), more.into());
                for name in fields.keys() {
                    let mut fewer = fields.clone();
                    fewer.remove(name);
                    change(format!("without {name}"), fewer.into());
                    places.push(format!("{place}/{name}"));
                }
            }
            Value::Array(items) => {
                places.extend((0..items.len()).map(|index| format!("{place}/{index}")));
            }
            _ => {}
        }
    }
    variants
}

#[test]
fn the_schema_admits_what_the_reader_accepts_and_nothing_else() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let everything = to_json(&load_text(EVERYTHING).expect("accepted").config);
    let problems = |given: &Value| -> Vec<String> {
        let errors = validator.iter_errors(given);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    };
    assert_eq!(problems(&everything), Vec::<String>::new());
    let variants = variants(&everything);
    assert!(variants.len() > 2000, "{} variants", variants.len());
    let mut disagreements = Vec::new();
    for (what, variant) in &variants {
        let (read, problems) = (is_read(variant), problems(variant));
        // One field that depends on another is the reader's alone.
        let depends =
            matches!(&read, Err(why) if why.contains("beside") || why.contains("before the group"));
        if read.is_ok() != problems.is_empty() && !depends {
            disagreements.push(format!("{what}: reader {read:?}, schema {problems:?}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[test]
fn a_file_may_name_its_schema_for_editors() {
    let given = json!({ "$schema": "lb-user.schema.json", "virtual_server": [] });
    assert_eq!(is_read(&given), Ok(()));
    let schema = schema();
    assert!(jsonschema::is_valid(&schema, &given));
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let described = &schema["$defs"]["VirtualServer"]["properties"]["quorum"]["description"];
    assert!(
        described
            .as_str()
            .is_some_and(|text| text.contains("quorum")),
        "{described}"
    );
}

/// Fields that structure the model: blocks read and write them by their own code.
const STRUCTURE: [&str; 6] = ["name", "address", "real_server", "checks", "url", "reverse"];

fn fields<T: 'static>(rows: impl IntoIterator<Item = &'static dyn Row<T>>) -> Vec<&'static str> {
    let rows = rows.into_iter().flat_map(Row::documentation);
    let fields = rows.flat_map(|row| match row.meaning {
        Meaning::OfField(field) => vec![field, row.names[0]],
        Meaning::Given(_) => row.names.to_vec(),
    });
    fields.collect()
}

/// Guards the tables: a field without a row would be lost by `convert`.
#[test]
fn every_field_of_the_model_has_a_row() {
    fn check<T>(schema: &Value, definition: &str, block: &'static Block<T>) {
        let mut known = fields(block.rows());
        known.extend(fields(k::TIMING.iter().copied()));
        known.extend(fields(k::RECOVERY.iter().copied()));
        known.extend(fields(k::NOTIFY.iter().copied()));
        let properties = schema["$defs"][definition]["properties"].as_object();
        for field in properties.expect("a definition").keys() {
            let field = field.as_str();
            let has_row = known.contains(&field) || STRUCTURE.contains(&field);
            assert!(has_row, "{definition}: no row for {field}");
        }
    }
    let schema = schema();
    check(&schema, "GlobalDefs", &k::GLOBAL_DEFS);
    check(&schema, "TrackFile", &k::TRACK_FILE);
    check(&schema, "VrrpScript", &k::VRRP_SCRIPT);
    check(&schema, "VrrpSyncGroup", &k::VRRP_SYNC_GROUP);
    check(&schema, "VrrpInstance", &k::VRRP_INSTANCE);
    check(&schema, "AuthHmac", &k::AUTH_HMAC);
    check(&schema, "VirtualServer", &k::VIRTUAL_SERVER);
    check(&schema, "RealServer", &k::REAL_SERVER);
    check(&schema, "RealServerTemplate", &k::REAL_SERVER_TEMPLATE);
    check(&schema, "Discover", &k::DISCOVER);
    check(&schema, "UrlCheck", &k::URL);
    for kind in schema["$defs"]["Check"]["oneOf"]
        .as_array()
        .expect("a list")
    {
        let properties = &kind["properties"];
        let keyword = properties["type"]["const"].as_str().expect("a keyword");
        let kind = k::empty_kind(keyword).expect("a kind of check");
        let known = fields(k::block_of(&kind).1.rows());
        for field in properties.as_object().expect("properties").keys() {
            let field = field.as_str();
            let has_row =
                known.contains(&field) || [&STRUCTURE[..], &["type"]].concat().contains(&field);
            assert!(has_row, "{keyword}: no row for {field}");
        }
    }
}
