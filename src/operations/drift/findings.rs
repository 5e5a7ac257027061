//! The findings of a scope, and how they become what a run found.
//!
//! Each write leaves a state from which the next attempt goes on: a finding has one name, and is
//! compared with what was found before it is written. A finding that was created or changed without
//! its status gets it from the next attempt.
//!
//! `spec.acknowledged` belongs to people and is never written.

use super::found::{Candidate, Rank};
use crate::{
    api::{
        Finding, FindingSpec, ObjectReference,
        finding::{self, Baseline, Change, Current, FindingType, MAX_FINDINGS, Observed, Severity, Subject},
        item::{GroupKind, ItemId},
        reason::worker as reason,
    },
    cluster::retry::retry,
    items::drift::fingerprint::fingerprint,
    worker::{
        environment::RunIdentity,
        failure::{Failure, api_failure},
        fence, pages,
        progress::FIELD_MANAGER,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Findings per page of a list.
const PAGE: u32 = 100;

/// Writes between two looks at the run: a cancelled one must not go on for long.
const FENCE_EVERY: usize = 100;

/// How old `lastSeen` of an unchanged finding becomes before it is written again.
const SEEN_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// The findings there are, as far as a run has to know them.
pub struct Known {
    api: Api<Finding>,
    scope_key: String,
    of_scope: BTreeMap<String, Existing>,
    /// Number of open findings of other scopes.
    open_elsewhere: usize,
}

/// One of them.
#[derive(Clone, Debug)]
struct Existing {
    uid: String,
    item: ItemId,
    digest: String,
    change: Change,
    severity: Severity,
    baseline: ObjectReference,
    /// Uid of the run that wrote what the finding says.
    written_by: String,
    observed: Option<Observed>,
    /// Whether a run has found that the difference is gone, or a restore has put the item back.
    resolved: bool,
    /// Whether this run has found the difference.
    found: bool,
    /// Whether this run has seen that there is none.
    same: bool,
}

impl Existing {
    fn of(finding: &Finding) -> Self {
        let FindingSpec { subject, digest, change, severity, baseline, current, .. } = &finding.spec;
        let mut item = ItemId::new(GroupKind::new(&subject.group, &subject.kind), &subject.name);
        item.provider = subject.provider.clone();
        Self {
            uid: finding.metadata.uid.clone().unwrap_or_default(),
            item,
            digest: digest.clone(),
            change: *change,
            severity: *severity,
            baseline: baseline.backup_set.clone(),
            written_by: current.run.uid.clone(),
            observed: finding.status.as_ref().and_then(|status| status.observed.clone()),
            resolved: finding.resolved_at().is_some(),
            found: false,
            same: false,
        }
    }

    fn is_open(&self) -> bool {
        !self.resolved
    }
}

/// What a run says of every finding.
pub struct Telling<'a> {
    /// The run.
    pub run: &'a RunIdentity,
    /// What it compared with.
    pub baseline: Baseline,
    /// What it compared.
    pub current: Current,
    /// The time.
    pub now: Timestamp,
}

/// How many findings changed their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Findings that were created.
    pub new: i64,
    /// Findings that were resolved and are open again.
    pub reopened: i64,
    /// Findings that were resolved.
    pub resolved: i64,
}

impl Known {
    /// Reads the findings of the tenant.
    pub async fn read(client: &Client, run: &RunIdentity, scope_key: &str) -> Result<Self, Failure> {
        let api: Api<Finding> = Api::namespaced(client.clone(), &run.namespace);
        let (mut of_scope, mut open_elsewhere) = (BTreeMap::new(), 0);
        let all = ListParams::default().limit(PAGE);
        pages::each(client, &run.namespace, "list the findings", all, |finding: Finding| {
            let existing = Existing::of(&finding);
            if finding.spec.scope_key == scope_key && name_of(scope_key, &existing.item) == finding.name_any() {
                of_scope.insert(finding.name_any(), existing);
            } else if existing.is_open() {
                open_elsewhere += 1;
            }
        })
        .await?;
        Ok(Self { api, scope_key: scope_key.to_owned(), of_scope, open_elsewhere })
    }

    /// How many open findings this scope may have.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_FINDINGS.saturating_sub(self.open_elsewhere)
    }

    /// The kinds of the open findings.
    pub fn kinds(&self) -> impl Iterator<Item = GroupKind> {
        self.of_scope.values().filter(|existing| existing.is_open()).map(|existing| existing.item.kind.clone())
    }

    /// Notes that an item differs.
    pub fn differs(&mut self, item: &ItemId) {
        if let Some(existing) = self.of_scope.get_mut(&name_of(&self.scope_key, item)) {
            existing.found = true;
        }
    }

    /// Notes that an item does not differ.
    pub fn is_same(&mut self, item: &ItemId) {
        if let Some(existing) = self.of_scope.get_mut(&name_of(&self.scope_key, item)) {
            existing.same = true;
        }
    }

    /// Writes what was found. `is_settled` is whether an item that was not found does not differ.
    pub async fn write(
        mut self,
        client: &Client,
        worst: BTreeMap<Rank, Candidate>,
        is_settled: impl Fn(&ItemId) -> bool,
        telling: &Telling<'_>,
    ) -> Result<Written, Failure> {
        let mut written = Written::default();
        let mut writes = 0;
        let shown: BTreeMap<String, (&ItemId, &Candidate)> =
            worst.iter().map(|((_, item), candidate)| (name_of(&self.scope_key, item), (item, candidate))).collect();
        // First those that worse ones displace, so that there are never too many.
        let displaced: Vec<(String, String)> = self
            .of_scope
            .iter()
            .filter(|(name, existing)| existing.found && existing.is_open() && !shown.contains_key(*name))
            .map(|(name, existing)| (name.clone(), existing.uid.clone()))
            .collect();
        for (name, uid) in displaced {
            pass(client, telling, &mut writes).await?;
            self.delete(&name, uid).await?;
        }
        for ((_, item), candidate) in &worst {
            let name = name_of(&self.scope_key, item);
            let existing = self.of_scope.remove(&name);
            self.show(client, &name, item, candidate, existing, telling, &mut written, &mut writes).await?;
        }
        for (name, existing) in &self.of_scope {
            if existing.found || !existing.is_open() || !(existing.same || is_settled(&existing.item)) {
                continue;
            }
            pass(client, telling, &mut writes).await?;
            let observed = existing.observed.as_ref();
            self.observe(name, &existing.uid, observed, Some(telling.now), telling).await?;
            written.resolved += 1;
        }
        Ok(written)
    }

    /// Makes the finding of an item what it should be.
    #[allow(clippy::too_many_arguments, reason = "one call")]
    async fn show(
        &self,
        client: &Client,
        name: &str,
        item: &ItemId,
        candidate: &Candidate,
        existing: Option<Existing>,
        telling: &Telling<'_>,
        written: &mut Written,
        writes: &mut usize,
    ) -> Result<(), Failure> {
        let found = &candidate.found;
        let mut changed = false;
        let existing = if let Some(existing) = existing {
            existing
        } else {
            pass(client, telling, writes).await?;
            match self.create(name, self.spec(item, candidate, telling)).await? {
                Some(created) => {
                    written.new += 1;
                    created
                }
                // Another run of the scope was faster.
                None => self.get(name).await?,
            }
        };
        if (&existing.digest, existing.change, existing.severity) != (&found.digest, found.change, found.severity)
            || existing.baseline.uid != telling.baseline.backup_set.uid
        {
            pass(client, telling, writes).await?;
            self.change(name, &existing.uid, &self.spec(item, candidate, telling)).await?;
            changed = true;
        }
        let observed = existing.observed.as_ref();
        let is_old = |observed: &Observed| telling.now.duration_since(observed.last_seen) >= SEEN_AGAIN;
        let reopens = existing.resolved;
        // An attempt of this run changed it, and died before it said that it has seen it.
        let own = &telling.run.run_uid;
        let is_unsaid = |observed: &Observed| existing.written_by == *own && observed.run.uid != *own;
        if changed || reopens || observed.is_none_or(|observed| is_old(observed) || is_unsaid(observed)) {
            pass(client, telling, writes).await?;
            self.observe(name, &existing.uid, observed, None, telling).await?;
            written.reopened += i64::from(reopens);
        }
        Ok(())
    }

    fn spec(&self, item: &ItemId, Candidate { found, uid }: &Candidate, telling: &Telling<'_>) -> FindingSpec {
        FindingSpec {
            finding_type: FindingType::Drift,
            scope_key: self.scope_key.clone(),
            baseline: telling.baseline.clone(),
            current: telling.current.clone(),
            subject: Subject {
                provider: item.provider.clone(),
                group: item.kind.group.clone(),
                kind: item.kind.kind.clone(),
                name: item.name.clone(),
                uid: uid.clone().filter(|uid| !uid.is_empty()),
            },
            change: found.change,
            severity: found.severity,
            evidence: found.evidence.clone(),
            evidence_left_out: i64::try_from(found.left_out).unwrap_or(i64::MAX),
            digest: found.digest.clone(),
            acknowledged: None,
        }
    }

    /// Creates a finding, unless there is one of its name.
    async fn create(&self, name: &str, spec: FindingSpec) -> Result<Option<Existing>, Failure> {
        let finding = Finding::new(name, spec);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match retry(|| self.api.create(&parameters, &finding)).await {
            Ok(created) => Ok(Some(Existing::of(&created))),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(api_failure(&format!("create the finding {name}"), &error)),
        }
    }

    async fn get(&self, name: &str) -> Result<Existing, Failure> {
        let found = retry(|| self.api.get_opt(name)).await;
        let found = found.map_err(|error| api_failure(&format!("read the finding {name}"), &error))?;
        found.as_ref().map(Existing::of).ok_or_else(|| meanwhile(name))
    }

    /// Writes what a finding says. What is absent is removed, except for the acknowledgement.
    async fn change(&self, name: &str, uid: &str, spec: &FindingSpec) -> Result<(), Failure> {
        let mut fields = serde_json::to_value(spec).unwrap_or_default();
        for (outer, field) in [
            ("", "evidence"),
            ("", "evidenceLeftOut"),
            ("subject", "uid"),
            ("current", "backupSet"),
            ("baseline", "takenAt"),
        ] {
            let map = if outer.is_empty() { &mut fields } else { &mut fields[outer] };
            if map[field].is_null() {
                map[field] = Value::Null;
            }
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "spec": fields}));
        let parameters = parameters();
        let done = retry(|| self.api.patch(name, &parameters, &patch)).await;
        done.map(drop).map_err(|error| refused(name, &error))
    }

    async fn observe(
        &self,
        name: &str,
        uid: &str,
        before: Option<&Observed>,
        resolved_at: Option<Timestamp>,
        telling: &Telling<'_>,
    ) -> Result<(), Failure> {
        let seen = resolved_at.and(before).map_or(telling.now, |before| before.last_seen);
        let first_seen = before.map_or(telling.now, |before| before.first_seen);
        let run = ObjectReference { name: telling.run.run.clone(), uid: telling.run.run_uid.clone() };
        let observed = json!({"firstSeen": first_seen, "lastSeen": seen, "resolvedAt": resolved_at, "run": run});
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": {"observed": observed}}));
        let parameters = parameters();
        let done = retry(|| self.api.patch_status(name, &parameters, &patch)).await;
        done.map(drop).map_err(|error| refused(name, &error))
    }

    async fn delete(&self, name: &str, uid: String) -> Result<(), Failure> {
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match retry(|| self.api.delete(name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(refused(name, &error)),
        }
    }
}

fn name_of(scope_key: &str, item: &ItemId) -> String {
    finding::name(&fingerprint(FindingType::Drift, scope_key, item))
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Looks at the run before the first write, and now and then.
async fn pass(client: &Client, telling: &Telling<'_>, writes: &mut usize) -> Result<(), Failure> {
    if writes.is_multiple_of(FENCE_EVERY) {
        fence::pass(client, telling.run).await?;
    }
    *writes += 1;
    Ok(())
}

/// Failure of a write to a finding. One that was deleted, or created again, is found the next time.
fn refused(name: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.is_not_found() || status.is_conflict() => meanwhile(name),
        error => api_failure(&format!("write the finding {name}"), error),
    }
}

fn meanwhile(name: &str) -> Failure {
    Failure::transient(
        reason::INTERRUPTED,
        format!("the finding {name} was deleted meanwhile: the next attempt finds what there is"),
    )
}
