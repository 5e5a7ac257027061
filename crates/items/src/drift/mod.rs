//! What a difference between an item and its baseline is as a finding: which changes count, what is
//! shown of them, how much they matter, and what identifies the finding.
//!
//! ```text
//! changes      the places at which two objects differ
//! pattern      kinds, names and paths, as users write them
//! ignore       what does not count
//! evidence     what is shown of what counts
//! severity     how much it matters
//! fingerprint  what identifies the finding
//! put_back     one path of an object as the baseline has it
//! ```
//!
//! Must not know how either side was read, nor what becomes of a finding.

pub mod changes;
pub mod evidence;
pub mod fingerprint;
pub mod ignore;
pub mod pattern;
pub mod put_back;
pub mod severity;

#[cfg(test)]
mod tests;

use crate::{
    api::{
        finding::{Change, Evidence, Severity},
        item::ItemId,
    },
    diff::{Place, comparable},
    sanitize::sanitized,
    semantic::{DigestKey, Status},
    words::is_secret,
};
use changes::Changes;
use evidence::Terms;
use ignore::Ignore;
use serde_json::{Value, json};
use severity::Severities;

/// What is known of both sides of an item whose digests differ.
#[derive(Clone, Copy, Debug)]
pub enum Sides<'a> {
    /// The baseline does not hold the item. With the current object, if it is known.
    Added(Option<&'a Value>),
    /// Only the baseline holds the item. With the object there, if it is known.
    Removed(Option<&'a Value>),
    /// Both sides hold the item, and both objects are known.
    Both(&'a Value, &'a Value),
    /// Both sides hold the item, and an inventory knows its digest alone.
    Digests,
}

/// An item whose digests differ.
#[derive(Clone, Copy, Debug)]
pub struct Differing<'a> {
    /// The item.
    pub item: &'a ItemId,
    /// Both sides.
    pub sides: Sides<'a>,
    /// Digests of the baseline and the current item, as far as there are any.
    pub digests: (Option<&'a str>, Option<&'a str>),
    /// Whether the uids of both sides differ.
    pub replaced: bool,
    /// Who owns the field `status` of the kind.
    pub status: Status,
    /// Whether every reader of findings may read objects of the kind.
    pub shown: bool,
}

/// How findings are made.
#[derive(Debug)]
pub struct Rules {
    /// What does not count.
    pub ignore: Ignore,
    /// How much it matters.
    pub severities: Severities,
    /// Key of digests, and of stand-ins for secret values.
    pub key: DigestKey,
}

/// What a difference is.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// None that counts: only fields differ that the cluster writes.
    Same,
    /// None that counts, by a rule.
    Ignored,
    /// A finding.
    Found(Box<Found>),
}

/// The part of a finding that depends on both sides alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How the item differs.
    pub change: Change,
    /// How much it matters.
    pub severity: Severity,
    /// Changed paths, worst first.
    pub evidence: Vec<Evidence>,
    /// Number of changed paths that are left out.
    pub left_out: usize,
    /// Keyed hash of the difference: 64 hex digits.
    pub digest: String,
}

impl Rules {
    /// Judges a difference.
    #[must_use]
    pub fn judge(&self, differing: &Differing<'_>) -> Verdict {
        let Differing { item, sides, replaced, .. } = *differing;
        let selected_by = match sides {
            Sides::Added(object) | Sides::Removed(object) => object,
            Sides::Both(before, _) => Some(before),
            Sides::Digests => None,
        };
        let ignore = self.ignore.of_item(item, selected_by);
        if ignore.whole() {
            return Verdict::Ignored;
        }
        let change = match sides {
            Sides::Added(_) => Change::Added,
            Sides::Removed(_) => Change::Removed,
            Sides::Both(..) | Sides::Digests if replaced => Change::Replaced,
            Sides::Both(..) | Sides::Digests => Change::Modified,
        };
        let Sides::Both(before, live) = sides else {
            let (severity, digest) =
                (self.severities.of(&item.kind, &[]), self.digest(change, &json!(differing.digests)));
            return Verdict::Found(Box::new(Found { change, severity, evidence: Vec::new(), left_out: 0, digest }));
        };
        let form = |object: &Value| comparable(&sanitized(object, differing.status), differing.status);
        let (before, after) = (form(before), form(live));
        let secret = is_secret(item);
        let mut place = if secret { Place::secret() } else { Place::default() };
        place.hidden = secret && !differing.shown;
        let changes = Changes::of(&place, &before, &after, &ignore);
        if changes.found.is_empty() && !replaced {
            return if changes.ignored > 0 { Verdict::Ignored } else { Verdict::Same };
        }
        let changed: Vec<Value> = changes
            .found
            .iter()
            .map(|change| json!([change.place.path, change.before.as_deref(), change.after.as_deref()]))
            .collect();
        let terms = Terms { shown: differing.shown, secret, key: &self.key };
        let (evidence, left_out) = evidence::evidence(&changes.found, &after, live, terms);
        let uid = replaced.then(|| live["metadata"]["uid"].clone());
        Verdict::Found(Box::new(Found {
            change,
            severity: self.severities.of(&item.kind, &changes.found),
            evidence,
            left_out,
            digest: self.digest(change, &json!([changed, uid])),
        }))
    }

    fn digest(&self, change: Change, of: &Value) -> String {
        let name: &'static str = change.into();
        self.key.hash(&json!([name, of]))
    }
}
