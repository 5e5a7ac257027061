//! Brings together what the audit log, the watches, the objects and the repositories say, as the ledger's records.

use crate::audit::{self, Request};
use crate::bed::Bed;
use crate::ledger::{Entry, Job, Pod, Records, Restore, Run, Schedule, Set, Snapshot, Write};
use crate::log::lock;
use crate::tenant::Tenant;
use crate::witness::{Seen, Witness, worked};
use crate::{Result, repository};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use tenantatlas::api::{AuditEntry, BackupSchedule, BackupSet, OperationRun, audit_entry::AuditEvent, labels};
use tenantatlas::audit::{Metadata, Tip, verify};

/// Tenants' kinds by the resource that the audit log names.
const KINDS: [(&str, &str); 7] = [
    ("configmaps", "core/ConfigMap"),
    ("secrets", "core/Secret"),
    ("services", "core/Service"),
    ("serviceaccounts", "core/ServiceAccount"),
    ("persistentvolumeclaims", "core/PersistentVolumeClaim"),
    ("deployments", "apps/Deployment"),
    ("rolebindings", "rbac.authorization.k8s.io/RoleBinding"),
];

/// Accounts that act on tenants' objects.
const ACTING: [&str; 2] = ["tenantatlas-restore", "tenantatlas-preview"];

/// See the module's text.
pub async fn gather(bed: &Bed, tenants: &[Tenant], witness: &Witness) -> Result<Records> {
    let told = audit::read(&bed.settings.audit_log)?;
    let mut records = Records { outages: bed.log.outages(), planned: lock(&bed.planned).clone(), ..Records::default() };
    if audit::files(&bed.settings.audit_log)?.len() > 10 {
        records.gaps.push("the oldest part of the audit log was deleted: it grew beyond its bound".to_owned());
    }
    let there: Vec<OperationRun> = list(bed, None).await?;
    let seen = witness.seen();
    records.runs = runs(&told.writes, &seen, &there);
    records.jobs = jobs(&told.writes);
    records.pods = pods(&seen);
    records.restores = restores(&seen);
    records.writes = writes(&told.writes);
    for write in &told.writes {
        if write.is("create", "backupsets", "") {
            *records.sets_made.entry(write.object()).or_default() += 1;
        }
        if write.is("delete", "backupsets", "") {
            records.sets_deleted.insert(write.object());
        }
    }
    let written: HashMap<_, _> = told
        .writes
        .iter()
        .filter(|write| write.is("create", "auditentries", ""))
        .map(|write| (write.object(), write.at))
        .collect();
    for tenant in tenants {
        of_tenant(bed, tenant, &written, &mut records).await?;
    }
    Ok(records)
}

/// What is there of one tenant.
async fn of_tenant(
    bed: &Bed,
    tenant: &Tenant,
    written: &HashMap<(String, String), Timestamp>,
    records: &mut Records,
) -> Result<()> {
    let namespace = tenant.namespace.clone();
    let sets: Vec<BackupSet> = list(bed, Some(&namespace)).await?;
    records.sets.extend(sets.into_iter().map(|set| Set {
        namespace: namespace.clone(),
        name: set.name_any(),
        run: set.spec.run.uid,
        snapshot: set.spec.snapshot,
    }));
    let schedules: Vec<BackupSchedule> = list(bed, Some(&namespace)).await?;
    records.schedules.extend(schedules.into_iter().map(|schedule| {
        let status = schedule.status.clone().unwrap_or_default();
        Schedule {
            namespace: namespace.clone(),
            name: schedule.name_any(),
            uid: schedule.uid().unwrap_or_default(),
            every: tenant.every,
            rest: tenant.rest(),
            created: schedule.metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            last: status.last_scheduled_for,
            missed: status.missed.map_or(0, |missed| missed.count),
        }
    }));
    let leases = bed.get(&format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")).await?;
    let leases = leases["items"].as_array().cloned().unwrap_or_default();
    records
        .leases
        .extend(leases.iter().map(|lease| format!("{namespace}: {} {}", lease["metadata"]["name"], lease["spec"])));

    let mut tips = Vec::new();
    match repository::snapshots(&tenant.folder).await {
        Ok(snapshots) => {
            for (id, tags) in snapshots {
                let tagged = |begin: &str| tags.iter().find_map(|tag| Some(tag.strip_prefix(begin)?.to_owned()));
                tips.extend(tagged("audit=").and_then(|tip| Tip::from_str(&tip).ok()));
                records.snapshots.push(Snapshot { namespace: namespace.clone(), id, run: tagged("run=") });
            }
        }
        Err(error) => records.gaps.push(format!("{namespace}: {error}")),
    }
    let entries: Vec<AuditEntry> = list(bed, Some(&namespace)).await?;
    let texts = entries.iter().map(|entry| tenantatlas::audit::Entry {
        metadata: Metadata { name: entry.name_any(), namespace: namespace.clone() },
        spec: serde_json::to_value(&entry.spec).unwrap_or_default(),
    });
    let texts: Vec<_> = texts.collect();
    records.chain_faults.extend(verify(&namespace, &texts, &tips).iter().map(|fault| format!("{namespace}: {fault}")));
    records.entries.extend(entries.into_iter().map(|entry| Entry {
        at: written.get(&(namespace.clone(), entry.name_any())).copied(),
        namespace: namespace.clone(),
        is_intent: entry.spec.event == AuditEvent::Intent,
        run: entry.spec.run.uid,
    }));
    Ok(())
}

/// Runs that were accepted, by any witness.
fn runs(writes: &[Request], seen: &Seen, there: &[OperationRun]) -> Vec<Run> {
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    let mut deleted: HashMap<(String, String), Vec<(Timestamp, String)>> = HashMap::new();
    let mut created: HashMap<String, Timestamp> = HashMap::new();
    for write in writes {
        if write.is("create", "operationruns", "") {
            if let Ok(run) = serde_json::from_value::<OperationRun>(write.answer.clone()) {
                created.insert(run.uid().unwrap_or_default(), write.at);
                add(&mut runs, &run);
            }
        } else if write.is("delete", "operationruns", "") {
            deleted.entry(write.object()).or_default().push((write.at, write.user.username.clone()));
        } else if write.is("patch", "operationruns", "status") {
            let (status, uid) = (&write.body["status"], &write.body["metadata"]["uid"]);
            if status["phase"] == "completed" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let run = runs.entry(text(uid)).or_default();
                run.ends.insert((text(&status["outcome"]), text(&status["reason"])));
                run.ends_written += 1;
            }
        }
    }
    seen.runs.values().for_each(|run| add(&mut runs, run));
    for (uid, ends) in &seen.ends {
        runs.entry(uid.clone()).or_default().ends.extend(ends.iter().cloned());
    }
    for (uid, joined) in &seen.joined {
        runs.entry(uid.clone()).or_default().joined = Some(joined.clone());
    }
    for run in there {
        add(&mut runs, run);
        if let Some(run) = runs.get_mut(&run.uid().unwrap_or_default()) {
            run.is_there = true;
        }
    }
    for (uid, run) in &mut runs {
        run.uid.clone_from(uid);
        let of_name = deleted.get(&(run.namespace.clone(), run.name.clone())).into_iter().flatten();
        let since = created.get(uid);
        let mut by = of_name.filter(|(at, _)| !run.is_there && since.is_none_or(|since| at > since));
        run.deleted_by = by.next().map(|(_, who)| who.clone());
    }
    runs.into_values().collect()
}

/// What one state of a run says.
fn add(runs: &mut BTreeMap<String, Run>, of: &OperationRun) {
    let run = runs.entry(of.uid().unwrap_or_default()).or_default();
    run.namespace = of.namespace().unwrap_or_default();
    run.name = of.name_any();
    run.operation.clone_from(&of.spec.operation_type);
    run.tick =
        tenantatlas::api::backup_schedule::origin(of).and_then(|origin| Some((origin.uid, origin.scheduled_for?)));
    let Some(status) = &of.status else { return };
    if of.is_completed() {
        run.ends.insert((status.outcome.as_str().to_owned(), status.reason.clone().unwrap_or_default()));
        run.completed_at = status.completed_at;
        run.set.clone_from(&status.context.backup_set);
    }
}

fn jobs(writes: &[Request]) -> Vec<Job> {
    let made = writes.iter().filter(|write| write.is("create", "jobs", "") && write.object_ref.name.starts_with("op-"));
    let job = |write: &Request| {
        let (namespace, name) = write.object();
        let run = &write.body["metadata"]["labels"][labels::RUN_UID];
        Job { namespace, name, run: run.as_str().unwrap_or_default().to_owned(), at: write.at }
    };
    made.map(job).collect()
}

fn pods(seen: &Seen) -> Vec<Pod> {
    let pod = |pod: &k8s_openapi::api::core::v1::Pod| {
        let label = |name| pod.labels().get(name).cloned().unwrap_or_default();
        let (started, ran_until) = worked(pod);
        Pod {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            run: label(labels::RUN_UID),
            identity: label(labels::IDENTITY),
            started,
            ran_until,
        }
    };
    seen.pods.values().map(pod).collect()
}

fn restores(seen: &Seen) -> Vec<Restore> {
    let restore = |restore: &tenantatlas::api::RestoreRun| {
        let status = restore.status_or_default();
        let outcome = restore.is_completed().then(|| status.outcome.as_str().to_owned());
        Restore {
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            is_preview: restore.spec.dry_run,
            preview: restore.spec.preview.as_ref().map(|preview| preview.name.clone()),
            outcome,
            reason: status.failure_reason,
            digest: status.plan_digest,
            run: status.operation_run.map(|run| run.uid),
            completed_at: status.completed_at,
        }
    };
    seen.restores.values().map(restore).collect()
}

/// What accounts of restores and previews wrote to tenants' objects.
fn writes(writes: &[Request]) -> Vec<Write> {
    let acted = writes.iter().filter_map(|write| {
        let of_namespace = write.user.username.strip_prefix("system:serviceaccount:")?;
        let (_, account) = of_namespace.split_once(':')?;
        let object = &write.object_ref;
        let is_ours =
            matches!(object.api_group.as_str(), "tenantatlas.io" | "coordination.k8s.io" | "authorization.k8s.io");
        if !ACTING.contains(&account) || is_ours || object.namespace.is_empty() {
            return None;
        }
        let kind = KINDS.iter().find(|(plural, _)| *plural == object.resource).map(|(_, kind)| (*kind).to_owned());
        let kind = kind.unwrap_or_else(|| format!("{}/{}", object.api_group, object.resource));
        Some(Write {
            namespace: object.namespace.clone(),
            account: account.to_owned(),
            pod: write.pod().unwrap_or_default().to_owned(),
            item: format!("{kind}/{}", object.name),
            at: write.at,
        })
    });
    acted.collect()
}

/// All objects of a kind, in a namespace or everywhere.
async fn list<K>(bed: &Bed, namespace: Option<&str>) -> Result<Vec<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let client = bed.client.clone();
    let api: Api<K> =
        namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    bed.insist("a list", async || Ok(api.list(&ListParams::default()).await?.items)).await
}
