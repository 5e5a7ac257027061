//! JSON schemas for editors: what `# yaml-language-server: $schema=…` understands, with a typing error in a field's name
//! shown where it stands.

use super::Kind;
use serde_json::{Map, Value, json};

/// The schema of a manifest of this kind.
pub(super) fn of(kind: &Kind) -> Value {
    let mut schema = plain(&kind.schema);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(kind.name);
    schema["additionalProperties"] = json!(false);
    schema["required"] = match kind.schema["required"].as_array() {
        Some(required) => required.iter().cloned().chain(["apiVersion", "kind", "metadata"].map(Value::from)).collect(),
        None => json!(["apiVersion", "kind", "metadata"]),
    };
    schema["properties"]["apiVersion"] = json!({ "type": "string", "const": kind.api_version() });
    schema["properties"]["kind"] = json!({ "type": "string", "const": kind.name });
    schema["properties"]["metadata"] = metadata(kind.namespaced);
    super::tidy(&schema)
}

/// The part of the metadata that people write.
fn metadata(namespaced: bool) -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut metadata = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 253 },
            "generateName": { "type": "string", "description": "The server appends five characters." },
            "labels": texts,
            "annotations": texts,
        },
    });
    if namespaced {
        metadata["properties"]["namespace"] = json!({ "type": "string", "maxLength": 63 });
    }
    metadata
}

/// A structural schema in the words of JSON schema: no extensions, `nullable` as a type, unknown fields refused where
/// the API server would drop them.
fn plain(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let keeps_unknown = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let nullable = fields.get("nullable") == Some(&Value::Bool(true));
    let mut out = Map::new();
    for (key, value) in fields {
        let value = match key.as_str() {
            "nullable" => continue,
            key if key.starts_with("x-kubernetes-") => continue,
            // Formats of JSON schema name texts; those of numbers are OpenAPI's.
            "format" if fields.get("type") != Some(&json!("string")) => continue,
            "type" if nullable => json!([value, "null"]),
            "enum" if nullable => value.as_array().into_iter().flatten().cloned().chain([Value::Null]).collect(),
            "properties" => {
                value.as_object().into_iter().flatten().map(|(name, field)| (name.clone(), plain(field))).collect()
            }
            "items" | "additionalProperties" => plain(value),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    if fields.contains_key("properties") && !keeps_unknown {
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nullable_becomes_a_type_and_unknown_fields_are_refused_only_where_they_are_dropped() {
        let schema = json!({
            "type": "object",
            "x-kubernetes-validations": [{ "rule": "true" }],
            "properties": {
                "count": { "type": "integer", "format": "int64", "nullable": true },
                "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
        });
        assert_eq!(
            plain(&schema),
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "count": { "type": ["integer", "null"] }, "any": { "type": "object" } },
            })
        );
    }
}
