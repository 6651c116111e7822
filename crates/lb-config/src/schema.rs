//! The JSON form of a configuration as a JSON Schema (draft 2020-12), made from
//! the model itself.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Value, json};

use crate::keyword::Block;
use crate::keywords::{
    AUTH_HMAC, DISCOVER, GLOBAL_DEFS, REAL_SERVER, REAL_SERVER_TEMPLATE, TCP_CHECK, TRACK_FILE,
    URL, VIRTUAL_SERVER, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP, block_of, empty_kind,
};
use lb_model::config::Config;

/// A field at the top by which editors find the schema of a file.
pub(crate) const SCHEMA_FIELD: &str = "$schema";

/// The schema of [`Config`].
///
/// It admits whatever the reader of JSON accepts, and refuses unknown fields,
/// wrong types and numbers out of bounds. What concerns several fields at once,
/// such as names that refer to something, only the reader judges.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), json!("Configuration of lb-user"));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        let property = json!({
            "type": "string",
            "description": "This schema, for editors; lb-user passes over it."
        });
        properties.insert(SCHEMA_FIELD.to_owned(), property);
    }
    AsTheReader.transform(&mut schema);
    let mut schema = schema.to_value();
    limit(&mut schema, "GlobalDefs", &GLOBAL_DEFS);
    limit(&mut schema, "TrackFile", &TRACK_FILE);
    limit(&mut schema, "VrrpScript", &VRRP_SCRIPT);
    limit(&mut schema, "VrrpSyncGroup", &VRRP_SYNC_GROUP);
    limit(&mut schema, "VrrpInstance", &VRRP_INSTANCE);
    limit(&mut schema, "AuthHmac", &AUTH_HMAC);
    limit(&mut schema, "VirtualServer", &VIRTUAL_SERVER);
    limit(&mut schema, "RealServer", &REAL_SERVER);
    limit(&mut schema, "RealServerTemplate", &REAL_SERVER_TEMPLATE);
    limit(&mut schema, "Discover", &DISCOVER);
    limit(&mut schema, "UrlCheck", &URL);
    limit(&mut schema, "Check", &TCP_CHECK);
    for kind in schema["$defs"]["Check"]["oneOf"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let keyword = kind["properties"]["type"]["const"].as_str();
        let empty = keyword.and_then(empty_kind);
        if let (Some(empty), Value::Object(properties)) = (empty, &mut kind["properties"]) {
            block_of(&empty).1.limit(properties);
        }
    }
    schema
}

/// Puts the bounds of a block's keywords into its definition.
fn limit<T>(schema: &mut Value, definition: &str, block: &Block<T>) {
    let properties = &mut schema["$defs"][definition]["properties"];
    if let Value::Object(properties) = properties {
        block.limit(properties);
    }
}

/// Refuses what the reader refuses and a derived schema does not: fields that
/// nobody knows, and numbers beyond their type.
struct AsTheReader;

impl Transform for AsTheReader {
    fn transform(&mut self, schema: &mut Schema) {
        let is_alternative = schema
            .get("properties")
            .and_then(|properties| properties.get("type"))
            .is_some_and(|tag| tag.get("const").is_some());
        // The alternatives of a tagged enumeration know only their own fields;
        // the structure around them knows all.
        if schema.get("properties").is_some() && !is_alternative {
            schema.insert("unevaluatedProperties".to_owned(), json!(false));
        }
        let is_u32 = schema
            .get("format")
            .is_some_and(|format| format == "uint32");
        if is_u32 && schema.get("maximum").is_none() {
            schema.insert("maximum".to_owned(), json!(u32::MAX));
        }
        transform_subschemas(self, schema);
    }
}
