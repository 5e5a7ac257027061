//! All reads of a restore's reconcile, from caches. The API server is asked once for the set, and
//! whenever a cache holds less than a decision needs, or its "not found" would be final.

use super::{
    account::{AccountView, needed},
    decide::{Observed, is_of, run_names},
    finding,
};
use crate::{
    api::{
        BackupSet, Finding, ObjectReference, RestoreRun, approval::ApprovedKind, audit_entry::AuditRecord,
        execution::ACCOUNTS, labels,
    },
    kernel::{Error, status, whole::whole},
    kinds::{
        approval,
        made_for::{self, RunView},
    },
    providers::kubernetes::access,
    runs::{context::Context, scheduled::created_late},
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt};
use std::sync::Arc;

/// Reads everything that a decision about the restore depends on.
pub async fn observe(context: &Context, restore: Arc<RestoreRun>) -> Result<Observed, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    // The queued object may be older than our own last write of it.
    let newer = context.restores.get(&namespace, &restore.name_any());
    let restore = newer.filter(|newer| newer.uid() == restore.uid()).unwrap_or(restore);
    // "Not a tenant" is final, and the watch may not have reported a namespace that was just labelled.
    let tenant = if restore.is_completed() {
        context.namespaces.get("", &namespace)
    } else {
        context.namespace(&namespace).await?
    };
    let terminating = tenant.as_ref().is_some_and(|tenant| tenant.metadata.deletion_timestamp.is_some());
    let tenant = tenant.filter(|tenant| tenant.labels().contains_key(labels::WORKSPACE));
    let mut observed = Observed {
        tenant_uid: tenant.and_then(|tenant| tenant.uid()),
        terminating,
        run: RunView::Gone,
        late: None,
        finding: None,
        set: None,
        repository: None,
        preview: None,
        approval: approval::Known::default(),
        rerun_of: None,
        account: AccountView::NotAsked,
        undo: None,
        audit: Vec::new(),
        restore: restore.clone(),
    };
    if restore.is_completed() || terminating {
        return Ok(observed);
    }
    let restore = whole(&Api::namespaced(context.client.clone(), &namespace), restore).await?;
    observed.restore = restore.clone();
    observed.run = run(context, &restore, &namespace).await?;
    match &observed.run {
        RunView::None(_) => {
            observed.late = created_late(context, &*restore).await?;
            let named = |name: &String| context.restores.get(&namespace, name);
            observed.preview = restore.spec.preview.as_ref().and_then(|preview| named(&preview.name));
            observed.approval = approval::observe::known(context, ApprovedKind::RestoreRun, &*restore).await?;
            observed.rerun_of = restore.spec.rerun_of.as_ref().and_then(|earlier| named(&earlier.name));
            observed.finding = finding_of(context, &restore, &namespace).await?;
            let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &namespace);
            let name = finding::backup_set(&restore.spec, observed.finding.as_ref(), observed.preview.as_deref());
            if let Some(name) = name {
                observed.set = sets.get_opt(name).await?;
            }
            let of_set = observed.set.as_ref().map(|set| set.spec.repository.name.as_str());
            if let Some(held) = of_set.and_then(|name| context.repositories.get(&namespace, name)) {
                let repositories = Api::namespaced(context.client.clone(), &namespace);
                observed.repository = Some(whole(&repositories, held).await?);
            }
            observed.account = account(context, &restore, &namespace).await?;
        }
        RunView::Taken => {}
        RunView::Found(run) if !run.is_completed() => {}
        RunView::Found(_) | RunView::Gone => {
            observed.undo = undo(context, &restore, &namespace, &observed.run).await?;
            observed.audit = audit(context, &restore, &namespace, &observed.run).await?;
            observed.finding = finding_of(context, &restore, &namespace).await?;
        }
    }
    Ok(observed)
}

/// The finding that a restore names, in full: a cached one has no item.
async fn finding_of(context: &Context, restore: &RestoreRun, namespace: &str) -> Result<Option<Finding>, Error> {
    let Some(reference) = &restore.spec.finding else { return Ok(None) };
    status::read(&Api::namespaced(context.client.clone(), namespace), &reference.name).await
}

/// The account that a restore names. Our own accounts are created on onboarding, with all their
/// rights, and a Job waits for them.
async fn account(context: &Context, restore: &RestoreRun, namespace: &str) -> Result<AccountView, Error> {
    let named = restore.spec.service_account_name.as_deref();
    let Some(name) = named.filter(|name| !restore.spec.dry_run && !ACCOUNTS.contains(name)) else {
        return Ok(AccountView::NotAsked);
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    if accounts.get_opt(name).await?.is_none() {
        return Ok(AccountView::Missing);
    }
    let user = access::service_account(namespace, name);
    let reviews = needed(restore.spec.safety_capture).map(|right| {
        let user = &user;
        async move {
            let allowed = access::may(&context.client, namespace, user, right.attributes()).await?;
            Ok::<_, Error>((!allowed).then_some(right))
        }
    });
    Ok(AccountView::Found { lacks: try_join_all(reviews).await?.into_iter().flatten().collect() })
}

/// The run of a restore: the recorded one, or one that was created before a crash.
async fn run(context: &Context, restore: &RestoreRun, namespace: &str) -> Result<RunView, Error> {
    made_for::run(context, namespace, recorded(restore), run_names(restore), |run| is_of(run, restore)).await
}

/// The run that a restore's status names.
fn recorded(restore: &RestoreRun) -> Option<ObjectReference> {
    restore.status.as_ref().and_then(|status| status.operation_run.clone())
}

/// The set that undoes a restore. It has the name of the restore's run.
async fn undo(
    context: &Context,
    restore: &RestoreRun,
    namespace: &str,
    run: &RunView,
) -> Result<Option<BackupSet>, Error> {
    if restore.spec.dry_run || !restore.spec.safety_capture {
        return Ok(None);
    }
    made_for::undo(context, namespace, run, recorded(restore).as_ref()).await
}

/// What the workers of a restore's run wrote to the audit chain. Previews write nothing to it.
async fn audit(
    context: &Context,
    restore: &RestoreRun,
    namespace: &str,
    run: &RunView,
) -> Result<Vec<AuditRecord>, Error> {
    if restore.spec.dry_run {
        return Ok(Vec::new());
    }
    made_for::audit(context, namespace, run, recorded(restore).as_ref()).await
}
