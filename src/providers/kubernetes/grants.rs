//! Whether the requester may grant the permissions that an item grants. The API server's
//! authorizers are asked what RBAC would ask them.
//!
//! [`crate::items::escalation`] derives the questions. Answers are cached for the run, because the
//! same roles recur.

use crate::{
    api::reason::item as reason,
    api::subject::Initiator,
    cluster::retry::retry,
    items::{
        escalation::{Grant, Right, RoleRef, grant, rights},
        plan::{Action, Remark},
        proposal::Proposal,
    },
    providers::{PlannedRoles, fault::CallFailed, kubernetes::access},
};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authorization::v1::ResourceAttributes,
    rbac::v1::{ClusterRole, Role},
};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Reviews sent concurrently.
const AT_ONCE: usize = 8;

/// Maximum number of reviews per restore: a repository may hold any number of roles, with any
/// rules.
const MAX_REVIEWS: usize = 50_000;

/// Reviews of a restore, with their cached answers.
pub struct Grants {
    client: Client,
    namespace: String,
    requested_by: Initiator,
    answers: Mutex<BTreeMap<Right, bool>>,
}

impl Grants {
    /// Creates the reviews of a restore.
    #[must_use]
    pub fn new(client: Client, namespace: String, requested_by: Initiator) -> Self {
        Self { client, namespace, requested_by, answers: Mutex::default() }
    }

    /// Why a write grants more than the requester may grant, if it does. `planned` are the roles
    /// that the same plan writes before it. It is `None` when plans are executed, because then the
    /// live roles count.
    pub async fn refuses(
        &self,
        proposal: &Proposal,
        planned: Option<&PlannedRoles>,
    ) -> Result<Option<(Action, Remark)>, CallFailed> {
        let shown = proposal.is_shown();
        match grant(proposal.item(), proposal.write()) {
            None => Ok(None),
            Some(Grant::Nothing) => {
                let message = "correct roleRef with a transform: it names no Role or ClusterRole";
                Ok(Some((Action::Invalid, Remark::new(reason::INVALID, message))))
            }
            Some(Grant::Rules { name, exists, rules }) => {
                let lacks = self.lacks(rules).await?;
                if let Some(planned) = planned {
                    planned.roles().insert(name.to_owned(), lacks.clone());
                }
                let Some(lacks) = lacks else { return Ok(None) };
                let escalate = Right::of_rbac("escalate", "roles", exists.then_some(name));
                Ok(if self.may(&escalate).await? { None } else { Some(self.forbidden(&escalate, &lacks, shown)) })
            }
            Some(Grant::Role(role)) => self.refuses_binding(role, planned, shown).await,
        }
    }

    async fn refuses_binding(
        &self,
        role: RoleRef<'_>,
        planned: Option<&PlannedRoles>,
        shown: bool,
    ) -> Result<Option<(Action, Remark)>, CallFailed> {
        let bind = role.bind();
        if self.may(&bind).await? {
            return Ok(None);
        }
        let of_plan = planned.filter(|_| !role.of_cluster).and_then(|planned| planned.roles().get(role.name).cloned());
        let lacks = match of_plan {
            Some(lacks) => lacks,
            None => match self.rules(role).await? {
                Rules::Of(rules) => self.lacks(&rules).await?,
                Rules::Unreadable => Some(format!("what {role} gives is not for this restore's account to read")),
                Rules::NoSuchRole => {
                    let role = if shown { role.to_string() } else { "role that it binds".to_owned() };
                    let message =
                        format!("make the {role} first, or give {} the verb bind on it: it is not there", self.who());
                    return Ok(Some((Action::Invalid, Remark::new(reason::INVALID, message))));
                }
            },
        };
        Ok(lacks.map(|lacks| self.forbidden(&bind, &lacks, shown)))
    }

    /// `shown`: whether every reader of the report may read which permissions the item grants.
    fn forbidden(&self, verb: &Right, lacks: &str, shown: bool) -> (Action, Remark) {
        let who = self.who();
        let message = if shown {
            format!(
                "let {who} hold what it gives or `{verb}`, or exclude the item: a restore gives no rights that who asked could not give by hand, and {lacks}"
            )
        } else {
            format!(
                "let {who} hold what it gives, or the verb `{}`, or exclude the item: a restore gives no rights that who asked could not give by hand, and `kubectl apply --dry-run=server` names those that {who} lacks",
                verb.verb
            )
        };
        (Action::Forbidden, Remark::new(reason::FORBIDDEN, message))
    }

    fn who(&self) -> &str {
        &self.requested_by.username
    }

    /// What the requester lacks of these rules, worded to follow "and".
    async fn lacks(&self, rules: &Value) -> Result<Option<String>, CallFailed> {
        let rights: Vec<Right> = match rights(rules) {
            Ok(rights) => rights.collect(),
            Err(unaskable) => return Ok(Some(format!("the role {}", unaskable.what()))),
        };
        let mut answers = stream::iter(rights)
            .map(|right| async move { self.may(&right).await.map(|may| (!may).then_some(right)) })
            .buffered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            if let Some(right) = answer? {
                return Ok(Some(format!("{} may not {right}", self.who())));
            }
        }
        Ok(None)
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<Right, bool>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the requester has a permission. Once the maximum number of reviews is reached,
    /// further permissions count as denied.
    async fn may(&self, right: &Right) -> Result<bool, CallFailed> {
        let (known, full) = {
            let answers = self.answers();
            (answers.get(right).copied(), answers.len() >= MAX_REVIEWS)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        if full {
            return Ok(false);
        }
        let attributes = ResourceAttributes {
            verb: Some(right.verb.clone()),
            group: Some(right.group.clone()),
            version: Some("*".to_owned()),
            resource: Some(right.resource.clone()),
            subresource: right.subresource.clone(),
            name: right.name.clone(),
            ..ResourceAttributes::default()
        };
        let may = retry(|| access::may(&self.client, &self.namespace, &self.requested_by, attributes.clone()))
            .await
            .map_err(|error| CallFailed::new("ask what who wants this restore may give", error))?;
        self.answers().insert(right.clone(), may);
        Ok(may)
    }

    /// The current rules of a role.
    async fn rules(&self, role: RoleRef<'_>) -> Result<Rules, CallFailed> {
        let RoleRef { of_cluster, name } = role;
        let read = if of_cluster {
            let roles: Api<ClusterRole> = Api::all(self.client.clone());
            retry(|| roles.get_opt(name)).await.map(|role| role.map(|role| json!(role.rules)))
        } else {
            let roles: Api<Role> = Api::namespaced(self.client.clone(), &self.namespace);
            retry(|| roles.get_opt(name)).await.map(|role| role.map(|role| json!(role.rules)))
        };
        match read {
            Ok(Some(rules)) => Ok(Rules::Of(rules)),
            Ok(None) => Ok(Rules::NoSuchRole),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => Ok(Rules::Unreadable),
            Err(error) => Err(CallFailed::new(format!("read the {role}"), error)),
        }
    }
}

/// What is known about a role's rules.
enum Rules {
    Of(Value),
    NoSuchRole,
    Unreadable,
}
