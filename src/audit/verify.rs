//! Whether a list of entries is one chain, whole and as it was written.

use crate::audit::{Entry, Place, Tip};
use std::{collections::BTreeMap, fmt};

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Entries that must have been there are not: some follow, or the last of them is known to have been there.
    Missing {
        /// The first of them.
        first: Place,
        /// The last of them.
        last: Place,
    },
    /// The entry was not written after the one before as that is now: one of the two was altered, inserted, or put in
    /// another's place.
    Unlinked {
        /// The later of the two.
        at: Place,
    },
    /// The entry is not what it was when its hash was noted.
    Altered {
        /// Its place.
        at: Place,
    },
    /// The entry cannot be of this chain: it is of another namespace, has no name of an entry, or is there twice.
    Foreign {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { first, last } if first == last => write!(formatter, "{first} is missing"),
            Self::Missing { first, last } => write!(formatter, "{first} to {last} are missing"),
            Self::Unlinked { at } => {
                write!(
                    formatter,
                    "{at} was not written after the entry before it as that is now: one of the two was altered"
                )
            }
            Self::Altered { at } => write!(formatter, "{at} is not what it was when its hash was noted"),
            Self::Foreign { name } => write!(formatter, "{name} is not an entry of this chain, or is there twice"),
        }
    }
}

/// Verifies a namespace's entries, in any order, against each other and against tips that were noted elsewhere, such as
/// in the tags of snapshots. What was done to the end after the latest of them cannot be found.
#[must_use]
pub fn verify(namespace: &str, entries: &[Entry], known: &[Tip]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut chain: BTreeMap<Place, &Entry> = BTreeMap::new();
    for entry in entries {
        let place = entry.place().filter(|place| entry.metadata.namespace == namespace && !chain.contains_key(place));
        match place {
            Some(place) => _ = chain.insert(place, entry),
            None => faults.push(Fault::Foreign { name: entry.metadata.name.clone() }),
        }
    }
    let mut before: Option<(Place, &Entry)> = None;
    for (place, entry) in &chain {
        let expected = before.map_or(Place::FIRST, |(place, _)| place.next());
        if *place > expected {
            faults.extend(missing(expected, *place));
        } else if entry.previous() != before.map(|(_, entry)| entry.hash()).unwrap_or_default() {
            faults.push(Fault::Unlinked { at: *place });
        }
        before = Some((*place, entry));
    }
    for tip in known {
        let altered = chain.get(&tip.place).is_some_and(|entry| entry.hash() != tip.hash);
        faults.extend(altered.then_some(Fault::Altered { at: tip.place }));
    }
    let end = before.map_or(Place::FIRST, |(place, _)| place.next());
    faults.extend(known.iter().map(|tip| tip.place).max().and_then(|latest| missing(end, latest.next())));
    faults.sort();
    faults.dedup();
    faults
}

/// The fault that nothing is there from a place to before another; none if that is no place at all.
fn missing(first: Place, end: Place) -> Option<Fault> {
    let last = Place::new(end.number() - 1)?;
    (first <= last).then_some(Fault::Missing { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Metadata;
    use proptest::prelude::*;
    use serde_json::json;

    const NAMESPACE: &str = "acme";

    fn place(number: usize) -> Place {
        Place::new(number as u64).expect("a place")
    }

    fn entry(number: usize, previous: &str, said: usize) -> Entry {
        Entry {
            metadata: Metadata { name: place(number).to_string(), namespace: NAMESPACE.to_owned() },
            spec: json!({ "event": "intent", "who": { "username": format!("user-{said}") }, "previous": previous }),
        }
    }

    fn chain(length: usize) -> Vec<Entry> {
        let mut chain: Vec<Entry> = Vec::new();
        for number in 1..=length {
            let previous = chain.last().map(Entry::hash).unwrap_or_default();
            chain.push(entry(number, &previous, number));
        }
        chain
    }

    fn tip(chain: &[Entry]) -> Tip {
        Tip::of(chain.last().expect("an entry")).expect("a tip")
    }

    proptest! {
        #[test]
        fn a_chain_as_it_was_written_has_no_fault_in_whatever_order_it_is_listed(length in 0_usize..20, noted in 0_usize..20, by in 0_usize..20) {
            let mut entries = chain(length);
            let known: Vec<Tip> = entries.iter().take(noted).filter_map(Tip::of).collect();
            entries.rotate_left(by.min(length));
            prop_assert_eq!(verify(NAMESPACE, &entries, &known), []);
        }

        #[test]
        fn an_altered_entry_is_found_where_it_is(length in 1_usize..20, at in 0_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let at = at % length;
            entries[at].spec["who"]["username"] = "nobody".into();
            let expected = if at + 1 == length { Fault::Altered { at: place(length) } } else { Fault::Unlinked { at: place(at + 2) } };
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [expected]);
        }

        #[test]
        fn who_alters_an_entry_and_mends_all_that_follow_is_found_by_what_was_noted(length in 1_usize..20, at in 0_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let at = at % length;
            entries[at].spec["who"]["username"] = "nobody".into();
            for follows in at + 1..length {
                entries[follows].spec["previous"] = entries[follows - 1].hash().into();
            }
            prop_assert_eq!(verify(NAMESPACE, &entries, &[]), []);
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [Fault::Altered { at: place(length) }]);
        }

        #[test]
        fn missing_entries_are_named_at_the_beginning_in_the_middle_and_at_the_end(length in 1_usize..20, from in 0_usize..20, count in 1_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let from = from % length;
            let until = length.min(from + count);
            entries.drain(from..until);
            let expected = Fault::Missing { first: place(from + 1), last: place(until) };
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [expected.clone()]);
            let seen_without = until < length;
            prop_assert_eq!(verify(NAMESPACE, &entries, &[]), if seen_without { vec![expected] } else { vec![] });
        }

        #[test]
        fn an_inserted_entry_is_found_however_it_is_made_to_fit(length in 2_usize..20, at in 0_usize..19) {
            let mut entries = chain(length);
            let at = 1 + at % (length - 1);
            let forged = entry(at + 1, &entries[at - 1].hash(), 99);
            entries.insert(at, forged);
            for (place_of, entry) in entries.iter_mut().enumerate().skip(at + 1) {
                entry.metadata.name = place(place_of + 1).to_string();
            }
            let found = verify(NAMESPACE, &entries, &[]).contains(&Fault::Unlinked { at: place(at + 2) });
            prop_assert!(found);
        }

        #[test]
        fn entries_that_changed_places_are_found(length in 2_usize..20, one in 0_usize..20, other in 1_usize..20) {
            let mut entries = chain(length);
            let one = one % length;
            let other = (one + 1 + other % (length - 1)) % length;
            let spec = entries[one].spec.clone();
            entries[one].spec = std::mem::replace(&mut entries[other].spec, spec);
            let first = place(one.min(other) + 1);
            let found = verify(NAMESPACE, &entries, &[]).contains(&Fault::Unlinked { at: first });
            prop_assert!(found);
        }
    }

    #[test]
    fn what_is_of_another_chain_or_there_twice_is_named() {
        let mut entries = chain(2);
        let mut of_another = entries[1].clone();
        of_another.metadata.namespace = "other".to_owned();
        let mut unnamed = entries[1].clone();
        unnamed.metadata.name = "latest".to_owned();
        entries.extend([of_another, unnamed, entries[0].clone()]);
        let foreign = |name: &str| Fault::Foreign { name: name.to_owned() };
        let expected = [foreign("000000000001"), foreign("000000000002"), foreign("latest")];
        assert_eq!(verify(NAMESPACE, &entries, &[]), expected);
    }

    #[test]
    fn a_chain_of_which_nothing_is_left_is_missing_and_a_fault_says_so() {
        let known = tip(&chain(3));
        let faults = verify(NAMESPACE, &[], &[known]);
        assert_eq!(
            faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["000000000001 to 000000000003 are missing"]
        );
    }
}
