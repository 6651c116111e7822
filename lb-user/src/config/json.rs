//! The model as JSON, and the mistakes that serde would let pass.

use rtmp_core::config::did_you_mean;
use serde_json::Value;

use super::diagnostic::{Diagnostics, Origin};
use super::model::Config;

/// A field at the top by which editors find the schema of a file.
pub const SCHEMA_FIELD: &str = "$schema";

/// Reads a configuration from JSON.
pub fn read(text: &str, diagnostics: &mut Diagnostics) -> Option<Config> {
    let origin = Origin::default();
    let mut given: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            diagnostics.error(&origin, format!("not JSON: {error}"));
            return None;
        }
    };
    if let Value::Object(fields) = &mut given {
        fields.remove(SCHEMA_FIELD);
    }
    let config: Config = match serde_json::from_value(given.clone()) {
        Ok(config) => config,
        Err(error) => {
            diagnostics.error(&origin, error.to_string());
            return None;
        }
    };
    // A field that reading and writing again loses is a field that nobody knows.
    let understood = serde_json::to_value(&config).expect("the model has a JSON form");
    report_unknown(&given, &understood, "", diagnostics);
    Some(config)
}

/// Writes a configuration as JSON, leaving out what the operator left out.
pub fn write(config: &Config) -> Value {
    let mut value = serde_json::to_value(config).expect("the model has a JSON form");
    prune(&mut value);
    value
}

fn report_unknown(given: &Value, understood: &Value, path: &str, diagnostics: &mut Diagnostics) {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            for (name, value) in given {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match understood.get(name) {
                    Some(understood) => report_unknown(value, understood, &path, diagnostics),
                    None => {
                        let known = understood.keys().map(String::as_str);
                        let suggestion = did_you_mean(name, known);
                        diagnostics.error(
                            &Origin::default(),
                            format!("unknown field `{path}`{suggestion}"),
                        );
                    }
                }
            }
        }
        (Value::Array(given), Value::Array(understood)) => {
            for (index, (given, understood)) in given.iter().zip(understood).enumerate() {
                report_unknown(given, understood, &format!("{path}[{index}]"), diagnostics);
            }
        }
        // serde takes a list for a structure, and a number for a choice.
        (given, understood) if kind(given) != kind(understood) => {
            let message = format!("`{path}` is {}; expected {}", kind(given), kind(understood));
            diagnostics.error(&Origin::default(), message);
        }
        _ => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Removes what only says that nothing was said.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}
