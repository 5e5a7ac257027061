//! What is left at the end, and whether all of it is known.

use super::{Records, Verdict};

/// The records have no gap: otherwise nothing is said about what is in it.
pub fn records_are_whole(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("the records are whole");
    verdict.violations.clone_from(&records.gaps);
    verdict.count("times at which the audit log may lack lines", records.outages.len());
    verdict
}

/// No Lease on a repository is left whose holder is gone.
pub fn no_lease_is_left(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("no Lease of a worker is left");
    verdict.violations.clone_from(&records.leases);
    verdict.count("Leases", records.leases.len());
    verdict
}

/// Stock restic and our own check read every repository.
pub fn repositories_are_whole(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every repository passes its check");
    for (repository, faults) in &records.repositories {
        verdict.violations.extend(faults.iter().map(|fault| format!("{repository}: {fault}")));
    }
    verdict.count("repositories", records.repositories.len());
    verdict
}

/// When nothing is to be done, nothing is written.
pub fn the_idle_operator_writes_nothing(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("the idle operator writes nothing but its Lease");
    verdict.violations.clone_from(&records.idle_writes);
    verdict.count("writes", records.idle_writes.len());
    verdict
}
