//! What a restore is to do: its RestoreRun and BackupSet as stored, and whether they are meant for
//! this pod.

use crate::{
    api::reason::restore as reason,
    api::{
        BackupSet, LocalReference, ObjectReference, RestoreRun,
        approval::Consent,
        backup_set::Coverage,
        execution::RESTORE_ACCOUNT,
        item::ItemId,
        operation_report::ItemOutcome,
        operations::{BaselineItem, RestoreInputs},
        subject::Initiator,
    },
    cluster::retry::retry,
    items::{
        eligible::{self, Ineligible, PreviewedPlan},
        plan::Terms,
        selection::ItemSelection,
        transform::Transforms,
    },
    operations::{
        approval,
        bulk::access::REMEDY,
        intent::not_begun,
        restore::{claim, stored_plan},
    },
    repository::Repository,
    worker::{
        audit,
        environment::Environment,
        failure::{Failure, api_failure},
        report,
    },
};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// What a plan is made for.
#[derive(Clone, Debug)]
pub enum Cause {
    /// A restore.
    Restore {
        /// The RestoreRun.
        restore_run: ObjectReference,
        /// The set to restore from.
        backup_set: LocalReference,
    },
    /// A bulk operation that deletes. There is no snapshot.
    Deletion {
        /// The BulkOperationRun.
        bulk_operation_run: ObjectReference,
        /// What is done, in words.
        change: String,
    },
}

impl Cause {
    /// What to do if a right is missing.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Restore { .. } => "have a role given that allows it, or exclude the kind with excludeItems",
            Self::Deletion { .. } => REMEDY,
        }
    }
}

/// A restore or a deletion, as read from the API server.
#[derive(Clone, Debug)]
pub struct Order {
    /// What it is for.
    pub cause: Cause,
    /// The terms that become part of the plan.
    pub terms: Terms,
    /// The selected items.
    pub selection: ItemSelection,
    /// The parsed transforms.
    pub transforms: Transforms,
    /// Whether the set holds a whole tenant, so that objects missing from it did not exist.
    pub full: bool,
    /// Items that did not exist when the set was captured, as far as the set itself names them; or
    /// the items to delete.
    pub absent: Vec<ItemId>,
    /// Number of such items that the snapshot names instead.
    pub absent_in_snapshot: Option<i64>,
    /// The requester.
    pub requested_by: Initiator,
    /// The account that writes.
    pub account: String,
    /// The plan to execute, if a preview made it.
    pub preview: Option<PreviewedPlan>,
    /// The approval of that plan, if one was needed.
    pub approval: Option<Consent>,
    /// Whether to capture what is about to change first.
    pub safety_capture: bool,
}

/// Reads the inputs. Call this before anything is opened.
pub fn read_inputs(environment: &Environment) -> Result<RestoreInputs, Failure> {
    let inputs: RestoreInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    Ok(inputs)
}

/// Reads what to do. `previews` is whether the worker only previews.
pub async fn read(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    inputs: &RestoreInputs,
    previews: bool,
) -> Result<Order, Failure> {
    let namespace = &environment.identity.namespace;
    let restore = claim::take(client, environment, inputs, previews).await?;
    let restores: Api<RestoreRun> = Api::namespaced(client.clone(), namespace);
    let named = restore.spec.backup_set.as_ref().map(|set| set.name.as_str());
    let of_finding = inputs.finding.as_ref().filter(|_| restore.spec.finding.is_some());
    let name = of_finding.map(|finding| finding.backup_set.as_str()).or(named).unwrap_or_default();
    let set = find_set(client, environment, name).await?;
    let previewed = match &restore.spec.preview {
        None => None,
        Some(preview) => find(&restores, &preview.name).await?,
    };
    let mut order = decide(environment, &restore, of_finding, &set, previewed.as_ref())?;
    let digest = order.preview.as_ref().map(|plan| plan.digest.as_str());
    if let Err(failure) = approval::expect_plan(inputs.plan_digest.as_deref(), inputs.approval.as_ref(), digest) {
        // An earlier attempt may have written, so that it is not true that nothing was done.
        let begun = audit::has_intent(client, &environment.identity).await.map_err(|failure| not_begun(&failure))?;
        return Err(if begun { plan_lost() } else { failure });
    }
    order.approval.clone_from(&inputs.approval);
    // A plan made by a preview holds exactly what the preview selected.
    let terms = previewed.as_ref().unwrap_or(&restore);
    if let Some(LocalReference { name }) = &terms.spec.rerun_of {
        let earlier = find(&restores, name).await?.and_then(|earlier| earlier.status?.operation_run);
        let failed = match earlier {
            Some(run) => failed_items(client, repository, namespace, &run).await?,
            None => BTreeSet::new(),
        };
        if failed.is_empty() {
            let message = format!(
                "nothing failed in the restore {name}, or its results are gone: create a restore without spec.rerunOf"
            );
            return Err(Failure::blocked(reason::NOTHING_SELECTED, message));
        }
        order.selection = order.selection.within(failed);
    }
    Ok(order)
}

fn plan_lost() -> Failure {
    let message = "look at what an earlier attempt of the run did, and create a new restore for the rest: the preview that it applied was replaced meanwhile";
    Failure::permanent(reason::PLAN_LOST, message)
}

/// Reads a backup set of the pod's namespace.
pub async fn find_set(client: &Client, environment: &Environment, name: &str) -> Result<BackupSet, Failure> {
    let sets: Api<BackupSet> = Api::namespaced(client.clone(), &environment.identity.namespace);
    find(&sets, name).await?.ok_or_else(|| no_set(name))
}

/// Failure for a backup set that does not exist.
#[must_use]
pub fn no_set(name: &str) -> Failure {
    let message = format!("there is no backup set {name}: `kubectl get backupsets` lists those there are");
    Failure::blocked(reason::BACKUP_SET_NOT_FOUND, message)
}

/// Items that failed in an earlier restore.
async fn failed_items(
    client: &Client,
    repository: &impl Repository,
    namespace: &str,
    run: &ObjectReference,
) -> Result<BTreeSet<ItemId>, Failure> {
    let (results, all) = report::read_results(client, namespace, run).await?;
    if !all && let Some(failed) = stored_plan::failed(repository, &run.uid).await? {
        return Ok(failed.into_iter().collect());
    }
    let failed = results.into_iter().filter(|result| result.outcome == ItemOutcome::Failed);
    Ok(failed.filter_map(|result| ItemId::of_object(&result.item_id).ok()).collect())
}

async fn find<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let doing = || format!("read the {} {name}", K::kind(&()));
    retry(|| api.get_opt(name)).await.map_err(|error| api_failure(&doing(), &error))
}

/// Whether and how the set may be restored here. `item` is that of the finding, if the restore is of
/// one.
pub fn decide(
    environment: &Environment,
    restore: &RestoreRun,
    item: Option<&BaselineItem>,
    set: &BackupSet,
    previewed: Option<&RestoreRun>,
) -> Result<Order, Failure> {
    expect_own(environment, set)?;
    eligible::holds_objects(set).map_err(blocked)?;
    let requested_by = eligible::requester(&restore.spec).map_err(blocked)?.clone();
    let preview = eligible::previewed_plan(&restore.spec, previewed).map_err(blocked)?;
    // The preview defines what to do. The requester and the account are those of this restore.
    let spec = &previewed.unwrap_or(restore).spec;
    let (mut selection, transforms) = eligible::terms(spec).map_err(blocked)?;
    if restore.spec.finding.is_some() != item.is_some() {
        let message =
            "the run and its restore do not agree on whether the item of a finding is put back: create a new restore";
        return Err(Failure::blocked(reason::INVALID_RESTORE, message));
    }
    let item = item.map(|item| ItemId::of_object(&item.item)).transpose().map_err(|error| {
        Failure::blocked(reason::INVALID_RESTORE, format!("inputs.finding.item: {error}: create a new restore"))
    })?;
    if let Some(item) = &item {
        // Not by a selector: a `*` in the name would select others.
        selection = selection.within(BTreeSet::from([item.clone()]));
    }
    let absent = set.spec.absent.iter().map(|text| ItemId::of_object(text)).collect::<Result<_, _>>();
    let absent = absent.map_err(|error| {
        let name = set.name_any();
        let message = format!("spec.absent of the backup set {name}: {error}: correct it in a new restore");
        Failure::blocked(reason::INVALID_RESTORE, message)
    })?;
    let cause =
        Cause::Restore { restore_run: ObjectReference::of(restore), backup_set: LocalReference::new(set.name_any()) };
    Ok(Order {
        cause,
        terms: Terms::new(spec, item.as_ref(), set.spec.snapshot.clone()),
        selection,
        transforms,
        full: set.spec.coverage == Coverage::Full,
        absent,
        absent_in_snapshot: set.spec.absent_in_snapshot,
        requested_by,
        account: restore.spec.service_account_name.clone().unwrap_or_else(|| RESTORE_ACCOUNT.to_owned()),
        preview,
        approval: None,
        safety_capture: restore.spec.safety_capture,
    })
}

/// Fails unless a set belongs to this tenant and to this pod's repository.
pub fn expect_own(environment: &Environment, set: &BackupSet) -> Result<(), Failure> {
    let in_repository = &set.spec.repository.name;
    if *in_repository != environment.repository {
        let message = format!(
            "the backup set {} is in the repository {in_repository}, but the pod was given {}",
            set.name_any(),
            environment.repository
        );
        return Err(Failure::blocked(reason::FOREIGN_BACKUP_SET, message));
    }
    eligible::own_set(set, &environment.namespace_uid, Some(&environment.repository_spec)).map_err(blocked)
}

fn blocked(Ineligible { reason, message }: Ineligible) -> Failure {
    Failure::blocked(reason.as_str(), message)
}
