//! `Workspace`: its status counts its tenants, and names those that need attention. What it limits is
//! checked when a run starts (`src/runs/workspace.rs`).

pub mod decide;
pub mod observe;

use crate::{
    api::Workspace,
    kernel::{Error, status},
    runs::context::Context,
};
use kube::Api;
use std::{sync::Arc, time::Duration};

/// How often tenants are counted again. Their repositories and runs wake no workspace: with ten
/// thousand tenants, each event would be a count of all.
const AGAIN: Duration = Duration::from_mins(1);

/// Reconciles one workspace. Returns when to requeue it without an event.
pub async fn reconcile(workspace: Arc<Workspace>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, workspace);
    let before = observed.workspace.status.clone().unwrap_or_default();
    let after = decide::status(&observed, context.clock.now());
    let api = Api::all(context.client.clone());
    status::write(&api, &*observed.workspace, &before, &after, |written| context.workspaces.wrote(written)).await?;
    Ok(Some(AGAIN))
}
