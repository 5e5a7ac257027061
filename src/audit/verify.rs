//! Verifies that the entries of a namespace are one chain, whole and as written, and finds those
//! that do not belong to it.

use crate::audit::{Chain, Entry, Place, Tip};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// An entry that is known to have been the last one is missing.
    Missing {
        /// Place of the entry.
        at: Place,
    },
    /// The entry that one of ours follows is missing: it was removed or altered.
    MissingBefore {
        /// Place of the entry that exists.
        at: Place,
    },
    /// The entry has changed since its hash was recorded.
    Altered {
        /// Place of the entry.
        at: Place,
    },
    /// A field of the entry does not repeat its text. The text counts.
    Disagrees {
        /// Place of the entry.
        at: Place,
        /// Name of the field.
        field: &'static str,
    },
    /// The entry does not belong to this chain.
    Foreign {
        /// Name of the entry.
        name: String,
        /// What shows it.
        why: Foreign,
    },
}

/// What shows that an entry does not belong to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Foreign {
    /// Its text is not that of an entry.
    Unreadable,
    /// It belongs to another namespace or place, or exists twice.
    Misplaced,
    /// It follows an entry that another one follows, which was there first.
    Branch,
    /// It follows no existing entry, and no recorded tip names it.
    Unlinked,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { at } => write!(formatter, "{at}, once the last entry, is missing"),
            Self::MissingBefore { at } => {
                write!(formatter, "what {at} follows is missing: an entry before it was removed or altered")
            }
            Self::Altered { at } => write!(formatter, "{at} is not what it was when its hash was noted"),
            Self::Disagrees { at, field } => {
                write!(formatter, "spec.{field} of {at} is not what its text says: spec.entry is what counts")
            }
            Self::Foreign { name, why } => write!(formatter, "{name} is foreign: {why}"),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unreadable => "its text is not that of an audit entry",
            Self::Misplaced => "its text is that of another entry",
            Self::Branch => "it follows an entry that another one follows",
            Self::Unlinked => {
                "it follows no entry that is there; unless a snapshot or a RestoreRun names it, for then what it follows was removed"
            }
        })
    }
}

/// Verifies a namespace's entries, in any order, against each other and against tips that were
/// recorded elsewhere, such as in the tags of snapshots. Changes to the end after the latest of
/// these tips cannot be detected.
#[must_use]
pub fn verify(namespace: &str, entries: &[Entry], known: &[Tip]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let foreign = |entry: &Entry, why| Fault::Foreign { name: entry.metadata.name.clone(), why };
    let mut sound: BTreeMap<Place, Sound<'_>> = BTreeMap::new();
    let mut chain = Chain::default();
    for entry in entries {
        match (entry.place(), entry.previous()) {
            (_, None) => faults.push(foreign(entry, Foreign::Unreadable)),
            (Some(place), Some(previous))
                if entry.metadata.namespace == namespace && entry.is_in_its_place() && !sound.contains_key(&place) =>
            {
                chain.add(entry);
                sound.insert(place, Sound { entry, hash: entry.hash(), previous });
            }
            _ => faults.push(foreign(entry, Foreign::Misplaced)),
        }
    }
    for tip in known {
        match sound.get(&tip.place) {
            None => faults.push(Fault::Missing { at: tip.place }),
            Some(there) if there.hash != tip.hash => faults.push(Fault::Altered { at: tip.place }),
            Some(_) => {}
        }
    }
    let followed: BTreeSet<Place> = chain.entries().map(|tip| tip.place).collect();
    let ours = vouched_for(&sound, known);
    let by_hash: BTreeMap<&str, Place> = sound.iter().map(|(place, sound)| (sound.hash.as_str(), *place)).collect();
    for (place, Sound { entry, previous, .. }) in &sound {
        let before = by_hash.get(previous.as_str());
        if followed.contains(place) {
            faults.extend(entry.disagreements().into_iter().map(|field| Fault::Disagrees { at: *place, field }));
        } else if !ours.contains(place) {
            let branches = previous.is_empty() || before.is_some_and(|before| followed.contains(before));
            faults.push(foreign(entry, if branches { Foreign::Branch } else { Foreign::Unlinked }));
        } else if before.is_none_or(|before| !ours.contains(before)) {
            faults.push(Fault::MissingBefore { at: *place });
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// An entry that could be part of the chain.
struct Sound<'a> {
    entry: &'a Entry,
    hash: String,
    previous: String,
}

/// The entries recorded as tips, the entries they follow, and the entries that follow them.
fn vouched_for(sound: &BTreeMap<Place, Sound<'_>>, known: &[Tip]) -> BTreeSet<Place> {
    let mut by_hash = BTreeMap::new();
    let mut by_previous: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for (place, Sound { hash, previous, .. }) in sound {
        by_hash.insert(hash.as_str(), *place);
        by_previous.entry(previous.as_str()).or_default().push(*place);
    }
    let noted = |tip: &&Tip| sound.get(&tip.place).is_some_and(|there| there.hash == tip.hash);
    let noted: Vec<Place> = known.iter().filter(noted).map(|tip| tip.place).collect();
    let mut ours = BTreeSet::new();
    for place in &noted {
        let mut at = Some(*place);
        while let Some(place) = at.filter(|place| ours.insert(*place)) {
            at = by_hash.get(sound[&place].previous.as_str()).copied();
        }
    }
    let mut after: Vec<Place> = noted;
    while let Some(place) = after.pop() {
        let followers = by_previous.get(sound[&place].hash.as_str()).into_iter().flatten();
        after.extend(followers.filter(|place| ours.insert(**place)));
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::tests::{NAMESPACE, append, entry, place};
    use proptest::prelude::*;

    fn chain(length: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        (0..length).for_each(|number| _ = append(&mut entries, &format!("user-{number}")));
        entries
    }

    fn tip(chain: &[Entry]) -> Tip {
        Tip::of(chain.last().expect("an entry")).expect("a tip")
    }

    fn at(number: usize) -> Place {
        place(number as u64)
    }

    /// An entry with another content, which its fields repeat.
    fn altered(entries: &[Entry], of: usize) -> Entry {
        let before = of.checked_sub(1).and_then(|before| Tip::of(&entries[before]));
        entry(at(of + 1), before.as_ref(), "nobody")
    }

    fn foreign(number: usize, why: Foreign) -> Fault {
        Fault::Foreign { name: at(number).to_string(), why }
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
        fn an_altered_entry_is_found_where_it_is(length in 1_usize..20, of in 0_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let of = of % length;
            entries[of] = altered(&entries, of);
            let expected = if of + 1 == length { Fault::Altered { at: at(length) } } else { Fault::MissingBefore { at: at(of + 2) } };
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [expected]);
            let follow = (of + 2..=length).map(|number| foreign(number, Foreign::Unlinked));
            prop_assert_eq!(verify(NAMESPACE, &entries, &[]), follow.collect::<Vec<_>>(), "without a word of it elsewhere");
        }

        #[test]
        fn who_alters_an_entry_and_mends_all_that_follow_is_found_by_what_was_noted(length in 1_usize..20, of in 0_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let of = of % length;
            entries.truncate(of);
            (of..length).for_each(|_| _ = append(&mut entries, "nobody"));
            prop_assert_eq!(verify(NAMESPACE, &entries, &[]), []);
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [Fault::Altered { at: at(length) }]);
        }

        #[test]
        fn missing_entries_are_found_at_the_beginning_in_the_middle_and_at_the_end(length in 1_usize..20, from in 0_usize..20, count in 1_usize..20) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let from = from % length;
            let until = length.min(from + count);
            entries.drain(from..until);
            let expected = if until < length { Fault::MissingBefore { at: at(until + 1) } } else { Fault::Missing { at: at(length) } };
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), [expected]);
        }

        #[test]
        fn what_stands_beside_a_chain_is_called_foreign_and_nothing_else_is(length in 1_usize..10, numbers in proptest::collection::btree_set(12_u64..1_000_000_000_000, 1..20)) {
            let mut entries = chain(length);
            let known = tip(&entries);
            let mut expected = Vec::new();
            for (kind, number) in (0..).zip(numbers) {
                let stray = Tip { place: place(number), hash: "f".repeat(64) };
                let why = [Foreign::Unreadable, Foreign::Misplaced, Foreign::Branch, Foreign::Unlinked][kind % 4];
                let mut forged = match why {
                    Foreign::Branch => entry(place(number), None, "eve"),
                    Foreign::Misplaced => entry(place(11), None, "eve"),
                    _ => entry(place(number), Some(&stray), "eve"),
                };
                forged.metadata.name = place(number).to_string();
                if why == Foreign::Unreadable {
                    forged.spec["entry"] = "no JSON".into();
                }
                entries.push(forged);
                expected.push(Fault::Foreign { name: place(number).to_string(), why });
            }
            prop_assert_eq!(verify(NAMESPACE, &entries, &[known]), expected);
            append(&mut entries, "ada");
            let said = verify(NAMESPACE, &entries, &[]);
            prop_assert!(said.iter().all(|fault| matches!(fault, Fault::Foreign { .. })), "the chain goes on: {:?}", said);
        }
    }

    #[test]
    fn what_is_of_another_namespace_or_there_twice_or_has_no_name_of_an_entry_is_named() {
        let mut entries = chain(2);
        let mut of_another = entries[1].clone();
        of_another.metadata.namespace = "other".to_owned();
        let mut unnamed = entries[1].clone();
        unnamed.metadata.name = "latest".to_owned();
        entries.extend([of_another, unnamed, entries[0].clone()]);
        let misplaced = |name: &str| Fault::Foreign { name: name.to_owned(), why: Foreign::Misplaced };
        let expected = [misplaced("000000000001"), misplaced("000000000002"), misplaced("latest")];
        assert_eq!(verify(NAMESPACE, &entries, &[]), expected);
    }

    #[test]
    fn a_field_that_says_something_else_than_the_text_is_named_and_the_chain_holds() {
        let mut entries = chain(3);
        entries[1].spec["who"] = "eve".into();
        let faults = verify(NAMESPACE, &entries, &[tip(&entries)]);
        assert_eq!(faults, [Fault::Disagrees { at: at(2), field: "who" }]);
        assert!(faults[0].to_string().contains("spec.who of 000000000002"), "{}", faults[0]);
    }

    #[test]
    fn a_chain_of_which_nothing_is_left_is_missing_and_a_fault_says_so() {
        let known = tip(&chain(3));
        let faults = verify(NAMESPACE, &[], &[known]);
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["000000000003, once the last entry, is missing"]);
    }

    #[test]
    fn entries_that_are_gone_since_they_were_called_foreign_leave_no_fault() {
        let mut entries = chain(2);
        let stray = Tip { place: Place::FIRST, hash: "f".repeat(64) };
        entries.push(entry(at(3), Some(&stray), "eve"));
        append(&mut entries, "ada");
        assert_eq!(verify(NAMESPACE, &entries, &[]), [foreign(3, Foreign::Unlinked)]);
        entries.remove(2);
        assert_eq!(verify(NAMESPACE, &entries, &[tip(&entries)]), []);
    }
}
