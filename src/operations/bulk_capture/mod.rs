//! `tenantatlas worker bulk-capture`: captures many objects of one kind, as a backup set of these objects
//! alone.
//!
//! It is a capture ([`crate::operations::capture`]) with the scope that a BulkOperationRun names, so a
//! crash leaves the same behind. The operator writes that scope into the inputs of the run, which never
//! change. So the worker does not read the BulkOperationRun, and needs no right that a capture does not.

mod records;

use crate::{
    api::{operations::BulkCaptureInputs, reason::worker as reason},
    operations::capture::{
        capture_scope,
        scope::{Asked, Scope},
    },
    providers::kubernetes::Kubernetes,
    worker::{
        environment::Environment,
        failure::Failure,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};

/// Where the author of a BulkOperationRun can correct it.
const ASKED: Asked =
    Asked { names: "spec.items in a new bulk operation", selection: "spec.labelSelector in a new bulk operation" };

/// Captures many objects.
pub struct BulkCapture;

impl Work for BulkCapture {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Writes, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        let scope = read_scope(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let permit = site.permit()?;
                let provider = Kubernetes::new(site.client, site.environment.identity.namespace.clone());
                let repository = site.repository()?;
                let Site { client, environment, run, clock, .. } = site;
                capture_scope(&provider, client, (environment, &scope), repository, run, clock, permit).await
            })
        }))
    }
}

/// Reads which objects to capture. Call this before anything is opened, so that bad inputs fail fast.
pub fn read_scope(environment: &Environment) -> Result<Scope, Failure> {
    let BulkCaptureInputs { repository, selection, bulk_operation_run: _ } = environment.inputs()?;
    environment.expect_repository(&repository)?;
    let scope = Scope { asked: ASKED, ..Scope::new(selection, environment.target.as_ref())? };
    if scope.kinds.included().len() == 1 && scope.expects_objects() {
        return Ok(scope);
    }
    let message = "inputs.selection: a bulk operation captures objects of one kind, by name or by label: create a BulkOperationRun that says which";
    Err(Failure::permanent(reason::INVALID_INPUTS, message))
}
