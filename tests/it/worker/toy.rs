//! Captures and restores of a provider that is a folder: what holds for Kubernetes holds for any provider. The
//! repository is a real one. The API server has the records alone; nothing of it is asked about items.

mod folder;

use super::{
    api::Api,
    restore::{SET, Tenant, counts},
    support::{Pod, environment},
};
use folder::{Fails, Folder};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tenantatlas::{
    api::{OperationRun, Outcome, result::TerminationResult},
    clock::SystemClock,
    operations::{capture, preview, rehearse, restore::apply},
    providers::bounded::Bounded,
    repository::WriterPermit,
    worker::failure::Failure,
};
use tokio::time::Instant;

/// How long the folder may take for one answer.
const DEADLINE: Duration = Duration::from_millis(300);

/// Far more than such a folder and the repository need, and far less than for ever.
const ENOUGH: Duration = Duration::from_secs(20);

const NOTES: [&str; 4] = ["a", "b", "c", "d"];

/// A board and four notes, in a folder.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.put("Board", "main", "a board");
    for name in NOTES {
        folder.put("Note", name, &format!("note {name}"));
    }
    folder
}

fn in_time(folder: &Folder) -> Bounded<'_> {
    Bounded::within(DEADLINE, folder)
}

async fn capture(folder: &Folder, api: &Api, pod: &Pod) -> Result<TerminationResult, Failure> {
    let environment = environment(json!({"repository": "main"}), None);
    let repository = pod.repository().await?;
    let run: OperationRun = serde_json::from_value(api.run()).unwrap();
    let permit = WriterPermit::without_maintenance();
    capture::capture_from(&in_time(folder), &api.client(), &environment, &repository, &run, &SystemClock, permit).await
}

/// A tenant whose items are in a folder and were captured.
struct Toy {
    folder: Folder,
    tenant: Tenant,
}

impl Toy {
    async fn captured() -> Self {
        let (folder, api, pod) = (folder(), Api::new(), Pod::new());
        let snapshot = capture(&folder, &api, &pod).await.unwrap().context.snapshot.unwrap();
        assert_eq!(snapshot.items, 5);
        Self { folder, tenant: Tenant::with_set(api, pod, &snapshot.id) }
    }

    /// A captured tenant of which a note was changed, another one lost, and a third one added.
    async fn damaged() -> Self {
        let toy = Self::captured().await;
        toy.folder.put("Note", "b", "something else");
        toy.folder.remove("Note", "c");
        toy.folder.put("Note", "e", "new");
        toy.folder.touch("Note", "d");
        toy
    }

    async fn preview(&self, spec: Value) -> Result<TerminationResult, Failure> {
        self.tenant.order(spec);
        let repository = self.tenant.pod.repository().await?;
        let client = self.tenant.api.client();
        preview::preview_of(&in_time(&self.folder), &client, &self.tenant.environment(), &repository).await
    }

    async fn previewed(&mut self, spec: Value) {
        let result = self.preview(spec).await.unwrap();
        self.tenant.record_preview(&result);
    }

    async fn apply(&self, spec: Value) -> Result<TerminationResult, Failure> {
        self.tenant.order(spec);
        self.apply_again().await
    }

    /// Another attempt of the same run.
    async fn apply_again(&self) -> Result<TerminationResult, Failure> {
        let repository = self.tenant.pod.repository().await?;
        let client = self.tenant.api.client();
        let environment = self.tenant.environment();
        let permit = WriterPermit::without_maintenance();
        let stop = &self.tenant.stop;
        apply::apply_to(&in_time(&self.folder), &client, &environment, &repository, &SystemClock, stop, permit).await
    }

    async fn rehearse(&self) -> Result<TerminationResult, Failure> {
        let mut environment = self.tenant.environment();
        environment.inputs = json!({"repository": "main", "backupSet": SET}).to_string();
        self.tenant.api.change_run(|run| run["spec"]["initiator"] = json!({"username": "ada"}));
        let run = serde_json::from_value(self.tenant.api.run()).unwrap();
        let repository = self.tenant.pod.repository().await?;
        rehearse::rehearse_with(&in_time(&self.folder), &self.tenant.api.client(), &environment, &repository, &run)
            .await
    }

    /// Each item was written at most once.
    fn expect_no_item_written_twice(&self) {
        let writes = self.folder.writes();
        let items: BTreeSet<&str> = writes.iter().map(|write| write.split_once(' ').unwrap().1).collect();
        assert_eq!(items.len(), writes.len(), "{writes:?}");
    }
}

/// `item: reason` of what failed.
fn failures(result: &TerminationResult) -> Vec<String> {
    let of = |item: &tenantatlas::api::outcome::ItemFailure| format!("{}: {}", item.item_id, item.reason_code);
    result.failures.iter().map(of).collect()
}

#[tokio::test]
async fn a_folder_is_captured_previewed_restored_exactly_and_given_back_by_the_undo() {
    let mut toy = Toy::captured().await;
    let captured = toy.folder.items();
    toy.folder.put("Note", "b", "something else");
    toy.folder.remove("Note", "c");
    toy.folder.put("Note", "e", "new");
    toy.folder.touch("Note", "d");
    let damaged = toy.folder.items();
    toy.previewed(json!({"prune": true})).await;
    assert_eq!(toy.folder.writes(), Vec::<String>::new(), "a preview writes nothing");
    assert_eq!(toy.folder.rehearsals(), ["rehearse Note/e", "rehearse Note/b", "rehearse Note/c"]);
    let result = toy.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap();
    assert_eq!((result.outcome, counts(&result).succeeded), (Some(Outcome::Succeeded), 6));
    assert_eq!(
        toy.folder.writes().into_iter().collect::<BTreeSet<_>>(),
        set(&["create Note/c", "delete Note/e", "update Note/b"])
    );
    assert_eq!(toy.folder.items(), captured);

    let undo = toy.tenant.api.record_of("backupsets", &result.context.undo_set.unwrap());
    assert_eq!(undo["spec"]["absent"], json!(["toy.example.com/Note/c"]));
    toy.tenant.api.record("backupsets", SET, undo);
    toy.tenant.next_run();
    toy.previewed(json!({"prune": true})).await;
    let result = toy.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap();
    assert_eq!((result.outcome, counts(&result).succeeded), (Some(Outcome::Succeeded), 3));
    assert_eq!(toy.folder.items(), damaged);

    let asked = toy.tenant.api.requests();
    let not_of_records: Vec<&String> = asked.iter().filter(|request| !request.contains("/tenantatlas.io/")).collect();
    assert_eq!(not_of_records, Vec::<&String>::new(), "a record is not an item");
}

fn set(writes: &[&str]) -> BTreeSet<String> {
    writes.iter().map(|write| (*write).to_owned()).collect()
}

#[tokio::test]
async fn what_has_only_another_version_does_not_differ_and_is_not_tried() {
    let toy = Toy::captured().await;
    for name in NOTES {
        toy.folder.touch("Note", name);
    }
    let result = toy.preview(json!({"existingResourcePolicy": "recreate", "prune": true})).await.unwrap();
    assert_eq!(result.context.plan.unwrap().summary.unchanged, 5);
    assert_eq!((toy.folder.rehearsals(), toy.folder.writes()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_folder_that_has_moved_since_the_preview_is_left_as_it_is_and_the_item_is_named() {
    let mut toy = Toy::damaged().await;
    toy.previewed(json!({})).await;
    toy.folder.put("Note", "a", "moved");
    let failure = toy.apply(json!({"dryRun": false, "preview": {"name": "look"}})).await.unwrap_err();
    assert_eq!(failure.reason, "PreviewStale");
    assert!(failure.message.contains("toy.example.com/Note/a has changed"), "{}", failure.message);
    assert_eq!(toy.folder.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_tries_every_write_makes_none_and_names_what_would_be_refused() {
    let toy = Toy::damaged().await;
    toy.folder.fail(|call| (call == "rehearse Note/c").then_some(Fails::Refused(422)));
    let result = toy.rehearse().await.unwrap();
    assert_eq!(toy.folder.rehearsals(), ["rehearse Note/b", "rehearse Note/c"]);
    assert_eq!(toy.folder.writes(), Vec::<String>::new());
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(failures(&result), ["toy.example.com/Note/c: Invalid"]);
}

#[tokio::test]
async fn what_a_folder_refuses_to_write_is_named_the_rest_is_written_and_partial_is_not_success() {
    let toy = Toy::damaged().await;
    toy.folder.fail(|call| (call == "update Note/b").then_some(Fails::Refused(422)));
    let result = toy.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(failures(&result), ["toy.example.com/Note/b: Invalid"]);
    assert_eq!(toy.folder.writes(), ["create Note/c"]);
}

#[tokio::test]
async fn what_who_asked_may_not_do_is_not_written_whatever_the_provider() {
    let toy = Toy::damaged().await;
    toy.folder.fail(|call| (call == "may create Note").then_some(Fails::Breaks));
    let result = toy.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(failures(&result), ["toy.example.com/Note/c: Forbidden"]);
    assert_eq!(toy.folder.writes(), ["update Note/b"]);
}

#[tokio::test]
async fn a_list_that_breaks_off_makes_a_capture_partial_and_a_restore_write_nothing_of_it() {
    let (api, pod) = (Api::new(), Pod::new());
    let whole = folder();
    whole.fail(|call| (call == "list Note").then_some(Fails::BreaksAfter(2)));
    let result = capture(&whole, &api, &pod).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(failures(&result), ["toy.example.com/Note/: Unlistable"]);
    assert_eq!(counts(&result).succeeded, 3, "a board and two notes");

    let toy = Toy::damaged().await;
    toy.folder.fail(|call| (call == "list Note").then_some(Fails::BreaksAfter(2)));
    let failure = toy.apply(json!({"dryRun": false})).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("ApiUnreachable", 1), "it is tried again");
    assert_eq!(toy.folder.writes(), Vec::<String>::new());
    toy.folder.fail(|call| (call == "list Note").then_some(Fails::Refused(500)));
    let result = toy.apply_again().await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(counts(&result).failed, 4, "all notes: what is there of them is not known");
    assert_eq!(toy.folder.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_folder_that_hangs_is_given_up_in_bounded_time_and_the_next_attempt_does_the_rest() {
    let (api, pod) = (Api::new(), Pod::new());
    pod.checked().await;
    let hangs = folder();
    hangs.fail(|call| (call == "list Note").then_some(Fails::Hangs));
    let begun = Instant::now();
    let result = capture(&hangs, &api, &pod).await.unwrap();
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(failures(&result), ["toy.example.com/Note/: Unlistable"]);
    assert!(begun.elapsed() < ENOUGH, "{:?}", begun.elapsed());

    for call in ["rehearse Note/b", "update Note/b"] {
        let toy = Toy::damaged().await;
        toy.folder.fail(move |of| (of == call).then_some(Fails::Hangs));
        let begun = Instant::now();
        let hung = if call.starts_with("rehearse") {
            toy.preview(json!({})).await
        } else {
            toy.apply(json!({"dryRun": false})).await
        };
        let failure = hung.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("ApiUnreachable", 1), "{failure}");
        assert!(failure.message.contains("Note b") && failure.message.contains("300ms"), "{failure}");
        assert!(begun.elapsed() < ENOUGH, "{:?}", begun.elapsed());
        toy.folder.heal();
        let result = toy.apply(json!({"dryRun": false})).await.unwrap();
        assert_eq!(result.outcome, Some(Outcome::Succeeded));
        toy.expect_no_item_written_twice();
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_done_a_second_time() {
    for lost in ["update Note/b", "create Note/c"] {
        let toy = Toy::damaged().await;
        toy.folder.fail(move |call| (call == lost).then_some(Fails::LosesAnswer));
        let failure = toy.apply(json!({"dryRun": false})).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("ApiUnreachable", 1));
        toy.folder.heal();
        let result = toy.apply_again().await.unwrap();
        assert_eq!((result.outcome, counts(&result).succeeded), (Some(Outcome::Succeeded), 5));
        toy.expect_no_item_written_twice();
        assert_eq!(toy.folder.writes().len(), 2);
    }
}

#[tokio::test]
async fn a_list_out_of_order_or_with_items_twice_makes_a_capture_partial_and_names_them() {
    for (fails, captured, named) in
        [(Fails::Disorder, 2, vec!["c", "b", "a"]), (Fails::Twice, 5, vec!["a", "b", "c", "d"])]
    {
        let (api, pod, folder) = (Api::new(), Pod::new(), folder());
        folder.fail(move |call| (call == "list Note").then_some(fails.clone()));
        let result = capture(&folder, &api, &pod).await.unwrap();
        assert_eq!((result.outcome, counts(&result).succeeded), (Some(Outcome::PartiallySucceeded), captured));
        let expected: Vec<String> =
            named.iter().map(|name| format!("toy.example.com/Note/{name}: Unreadable")).collect();
        assert_eq!(failures(&result), expected);
    }
}

#[tokio::test]
async fn a_list_out_of_order_or_without_some_items_or_with_items_twice_lets_nothing_be_overwritten() {
    for fails in [Fails::Disorder, Fails::Loses("a"), Fails::Loses("b"), Fails::Twice] {
        let toy = Toy::damaged().await;
        let before = toy.folder.items();
        let only_sound = !matches!(fails, Fails::Twice);
        toy.folder.fail(move |call| (call == "list Note").then(|| fails.clone()));
        let shown = toy.preview(json!({})).await.unwrap();
        assert_eq!(toy.folder.writes(), Vec::<String>::new());
        let result = toy.apply(json!({"dryRun": false})).await.unwrap();
        toy.expect_no_item_written_twice();
        let partial = Some(Outcome::PartiallySucceeded);
        assert_eq!(shown.outcome == partial, only_sound, "{:?}", failures(&shown));
        assert_eq!(result.outcome == partial, only_sound, "{:?}", failures(&result));
        for item in failures(&result) {
            assert!(item.ends_with(": Moved"), "{item}");
        }
        // What the list showed to be missing and is not, is left as it is.
        for item in before.iter().filter(|item| !item.starts_with("Note/b")) {
            assert!(toy.folder.items().contains(item), "{item}");
        }
    }
}

#[tokio::test]
async fn nothing_is_changed_that_the_undo_does_not_hold_because_its_list_lost_an_item() {
    for fails in [Fails::Loses("b"), Fails::Disorder] {
        let toy = Toy::damaged().await;
        let before = toy.folder.items();
        let lists = AtomicUsize::new(0);
        toy.folder.fail(move |call| {
            let is_of_the_undo = call == "list Note" && lists.fetch_add(1, Ordering::Relaxed) == 1;
            is_of_the_undo.then(|| fails.clone())
        });
        let result = toy.apply(json!({"dryRun": false})).await.unwrap();
        assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
        assert_eq!(failures(&result), ["toy.example.com/Note/b: ServerFailed"]);
        assert!(result.failures[0].message.contains("lacks toy.example.com/Note/b"), "{:?}", result.failures);
        assert_eq!(toy.folder.writes(), ["create Note/c"]);
        assert!(before.iter().all(|item| toy.folder.items().contains(item)));
    }
}

#[tokio::test]
async fn an_item_that_goes_before_the_undo_is_captured_costs_no_other_item() {
    let toy = Toy::damaged().await;
    toy.folder.put("Note", "a", "something else");
    let (lists, gone) = (AtomicUsize::new(0), toy.folder.file("Note", "b"));
    toy.folder.fail(move |call| {
        if call == "list Note" && lists.fetch_add(1, Ordering::Relaxed) == 1 {
            std::fs::remove_file(&gone).unwrap();
        }
        None
    });
    let result = toy.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(failures(&result), ["toy.example.com/Note/b: Moved"]);
    assert_eq!(toy.folder.writes().into_iter().collect::<BTreeSet<_>>(), set(&["create Note/c", "update Note/a"]));
}

#[tokio::test]
async fn an_item_that_was_gone_when_the_undo_was_captured_and_is_there_again_is_not_written() {
    let toy = Toy::damaged().await;
    let (lists, file) = (AtomicUsize::new(0), toy.folder.file("Note", "b"));
    let content = std::fs::read(&file).unwrap();
    let again = file.clone();
    toy.folder.fail(move |call| {
        if call == "list Note" {
            match lists.fetch_add(1, Ordering::Relaxed) {
                1 => std::fs::remove_file(&file).unwrap(),
                2 => std::fs::write(&file, &content).unwrap(),
                _ => {}
            }
        }
        None
    });
    let result = toy.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(failures(&result), ["toy.example.com/Note/b: Moved"]);
    assert_eq!(toy.folder.writes(), ["create Note/c"]);
    assert!(again.exists(), "it is as it was");
}
