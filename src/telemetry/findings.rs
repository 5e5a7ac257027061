//! Metrics of findings: how many are open, and since when.
//!
//! They are counts over a tenant, so that the changed ones are counted anew at each change. What is
//! held of a finding for that is a row of about 60 bytes.

use crate::api::{
    Finding,
    finding::{Severity, State},
};
use kube::ResourceExt;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CountLabels {
    namespace: String,
    kind: String,
    severity: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgeLabels {
    namespace: String,
    state: &'static str,
}

/// What findings are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sort {
    kind: Arc<str>,
    severity: Severity,
    state: State,
}

/// An open finding.
struct Row {
    sort: Sort,
    /// When it was first seen, in seconds.
    first_seen: Option<i64>,
}

/// The open findings of a tenant, by a hash of their names.
#[derive(Default)]
struct Tenant {
    rows: HashMap<u64, Row>,
    counts: HashMap<Sort, i64>,
}

/// Metrics of the findings of all tenants.
#[derive(Clone, Default)]
pub(super) struct Findings {
    counts: Family<CountLabels, Gauge>,
    oldest: Family<AgeLabels, Gauge>,
    tenants: Arc<Mutex<HashMap<String, Tenant>>>,
    names: RandomState,
}

impl Findings {
    /// Creates the metrics.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "findings",
            "Findings that are not resolved, by kind of the item, severity and state",
            new.counts.clone(),
        );
        registry.register(
            "findings_oldest_timestamp_seconds",
            "When the oldest finding of a state was first seen",
            new.oldest.clone(),
        );
        new
    }

    /// Counts a finding as it is now.
    pub(super) fn put(&self, finding: &Finding) {
        let state = finding.status.as_ref().and_then(|status| status.state).unwrap_or_default();
        let observed = finding.status.as_ref().and_then(|status| status.observed.as_ref());
        self.change(finding, |tenant| {
            let (kind, severity) = (finding.spec.subject.kind.as_str(), finding.spec.severity);
            let kind = tenant
                .counts
                .keys()
                .find(|sort| &*sort.kind == kind)
                .map_or_else(|| kind.into(), |sort| sort.kind.clone());
            let first_seen = observed.map(|observed| observed.first_seen.as_second());
            (state != State::Resolved).then_some(Row { sort: Sort { kind, severity, state }, first_seen })
        });
    }

    /// Counts a deleted finding no more.
    pub(super) fn forget(&self, finding: &Finding) {
        self.change(finding, |_| None);
    }

    fn change(&self, finding: &Finding, row: impl FnOnce(&Tenant) -> Option<Row>) {
        let namespace = finding.namespace().unwrap_or_default();
        let key = self.names.hash_one(finding.name_any());
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenants.entry(namespace.clone()).or_default();
        let after = row(tenant);
        let sort_after = after.as_ref().map(|row| (row.sort.clone(), row.first_seen));
        let before = match after {
            Some(row) => tenant.rows.insert(key, row),
            None => tenant.rows.remove(&key),
        };
        let before = before.map(|row| (row.sort, row.first_seen));
        if before != sort_after {
            for (change, row) in [(-1, &before), (1, &sort_after)] {
                if let Some((sort, _)) = row {
                    self.count(&namespace, tenant, sort, change);
                }
            }
            let touched = [&before, &sort_after].into_iter().flatten().map(|(sort, _)| sort.state);
            for state in touched {
                self.date(&namespace, tenant, state);
            }
        }
        if tenant.rows.is_empty() {
            tenants.remove(&namespace);
        }
    }

    fn count(&self, namespace: &str, tenant: &mut Tenant, sort: &Sort, change: i64) {
        let labels = CountLabels {
            namespace: namespace.to_owned(),
            kind: sort.kind.to_string(),
            severity: sort.severity.into(),
            state: sort.state.into(),
        };
        let count = tenant.counts.entry(sort.clone()).or_default();
        *count += change;
        if *count > 0 {
            self.counts.get_or_create(&labels).set(*count);
        } else {
            tenant.counts.remove(sort);
            self.counts.remove(&labels);
        }
    }

    fn date(&self, namespace: &str, tenant: &Tenant, state: State) {
        let of_state = tenant.rows.values().filter(|row| row.sort.state == state);
        let labels = AgeLabels { namespace: namespace.to_owned(), state: state.into() };
        match of_state.filter_map(|row| row.first_seen).min() {
            Some(oldest) => {
                self.oldest.get_or_create(&labels).set(oldest);
            }
            None => {
                self.oldest.remove(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        FindingSpec, FindingStatus, ObjectReference,
        finding::{Observed, Subject},
    };
    use prometheus_client::encoding::text::encode;

    fn finding(name: &str, kind: &str, severity: Severity, state: State, first_seen: i64) -> Finding {
        let subject = Subject { kind: kind.into(), ..Subject::default() };
        let mut finding = Finding::new(name, FindingSpec { subject, severity, ..FindingSpec::default() });
        finding.metadata.namespace = Some("acme".into());
        let first_seen = jiff::Timestamp::from_second(first_seen).expect("a time");
        let run = ObjectReference::default();
        let observed = Some(Observed { first_seen, last_seen: first_seen, resolved_at: None, run });
        finding.status = Some(FindingStatus { observed, state: Some(state), ..FindingStatus::default() });
        finding
    }

    fn lines(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).expect("text");
        let mut lines: Vec<String> = text.lines().filter(|line| line.contains('{')).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn open_findings_are_counted_as_they_are_now_with_the_oldest_of_each_state_until_they_are_gone() {
        let mut registry = Registry::default();
        let metrics = Findings::new(&mut registry);
        let count = |kind: &str, severity: &str, state: &str, count: u8| {
            format!("findings{{namespace=\"acme\",kind=\"{kind}\",severity=\"{severity}\",state=\"{state}\"}} {count}")
        };
        let oldest = |state: &str, time: u16| {
            format!("findings_oldest_timestamp_seconds{{namespace=\"acme\",state=\"{state}\"}} {time}")
        };
        metrics.put(&finding("a", "Role", Severity::High, State::New, 300));
        metrics.put(&finding("b", "Role", Severity::High, State::New, 200));
        // The same once more, as after a restart of the watch.
        metrics.put(&finding("b", "Role", Severity::High, State::New, 200));
        metrics.put(&finding("c", "ConfigMap", Severity::Medium, State::New, 400));
        metrics.put(&finding("d", "ConfigMap", Severity::Medium, State::Resolved, 100));
        assert_eq!(
            lines(&registry),
            [oldest("new", 200), count("ConfigMap", "medium", "new", 1), count("Role", "high", "new", 2)]
        );
        metrics.put(&finding("b", "Role", Severity::High, State::Acknowledged, 200));
        assert_eq!(
            lines(&registry),
            [
                oldest("acknowledged", 200),
                oldest("new", 300),
                count("ConfigMap", "medium", "new", 1),
                count("Role", "high", "acknowledged", 1),
                count("Role", "high", "new", 1)
            ]
        );
        for name in ["a", "b", "c"] {
            metrics.put(&finding(name, "Role", Severity::High, State::Resolved, 200));
            metrics.forget(&finding(name, "Role", Severity::High, State::Resolved, 200));
        }
        assert_eq!(lines(&registry), Vec::<String>::new());
        assert!(metrics.tenants.lock().expect("rows").is_empty(), "nothing is held of tenants without findings");
    }
}
