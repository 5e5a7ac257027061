//! Canonical JSON: one value, one byte sequence.
//!
//! Keys are sorted by bytes at every level, there is no white space, and numbers are as
//! `serde_json` prints them. Identity hashes and captured objects both depend on this form. It
//! therefore does not rely on the map order of `serde_json`, which a feature of an unrelated
//! dependency can change.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Returns the canonical bytes of a value.
#[must_use]
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// Returns the SHA-256 over the canonical bytes as lower-case hex: 64 characters.
#[must_use]
pub fn digest(value: &Value) -> String {
    hex::encode(Sha256::digest(to_vec(value)))
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (position, (key, value)) in entries.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Array(values) => {
            out.push(b'[');
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &impl Serialize, out: &mut Vec<u8>) {
    // Cannot fail: the writer is in memory, and all keys are strings.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_at_every_level_and_arrays_keep_their_order() {
        let value = json!({"b": [2, 1, {"z": 1, "a": null}], "a": "x\n"});
        assert_eq!(to_vec(&value), br#"{"a":"x\n","b":[2,1,{"a":null,"z":1}]}"#);
    }

    proptest! {
        #[test]
        fn canonical_bytes_parse_back_to_the_same_value(text in ".{0,40}", number in any::<i64>()) {
            let value = json!({ text.clone(): { "n": number, "t": [text] } });
            let parsed: Value = serde_json::from_slice(&to_vec(&value)).expect("canonical JSON is JSON");
            prop_assert_eq!(parsed, value);
        }
    }

    #[test]
    fn a_digest_is_the_sha_256_of_the_canonical_bytes() {
        assert_eq!(digest(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}
