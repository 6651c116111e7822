//! The model as JSON, and the mistakes that serde would let pass.

use conf_kit::did_you_mean;
use serde_json::Value;

use super::schema::{SCHEMA_FIELD, schema};
use conf_kit::{Diagnostics, Location};
use lb_model::config::Config;

/// Reads a configuration from JSON.
pub(crate) fn read(text: &str, diagnostics: &mut Diagnostics) -> Option<Config> {
    let location = Location::default();
    let mut given: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            diagnostics.error(&location, format!("not JSON: {error}"));
            return None;
        }
    };
    if let Value::Object(fields) = &mut given {
        fields.remove(SCHEMA_FIELD);
    }
    let config: Config = match serde_json::from_value(given.clone()) {
        Ok(config) => config,
        Err(error) => {
            // A misspelt field is missing where it should be: say which it is.
            let schema = schema();
            let misspelt = Misspelt { root: &schema };
            if !misspelt.report(&given, &[&schema], "", diagnostics) {
                diagnostics.error(&location, error.to_string());
            }
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
                let path = field_of(path, name);
                match understood.get(name) {
                    Some(understood) => report_unknown(value, understood, &path, diagnostics),
                    None => {
                        let known = understood.keys().map(String::as_str);
                        unknown(&path, name, known, diagnostics);
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
            diagnostics.error(&Location::default(), message);
        }
        _ => {}
    }
}

/// The place of a field.
fn field_of(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn unknown<'k>(
    path: &str,
    name: &str,
    known: impl Iterator<Item = &'k str>,
    diagnostics: &mut Diagnostics,
) {
    let suggestion = did_you_mean(name, known);
    let message = format!("unknown field `{path}`{suggestion}");
    diagnostics.error(&Location::default(), message);
}

/// Finds the fields that the schema does not know, in what could not be read.
struct Misspelt<'s> {
    root: &'s Value,
}

impl<'s> Misspelt<'s> {
    /// Reports fields that none of `schemas` knows; whether there are any.
    fn report(
        &self,
        given: &Value,
        schemas: &[&'s Value],
        path: &str,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let mut all = Vec::new();
        for schema in schemas {
            self.flatten(schema, &mut all);
        }
        let mut found = false;
        match given {
            Value::Object(fields) => {
                let known = || all.iter().filter_map(|it| it["properties"].as_object());
                for (name, value) in fields {
                    let path = field_of(path, name);
                    let inner: Vec<&Value> = known().filter_map(|it| it.get(name)).collect();
                    if !inner.is_empty() {
                        found |= self.report(value, &inner, &path, diagnostics);
                    } else if known().next().is_some() {
                        let names = known().flat_map(|it| it.keys().map(String::as_str));
                        unknown(&path, name, names, diagnostics);
                        found = true;
                    }
                }
            }
            Value::Array(values) => {
                let items: Vec<&Value> = all.iter().filter_map(|it| it.get("items")).collect();
                for (index, value) in values.iter().enumerate() {
                    found |= self.report(value, &items, &format!("{path}[{index}]"), diagnostics);
                }
            }
            _ => {}
        }
        found
    }

    /// A schema, what it refers to, and its alternatives.
    fn flatten(&self, schema: &'s Value, all: &mut Vec<&'s Value>) {
        all.push(schema);
        let reference = schema["$ref"].as_str();
        let place = reference.and_then(|it| it.strip_prefix('#'));
        if let Some(target) = place.and_then(|place| self.root.pointer(place)) {
            self.flatten(target, all);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            for alternative in schema[word].as_array().into_iter().flatten() {
                self.flatten(alternative, all);
            }
        }
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
