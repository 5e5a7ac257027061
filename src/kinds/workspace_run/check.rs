//! What is known before anything is created: refuses what cannot be done in any tenant. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decide::{Earlier, Observed},
    orders,
    plan::Selectors,
    source::{expect_usable, is_same},
};
use crate::{
    api::{Reason, Workspace, WorkspaceRun, result::truncate, workspace_run::What},
    items::{
        bulk,
        eligible::{self, Ineligible},
    },
    kernel::{refusal::Refusal, whole::too_large},
    runs::prepare::expect_startable,
};
use kube::ResourceExt;

/// Refuses what cannot be done in any tenant.
pub fn expect_possible(observed: &Observed, started: bool) -> Result<Selectors, Refusal> {
    let run = &observed.run;
    if let Some(refusal) = too_large(&**run) {
        return Err(refusal);
    }
    let selectors = Selectors::parse(run)?;
    if started {
        return Ok(selectors);
    }
    if run.spec.requested_by.is_none() {
        let message = "spec.requestedBy is empty, so that it is not known who starts the runs: admission sets it; where that is off, state it in a new workspace run";
        return Err(Refusal::new(Reason::NoRequester, message));
    }
    if let Some(other) = &observed.duplicate {
        let message = format!(
            "workspace run {other} does the same work and is not completed: wait for it, or cancel it with `kubectl patch workspacerun {other} --type=merge -p '{{\"spec\":{{\"cancel\":true}}}}'`, then create a new one"
        );
        return Err(Refusal::new(Reason::DuplicateRun, message));
    }
    if let Some(allows) = observed.workspace.as_deref().and_then(|workspace| not_allowed(run, workspace)) {
        return Err(allows);
    }
    expect_order(observed)?;
    expect_rerun(run, &observed.earlier)?;
    expect_usable(run, &observed.source, &observed.tenants)?;
    Ok(selectors)
}

/// Refuses what would be refused in each tenant.
fn expect_order(observed: &Observed) -> Result<(), Refusal> {
    let run = &observed.run;
    let refusal = |Ineligible { reason, message }| Refusal { reason, message };
    match (run.what(), &run.spec.preview) {
        (Some(What::Operation(operation)), _) => {
            let one = orders::of_type(observed, operation, "");
            expect_startable(&one, observed.operation_type.as_ref())
        }
        (Some(What::Bulk(template)), None) => {
            let one = orders::bulk(run, template, orders::repository(observed));
            bulk::expect_possible(&one).map_err(refusal)
        }
        (Some(What::Restore(template)), None) => {
            eligible::terms(&orders::restore(run, template)).map(drop).map_err(refusal)
        }
        (Some(What::Bulk(_) | What::Restore(_) | What::Undo(_)), _) => Ok(()),
        (None, _) => {
            let message = "say what is done in each tenant: exactly one of spec.operation, spec.bulk, spec.restore and spec.undoOf";
            Err(Refusal::new(Reason::InvalidWorkspaceRun, message))
        }
    }
}

fn not_allowed(run: &WorkspaceRun, workspace: &Workspace) -> Option<Refusal> {
    let operation_type = run.operation_type();
    let message = format!(
        "run another type, or add it to spec.allowedTypes of workspace {}: that has no {operation_type}",
        workspace.name_any()
    );
    (!workspace.spec.allows(operation_type)).then(|| Refusal::new(Reason::NotAllowedByWorkspace, message))
}

fn expect_rerun(run: &WorkspaceRun, earlier: &Earlier) -> Result<(), Refusal> {
    let name = run.spec.rerun_of.as_ref().map(|reference| reference.name.as_str()).unwrap_or_default();
    let impossible =
        |why: &str| Refusal::new(Reason::RerunNotPossible, format!("spec.rerunOf: workspace run {name} {why}"));
    match earlier {
        Earlier::Missing => {
            Err(impossible("does not exist: leave rerunOf out, or name one of `kubectl get workspaceruns`"))
        }
        Earlier::Found { named: Some(earlier), .. } if !earlier.is_completed() => {
            Err(impossible("is not completed: wait for it, or cancel it, then create a new workspace run"))
        }
        Earlier::Found { named: Some(earlier), .. }
            if earlier.spec.workspace != run.spec.workspace || !is_same(run, earlier) =>
        {
            Err(impossible("is of another workspace, or did something else: name one that did the same"))
        }
        Earlier::NotAsked | Earlier::Found { .. } => Ok(()),
    }
}

/// What is said if no tenant is taken.
#[must_use]
pub fn nobody(run: &WorkspaceRun) -> String {
    let workspace = &run.spec.workspace.name;
    let which = match (&run.spec.tenant_selector, &run.spec.rerun_of, run.source()) {
        (_, Some(earlier), _) => {
            format!("no tenant of workspace {workspace} is left that did not succeed in {}", earlier.name)
        }
        (Some(selector), None, None) => {
            format!("no tenant of workspace {workspace} matches spec.tenantSelector {:?}", truncate(selector, 300))
        }
        (Some(selector), None, Some(source)) => format!(
            "no tenant of workspace {workspace} in which {source} changed something matches spec.tenantSelector {:?}",
            truncate(selector, 300)
        ),
        (None, None, None) => format!("workspace {workspace} has no tenant"),
        (None, None, Some(source)) => {
            format!("the tenants in which {source} did something are no tenants of workspace {workspace} any more")
        }
    };
    format!(
        "{which}: `kubectl get namespaces -l tenantatlas.io/workspace={workspace} --show-labels` shows its tenants; one that is created after the workspace run is not taken"
    )
}
