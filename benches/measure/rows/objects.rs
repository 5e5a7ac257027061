//! The objects that captures and restores are measured with: half ConfigMaps, half Secrets.

use super::at_once;
use crate::bed::Bed;
use crate::{Result, api};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Bytes of an object's data, as in the comparison with Velero.
const DATA: usize = 2_000;

/// One of them, and the path of its kind.
pub fn object(namespace: &str, number: usize, value: &str) -> (String, Value) {
    let (kind, plural) = if number.is_multiple_of(2) { ("ConfigMap", "configmaps") } else { ("Secret", "secrets") };
    let object = json!({ "apiVersion": "v1", "kind": kind,
        "metadata": { "name": format!("object-{number:06}"), "labels": { "app": "bench" } },
        "data": { "value": value } });
    (format!("/api/v1/namespaces/{namespace}/{plural}"), object)
}

/// Creates objects from one number up to another, half of each kind.
pub async fn fill(bed: &Bed, namespace: &str, from: usize, to: usize) -> Result<()> {
    eprintln!("   creating {} objects", to - from);
    at_once(to - from, 48, async |number| {
        let number = from + number;
        let (path, object) = object(namespace, number, &text(number));
        api::try_create(&bed.client, &path, &object).await.map(drop)
    })
    .await
}

/// Letters that differ from object to object and compress about as configuration does; valid base64, for Secrets.
pub fn text(number: usize) -> String {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(DATA);
    while text.len() < DATA {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = ["config", "server", "enable", "timeouts", "port", "hostname"]
            [usize::try_from(state >> 61).unwrap_or(0) % 6];
        text.push_str(word);
        // Writing to a String cannot fail.
        let _ = write!(text, "{:04x}", (state >> 32) & 0xffff);
    }
    text.truncate(DATA);
    text
}
