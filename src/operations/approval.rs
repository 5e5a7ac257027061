//! Whether the plan that is about to be carried out is the one that somebody approved. Pure.
//!
//! The operator names the approval in the inputs of the run. A preview is found by its name, and
//! another one may have that name by now, so the digest is compared here again.

use crate::{api::approval::Consent, api::reason::restore as reason, worker::failure::Failure};

/// Fails if a plan was approved and it is not this one.
pub fn expect_plan(approved: Option<&Consent>, digest: Option<&str>) -> Result<(), Failure> {
    match approved {
        Some(Consent { plan_digest, .. }) if digest != Some(plan_digest.as_str()) => Err(Failure::blocked(
            reason::PREVIEW_STALE,
            format!(
                "apply the preview again with a new object, and have that approved: this attempt wrote nothing, because the plan of the preview is {}, and {plan_digest} was approved",
                digest.unwrap_or("gone")
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plan_that_was_approved_is_carried_out() {
        let approved = Consent { plan_digest: "a".repeat(64), ..Consent::default() };
        assert!(expect_plan(None, None).is_ok() && expect_plan(None, Some("b")).is_ok());
        assert!(expect_plan(Some(&approved), Some(&"a".repeat(64))).is_ok());
        for other in [None, Some("b")] {
            let failure = expect_plan(Some(&approved), other).expect_err("another plan");
            assert_eq!(failure.reason, reason::PREVIEW_STALE);
            assert!(failure.message.contains(&"a".repeat(64)), "{failure}");
        }
    }
}
