//! The cache of one kind: watched objects, an index over them, and our own recent writes.
//!
//! A write overrides the watch until the watch catches up, for at most 30 seconds. This keeps reads
//! off the hot path *and* decisions right: a run is never decided twice on a view that lacks the
//! Job it has just created.
//!
//! Objects that tenants write are stored as JSON text and parsed on access: the types of a Job
//! alone take ten times as much. The text leaves out what no decision reads ([`super::slim`]), and
//! values larger than [`crate::cluster::trim::HELD`]. For kinds with many objects it is compressed
//! ([`super::packed`]).

use super::{packed::Packed, slim::Slim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt, runtime::watcher};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long our own write overrides the watch.
const OWN_WRITE_TTL: Duration = Duration::from_secs(30);

/// Number of entries from which expired ones are dropped.
const MANY_GONE: usize = 256;

type Key = (String, String);

/// A change reported by the watch.
#[derive(Debug)]
pub enum Change<K> {
    /// An object was created or changed.
    Applied(Arc<K>),
    /// An object was deleted.
    Deleted(Arc<K>),
}

/// The cached objects of one kind.
pub struct Cache<K> {
    group: fn(&K) -> Option<String>,
    state: Mutex<State<K>>,
    ready: tokio::sync::watch::Sender<bool>,
}

struct State<K> {
    /// By namespace, then by name, what the watch reported.
    watched: HashMap<String, HashMap<Box<str>, Watched<K>>>,
    /// Number of lists so far. An object that the latest list does not name is gone.
    list: u64,
    /// By namespace and group key, the names in the group.
    groups: HashMap<Key, BTreeSet<String>>,
    /// By namespace and name, our own writes.
    own: HashMap<Key, Own<K>>,
    /// By namespace and name, the version at which the watch saw the object deleted. The response
    /// to a write of ours may arrive later than that.
    gone: HashMap<Key, (u64, Instant)>,
}

struct Watched<K> {
    held: Held<K>,
    version: u64,
    list: u64,
}

struct Own<K> {
    held: Held<K>,
    uid: Option<String>,
    version: u64,
    written: Instant,
}

impl<K> Own<K> {
    fn is_fresh(&self) -> bool {
        self.written.elapsed() < OWN_WRITE_TTL
    }
}

impl<K> State<K> {
    fn watched(&self, namespace: &str, name: &str) -> Option<&Watched<K>> {
        self.watched.get(namespace)?.get(name)
    }
}

/// How an object is stored.
enum Held<K> {
    Whole(Arc<K>),
    Packed(Packed),
}

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Whole(object) => Self::Whole(object.clone()),
            Self::Packed(text) => Self::Packed(text.clone()),
        }
    }
}

impl<K: Slim> Held<K> {
    fn of(object: K) -> Self {
        if K::PACKED
            && let Ok(text) = serde_json::to_vec(&object)
        {
            return Self::Packed(Packed::new(text, K::dictionary()));
        }
        Self::Whole(Arc::new(object))
    }

    fn open(&self) -> Option<Arc<K>> {
        match self {
            Self::Whole(object) => Some(object.clone()),
            // The same types serialized it a moment ago.
            Self::Packed(text) => serde_json::from_slice(&text.open(K::dictionary())?).ok().map(Arc::new),
        }
    }
}

/// An object as a watch reports it. It is slimmed while it is read, so that a page of a list is
/// never held in full.
pub struct Incoming<K> {
    /// Name, namespace, uid and resource version.
    metadata: ObjectMeta,
    content: Content<K>,
}

enum Content<K> {
    Held(Held<K>),
    /// The object carries our label, which any user can set, but does not have one of our names.
    Foreign,
    /// The error of an object that does not decode.
    Broken(String),
}

/// The side of a cache that the watch feeds.
pub struct Feed<K> {
    cache: Arc<Cache<K>>,
}

impl<K: Slim> Cache<K> {
    /// Creates a cache and the side that feeds it. `group` returns the key of the group that an
    /// object belongs to.
    pub fn new(group: fn(&K) -> Option<String>) -> (Arc<Self>, Feed<K>) {
        let state = State {
            watched: HashMap::new(),
            list: 0,
            groups: HashMap::new(),
            own: HashMap::new(),
            gone: HashMap::new(),
        };
        let cache = Arc::new(Self { group, state: Mutex::new(state), ready: tokio::sync::watch::Sender::new(false) });
        (cache.clone(), Feed { cache })
    }

    /// Waits until the first list is complete.
    pub async fn ready(&self) {
        // The sender lives as long as the cache.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Number of objects reported by the watch.
    pub fn len(&self) -> usize {
        self.state().watched.values().map(HashMap::len).sum()
    }

    /// Whether the watch has reported no object.
    pub fn is_empty(&self) -> bool {
        self.state().watched.is_empty()
    }

    /// The object of this name. Our own write takes precedence unless the watch has a newer
    /// version.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        let held = {
            let state = self.state();
            let watched = state.watched(namespace, name);
            let own = state.own.get(&key).filter(|own| own.is_fresh());
            match (watched, own) {
                // At the same version, our own write is the complete one.
                (Some(watched), Some(own)) if own.version >= watched.version => own.held.clone(),
                (None, Some(own)) => own.held.clone(),
                (watched, _) => watched?.held.clone(),
            }
        };
        held.open()
    }

    /// All objects of a group in a namespace.
    pub fn group(&self, namespace: &str, key: &str) -> Vec<Arc<K>> {
        let names = self.state().groups.get(&(namespace.to_owned(), key.to_owned())).cloned().unwrap_or_default();
        names.iter().filter_map(|name| self.get(namespace, name)).collect()
    }

    /// Names of all objects in a namespace that the watch has reported.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        self.state().watched.get(namespace).into_iter().flat_map(HashMap::keys).map(ToString::to_string).collect()
    }

    /// Whether the watch has reported this object as deleted at this version or a later one.
    pub fn is_gone(&self, object: &K) -> bool {
        self.state().gone.get(&key(object.meta())).is_some_and(|(went, _)| *went >= version(object))
    }

    /// Stores the API server's response to a write of ours, or to a read of an object that is held
    /// slim.
    pub fn wrote(&self, object: K) {
        let key = key(object.meta());
        let mut state = self.state();
        if state.gone.get(&key).is_some_and(|(went, _)| *went >= version(&object)) {
            return;
        }
        if state.own.len() >= MANY_GONE {
            state.own.retain(|_, own| own.is_fresh());
        }
        let (uid, version) = (object.uid(), version(&object));
        state.own.insert(key, Own { held: Held::of(object), uid, version, written: Instant::now() });
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // After a panic elsewhere, these plain maps are still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, object: &K, held: Held<K>) {
        let key = key(object.meta());
        let group = (self.group)(object);
        let version = version(object);
        let mut state = self.state();
        let list = state.list;
        if let Some(group) = group {
            state.groups.entry((key.0.clone(), group)).or_default().insert(key.1.clone());
        }
        if state.own.get(&key).is_some_and(|own| version >= own.version) {
            state.own.remove(&key);
        }
        let (namespace, name) = key;
        state.watched.entry(namespace).or_default().insert(name.into(), Watched { held, version, list });
    }

    fn remove(&self, object: &K) {
        let key = key(object.meta());
        let group = (self.group)(object);
        let mut state = self.state();
        if let Some(group) = group {
            let group = (key.0.clone(), group);
            if let Some(names) = state.groups.get_mut(&group) {
                names.remove(&key.1);
                if names.is_empty() {
                    state.groups.remove(&group);
                }
            }
        }
        if state.gone.len() >= MANY_GONE {
            state.gone.retain(|_, (_, seen)| seen.elapsed() < OWN_WRITE_TTL);
        }
        state.gone.insert(key.clone(), (version(object), Instant::now()));
        if state.own.get(&key).is_some_and(|own| own.uid == object.uid()) {
            state.own.remove(&key);
        }
        if let Some(names) = state.watched.get_mut(&key.0) {
            names.remove(&*key.1);
            if names.is_empty() {
                state.watched.remove(&key.0);
            }
        }
    }

    /// The objects that the list which has just ended did not name.
    fn vanished(&self) -> Vec<Held<K>> {
        let state = self.state();
        let watched = state.watched.values().flat_map(HashMap::values);
        watched.filter(|watched| watched.list < state.list).map(|watched| watched.held.clone()).collect()
    }
}

impl<K: Slim> Feed<K> {
    /// Feeds the cache from a watch until the watch ends, and reports each change once the cache
    /// has it. Objects that do not decode are logged and skipped: one bad object must not stall the
    /// others.
    pub async fn run(
        self,
        events: impl futures::Stream<Item = watcher::Result<watcher::Event<Incoming<K>>>> + Send,
        mut changed: impl FnMut(Change<K>) + Send,
    ) {
        use futures::StreamExt as _;
        let cache = &self.cache;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again"),
                Ok(watcher::Event::Init) => cache.state().list += 1,
                Ok(watcher::Event::Apply(incoming) | watcher::Event::InitApply(incoming)) => {
                    let Some((object, held)) = incoming.open() else { continue };
                    // An object that was replaced under its name while the watch was down is two
                    // objects.
                    let (namespace, name) = key(object.meta());
                    let before = cache.state().watched(&namespace, &name).map(|watched| watched.held.clone());
                    if let Some(before) = before.and_then(|held| held.open())
                        && before.uid() != object.uid()
                    {
                        cache.remove(&before);
                        changed(Change::Deleted(before));
                    }
                    cache.put(&object, held);
                    changed(Change::Applied(object));
                }
                Ok(watcher::Event::Delete(incoming)) => {
                    let Some((object, _)) = incoming.open() else { continue };
                    cache.remove(&object);
                    changed(Change::Deleted(object));
                }
                Ok(watcher::Event::InitDone) => {
                    // A list reports deleted objects only by leaving them out.
                    for object in cache.vanished().iter().filter_map(Held::open) {
                        cache.remove(&object);
                        changed(Change::Deleted(object));
                    }
                    cache.ready.send_replace(true);
                }
            }
        }
    }
}

impl<K: Slim> Incoming<K> {
    fn open(self) -> Option<(Arc<K>, Held<K>)> {
        match self.content {
            Content::Held(held) => Some((held.open()?, held)),
            Content::Foreign => None,
            Content::Broken(error) => {
                let ObjectMeta { namespace, name, .. } = self.metadata;
                tracing::error!(kind = %K::kind(&()), ?namespace, ?name, error,
                    "object does not decode and is ignored: fix or delete it");
                None
            }
        }
    }
}

impl<'de, K: Slim> Deserialize<'de> for Incoming<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The four fields of metadata that are kept of every object, and no more: `managedFields`
        /// are half of most objects.
        #[derive(Deserialize)]
        struct Named {
            metadata: Names,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Names {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Named { metadata: Names { name, namespace, uid, resource_version } } =
            serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        if !K::may_be_ours(metadata.name.as_deref().unwrap_or_default()) {
            return Ok(Self { metadata, content: Content::Foreign });
        }
        let content = match serde_json::from_str::<K>(text.get()) {
            Ok(mut object) => {
                object.slim();
                Content::Held(Held::of(object))
            }
            Err(error) => Content::Broken(error.to_string()),
        };
        Ok(Self { metadata, content })
    }
}

impl<K> Clone for Incoming<K> {
    fn clone(&self) -> Self {
        let content = match &self.content {
            Content::Held(held) => Content::Held(held.clone()),
            Content::Foreign => Content::Foreign,
            Content::Broken(error) => Content::Broken(error.clone()),
        };
        Self { metadata: self.metadata.clone(), content }
    }
}

impl<K> Debug for Incoming<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Incoming").field(&self.metadata.name).finish()
    }
}

impl<K: Slim> Resource for Incoming<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn key(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The resource version as a number. Versions are comparable by contract since Kubernetes 1.35, and
/// were in practice before.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::OperationRun;
    use futures::stream;
    use kube::core::ObjectList;
    use serde_json::{Value, json};
    use watcher::Event;

    fn run(name: &str, uid: &str, version: u32) -> Value {
        json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": name, "namespace": "acme", "uid": uid, "resourceVersion": version.to_string(),
                "managedFields": [{"manager": "x"}]},
            "spec": {"type": "a", "inputs": {"n": 1}}})
    }

    fn incoming(object: &Value) -> Incoming<OperationRun> {
        serde_json::from_str(&object.to_string()).expect("any object with metadata")
    }

    /// Feeds these events to a cache. Returns the cache and the changes it reported.
    async fn fed(events: Vec<Event<Incoming<OperationRun>>>) -> (Arc<Cache<OperationRun>>, Vec<String>) {
        let (cache, feed) = Cache::new(|_| None);
        let mut told = Vec::new();
        feed.run(stream::iter(events.into_iter().map(Ok)), |change| {
            told.push(match change {
                Change::Applied(run) => format!("+{}", run.uid().unwrap_or_default()),
                Change::Deleted(run) => format!("-{}", run.uid().unwrap_or_default()),
            });
        })
        .await;
        (cache, told)
    }

    #[test]
    fn a_page_of_a_list_and_a_line_of_a_watch_decode() {
        let page = json!({"kind": "OperationRunList", "apiVersion": "tenantatlas.io/v1alpha1",
            "metadata": {"resourceVersion": "7"}, "items": [run("a", "1", 5)]});
        let page: ObjectList<Incoming<OperationRun>> = serde_json::from_str(&page.to_string()).expect("a page");
        assert_eq!(page.items[0].metadata.name.as_deref(), Some("a"));
        let line = json!({"type": "ADDED", "object": run("a", "1", 5)}).to_string();
        // The API server writes the type first; only then is the object read in place.
        let line = line.replace(r#"{"object":"#, "").replace(r#","type":"ADDED"}"#, "");
        let line = format!(r#"{{"type":"ADDED","object":{line}}}"#);
        let event: kube::core::WatchEvent<Incoming<OperationRun>> = serde_json::from_str(&line).expect("a line");
        assert!(matches!(event, kube::core::WatchEvent::Added(_)));
    }

    #[tokio::test]
    async fn what_is_held_is_slim_and_the_rest_as_it_was() {
        let (cache, told) =
            fed(vec![Event::Init, Event::InitApply(incoming(&run("a", "1", 5))), Event::InitDone]).await;
        assert_eq!(told, ["+1"]);
        let held = cache.get("acme", "a").expect("held");
        assert!(held.managed_fields().is_empty());
        assert_eq!(held.spec.inputs.get("n"), Some(json!(1)));
    }

    #[tokio::test]
    async fn what_a_later_list_does_not_name_is_gone_and_told_so() {
        let (cache, told) = fed(vec![
            Event::Init,
            Event::InitApply(incoming(&run("a", "1", 5))),
            Event::InitApply(incoming(&run("b", "2", 6))),
            Event::InitDone,
            Event::Init,
            Event::InitApply(incoming(&run("b", "3", 9))),
            Event::InitDone,
        ])
        .await;
        assert_eq!(told, ["+1", "+2", "-2", "+3", "-1"], "b is another one by now");
        assert!(cache.get("acme", "a").is_none());
        assert_eq!(cache.get("acme", "b").and_then(|run| run.uid()).as_deref(), Some("3"));
    }

    #[tokio::test]
    async fn one_object_that_does_not_decode_stalls_no_other() {
        let mut bad = run("bad", "1", 5);
        bad["spec"] = json!("nonsense");
        let (cache, told) = fed(vec![Event::Apply(incoming(&bad)), Event::Apply(incoming(&run("good", "2", 6)))]).await;
        assert_eq!((told, cache.len()), (vec!["+2".to_owned()], 1));
    }

    #[test]
    fn an_answer_that_comes_after_the_watch_saw_the_object_go_does_not_bring_it_back() {
        let (cache, _feed) = Cache::<OperationRun>::new(|_| None);
        let at = |version: u32| serde_json::from_value::<OperationRun>(run("a", "1", version)).expect("a run");
        let kept = || cache.get("acme", "a").and_then(|run| run.resource_version());
        cache.remove(&at(7));
        cache.wrote(at(6));
        assert_eq!(kept(), None);
        // Recreated under the same name.
        cache.wrote(at(8));
        assert_eq!(kept().as_deref(), Some("8"));
        cache.remove(&at(9));
        assert_eq!(kept(), None, "our own write counts until a later end");
    }

    #[tokio::test]
    async fn our_own_write_counts_until_the_watch_has_caught_up() {
        let (cache, feed) = Cache::<OperationRun>::new(|_| None);
        let own = serde_json::from_value(run("a", "1", 7)).expect("a run");
        cache.wrote(own);
        assert_eq!(cache.get("acme", "a").and_then(|run| run.resource_version()).as_deref(), Some("7"));
        let events = [5, 9].map(|version| Ok(Event::Apply(incoming(&run("a", "1", version)))));
        let mut seen = Vec::new();
        let reader = cache.clone();
        feed.run(stream::iter(events), |_| {
            seen.push(reader.get("acme", "a").and_then(|run| run.resource_version()).unwrap_or_default());
        })
        .await;
        assert_eq!(seen, ["7", "9"], "an older event does not bring back what was");
    }
}
