//! What goes wrong in a trial: at which call, and how.

use crate::store::STORE;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tenantatlas::cluster::client::Call;

/// What becomes of the call, and of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Variant {
    /// Dead before it is sent.
    UnsentDies,
    /// Dead after the API server did it, before the answer is known.
    LostDies,
    /// Never sent; the process goes on.
    Unsent,
    /// Done, and the answer lost; the process goes on.
    Lost,
    /// Answered with this status code; the process goes on.
    Answer(u16),
    /// Answered with this status code; the process dies before its next call.
    AnswerDies(u16),
    /// The process stands still before it is sent, until another one has led to the end of the story. Then it goes on.
    UnsentStops,
    /// The same; it goes on as soon as the other one leads and has nothing to do.
    UnsentStopsBriefly,
    /// The process stands still when it is done and before the answer is known, until the end of the story.
    LostStops,
    /// From this write on there is no API server for a while.
    Gone,
    /// From this write on the API server answers everything with this status code for a while.
    Storm(u16),
    /// Dead after it was done; what the process and its successor see is so many events behind, or stands still.
    Behind(Option<usize>),
    /// Watches lose every third event, beginning with this one.
    Drops,
    /// Watches bring the last of several events about one object.
    Merges,
}

impl Variant {
    /// Faults of one call. The first five are the contract's; the others leave the process alive, or kill it a call later.
    pub(crate) const OF_A_CALL: [Self; 10] = [
        Self::UnsentDies,
        Self::LostDies,
        Self::Answer(409),
        Self::Answer(429),
        Self::Answer(500),
        Self::Unsent,
        Self::Lost,
        Self::AnswerDies(409),
        Self::AnswerDies(429),
        Self::AnswerDies(500),
    ];

    /// A leader that does not know that it leads no more.
    pub(crate) const OF_A_LEADER: [Self; 3] = [Self::UnsentStops, Self::UnsentStopsBriefly, Self::LostStops];

    /// An API server that does not serve.
    pub(crate) const OF_THE_SERVER: [Self; 3] = [Self::Gone, Self::Storm(429), Self::Storm(500)];

    /// Views that are not the present.
    pub(crate) const OF_A_VIEW: [Self; 5] =
        [Self::Behind(Some(1)), Self::Behind(Some(5)), Self::Behind(None), Self::Drops, Self::Merges];

    fn all() -> impl Iterator<Item = Self> {
        Self::OF_A_CALL.into_iter().chain(Self::OF_A_LEADER).chain(Self::OF_THE_SERVER).chain(Self::OF_A_VIEW)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsentDies => formatter.write_str("unsent-dies"),
            Self::LostDies => formatter.write_str("lost-dies"),
            Self::Unsent => formatter.write_str("unsent"),
            Self::Lost => formatter.write_str("lost"),
            Self::Answer(code) => write!(formatter, "{code}"),
            Self::AnswerDies(code) => write!(formatter, "{code}-dies"),
            Self::UnsentStops => formatter.write_str("unsent-stops"),
            Self::UnsentStopsBriefly => formatter.write_str("unsent-stops-briefly"),
            Self::LostStops => formatter.write_str("lost-stops"),
            Self::Gone => formatter.write_str("gone"),
            Self::Storm(code) => write!(formatter, "storm-{code}"),
            Self::Behind(Some(events)) => write!(formatter, "behind-{events}"),
            Self::Behind(None) => formatter.write_str("behind-all"),
            Self::Drops => formatter.write_str("drops"),
            Self::Merges => formatter.write_str("merges"),
        }
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::all().map(|variant| variant.to_string()).collect::<Vec<_>>().join(", ");
        let known = Self::all().find(|variant| variant.to_string() == text);
        known.ok_or_else(|| format!("no variant {text:?}: one of {}", all()))
    }
}

/// Which calls are counted. Together they are all calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Counted {
    /// In the trial's tenants: runs, Jobs, pods, repositories, backup sets. If it has more than one:
    /// also workspace runs over them, and lists of tenants.
    Work,
    /// In the trial's tenant: the accounts of its Jobs.
    Accounts,
    /// In the trial's tenant: events, which are sent in the background. Apart, so that the others keep their numbers.
    Events,
    /// In no tenant: what a process does when it starts and to lead. Lists, watches, the Lease.
    Process,
    /// A worker's to the API server.
    Worker,
    /// A worker's to its store.
    Store,
}

/// One fault to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The tenants. The names of workspace runs over them begin with that of the first.
    pub(crate) namespaces: Vec<String>,
    pub(crate) counted: Counted,
    pub(crate) variant: Variant,
    /// The number of the call, from 1.
    pub(crate) index: usize,
}

impl Order {
    pub(crate) fn counts(&self, call: &Call) -> bool {
        let inside = call.namespace.as_ref().is_some_and(|namespace| self.namespaces.contains(namespace));
        let resource = call.resource.split(['.', '/']).next().unwrap_or_default();
        let event = resource == "events";
        let account = matches!(resource, "serviceaccounts" | "rolebindings");
        match self.counted {
            Counted::Work => (inside && !event && !account) || self.is_over_all(call, resource),
            Counted::Accounts => inside && account,
            Counted::Events => inside && event,
            Counted::Process => call.namespace.is_none() || resource == "leases",
            Counted::Worker => resource != STORE,
            Counted::Store => resource == STORE,
        }
    }

    /// Whether a call is about a workspace run over the tenants, or asks which tenants there are.
    fn is_over_all(&self, call: &Call, resource: &str) -> bool {
        let [first, _, ..] = &self.namespaces[..] else { return false };
        match resource {
            // By its name, or a list of one.
            "workspaceruns" => call.verb != "watch" && call.name.as_ref().is_none_or(|name| name.starts_with(first)),
            "namespaces" => call.verb == "list",
            _ => false,
        }
    }
}
