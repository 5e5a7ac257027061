//! Which restore wrote a path, and who asked for it.
//!
//! All restores write under one field manager. The audit chain says when each of them wrote: between
//! its intent and its outcome. A path is a restore's if it was written under that manager in the
//! time of one restore and of no other.

use crate::{
    api::{
        AuditEntry, LocalReference,
        audit_entry::{AuditEvent, AuditRecord},
        finding::Evidence,
        operations::BULK_DELETE,
        reference::is_object_name,
        result::truncate,
    },
    providers::kubernetes::calls::FIELD_MANAGER,
    worker::{failure::Failure, pages},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, api::ListParams};
use std::collections::BTreeMap;

/// Entries per page of a list.
const PAGE: u32 = 100;

/// Most restores that are known, the newest. An older one is not named.
const MOST: usize = 1000;

/// How long a restore counts as writing whose last worker died. The built-in type allows an hour.
/// Without an end, no later restore would be the only one that was writing.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Maximum length of the name of a user in evidence, in bytes.
const MAX_USER: usize = 1024;

/// The restores of a tenant.
#[derive(Debug, Default)]
pub struct Restores(BTreeMap<String, Restore>);

/// When a restore wrote, and who asked for it.
#[derive(Debug)]
struct Restore {
    run: String,
    who: String,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Restores {
    /// Reads the audit chain.
    pub async fn read(client: &Client, namespace: &str) -> Result<Self, Failure> {
        let mut restores = Self::default();
        let all = ListParams::default().limit(PAGE);
        pages::each(client, namespace, "read which restores wrote", all, |entry: AuditEntry| {
            if let Some(record) = entry.spec.record() {
                restores.add(record);
            }
        })
        .await?;
        Ok(restores)
    }

    /// Adds an entry. Attempts of one run are one restore: from the first intent to the last outcome.
    fn add(&mut self, record: AuditRecord) {
        let AuditRecord { at, run, who, event, operation_type, .. } = record;
        // A deletion writes no path.
        if !is_object_name(&run.name) || operation_type == BULK_DELETE {
            return;
        }
        let known = self.0.entry(run.uid);
        match event {
            AuditEvent::Intent => {
                let restore = known.or_insert(Restore { run: run.name, who: who.username, from: at, until: None });
                restore.from = restore.from.min(at);
            }
            // Its intent has an earlier name, and is listed before it.
            AuditEvent::Outcome => {
                known.and_modify(|restore| restore.until = restore.until.max(Some(at)));
            }
        }
        if self.0.len() > MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, restore)| restore.from).map(|(uid, _)| uid.clone())
        {
            self.0.remove(&oldest);
        }
    }

    /// The one restore that was writing at a time, in whole seconds as managed fields have them.
    fn at(&self, at: Timestamp) -> Option<&Restore> {
        let was_writing = |restore: &&Restore| {
            let until = restore.until.unwrap_or_else(|| restore.from.checked_add(LONGEST).unwrap_or(Timestamp::MAX));
            (restore.from.as_second()..=until.as_second()).contains(&at.as_second())
        };
        let mut found = self.0.values().filter(was_writing);
        found.next().filter(|_| found.next().is_none())
    }

    /// Names the restores in evidence.
    pub fn name_in(&self, evidence: &mut [Evidence]) {
        for one in evidence.iter_mut().filter(|one| is_restores(one)) {
            if let Some(restore) = one.at.and_then(|at| self.at(at)) {
                one.run = Some(LocalReference::new(&restore.run));
                one.initiator = Some(truncate(&restore.who, MAX_USER));
            }
        }
    }
}

/// Whether a restore may have written a path. Any client can say that its name is this.
#[must_use]
pub fn is_restores(evidence: &Evidence) -> bool {
    evidence.manager.as_deref() == Some(FIELD_MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("a time")
    }

    fn entry(run: &str, event: &str, second: i64) -> AuditRecord {
        serde_json::from_value(json!({
            "name": "", "namespace": "acme", "previous": "", "event": event, "at": at(second).to_string(),
            "who": {"username": format!("ada-of-{run}")}, "operationType": "restore.apply", "pod": "op-1-x",
            "run": {"name": run, "uid": format!("uid-of-{run}")}, "planDigest": "0",
        }))
        .expect("a record")
    }

    #[test]
    fn a_path_is_of_the_one_restore_that_was_writing_when_it_was_written() {
        let mut restores = Restores::default();
        for (run, event, second) in [
            ("first", "intent", 0),
            // A second attempt of the same run.
            ("first", "intent", 5),
            ("first", "outcome", 10),
            ("second", "intent", 10),
            ("second", "outcome", 20),
            ("died", "intent", 30),
            ("days-later", "intent", 200_000),
            ("days-later", "outcome", 200_010),
        ] {
            restores.add(entry(run, event, second));
        }
        let named = |manager: &str, second: i64| {
            let evidence = Evidence { manager: Some(manager.into()), at: Some(at(second)), ..Evidence::default() };
            let mut evidence = [evidence];
            restores.name_in(&mut evidence);
            let [one] = evidence;
            one.run.map(|run| run.name).zip(one.initiator)
        };
        let of = |run: &str| Some((run.to_owned(), format!("ada-of-{run}")));
        for (second, wanted) in [
            (-1, None),
            (0, of("first")),
            (9, of("first")),
            (10, None),
            (11, of("second")),
            (25, None),
            (99, of("died")),
            (100_000, None),
            (200_005, of("days-later")),
        ] {
            assert_eq!(named(FIELD_MANAGER, second), wanted, "at {second}");
        }
        assert_eq!(named("kubectl", 5), None);
    }

    #[test]
    fn the_newest_restores_are_known_whatever_their_number() {
        let mut restores = Restores::default();
        for number in 0..=MOST {
            restores.add(entry(&format!("{number:05}"), "intent", i64::try_from(number).expect("a number") * 10));
        }
        assert_eq!(restores.0.len(), MOST);
        assert!(!restores.0.contains_key("uid-of-00000"));
    }
}
