//! Reason codes: the frozen vocabulary of everything that says why.
//!
//! Scripts and alerts match on these codes, so a code is never renamed (a test holds the lists), and
//! each is spelled once. A code that has a meaning in two groups is in the first of them, and the
//! other refers to it.
//!
//! | group | of |
//! |---|---|
//! | [`Reason`] | runs and other objects, as the controller sees them |
//! | [`worker`] | runs that a worker could not do |
//! | [`restore`] | restores, previews and rehearsals that cannot be done |
//! | [`compare`] | comparisons, and items that they do not compare |
//! | [`bulk`] | bulk operations that cannot be done, and their items |
//! | [`drift`] | comparisons with a baseline |
//! | [`coverage`] | objects that no backup set holds |
//! | [`item`] | single items |

pub mod bulk;
pub mod compare;
pub mod coverage;
pub mod drift;
pub mod item;
pub mod restore;
mod run;
pub mod worker;

pub use run::Reason;

/// Declares codes, and the list of them.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:expr;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $code;)+
        /// All codes of this group.
        pub const ALL: &[&str] = &[$($name),+];
    };
}
use codes;

/// A code that runs have, too.
macro_rules! of_runs {
    ($variant:ident) => {{
        // A variant's name is its code.
        let _ = crate::Reason::$variant;
        stringify!($variant)
    }};
}
use of_runs;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use strum::VariantArray as _;

    const OPERATIONS: &str = include_str!("../../../../docs/guides/operations.md");
    const RESTORED: &str = include_str!("../../../../docs/guides/what-is-restored.md");
    const BULK: &str = include_str!("../../../../docs/guides/bulk.md");
    const DRIFT: &str = include_str!("../../../../docs/guides/drift.md");
    const INVENTORIES: &str = include_str!("../../../../docs/guides/inventories.md");
    const HISTORY: &str = include_str!("../../../../docs/guides/history.md");
    const CAPTURED: &str = include_str!("../../../../docs/guides/what-is-captured.md");

    #[test]
    fn reason_codes_are_frozen() {
        let runs: Vec<&str> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
        let groups = [
            ("runs", runs.as_slice()),
            ("workers", worker::ALL),
            ("restores", restore::ALL),
            ("bulk operations", bulk::ALL),
            ("comparisons", compare::ALL),
            ("drift", drift::ALL),
            ("coverage", coverage::ALL),
            ("items", item::ALL),
        ];
        let text: Vec<String> =
            groups.iter().map(|(name, codes)| format!("{name}\n  {}", codes.join("\n  "))).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn each_code_is_spelled_once() {
        let mut spelled: BTreeSet<&str> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
        for file in [
            include_str!("worker.rs"),
            include_str!("restore.rs"),
            include_str!("bulk.rs"),
            include_str!("compare.rs"),
            include_str!("drift.rs"),
            include_str!("coverage.rs"),
            include_str!("item.rs"),
        ] {
            let codes = file.lines().filter(|line| !line.trim_start().starts_with("//"));
            for code in codes.filter_map(|line| line.split('"').nth(1)) {
                assert!(spelled.insert(code), "{code} is spelled twice");
            }
        }
    }

    #[test]
    fn a_guide_says_of_every_code_what_to_do() {
        let row = |code: &str| format!("| `{code}`");
        for code in Reason::VARIANTS.iter().map(|reason| reason.as_str()) {
            assert!(OPERATIONS.contains(&row(code)), "no guide has a row for {code}");
        }
        for code in worker::ALL {
            assert!(OPERATIONS.contains(&format!("`{code}`")), "the guide does not say what to do about {code}");
        }
        for code in restore::ALL {
            assert!(RESTORED.contains(&row(code)), "the guide does not name {code}");
        }
        for code in bulk::ALL {
            assert!(BULK.contains(&row(code)), "the guide does not name {code}");
        }
        for code in compare::ALL {
            assert!(HISTORY.contains(&row(code)), "the guide does not name {code}");
        }
        for code in drift::ALL {
            assert!(DRIFT.contains(&row(code)), "the guide does not name {code}");
        }
        for code in coverage::ALL {
            assert!(INVENTORIES.contains(&row(code)), "the guide does not name {code}");
        }
        for code in item::ALL {
            assert!(
                [RESTORED, CAPTURED].iter().any(|guide| guide.contains(&format!("`{code}`"))),
                "no guide names {code}"
            );
        }
    }
}
