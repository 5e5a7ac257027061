//! The operator's memory, whatever the objects are that tenants make: its process against an API server that serves the worst of them.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, Response, StatusCode, Uri},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    iter,
    process::{Child, Command},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};
use tenantatlas::api::{execution::ACCOUNTS, schema::custom_resource_definitions};

/// What the chart gives the operator, and what of it may be used here; the build of a test takes more than a release.
const LIMIT_MIB: usize = 256;
const MOST_MIB: usize = 160;
/// The same with ten thousand objects as large as they are held.
const MOST_OF_MANY_MIB: usize = 224;

/// As large as an object gets: what etcd takes.
const LARGEST: usize = 1_400_000;

/// JSON that takes the most memory for its text.
fn worst(shape: usize) -> String {
    let element = ["{\"\":0}", "{}", "[]", "\"\"", "[[[0]]]"][shape % 5];
    if shape == MEMBERS {
        let members = (0..LARGEST / 10).map(|number| format!("\"{number:x}\":0")).collect::<Vec<_>>();
        return format!("{{{}}}", members.join(","));
    }
    let mut list = String::with_capacity(LARGEST + 16);
    list.push('[');
    while list.len() < LARGEST {
        let _ = write!(list, "{}{element}", if list.len() > 1 { "," } else { "" });
    }
    list.push(']');
    list
}

/// The shape that is an object, of numbers.
const MEMBERS: usize = 5;

/// Each shape, and the members as texts. Made once: whoever serves a lease must not be slow.
static WORST: LazyLock<[Bytes; 7]> = LazyLock::new(|| {
    let texts = || worst(MEMBERS).replace(":0", ":\"\"");
    std::array::from_fn(|shape| if shape > MEMBERS { texts() } else { worst(shape) }.into())
});

/// Fields of a kind, as `spec.inputs`: of our kinds all that their schemas have, of others some that decisions read.
fn fields(plural: &str) -> Vec<String> {
    for definition in custom_resource_definitions() {
        if definition.spec.names.plural != plural {
            continue;
        }
        let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let sections = schema.and_then(|schema| schema.properties.as_ref()).expect("properties");
        let of = |section: &str| {
            let properties = sections.get(section).and_then(|section| section.properties.clone()).unwrap_or_default();
            properties.into_keys().map(|field| format!("{section}.{field}")).collect::<Vec<_>>()
        };
        return [of("spec"), of("status")].concat();
    }
    let some = [
        "spec.template",
        "spec.containers",
        "spec.volumes",
        "spec.initContainers",
        "spec.any",
        "status.conditions",
        "status.containerStatuses",
        "status.any",
        "subjects",
        "secrets",
        "imagePullSecrets",
    ];
    some.map(str::to_owned).into()
}

/// An object of the API server: its name, and its JSON in pieces.
struct Object {
    name: String,
    pieces: [Bytes; 3],
}

/// One object for each field that is as large as may be, and one for each part of metadata.
fn objects(plural: &str) -> Vec<Object> {
    let names = |number: usize| match plural {
        "serviceaccounts" | "rolebindings" => ACCOUNTS[number % ACCOUNTS.len()].to_owned(),
        "jobs" | "pods" => format!("op-{number:020x}"),
        _ => format!("big-{number}"),
    };
    let definitions = custom_resource_definitions();
    let ours = definitions.iter().find(|definition| definition.spec.names.plural == plural);
    let head = ours.map_or_else(String::new, |definition| {
        format!("\"apiVersion\":\"tenantatlas.io/v1alpha1\",\"kind\":\"{}\",", definition.spec.names.kind)
    });
    let mut objects = Vec::new();
    // In metadata, or behind it; what stands after the value.
    let mut object = |in_metadata: bool, before: &str, shape: usize, after: &str| {
        let number = objects.len();
        let scope = if ["namespaces", "operationtypes"].contains(&plural) {
            String::new()
        } else {
            format!("\"namespace\":\"ns-{number}\",")
        };
        let name = names(number);
        let metadata = format!(
            r#""creationTimestamp":"2026-01-01T00:00:00Z","name":"{name}",{scope}"resourceVersion":"5","uid":"{plural}-{number}"}}"#
        );
        let (begin, end) = if in_metadata {
            (format!(r#"{{{head}"metadata":{{{before}"#), format!("{after},{metadata}}}"))
        } else {
            (format!(r#"{{{head}"metadata":{{{metadata},{before}"#), format!("{after}}}"))
        };
        objects.push(Object { name, pieces: [begin.into(), WORST[shape].clone(), end.into()] });
    };
    for (part, shape) in
        [("annotations", 6), ("labels", 6), ("ownerReferences", 1), ("finalizers", 3), ("managedFields", 1)]
    {
        object(true, &format!("\"{part}\":"), shape, "");
    }
    for (number, field) in fields(plural).iter().enumerate() {
        // What stands beside it is what lets a decision come to it.
        let (before, after) = match field.split_once('.') {
            Some(("spec", field)) if plural == "operationruns" => {
                (format!(r#""spec":{{"{field}":"#), r#","type":"work"}"#)
            }
            Some((section, field)) => (format!(r#""{section}":{{"{field}":"#), "}"),
            None => (format!(r#""{field}":"#), ""),
        };
        object(false, &before, number % (MEMBERS + 1), after);
    }
    objects
}

#[derive(Default)]
struct Seen {
    lists: BTreeSet<String>,
    /// Lines of each watch that are still to be taken.
    watches: BTreeMap<String, usize>,
    writes: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Seen>>;

/// A body of these pieces.
fn streamed(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)))
}

fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    response.header("content-type", "application/json").body(body.into()).unwrap()
}

/// What is created is there; nothing else is changed.
fn written(method: &Method, body: &[u8]) -> Response<Body> {
    let Ok(mut object) = serde_json::from_slice::<Value>(body) else { return answer(400, "{}") };
    if *method == Method::PATCH {
        return not_found();
    }
    object["metadata"]["resourceVersion"] = json!("6");
    object["metadata"]["uid"] = json!("made");
    answer(201, object.to_string())
}

fn not_found() -> Response<Body> {
    answer(404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}).to_string())
}

/// The run of another tenant, which must start.
fn small(plural: &str) -> Option<Value> {
    match plural {
        "operationruns" => Some(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": "small", "namespace": "other", "uid": "small", "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "work"}})),
        "operationtypes" => Some(work()),
        "namespaces" => Some(namespace("other")),
        _ => None,
    }
}

fn work() -> Value {
    json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": {"name": "work", "uid": "work", "resourceVersion": "5"}, "spec": {"label": "work", "executor": {
        "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}}}}}})
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": "5", "labels": {"tenantatlas.io/workspace": "w"}}})
}

/// A list in pages, an object at a time; then a watch that brings each once more.
async fn serve(State(seen): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let rest: Vec<&str> = segments.iter().skip(if segments[0] == "api" { 2 } else { 3 }).copied().collect();
    if method != Method::GET {
        let text = String::from_utf8_lossy(&body).into_owned();
        seen.lock().unwrap().writes.push((format!("{method} {}", uri.path()), text));
        return written(&method, &body);
    }
    match rest.as_slice() {
        ["namespaces", name] => return answer(200, namespace(name).to_string()),
        ["operationtypes", "work"] => return answer(200, work().to_string()),
        ["namespaces", _, "leases", _] => return not_found(),
        ["namespaces", _, plural, name] => {
            let found = objects(plural).into_iter().find(|object| object.name == *name);
            return found.map_or_else(not_found, |object| answer(200, streamed(object.pieces.into_iter())));
        }
        _ => {}
    }
    let plural = rest.last().copied().unwrap_or_default().to_owned();
    let query = uri.query().unwrap_or_default();
    if query.contains("watch=") {
        let lines = objects(&plural);
        seen.lock().unwrap().watches.insert(plural.clone(), lines.len());
        let lines = stream::iter(lines).flat_map(move |object| {
            *seen.lock().unwrap().watches.entry(plural.clone()).or_default() -= 1;
            let begin = iter::once(Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":"));
            stream::iter(begin.chain(object.pieces).chain([Bytes::from_static(b"}\n")]).map(Ok::<_, std::io::Error>))
        });
        return answer(200, Body::from_stream(lines.chain(stream::pending())));
    }
    seen.lock().unwrap().lists.insert(plural.clone());
    let small = small(&plural).map(|object| object.to_string().into());
    let items = objects(&plural).into_iter().map(|object| object.pieces.to_vec()).chain(small.map(|small| vec![small]));
    let items = items.enumerate().flat_map(|(number, item)| {
        let comma = if number > 0 { Bytes::from_static(b",") } else { Bytes::new() };
        iter::once(comma).chain(item)
    });
    let begin = Bytes::from_static(br#"{"metadata":{"resourceVersion":"5"},"items":["#);
    answer(200, streamed(iter::once(begin).chain(items).chain([Bytes::from_static(b"]}")])))
}

/// Ends with the test, however that ends.
struct Operator {
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Operator {
    /// The operator's process against an API server.
    async fn start(server: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, server).await });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "c", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let file = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantatlas"));
        command.args(["controller", "--image", "i", "--listen", "127.0.0.1:0"]).env("KUBECONFIG", &kubeconfig);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { process: command.spawn().unwrap(), folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Fails where it has ended by itself.
    fn expect_alive(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("it ended by itself, {status}: {}", self.log());
        }
    }

    /// The most memory it has had, in MiB.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_as_large_as_they_get_of_every_kind_that_is_watched_do_not_take_the_operator_down() {
    let seen = Shared::default();
    let mut operator = Operator::start(Router::new().fallback(serve).with_state(seen.clone())).await;

    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        {
            let seen = seen.lock().unwrap();
            let wrote = |call: &str, text: &str| {
                seen.writes.iter().any(|(path, body)| path.contains(call) && body.contains(text))
            };
            let refused = wrote("/operationruns/", "InputsTooLarge");
            let started = wrote("POST /apis/batch/v1/namespaces/other/jobs", "");
            let all = seen.watches.len() >= 10 && seen.watches.keys().eq(seen.lists.iter());
            if refused && started && all && seen.watches.values().all(|lines| *lines == 0) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "refused: {refused}, started: {started}, lists: {:?}, watches: {:?}, writes: {:?}",
                seen.lists,
                seen.watches,
                seen.writes.iter().map(|(path, _)| path).collect::<Vec<_>>()
            );
        }
        operator.expect_alive();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let peak = operator.peak();
    println!("peak: {peak} MiB");
    assert!(peak < MOST_MIB, "it had {peak} MiB, of {LIMIT_MIB}");
}

/// How many objects one kind has in the test below.
const MANY: usize = 10_000;

/// Stands for the number of an object.
const NUMBER: &str = "NUMBER";

/// The kinds that tenants write, each with fields that together are as large as is held of one object.
const FILLED: [(&str, &str); 5] = [
    ("operationruns", "OperationRun"),
    ("restoreruns", "RestoreRun"),
    ("bulkoperationruns", "BulkOperationRun"),
    ("backupschedules", "BackupSchedule"),
    ("backuprepositories", "BackupRepository"),
];

/// An object of such a kind, with [`NUMBER`] where its number is to be. Each value stays below what is left out by itself.
fn filled(plural: &str, kind: &str) -> String {
    let text = |length: usize| "x".repeat(length);
    // Of a field that is held as JSON text: seven bytes a member, which take the most once they are parsed. Half of the fields of
    // restores and schedules, of which less is held.
    let is_order = ["restoreruns", "bulkoperationruns", "backupschedules"].contains(&plural);
    let list = || Value::Array(vec![json!({"": 0}); if is_order { 90 } else { 200 }]);
    let groups: Vec<_> = (0..5).map(|_| text(200)).collect();
    let who = json!({"username": text(300), "groups": groups});
    let conditions: Vec<_> = (0..2).map(|number| {
        json!({"type": format!("T{number}"), "status": "False", "reason": "R", "message": text(if is_order { 600 } else { 1200 }),
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }).collect();
    let reference = json!({"name": text(250), "uid": text(250)});
    let (spec, status) = match plural {
        "operationruns" => (
            json!({"type": "work", "inputs": {"a": list(), "b": list()}, "initiator": who, "rerunOf": {"name": text(250)},
                "target": {"apiVersion": "v1", "kind": text(60), "name": text(250)}}),
            json!({"phase": "queued", "outcome": "pending", "conditions": conditions, "message": text(2000),
                "context": {"workspace": text(60)}, "failures": [
                    {"reasonCode": "A", "itemId": text(500), "message": text(900)}, {"reasonCode": "A", "itemId": text(500), "message": text(900)}]}),
        ),
        "restoreruns" => {
            let selectors: Vec<_> =
                (0..4).map(|_| json!({"kind": "ConfigMap", "name": text(200), "labelSelector": text(80)})).collect();
            let patch = json!({"op": "add", "path": "/data", "value": list()});
            let transforms = json!([{"select": {"kind": "ConfigMap"}, "patch": [patch]}]);
            (
                json!({"backupSet": {"name": "set"}, "items": selectors, "excludeItems": selectors, "transforms": transforms, "requestedBy": who}),
                json!({"phase": "running", "outcome": "pending", "conditions": conditions, "message": text(1400), "operationRun": reference}),
            )
        }
        "bulkoperationruns" => (
            json!({"resource": {"kind": "ConfigMap"}, "action": "label", "items": vec![text(200); 5], "requestedBy": who,
                "options": {"set": {"a": text(1300)}}}),
            json!({"phase": "running", "outcome": "pending", "conditions": conditions, "message": text(1400), "operationRun": reference}),
        ),
        "backupschedules" => {
            let active: Vec<_> = (0..2).map(|_| reference.clone()).collect();
            (
                json!({"schedule": "@yearly", "operation": {"type": "work", "inputs": {"a": list(), "b": list()}}, "requestedBy": who}),
                json!({"conditions": conditions, "active": active,
                    "retention": {"after": text(250), "kept": 0, "expired": 0, "wouldExpire": [text(250), text(250), text(250)]}}),
            )
        }
        _ => (
            json!({"storage": {"persistentVolumeClaim": {"claimName": text(250)}}, "passwordSecret": {"name": text(250), "key": text(250)},
                "adopt": {"namespaceUids": vec![text(60); 32]}}),
            json!({"conditions": conditions}),
        ),
    };
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": text(250), "uid": text(250)});
    json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": format!("object-{NUMBER}"), "namespace": "many", "uid": format!("uid-{NUMBER}"),
            "resourceVersion": "5", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"tenantatlas.io/workspace": text(60), "tenantatlas.io/type": text(60)},
            "annotations": {"tenantatlas.io/run-now": text(1300)},
            "ownerReferences": if is_order { vec![owner; 2] } else { vec![owner; 4] }}
    })
    .to_string()
}

/// What there is so many times: its plural, and what [`filled`] makes of it.
type Many = (&'static str, Arc<str>);

/// Pages as the API server gives them of so many objects of one kind, and of none of any other.
async fn serve_many(State((plural, text)): State<Many>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    if method != Method::GET {
        return written(&method, &body);
    }
    let query: BTreeMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect();
    match segments.as_slice() {
        [.., "namespaces", name] => return answer(200, namespace(name).to_string()),
        [.., "operationtypes", "work"] => return answer(200, work().to_string()),
        [.., of, name] if *of == plural => {
            let number = name.strip_prefix("object-");
            return number.map_or_else(not_found, |number| answer(200, text.replace(NUMBER, number)));
        }
        [.., "namespaces", _, _, _] => return not_found(),
        _ => {}
    }
    if query.contains_key("watch") {
        return answer(200, Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
    }
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(MANY));
    let count = if segments.last() == Some(&plural) { MANY } else { 0 };
    let until = (from + limit).min(count);
    let items: Vec<_> = (from..until).map(|number| text.replace(NUMBER, &number.to_string())).collect();
    let next = if until < count { until.to_string() } else { String::new() };
    let (metadata, items) = (json!({"resourceVersion": "5", "continue": next}), items.join(","));
    answer(200, format!(r#"{{"metadata":{metadata},"items":[{items}]}}"#))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_objects_of_a_kind_as_large_as_they_are_held_leave_room_below_the_limit() {
    for (plural, kind) in FILLED {
        let text: Arc<str> = filled(plural, kind).into();
        let server = Router::new().fallback(serve_many).with_state((plural, text.clone()));
        let mut operator = Operator::start(server).await;
        let deadline = Instant::now() + Duration::from_mins(3);
        while !operator.log().contains("caches filled") {
            operator.expect_alive();
            assert!(Instant::now() < deadline, "{plural}: {}", operator.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Passes take memory, too. They are ten thousand, and some of them are enough.
        tokio::time::sleep(Duration::from_secs(5)).await;
        operator.expect_alive();
        let peak = operator.peak();
        println!("{plural}: {} KiB an object as it comes, peak {peak} MiB", text.len() / 1024);
        assert!(peak < MOST_OF_MANY_MIB, "{plural}: it had {peak} MiB, of {LIMIT_MIB}");
    }
}
