//! Whether the plan that is about to be carried out is the one that the operator decided about. Pure.
//!
//! The operator names the plan in the inputs of the run: whether an approval is needed, and which
//! counts, depends on it. A preview is found by its name, and another one may have that name by now,
//! so the digest is compared here again.

use crate::{api::approval::Consent, api::reason::restore as reason, worker::failure::Failure};

/// Fails if a plan was decided about and it is not this one.
pub fn expect_plan(decided: Option<&str>, approved: Option<&Consent>, digest: Option<&str>) -> Result<(), Failure> {
    let approved = approved.map(|consent| consent.plan_digest.as_str());
    match decided.into_iter().chain(approved).find(|wanted| digest != Some(*wanted)) {
        None => Ok(()),
        Some(wanted) => Err(Failure::blocked(
            reason::PREVIEW_STALE,
            format!(
                "apply the preview again with a new object, and have that approved if it needs to be: this attempt wrote nothing, because the plan of the preview is {}, and {wanted} was asked for",
                digest.unwrap_or("gone")
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plan_that_was_decided_about_or_approved_is_carried_out() {
        let (own, approved) = ("a".repeat(64), Consent { plan_digest: "a".repeat(64), ..Consent::default() });
        assert!(expect_plan(None, None, None).is_ok() && expect_plan(None, None, Some("b")).is_ok());
        assert!(expect_plan(Some(&own), Some(&approved), Some(&own)).is_ok());
        for other in [None, Some("b")] {
            for (decided, approved) in [(None, Some(&approved)), (Some(own.as_str()), None)] {
                let failure = expect_plan(decided, approved, other).expect_err("another plan");
                assert_eq!(failure.reason, reason::PREVIEW_STALE);
                assert!(failure.message.contains(&own), "{failure}");
            }
        }
    }
}
