//! What the audit chain is told about a restore: what is intended, before the first write, and what became of it, after
//! the last. If it cannot be told the first, nothing is written.

use crate::{
    api::{
        ObjectReference,
        audit_entry::{AuditEvent, AuditRecord},
        provenance::AuditReferences,
        result::TerminationResult,
    },
    clock::Clock,
    items::plan::Plan,
    worker::{
        audit,
        environment::RunIdentity,
        failure::Failure,
        restore::order::{Order, reason},
    },
};
use kube::Client;

/// The record of one restore; it begins with its intent.
pub struct Record<'a> {
    client: &'a Client,
    identity: &'a RunIdentity,
    clock: &'a dyn Clock,
    intent: String,
    /// What all its entries say.
    common: AuditRecord,
}

impl<'a> Record<'a> {
    /// Writes the intent, unless an earlier attempt did.
    pub async fn begin(
        client: &'a Client,
        identity: &'a RunIdentity,
        clock: &'a dyn Clock,
        operation_type: &str,
        order: &Order,
        plan: &Plan,
    ) -> Result<Self, Failure> {
        let common = AuditRecord {
            name: String::new(),
            namespace: String::new(),
            previous: String::new(),
            event: AuditEvent::Intent,
            at: clock.now(),
            who: order.requested_by.clone(),
            groups_left_out: 0,
            operation_type: operation_type.to_owned(),
            run: ObjectReference { name: identity.run.clone(), uid: identity.run_uid.clone() },
            pod: identity.pod.clone(),
            restore_run: Some(order.restore_run.clone()),
            backup_set: Some(order.backup_set.clone()),
            plan_digest: plan.digest(),
            summary: None,
            outcome: None,
            counts: None,
        };
        let intent = AuditRecord { summary: Some(plan.summary()), ..common.clone() };
        let intent = audit::append(client, identity, intent).await.map_err(|failure| not_begun(&failure))?;
        Ok(Self { client, identity, clock, intent, common })
    }

    /// Writes the outcome, unless an earlier attempt wrote the same. The names of both entries.
    pub async fn end(self, result: &TerminationResult) -> Result<AuditReferences, Failure> {
        let outcome = AuditRecord {
            event: AuditEvent::Outcome,
            at: self.clock.now(),
            outcome: result.outcome,
            counts: result.summary_counts,
            ..self.common
        };
        let outcome = audit::append(self.client, self.identity, outcome).await.map_err(|failure| {
            let done = result.message.as_deref().unwrap_or_default();
            let what = format!("the restore was carried out ({done}), but the audit chain was not told so");
            not_written(&what, &failure)
        })?;
        Ok(AuditReferences { intent: self.intent, outcome: Some(outcome) })
    }
}

/// The same failure, of whatever asks the chain before the first write: what cannot be read cannot be told either.
#[must_use]
pub fn not_begun(failure: &Failure) -> Failure {
    not_written(
        "nothing was written by this attempt, because the audit chain must be told first what is intended",
        failure,
    )
}

/// The same failure, about the chain.
fn not_written(what: &str, failure: &Failure) -> Failure {
    Failure::new(reason::AUDIT_NOT_WRITTEN, format!("{what}: {}", failure.message), failure.retry)
}
