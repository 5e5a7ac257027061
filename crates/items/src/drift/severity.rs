//! How much a finding matters.

use super::{
    changes::{Change, Step},
    evidence::is_label,
    pattern::{KindPattern, Pointer},
};
use crate::api::{finding::Severity, item::GroupKind, operations::SeverityInput};

/// Kinds that give rights or hold secrets.
const HIGH: [(&str, &str); 4] = [
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// The severities that a run's inputs set.
#[derive(Clone, Debug, Default)]
pub struct Severities(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    severity: Severity,
    kinds: Vec<KindPattern>,
    paths: Vec<Pointer>,
}

impl Severities {
    /// Reads them. The error says what is wrong, and where: `place` is the field that has them.
    pub fn new(inputs: &[SeverityInput], place: &str) -> Result<Self, String> {
        let read = |(number, input): (usize, &SeverityInput)| {
            let at = |problem: String| format!("{place}[{number}]{problem}");
            let kinds = KindPattern::read_all(&input.kinds).map_err(at)?;
            let paths = Pointer::read_all(&input.paths).map_err(at)?;
            Ok(Rule { severity: input.severity, kinds, paths })
        };
        inputs.iter().enumerate().map(read).collect::<Result<_, String>>().map(Self)
    }

    /// The severity of an item with these changes; of one that is on one side alone, there are none.
    #[must_use]
    pub fn of(&self, kind: &GroupKind, changes: &[Change<'_>]) -> Severity {
        let is_at = |pointer: &Pointer, steps: &[Step]| pointer.covers(steps) || pointer.goes_into(steps);
        let changed = |pointer: &Pointer| changes.iter().any(|change| is_at(pointer, &change.steps));
        let fits = |rule: &&Rule| {
            KindPattern::any_takes(&rule.kinds, kind) && (rule.paths.is_empty() || rule.paths.iter().any(changed))
        };
        if let Some(rule) = self.0.iter().find(fits) {
            return rule.severity;
        }
        if HIGH.contains(&(kind.group.as_str(), kind.kind.as_str())) {
            Severity::High
        } else if !changes.is_empty() && changes.iter().all(is_label) {
            Severity::Low
        } else {
            Severity::Medium
        }
    }
}
