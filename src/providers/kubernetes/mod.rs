//! The objects of a namespace, as items.
//!
//! ```text
//! catalog  the kinds that the cluster serves
//! list     the objects of a kind, in pages of bounded size; only the metadata of those that are known
//! calls    requests for single objects: pace, retries, what may be shown of an answer
//! dry_run  what the API server would do with a write
//! write    a write, with its precondition; recreations
//! access   who may do what, according to the API server's authorizers
//! grants   who may give the rights that a Role or a RoleBinding gives
//! ```
//!
//! Must not: decide what happens to an item.

pub mod access;
pub mod calls;
pub mod catalog;
pub mod dry_run;
pub mod grants;
pub mod list;
pub mod write;

use crate::{
    api::subject::Initiator,
    cluster::retry::retry,
    items::{
        decide::Verb,
        mark::{Known, has_marks},
        plan::{Action, Remark},
        proposal::Proposal,
        readers::Readers,
        semantic::DigestKey,
        served::ServedKind,
    },
    providers::{
        Guard, Listing, Marked, PlannedRoles, Provider, Session,
        call::{ListSelection, Performed, Target, Tried},
        catalog::Catalog,
        fault::{CallFailed, Fault},
        kubernetes::{
            calls::Calls,
            grants::Grants,
            list::{Objects, marked::MarkedObjects},
        },
        unmarked,
    },
};
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use std::collections::BTreeSet;
use tokio::sync::OnceCell;

/// The objects of one namespace.
pub struct Kubernetes {
    client: Client,
    namespace: String,
    /// Version of the API server, once it was asked for. `None` if it does not tell it.
    server: OnceCell<Option<String>>,
}

impl Kubernetes {
    /// The objects of a namespace, reached by a client.
    #[must_use]
    pub fn new(client: &Client, namespace: impl Into<String>) -> Self {
        Self { client: client.clone(), namespace: namespace.into(), server: OnceCell::new() }
    }
}

impl Provider for Kubernetes {
    fn catalog(&self) -> BoxFuture<'_, Result<Catalog, Fault>> {
        Box::pin(async { catalog::discover(&self.client).await.map_err(Fault::from) })
    }

    fn list<'a>(&'a self, kind: &ServedKind, selection: &'a ListSelection) -> Box<dyn Listing + 'a> {
        Box::new(Objects::new(&self.client, kind, &self.namespace, selection))
    }

    fn list_marked<'a>(
        &'a self,
        kind: &ServedKind,
        selection: &'a ListSelection,
        known: Option<(&'a DigestKey, &'a Known)>,
    ) -> Box<dyn Listing<Marked> + 'a> {
        match known.filter(|_| has_marks(&kind.group_kind())) {
            Some(known) => {
                Box::new(MarkedObjects::new(&self.client, kind, &self.namespace, selection, known, &self.server))
            }
            None => unmarked(self.list(kind, selection)),
        }
    }

    fn session(&self, readers: Readers) -> Box<dyn Session + '_> {
        Box::new(Calls::new(&self.client, &self.namespace, readers))
    }

    fn guard(&self, requested_by: &Initiator) -> Box<dyn Guard + '_> {
        Box::new(Grants::new(self.client.clone(), self.namespace.clone(), requested_by.clone()))
    }

    fn account(&self, name: &str) -> Initiator {
        access::service_account(&self.namespace, name)
    }

    fn place(&self) -> &str {
        &self.namespace
    }

    fn may<'a>(
        &'a self,
        user: &'a Initiator,
        verb: Verb,
        kind: &'a ServedKind,
    ) -> BoxFuture<'a, Result<bool, CallFailed>> {
        Box::pin(async move {
            retry(|| access::may(&self.client, &self.namespace, user, access::attributes(verb, kind)))
                .await
                .map_err(|error| CallFailed::new("ask what this restore may do", error))
        })
    }

    fn readers<'a>(&'a self, catalog: &'a Catalog) -> BoxFuture<'a, Result<Readers, CallFailed>> {
        Box::pin(access::readers(&self.client, catalog))
    }

    fn repository_secrets(&self) -> BoxFuture<'_, Result<BTreeSet<String>, CallFailed>> {
        Box::pin(list::repository_secrets(&self.client, &self.namespace))
    }
}

impl Session for Calls {
    fn get<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(async move { calls::get(self, target).await.map_err(Fault::from) })
    }

    fn get_cluster_wide<'a>(
        &'a self,
        kind: &'a ServedKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(async move { calls::get_cluster_wide(self, kind, name).await.map_err(Fault::from) })
    }

    fn rehearse<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Tried, CallFailed>> {
        Box::pin(dry_run::attempt(self, target, proposal))
    }

    fn apply<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Performed, CallFailed>> {
        Box::pin(write::perform(self, target, proposal))
    }
}

impl Guard for Grants {
    fn refuses<'a>(
        &'a self,
        proposal: &'a Proposal,
        planned: Option<&'a PlannedRoles>,
    ) -> BoxFuture<'a, Result<Option<(Action, Remark)>, CallFailed>> {
        Box::pin(self.refuses(proposal, planned))
    }
}

impl From<&kube::Error> for Fault {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::Refused { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
            }
            // The parser's message may quote content, which may be a Secret's.
            kube::Error::SerdeError(_) => Self::Garbled,
            error => {
                let mut cause: &dyn std::error::Error = error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                Self::Unanswered(cause.to_string())
            }
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        Self::from(&error)
    }
}
