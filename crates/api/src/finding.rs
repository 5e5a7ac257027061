//! `Finding`: one item of a tenant that differs from a baseline, with evidence.
//!
//! Writers: the worker of `drift.generate` writes `spec` but for `acknowledged`, and
//! `status.observed`. Whoever may acknowledge writes `spec.acknowledged`, and admission its `by`.
//! The controller writes the rest of the status. Nothing here corrects anything.

use crate::{LocalReference, ObjectReference, provider::Provider, subject::Initiator};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Maximum number of changed paths that a finding shows.
pub const MAX_EVIDENCE: usize = 50;

/// Maximum size of a value in the evidence, as JSON, in bytes. A longer one is cut, and says so.
pub const MAX_VALUE: usize = 512;

/// Maximum number of findings of a tenant that are not resolved.
pub const MAX_FINDINGS: usize = 1000;

/// One item that differs from a baseline.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "Finding",
    plural = "findings",
    shortname = "find",
    category = "atlas",
    namespaced,
    status = "FindingStatus",
    derive = "PartialEq",
    doc = "One item of a tenant that differs from a baseline, with evidence. Nothing is corrected by itself.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.subject.kind"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Change", type_ = "string", json_path = ".spec.change"),
    printcolumn(name = "Severity", type_ = "string", json_path = ".spec.severity"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "First Seen", type_ = "date", json_path = ".status.observed.firstSeen"),
    printcolumn(name = "Last Seen", type_ = "date", json_path = ".status.observed.lastSeen"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.evidence[0].path", priority = "1"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.evidence[0].manager", priority = "1"),
    printcolumn(name = "Baseline", type_ = "string", json_path = ".spec.baseline.backupSet.name", priority = "1"),
    printcolumn(name = "Stale", type_ = "boolean", json_path = ".status.stale", priority = "1")
)]
#[x_kube(
    validation = Rule::new("self.findingType == oldSelf.findingType && self.scopeKey == oldSelf.scopeKey").message("findingType and scopeKey are immutable: another scope has findings of its own"),
    validation = Rule::new("self.subject.group == oldSelf.subject.group && self.subject.kind == oldSelf.subject.kind && self.subject.name == oldSelf.subject.name && self.subject.provider == oldSelf.subject.provider").message("subject is immutable but for its uid: another item has a finding of its own"),
)]
#[serde(rename_all = "camelCase")]
pub struct FindingSpec {
    /// What was looked for.
    #[serde(default)]
    pub finding_type: FindingType,
    /// Hash of the provider and the selection of the run, 64 hex digits. Findings of one scope are
    /// resolved only by a run of the same scope.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub scope_key: String,
    /// State that the item should have.
    pub baseline: Baseline,
    /// State in which the difference was found.
    pub current: Current,
    /// The item.
    pub subject: Subject,
    /// How the item differs.
    pub change: Change,
    /// How much it matters.
    pub severity: Severity,
    /// Changed paths, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub evidence: Vec<Evidence>,
    /// Number of changed paths that are not in `evidence`, because there are too many.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub evidence_left_out: i64,
    /// Keyed hash over all changed paths and their values, 64 hex digits. It changes when the
    /// difference changes.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// That somebody has seen the finding and accepts it until it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// What was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FindingType {
    /// A difference between a baseline and a later state.
    #[default]
    Drift,
}

/// State that the item should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// The backup set, with the objects or an inventory of them.
    pub backup_set: ObjectReference,
    /// Snapshot of the set, 64 hex digits.
    #[schemars(length(max = 64))]
    pub snapshot: String,
    /// When the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub taken_at: Option<Timestamp>,
}

/// State in which a difference was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// The backup set that was compared; absent if the live objects were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// Run that found the difference first, or as it is now.
    pub run: ObjectReference,
}

/// The item that a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Provider of the item.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub provider: Provider,
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, as in manifests.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Uid of the current object, if there is one. It changes when the object is created again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// How an item differs from the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Change {
    /// The baseline does not hold it.
    Added,
    /// Only the baseline holds it.
    Removed,
    /// Its fields differ.
    #[default]
    Modified,
    /// It was deleted and created again. Its fields may differ as well.
    Replaced,
}

/// How much a finding matters. Ordered from the least to the most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// Labels and annotations.
    Low,
    /// All else.
    #[default]
    Medium,
    /// Rights and secrets.
    High,
}

/// One changed path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["path"]))]
pub struct Evidence {
    /// The path, as in previews: `spec.containers[web].image`.
    // Required by the schema. The operator reads a path that is too large as an empty one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Value in the baseline, as JSON; `hmac:…` for a secret value. Absent if there was none, or if
    /// values of the kind are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub before: Option<String>,
    /// Value now, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub after: Option<String>,
    /// Field manager that wrote the path last, as `metadata.managedFields` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub manager: Option<String>,
    /// `Apply` or `Update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub operation: Option<String>,
    /// When that manager wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Option<Timestamp>,
    /// The run of ours that wrote, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<LocalReference>,
    /// User who requested that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub initiator: Option<String>,
}

/// That somebody accepts a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["digest", "note"]))]
pub struct Acknowledged {
    /// Why.
    // Required by the schema. The operator does not read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 1024))]
    pub note: String,
    /// `spec.digest` of the finding that was seen. Admission refuses another one: the finding changed
    /// meanwhile. When the finding changes later, the acknowledgement stays and no longer counts.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// Who, as the API server knows them. Admission sets it, or refuses another value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Initiator>,
}

/// State of a finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FindingStatus {
    /// What runs saw. Written by the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// State of the finding. Written by the controller, as are the fields below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The last restore that put the item back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// When the controller first saw that the acknowledgement in `spec` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub acknowledged_at: Option<Timestamp>,
    /// Whether no run has confirmed the finding for `findings.staleAfter` of the chart, or its
    /// baseline is gone. Never of a resolved one.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub stale: bool,
    /// `Ready` is False with reason `Drifted` while the finding is new, with `Stalled`: it does not
    /// go away by itself. It is True with reason `Acknowledged` or `Resolved`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Generation that the controller has judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What runs saw of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// When the difference was first found. Kept when it goes and comes back.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub first_seen: Timestamp,
    /// When it was last found. Moves at most once an hour while nothing changes.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_seen: Timestamp,
    /// When a run found that the difference is gone. Absent while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub resolved_at: Option<Timestamp>,
    /// Run that wrote this.
    pub run: ObjectReference,
}

/// A restore that put the item of a finding back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The RestoreRun.
    pub restore_run: ObjectReference,
    /// When its run started. The finding is resolved unless a run finds the difference later.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Timestamp,
}

/// State of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Nobody has accepted it as it is now.
    #[default]
    New,
    /// Somebody has accepted it as it is now.
    Acknowledged,
    /// A run found that the difference is gone, or a restore put the item back.
    Resolved,
}

/// Name of the finding of a fingerprint, 64 hex digits.
#[must_use]
pub fn name(fingerprint: &str) -> String {
    format!("drift-{}", fingerprint.get(..32).unwrap_or(fingerprint))
}

impl Finding {
    /// Whether somebody accepts the difference as it is now.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.spec.acknowledged.as_ref().is_some_and(|acknowledged| acknowledged.digest == self.spec.digest)
    }

    /// Since when the difference is gone, if it is.
    #[must_use]
    pub fn resolved_at(&self) -> Option<Timestamp> {
        self.status.as_ref()?.resolved_at()
    }

    /// State of the finding, from its spec and what runs saw of it.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.resolved_at(), self.is_acknowledged()) {
            (Some(_), _) => State::Resolved,
            (None, true) => State::Acknowledged,
            (None, false) => State::New,
        }
    }
}

impl FindingStatus {
    /// Since when the difference is gone, if it is: a run found so, or a restore put the item back
    /// and no run has found the difference since.
    #[must_use]
    pub fn resolved_at(&self) -> Option<Timestamp> {
        let observed = self.observed.as_ref()?;
        let restored = self.restored.as_ref().map(|restored| restored.at).filter(|at| *at > observed.last_seen);
        observed.resolved_at.or(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn finding(acknowledged: &Value, resolved_at: &Value) -> Finding {
        let time = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "Finding", "metadata": {"name": "drift-0"},
            "spec": {"scopeKey": "a", "baseline": {"backupSet": {"name": "nightly", "uid": "u"}, "snapshot": "b"},
                "current": {"run": {"name": "drift", "uid": "u"}}, "subject": {"kind": "ConfigMap", "name": "web"},
                "change": "modified", "severity": "medium", "digest": "now", "acknowledged": acknowledged},
            "status": {"observed": {"firstSeen": time, "lastSeen": time, "resolvedAt": resolved_at,
                "run": {"name": "drift", "uid": "u"}}}
        }))
        .expect("a finding")
    }

    #[test]
    fn an_acknowledgement_counts_for_the_digest_that_it_names_and_what_is_gone_is_resolved() {
        let of = |digest: &str| json!({"note": "planned", "digest": digest});
        let (gone, open) = (json!("2026-01-02T00:00:00Z"), json!(null));
        for (acknowledged, resolved_at, state) in [
            (json!(null), &open, State::New),
            (of("now"), &open, State::Acknowledged),
            (of("before"), &open, State::New),
            (json!(null), &gone, State::Resolved),
            (of("now"), &gone, State::Resolved),
        ] {
            assert_eq!(finding(&acknowledged, resolved_at).state(), state, "{acknowledged} {resolved_at}");
        }
        let mut restored = finding(&of("now"), &open);
        for (at, state) in [("2026-01-01T00:00:01Z", State::Resolved), ("2026-01-01T00:00:00Z", State::Acknowledged)] {
            let status = restored.status.as_mut().expect("a status");
            status.restored =
                Some(Restored { restore_run: ObjectReference::default(), at: at.parse().expect("a time") });
            assert_eq!(restored.state(), state, "put back at {at}");
        }
        assert_eq!(
            Finding::new("drift-0", FindingSpec::default()).state(),
            State::New,
            "no run has said yet when it saw it"
        );
    }

    #[test]
    fn a_name_holds_half_of_the_fingerprint_and_the_kind_s_spelling_is_that_of_its_json() {
        let fingerprint = "0123456789abcdef".repeat(4);
        assert_eq!(name(&fingerprint), "drift-0123456789abcdef0123456789abcdef");
        assert_eq!(name("short"), "drift-short");
        for (code, value) in [
            (<&str>::from(State::Acknowledged), json!(State::Acknowledged)),
            (Severity::High.into(), json!(Severity::High)),
            (Change::Replaced.into(), json!(Change::Replaced)),
            (FindingType::Drift.into(), json!(FindingType::Drift)),
        ] {
            assert_eq!(value, code);
        }
        assert!(Severity::High > Severity::Medium && Severity::Medium > Severity::Low);
    }
}
