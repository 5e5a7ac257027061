//! The audit record of an operation that changes a tenant's objects: its intent before the first
//! write, and its outcome after the last. If the intent cannot be recorded, nothing is written.

use crate::{
    api::reason::restore as reason,
    api::{
        LocalReference, ObjectReference,
        approval::Consent,
        audit_entry::{AuditEvent, AuditRecord},
        provenance::{AuditReferences, PlanSummary},
        result::TerminationResult,
        subject::Initiator,
    },
    clock::Clock,
    worker::{audit, environment::RunIdentity, failure::Failure},
};
use kube::Client;

/// What both entries say.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The requester.
    pub who: Initiator,
    /// The restore, if it is one.
    pub restore_run: Option<ObjectReference>,
    /// The bulk operation, if it is one.
    pub bulk_operation_run: Option<ObjectReference>,
    /// The approval of the plan, if one was needed.
    pub approval: Option<Consent>,
    /// What is done with the objects, in words. For restores, the backup set says it.
    pub change: Option<String>,
    /// The backup set that is restored from.
    pub backup_set: Option<LocalReference>,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Items of the plan by action.
    pub summary: PlanSummary,
}

/// The record of one operation, which starts with its intent.
pub struct Record<'a> {
    client: &'a Client,
    identity: &'a RunIdentity,
    clock: &'a dyn Clock,
    intent: String,
    /// Fields that all its entries share.
    common: AuditRecord,
}

impl<'a> Record<'a> {
    /// Writes the intent, unless an earlier attempt did.
    pub async fn begin(
        client: &'a Client,
        identity: &'a RunIdentity,
        clock: &'a dyn Clock,
        operation_type: &str,
        subject: Subject,
    ) -> Result<Self, Failure> {
        let common = AuditRecord {
            name: String::new(),
            namespace: String::new(),
            previous: String::new(),
            event: AuditEvent::Intent,
            at: clock.now(),
            who: subject.who,
            groups_left_out: 0,
            approval: subject.approval,
            operation_type: operation_type.to_owned(),
            run: ObjectReference { name: identity.run.clone(), uid: identity.run_uid.clone() },
            pod: identity.pod.clone(),
            restore_run: subject.restore_run,
            bulk_operation_run: subject.bulk_operation_run,
            change: subject.change,
            backup_set: subject.backup_set,
            plan_digest: subject.plan_digest,
            summary: None,
            outcome: None,
            counts: None,
        };
        let intent = AuditRecord { summary: Some(subject.summary), ..common.clone() };
        let intent = audit::append(client, identity, intent).await.map_err(|failure| not_begun(&failure))?;
        Ok(Self { client, identity, clock, intent, common })
    }

    /// Writes the outcome, unless an earlier attempt wrote the same. Returns the names of both
    /// entries.
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
            let what = format!("the work was carried out ({done}), but the audit chain was not told so");
            not_written(&what, &failure)
        })?;
        Ok(AuditReferences { intent: self.intent, outcome: Some(outcome) })
    }
}

/// Converts a failure to read or write the chain before the first write: a chain that cannot be
/// read cannot be written either.
#[must_use]
pub fn not_begun(failure: &Failure) -> Failure {
    not_written(
        "nothing was written by this attempt, because the audit chain must be told first what is intended",
        failure,
    )
}

/// Converts a failure to write the chain.
fn not_written(what: &str, failure: &Failure) -> Failure {
    Failure::new(reason::AUDIT_NOT_WRITTEN, format!("{what}: {}", failure.message), failure.retry)
}
