//! Coming to rest: everything is back, nothing new begins, all that was begun ends; then each repository is maintained
//! and checked once more, and the operator is watched doing nothing.

use crate::bed::Bed;
use crate::store::{Mode, Store};
use crate::tenant::Tenant;
use crate::witness::Witness;
use crate::{Result, audit, repository};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long what was begun may take: a Job that was killed often waits minutes before it is tried again, maintenance waits
/// ten minutes for others.
const ALL_ENDED: Duration = Duration::from_mins(20);

/// For so long the operator must write nothing.
const IDLE: Duration = Duration::from_mins(1);

/// What was found meanwhile.
pub struct Drained {
    /// By tenant: what is wrong with its repository.
    pub repositories: BTreeMap<String, Vec<String>>,
    pub idle_writes: Vec<String>,
    pub gaps: Vec<String>,
}

/// See the module's text.
pub async fn drain(bed: &Bed, store: &Store, tenants: &[Tenant], witness: &Witness) -> Result<Drained> {
    store.set(Mode::Through);
    store.revive().await?;
    bed.component(&["up"]).await?;
    for tenant in tenants {
        let schedule = Bed::ours(&tenant.namespace, "backupschedules/ticks");
        let main = Bed::ours(&tenant.namespace, "backuprepositories/main");
        let suspended = json!({ "spec": { "suspend": true } });
        bed.insist("a schedule is suspended", async || bed.merge(&schedule, &suspended).await).await?;
        let unmaintained = json!({ "spec": { "maintenance": null } });
        bed.insist("maintenance is switched off", async || bed.merge(&main, &unmaintained).await).await?;
    }
    let mut gaps = Vec::new();
    if let Err(error) = all_ended(bed, tenants, witness).await {
        gaps.push(error.to_string());
    }
    bed.log.say("everything has ended; each repository is maintained and checked once more");
    let mut repositories = maintain(bed, tenants).await?;
    let checks = tenants.iter().map(async |tenant| {
        let checked = repository::restic(&tenant.folder, &["check", "--read-data"]).await;
        (tenant.namespace.clone(), checked.err())
    });
    let checked: Vec<_> = futures::stream::iter(checks).buffer_unordered(2).collect().await;
    for (namespace, error) in checked {
        repositories.entry(namespace).or_default().extend(error.map(|error| error.to_string()));
    }
    bed.log.say("the operator is watched doing nothing");
    // What the last runs leave is written a moment later.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let idle_writes = idle_writes(bed).await?;
    Ok(Drained { repositories, idle_writes, gaps })
}

/// Waits until no run, restore, Job or pod is under way.
async fn all_ended(bed: &Bed, tenants: &[Tenant], witness: &Witness) -> Result<()> {
    bed.until("the end of everything", ALL_ENDED, async || {
        let mut open = Vec::new();
        for tenant in tenants {
            for plural in ["operationruns", "restoreruns"] {
                let path = format!("{}?fieldSelector=status.phase!=completed", Bed::ours(&tenant.namespace, plural));
                open.extend(names(&bed.get(&path).await?, &tenant.namespace));
            }
            let schedule = bed.get(&Bed::ours(&tenant.namespace, "backupschedules/ticks")).await?;
            let is_dealt_with =
                schedule["status"]["nextScheduledFor"].is_null() && schedule["status"]["active"].is_null();
            if !is_dealt_with {
                open.push(format!("{}/ticks", tenant.namespace));
            }
        }
        bed.log.note(&format!("{} are under way, {:?}", open.len(), witness.by_state()));
        open.truncate(10);
        Ok(if open.is_empty() { Ok(()) } else { Err(open.join(", ")) })
    })
    .await
}

fn names(list: &Value, namespace: &str) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| Some(format!("{namespace}/{}", item["metadata"]["name"].as_str()?))).collect()
}

/// One run of maintenance for each repository, which reads all data back. Returns what is wrong with each.
async fn maintain(bed: &Bed, tenants: &[Tenant]) -> Result<BTreeMap<String, Vec<String>>> {
    let run = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": { "name": "last" }, "spec": {
        "type": "repository.maintain", "inputs": { "repository": "main", "graceHours": 0, "readDataPercent": 100 } } });
    for tenant in tenants {
        bed.create(&Bed::ours(&tenant.namespace, "operationruns"), &run).await?;
    }
    let mut faults = BTreeMap::new();
    for tenant in tenants {
        let path = Bed::ours(&tenant.namespace, "operationruns/last");
        let ended = bed.until("the last maintenance", ALL_ENDED, async || {
            let run = bed.get(&path).await?;
            Ok(if run["status"]["phase"] == "completed" { Ok(run) } else { Err(run["status"].to_string()) })
        });
        let of_tenant = match ended.await {
            Ok(run) if run["status"]["reason"] == "CheckPassed" && run["status"]["outcome"] == "succeeded" => {
                Vec::new()
            }
            Ok(run) => vec![format!("maintenance ended as {}", run["status"])],
            Err(error) => vec![error.to_string()],
        };
        faults.insert(tenant.namespace.clone(), of_tenant);
    }
    Ok(faults)
}

/// What the operator writes within a minute, but for its Lease.
async fn idle_writes(bed: &Bed) -> Result<Vec<String>> {
    let from = Timestamp::now();
    tokio::time::sleep(IDLE).await;
    let operator = format!("system:serviceaccount:{}:", bed.settings.operator_namespace);
    let told = audit::read(&bed.settings.audit_log)?;
    let of_operator = told.writes.iter().filter(|write| write.at >= from && write.user.username.starts_with(&operator));
    let but_leases = of_operator.filter(|write| write.object_ref.resource != "leases");
    Ok(but_leases
        .map(|write| format!("{} {} {:?} at {}", write.verb, write.object_ref.resource, write.object(), write.at))
        .collect())
}
