//! Plans which kinds a capture lists and in which order, from what the cluster serves and what was
//! requested.

#![deny(clippy::disallowed_types)]

use crate::{
    api::reason::item as item_reason,
    api::reason::worker as reason,
    api::{
        item::{GroupKind, ItemId},
        operation_run::Target,
        outcome::{FailureType, ItemFailure},
        provider::KUBERNETES,
        selection::{KindFilter, Selection, target_item},
    },
    items::{redact::redact, served::ServedKind, skip},
    operations::capture::omission::UNKNOWN,
    providers::{call::ListSelection, catalog::Catalog},
    worker::failure::Failure,
};

/// Built-in API groups: those in the chart's role for workers (a test compares them). If a worker
/// may not list one of their kinds, the installation is broken. For any other kind, the platform
/// decides whether workers may list it.
const BUILTIN_GROUPS: [&str; 13] = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "storage.k8s.io",
    "tenantatlas.io",
];

/// Where what was requested can be corrected, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The field with the names.
    pub names: &'static str,
    /// The selection, and in what a corrected one has to be.
    pub selection: &'static str,
}

impl Default for Asked {
    fn default() -> Self {
        Self { names: "inputs.selection.includeNames", selection: "inputs.selection in a new run" }
    }
}

/// What was requested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Requested kinds.
    pub kinds: KindFilter,
    /// The selection, used for its names.
    pub names: Selection,
    /// The label selector, and the name if only one is requested.
    pub list: ListSelection,
    /// The single object, if the run has a target.
    pub target: Option<ItemId>,
    /// Where that was requested.
    pub asked: Asked,
}

impl Scope {
    /// Creates a scope from the selection in the inputs or from the run's target. Only one of them
    /// may be given.
    pub fn new(selection: Selection, target: Option<&Target>) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::permanent(reason::INVALID_INPUTS, message);
        if !selection.provider.is_default() {
            let message = format!(
                "inputs.selection.provider: this worker captures {KUBERNETES} alone, not {}: leave it out",
                selection.provider
            );
            return Err(invalid(message));
        }
        let target = target.map(|target| target_item(&target.api_version, &target.kind, &target.name));
        let names = match &target {
            None => selection,
            Some(_) if !selection.is_everything() => {
                return Err(invalid(
                    "a run with a target takes that object alone: leave out spec.target or inputs.selection".to_owned(),
                ));
            }
            Some(item) => Selection::of_item(item),
        };
        Self::of(names, target)
    }

    /// The scope of one object.
    pub fn of_item(item: ItemId) -> Result<Self, Failure> {
        Self::of(Selection::of_item(&item), Some(item))
    }

    fn of(names: Selection, target: Option<ItemId>) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::permanent(reason::INVALID_INPUTS, message);
        let kinds = names.parse().map_err(|error| invalid(format!("inputs.selection: {error}")))?;
        let name = match names.include_names.as_slice() {
            [name] => Some(name.clone()),
            _ => None,
        };
        let list = ListSelection { label_selector: names.label_selector.clone(), name };
        Ok(Self { kinds, names, list, target, asked: Asked::default() })
    }

    /// Whether a capture can be complete without a kind that the worker may not list: a third-party
    /// kind that was not requested by name.
    #[must_use]
    pub fn can_do_without(&self, kind: &GroupKind) -> bool {
        !BUILTIN_GROUPS.contains(&kind.group.as_str()) && !self.kinds.included().contains(kind)
    }

    /// Whether the API server's count of remaining items equals the number of items to be captured.
    #[must_use]
    pub fn takes_all_names(&self) -> bool {
        self.names.include_names.is_empty() && self.names.exclude_names.is_empty()
    }

    /// Whether individual objects are requested by name.
    #[must_use]
    pub fn names_objects(&self) -> bool {
        !self.names.include_names.is_empty()
    }

    /// Whether only some objects of a kind are requested, so that at least one should exist.
    #[must_use]
    pub fn expects_objects(&self) -> bool {
        self.names_objects() || self.names.label_selector.is_some()
    }

    /// The item for a requested name that no object has, under the one requested kind if there is
    /// only one.
    #[must_use]
    pub fn item_of(&self, name: &str) -> ItemId {
        let kind = match self.kinds.included() {
            [kind] => kind.clone(),
            _ => GroupKind::new(UNKNOWN, UNKNOWN),
        };
        ItemId::new(kind, name)
    }

    /// Rejects an excluded kind that is not served but clearly refers to a served one: all objects
    /// of that kind would be captured.
    pub fn check(&self, discovered: &Catalog) -> Result<(), Failure> {
        let served = |kind: &GroupKind| discovered.kinds.iter().any(|served| served.group_kind() == *kind);
        for kind in self.kinds.excluded().iter().filter(|kind| !served(kind)) {
            if let Some(meant) = meant(kind, discovered) {
                let message =
                    format!("write {meant} in inputs.selection.excludeKinds: {kind} is no kind of the cluster");
                return Err(Failure::permanent(reason::INVALID_INPUTS, message));
            }
        }
        Ok(())
    }

    /// Whether a kind is listed if it is served.
    #[must_use]
    pub fn lists(&self, kind: &GroupKind) -> bool {
        let is_by_default = skip::skipped_kind(kind).is_none();
        self.kinds.takes(kind) && !skip::is_ours(kind) && (is_by_default || self.kinds.included().contains(kind))
    }

    /// Steps of a capture, in the order of the tree.
    #[must_use]
    pub fn plan(&self, discovered: &Catalog) -> Vec<Step> {
        let asked_for = |kind: &GroupKind| self.kinds.included().contains(kind);
        let mut steps = Vec::new();
        for kind in &discovered.kinds {
            let group_kind = kind.group_kind();
            if !self.kinds.takes(&group_kind) {
                continue;
            }
            if skip::is_ours(&group_kind) {
                if asked_for(&group_kind) {
                    let why = "the operator's own records are never captured";
                    let code = skip::SkipReason::OperatorManaged.code();
                    steps.push(Step::note(&kind.version, kind_left_out(&group_kind, code, why)));
                }
            } else if self.lists(&group_kind) {
                steps.push(Step::list(kind.clone()));
            }
        }
        for undiscovered in &discovered.undiscovered {
            let group = &undiscovered.group;
            let asked_for = self.kinds.included().iter().any(|kind| kind.group == *group);
            if asked_for || (self.kinds.included().is_empty() && !skip::skipped_group(group)) {
                let message = format!(
                    "the API server does not know what {group}/{} serves, so none of it was captured: `kubectl get apiservices` says why",
                    undiscovered.version
                );
                let id = ItemId::new(GroupKind::new(group, UNKNOWN), "");
                steps.push(Step::note(&undiscovered.version, failed(&id, item_reason::UNDISCOVERED, &message)));
            }
        }
        for kind in self.kinds.included() {
            let served = discovered.kinds.iter().any(|served| served.group_kind() == *kind);
            let undiscovered = discovered.undiscovered.iter().any(|undiscovered| undiscovered.group == kind.group);
            if !served && !undiscovered && self.kinds.takes(kind) {
                let message = if discovered.read_only.contains(kind) {
                    format!(
                        "leave {kind} out of includeKinds: the cluster only shows it, so that it could not be restored"
                    )
                } else {
                    let remedy = meant(kind, discovered).map_or_else(
                        || "correct the name (`Kind` or `Kind.group`), or install its definition".to_owned(),
                        |meant| format!("write {meant}"),
                    );
                    format!("the cluster serves no {kind} in namespaces: {remedy}")
                };
                let id = ItemId::new(kind.clone(), "");
                steps.push(Step::note(UNKNOWN, failed(&id, item_reason::KIND_NOT_SERVED, &message)));
            }
        }
        steps.sort_by(|one, other| one.place.cmp(&other.place));
        steps.dedup();
        steps
    }
}

/// The served kind that an unknown name refers to: written in different case, or as its resource.
fn meant(written: &GroupKind, discovered: &Catalog) -> Option<GroupKind> {
    let is_meant = |served: &&ServedKind| {
        served.group == written.group
            && (served.kind.eq_ignore_ascii_case(&written.kind) || served.plural.eq_ignore_ascii_case(&written.kind))
    };
    discovered.kinds.iter().find(is_meant).map(ServedKind::group_kind)
}

/// One step of a capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Group, version and kind, with `-` for an unknown one.
    pub place: ServedKind,
    /// What to do for the kind.
    pub work: Work,
}

/// Work of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// List the kind.
    List,
    /// Record an item whose result is known beforehand.
    Note(ItemFailure),
}

impl Step {
    fn list(place: ServedKind) -> Self {
        Self { place, work: Work::List }
    }

    fn note(version: &str, (kind, item): (GroupKind, ItemFailure)) -> Self {
        let place =
            ServedKind { group: kind.group, version: version.to_owned(), kind: kind.kind, plural: String::new() };
        Self { place, work: Work::Note(item) }
    }
}

/// A failed item. The message is redacted.
#[must_use]
pub fn failed(id: &ItemId, code: &str, message: &str) -> (GroupKind, ItemFailure) {
    let item = ItemFailure {
        item_id: id.to_string(),
        reason_code: code.to_owned(),
        message: redact(message).into_owned(),
        failure_type: FailureType::Failure,
    };
    (id.kind.clone(), item)
}

/// A skipped kind, with the reason.
#[must_use]
pub fn kind_left_out(kind: &GroupKind, code: &str, why: &str) -> (GroupKind, ItemFailure) {
    let item = ItemFailure {
        item_id: ItemId::new(kind.clone(), "").to_string(),
        reason_code: code.to_owned(),
        message: why.to_owned(),
        failure_type: FailureType::Skipped,
    };
    (kind.clone(), item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::catalog::UndiscoveredGroup;
    use std::collections::BTreeSet;

    fn served(group: &str, version: &str, kind: &str) -> ServedKind {
        ServedKind {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        }
    }

    fn cluster() -> Catalog {
        Catalog {
            kinds: BTreeSet::from([
                served("", "v1", "ConfigMap"),
                served("", "v1", "Event"),
                served("", "v1", "Secret"),
                served("apps", "v1", "Deployment"),
                served("coordination.k8s.io", "v1", "Lease"),
                served("tenantatlas.io", "v1alpha1", "OperationRun"),
            ]),
            undiscovered: BTreeSet::from([
                UndiscoveredGroup { group: "dead.example.com".into(), version: "v1".into() },
                UndiscoveredGroup { group: "metrics.k8s.io".into(), version: "v1beta1".into() },
            ]),
            ..Catalog::default()
        }
    }

    /// The steps as text: `group/version/Kind` of a list, or the item and code of a note.
    fn planned(include: &[&str], exclude: &[&str]) -> Vec<String> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let selection =
            Selection { include_kinds: texts(include), exclude_kinds: texts(exclude), ..Selection::default() };
        let steps = Scope::new(selection, None).expect("kinds").plan(&cluster());
        let text = |step: &Step| match &step.work {
            Work::List => format!("{}/{}", step.place.api_version(), step.place.kind),
            Work::Note(item) => format!("{}: {}", item.item_id, item.reason_code),
        };
        steps.iter().map(text).collect()
    }

    #[test]
    fn everything_but_what_is_left_out_by_default_is_listed_in_the_order_of_the_tree() {
        assert_eq!(
            planned(&[], &[]),
            ["apps/v1/Deployment", "v1/ConfigMap", "v1/Secret", "dead.example.com/-/: Undiscovered"]
        );
    }

    #[test]
    fn excluded_kinds_are_not_listed() {
        assert_eq!(planned(&["Secret", "ConfigMap"], &["Secret"]), ["v1/ConfigMap"]);
    }

    #[test]
    fn a_kind_left_out_by_default_is_listed_when_asked_for_but_never_one_of_ours() {
        assert_eq!(
            planned(&["Lease.coordination.k8s.io", "OperationRun.tenantatlas.io"], &[]),
            ["coordination.k8s.io/v1/Lease", "tenantatlas.io/OperationRun/: OperatorManaged"]
        );
    }

    #[test]
    fn a_kind_asked_for_that_is_not_served_is_a_failed_item() {
        assert_eq!(planned(&["Widget.example.com"], &[]), ["example.com/Widget/: KindNotServed"]);
        assert_eq!(planned(&["Deployment", "ConfigMap"], &["Deployment"]), ["v1/ConfigMap"]);
        // A kind that cannot be discovered may well be served.
        assert_eq!(planned(&["Widget.dead.example.com"], &[]), ["dead.example.com/-/: Undiscovered"]);
    }

    #[test]
    fn a_target_is_the_only_object_and_excludes_a_selection() {
        let target = Target { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "web".into() };
        let scope = Scope::new(Selection::default(), Some(&target)).expect("a target");
        assert_eq!(scope.list.name.as_deref(), Some("web"));
        assert_eq!(scope.plan(&cluster()).len(), 1);
        let selection = Selection { label_selector: Some("a=b".into()), ..Selection::default() };
        let failure = Scope::new(selection, Some(&target)).expect_err("both");
        assert_eq!(failure.reason, reason::INVALID_INPUTS);
    }

    #[test]
    fn groups_of_the_cluster_itself_are_those_of_the_chart_s_role_for_workers() {
        let chart = include_str!("../../../charts/tenantatlas/templates/rbac/accounts.yaml");
        let (_, role) = chart.split_once("name: tenantatlas-worker-builtin").expect("the role");
        let (role, _) = role.split_once("\n---").expect("its end");
        let groups = role.lines().filter_map(|line| line.trim().strip_prefix("- apiGroups: [")?.strip_suffix(']'));
        let mut groups: Vec<&str> = groups.map(|group| group.trim_matches('"')).collect();
        groups.push(crate::api::GROUP);
        groups.sort_unstable();
        assert_eq!(groups, BUILTIN_GROUPS);
    }

    #[test]
    fn a_capture_can_do_without_somebody_else_s_kind_that_nobody_asked_for() {
        let scope = |include: &[&str]| {
            let include_kinds = include.iter().map(|kind| (*kind).to_owned()).collect();
            Scope::new(Selection { include_kinds, ..Selection::default() }, None).expect("kinds")
        };
        let (backup, secret) = (GroupKind::new("velero.io", "Backup"), GroupKind::new("", "Secret"));
        assert!(scope(&[]).can_do_without(&backup) && !scope(&[]).can_do_without(&secret));
        assert!(!scope(&["Backup.velero.io"]).can_do_without(&backup));
    }

    #[test]
    fn a_selection_of_another_provider_is_refused() {
        let selection = Selection { provider: "graph".into(), ..Selection::default() };
        let failure = Scope::new(selection, None).expect_err("there is no such provider here");
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (reason::INVALID_INPUTS, 40));
    }

    #[test]
    fn what_is_not_a_kind_is_refused() {
        let selection = Selection { include_kinds: vec!["apps/v1".into()], ..Selection::default() };
        let failure = Scope::new(selection, None).expect_err("no kind");
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (reason::INVALID_INPUTS, 40));
        assert!(failure.message.contains("apps/v1"), "{}", failure.message);
    }

    #[test]
    fn a_kind_in_lower_case_is_one_like_others() {
        let mut cluster = cluster();
        cluster.kinds.insert(served("acid.zalan.do", "v1", "postgresql"));
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
        let scope = |include: &[&str], exclude: &[&str]| {
            let selection =
                Selection { include_kinds: kinds(include), exclude_kinds: kinds(exclude), ..Selection::default() };
            Scope::new(selection, None).expect("kinds")
        };
        let listed = |scope: &Scope| {
            let lists = scope.plan(&cluster).into_iter().filter(|step| step.work == Work::List);
            lists.map(|step| step.place.kind).collect::<Vec<_>>()
        };
        assert_eq!(listed(&scope(&["postgresql.acid.zalan.do"], &[])), ["postgresql"]);
        assert!(listed(&scope(&[], &[])).contains(&"postgresql".to_owned()));
        assert!(!listed(&scope(&[], &["postgresql.acid.zalan.do"])).contains(&"postgresql".to_owned()));
        let target = Target { api_version: "acid.zalan.do/v1".into(), kind: "postgresql".into(), name: "main".into() };
        assert_eq!(listed(&Scope::new(Selection::default(), Some(&target)).expect("a target")), ["postgresql"]);
    }

    #[test]
    fn a_kind_that_is_written_as_its_resource_is_corrected_and_never_captured_against_the_author_s_will() {
        let selection = |include: &[&str], exclude: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let selection =
                Selection { include_kinds: texts(include), exclude_kinds: texts(exclude), ..Selection::default() };
            Scope::new(selection, None).expect("kinds")
        };
        let steps = selection(&["deployments.apps"], &[]).plan(&cluster());
        let Work::Note(item) = &steps[0].work else { panic!("{steps:?}") };
        assert_eq!(item.reason_code, item_reason::KIND_NOT_SERVED);
        assert!(item.message.ends_with("write Deployment.apps"), "{}", item.message);
        for written in ["secrets", "secret", "SECRET"] {
            let failure = selection(&[], &[written]).check(&cluster()).expect_err("no kind");
            assert_eq!(failure.reason, reason::INVALID_INPUTS);
            assert!(failure.message.starts_with("write Secret in"), "{}", failure.message);
        }
        // Another cluster may have a kind that this one lacks: schedules are copied between
        // clusters.
        selection(&[], &["Secret", "Widget.example.com"]).check(&cluster()).expect("nothing is meant by it");
    }

    #[test]
    fn a_kind_that_is_only_shown_is_not_captured_and_who_asks_for_it_is_told() {
        let mut cluster = cluster();
        let shown = GroupKind::new("metrics.example.com", "PodMetrics");
        cluster.read_only.insert(shown.clone());
        let everything = Scope::new(Selection::default(), None).expect("kinds");
        assert!(everything.plan(&cluster).iter().all(|step| step.place.group != shown.group));
        let selection = Selection { include_kinds: vec![shown.to_string()], ..Selection::default() };
        let steps = Scope::new(selection, None).expect("kinds").plan(&cluster);
        let Work::Note(item) = &steps[0].work else { panic!("{steps:?}") };
        assert_eq!(item.reason_code, item_reason::KIND_NOT_SERVED);
        assert!(item.message.starts_with("leave PodMetrics.metrics.example.com out"), "{}", item.message);
    }
}
