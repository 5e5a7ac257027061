//! Which backup sets are compared, and what it means that one of them does not hold an item.

use crate::{
    api::{
        BackupSet,
        backup_set::{Content, Coverage, is_damaged},
        inventory::Completeness,
        item::GroupKind,
        operation_report::Remark,
        operations::BaselineInput,
        reason::{drift as reason, restore},
    },
    operations::{
        capture::scope::Scope,
        inventory::read::Holdings,
        restore::order::{expect_own, no_set},
    },
    worker::{environment::Environment, failure::Failure, sets},
};
use kube::Client;

/// The backup set that is the baseline.
pub async fn choose(
    client: &Client,
    environment: &Environment,
    input: Option<&BaselineInput>,
) -> Result<BackupSet, Failure> {
    let input = input.cloned().unwrap_or_default();
    if let Some(name) = &input.backup_set {
        return find(client, environment, name).await;
    }
    let all = sets::list(client, environment).await?;
    newest(all, environment, input.schedule.as_deref()).ok_or_else(|| {
        let of = match &input.schedule {
            Some(schedule) => format!("schedule {schedule}"),
            None => "backup.capture".to_owned(),
        };
        let message = format!(
            "repository {} has no backup set of {of} that holds the whole tenant: try again after the next one, or name a set in inputs.baseline.backupSet",
            environment.repository
        );
        Failure::blocked(reason::NO_BASELINE, message)
    })
}

/// Finds a backup set of this tenant.
pub async fn find(client: &Client, environment: &Environment, name: &str) -> Result<BackupSet, Failure> {
    let set = sets::find(client, environment, name).await?.ok_or_else(|| no_set(name))?;
    if set.metadata.deletion_timestamp.is_some() {
        let message = format!("the backup set {name} is being deleted: name another one in a new run");
        return Err(Failure::blocked(reason::BACKUP_SET_TERMINATING, message));
    }
    expect_own(environment, &set)?;
    if set.spec.namespace_uid != environment.namespace_uid || set.is_adopted() {
        let message = format!(
            "the backup set {name} is of another namespace, of which every object has another identity: name a set of this tenant"
        );
        return Err(Failure::blocked(restore::FOREIGN_BACKUP_SET, message));
    }
    Ok(set)
}

/// The newest intact set that holds the whole tenant: of a schedule, or with objects.
fn newest(sets: Vec<BackupSet>, environment: &Environment, schedule: Option<&str>) -> Option<BackupSet> {
    let fits = |set: &BackupSet| {
        let spec = &set.spec;
        let of_schedule = spec.backup_schedule.as_ref().map(|schedule| schedule.name.as_str());
        let is_asked_for = match schedule {
            Some(schedule) => of_schedule == Some(schedule),
            None => spec.content == Content::Objects,
        };
        is_asked_for
            && spec.repository.name == environment.repository
            && spec.namespace_uid == environment.namespace_uid
            && spec.coverage == Coverage::Full
            && !set.is_adopted()
            && !is_damaged(set)
            && set.metadata.deletion_timestamp.is_none()
    };
    let age = |set: &BackupSet| (set.metadata.creation_timestamp.clone(), set.metadata.name.clone());
    sets.into_iter().filter(fits).max_by_key(age)
}

/// A backup set that was opened.
pub struct Opened {
    /// Name of the set.
    pub name: String,
    /// What it holds.
    pub holdings: Holdings,
}

impl Opened {
    /// Whether an item of a kind that the set does not hold did not exist. If that is unknown, the
    /// error says why. Labels do not tell: an item that lost its labels still exists.
    pub fn absence(&self, kind: &GroupKind, scope: &Scope) -> Result<(), Remark> {
        let unknown = |code: &str, why: &str| {
            Err(Remark::new(
                code,
                format!("backup set {} {why}, so that it is unknown whether the item existed", self.name),
            ))
        };
        if scope.names.label_selector.is_some() {
            return unknown(reason::OUTSIDE_SELECTION, "is compared by labels, which an item may lose or get");
        }
        let Some(of_set) = self.holdings.scope() else {
            return unknown(reason::BASELINE_SCOPE, "does not say which items it would hold");
        };
        if !of_set.names.is_everything() && of_set.names.scope_key() != scope.names.scope_key() {
            return unknown(reason::BASELINE_SCOPE, "holds another selection than inputs.selection");
        }
        match self.holdings.completeness(kind) {
            Some(Completeness::Complete) => Ok(()),
            Some(_) => unknown(reason::NOT_CAPTURED, "left out the kind, or items of it"),
            None => unknown(reason::OUTSIDE_SELECTION, "does not select the kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::environment::tests::variables;
    use kube::ResourceExt as _;
    use serde_json::json;

    #[test]
    fn the_baseline_by_default_is_the_newest_intact_set_with_all_objects_of_this_tenant() {
        let variables = variables();
        let environment = Environment::read(&|name| variables.get(name).cloned()).expect("whole");
        let set = |name: &str, minute: u32, spec: serde_json::Value| -> BackupSet {
            let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
                "spec": {"repository": {"name": "main"}, "snapshot": "a", "run": {"name": "r", "uid": "u"}, "namespaceUid": "namespace-uid", "coverage": "full"}});
            for (field, value) in spec.as_object().cloned().unwrap_or_default() {
                set["spec"][field] = value;
            }
            serde_json::from_value(set).expect("a set")
        };
        let mut going = set("going", 9, json!({}));
        going.metadata.deletion_timestamp.clone_from(&going.metadata.creation_timestamp);
        let of_schedule = json!({"backupSchedule": {"name": "hourly", "uid": "u"}, "content": "Inventory"});
        let all = vec![
            set("older", 0, json!({})),
            set("newest", 1, json!({})),
            set("partial", 2, json!({"coverage": "partial"})),
            set("elsewhere", 3, json!({"repository": {"name": "other"}})),
            set("foreign", 4, json!({"namespaceUid": "other"})),
            set("inventory", 5, of_schedule),
            going,
        ];
        let name = |schedule: Option<&str>| newest(all.clone(), &environment, schedule).map(|set| set.name_any());
        assert_eq!(name(None).as_deref(), Some("newest"));
        assert_eq!(name(Some("hourly")).as_deref(), Some("inventory"));
        assert_eq!(name(Some("daily")), None);
    }
}
