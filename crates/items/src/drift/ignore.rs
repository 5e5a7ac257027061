//! Which differences do not count: by request, and by default what controllers and webhooks write.
//!
//! A tenant may write most of what these rules look at. So a default rule covers only what somebody
//! else corrects or what shows in another finding: replicas while an autoscaler that exists targets
//! the item, and sidecars only of a Pod, where a webhook adds them.

use super::{
    changes::Step,
    pattern::{KindPattern, Pointer, glob},
};
use crate::{
    api::{
        item::{GroupKind, ItemId},
        operations::IgnoreInput,
    },
    labels::LabelSelector,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Paths that tools keep for themselves, in every kind.
const PATHS: [&str; 5] = [
    // Repeats fields that are compared themselves.
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
    "/metadata/annotations/deprecated.daemonset.template.generation",
    "/metadata/annotations/field.cattle.io~1publicEndpoints",
    "/metadata/annotations/sidecar.istio.io~1status",
    "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
];

/// ConfigMaps with a CA bundle, which a controller writes into every namespace.
const CA_BUNDLES: [&str; 3] = ["kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt"];

/// Containers and volumes that webhooks add to Pods.
const SIDECARS: [&str; 16] = [
    "istio-proxy",
    "istio-init",
    "istio-validation",
    "istio-envoy",
    "istio-data",
    "istio-podinfo",
    "istio-token",
    "istiod-ca-cert",
    "workload-certs",
    "workload-socket",
    "credential-socket",
    "linkerd-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-identity-end-entity",
    "linkerd-identity-token",
];

/// The kind that says who sets replicas.
pub const AUTOSCALER: (&str, &str) = ("autoscaling", "HorizontalPodAutoscaler");

/// What does not count.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// Items of which an autoscaler sets the replicas.
    scaled: BTreeSet<ItemId>,
}

#[derive(Clone, Debug)]
struct Rule {
    kinds: Vec<KindPattern>,
    name: Option<String>,
    labels: Option<LabelSelector>,
    paths: Vec<Pointer>,
}

impl Ignore {
    /// Reads rules, and adds those by default. The error says what is wrong, and where: `place` is the
    /// field that has the rules.
    pub fn new(inputs: &[IgnoreInput], place: &str) -> Result<Self, String> {
        let mut rules = Vec::with_capacity(inputs.len() + 1);
        for (number, input) in inputs.iter().enumerate() {
            rules.push(Rule::read(input).map_err(|problem| format!("{place}[{number}]{problem}"))?);
        }
        let paths = PATHS.iter().filter_map(|path| Pointer::parse(path).ok()).collect();
        rules.push(Rule { kinds: Vec::new(), name: None, labels: None, paths });
        Ok(Self { rules, scaled: BTreeSet::new() })
    }

    /// Adds an autoscaler: it sets the replicas of its target.
    pub fn add_autoscaler(&mut self, autoscaler: &Value) {
        let target = &autoscaler["spec"]["scaleTargetRef"];
        let (Some(kind), Some(name)) = (target["kind"].as_str(), target["name"].as_str()) else { return };
        let group = target["apiVersion"].as_str().and_then(|version| version.split_once('/'));
        let group = group.map_or("", |(group, _)| group);
        self.scaled.insert(ItemId::new(GroupKind::new(group, kind), name));
    }

    /// Whether a rule looks at labels, so that it needs the object itself.
    #[must_use]
    pub fn reads_labels(&self) -> bool {
        self.rules.iter().any(|rule| rule.labels.is_some())
    }

    /// The rules for one item. `object` is the item in the baseline, or the one that was added.
    #[must_use]
    pub fn of_item<'a>(&'a self, item: &'a ItemId, object: Option<&Value>) -> OfItem<'a> {
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.takes(item, object)).collect();
        let is_ca_bundle = item.kind == GroupKind::new("", "ConfigMap") && CA_BUNDLES.contains(&item.name.as_str());
        let whole = is_ca_bundle || rules.iter().any(|rule| rule.paths.is_empty());
        let is_pod = item.kind == GroupKind::new("", "Pod");
        OfItem { rules, whole, is_pod, is_scaled: self.scaled.contains(item) }
    }
}

impl Rule {
    fn read(input: &IgnoreInput) -> Result<Self, String> {
        if *input == IgnoreInput::default() {
            return Err(": say what to ignore: kinds, namePattern, labelSelector or paths; an empty rule would ignore everything".to_owned());
        }
        let kinds = KindPattern::read_all(&input.kinds)?;
        let paths = Pointer::read_all(&input.paths)?;
        let labels = input.label_selector.as_ref().map(|text| text.parse());
        let labels = labels.transpose().map_err(|error| format!(".labelSelector: {error}"))?;
        Ok(Self { kinds, name: input.name_pattern.clone(), labels, paths })
    }

    fn takes(&self, item: &ItemId, object: Option<&Value>) -> bool {
        let has_labels = |labels: &LabelSelector| object.is_some_and(|object| labels.matches(object));
        KindPattern::any_takes(&self.kinds, &item.kind)
            && self.name.as_ref().is_none_or(|pattern| glob(pattern, &item.name))
            && self.labels.as_ref().is_none_or(has_labels)
    }
}

/// What does not count of one item.
#[derive(Debug)]
pub struct OfItem<'a> {
    rules: Vec<&'a Rule>,
    whole: bool,
    is_pod: bool,
    is_scaled: bool,
}

impl OfItem<'_> {
    /// Whether no difference of the item counts.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// Whether a change at this place does not count. `is_added` is whether the baseline has nothing
    /// there.
    pub(super) fn takes(&self, steps: &[Step], is_added: bool) -> bool {
        if self.pointers().any(|pointer| pointer.covers(steps)) {
            return true;
        }
        let field = |at: usize| steps.get(at).map(Step::name);
        if self.is_scaled && (steps.len(), field(0), field(1)) == (2, Some("spec"), Some("replicas")) {
            return true;
        }
        let list = field(1).filter(|_| field(0) == Some("spec"));
        self.is_pod
            && is_added
            && list.is_some_and(|list| ["containers", "initContainers", "volumes"].contains(&list))
            && field(2).is_some_and(|name| SIDECARS.contains(&name))
    }

    /// Whether a rule is about something within this place.
    pub(super) fn goes_into(&self, steps: &[Step]) -> bool {
        self.pointers().any(|pointer| pointer.goes_into(steps))
    }

    fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.rules.iter().flat_map(|rule| &rule.paths)
    }
}
