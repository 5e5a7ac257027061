use super::{
    api::{Api, objects, refusal},
    maintain::set,
    support::{Pod, environment},
};
use serde_json::{Value, json};
use tenantatlas::{
    api::{Outcome, backup_repository::Recovery, result::TerminationResult},
    clock::SystemClock,
    operations::check,
    worker::{failure::Failure, open, sets},
};

async fn checked(pod: &Pod, inputs: Value) -> Result<TerminationResult, Failure> {
    checked_by(&Api::new(), pod, inputs).await
}

/// A check as the worker does it, of a namespace with the backup sets that an API server lists.
async fn checked_by(api: &Api, pod: &Pod, inputs: Value) -> Result<TerminationResult, Failure> {
    let environment = environment(inputs, None);
    let inputs = check::read_inputs(&environment)?;
    let repository = open::open_or_create(&api.client(), &environment, &pod.mounts()).await?;
    let sets = sets::list(&api.client(), &environment).await?;
    check::check(&repository, &environment, &inputs, &sets, &SystemClock).await
}

fn all_data() -> Value {
    json!({"repository": "main", "readDataPercent": 100})
}

#[tokio::test]
async fn a_check_creates_the_repository_and_tells_its_figures() {
    let pod = Pod::new();
    let result = checked(&pod, all_data()).await.unwrap();
    assert_eq!((result.outcome, result.reason.as_deref()), (Some(Outcome::Succeeded), Some("CheckPassed")));
    assert_eq!(result.context.repository.unwrap().snapshots, 0);
    let api = Api::new();
    api.serve_config_maps(objects(20));
    pod.capture_all(&api).await.unwrap();
    let figures = checked(&pod, all_data()).await.unwrap().context.repository.unwrap();
    assert_eq!(figures.snapshots, 1);
    assert!(figures.bytes > 0 && figures.dedup_ratio.is_some(), "{figures:?}");
}

/// A check of a repository with `passwordSecret.generate`, in a pod to which no Secret is mounted.
async fn generated(api: &Api, pod: &Pod) -> Result<(), Failure> {
    let mut environment = environment(json!({"repository": "main"}), None);
    environment.repository_spec.password_secret.generate = true;
    open::open_or_create(&api.client(), &environment, &pod.mounts()).await.map(drop)
}

/// An API server that stores Secrets, and a pod without a password.
fn without_password() -> (Api, Pod) {
    let (api, pod) = (Api::new(), Pod::with_password());
    api.serve("", "v1", "Secret", "secrets", Vec::new());
    std::fs::remove_file(pod.mounts().password.join("password")).unwrap();
    (api, pod)
}

fn password_of(secret: &Value) -> &str {
    secret["stringData"]["password"].as_str().unwrap()
}

#[tokio::test]
async fn a_generated_password_is_in_a_secret_before_there_is_a_repository_and_opens_it() {
    let (api, pod) = without_password();
    let volume = pod.mounts().volume;
    // No answer to the creation: the Secret may exist or not, and no repository does.
    api.refuse_writes(|_, uri| uri.path().ends_with("/secrets").then_some(refusal(500, "InternalError")));
    generated(&api, &pod).await.unwrap_err();
    assert!(pod.files().is_empty(), "nothing is written to the store without the Secret");
    api.heal();
    generated(&api, &pod).await.unwrap();
    let secrets = api.objects_of("Secret");
    let [secret] = secrets.as_slice() else { panic!("{secrets:?}") };
    assert_eq!((&secret["metadata"]["name"], &secret["immutable"]), (&json!("backup-password"), &Value::Null));
    assert!(secret["metadata"]["ownerReferences"].is_null(), "it outlives its BackupRepository");
    assert!(volume.join("config").exists());
    assert_eq!(password_of(secret).len(), 64);
    pod.set_password(password_of(secret));
    generated(&api, &pod).await.unwrap();
    assert_eq!(api.objects_of("Secret"), secrets, "the Secret that is there is used");
    let (another, other_pod) = without_password();
    generated(&another, &other_pod).await.unwrap();
    assert_ne!(password_of(&another.objects_of("Secret")[0]), password_of(&secrets[0]));
}

#[tokio::test]
async fn no_password_is_generated_for_a_store_that_holds_a_repository() {
    let (api, pod) = without_password();
    generated(&api, &pod).await.unwrap();
    let files = pod.files();
    let lost = Api::new();
    lost.serve("", "v1", "Secret", "secrets", Vec::new());
    let failure = generated(&lost, &pod).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("WrongPassword", 40), "{failure}");
    assert!(failure.message.contains("Secret backup-password has no key password"), "{failure}");
    assert_eq!((lost.objects_of("Secret"), pod.files()), (Vec::new(), files), "nothing is written");
    // Nor while a backup set names the repository, whose store is empty.
    let (api, pod) = without_password();
    api.list("BackupSet", vec![set("monday", "0123", None)]);
    let failure = generated(&api, &pod).await.unwrap_err();
    assert_eq!(failure.reason, "RepositoryVanished", "{failure}");
    assert!(api.objects_of("Secret").is_empty() && pod.files().is_empty());
}

#[tokio::test]
async fn a_recipient_that_is_no_key_is_named_and_the_repository_can_be_used_without_a_copy() {
    let pod = Pod::new();
    let mut environment = environment(json!({"repository": "main"}), None);
    let repository = open::open_or_create(&Api::new().client(), &environment, &pod.mounts()).await.unwrap();
    let copies = || pod.files().into_keys().filter(|path| path.to_string_lossy().contains("recovery")).count();
    check::keep_recovery(&repository, &environment).await.unwrap();
    assert_eq!(copies(), 0);
    let key = age::x25519::Identity::generate().to_public().to_string();
    let recipients = vec![key.clone(), format!("age1{}", "q".repeat(58))];
    environment.repository_spec.recovery = Some(Recovery { recipients });
    let words = check::keep_recovery(&repository, &environment).await.unwrap_err();
    assert!(
        words.contains("NO COPY of the password") && words.contains("recipients[1] of BackupRepository main"),
        "{words}"
    );
    assert_eq!(copies(), 0);
    environment.repository_spec.recovery = Some(Recovery { recipients: vec![key] });
    check::keep_recovery(&repository, &environment).await.unwrap();
    assert_eq!(copies(), 1);
}

#[tokio::test]
async fn a_secret_that_appears_meanwhile_is_used_by_the_next_pod_and_never_replaced() {
    let (api, pod) = without_password();
    let theirs = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "backup-password", "namespace": "acme", "uid": "u", "resourceVersion": "1"}});
    api.serve("", "v1", "Secret", "secrets", vec![theirs.clone()]);
    let failure = generated(&api, &pod).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidKey", 1), "{failure}");
    assert!(failure.message.contains("the Secret backup-password exists"), "{failure}");
    assert_eq!((api.objects_of("Secret"), pod.files().is_empty()), (vec![theirs], true));
    // Without the field, a password that is missing is an error.
    let failure = checked_by(&api, &pod, all_data()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidKey", 40), "{failure}");
}

#[tokio::test]
async fn an_emptied_store_is_told_and_stays_empty() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(20));
    pod.capture_all(&api).await.unwrap();
    let before = pod.mounts().volume.join("config");
    pod.empty_volume();
    let vanished = pod.capture_all(&api).await.unwrap_err();
    assert_eq!((vanished.reason.as_str(), vanished.exit_code()), ("RepositoryVanished", 40), "{vanished}");
    assert!(!before.exists() && pod.files().is_empty(), "nothing was written");

    // A check finds it out as long as a backup set says that something was there.
    api.list("BackupSet", vec![set("monday", "0123", None)]);
    let vanished = checked_by(&api, &pod, all_data()).await.unwrap_err();
    assert_eq!((vanished.reason.as_str(), vanished.exit_code()), ("RepositoryVanished", 40), "{vanished}");
    assert!(vanished.message.contains("1 backup sets name this repository (monday)"), "{vanished}");
    assert!(vanished.to_result().context.damaged_truncated, "none of them can be restored");
    assert!(pod.files().is_empty(), "nothing was written");

    // Of another repository of the namespace they say nothing of this one.
    let mut elsewhere = set("monday", "0123", None);
    elsewhere["spec"]["repository"]["name"] = json!("another");
    api.list("BackupSet", vec![elsewhere]);
    let result = checked_by(&api, &pod, all_data()).await.unwrap();
    assert_eq!(result.context.repository.unwrap().snapshots, 0);
    assert!(before.exists());
}

#[tokio::test]
async fn no_repository_is_made_while_the_backup_sets_cannot_be_listed() {
    let (api, pod) = (Api::new(), Pod::new());
    api.fail(|uri, _| uri.path().ends_with("/backupsets").then(|| refusal(403, "No")));
    let failure = checked_by(&api, &pod, all_data()).await.unwrap_err();
    assert_eq!(failure.reason, "ApiRefused");
    assert!(pod.files().is_empty(), "nothing was written");
}

#[tokio::test]
async fn a_wrong_password_a_foreign_directory_and_another_s_repository_are_told_apart() {
    let pod = Pod::with_password();
    checked(&pod, all_data()).await.unwrap();
    pod.set_password("another one");
    let wrong = checked(&pod, all_data()).await.unwrap_err();
    assert_eq!((wrong.reason.as_str(), wrong.exit_code()), ("WrongPassword", 40));

    let pod = Pod::new();
    std::fs::write(pod.mounts().volume.join("holiday.jpg"), "not ours").unwrap();
    let foreign = checked(&pod, all_data()).await.unwrap_err();
    assert_eq!((foreign.reason.as_str(), foreign.exit_code()), ("NotARepository", 40));

    let pod = Pod::new();
    checked(&pod, all_data()).await.unwrap();
    let mut other = environment(all_data(), None);
    other.namespace_uid = "another-namespace".to_owned();
    let owned = open::open(&other, &pod.mounts()).await.unwrap_err();
    assert_eq!((owned.reason.as_str(), owned.exit_code()), ("OwnedByAnother", 40));
    other.repository_spec.adopt = serde_json::from_value(json!({"namespaceUids": ["namespace-uid"]})).unwrap();
    assert!(open::open(&other, &pod.mounts()).await.is_ok(), "with consent it is taken over");
}

#[tokio::test]
async fn a_lost_pack_is_damage_and_never_tried_again() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(20));
    pod.capture_all(&api).await.unwrap();
    let pack = pod.packs().remove(0);
    std::fs::remove_file(pack).unwrap();
    let damaged = checked(&pod, json!({"repository": "main"})).await.unwrap_err();
    assert_eq!((damaged.reason.as_str(), damaged.exit_code()), ("Damaged", 40));
}

#[tokio::test]
async fn rotten_data_is_found_by_who_reads_it_and_only_then() {
    let (api, pod) = (Api::new(), Pod::new());
    api.serve_config_maps(objects(20));
    pod.capture_all(&api).await.unwrap();
    let mut found = 0;
    for pack in pod.packs() {
        let good = std::fs::read(&pack).unwrap();
        let mut rotten = good.clone();
        rotten[3] ^= 1;
        std::fs::write(&pack, rotten).unwrap();
        // A pack of trees is read by every check.
        if checked(&pod, json!({"repository": "main", "readDataPercent": 0})).await.is_ok() {
            let damaged = checked(&pod, all_data()).await.unwrap_err();
            assert_eq!((damaged.reason.as_str(), damaged.exit_code()), ("Damaged", 40));
            found += 1;
        }
        std::fs::write(&pack, good).unwrap();
    }
    assert_eq!(found, 1, "one pack of content");
    assert!(checked(&pod, all_data()).await.unwrap().context.repository.unwrap().read_all);
}

#[tokio::test]
async fn the_share_of_data_to_read_is_a_percentage_and_comes_from_the_inputs_or_the_repository() {
    let pod = Pod::new();
    let failure = checked(&pod, json!({"repository": "main", "readDataPercent": 101})).await.unwrap_err();
    assert_eq!(failure.reason, "InvalidInputs");
    let structure = checked(&pod, json!({"repository": "main"})).await.unwrap();
    assert_eq!(structure.message.as_deref(), Some("the repository's structure is whole"));
    let mut environment = environment(json!({"repository": "main"}), None);
    environment.repository_spec.maintenance = serde_json::from_value(json!({"readDataPercent": 30})).unwrap();
    let inputs = check::read_inputs(&environment).unwrap();
    let repository = pod.repository().await.unwrap();
    let result = check::check(&repository, &environment, &inputs, &[], &SystemClock).await.unwrap();
    assert_eq!(result.message.as_deref(), Some("the repository's structure and 30 % of its data are whole"));
}
