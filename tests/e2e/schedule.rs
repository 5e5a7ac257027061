//! Schedules: what starts by itself, when it is asked for, and what a user is told.

use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{
    BackupSchedule, BackupScheduleStatus, BackupSet, OperationRun, OperationRunStatus, Outcome, labels,
    operation_run::{SchedulerKind, Trigger},
};

/// A minute, and what a slow machine takes more.
const A_TICK: Duration = Duration::from_mins(2);

impl Tenant {
    /// A schedule, as the administrator.
    pub(crate) async fn schedule(&self, name: &str, spec: Value) -> BackupSchedule {
        let created = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        created.unwrap_or_else(|error| panic!("schedule {name} is refused: {error}"))
    }

    /// Waits until the schedule's status is as described.
    pub(crate) async fn scheduled_when(
        &self,
        name: &str,
        described: &str,
        condition: impl Fn(&BackupScheduleStatus) -> bool,
    ) -> BackupScheduleStatus {
        let schedules: Api<BackupSchedule> = self.api();
        wait_for(&format!("schedule {}/{name} {described}", self.name), SOON, async || {
            let schedule = schedules.get(name).await.map_err(|error| error.to_string())?;
            let status = schedule.status.unwrap_or_default();
            if condition(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Waits until schedules have made so many runs of this trigger, oldest first. A repository's checks are scheduled, too.
    async fn runs_by(&self, trigger: Trigger, count: usize, deadline: Duration) -> Vec<OperationRun> {
        let runs: Api<OperationRun> = self.api();
        let of_trigger = ListParams::default().fields(&format!("spec.trigger={}", trigger.as_str()));
        wait_for(&format!("{count} runs with trigger {}", trigger.as_str()), deadline, async || {
            let mut found = runs.list(&of_trigger).await.map_err(|error| error.to_string())?.items;
            found.retain(|run| {
                run.spec.scheduled_by.as_ref().is_some_and(|by| by.kind == SchedulerKind::BackupSchedule)
            });
            found.sort_by_key(|run| run.metadata.creation_timestamp.clone());
            let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
            if found.len() >= count { Ok(found) } else { Err(format!("{names:?}")) }
        })
        .await
    }

    /// How many of these runs have a Job; the others have joined one.
    async fn jobs_of(&self, runs: &[OperationRun]) -> usize {
        let mut jobs = 0;
        for run in runs {
            jobs += usize::from(self.run(&run.name_any()).await.status_or_default().job.is_some());
        }
        jobs
    }

    /// Asks the schedule for a run now.
    async fn run_now(&self, schedule: &str, token: &str) {
        self.merge::<BackupSchedule>(schedule, json!({ "metadata": { "annotations": { (labels::RUN_NOW): token } } }))
            .await;
    }

    /// The same, and how that run ended.
    pub(crate) async fn ran_now(&self, schedule: &str, token: &str) -> OperationRunStatus {
        self.run_now(schedule, token).await;
        let answered = self.scheduled_when(schedule, "answered", |status| {
            status.last_run_now.as_ref().is_some_and(|answer| answer.token == token)
        });
        let run = answered.await.last_run_now.expect("an answer").run;
        self.completed(&run, SOON).await
    }
}

#[tokio::test]
async fn a_schedule_starts_a_run_at_once_and_at_its_tick_and_leaves_both_when_it_goes() {
    let tenant = Tenant::new("ticks").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    // Made late in a minute, its first run is not completed at the next tick.
    let made = tenant
        .schedule("minutely", json!({ "schedule": "* * * * *", "immediate": true, "concurrencyPolicy": "Allow", "operation": { "type": operation } }))
        .await;
    let runs = tenant.runs_by(Trigger::Scheduled, 2, A_TICK).await;
    let created = made.metadata.creation_timestamp.expect("a time").0.as_second();
    // Made in the last second of a minute, it may be seen first in the next one.
    let made_in = created / 60;
    let first = if runs[0].name_any() == format!("minutely-{made_in}") { made_in } else { made_in + 1 };
    for (run, minute) in runs.iter().zip(first..) {
        let name = run.name_any();
        assert_eq!(name, format!("minutely-{minute}"), "one run for each minute, from the one it was made in");
        let status = tenant.completed(&name, SOON).await;
        assert_eq!(status.outcome, Outcome::Succeeded);
        assert_eq!(status.context.backup_schedule.as_deref(), Some("minutely"));
        assert_eq!(status.context.scheduled_for.map(jiff::Timestamp::as_second), Some(minute * 60));
        let run = tenant.run(&name).await;
        assert_eq!(run.labels()[labels::TRIGGER], "scheduled");
        assert_eq!(run.spec.initiator, made.spec.requested_by, "in the name of the schedule's author");
    }
    let last = runs[1].name_any();
    let status = tenant
        .scheduled_when("minutely", "knows what succeeded last", |status| {
            status.active.is_empty() && status.last_successful.as_ref().is_some_and(|success| success.run >= last)
        })
        .await;
    let (last_tick, next) = (status.last_scheduled_for.expect("a tick"), status.next_scheduled_for.expect("a tick"));
    assert_eq!(next.as_second() - last_tick.as_second(), 60);
    tenant.cluster.kubectl_prints(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=10s",
        "--namespace",
        &tenant.name,
        "backupschedule/minutely",
    ]);

    tenant.api::<BackupSchedule>().delete("minutely", &DeleteParams::foreground()).await.expect("it can be deleted");
    wait_for("the schedule is gone", SOON, async || {
        let there = tenant.api::<BackupSchedule>().get_opt("minutely").await.map_err(|error| error.to_string())?;
        if there.is_none() { Ok(()) } else { Err("still there".to_owned()) }
    })
    .await;
    for run in runs {
        let there = tenant.run(&run.name_any()).await;
        assert_eq!((there.uid(), there.metadata.deletion_timestamp), (run.uid(), None));
    }
}

#[tokio::test]
async fn the_annotation_starts_one_run_for_each_token_and_the_same_work_is_joined() {
    let tenant = Tenant::new("run-now").await;
    let operation = tenant.script_type("wait", FOREVER, |_| {}).await;
    tenant
        .schedule("yearly", json!({ "schedule": "@yearly", "suspend": true, "operation": { "type": operation } }))
        .await;
    tenant.run_now("yearly", "one").await;
    let first = tenant.runs_by(Trigger::RunNow, 1, SOON).await.remove(0);
    tenant.running(&first.name_any(), SOON).await;
    tenant.run_now("yearly", "two").await;
    let runs = tenant.runs_by(Trigger::RunNow, 2, SOON).await;
    let second = runs.iter().find(|run| run.uid() != first.uid()).expect("another run").name_any();
    let joined = tenant.run_when(&second, "joined", SOON, |run| run.status_or_default().joined.is_some()).await;
    let status = joined.status_or_default();
    assert_eq!(status.joined.map(|joined| joined.name), Some(first.name_any()));
    assert_eq!(status.context.backup_schedule.as_deref(), Some("yearly"));
    assert_eq!(status.context.scheduled_for, None);
    let answered = tenant
        .scheduled_when("yearly", "answered", |status| {
            status.active.len() == 2 && status.last_run_now.as_ref().is_some_and(|answer| answer.token == "two")
        })
        .await;
    assert_eq!(answered.last_run_now.map(|answer| answer.run), Some(second.clone()));
    assert_eq!(answered.next_scheduled_for, None, "it is suspended");

    // The same token again is nothing new; a third pass over the schedule finds that out.
    tenant.run_now("yearly", "two").await;
    tenant.merge::<BackupSchedule>("yearly", json!({ "spec": { "suspend": false } })).await;
    tenant.scheduled_when("yearly", "resumed", |status| status.next_scheduled_for.is_some()).await;
    assert_eq!(tenant.runs_by(Trigger::RunNow, 2, SOON).await.len(), 2);
    for run in [first.name_any(), second] {
        tenant.merge::<OperationRun>(&run, json!({ "spec": { "cancel": true } })).await;
        tenant.completed(&run, SOON).await;
    }
}

#[tokio::test]
async fn completed_runs_of_a_schedule_are_kept_up_to_its_own_limits() {
    let tenant = Tenant::new("schedule-history").await;
    let good = tenant.script_type("good", "true", |_| {}).await;
    let spec = json!({ "schedule": "@yearly", "operation": { "type": good }, "successfulRunsHistoryLimit": 1, "failedRunsHistoryLimit": 1 });
    tenant.schedule("limited", spec).await;
    let mut names = Vec::new();
    for token in ["one", "two"] {
        tenant.run_now("limited", token).await;
        let answered = tenant.scheduled_when("limited", "answered", |status| {
            status.last_run_now.as_ref().is_some_and(|answer| answer.token == token)
        });
        let name = answered.await.last_run_now.expect("an answer").run;
        tenant.completed(&name, SOON).await;
        names.push(name);
    }
    wait_for("the older run is deleted", SOON, async || {
        let there = tenant.api::<OperationRun>().get_opt(&names[0]).await.map_err(|error| error.to_string())?;
        if there.is_none() { Ok(()) } else { Err("still there".to_owned()) }
    })
    .await;
    tenant.run(&names[1]).await;
}

#[tokio::test]
async fn retention_deletes_the_schedules_own_sets_but_the_last_good_one_and_those_that_are_held() {
    let tenant = Tenant::new("retention").await;
    tenant.repository("main").await;
    let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
    tenant.start("by-hand", capture.clone()).await;
    tenant.completed("by-hand", SOON).await;
    tenant
        .schedule("kept", json!({ "schedule": "@yearly", "operation": capture, "retention": { "keepLast": 1 } }))
        .await;
    let mut names = Vec::new();
    for token in ["held", "two", "three"] {
        tenant.run_now("kept", token).await;
        let answered = tenant.scheduled_when("kept", "answered", |status| {
            status.last_run_now.as_ref().is_some_and(|answer| answer.token == token)
        });
        let name = answered.await.last_run_now.expect("an answer").run;
        let status = tenant.completed(&name, SOON).await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
        names.push(name);
        if token == "held" {
            tenant.merge::<BackupSet>(&names[0], json!({ "spec": { "hold": true } })).await;
        }
    }
    let left = wait_for("the set between them has expired", SOON, async || {
        let sets = tenant.api::<BackupSet>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let mut left: Vec<_> = sets.items.iter().map(ResourceExt::name_any).collect();
        left.sort();
        if left.contains(&names[1]) { Err(format!("{left:?}")) } else { Ok(left) }
    })
    .await;
    let mut wanted = vec!["by-hand".to_owned(), names[0].clone(), names[2].clone()];
    wanted.sort();
    assert_eq!(left, wanted, "another's set is not the schedule's to delete");
    let kept_sets = wanted;
    // How many went is said by the pass that deleted them, unless it met somebody's edit: the next one has none to delete.
    tenant.scheduled_when("kept", "tells", |status| status.retention.as_ref().is_some_and(|told| told.kept == 2)).await;

    // Two more whose ticks are the same work: one captures, the other joins, and each has a set under its own retention.
    tenant.api::<BackupSchedule>().delete("kept", &DeleteParams::default()).await.expect("deleted");
    for name in ["hourly", "daily"] {
        let spec =
            json!({ "schedule": "@yearly", "immediate": true, "operation": capture, "retention": { "keepLast": 1 } });
        tenant.schedule(name, spec).await;
    }
    let runs = tenant.runs_by(Trigger::Scheduled, 2, SOON).await;
    let mut sets = Vec::new();
    for run in &runs {
        let status = tenant.completed(&run.name_any(), SOON).await;
        assert_eq!(status.context.backup_set, Some(run.name_any()), "{status:#?}");
        sets.push(tenant.api::<BackupSet>().get(&run.name_any()).await.expect("its set"));
    }
    let joined = runs.len() - tenant.jobs_of(&runs).await;
    assert_eq!((joined, &sets[0].spec.snapshot), (1, &sets[1].spec.snapshot));
    for set in &sets {
        let schedule = set.spec.backup_schedule.clone().expect("a schedule").name;
        assert!(set.name_any().starts_with(&format!("{schedule}-")), "{schedule}: {}", set.name_any());
        assert_eq!(
            set.status.as_ref().and_then(|status| status.items),
            sets[0].status.as_ref().and_then(|status| status.items)
        );
        assert!(is_ready(set), "{set:#?}");
    }
    // What the deleted schedule made is nobody's to delete.
    for name in kept_sets {
        tenant.api::<BackupSet>().get(&name).await.expect("it is there");
    }
}

fn is_ready(set: &BackupSet) -> bool {
    let mut conditions = set.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test]
async fn a_mistake_in_the_expression_is_shown_with_its_position_and_mended_without_a_restart() {
    let tenant = Tenant::new("stalled").await;
    // What no rule of the API server sees.
    tenant.schedule("wrong", json!({ "schedule": "0 5-2 * * *" })).await;
    let reason = |status: &BackupScheduleStatus, wanted: &str| {
        status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.reason == wanted)
    };
    let stalled = tenant.scheduled_when("wrong", "stalled", |status| reason(status, "InvalidSchedule")).await;
    assert!(
        stalled
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Stalled" && condition.message.contains("position 3"))
    );
    // As a block of YAML has it.
    let mended = json!({ "spec": { "schedule": "0\t2 * * *\n", "timeZone": "Asia/Kathmandu" } });
    tenant.merge::<BackupSchedule>("wrong", mended).await;
    let ready = tenant.scheduled_when("wrong", "ready", |status| reason(status, "Scheduled")).await;
    assert!(ready.conditions.iter().all(|condition| condition.type_ != "Stalled"));
    let next = ready.next_scheduled_for.expect("a tick").as_second();
    assert_eq!(
        next % 86_400,
        (20 * 60 + 15) * 60,
        "two in the morning in Kathmandu, in a static image without zone files"
    );
}

#[tokio::test]
async fn what_a_schedule_cannot_mean_is_refused_when_it_is_written() {
    let tenant = Tenant::new("refused-schedule").await;
    let attempt = async |name: &str, with: Value| -> Result<BackupSchedule, kube::Error> {
        let mut spec = json!({ "schedule": "@daily" });
        spec.as_object_mut().expect("a spec").extend(with.as_object().cloned().into_iter().flatten());
        tenant.create(json!({ "metadata": { "name": name }, "spec": spec })).await
    };
    let long = "a".repeat(53);
    attempt(&long[..52], json!({})).await.expect("52 characters");
    for (name, with, words) in [
        (long.as_str(), json!({}), "52 characters"),
        ("bad", json!({ "schedule": "* * * *" }), "five fields"),
        ("bad", json!({ "schedule": "TZ=UTC 0 0 * * *" }), "timeZone"),
        ("bad", json!({ "schedule": "@every 1h" }), "five fields"),
        ("bad", json!({ "schedule": "0 25 * * *" }), "hour 0-23"),
        ("bad", json!({ "schedule": "*/0 * * * *" }), "five fields"),
        ("bad", json!({ "schedule": "0 0 30 2 *" }), "a day that its month never has"),
        ("bad", json!({ "schedule": "0 0 31 SEP *" }), "a day that its month never has"),
        ("bad", json!({ "timeZone": "Mars/Olympus" }), "timeZone is none"),
        ("bad", json!({ "timeZone": "Local" }), "timeZone is none"),
        ("bad", json!({ "timeZone": "localtime" }), "timeZone is none"),
        ("bad", json!({ "timeZone": "posixrules" }), "timeZone is none"),
        ("bad", json!({ "timeZone": "right/Europe/Berlin" }), "timeZone is none"),
        ("bad", json!({ "schedule": "@fortnightly" }), "aliases"),
        ("bad", json!({ "timeZone": "../UTC" }), "spec.timeZone"),
        ("bad", json!({ "jitterSeconds": -1 }), "spec.jitterSeconds"),
        ("bad", json!({ "startingDeadlineSeconds": 5 }), "spec.startingDeadlineSeconds"),
        ("bad", json!({ "successfulRunsHistoryLimit": 0 }), "spec.successfulRunsHistoryLimit"),
        ("bad", json!({ "failedRunsHistoryLimit": -3 }), "spec.failedRunsHistoryLimit"),
        ("bad", json!({ "retention": {} }), "keeps nothing"),
        ("bad", json!({ "retention": { "dryRun": true } }), "keeps nothing"),
        ("bad", json!({ "retention": { "keepWithin": "0d0h" } }), "no time at all"),
        ("bad", json!({ "retention": { "keepDaily": 0 } }), "spec.retention.keepDaily"),
        ("bad", json!({ "retention": { "keepWithin": "a week" } }), "spec.retention.keepWithin"),
        ("bad", json!({ "concurrencyPolicy": "Perhaps" }), "spec.concurrencyPolicy"),
        ("bad", json!({ "operation": { "type": "restore.apply" } }), "not run by schedules"),
    ] {
        match attempt(name, with.clone()).await {
            Err(kube::Error::Api(status)) => {
                assert!(status.code == 422 && status.message.contains(words), "{with}: {}", status.message);
            }
            other => panic!("{with} is not refused: {other:?}"),
        }
    }
    for good in ["@midnight", " 5/15 0-6,22 ? JAN-MAR mon ", "0 0 29 2 *", "0 0 30 2,3 *", "0 0 31 4 mon"] {
        let name = format!("good-{:x}", jiff::Timestamp::now().as_nanosecond());
        attempt(&name, json!({ "schedule": good })).await.expect(good);
    }
}

#[tokio::test]
async fn a_schedule_whose_run_is_refused_says_so_and_makes_it_once_it_may() {
    let tenant = Tenant::new("refused-tick").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    let blockade = tenant.blockade_runs().await;
    let spec = json!({ "schedule": "@yearly", "immediate": true, "operation": { "type": operation } });
    let made = tenant.schedule("kept-out", spec).await;
    let ready =
        |status: &BackupScheduleStatus| status.conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
    let refused = tenant
        .scheduled_when("kept-out", "says that its run is refused", |status| {
            ready(status).is_some_and(|ready| ready.reason == "RunRefused")
        })
        .await;
    let message = ready(&refused).expect("a condition").message;
    assert!(message.contains("a blockade of the tests") && message.contains("tried again"), "{message}");
    assert_eq!((refused.last_scheduled_for, refused.missed), (None, None), "its tick is not lost");

    blockade.lift();
    // Any change is a reason to look at once; else it is half a minute.
    tenant.merge::<BackupSchedule>("kept-out", json!({ "spec": { "jitterSeconds": 1 } })).await;
    let minute = made.metadata.creation_timestamp.expect("a time").0.as_second() / 60;
    let status = tenant.completed(&format!("kept-out-{minute}"), SOON).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    tenant
        .scheduled_when("kept-out", "is ready again", |status| {
            ready(status).is_some_and(|ready| ready.status == "True")
        })
        .await;
}

/// What a tool that reads Git asks: does the API server hold what the manifest says, and would applying it write?
#[tokio::test]
async fn a_schedule_from_git_shows_no_drift_and_is_not_written_when_applied_again() {
    let tenant = Tenant::new("git").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    // Suspended, so that nothing but the manifest is a reason to write.
    let manifest = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "nightly" }, "spec": {
        "schedule": "15 2 * * *", "timeZone": "Europe/Berlin", "suspend": true, "operation": { "type": operation } } })
    .to_string();
    tenant.apply(&manifest);
    tenant.scheduled_when("nightly", "was looked at", |status| status.observed_generation == Some(1)).await;
    let version = async || tenant.api::<BackupSchedule>().get("nightly").await.expect("a read").resource_version();
    let before = version().await;
    tenant.apply(&manifest);
    assert_eq!(version().await, before, "the second time writes nothing");
    let arguments = ["diff", "--server-side", "--namespace", &tenant.name, "--filename", "-"];
    let diff = tenant.cluster.kubectl_with(&arguments, &manifest);
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}
