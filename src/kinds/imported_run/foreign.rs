//! What is read of a record of another system: a few fields, each as far as it has the form that is
//! expected, and none longer than it may be listed. Pure.
//!
//! Whoever writes the record decides what is in it. A field of another form is read as absent, so
//! that no record keeps others from being listed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    records::Record,
    words::{self, Verdict},
};
use crate::{
    api::{
        ImportedRunStatus,
        imported_run::{MAX_MESSAGE, MAX_NAMESPACES, MAX_WORD, Source, System},
        labels,
        reference::is_object_name,
        result::truncate,
    },
    cluster::trim::LEFT_OUT,
    items::redact::redact,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, GroupVersionKind},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashMap};

/// A kind of another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Backup of Velero.
    VeleroBackup,
    /// A Restore of Velero.
    VeleroRestore,
    /// A Schedule of Velero.
    VeleroSchedule,
    /// A Backup of K8up.
    K8upBackup,
    /// A Schedule of K8up.
    K8upSchedule,
    /// A Job.
    Job,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::VeleroBackup,
        Self::VeleroRestore,
        Self::VeleroSchedule,
        Self::K8upBackup,
        Self::K8upSchedule,
        Self::Job,
    ];

    /// The system that the kind belongs to.
    #[must_use]
    pub fn system(self) -> System {
        match self {
            Self::VeleroBackup | Self::VeleroRestore | Self::VeleroSchedule => System::Velero,
            Self::K8upBackup | Self::K8upSchedule => System::K8up,
            Self::Job => System::Cronjob,
        }
    }

    /// Group, version, kind and plural.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::VeleroBackup => ("velero.io", "v1", "Backup", "backups"),
            Self::VeleroRestore => ("velero.io", "v1", "Restore", "restores"),
            Self::VeleroSchedule => ("velero.io", "v1", "Schedule", "schedules"),
            Self::K8upBackup => ("k8up.io", "v1", "Backup", "backups"),
            Self::K8upSchedule => ("k8up.io", "v1", "Schedule", "schedules"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
        }
    }

    /// The same as kube has it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

/// A condition of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    pub reason: String,
    /// The same for people.
    pub message: String,
    #[serde(rename = "lastTransitionTime")]
    changed: Option<String>,
}

impl Condition {
    /// Type and reason.
    #[must_use]
    pub fn word(&self) -> String {
        if self.reason.is_empty() { self.kind.clone() } else { format!("{}: {}", self.kind, self.reason) }
    }

    /// The message, if there is one.
    #[must_use]
    pub fn says(&self) -> Option<String> {
        Some(self.message.clone()).filter(|message| !message.is_empty())
    }
}

/// What is read of a record of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "fields of others, each as they have it")]
pub struct Read {
    created: Option<Timestamp>,
    claims: Option<String>,
    of_a_cron_job: bool,
    included: Vec<String>,
    excluded: Vec<String>,
    /// Whether there is a `spec.namespaceMapping`: the record is also about its targets.
    is_mapped: bool,
    /// `spec.paused`.
    pub paused: bool,
    /// `status.phase`.
    pub phase: Option<String>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    /// `status.started`.
    pub started: bool,
    /// `status.finished`.
    pub finished: bool,
    failure: Option<String>,
    invalid: Vec<String>,
    errors: u64,
    warnings: u64,
    conditions: Vec<Condition>,
    /// Whether a field of the status could not be read: it is too large, or has another form.
    unread: bool,
}

impl Read {
    /// The condition of a type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// What Velero says about a record.
    #[must_use]
    pub fn velero_says(&self) -> Option<String> {
        let counts = (self.errors > 0 || self.warnings > 0)
            .then(|| format!("{} errors, {} warnings", self.errors, self.warnings));
        let all = self.failure.iter().chain(&self.invalid).chain(&counts).cloned().collect::<Vec<_>>();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn of(text: &str) -> Self {
        let object = fields(text);
        let metadata = section(&object, "metadata");
        let (spec, status) = (section(&object, "spec"), section(&object, "status"));
        // A Schedule has the spec of its Backups within its own.
        let template = section(&spec, "template");
        let namespaces = |of: &str| field(&spec, of).or_else(|| field(&template, of)).unwrap_or_default();
        let conditions: Vec<Condition> = field(&status, "conditions").unwrap_or_default();
        let owners: Vec<OwnerReference> = field(&metadata, "ownerReferences").unwrap_or_default();
        let is_cron_job = |owner: &OwnerReference| {
            owner.controller == Some(true) && owner.kind == "CronJob" && owner.api_version.starts_with("batch/")
        };
        let annotations: HashMap<String, String> = field(&metadata, "annotations").unwrap_or_default();
        let at = |names: [&str; 2]| names.iter().find_map(|name| time(field::<String>(&status, name)?.as_str()));
        let done = |condition: &&Condition| {
            condition.status == "True" && ["Completed", "Failed"].contains(&condition.kind.as_str())
        };
        let done = conditions.iter().find(done).and_then(|condition| time(condition.changed.as_deref()?));
        let is_text = of_form::<String>(&status, "phase") && of_form::<Vec<Condition>>(&status, "conditions");
        let unread = !of_form::<Fields<'_>>(&object, "status")
            || !is_text
            || annotations.get(LEFT_OUT).is_some_and(|paths| paths.contains("status"));
        Self {
            unread,
            created: field::<String>(&metadata, "creationTimestamp").and_then(|text| time(&text)),
            claims: annotations.get(labels::OPERATION_RUN).filter(|name| is_object_name(name)).cloned(),
            of_a_cron_job: owners.iter().any(is_cron_job),
            included: namespaces("includedNamespaces"),
            excluded: namespaces("excludedNamespaces"),
            is_mapped: spec.get("namespaceMapping").is_some_and(|text| !["null", "{}"].contains(&text.get())),
            paused: field(&spec, "paused").unwrap_or_default(),
            phase: field::<String>(&status, "phase")
                .map(|phase| clean(&phase, MAX_WORD))
                .filter(|word| !word.is_empty()),
            started_at: at(["startTimestamp", "startTime"]),
            completed_at: at(["completionTimestamp", "completionTime"]).or(done),
            started: field(&status, "started").unwrap_or_default(),
            finished: field(&status, "finished").unwrap_or_default(),
            failure: field::<String>(&status, "failureReason").filter(|text| !text.is_empty()),
            invalid: field(&status, "validationErrors").unwrap_or_default(),
            errors: field(&status, "errors").unwrap_or_default(),
            warnings: field(&status, "warnings").unwrap_or_default(),
            conditions,
        }
    }
}

type Fields<'a> = HashMap<String, &'a RawValue>;

fn fields(text: &str) -> Fields<'_> {
    serde_json::from_str(text).unwrap_or_default()
}

fn section<'a>(of: &Fields<'a>, name: &str) -> Fields<'a> {
    of.get(name).map(|text| fields(text.get())).unwrap_or_default()
}

/// Whether a field is absent, or has the form that is expected.
fn of_form<'a, T: Deserialize<'a>>(of: &Fields<'a>, name: &str) -> bool {
    of.get(name).is_none_or(|text| serde_json::from_str::<Option<T>>(text.get()).is_ok())
}

fn field<T: DeserializeOwned>(of: &Fields<'_>, name: &str) -> Option<T> {
    serde_json::from_str(of.get(name)?.get()).ok()
}

/// A time as the API server takes it.
fn time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    // Beyond this, RFC 3339 has no form.
    (0..253_402_300_800).contains(&time.as_second()).then_some(time)
}

/// A text of others, fit to be listed: on one line, without secrets, at most so many bytes.
fn clean(text: &str, most: usize) -> String {
    // A secret at the cut would not be recognized any more.
    let text = truncate(text, 8 * MAX_MESSAGE);
    let text: String = text.chars().map(|one| if is_invisible(one) { ' ' } else { one }).collect();
    truncate(redact(&text).trim(), most)
}

/// Whether a character changes how others are shown: control characters, and those that turn the
/// direction of a text or have no width.
fn is_invisible(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A record as a watch reports it.
#[derive(Clone)]
pub struct Foreign {
    metadata: ObjectMeta,
    read: Read,
}

impl Foreign {
    /// Namespace and name.
    #[must_use]
    pub fn place(&self) -> (&str, &str) {
        let metadata = &self.metadata;
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// The record, and the namespaces that it is about. `None` if it is listed nowhere.
    #[must_use]
    pub fn record(&self, kind: Kind) -> Option<(Record, Vec<String>)> {
        let (namespace, name) = self.place();
        let read = &self.read;
        let about: Vec<String> = match kind {
            Kind::VeleroBackup | Kind::VeleroRestore | Kind::VeleroSchedule => read.named()?,
            Kind::Job if !read.of_a_cron_job => return None,
            Kind::K8upBackup | Kind::K8upSchedule | Kind::Job => vec![namespace.to_owned()],
        };
        let Verdict { state, word, says, note } = match kind {
            _ if read.unread => words::unread(),
            Kind::VeleroBackup | Kind::VeleroRestore => words::velero_run(read),
            Kind::VeleroSchedule => words::velero_schedule(read),
            Kind::K8upBackup => words::k8up_backup(read),
            Kind::K8upSchedule => words::k8up_schedule(read),
            Kind::Job => words::job(read),
        };
        // What is said about one tenant is none of another's business.
        let is_of_one = kind.system() != System::Velero || read.is_about_one();
        let says = says.map(|says| {
            let group = kind.names().0;
            let withheld = || format!("it may be about other namespaces too: who runs {group} has the details");
            if is_of_one { says } else { withheld() }
        });
        let message = note.into_iter().chain(says).collect::<Vec<_>>().join(": ");
        let message = clean(&message, MAX_MESSAGE);
        let (group, version, kind_name, _) = kind.names();
        let source = Source {
            api_version: format!("{group}/{version}"),
            kind: kind_name.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: truncate(self.metadata.uid.as_deref().unwrap_or_default(), 64),
        };
        let has_ended = state.is_some_and(|(phase, _)| phase == crate::api::Phase::Completed);
        let status = ImportedRunStatus {
            phase: state.map(|(phase, _)| phase),
            outcome: state.map(|(_, outcome)| outcome),
            source_phase: word.map(|word| clean(&word, MAX_WORD)),
            message: Some(message).filter(|message| !message.is_empty()),
            created_at: read.created,
            started_at: read.started_at,
            completed_at: read.completed_at.filter(|_| has_ended),
            run: None,
        };
        Some((Record { system: kind.system(), source, status, claims: read.claims.clone() }, about))
    }
}

impl Read {
    /// Whether a record of Velero can be about nothing but one namespace. A pattern may match others.
    fn is_about_one(&self) -> bool {
        matches!(self.included.as_slice(), [name] if is_object_name(name)) && !self.is_mapped
    }

    /// The namespaces that a record of Velero names one by one. `None` if it names none, too many, or
    /// patterns alone: then it is about the cluster, and not about a tenant.
    fn named(&self) -> Option<Vec<String>> {
        let mut named: Vec<String> = self.included.iter().filter(|name| is_object_name(name)).cloned().collect();
        named.retain(|name| name.len() <= 63 && !self.excluded.contains(name));
        named.sort();
        named.dedup();
        (!named.is_empty() && self.included.len() <= MAX_NAMESPACES).then_some(named)
    }
}

impl<'de> Deserialize<'de> for Foreign {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let names = section(&fields(text.get()), "metadata");
        let name = |of: &str| field::<String>(&names, of);
        let metadata = ObjectMeta {
            name: name("name"),
            namespace: name("namespace"),
            uid: name("uid"),
            resource_version: name("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, read: Read::of(text.get()) })
    }
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Foreign").field(&self.metadata.name).finish()
    }
}

impl Resource for Foreign {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
