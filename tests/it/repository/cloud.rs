//! Object stores over the network: S3 for real, the others as far as their requests show.

use std::time::{Duration, Instant};

use tenantatlas::repository::{
    Credentials, Error, Location, ReadData, Repository as _, RetryClass, RusticRepository, Timeouts,
};

use super::support::s3::{self, ACCESS_KEY, SECRET_KEY, Server};
use super::support::{capture, items, master_key, open, owned_by, owner, timeouts};

/// The first request to a location fails; how?
async fn failure(location: &Location) -> Error {
    let error = open(location, &master_key()).await.unwrap_err();
    let shown = format!("{error} {error:?} {location:?}");
    assert!(!shown.contains(SECRET_KEY), "{shown}");
    error
}

async fn failure_answered(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Error {
    let server = Server::answering(false, answer).await;
    let keys = s3::keys(SECRET_KEY);
    failure(&s3::bucket(&server, "acme", keys.path())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_in_a_bucket() {
    let ((root, bucket), keys, key) = (s3::root(), s3::keys(SECRET_KEY), master_key());
    for tls in [false, true] {
        let server = Server::store(root.path(), tls).await;
        let prefix = format!("tenants/tls-{tls}");
        let location = s3::bucket(&server, &prefix, keys.path());
        let repository = open(&location, &key).await.unwrap();
        let summary = capture(&repository, "run-1", items()).await.unwrap();
        let paths = items().into_iter().map(|entry| entry.path).collect();
        let contents = repository.read(&summary.snapshot.id, paths).await.unwrap();
        assert!(items().iter().map(|entry| entry.content.to_vec()).eq(contents));
        assert!(repository.check(ReadData::All).await.unwrap().is_ok());
        assert!(bucket.join(&prefix).join("config").exists(), "everything lies below the prefix");
        assert!(bucket.join(&prefix).join("tenantatlas/owner.json").exists());
        let other = RusticRepository::open_or_init(&location, &timeouts(), &key, &owned_by("c", "n")).await;
        assert_eq!(other.unwrap_err().reason(), "OwnedByAnother");
    }
    let top: Vec<_> = std::fs::read_dir(&bucket).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!top.iter().any(|name| name == "config" || name == "data"), "{top:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_at_one_empty_prefix_one_gets_it() {
    let ((root, _), keys, key) = (s3::root(), s3::keys(SECRET_KEY), master_key());
    let server = Server::store(root.path(), false).await;
    let location = s3::bucket(&server, "shared", keys.path());
    let owners = [owned_by("c", "one"), owned_by("c", "two")];
    let timeouts = timeouts();
    let (one, two) = tokio::join!(
        RusticRepository::open_or_init(&location, &timeouts, &key, &owners[0]),
        RusticRepository::open_or_init(&location, &timeouts, &key, &owners[1]),
    );
    let refused: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.iter().map(Error::reason).collect::<Vec<_>>(), ["OwnedByAnother"]);
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_shown() {
    let ((root, _), keys) = (s3::root(), s3::keys("another-secret"));
    let server = Server::store(root.path(), false).await;
    let error = failure(&s3::bucket(&server, "acme", keys.path())).await;
    assert_eq!((error.reason(), error.retry_class()), ("AccessDenied", RetryClass::Permanent));
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    assert!(!error.to_string().contains("another-secret") && !error.to_string().contains(ACCESS_KEY), "{error}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    let (root, keys) = (tempfile::TempDir::new().unwrap(), s3::keys(SECRET_KEY));
    let server = Server::store(root.path(), false).await;
    let error = failure(&s3::bucket(&server, "acme", keys.path())).await;
    assert_eq!((error.reason(), error.retry_class()), ("BucketNotFound", RetryClass::Permanent));
    assert!(error.to_string().contains("s3://backups/acme at http://localhost"), "{error}");
}

#[tokio::test]
async fn missing_keys_in_the_secret_are_named() {
    let server = Server::answering(false, |_| None).await;
    let secret = s3::secret(&[("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "\n")]);
    let error = failure(&s3::bucket(&server, "acme", secret.path())).await;
    assert_eq!(error.reason(), "CredentialsMissing");
    assert!(error.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    assert!(server.recorded().is_empty());
}

#[tokio::test]
async fn a_failing_store_is_unreachable_and_a_full_one_full() {
    for (status, code, reason, class) in [
        ("503 Service Unavailable", "SlowDown", "StoreUnreachable", RetryClass::Transient),
        ("500 Internal Server Error", "InternalError", "StoreUnreachable", RetryClass::Transient),
        ("507 Insufficient Storage", "XMinioStorageFull", "StoreFull", RetryClass::Permanent),
        ("403 Forbidden", "QuotaExceeded", "StoreFull", RetryClass::Permanent),
        ("403 Forbidden", "AccessDenied", "AccessDenied", RetryClass::Permanent),
        ("401 Unauthorized", "InvalidToken", "AccessDenied", RetryClass::Permanent),
        ("404 Not Found", "NoSuchBucket", "BucketNotFound", RetryClass::Permanent),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "InvalidLocation", RetryClass::Permanent),
    ] {
        let answer = s3::error(status, code);
        let error = failure_answered(move |_| Some(answer.clone())).await;
        assert_eq!((error.reason(), error.retry_class()), (reason, class), "{status} {code}: {error}");
        assert!(reason == "BucketNotFound" || error.to_string().contains(code), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_unreachable_within_the_bound() {
    let server = Server::answering(false, |_| None).await;
    let keys = s3::keys(SECRET_KEY);
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        request: Duration::from_mins(1),
        retries: 3,
        total: Duration::from_millis(300),
    };
    let began = Instant::now();
    let location = s3::bucket(&server, "acme", keys.path());
    let error = RusticRepository::open_or_init(&location, &timeouts, &master_key(), &owner()).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("StoreUnreachable", RetryClass::Transient), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // The bound of an attempt, and how often it is repeated.
    let timeouts = Timeouts { request: Duration::from_millis(100), total: Duration::from_secs(30), ..timeouts };
    let before = server.recorded().len();
    let error = RusticRepository::open_or_init(&location, &timeouts, &master_key(), &owner()).await.unwrap_err();
    assert_eq!(error.reason(), "StoreUnreachable", "{error}");
    assert_eq!(server.recorded().len() - before, 4, "one attempt and three more");
}

#[tokio::test]
async fn nothing_listening_is_unreachable() {
    let server = Server::answering(false, |_| None).await;
    let keys = s3::keys(SECRET_KEY);
    let location = s3::bucket(&server, "acme", keys.path());
    drop(server);
    assert_eq!(failure(&location).await.reason(), "StoreUnreachable");
}

#[tokio::test]
async fn a_certificate_is_trusted_only_by_the_ca_bundle() {
    let ((root, _), keys) = (s3::root(), s3::keys(SECRET_KEY));
    let server = Server::store(root.path(), true).await;
    let mut location = s3::bucket(&server, "acme", keys.path());
    open(&location, &master_key()).await.unwrap();
    let Location::S3 { ca_bundle_pem, .. } = &mut location else { unreachable!() };
    *ca_bundle_pem = None;
    assert_eq!(failure(&location).await.reason(), "UntrustedCertificate");
    let Location::S3 { ca_bundle_pem, .. } = &mut location else { unreachable!() };
    *ca_bundle_pem = Some("not a certificate".to_owned());
    let error = failure(&location).await;
    assert_eq!(error.reason(), "InvalidLocation");
    assert!(error.to_string().contains("CA bundle"), "{error}");
}

#[tokio::test]
async fn requests_are_made_as_the_location_says() {
    let server = Server::answering(false, |_| Some(s3::error("403 Forbidden", "AccessDenied"))).await;
    let session = s3::secret(&[
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", "session-token"),
    ]);
    let mut location = s3::bucket(&server, "tenants/acme", session.path());
    failure(&location).await;
    let request = server.recorded().remove(0);
    assert!(request.starts_with("GET /backups?") && request.contains("prefix=tenants%2Facme%2F"), "{request}");
    assert!(request.contains("/eu-1/s3/aws4_request"), "{request}");
    assert!(request.contains("x-amz-security-token: session-token"), "{request}");

    let Location::S3 { region, .. } = &mut location else { unreachable!() };
    *region = None;
    let store = location.connect_in(&timeouts(), &|name| (name == "AWS_REGION").then(|| "eu-7".to_owned()));
    RusticRepository::open_or_init_in(store.unwrap(), &master_key(), &owner()).await.unwrap_err();
    let request = server.recorded().pop().unwrap();
    assert!(request.contains("/eu-7/s3/aws4_request"), "{request}");
}

#[tokio::test]
async fn without_a_secret_the_workers_own_identity_is_used() {
    let sts = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <AccessKeyId>ASIAFROMSTS</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
        </AssumeRoleWithWebIdentityResponse>";
    let server = Server::answering(true, move |head| {
        Some(if head.contains("AssumeRoleWithWebIdentity") {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sts}", sts.len())
        } else {
            s3::error("403 Forbidden", "AccessDenied")
        })
    })
    .await;
    let token = s3::secret(&[("token", "projected-token")]);
    let mut location = s3::bucket(&server, "acme", token.path());
    let Location::S3 { credentials, role_arn, .. } = &mut location else { unreachable!() };
    *credentials = Credentials::Ambient;
    *role_arn = Some("arn:aws:iam::1:role/from-spec".to_owned());
    let (endpoint, file) = (server.endpoint(), token.path().join("token").display().to_string());
    let environment = move |name: &str| match name {
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some(file.clone()),
        "AWS_ROLE_ARN" => Some("arn:aws:iam::1:role/from-environment".to_owned()),
        "AWS_ENDPOINT_URL_STS" => Some(endpoint.clone()),
        // A stray variable must not matter.
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_ENDPOINT_URL" => Some("http://stray".to_owned()),
        _ => None,
    };
    let store = location.connect_in(&timeouts(), &environment).unwrap();
    let error = RusticRepository::open_or_init_in(store, &master_key(), &owner()).await.unwrap_err();
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    let recorded = server.recorded();
    assert!(recorded[0].contains("from-spec") && !recorded[0].contains("from-environment"), "{recorded:?}");
    assert!(recorded[1].contains("Credential=ASIAFROMSTS/"), "{recorded:?}");

    let error = location.connect_in(&timeouts(), &|_| None).unwrap_err();
    assert_eq!(error.reason(), "CredentialsMissing");
    assert!(error.to_string().contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{error}");
}

#[tokio::test]
async fn google_cloud_storage_is_asked_with_the_service_account() {
    let server = Server::answering(false, |_| Some(s3::error("403 Forbidden", "AccessDenied"))).await;
    let account = r#"{"private_key":"k","private_key_id":"i","client_email":"e","disable_oauth":true}"#;
    let secret = s3::secret(&[("service-account.json", account)]);
    let location = |credentials: &std::path::Path| Location::Gcs {
        bucket: "backups".to_owned(),
        prefix: "acme".to_owned(),
        endpoint: Some(server.endpoint()),
        ca_bundle_pem: None,
        credentials: Credentials::Directory(credentials.to_owned()),
    };
    let error = failure(&location(secret.path())).await;
    assert_eq!(error.reason(), "AccessDenied");
    assert!(error.to_string().contains("gs://backups/acme"), "{error}");
    let request = server.recorded().remove(0);
    assert!(request.starts_with("GET /backups?") && request.contains("prefix=acme%2F"), "{request}");

    let empty = s3::secret(&[]);
    let error = failure(&location(empty.path())).await;
    assert_eq!(error.reason(), "CredentialsMissing");
    assert!(error.to_string().contains("service-account.json"), "{error}");
}

#[tokio::test]
async fn azure_blob_storage_is_asked_with_the_account_key_or_the_token() {
    let server = Server::answering(false, |_| Some(s3::error("403 Forbidden", "AuthorizationFailure"))).await;
    let location = |credentials: Credentials| Location::Azure {
        account: "acct".to_owned(),
        container: "backups".to_owned(),
        prefix: "acme".to_owned(),
        endpoint: Some(server.endpoint()),
        ca_bundle_pem: None,
        client_id: Some("client".to_owned()),
        directory_id: Some("directory".to_owned()),
        credentials,
    };
    let directory = |secret: &tempfile::TempDir| Credentials::Directory(secret.path().to_owned());
    let by_key = s3::secret(&[("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")]);
    let error = failure(&location(directory(&by_key))).await;
    assert_eq!(error.reason(), "AccessDenied");
    assert!(error.to_string().contains("azure://acct/backups/acme"), "{error}");
    let request = server.recorded().pop().unwrap();
    assert!(request.contains("/backups?") && request.contains("SharedKey acct:"), "{request}");

    let by_token = s3::secret(&[("AZURE_STORAGE_SAS_TOKEN", "?sv=2022-11-02&sig=do-not-show-this-secret")]);
    let error = failure(&location(directory(&by_token))).await;
    assert_eq!(error.reason(), "AccessDenied");
    assert!(server.recorded().pop().unwrap().contains("sig=do-not-show-this-secret"));

    let neither = s3::secret(&[]);
    let error = failure(&location(directory(&neither))).await;
    assert!(error.to_string().contains("AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"), "{error}");
    let error = location(Credentials::Ambient).connect_in(&timeouts(), &|_| None).unwrap_err();
    assert!(error.to_string().contains("AZURE_FEDERATED_TOKEN_FILE"), "{error}");
}

#[test]
fn a_malformed_endpoint_is_refused_before_any_request() {
    let keys = s3::keys(SECRET_KEY);
    for endpoint in ["s3.example.com", "ftp://s3.example.com", "https://user:password@s3.example.com", "https://"] {
        let location = Location::S3 {
            bucket: "backups".to_owned(),
            prefix: String::new(),
            endpoint: Some(endpoint.to_owned()),
            region: None,
            path_style: true,
            ca_bundle_pem: None,
            role_arn: None,
            credentials: Credentials::Directory(keys.path().to_owned()),
        };
        let error = location.connect(&timeouts()).unwrap_err();
        assert_eq!(error.reason(), "InvalidLocation", "{endpoint}");
        assert!(!error.to_string().contains("password@"), "{error}");
    }
}
