//! Reads the same directives from JSON.
//!
//! An object's members are directives. A string, number or boolean is the one
//! argument (`true` is `on`), an array is several, an object is the block; for
//! `vhost` the object's members are the vhosts by name:
//! `{"listen": 1935, "vhost": {"__defaultVhost__": {"gop_cache": false}}}`.
//! A block's own arguments stand in its member's name, `{"ingest door": {…}}`; an array of
//! arrays is one directive for each.

use std::sync::Arc;

use serde_json::Value;

use conf_kit::{Diagnostic, Directive, Location};

/// Reads `text`, which messages call `source`, into its directives.
///
/// # Errors
/// Text that is no JSON, with its line; a value that cannot be a directive,
/// with its path.
pub fn parse(source: &str, text: &str) -> Result<Vec<Directive>, Diagnostic> {
    let source: Arc<str> = source.into();
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Diagnostic::error(&Location::line(&source, error.line()), error.to_string())
    })?;
    match value {
        Value::Object(members) => block(&source, "", members),
        _ => Err(Diagnostic::error(
            &Location::whole(&source),
            "the file must hold one JSON object whose members are the directives",
        )),
    }
}

fn block(
    source: &Arc<str>,
    path: &str,
    members: serde_json::Map<String, Value>,
) -> Result<Vec<Directive>, Diagnostic> {
    let mut directives = Vec::new();
    for (name, value) in members {
        let place = format!("{path}{name}");
        let location = Location::whole(&format!("{source}: at {place}"));
        match value {
            Value::Object(vhosts) if path.is_empty() && name == "vhost" => {
                for (vhost, settings) in vhosts {
                    let Value::Object(settings) = settings else {
                        return Err(Diagnostic::error(&location, "each vhost must be an object"));
                    };
                    let children = block(source, &format!("{place}.{vhost}."), settings)?;
                    directives.push(Directive::block(
                        &name,
                        &[&vhost],
                        children,
                        location.clone(),
                    ));
                }
            }
            Value::Object(children) => {
                let children = block(source, &format!("{place}."), children)?;
                let mut words = name.split_whitespace();
                let keyword = words.next().unwrap_or(&name);
                let arguments: Vec<_> = words.collect();
                directives.push(Directive::block(keyword, &arguments, children, location));
            }
            Value::Array(lists) if lists.first().is_some_and(Value::is_array) => {
                for list in lists {
                    directives.push(leaf(&name, &list, &location)?);
                }
            }
            Value::Array(_) => directives.push(leaf(&name, &value, &location)?),
            scalar => {
                let argument = argument(&scalar).ok_or_else(|| {
                    Diagnostic::error(&location, "null is no value: leave the member out")
                })?;
                directives.push(Directive::leaf(&name, &[&argument], location));
            }
        }
    }
    Ok(directives)
}

/// A directive whose arguments are those of an array.
fn leaf(name: &str, array: &Value, location: &Location) -> Result<Directive, Diagnostic> {
    let values = array.as_array().map_or(&[][..], Vec::as_slice);
    let arguments: Option<_> = values.iter().map(argument).collect();
    let arguments = arguments.filter(|_| array.is_array());
    Ok(Directive {
        arguments: arguments.ok_or_else(|| {
            Diagnostic::error(location, "an array may hold words and numbers only")
        })?,
        ..Directive::leaf(name, &[], location.clone())
    })
}

fn argument(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::conf;

    /// The tree without its locations, which must differ.
    fn bare(tree: &[Directive]) -> Vec<(String, Vec<String>, Vec<String>)> {
        tree.iter()
            .map(|directive| {
                let children = directive.children.as_deref().unwrap_or_default();
                let children = bare(children)
                    .iter()
                    .map(|child| format!("{child:?}"))
                    .collect();
                (
                    directive.keyword.clone(),
                    directive.arguments.clone(),
                    children,
                )
            })
            .collect()
    }

    #[test]
    fn json_and_conf_give_the_same_tree() {
        let json = parse(
            "x.json",
            r#"{"listen": [1935, "127.0.0.1:1936"],
                "vhost": {"__defaultVhost__": {"gop_cache": false, "mr": {"enabled": true}}}}"#,
        )
        .unwrap();
        let conf = conf::parse(
            "x.conf",
            "listen 1935 127.0.0.1:1936; vhost __defaultVhost__ { gop_cache off; mr { enabled on; } }",
        )
        .unwrap();
        assert_eq!(bare(&json), bare(&conf));
        let vhost = json[1].children.as_ref().unwrap();
        let place = vhost[0].location.to_string();
        assert_eq!(place, "x.json: at vhost.__defaultVhost__.gop_cache");
    }

    #[test]
    fn broken_json_names_its_line() {
        let mistake = parse("x.json", "{\n  \"listen\": 1935,\n}")
            .unwrap_err()
            .to_string();
        assert!(mistake.starts_with("x.json:3: "), "{mistake}");
    }

    #[test]
    fn a_blocks_name_stands_in_its_members() {
        let json = r#"{"vhost": {"a": {"ingest door": {"enabled": true, "engine": {}},
            "exec": {"publish": [["p", 1], ["q"]]}}}}"#;
        let text =
            "vhost a { exec { publish p 1; publish q; } ingest door { enabled on; engine { } } }";
        let read = parse("t", json).unwrap();
        let expected = conf::parse("t", text).unwrap();
        assert_eq!(bare(&read), bare(&expected));
    }
}
