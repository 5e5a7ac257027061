//! What goes wrong in a trial: at which call, and how.

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
}

impl Variant {
    /// All of them. The first five are the contract's; the others leave the process alive, or kill it a call later.
    pub(crate) const ALL: [Self; 10] = [
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
        }
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|variant| variant.to_string() == text);
        let all = || Self::ALL.map(|variant| variant.to_string()).join(", ");
        known.ok_or_else(|| format!("no variant {text:?}: one of {}", all()))
    }
}

/// Which calls are counted. Together they are all calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Counted {
    /// In the trial's tenant: runs, Jobs, pods, repositories, backup sets.
    Work,
    /// In the trial's tenant: the accounts of its Jobs.
    Accounts,
    /// In the trial's tenant: events, which are sent in the background. Apart, so that the others keep their numbers.
    Events,
    /// In no tenant: what a process does when it starts and to lead. Lists, watches, the Lease.
    Process,
}

/// One fault to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) namespace: String,
    pub(crate) counted: Counted,
    pub(crate) variant: Variant,
    /// The number of the call, from 1.
    pub(crate) index: usize,
}

impl Order {
    pub(crate) fn counts(&self, call: &Call) -> bool {
        let inside = call.namespace.as_deref() == Some(&self.namespace);
        let resource = call.resource.split(['.', '/']).next().unwrap_or_default();
        let event = resource == "events";
        let account = matches!(resource, "serviceaccounts" | "rolebindings");
        match self.counted {
            Counted::Work => inside && !event && !account,
            Counted::Accounts => inside && account,
            Counted::Events => inside && event,
            Counted::Process => call.namespace.is_none() || resource == "leases",
        }
    }
}
