//! `OperationType`: its status says whether runs of the type can be started, before a user starts
//! one.

pub mod decide;

use crate::{
    api::OperationType,
    kernel::{Error, status},
    runs::context::Context,
};
use kube::Api;
use std::{sync::Arc, time::Duration};

/// Reconciles one type. Returns when to requeue it without an event.
pub async fn reconcile(operation_type: Arc<OperationType>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let before = operation_type.status.clone().unwrap_or_default();
    let after = decide::status(&operation_type, context.clock.now());
    let api = Api::all(context.client.clone());
    status::write(&api, &*operation_type, &before, &after, |written| context.types.wrote(written)).await?;
    Ok(None)
}
