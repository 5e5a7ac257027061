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
        let Ok(mut object) = serde_json::from_slice::<Value>(&body) else { return answer(400, "{}") };
        if method == Method::PATCH {
            return not_found();
        }
        object["metadata"]["resourceVersion"] = json!("6");
        object["metadata"]["uid"] = json!("made");
        return answer(201, object.to_string());
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
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    /// The most memory it has had, in MiB.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_as_large_as_they_get_of_every_kind_that_is_watched_do_not_take_the_operator_down() {
    let seen = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(serve).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut operator = Command::new(env!("CARGO_BIN_EXE_tenantatlas"));
    operator.args(["controller", "--image", "i", "--listen", "127.0.0.1:0"]).env("KUBECONFIG", &kubeconfig);
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    operator.stdout(file.try_clone().unwrap()).stderr(file);
    let mut operator = Operator(operator.spawn().unwrap());

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
        if let Some(status) = operator.0.try_wait().unwrap() {
            panic!("it ended by itself, {status}: {}", std::fs::read_to_string(&log).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let peak = operator.peak();
    println!("peak: {peak} MiB");
    assert!(peak < MOST_MIB, "it had {peak} MiB, of {LIMIT_MIB}");
}
