//! Captures that do not read what has not changed.

use super::{
    api::{Answer, Api, object, objects, refusal},
    support::{Pod, environment, inputs_with},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tenantatlas::{
    api::result::TerminationResult,
    repository::{Repository as _, Snapshot, WriterPermit},
};

const CONFIG_MAPS: &str = "GET /api/v1/namespaces/acme/configmaps";

/// An API server with so many ConfigMaps and Secrets, which tells its version.
fn api_with(count: usize) -> Api {
    let api = Api::new();
    api.version("v1.36.3");
    api.serve_config_maps(objects(count));
    api.serve("", "v1", "Secret", "secrets", objects(count));
    api
}

/// A capture of another run for each uid.
async fn capture(pod: &Pod, api: &Api, run_uid: &str, inputs: Value) -> TerminationResult {
    let mut environment = environment(inputs_with(inputs), None);
    run_uid.clone_into(&mut environment.identity.run_uid);
    pod.capture_in(api, environment).await.unwrap()
}

/// Number of objects that a capture did not read.
fn unread(result: &TerminationResult) -> usize {
    let message = result.message.as_deref().unwrap();
    let clause = message
        .split("; ")
        .find_map(|clause| clause.strip_suffix(" were not read, because their metadata has not changed"));
    clause.map_or(0, |count| count.parse().unwrap())
}

async fn snapshot(pod: &Pod, run_uid: &str) -> Snapshot {
    pod.repository().await.unwrap().find_snapshot(run_uid).await.unwrap().unwrap()
}

#[tokio::test]
async fn objects_that_did_not_change_are_not_read_and_the_snapshot_is_the_same() {
    let (api, pod) = (api_with(40), Pod::new());
    let first = capture(&pod, &api, "run-1", json!({})).await;
    assert_eq!((unread(&first), api.take_metadata_lists()), (0, 0));
    api.take_requests();
    let second = capture(&pod, &api, "run-2", json!({})).await;
    assert_eq!((unread(&second), api.take_metadata_lists()), (80, 2));
    let requests = api.take_requests();
    assert_eq!(requests.iter().filter(|request| request.starts_with(CONFIG_MAPS)).count(), 1, "{requests:?}");
    assert!(second.message.unwrap().contains("nothing changed since the snapshot before"));
    assert_eq!(second.summary_counts, first.summary_counts);
    let (first, second) = (first.context.snapshot.unwrap(), second.context.snapshot.unwrap());
    assert_eq!((first.items, first.bytes, first.items_by_kind), (second.items, second.bytes, second.items_by_kind));
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn only_an_object_that_changed_is_read_and_one_that_is_gone_meanwhile_is_left_out() {
    let (api, pod) = (api_with(40), Pod::new());
    capture(&pod, &api, "run-1", json!({})).await;
    api.change("ConfigMap", "item-00007", |object| object["data"]["of"] = json!("another"));
    api.change("ConfigMap", "item-00009", |object| object["data"]["of"] = json!("soon gone"));
    api.fail(|uri, _| uri.path().ends_with("/configmaps/item-00009").then(|| refusal(404, "NotFound")));
    api.take_requests();
    let second = capture(&pod, &api, "run-2", json!({})).await;
    assert_eq!((unread(&second), second.summary_counts.unwrap().succeeded), (78, 79));
    let requests = api.take_requests();
    let of_config_maps: Vec<_> = requests.iter().filter(|request| request.starts_with(CONFIG_MAPS)).collect();
    assert_eq!(of_config_maps.len(), 3, "a page of metadata and two objects: {of_config_maps:?}");
    let repository = pod.repository().await.unwrap();
    let second = snapshot(&pod, "run-2").await;
    let items = repository.list(&second.id).await.unwrap();
    assert!(items.iter().all(|item| item.path.as_str() != "core/v1/ConfigMap/item-00009.json"));
    let changed = items.into_iter().find(|item| item.path.as_str() == "core/v1/ConfigMap/item-00007.json").unwrap();
    let content = repository.read(&second.id, vec![changed.path]).await.unwrap().remove(0);
    assert!(String::from_utf8(content).unwrap().contains("another"));
}

#[tokio::test]
async fn a_page_of_which_much_changed_is_listed_as_a_whole_and_so_is_one_of_which_an_object_cannot_be_read() {
    let (api, pod) = (api_with(40), Pod::new());
    capture(&pod, &api, "run-1", json!({})).await;
    for number in 0..6 {
        api.change("ConfigMap", &format!("item-0000{number}"), |object| object["data"]["of"] = json!("another"));
    }
    api.change("Secret", "item-00001", |object| object["data"]["of"] = json!("another"));
    api.fail(|uri, _| uri.path().ends_with("/secrets/item-00001").then(|| refusal(403, "Forbidden")));
    api.take_requests();
    let second = capture(&pod, &api, "run-2", json!({})).await;
    assert_eq!((unread(&second), second.summary_counts.unwrap().succeeded), (73, 80));
    let requests = api.take_requests();
    assert_eq!(requests.iter().filter(|request| **request == CONFIG_MAPS).count(), 2, "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains("/configmaps/")), "{requests:?}");
    let all = capture(&pod, &api, "run-3", json!({"readAll": true})).await;
    assert_eq!(unread(&all), 0);
    assert_eq!(snapshot(&pod, "run-3").await.tree, snapshot(&pod, "run-2").await.tree);
}

#[tokio::test]
async fn everything_is_read_if_asked_for_every_tenth_time_and_by_another_version_of_the_api_server() {
    let (api, pod) = (api_with(40), Pod::new());
    let mut read = Vec::new();
    for number in 0..21 {
        read.push(unread(&capture(&pod, &api, &format!("run-{number}"), json!({})).await) == 0);
    }
    let all: Vec<_> = read.iter().enumerate().filter(|(_, all)| **all).map(|(number, _)| number).collect();
    assert_eq!(all, [0, 10, 20]);
    assert_eq!(unread(&capture(&pod, &api, "asked", json!({"readAll": true})).await), 0);
    assert_eq!(unread(&capture(&pod, &api, "again", json!({})).await), 80);
    api.version("v1.37.0");
    assert_eq!(unread(&capture(&pod, &api, "upgraded", json!({})).await), 0);
    assert_eq!(unread(&capture(&pod, &api, "then", json!({})).await), 80);
}

#[tokio::test]
async fn a_server_that_does_not_tell_its_version_and_kinds_of_definitions_are_read_as_a_whole() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(40));
    capture(&pod, &api, "run-1", json!({})).await;
    assert_eq!(unread(&capture(&pod, &api, "run-2", json!({})).await), 0);
    let (api, pod) = (Api::new(), Pod::new());
    api.version("v1.36.3");
    api.serve("example.com", "v1", "Widget", "widgets", objects(40));
    capture(&pod, &api, "run-1", json!({})).await;
    assert_eq!(unread(&capture(&pod, &api, "run-2", json!({})).await), 0);
    assert_eq!(api.take_metadata_lists(), 0);
}

#[tokio::test]
async fn captures_of_other_selections_and_of_single_objects_do_not_disturb_each_other() {
    let (api, pod) = (api_with(40), Pod::new());
    let secrets = json!({"selection": {"includeKinds": ["Secret"]}});
    capture(&pod, &api, "all-1", json!({})).await;
    assert_eq!(unread(&capture(&pod, &api, "some-1", secrets.clone()).await), 0);
    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "item-00003"});
    let mut one = environment(inputs_with(json!({})), Some(target));
    one.identity.run_uid = "one".to_owned();
    assert_eq!(pod.capture_in(&api, one).await.unwrap().summary_counts.unwrap().succeeded, 1);
    assert_eq!(unread(&capture(&pod, &api, "all-2", json!({})).await), 80);
    assert_eq!(unread(&capture(&pod, &api, "some-2", secrets).await), 40);
}

#[tokio::test]
async fn a_secret_that_became_the_key_of_the_repository_is_not_kept() {
    let (api, pod) = (api_with(40), Pod::new());
    capture(&pod, &api, "run-1", json!({})).await;
    api.change("Secret", "item-00005", |secret| secret["data"] = json!({"password": "x"}));
    capture(&pod, &api, "run-2", json!({})).await;
    let mut environment = environment(inputs_with(json!({})), None);
    environment.identity.run_uid = "run-3".to_owned();
    environment.repository_spec.password_secret.name = "item-00005".to_owned();
    let third = pod.capture_in(&api, environment).await.unwrap();
    assert_eq!((unread(&third), third.summary_counts.unwrap().succeeded), (79, 79));
    let third = snapshot(&pod, "run-3").await;
    let items = pod.repository().await.unwrap().list(&third.id).await.unwrap();
    assert!(items.iter().all(|item| item.path.as_str() != "core/v1/Secret/item-00005.json"));
}

#[tokio::test]
async fn everything_is_read_if_the_last_snapshot_its_marks_or_its_content_are_gone() {
    let marks = |pod: &Pod| {
        let files = pod.files().into_keys().filter(|path| path.to_string_lossy().contains("documents/marks."));
        files.collect::<Vec<_>>()
    };
    let (api, pod) = (api_with(40), Pod::new());
    capture(&pod, &api, "run-1", json!({})).await;
    assert_eq!(marks(&pod).len(), 1);

    // As after maintenance.
    let repository = pod.repository().await.unwrap();
    repository.forget_documents([].into(), WriterPermit::without_maintenance()).await.unwrap();
    assert!(marks(&pod).is_empty());
    assert_eq!(unread(&capture(&pod, &api, "run-2", json!({})).await), 0);

    std::fs::write(&marks(&pod)[0], b"not what was stored").unwrap();
    assert_eq!(unread(&capture(&pod, &api, "run-3", json!({})).await), 0);

    let third = snapshot(&pod, "run-3").await;
    repository.forget(vec![third.id], WriterPermit::without_maintenance()).await.unwrap();
    assert_eq!(unread(&capture(&pod, &api, "run-4", json!({})).await), 0);
    assert_eq!(unread(&capture(&pod, &api, "run-5", json!({})).await), 80);

    for pack in pod.packs() {
        std::fs::remove_file(pack).unwrap();
    }
    let last = capture(&pod, &api, "run-6", json!({})).await;
    assert_eq!((unread(&last), last.summary_counts.unwrap().succeeded), (0, 80));
    let last = snapshot(&pod, "run-6").await;
    let paths = repository.list(&last.id).await.unwrap().into_iter().map(|item| item.path).collect::<Vec<_>>();
    assert_eq!(repository.read(&last.id, paths).await.unwrap().len(), 80);
}

/// What somebody does to an object.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Change(usize),
    Delete(usize),
    Recreate(usize),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..40_usize).prop_map(Step::Change),
        (0..40_usize).prop_map(Step::Delete),
        (0..40_usize).prop_map(Step::Recreate),
    ];
    proptest::collection::vec(step, 0..12)
}

pub(super) fn apply(objects: &mut Vec<Value>, steps: &[Step], version: usize) {
    for (number, step) in steps.iter().enumerate() {
        let (Step::Change(item) | Step::Delete(item) | Step::Recreate(item)) = *step;
        let name = format!("item-{item:05}");
        let place = objects.iter().position(|object| object["metadata"]["name"] == name.as_str());
        let stamp = format!("{version}-{number}");
        match (step, place) {
            (Step::Delete(_), Some(place)) => {
                objects.remove(place);
            }
            (Step::Delete(_), None) => {}
            (Step::Change(_), Some(place)) => {
                objects[place]["data"]["of"] = json!(stamp);
                objects[place]["metadata"]["resourceVersion"] = json!(stamp);
            }
            (Step::Change(_) | Step::Recreate(_), _) => {
                let mut new = object(&name);
                new["metadata"]["uid"] = json!(format!("uid-{stamp}"));
                new["metadata"]["resourceVersion"] = json!(stamp);
                objects.retain(|object| object["metadata"]["name"] != name.as_str());
                objects.push(new);
            }
        }
    }
    objects.sort_by(|one, other| one["metadata"]["name"].as_str().cmp(&other["metadata"]["name"].as_str()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_a_capture_holds_what_one_that_reads_everything_holds(rounds in proptest::collection::vec(steps(), 1..4), page in 5..50_usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (api, pod, mut live) = (api_with(0), Pod::new(), objects(40));
            api.pages_of(page);
            api.serve_config_maps(live.clone());
            capture(&pod, &api, "run-0", json!({})).await;
            for (number, steps) in rounds.iter().enumerate() {
                apply(&mut live, steps, number);
                api.serve_config_maps(live.clone());
                let (quick, whole) = (format!("quick-{number}"), format!("whole-{number}"));
                let marked = capture(&pod, &api, &quick, json!({})).await;
                if steps.is_empty() && live.len() >= 32 {
                    assert_eq!(unread(&marked), live.len());
                }
                capture(&pod, &api, &whole, json!({"readAll": true})).await;
                assert_eq!(snapshot(&pod, &quick).await.tree, snapshot(&pod, &whole).await.tree);
            }
        });
    }
}

#[tokio::test]
async fn an_api_server_that_fails_in_the_middle_of_a_list_of_metadata_loses_nothing() {
    let (api, pod) = (api_with(120), Pod::new());
    api.pages_of(50);
    capture(&pod, &api, "run-1", json!({})).await;
    api.fail(|uri, asked| (uri.path().ends_with("/configmaps") && asked % 3 == 1).then_some(Answer::Broken));
    let second = capture(&pod, &api, "run-2", json!({})).await;
    assert_eq!((unread(&second), second.summary_counts.unwrap().succeeded), (240, 240));
}
