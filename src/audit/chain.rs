//! Which entries of a namespace form its chain, and where the next one goes.

use crate::audit::{Entry, Place, Tip};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

/// What is known about the entries of a namespace: hashes and places, not their texts.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Places and hashes of entries, by the hash of the previous entry that each contains.
    followers: BTreeMap<String, BTreeMap<Place, String>>,
    /// Places that are taken, by whatever is stored there.
    taken: BTreeSet<Place>,
}

impl Chain {
    /// Adds an entry. The order does not matter.
    pub fn add(&mut self, entry: &Entry) {
        let Some(place) = entry.place() else { return };
        self.taken.insert(place);
        if let Some(previous) = entry.previous().filter(|_| entry.is_in_its_place()) {
            self.followers.entry(previous).or_default().insert(place, entry.hash());
        }
    }

    /// The entries of the chain, each after the entry whose hash it contains. If several follow the
    /// same entry, the first one after it counts: its author had the first free place.
    pub fn entries(&self) -> impl Iterator<Item = Tip> {
        std::iter::successors(self.after(None), |tip| self.after(Some(tip)))
    }

    /// The last entry.
    #[must_use]
    pub fn tip(&self) -> Option<Tip> {
        self.entries().last()
    }

    /// The place of the next entry: the first free one after the last entry. Anything else in the
    /// namespace can move it but not prevent it: after the highest number, the first free place of
    /// all is used. `None` if all places are taken.
    #[must_use]
    pub fn vacant(&self, tip: Option<&Tip>) -> Option<Place> {
        let free_from = |mut place: Option<Place>| {
            while let Some(taken) = place.filter(|place| self.taken.contains(place)) {
                place = taken.next();
            }
            place
        };
        let after = tip.map_or(Some(Place::FIRST), |tip| tip.place.next());
        free_from(after).or_else(|| free_from(Some(Place::FIRST)))
    }

    fn after(&self, tip: Option<&Tip>) -> Option<Tip> {
        let followers = self.followers.get(tip.map_or("", |tip| tip.hash.as_str()))?;
        let later = tip.and_then(|tip| followers.range((Excluded(tip.place), Unbounded)).next());
        let (place, hash) = later.or_else(|| followers.first_key_value())?;
        Some(Tip { place: *place, hash: hash.clone() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        api::{AuditEntrySpec, ObjectReference, audit_entry::AuditEvent, audit_entry::AuditRecord},
        audit::{Metadata, successor},
    };
    use jiff::Timestamp;
    use proptest::prelude::*;

    pub const NAMESPACE: &str = "acme";

    pub fn place(number: u64) -> Place {
        Place::new(number).expect("a place")
    }

    /// What a worker would write at this place, with `said` as the user.
    pub fn entry(at: Place, tip: Option<&Tip>, said: &str) -> Entry {
        let record = AuditRecord {
            name: String::new(),
            namespace: String::new(),
            previous: String::new(),
            event: AuditEvent::Intent,
            at: Timestamp::UNIX_EPOCH,
            who: crate::api::subject::Initiator { username: said.to_owned(), ..Default::default() },
            groups_left_out: 0,
            approval: None,
            operation_type: "restore.apply".into(),
            run: ObjectReference::default(),
            pod: "op-0123456789abcdef0123-restore-x7k2p".into(),
            restore_run: None,
            bulk_operation_run: None,
            change: None,
            backup_set: None,
            plan_digest: "0".repeat(64),
            summary: None,
            outcome: None,
            counts: None,
        };
        stored(at, &successor(tip, at, NAMESPACE, record))
    }

    pub fn stored(at: Place, spec: &AuditEntrySpec) -> Entry {
        Entry {
            metadata: Metadata { name: at.to_string(), namespace: NAMESPACE.to_owned() },
            spec: serde_json::to_value(spec).expect("JSON"),
        }
    }

    pub fn chain_of(entries: &[Entry]) -> Chain {
        let mut chain = Chain::default();
        for entry in entries {
            chain.add(entry);
        }
        chain
    }

    /// Appends as a worker does.
    pub fn append(entries: &mut Vec<Entry>, said: &str) -> Place {
        let chain = chain_of(entries);
        let tip = chain.tip();
        let at = chain.vacant(tip.as_ref()).expect("a place");
        entries.push(entry(at, tip.as_ref(), said));
        at
    }

    #[test]
    fn a_chain_is_numbered_without_gaps() {
        let mut entries = Vec::new();
        let places: Vec<u64> = (0..20).map(|number| append(&mut entries, &number.to_string()).number()).collect();
        assert_eq!(places, (1..=20).collect::<Vec<_>>());
        assert_eq!(chain_of(&entries).tip(), Tip::of(&entries[19]));
    }

    #[test]
    fn forged_powers_of_two_and_the_last_number_of_all_end_nothing() {
        let mut entries = Vec::new();
        append(&mut entries, "ada");
        append(&mut entries, "ada");
        let stray = Tip { place: Place::FIRST, hash: "f".repeat(64) };
        for power in 0..40 {
            let at = place(1 << power);
            if power > 1 {
                entries.push(entry(at, Some(&stray), "eve"));
            }
        }
        entries.push(entry(place(999_999_999_999), Some(&stray), "eve"));
        let places: Vec<u64> = (0..6).map(|_| append(&mut entries, "ada").number()).collect();
        assert_eq!(places, [3, 5, 6, 7, 9, 10], "around what stands there");
        // An entry that does follow the last one, at the highest number.
        let chain = chain_of(&entries);
        let last = entries.iter_mut().find(|entry| entry.metadata.name == "999999999999").expect("it is there");
        *last = entry(place(999_999_999_999), chain.tip().as_ref(), "eve");
        let places: Vec<u64> = (0..2).map(|_| append(&mut entries, "ada").number()).collect();
        assert_eq!(places, [11, 12]);
        assert_eq!(chain_of(&entries).entries().count(), 2 + 6 + 1 + 2);
    }

    proptest! {
        /// Whatever else is stored there, in whatever order it is listed: what a worker appends is
        /// the end of the chain, everything appended is in it, and two workers that see the same
        /// entries choose the same place.
        #[test]
        fn what_is_appended_is_in_the_chain_whatever_else_is_there(
            steps in proptest::collection::vec((0_u64..12, 0_usize..6), 1..25), by in 0_usize..25,
        ) {
            let mut entries: Vec<Entry> = Vec::new();
            let mut own = Vec::new();
            for (number, what) in steps {
                let at = place(if number == 11 { 999_999_999_999 } else { number + 1 });
                let free = !entries.iter().any(|entry| entry.place() == Some(at));
                let stray = Tip { place: at, hash: format!("{number:064x}") };
                match what {
                    // Follows nothing; is not an entry; belongs to another place.
                    0 if free => entries.push(entry(at, Some(&stray), "eve")),
                    1 if free => {
                        let mut foreign = entry(at, None, "eve");
                        foreign.spec["entry"] = "{}".into();
                        entries.push(foreign);
                    }
                    2 if free => {
                        let mut foreign = entry(place(77), None, "eve");
                        foreign.metadata.name = at.to_string();
                        entries.push(foreign);
                    }
                    _ => {
                        let at = append(&mut entries, &own.len().to_string());
                        prop_assert_eq!(chain_of(&entries).tip().map(|tip| tip.place), Some(at));
                        own.push(at);
                    }
                }
            }
            let turned = by.min(entries.len());
            entries.rotate_left(turned);
            let followed: Vec<Place> = chain_of(&entries).entries().map(|tip| tip.place).collect();
            prop_assert_eq!(followed, own);
        }
    }
}
