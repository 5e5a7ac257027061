//! Whether an object needs an approval, and whether it has one. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use crate::{
    api::{
        Approval, ObjectReference, Reason, Workspace,
        approval::{
            ApprovalRule, ApprovalTerms, Approved, ApprovedKind, ApprovedType, Approver, Consent, DEFAULT_VALID_SECONDS,
        },
        subject::Initiator,
    },
    kernel::{refusal::Refusal, whole::too_large},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;
use std::{fmt::Write as _, sync::Arc};

/// What caches hold about the approval of an object.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The workspace of the tenant.
    pub workspace: Option<Arc<Workspace>>,
    /// The approval that has the name for the object.
    pub approval: Option<Arc<Approval>>,
    /// The approval of the workspace run that created the object. It is of the plans of all tenants.
    pub of_all: Option<Consent>,
}

/// What may need an approval: a restore, a bulk operation or a workspace run that is no dry run.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Its kind.
    pub kind: ApprovedKind,
    /// The type of the run that does what is approved.
    pub operation: ApprovedType,
    /// Its name and uid.
    pub object: ObjectReference,
    /// Namespace of its approval.
    pub namespace: &'a str,
    /// The workspace of a workspace run.
    pub workspace: Option<&'a str>,
    /// Who requested it.
    pub requester: &'a Initiator,
    /// Its own field.
    pub terms: Option<&'a ApprovalTerms>,
    /// The plan that it applies, if a preview made one.
    pub plan: Option<Plan>,
}

/// A plan that can be approved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its digest.
    pub digest: String,
    /// Number of items that it changes. `None` if the preview does not say.
    pub changes: Option<i64>,
}

/// Whether an object may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It needs no approval.
    Free,
    /// Somebody else has approved its plan.
    Given(Consent),
    /// It waits for that.
    Awaited {
        /// The plan to approve.
        digest: String,
        /// What it waits for, why a present approval does not count, and how to approve.
        message: String,
    },
    /// It can never be approved.
    Refused(Refusal),
}

/// Without a requester it is not known whether somebody else approves.
#[must_use]
pub fn no_requester() -> Refusal {
    Refusal::new(
        Reason::NoRequester,
        "spec.requestedBy is empty: admission sets it; where that is off, state it in a new object",
    )
}

/// Decides whether an object may start.
#[must_use]
pub fn decide(asked: &Asked<'_>, known: &Known, now: Timestamp) -> Verdict {
    // What was left out of the workspace may be its rules.
    if let Some(refusal) = known.workspace.as_deref().and_then(too_large) {
        return Verdict::Refused(refusal);
    }
    if let (Some(of_all), Some(plan)) = (&known.of_all, &asked.plan) {
        return Verdict::Given(Consent { plan_digest: plan.digest.clone(), ..of_all.clone() });
    }
    let Some(need) = Need::of(asked, known.workspace.as_deref()) else { return Verdict::Free };
    let Some(plan) = &asked.plan else { return Verdict::Refused(needs_preview(asked, &need)) };
    let why_not = match &known.approval {
        None => None,
        Some(approval) => match given(asked, plan, &need, approval, now) {
            Ok(consent) => return Verdict::Given(consent),
            Err(why) => Some(why),
        },
    };
    Verdict::Awaited { digest: plan.digest.clone(), message: awaited(asked, plan, &need, why_not.as_deref()) }
}

/// Who requires an approval, and how long one counts.
struct Need {
    /// The fields that require it.
    by: Vec<String>,
    valid: SignedDuration,
}

impl Need {
    fn of(asked: &Asked<'_>, workspace: Option<&Workspace>) -> Option<Self> {
        let own =
            asked.terms.filter(|terms| terms.required).map(|terms| ("spec.approval".to_owned(), terms.valid_seconds));
        let rules = workspace.into_iter().flat_map(|workspace| {
            let name = workspace.name_any();
            let rules = workspace.spec.approvals.iter().enumerate().filter(|(_, rule)| applies(rule, asked));
            rules.map(move |(place, rule)| (format!("spec.approvals[{place}] of workspace {name}"), rule.valid_seconds))
        });
        let needs: Vec<(String, Option<i64>)> = own.into_iter().chain(rules).collect();
        let shortest = needs.iter().map(|(_, seconds)| seconds.unwrap_or(DEFAULT_VALID_SECONDS)).min()?;
        Some(Self { by: needs.into_iter().map(|(by, _)| by).collect(), valid: SignedDuration::from_secs(shortest) })
    }

    fn by(&self) -> String {
        self.by.join(" and ")
    }
}

/// Whether a rule applies. Where the size of a plan is not known, it does.
fn applies(rule: &ApprovalRule, asked: &Asked<'_>) -> bool {
    let changes = asked.plan.as_ref().and_then(|plan| plan.changes);
    // What is said of bulk operations is said of those that delete, too.
    let is_named = |named: &ApprovedType| {
        *named == asked.operation || (*named, asked.operation) == (ApprovedType::Bulk, ApprovedType::BulkDelete)
    };
    rule.types.iter().any(is_named) && changes.is_none_or(|changes| changes >= rule.min_items)
}

fn needs_preview(asked: &Asked<'_>, need: &Need) -> Refusal {
    Refusal::new(
        Reason::ApprovalNeedsPreview,
        format!(
            "make a dry run first (dryRun: true), then create a {} whose preview names it: {} requires that somebody else approves what is done, and without a preview there is nothing to approve",
            asked.kind.as_str(),
            need.by()
        ),
    )
}

/// Whether an approval counts, and if not, why.
fn given(asked: &Asked<'_>, plan: &Plan, need: &Need, approval: &Approval, now: Timestamp) -> Result<Consent, String> {
    let spec = &approval.spec;
    if spec.approves.kind != asked.kind || spec.approves.name != asked.object.name {
        return Err("is for another object".to_owned());
    }
    if spec.approves.uid != asked.object.uid {
        return Err(format!("is for an earlier {} of this name", asked.kind.as_str()));
    }
    if spec.approves.workspace.as_deref() != asked.workspace {
        return Err("is for another workspace".to_owned());
    }
    if approval.metadata.deletion_timestamp.is_some() {
        return Err("is being deleted".to_owned());
    }
    let Some(by) = spec.approved_by.as_ref().filter(|by| !by.username.is_empty()) else {
        return Err("does not say who approves".to_owned());
    };
    if is_same(by, asked.requester) {
        return Err(format!("is by the requester, {}", by.username));
    }
    if by.username.starts_with(&format!("system:serviceaccount:{}:", asked.namespace)) {
        return Err(format!("is by {}, which is an account of this namespace", by.username));
    }
    if spec.plan_digest != plan.digest {
        return Err(format!("is of another plan, {}", spec.plan_digest));
    }
    let created = approval.metadata.creation_timestamp.as_ref().map(|created| created.0);
    if created.is_none_or(|created| now.duration_since(created) >= need.valid) {
        return Err(format!("is older than {} seconds", need.valid.as_secs()));
    }
    Ok(Consent {
        name: approval.name_any(),
        uid: approval.uid().unwrap_or_default(),
        plan_digest: plan.digest.clone(),
        approved_by: by.clone(),
        workspace_run: asked.workspace.map(|_| asked.object.name.clone()),
    })
}

/// Whether two users are one: by name, or by uid where both have one.
fn is_same(by: &Approver, requester: &Initiator) -> bool {
    by.username == requester.username || (by.uid.is_some() && by.uid == requester.uid)
}

/// What an object waits for, as its message.
fn awaited(asked: &Asked<'_>, plan: &Plan, need: &Need, why_not: Option<&str>) -> String {
    let Asked { kind, object, namespace, requester, .. } = asked;
    let name = kind.approval_of(&object.name);
    let mut message = format!(
        "waits until somebody else than {} approves plan {}, as {} requires",
        requester.username,
        plan.digest,
        need.by()
    );
    if let Some(why) = why_not {
        let _ = write!(
            message,
            "; approval {name} does not count: it {why}: delete it first with `kubectl delete approval {name} -n {namespace}`"
        );
    }
    let (workspace, uid) = (asked.workspace.map(str::to_owned), object.uid.clone());
    let approves = Approved { kind: *kind, name: object.name.clone(), uid, workspace };
    let manifest = json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "Approval", "metadata": {"name": name},
        "spec": {"for": approves, "planDigest": plan.digest},
    });
    let _ = write!(
        message,
        "; to approve, with the verb approve on {}: `echo '{manifest}' | kubectl create -n {namespace} -f -`",
        kind.approved_on(asked.workspace.unwrap_or_default())
    );
    message
}
