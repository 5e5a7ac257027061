//! `ImportedRun`: a record of another system, listed beside ours.
//!
//! [`foreign`] reads a record, [`words`] puts its state into our words, and [`records`] holds what
//! there is, for each namespace on a few shelves ([`shelf`]). A pass is about one name in one tenant,
//! whether or not there is an object of that name. Nothing here writes to another system. Which of
//! their kinds are watched is in [`crate::controller`].

mod act;
pub mod decide;
pub mod foreign;
mod observe;
pub mod records;
pub mod shelf;
pub mod words;

#[cfg(test)]
mod tests;

use crate::{
    api::ImportedRun,
    kernel::{Error, name::Name},
    runs::context::Context,
};
use decide::Decision;
use std::{sync::Arc, time::Duration};

/// When an object that the API server refused is tried again.
const TRY_AGAIN: Duration = Duration::from_mins(1);

/// Reconciles one name. Returns when to requeue it without an event.
pub async fn reconcile(
    name: Name<ImportedRun>,
    context: Arc<Context>,
    records: Arc<records::Records>,
) -> Result<Option<Duration>, Error> {
    let mut observed = observe::observe(&context, &records, &name);
    if let Decision::Create(new) = decide::decide(&observed) {
        observed.existing = act::create(&context, &name, &new).await?.map(Arc::new);
        if observed.existing.is_none() {
            return Ok(Some(TRY_AGAIN));
        }
    }
    match decide::decide(&observed) {
        Decision::Nothing | Decision::Create(_) => {}
        Decision::Delete(existing) => act::delete(&context, &name, &existing).await?,
        Decision::Say(existing, status) => act::say(&context, &name, &existing, &status).await?,
    }
    Ok(None)
}
