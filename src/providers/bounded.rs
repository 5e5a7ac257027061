//! What holds for every provider, whatever it does: answers come in time, and lists are in order.
//!
//! A worker uses its provider only through [`Bounded`]. Its deadline is far beyond those of a
//! provider that works, and ends only a call that hangs.

#![deny(clippy::disallowed_types)]

use crate::{
    api::subject::Initiator,
    items::{
        decide::Verb,
        mark::Known,
        plan::{Action, Remark},
        proposal::Proposal,
        readers::Readers,
        semantic::DigestKey,
        served::ServedKind,
    },
    providers::{
        Guard, Listed, Listing, Marked, PlannedRoles, Provider, Session,
        call::{BrokenItem, ListSelection, Performed, Target, Tried},
        catalog::Catalog,
        fault::{CallFailed, Fault},
    },
};
use futures::future::BoxFuture;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

/// How long one answer may take, with all that a provider repeats for it.
pub const DEADLINE: Duration = Duration::from_mins(30);

/// A provider whose answers come in time and in order.
pub struct Bounded<'p> {
    provider: &'p dyn Provider,
    within: Within,
}

impl<'p> Bounded<'p> {
    /// Bounds a provider.
    #[must_use]
    pub fn new(provider: &'p dyn Provider) -> Self {
        Self::within(DEADLINE, provider)
    }

    /// Bounds a provider whose answers take at most so long.
    #[must_use]
    pub fn within(deadline: Duration, provider: &'p dyn Provider) -> Self {
        Self { provider, within: Within(deadline) }
    }
}

/// How long one answer may take.
#[derive(Clone, Copy)]
struct Within(Duration);

impl Within {
    fn too_late(self) -> Fault {
        Fault::Unanswered(format!("there was no answer within {:?}", self.0))
    }

    async fn answer<T>(self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(self.0, call).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// The same for a call with a purpose.
    async fn done<T>(
        self,
        doing: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, CallFailed>>,
    ) -> Result<T, CallFailed> {
        timeout(self.0, call).await.unwrap_or_else(|_| Err(CallFailed::new(doing(), self.too_late())))
    }
}

impl Provider for Bounded<'_> {
    fn catalog(&self) -> BoxFuture<'_, Result<Catalog, Fault>> {
        Box::pin(self.within.answer(self.provider.catalog()))
    }

    fn list<'a>(&'a self, kind: &ServedKind, selection: &'a ListSelection) -> Box<dyn Listing + 'a> {
        Box::new(InOrder { listing: self.provider.list(kind, selection), within: self.within, last: None })
    }

    fn list_marked<'a>(
        &'a self,
        kind: &ServedKind,
        selection: &'a ListSelection,
        known: Option<(&'a DigestKey, &'a Known)>,
    ) -> Box<dyn Listing<Marked> + 'a> {
        let listing = self.provider.list_marked(kind, selection, known);
        Box::new(InOrder { listing, within: self.within, last: None })
    }

    fn session(&self, readers: Readers) -> Box<dyn Session + '_> {
        Box::new(BoundedSession(self.within, self.provider.session(readers)))
    }

    fn guard(&self, requested_by: &Initiator) -> Box<dyn Guard + '_> {
        Box::new(BoundedGuard(self.within, self.provider.guard(requested_by)))
    }

    fn account(&self, name: &str) -> Initiator {
        self.provider.account(name)
    }

    fn place(&self) -> &str {
        self.provider.place()
    }

    fn may<'a>(
        &'a self,
        user: &'a Initiator,
        verb: Verb,
        kind: &'a ServedKind,
    ) -> BoxFuture<'a, Result<bool, CallFailed>> {
        let doing = move || format!("ask who may {} {}", verb.as_str(), kind.plural);
        Box::pin(self.within.done(doing, self.provider.may(user, verb, kind)))
    }

    fn readers<'a>(&'a self, catalog: &'a Catalog) -> BoxFuture<'a, Result<Readers, CallFailed>> {
        Box::pin(
            self.within.done(|| "ask what all readers of reports may read".to_owned(), self.provider.readers(catalog)),
        )
    }

    fn repository_secrets(&self) -> BoxFuture<'_, Result<BTreeSet<String>, CallFailed>> {
        Box::pin(
            self.within.done(|| "ask which Secrets open repositories".to_owned(), self.provider.repository_secrets()),
        )
    }
}

/// An element of a list whose order is checked.
trait Element: From<Listed> {
    /// Its name, empty if it has none.
    fn name(&self) -> &str;
}

impl Element for Listed {
    fn name(&self) -> &str {
        match self {
            Ok(object) => &object.name,
            Err(broken) => &broken.name,
        }
    }
}

impl Element for Marked {
    fn name(&self) -> &str {
        match self {
            Self::Known { name, .. } => name,
            Self::Read(listed, _) => listed.name(),
        }
    }
}

/// A list whose names ascend. An element out of order is a broken one: whatever is merged with the
/// list has passed its place.
struct InOrder<'a, E> {
    listing: Box<dyn Listing<E> + 'a>,
    within: Within,
    /// The greatest name so far.
    last: Option<String>,
}

impl<E: Element> Listing<E> for InOrder<'_, E> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<E>, Fault>> {
        Box::pin(async move {
            let Some(element) = self.within.answer(self.listing.next()).await? else { return Ok(None) };
            let name = element.name();
            if !name.is_empty() {
                if self.last.as_deref().is_some_and(|last| name <= last) {
                    let problem = "the API server lists it out of order".to_owned();
                    return Ok(Some(E::from(Err(BrokenItem { name: name.to_owned(), problem }))));
                }
                self.last = Some(name.to_owned());
            }
            Ok(Some(element))
        })
    }

    fn remaining(&self) -> u64 {
        self.listing.remaining()
    }

    fn fail_at_once(&mut self) {
        self.listing.fail_at_once();
    }
}

struct BoundedSession<'a>(Within, Box<dyn Session + 'a>);

impl Session for BoundedSession<'_> {
    fn get<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(self.0.answer(self.1.get(target)))
    }

    fn get_cluster_wide<'a>(
        &'a self,
        kind: &'a ServedKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(self.0.answer(self.1.get_cluster_wide(kind, name)))
    }

    fn rehearse<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Tried, CallFailed>> {
        let doing = move || format!("try to write {} {}", target.kind.kind, target.name);
        Box::pin(self.0.done(doing, self.1.rehearse(target, proposal)))
    }

    fn apply<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Performed, CallFailed>> {
        let doing = move || format!("write {} {}", target.kind.kind, target.name);
        Box::pin(self.0.done(doing, self.1.apply(target, proposal)))
    }
}

struct BoundedGuard<'a>(Within, Box<dyn Guard + 'a>);

impl Guard for BoundedGuard<'_> {
    fn refuses<'a>(
        &'a self,
        proposal: &'a Proposal,
        planned: Option<&'a PlannedRoles>,
    ) -> BoxFuture<'a, Result<Option<(Action, Remark)>, CallFailed>> {
        Box::pin(
            self.0.done(|| "ask what who wants this restore may give".to_owned(), self.1.refuses(proposal, planned)),
        )
    }
}
