//! Which tenants a workspace run takes, in which wave each is, and what became of each. Pure.
//!
//! Nothing of this is recorded tenant by tenant. It follows from the tenants that there are, from
//! their runs, and from two names in each wave that has started: its last tenant, and the last one
//! whose run was created.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Outcome, Phase, Reason, WorkspaceRun,
        workspace_run::{RefusedTenant, Wave, WaveStatus},
    },
    items::labels::LabelSelector,
    kernel::refusal::Refusal,
    runs::children::Child,
};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A tenant of the workspace that is not being deleted.
#[derive(Clone, Debug, Default)]
pub struct Tenant {
    /// The namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// A tenant that the workspace run takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target<'o> {
    /// The namespace.
    pub namespace: &'o str,
    /// Its wave, from 0.
    pub wave: usize,
    /// What became of it.
    pub state: State<'o>,
}

/// What became of a tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State<'o> {
    /// It has no run yet.
    Waiting,
    /// Its run is not completed.
    Active(&'o Child),
    /// Its run succeeded.
    Succeeded(&'o Child),
    /// Its run ended otherwise.
    Failed(&'o Child),
    /// No run could be created.
    Refused(&'o RefusedTenant),
    /// It has no run although its turn has passed: its run was deleted, or it became a tenant of the
    /// wave too late. No run is created, because the deleted one may have done its work.
    Gone,
}

impl State<'_> {
    /// Whether nothing more happens to the tenant.
    #[must_use]
    pub fn is_done(self) -> bool {
        !matches!(self, Self::Waiting | Self::Active(_))
    }

    /// Whether it counts as failed.
    #[must_use]
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Failed(_) | Self::Refused(_) | Self::Gone)
    }
}

/// The selectors of a workspace run, parsed.
#[derive(Clone, Debug)]
pub struct Selectors {
    tenants: Option<LabelSelector>,
    waves: Vec<Option<LabelSelector>>,
}

impl Selectors {
    /// Parses the selectors.
    ///
    /// # Errors
    ///
    /// Which one is invalid, and why.
    pub fn parse(run: &WorkspaceRun) -> Result<Self, Refusal> {
        let parse = |selector: Option<&String>, field: &str| {
            let invalid = |error| Refusal::new(Reason::InvalidWorkspaceRun, format!("{field}: {error}"));
            selector.map(|text| text.parse::<LabelSelector>().map_err(invalid)).transpose()
        };
        let waves = run.spec.waves.iter().enumerate();
        Ok(Self {
            tenants: parse(run.spec.tenant_selector.as_ref(), "spec.tenantSelector")?,
            waves: waves
                .map(|(number, wave)| {
                    parse(wave.tenant_selector.as_ref(), &format!("spec.waves[{number}].tenantSelector"))
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What the targets follow from.
#[derive(Clone, Copy, Debug)]
pub struct Given<'o> {
    /// The workspace run.
    pub run: &'o WorkspaceRun,
    /// Its selectors.
    pub selectors: &'o Selectors,
    /// The tenants of its workspace.
    pub tenants: &'o [Tenant],
    /// Its runs, by namespace.
    pub children: &'o BTreeMap<String, Child>,
    /// Tenants that succeeded in the workspace run that this one repeats.
    pub succeeded_before: &'o BTreeSet<String>,
    /// If set, no other tenants are taken.
    pub only: Option<&'o BTreeSet<&'o str>>,
    /// Tenants in which no run could be created.
    pub refused: &'o [RefusedTenant],
}

/// The tenants that a workspace run takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<'o> {
    /// The tenants, by name.
    pub targets: Vec<Target<'o>>,
    /// For each wave of the spec that takes a number of tenants, its last tenant by name.
    pub ends: Vec<Option<&'o str>>,
}

/// Plans with the waves that have started.
#[must_use]
pub fn plan<'o>(given: Given<'o>, started: &'o [WaveStatus]) -> Plan<'o> {
    let Given { run, selectors, tenants, children, succeeded_before, only, refused } = given;
    let created = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let selects = run.selects_by_labels();
    // For each tenant the first wave whose selector takes it.
    let mut taken: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for tenant in tenants {
        let labels = selects.then(|| json!({ "metadata": { "labels": tenant.labels } }));
        let matches = |selector: &LabelSelector| labels.as_ref().is_some_and(|labels| selector.matches(labels));
        let is_older = tenant.created.zip(created).is_none_or(|(tenant, run)| tenant <= run);
        let is_selected = selectors.tenants.as_ref().is_none_or(matches);
        let is_named = only.is_none_or(|only| only.contains(tenant.namespace.as_str()));
        let is_target = is_older && is_selected && is_named && !succeeded_before.contains(&tenant.namespace);
        if is_target || children.contains_key(&tenant.namespace) {
            let wave = selectors.waves.iter().position(|selector| selector.as_ref().is_some_and(matches));
            taken.insert(&tenant.namespace, wave);
        }
    }
    // What has a run counts, also if its namespace is no tenant of the workspace any more.
    for namespace in children.keys() {
        taken.entry(namespace).or_insert(None);
    }
    let ends = ends(&run.spec.waves, started, &taken);
    let refused: BTreeMap<&str, &RefusedTenant> = refused.iter().map(|one| (one.namespace.as_str(), one)).collect();
    let target = |(namespace, selected): (&'o str, Option<usize>)| {
        let by_name = || ends.iter().position(|end| end.is_some_and(|end| namespace <= end));
        let wave = selected.or_else(by_name).unwrap_or(run.spec.waves.len());
        let state = match (children.get(namespace), refused.get(namespace)) {
            (Some(child), _) => of_child(child),
            (None, Some(refused)) => State::Refused(refused),
            (None, None) if has_passed(started, wave, namespace) => State::Gone,
            (None, None) => State::Waiting,
        };
        Target { namespace, wave, state }
    };
    let targets = taken.into_iter().map(target).collect();
    Plan { targets, ends }
}

fn of_child(child: &Child) -> State<'_> {
    match (child.phase, child.outcome) {
        (Phase::Queued | Phase::Running, _) => State::Active(child),
        (Phase::Completed, Outcome::Succeeded) => State::Succeeded(child),
        (Phase::Completed, _) => State::Failed(child),
    }
}

/// Whether the turn of a tenant has passed: a later wave has started, or a run was created for a later
/// tenant of its wave.
fn has_passed(started: &[WaveStatus], wave: usize, namespace: &str) -> bool {
    let Some(last) = started.last() else { return false };
    let current = started.len() - 1;
    wave < current || (wave == current && last.started_through.as_deref().is_some_and(|through| namespace <= through))
}

/// For each wave that takes a number of tenants, its last tenant by name; `None` for one that takes
/// none. A wave that has started keeps its last tenant, so that no tenant changes its wave when another
/// one goes.
fn ends<'n>(
    waves: &'n [Wave],
    started: &'n [WaveStatus],
    taken: &BTreeMap<&'n str, Option<usize>>,
) -> Vec<Option<&'n str>> {
    let mut rest = taken.iter().filter(|(_, wave)| wave.is_none()).map(|(namespace, _)| *namespace).peekable();
    let mut ends = Vec::new();
    for (number, wave) in waves.iter().enumerate() {
        let end = match (started.get(number), size(wave, taken.len())) {
            (Some(started), _) => {
                let end = started.through.as_deref();
                while rest.next_if(|namespace| end.is_some_and(|end| *namespace <= end)).is_some() {}
                end
            }
            (None, size) => rest.by_ref().take(size).last(),
        };
        ends.push(end);
    }
    ends
}

fn size(wave: &Wave, total: usize) -> usize {
    let number = |value: i32| usize::try_from(value).unwrap_or_default();
    match (wave.tenants, wave.percent) {
        (Some(tenants), _) => number(tenants),
        (None, Some(percent)) => (total * number(percent)).div_ceil(100),
        (None, None) => 0,
    }
}
