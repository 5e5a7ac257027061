//! Why a provider did not answer a call as asked.

#![deny(clippy::disallowed_types)]

use std::fmt;

/// A call that was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The provider refuses the call.
    Refused {
        /// HTTP status.
        code: u16,
        /// The status's reason, such as `Forbidden`.
        reason: String,
        /// The provider's own message.
        message: String,
    },
    /// The answer is not what it should be. It is not quoted, because it may hold a secret.
    Garbled,
    /// There is no answer, or not all of it. Contains the cause.
    Unanswered(String),
}

impl Fault {
    /// Whether the provider has answered, so that the fault concerns this call alone.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// HTTP status of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Garbled | Self::Unanswered(_) => None,
        }
    }

    /// Whether the server of the item is in trouble: the same call may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.code().is_none_or(|code| matches!(code, 408 | 429 | 500 | 502 | 503 | 504))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message, .. } if message.is_empty() => {
                write!(formatter, "the API server answers {code}")
            }
            Self::Refused { code, message, .. } => write!(formatter, "the API server answers {code} {message}"),
            Self::Garbled => formatter.write_str("the API server's answer is not what it should be"),
            Self::Unanswered(cause) => formatter.write_str(cause),
        }
    }
}

/// A call that the work depends on and that was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {fault}")]
pub struct CallFailed {
    /// Purpose of the call, as in "cannot {doing}".
    pub doing: String,
    /// Why it was not answered.
    pub fault: Fault,
}

impl CallFailed {
    /// A call that was to do this.
    pub fn new(doing: impl Into<String>, fault: impl Into<Fault>) -> Self {
        Self { doing: doing.into(), fault: fault.into() }
    }
}
