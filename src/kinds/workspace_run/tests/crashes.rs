//! What becomes of a pass that created runs and ended before its status was written, and of one that does
//! not see all tenants, or not all runs.

use super::*;
use crate::kinds::workspace_run::Passes;
use std::time::Instant;

/// A pass whose status is not written.
fn die(observed: &mut Observed, now: Timestamp) -> Vec<String> {
    let decision = Decision { status: None, ..decide(observed, now) };
    carry_out(observed, &decision);
    started(&decision).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_wave_is_recorded_although_the_pass_that_started_all_its_tenants_was_not() {
    let mut observed = observed(json!({"waves": [{"tenants": 1}]}), tenants(3));
    assert_eq!(started(&pass(&mut observed, now())), ["t-00000"]);
    end(&mut observed, "t-00000", Outcome::Succeeded);
    assert_eq!(die(&mut observed, later(10)), ["t-00001", "t-00002"]);
    assert_eq!(started(&pass(&mut observed, later(20))), [] as [&str; 0]);
    let said = status(&observed);
    assert_eq!((said.waves.len(), said.wave), (2, Some(2)));
    for namespace in ["t-00001", "t-00002"] {
        end(&mut observed, namespace, Outcome::Succeeded);
    }
    pass(&mut observed, later(30));
    let said = status(&observed);
    assert_eq!((said.outcome, said.waves.len()), (Outcome::Succeeded, 2));
    assert!(said.waves.iter().all(|wave| wave.completed_at.is_some()), "{:?}", said.waves);
}

#[test]
fn a_run_that_is_deleted_is_not_created_again_although_the_pass_that_created_it_was_not_recorded() {
    for spec in
        [json!({"parallelism": 2}), json!({"parallelism": 2, "waves": [{"tenants": 3}], "stopAfterFailures": 3})]
    {
        let mut observed = observed(spec, tenants(3));
        let begins = decide(&observed, now());
        carry_out(&mut observed, &begins);
        assert_eq!(die(&mut observed, now()), ["t-00000", "t-00001"]);
        assert_eq!(started(&pass(&mut observed, later(10))), [] as [&str; 0]);
        observed.children.remove("t-00000");
        assert_eq!(started(&pass(&mut observed, later(20))), ["t-00002"]);
        let row = status(&observed).tenants[0].clone();
        assert_eq!((row.namespace.as_str(), row.reason.as_deref()), ("t-00000", Some("RunDeleted")));
    }
}

#[test]
fn a_tenant_that_the_watch_has_not_reported_is_asked_for_before_its_turn_passes_and_only_once() {
    let mut observed = observed(json!({"waves": [{"tenants": 2}]}), tenants(3));
    let begins = decide(&observed, now());
    assert_eq!(begins.missing, 0);
    carry_out(&mut observed, &begins);
    let first = observed.tenants.remove(0);
    let (passes, at) = (Passes::default(), Instant::now());
    assert_eq!(passes.rest(&observed.run, at), None);
    let missing = decide(&observed, now()).missing;
    assert_eq!(missing, 1);
    assert!(passes.has_to_ask(&observed.run, missing));
    observed.tenants.insert(0, first);
    let decision = decide(&observed, now());
    passes.confirm(&observed.run, decision.missing);
    assert_eq!((decision.missing, started(&decision)), (0, vec!["t-00000", "t-00001"]));
    carry_out(&mut observed, &decision);
    // Now one is gone indeed.
    observed.tenants.pop();
    let missing = decide(&observed, later(10)).missing;
    assert!(passes.has_to_ask(&observed.run, missing));
    passes.confirm(&observed.run, missing);
    assert_eq!(passes.rest(&observed.run, at + std::time::Duration::from_secs(30)), None);
    assert!(!passes.has_to_ask(&observed.run, missing) && passes.has_to_ask(&observed.run, missing + 1));
}

#[test]
fn a_run_that_is_not_seen_is_asked_for_before_it_counts_as_deleted_and_only_once() {
    let mut observed = observed(json!({"waves": [{"tenants": 2}]}), tenants(3));
    let passes = Passes::default();
    assert_eq!(passes.rest(&observed.run, Instant::now()), None);
    pass(&mut observed, now());
    let child = observed.children.remove("t-00001").expect("a run");
    let decision = decide(&observed, later(10));
    assert_eq!(decision.gone, ["t-00001"]);
    assert_eq!(passes.unconfirmed(&observed.run, &decision.gone), ["t-00001"]);
    observed.children.insert("t-00001".to_owned(), child);
    let decision = decide(&observed, later(10));
    assert_eq!((decision.gone.len(), decision.start.len()), (0, 0));
    assert_eq!(status(&observed).reason.as_deref(), Some("Running"), "nothing has failed");
    observed.children.remove("t-00001");
    let gone = decide(&observed, later(20)).gone;
    passes.confirm_gone(&observed.run, &gone[0]);
    assert_eq!(passes.unconfirmed(&observed.run, &gone), [] as [String; 0]);
}
