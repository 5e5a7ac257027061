//! What the controller knows of one kind: a watch's objects, an index over them, and its own writes before the watch
//! brings them back.
//!
//! The last part keeps reads off the hot path *and* decisions right: without it a run would be decided a second time on
//! a view that does not have the Job it has just made.

use futures::{Stream, StreamExt};
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store, store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a write of ours is trusted over the watch.
const OWN_WRITE_TTL: Duration = Duration::from_secs(30);

/// From how many objects that went on, those are forgotten whose time is over.
const MANY_GONE: usize = 256;

type Key = (String, String);

/// A change that the watch brought.
#[derive(Debug)]
pub enum Change<K> {
    /// An object came or changed.
    Applied(Arc<K>),
    /// An object went.
    Deleted(Arc<K>),
}

/// Objects of one kind, as far as they are known.
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    group: fn(&K) -> Option<String>,
    state: Mutex<State<K>>,
}

struct State<K> {
    /// Namespace and group key to names.
    groups: HashMap<Key, BTreeSet<String>>,
    /// Namespace and name to what we wrote.
    own: HashMap<Key, (Arc<K>, Instant)>,
    /// Namespace and name to the version at which the watch saw the object go: the answer to a write of ours may come
    /// later than that.
    gone: HashMap<Key, (u64, Instant)>,
}

/// The side of a cache that the watch feeds.
pub struct Feed<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: kube::runtime::reflector::store::Writer<K>,
    cache: Arc<Cache<K>>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    /// A cache, with the key of the group each object belongs to, and the side that feeds it.
    pub fn new(group: fn(&K) -> Option<String>) -> (Arc<Self>, Feed<K>) {
        let (reader, writer) = store();
        let state = Mutex::new(State { groups: HashMap::new(), own: HashMap::new(), gone: HashMap::new() });
        let cache = Arc::new(Self { store: reader, group, state });
        (cache.clone(), Feed { writer, cache })
    }

    /// What the watch has brought.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Waits until the first list is complete.
    pub async fn ready(&self) {
        // An error means that the feeding task ended: the process is going down.
        let _ = self.store.wait_until_ready().await;
    }

    /// The object of this name, our own newer write of it included.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut reference = ObjectRef::new(name);
        if !namespace.is_empty() {
            reference = reference.within(namespace);
        }
        let watched = self.store.get(&reference);
        let state = self.state();
        let own = state
            .own
            .get(&(namespace.to_owned(), name.to_owned()))
            .filter(|(_, written)| written.elapsed() < OWN_WRITE_TTL)
            .map(|(object, _)| object);
        match (watched, own) {
            (Some(watched), Some(own)) if version(&**own) > version(&*watched) => Some(own.clone()),
            (None, Some(own)) => Some(own.clone()),
            (watched, _) => watched,
        }
    }

    /// All objects of a group in a namespace.
    pub fn group(&self, namespace: &str, key: &str) -> Vec<Arc<K>> {
        let names = self.state().groups.get(&(namespace.to_owned(), key.to_owned())).cloned().unwrap_or_default();
        names.iter().filter_map(|name| self.get(namespace, name)).collect()
    }

    /// Remembers what the API server answered to a write of ours.
    pub fn wrote(&self, object: K) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let mut state = self.state();
        if state.gone.get(&key).is_some_and(|(went, _)| *went >= version(&object)) {
            return;
        }
        state.own.retain(|_, (_, written)| written.elapsed() < OWN_WRITE_TTL);
        state.own.insert(key, (Arc::new(object), Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // A panic elsewhere leaves plain maps behind, which stay usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, object: &K, present: bool) {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        let mut state = self.state();
        if let Some(group) = (self.group)(object) {
            let key = (namespace.clone(), group);
            if present {
                state.groups.entry(key).or_default().insert(name.clone());
            } else if let Some(names) = state.groups.get_mut(&key) {
                names.remove(&name);
                if names.is_empty() {
                    state.groups.remove(&key);
                }
            }
        }
        let key = (namespace, name);
        if !present {
            if state.gone.len() >= MANY_GONE {
                state.gone.retain(|_, (_, seen)| seen.elapsed() < OWN_WRITE_TTL);
            }
            state.gone.insert(key.clone(), (version(object), Instant::now()));
        }
        let caught_up = state.own.get(&key).is_some_and(|(own, _)| {
            if present { version(object) >= version(&**own) } else { own.uid() == object.uid() }
        });
        if caught_up {
            state.own.remove(&key);
        }
    }

    fn rebuild(&self) {
        self.state().groups.clear();
        for object in self.store.state() {
            self.index(&object, true);
        }
    }
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
{
    /// Feeds the cache from a watch until that ends, and tells of each change after the cache has it. Objects that do
    /// not decode are logged and left out: one bad object must not stall the others.
    pub async fn run(
        mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<K>>>> + Send,
        mut changed: impl FnMut(Change<K>) + Send,
    ) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again");
                    continue;
                }
            };
            let Some(event) = decoded(event) else { continue };
            let before = match &event {
                // A relist tells of vanished objects only by leaving them out.
                watcher::Event::InitDone => self.cache.store.state(),
                _ => Vec::new(),
            };
            self.writer.apply_watcher_event(&event);
            match event {
                watcher::Event::Apply(object) => {
                    self.cache.index(&object, true);
                    changed(Change::Applied(Arc::new(object)));
                }
                watcher::Event::Delete(object) => {
                    self.cache.index(&object, false);
                    changed(Change::Deleted(Arc::new(object)));
                }
                watcher::Event::InitDone => {
                    self.cache.rebuild();
                    for object in before {
                        if self
                            .cache
                            .store
                            .get(&ObjectRef::from_obj(&*object))
                            .is_none_or(|now| now.uid() != object.uid())
                        {
                            changed(Change::Deleted(object));
                        }
                    }
                    for object in self.cache.store.state() {
                        changed(Change::Applied(object));
                    }
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => {}
            }
        }
    }
}

fn decoded<K: Resource<DynamicType = ()>>(event: watcher::Event<DeserializeGuard<K>>) -> Option<watcher::Event<K>> {
    let open = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            tracing::error!(kind = %K::kind(&()), namespace = ?invalid.metadata.namespace, name = ?invalid.metadata.name,
                error = %invalid.error, "object does not decode and is ignored: mend or delete it");
            None
        }
    };
    Some(match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(open(object)?),
        watcher::Event::Delete(object) => watcher::Event::Delete(open(object)?),
        watcher::Event::InitApply(object) => watcher::Event::InitApply(open(object)?),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    })
}

/// The resource version as a number: comparable since Kubernetes 1.35 by contract, and before in fact.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn map(version: &str) -> ConfigMap {
        let metadata = json!({ "namespace": "a", "name": "b", "uid": "u", "resourceVersion": version });
        serde_json::from_value(json!({ "metadata": metadata })).expect("a ConfigMap")
    }

    fn kept(cache: &Cache<ConfigMap>) -> Option<String> {
        cache.get("a", "b").and_then(|map| map.resource_version())
    }

    #[test]
    fn our_own_write_counts_until_the_watch_brings_it_or_a_later_end() {
        let (cache, _feed) = Cache::<ConfigMap>::new(|_| None);
        cache.wrote(map("5"));
        assert_eq!(kept(&cache).as_deref(), Some("5"));
        cache.index(&map("6"), false);
        assert_eq!(kept(&cache), None);
    }

    #[test]
    fn an_answer_that_comes_after_the_watch_saw_the_object_go_does_not_bring_it_back() {
        let (cache, _feed) = Cache::<ConfigMap>::new(|_| None);
        cache.index(&map("7"), false);
        cache.wrote(map("6"));
        assert_eq!(kept(&cache), None);
        // Made anew under the same name.
        cache.wrote(map("8"));
        assert_eq!(kept(&cache).as_deref(), Some("8"));
    }
}
