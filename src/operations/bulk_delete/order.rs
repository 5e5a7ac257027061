//! A deletion of many objects as the order of a plan: everything it names is to be absent.

use crate::{
    api::{ObjectReference, Reason, execution::RESTORE_ACCOUNT, item::ItemId, result::truncate},
    items::{
        bulk, eligible::Ineligible, plan::Terms, selection::ItemSelection, served::ServedKind, transform::Transforms,
    },
    operations::{
        bulk::{MAX_CHANGE, access::hidden, blocked, order::Order as Asked, selected::find, survey::served},
        restore::order::{Cause, Order},
    },
    providers::Provider,
    worker::{
        environment::Environment,
        failure::{Failure, call_failure},
    },
};

/// The terms of the plan. Fails if the pod was given another repository than the bulk operation names.
pub fn terms(environment: &Environment, asked: &Asked) -> Result<Terms, Failure> {
    let bulk::Deletion { repository, terms } = bulk::deletion(&asked.asked).map_err(blocked)?;
    if repository != environment.repository {
        let message = format!(
            "spec.options.repository is {repository}, but the pod was given {}: create a new bulk operation",
            environment.repository
        );
        return Err(blocked(invalid(message)));
    }
    Ok(terms)
}

/// The objects that the bulk operation means now.
pub async fn objects(provider: &dyn Provider, asked: &Asked) -> Result<Vec<ItemId>, Failure> {
    let requested_by = bulk::requester(&asked.bulk.spec).map_err(blocked)?;
    let kind = expect_served(provider, asked).await?;
    let users = [requested_by, &provider.account(RESTORE_ACCOUNT)];
    let hidden = hidden(provider, users, &kind, asked.asked.label_selector.is_some()).await?;
    let names = find(provider, &asked.asked, &kind, hidden.as_deref()).await?;
    Ok(names.into_iter().map(|name| ItemId::new(kind.group_kind(), name)).collect())
}

/// The kind of the objects. Fails if the cluster does not serve it.
pub async fn expect_served(provider: &dyn Provider, asked: &Asked) -> Result<ServedKind, Failure> {
    let catalog = provider.catalog().await;
    let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
    served(&catalog, &asked.asked)
}

/// The order of a plan that deletes these objects and does nothing else. The rights that count are
/// those of the author of this bulk operation, not of the preview that it applies.
pub fn deletion(asked: &Asked, terms: Terms, objects: Vec<ItemId>) -> Result<Order, Failure> {
    Ok(Order {
        cause: Cause::Deletion {
            bulk_operation_run: ObjectReference::of(&asked.bulk),
            change: truncate(&bulk::in_words(&asked.asked), MAX_CHANGE),
        },
        terms,
        selection: ItemSelection::default(),
        transforms: Transforms::default(),
        full: false,
        absent: objects,
        absent_in_snapshot: None,
        requested_by: bulk::requester(&asked.bulk.spec).map_err(blocked)?.clone(),
        account: RESTORE_ACCOUNT.to_owned(),
        preview: asked.previewed.clone(),
        approval: asked.approval.clone(),
        safety_capture: true,
    })
}

/// A bulk operation that cannot be done as it is.
pub fn invalid(message: impl Into<String>) -> Ineligible {
    Ineligible { reason: Reason::InvalidBulkOperation, message: message.into() }
}
