//! Opening, creating, owning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use age::x25519::Identity;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tenantatlas::repository::{
    Error, Location, Ownership, Recipients, Repository as _, RepositoryKey, RetryClass, RusticRepository, Store,
};

use super::support::faults::{Fault, FaultyStore, Request};
use super::support::{PASSWORD, Volume, capture, items, master_key, open, owned_by, owner, password, timeouts};

fn store(inner: Arc<dyn ObjectStore>) -> Store {
    Store::new(inner, "", "the test's store", Duration::from_secs(10))
}

async fn open_as(volume: &Volume, ownership: &Ownership, key: &RepositoryKey) -> Result<RusticRepository, Error> {
    RusticRepository::open_or_init(&volume.location(), &timeouts(), key, ownership).await
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let volume = Volume::new();
    open(&volume.location(), &password()).await.unwrap();
    let wrong = RepositoryKey::from_secret(b"hunter2-secret\n").unwrap();
    let error = open(&volume.location(), &wrong).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("WrongPassword", RetryClass::Permanent));
    let shown = format!("{error} {error:?} {wrong:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(PASSWORD), "{shown}");
    assert!(error.to_string().contains(&volume.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn a_wrong_master_key_is_told() {
    let volume = Volume::new();
    open(&volume.location(), &master_key()).await.unwrap();
    let error = open(&volume.location(), &master_key()).await.unwrap_err();
    assert_eq!(error.reason(), "WrongPassword");
    assert!(error.to_string().contains("master key"), "{error}");
}

#[tokio::test]
async fn a_master_key_repository_opens_by_password_once_one_was_added() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let captured = capture(&repository, "run-1", items()).await.unwrap();
    let error = open(&volume.location(), &password()).await.unwrap_err();
    assert_eq!(error.reason(), "NotARepository");
    assert!(error.to_string().contains("no keys"), "{error}");

    repository.add_key(PASSWORD).await.unwrap();
    let by_password = open(&volume.location(), &password()).await.unwrap();
    assert_eq!(by_password.snapshots().await.unwrap(), [captured.snapshot]);
}

/// The copies of the key in a store, by name.
fn recovery_copies(volume: &Volume) -> Vec<(String, Vec<u8>)> {
    let Ok(folder) = std::fs::read_dir(volume.path().join("tenantatlas/recovery")) else { return Vec::new() };
    let copies = folder.map(Result::unwrap).map(|entry| entry.path());
    let mut copies: Vec<_> = copies.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect();
    copies.sort();
    copies
}

#[tokio::test]
async fn each_recipient_opens_the_copy_of_the_key_and_nobody_else_and_it_is_written_once() {
    let (ada, bob, eve) = (Identity::generate(), Identity::generate(), Identity::generate());
    let both = [ada.to_public().to_string(), bob.to_public().to_string()];
    let swapped = [both[1].clone(), both[0].clone()];
    for key in [password(), master_key()] {
        let volume = Volume::new();
        let repository = open(&volume.location(), &key).await.unwrap();
        repository.keep_recovery(Recipients::parse(&both).unwrap()).await.unwrap();
        let copies = recovery_copies(&volume);
        assert_eq!(copies.len(), 1);
        assert!(!String::from_utf8_lossy(&copies[0].1).contains(PASSWORD));
        assert!(age::decrypt(&eve, &copies[0].1).is_err());
        for recipient in [&ada, &bob] {
            let secret = age::decrypt(recipient, &copies[0].1).unwrap();
            open(&volume.location(), &RepositoryKey::from_secret(&secret).unwrap()).await.unwrap();
        }
        repository.keep_recovery(Recipients::parse(&swapped).unwrap()).await.unwrap();
        assert_eq!(recovery_copies(&volume), copies, "the same recipients have a copy");
        std::fs::write(&copies[0].0, "overwritten").unwrap();
        repository.keep_recovery(Recipients::parse(&both).unwrap()).await.unwrap();
        assert!(age::decrypt(&bob, &recovery_copies(&volume)[0].1).is_ok(), "what is no copy is replaced");
        std::fs::write(&copies[0].0, &copies[0].1).unwrap();
        repository.keep_recovery(Recipients::parse(&both[..1]).unwrap()).await.unwrap();
        let more = recovery_copies(&volume);
        let new = more.iter().find(|copy| **copy != copies[0]).unwrap();
        assert!(age::decrypt(&ada, &new.1).is_ok() && age::decrypt(&bob, &new.1).is_err());
    }
}

#[test]
fn what_is_no_public_key_is_told_by_its_place() {
    let sound = Identity::generate().to_public().to_string();
    let mut typo = sound.clone();
    let last = if typo.pop() == Some('q') { 'p' } else { 'q' };
    typo.push(last);
    for broken in [typo, sound[..61].to_owned(), "age1".to_owned(), String::new(), "ssh-ed25519 AAAA".to_owned()] {
        assert_eq!(Recipients::parse(&[sound.clone(), broken.clone()]).unwrap_err(), 1, "{broken}");
    }
    assert_eq!(Recipients::parse(&[]).unwrap_err(), 0);
    assert!(Recipients::parse(&[sound]).is_ok());
}

#[test]
fn the_secrets_value_is_a_master_key_or_a_password() {
    let kind = |value: &[u8]| RepositoryKey::from_secret(value).map(|key| format!("{key:?}"));
    let master = RepositoryKey::generate_master_key().unwrap();
    assert_eq!(kind(master.as_bytes()).unwrap(), "RepositoryKey(master key)");
    assert_eq!(kind(b"{not a key").unwrap(), "RepositoryKey(password)");
    assert!(matches!(RepositoryKey::from_secret(b" x \r\n"), Ok(RepositoryKey::Password(text)) if text == " x "));
    assert_eq!(kind(b"\n").unwrap_err().reason(), "InvalidKey");
    assert_eq!(kind(b"\xff").unwrap_err().reason(), "InvalidKey");
    let short = br#"{"mac":{"k":"AAAA","r":"AAAA"},"encrypt":"AAAA"}"#;
    assert_eq!(kind(short).unwrap_err().reason(), "InvalidKey");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_captures_at_once_make_one_repository() {
    let volume = Volume::new();
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..4 {
        let location = volume.location();
        attempts.spawn(async move {
            let repository = open(&location, &password()).await?;
            capture(&repository, &format!("run-{number}"), items()).await
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap().unwrap();
    }
    assert_eq!(volume.files("keys").len(), 1, "no loser's key stays behind, or restic may pick it");
    assert!(!volume.path().join("tenantatlas/init.json").exists());
    let repository = open(&volume.location(), &password()).await.unwrap();
    assert_eq!(repository.snapshots().await.unwrap().len(), 4);
}

#[tokio::test]
async fn creation_that_died_at_any_request_is_completed_by_the_next_attempt() {
    // Claims, plans, writes the key and the config, clears the plan away.
    for survived in 0..5 {
        let volume = Volume::new();
        let inner = Arc::new(LocalFileSystem::new_with_prefix(volume.path()).unwrap());
        let writes = AtomicUsize::new(0);
        let dying = FaultyStore::new(inner, move |request, _| {
            let write = matches!(request, Request::Put | Request::Delete);
            (write && writes.fetch_add(1, SeqCst) == survived).then_some(Fault::Die)
        });
        RusticRepository::open_or_init_in(store(dying), &password(), &owner()).await.unwrap_err();
        let repository = open(&volume.location(), &password()).await.unwrap();
        assert!(repository.snapshots().await.unwrap().is_empty());
        assert_eq!(volume.files("keys").len(), 1, "died after {survived} writes");
        assert_eq!(volume.files("tenantatlas"), [volume.path().join("tenantatlas/owner.json")]);
    }
}

#[tokio::test]
async fn who_only_opens_makes_nothing_where_nothing_is_and_nothing_of_what_is_half_made() {
    let (volume, key) = (Volume::new(), master_key());
    let only_open = || async { RusticRepository::open(&volume.location(), &timeouts(), &key, &owner()).await };
    let error = only_open().await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("RepositoryVanished", RetryClass::Permanent));
    assert!(error.is_of_the_content() && error.to_string().contains(&volume.path().display().to_string()), "{error}");
    assert_eq!(volume.files(""), Vec::<std::path::PathBuf>::new(), "nothing was written");

    // Claimed and planned.
    let inner = Arc::new(LocalFileSystem::new_with_prefix(volume.path()).unwrap());
    let writes = AtomicUsize::new(0);
    let dying = FaultyStore::new(inner, move |request, _| {
        (request == Request::Put && writes.fetch_add(1, SeqCst) == 2).then_some(Fault::Die)
    });
    RusticRepository::open_or_init_in(store(dying), &key, &owner()).await.unwrap_err();
    let left = volume.files("");
    assert_eq!(only_open().await.unwrap_err().reason(), "RepositoryVanished");
    assert_eq!(volume.files(""), left, "nothing was written");

    let repository = open(&volume.location(), &key).await.unwrap();
    let captured = capture(&repository, "run-1", items()).await.unwrap();
    assert_eq!(only_open().await.unwrap().snapshots().await.unwrap(), [captured.snapshot]);
    std::fs::remove_file(volume.path().join("config")).unwrap();
    assert_eq!(only_open().await.unwrap_err().reason(), "Damaged", "what is left says that something was here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_overtaken_leaves_no_key() {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let inner = memory.clone();
    let overtaken = AtomicBool::new(false);
    let slow = FaultyStore::new(memory.clone(), move |request, path| {
        if request == Request::Put && path == "tenantatlas/init.json" && !overtaken.swap(true, SeqCst) {
            // Another worker does it all, clears away its plan, and only then this one's plan is created.
            let other = store(inner.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(RusticRepository::open_or_init_in(other, &password(), &owner())).unwrap();
            })
            .join()
            .unwrap();
        }
        None
    });
    RusticRepository::open_or_init_in(store(slow), &password(), &owner()).await.unwrap();
    let listed = memory.list_with_delimiter(Some(&"keys".into())).await.unwrap();
    assert_eq!(listed.objects.len(), 1);
    let listed = memory.list_with_delimiter(Some(&"tenantatlas".into())).await.unwrap();
    let left: Vec<_> = listed.objects.iter().map(|object| object.location.to_string()).collect();
    assert_eq!(left, ["tenantatlas/owner.json"]);
}

#[tokio::test]
async fn another_tenants_repository_is_refused_and_left_alone() {
    let volume = Volume::new();
    let key = master_key();
    open(&volume.location(), &key).await.unwrap();
    let marker = std::fs::read(volume.path().join("tenantatlas/owner.json")).unwrap();
    for intruder in [owned_by("cluster-1", "namespace-2"), owned_by("cluster-2", "namespace-1")] {
        let error = open_as(&volume, &intruder, &key).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_class()), ("OwnedByAnother", RetryClass::Permanent));
        assert!(error.to_string().contains("namespace-1") && error.to_string().contains("cluster-1"), "{error}");
    }
    assert_eq!(std::fs::read(volume.path().join("tenantatlas/owner.json")).unwrap(), marker);
}

#[tokio::test]
async fn a_repository_is_adopted_with_consent_and_then_lost_to_the_former_owner() {
    let volume = Volume::new();
    let key = master_key();
    let repository = open(&volume.location(), &key).await.unwrap();
    let captured = capture(&repository, "run-1", items()).await.unwrap();

    let mut heir = owned_by("cluster-2", "namespace-9");
    heir.adopt = vec!["some-other".to_owned()];
    assert_eq!(open_as(&volume, &heir, &key).await.unwrap_err().reason(), "OwnedByAnother");
    heir.adopt.push("namespace-1".to_owned());
    let adopted = open_as(&volume, &heir, &key).await.unwrap();
    assert_eq!(adopted.snapshots().await.unwrap(), [captured.snapshot]);

    heir.adopt.clear();
    open_as(&volume, &heir, &key).await.unwrap();
    assert_eq!(open(&volume.location(), &key).await.unwrap_err().reason(), "OwnedByAnother");
}

#[tokio::test]
async fn consent_without_the_key_changes_nothing() {
    let volume = Volume::new();
    open(&volume.location(), &master_key()).await.unwrap();
    let mut thief = owned_by("cluster-2", "namespace-9");
    thief.adopt = vec!["namespace-1".to_owned()];
    assert_eq!(open_as(&volume, &thief, &master_key()).await.unwrap_err().reason(), "WrongPassword");
    let marker = std::fs::read_to_string(volume.path().join("tenantatlas/owner.json")).unwrap();
    assert!(marker.contains("namespace-1") && marker.contains("clusterUid"), "{marker}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_at_one_empty_place_one_gets_it() {
    let volume = Volume::new();
    let (one, other) = (owned_by("cluster-1", "namespace-1"), owned_by("cluster-1", "namespace-2"));
    let (key_1, key_2) = (master_key(), master_key());
    let (first, second) = tokio::join!(open_as(&volume, &one, &key_1), open_as(&volume, &other, &key_2));
    let refused: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason(), "OwnedByAnother");
}

#[tokio::test]
async fn a_place_with_other_things_in_it_is_refused_and_left_alone() {
    let volume = Volume::new();
    std::fs::write(volume.path().join("holiday.jpg"), "x").unwrap();
    let error = open(&volume.location(), &master_key()).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("NotARepository", RetryClass::Permanent));
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert_eq!(volume.files(""), [volume.path().join("holiday.jpg")], "nothing was written");

    let volume = Volume::new();
    std::fs::create_dir(volume.path().join("photos")).unwrap();
    assert_eq!(open(&volume.location(), &master_key()).await.unwrap_err().reason(), "NotARepository");

    let volume = Volume::new();
    std::fs::write(volume.path().join("config"), "[some]\nother = program\n").unwrap();
    assert_eq!(open(&volume.location(), &password()).await.unwrap_err().reason(), "NotARepository");
    assert_eq!(volume.files("").len(), 1, "nothing was written");
}

#[tokio::test]
async fn a_fresh_volume_is_an_empty_place() {
    let volume = Volume::new();
    std::fs::create_dir(volume.path().join("lost+found")).unwrap();
    std::fs::create_dir(volume.path().join(".snapshot")).unwrap();
    open(&volume.location(), &master_key()).await.unwrap();
}

#[tokio::test]
async fn a_repository_that_lost_its_config_is_damaged_and_not_created_anew() {
    let volume = Volume::new();
    let key = master_key();
    let repository = open(&volume.location(), &key).await.unwrap();
    capture(&repository, "run-1", items()).await.unwrap();
    std::fs::remove_file(volume.path().join("config")).unwrap();
    let error = open(&volume.location(), &key).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("Damaged", RetryClass::Permanent));
    assert!(!volume.path().join("config").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_made() {
    let volume = Volume::new();
    let path = volume.path().join("not-mounted");
    let error = open(&Location::FileSystem { path: path.clone() }, &master_key()).await.unwrap_err();
    assert_eq!(error.reason(), "LocationNotFound");
    assert!(!path.exists());
}

#[tokio::test]
async fn files_are_writable_by_nobody_else_and_not_executable() {
    use std::os::unix::fs::PermissionsExt as _;
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    capture(&repository, "run-1", items()).await.unwrap();
    for file in volume.files("") {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o113, 0, "{}: {mode:o}", file.display());
    }
}
