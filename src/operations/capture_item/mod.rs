//! `tenantatlas worker capture-item`: captures one object, as a backup set of that object alone.
//!
//! It is a capture ([`crate::operations::capture`]) with the scope of one object, so a crash leaves
//! the same behind. The set is partial: it says nothing of any other object.

mod records;

use crate::{
    api::{operations::CaptureItemInputs, reason::worker as reason},
    items::skip,
    operations::{
        capture::{capture_scope, scope::Scope},
        item,
    },
    providers::kubernetes::Kubernetes,
    worker::{
        environment::Environment,
        failure::Failure,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};

/// Captures one object.
pub struct CaptureItem;

impl Work for CaptureItem {
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

/// Reads which object to capture. Call this before anything is opened, so that bad inputs fail fast.
pub fn read_scope(environment: &Environment) -> Result<Scope, Failure> {
    let inputs: CaptureItemInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    let invalid = |message: String| Failure::permanent(reason::INVALID_INPUTS, message);
    if environment.target.is_some() {
        return Err(invalid("inputs.item names the object: leave out spec.target".to_owned()));
    }
    let item = item::read(&inputs.item)?;
    if skip::is_ours(&item.kind) {
        return Err(invalid(format!("inputs.item: {item} is a record of the operator, which is never captured")));
    }
    Scope::of_item(item)
}
