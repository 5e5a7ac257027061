//! `OperationType`: its status says whether runs of it can be started, before anybody starts one.

pub mod decide;

use crate::{
    api::OperationType,
    controller::{Context, Error, status},
};
use kube::{Api, Resource};
use std::{sync::Arc, time::Duration};

/// One pass over one type; when to look again though nothing happens.
pub async fn reconcile(operation_type: Arc<OperationType>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let before = operation_type.status.clone().unwrap_or_default();
    let after = decide::status(&operation_type, context.clock.now());
    let api = Api::all(context.client.clone());
    // It holds for the version that was looked at alone.
    let version = operation_type.meta().resource_version.clone();
    status::write(&api, &context.types, &operation_type, version, &before, &after).await?;
    Ok(None)
}
