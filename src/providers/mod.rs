//! Where items live. A [`Provider`] lists, reads and writes the items of one tenant.
//!
//! ```text
//! catalog     what a provider holds: kinds and their versions
//! call        what is asked of a provider, and what it answers
//! fault       why a call was not answered as asked
//! bounded     what holds for every provider: answers in time, lists in order
//! kubernetes  the objects of a namespace
//! ```
//!
//! A capture and a restore reach items only through these traits. What stands around them (runs,
//! backup sets, reports, Leases, the audit chain) is recorded in the API server, whatever provider
//! holds the items.
//!
//! Must not: decide what happens to an item ([`crate::items`]), or know of runs and repositories.
//! Only [`kubernetes`] uses a Kubernetes client.

pub mod bounded;
pub mod call;
pub mod catalog;
pub mod fault;
pub mod kubernetes;

use crate::{
    api::subject::Initiator,
    items::{
        decide::Verb,
        mark::{Known, Mark},
        plan::{Action, Remark},
        proposal::Proposal,
        readers::Readers,
        semantic::DigestKey,
        served::ServedKind,
    },
    providers::{
        call::{BrokenItem, ListSelection, Object, Performed, Target, Tried},
        catalog::Catalog,
        fault::{CallFailed, Fault},
    },
};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Maximum number of concurrent calls for single items.
pub const AT_ONCE: usize = 16;

/// The items of one tenant. The traits are used as objects, because which provider a worker works
/// for is known only once it runs.
///
/// An item is a JSON object with `apiVersion`, `kind`, and in `metadata` a `name`, a `namespace`, a
/// `uid` and a `resourceVersion`. A provider whose items have another form puts them into this one.
/// The uid tells an item from a later one of the same name. The resourceVersion changes with every
/// change.
pub trait Provider: Send + Sync {
    /// What the provider holds, and what of that could not be found out.
    fn catalog(&self) -> BoxFuture<'_, Result<Catalog, Fault>>;

    /// Starts to list the items of a kind. Sends nothing yet.
    fn list<'a>(&'a self, kind: &ServedKind, selection: &'a ListSelection) -> Box<dyn Listing + 'a>;

    /// Starts to list the items of a kind, of which some may be known by their marks, made with this
    /// key. Sends nothing yet. Where only a whole item proves that it has not changed, none is known.
    fn list_marked<'a>(
        &'a self,
        kind: &ServedKind,
        selection: &'a ListSelection,
        _known: Option<(&'a DigestKey, &'a Known)>,
    ) -> Box<dyn Listing<Marked> + 'a> {
        unmarked(self.list(kind, selection))
    }

    /// Starts to read and write single items. `readers` says what its messages may contain.
    fn session(&self, readers: Readers) -> Box<dyn Session + '_>;

    /// Starts to check whether writes would give rights that this user may not give.
    fn guard(&self, requested_by: &Initiator) -> Box<dyn Guard + '_>;

    /// The user as which this account of the tenant writes.
    fn account(&self, name: &str) -> Initiator;

    /// Where the items are, in messages.
    fn place(&self) -> &str;

    /// Whether a user may do something with all items of a kind.
    fn may<'a>(
        &'a self,
        user: &'a Initiator,
        verb: Verb,
        kind: &'a ServedKind,
    ) -> BoxFuture<'a, Result<bool, CallFailed>>;

    /// Kinds whose values may be shown in reports.
    fn readers<'a>(&'a self, catalog: &'a Catalog) -> BoxFuture<'a, Result<Readers, CallFailed>>;

    /// Names of the Secrets that open repositories of the tenant. No restore replaces them.
    fn repository_secrets(&self) -> BoxFuture<'_, Result<BTreeSet<String>, CallFailed>>;
}

/// A list that is being read, element by element. Names come in ascending order, each once.
pub trait Listing<E = Listed>: Send {
    /// The next element, or `None` at the end. After a fault, nothing is known about the rest.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<E>, Fault>>;

    /// Number of elements still to come, as far as it is known.
    fn remaining(&self) -> u64;

    /// Makes the list fail at the first fault, for a server that is known to fail.
    fn fail_at_once(&mut self);
}

/// An element of a list.
pub type Listed = Result<Object, BrokenItem>;

/// An element of a list of which some are known.
#[derive(Clone, Debug, PartialEq)]
pub enum Marked {
    /// An item that is known. It was not read.
    Known {
        /// Name of the item.
        name: String,
        /// Its mark.
        mark: Mark,
        /// When it was created.
        created: Timestamp,
    },
    /// An item that was read, with its mark, if it has one.
    Read(Listed, Option<Mark>),
}

impl From<Listed> for Marked {
    fn from(listed: Listed) -> Self {
        Self::Read(listed, None)
    }
}

/// A list as one of whose items none is known.
fn unmarked<'a>(listing: Box<dyn Listing + 'a>) -> Box<dyn Listing<Marked> + 'a> {
    Box::new(Unmarked(listing))
}

struct Unmarked<'a>(Box<dyn Listing + 'a>);

impl Listing<Marked> for Unmarked<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Marked>, Fault>> {
        Box::pin(async move { Ok(self.0.next().await?.map(Marked::from)) })
    }

    fn remaining(&self) -> u64 {
        self.0.remaining()
    }

    fn fail_at_once(&mut self) {
        self.0.fail_at_once();
    }
}

/// Reads and writes of single items, at a pace that the provider can sustain.
pub trait Session: Send + Sync {
    /// The live item, if it exists.
    fn get<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Option<Value>, Fault>>;

    /// An object that belongs to no tenant and may own items, if it exists.
    fn get_cluster_wide<'a>(
        &'a self,
        kind: &'a ServedKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Value>, Fault>>;

    /// Asks what a write would do. Changes nothing.
    fn rehearse<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Tried, CallFailed>>;

    /// Writes. An item that is not the one which the proposal was made for is left as it is.
    fn apply<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Performed, CallFailed>>;
}

/// Checks whether writes give rights that the requester may not give. Answers are kept, because the
/// same rights recur.
pub trait Guard: Send + Sync {
    /// Why a write is refused, if it is. `planned` are the roles that the same plan writes before
    /// it. It is `None` when plans are executed, because then the live roles count.
    fn refuses<'a>(
        &'a self,
        proposal: &'a Proposal,
        planned: Option<&'a PlannedRoles>,
    ) -> BoxFuture<'a, Result<Option<(Action, Remark)>, CallFailed>>;
}

/// Roles that a plan writes earlier, each with a permission that the requester lacks, if any.
#[derive(Default)]
pub struct PlannedRoles(Mutex<BTreeMap<String, Option<String>>>);

impl PlannedRoles {
    pub(crate) fn roles(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
