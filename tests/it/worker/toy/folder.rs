//! A provider whose items are files in a folder, and that does what a test asks for instead of what it should.

use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, VecDeque},
    future::{pending, ready},
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;
use tenantatlas::{
    api::subject::Initiator,
    items::{
        decide::Verb,
        plan::{Action, Remark},
        proposal::{Precondition, Proposal, Verdict, Write},
        readers::Readers,
        served::ServedKind,
    },
    providers::{
        Guard, Listed, Listing, PlannedRoles, Provider, Session,
        call::{ListSelection, Object, Performed, Target, Tried},
        catalog::Catalog,
        fault::{CallFailed, Fault},
    },
};

const GROUP: &str = "toy.example.com";

/// What a call does instead of what it should.
#[derive(Clone)]
pub enum Fails {
    /// It is refused with this code.
    Refused(u16),
    /// It breaks off, before it has done anything.
    Breaks,
    /// It is done, and breaks off before its answer.
    LosesAnswer,
    /// There is no answer, ever.
    Hangs,
    /// A list has its elements in another order.
    Disorder,
    /// A list lacks the item of this name.
    Loses(&'static str),
    /// A list has each element twice.
    Twice,
    /// A list breaks off after so many elements.
    BreaksAfter(usize),
}

type Hook = Box<dyn Fn(&str) -> Option<Fails> + Send + Sync>;

/// Items of the kinds `Board` and `Note`, each in a file.
pub struct Folder {
    root: TempDir,
    versions: AtomicU64,
    calls: Mutex<Vec<String>>,
    /// What a call does, such as `list Note` or `update Note/a`.
    hook: Mutex<Hook>,
}

impl Folder {
    pub fn new() -> Self {
        let hook: Hook = Box::new(|_| None);
        let folder = Self {
            root: TempDir::new().unwrap(),
            versions: AtomicU64::new(1),
            calls: Mutex::default(),
            hook: Mutex::new(hook),
        };
        for kind in ["Board", "Note"] {
            std::fs::create_dir(folder.root.path().join(kind)).unwrap();
        }
        folder
    }

    /// Makes calls fail from now on, as far as the hook says how.
    pub fn fail(&self, hook: impl Fn(&str) -> Option<Fails> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Box::new(hook);
    }

    pub fn heal(&self) {
        self.fail(|_| None);
    }

    /// Puts an item there, as its author would.
    pub fn put(&self, kind: &str, name: &str, text: &str) {
        let before = self.read(kind, name);
        let uid =
            before.map_or_else(|| json!(format!("uid-{}", self.version())), |item| item["metadata"]["uid"].clone());
        self.store(kind, name, json!({"spec": {"text": text}}), &uid);
    }

    /// Takes an item away.
    pub fn remove(&self, kind: &str, name: &str) {
        std::fs::remove_file(self.file(kind, name)).unwrap();
    }

    /// Changes the version of an item and nothing else.
    pub fn touch(&self, kind: &str, name: &str) {
        let text = self.read(kind, name).unwrap()["spec"]["text"].as_str().unwrap().to_owned();
        self.put(kind, name, &text);
    }

    /// All items, as `Kind/name: text`.
    pub fn items(&self) -> Vec<String> {
        let of_kind = |kind: &'static str| {
            self.names(kind).into_iter().map(move |name| {
                let item = self.read(kind, &name).unwrap();
                format!("{kind}/{name}: {}", item["spec"]["text"].as_str().unwrap_or_default())
            })
        };
        ["Board", "Note"].into_iter().flat_map(of_kind).collect()
    }

    /// The writes that were done, in their order: verb, kind and name.
    pub fn writes(&self) -> Vec<String> {
        self.calls_that(|verb| ["create", "update", "recreate", "delete"].contains(&verb))
    }

    pub fn rehearsals(&self) -> Vec<String> {
        self.calls_that(|verb| verb == "rehearse")
    }

    fn calls_that(&self, test: impl Fn(&str) -> bool) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| test(call.split_once(' ').unwrap().0)).cloned().collect()
    }

    /// The file of an item.
    pub fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.root.path().join(kind).join(format!("{name}.json"))
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.root.path().join(kind)).unwrap();
        let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn read(&self, kind: &str, name: &str) -> Option<Value> {
        match std::fs::read(self.file(kind, name)) {
            Ok(content) => Some(serde_json::from_slice(&content).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                None
            }
        }
    }

    fn store(&self, kind: &str, name: &str, mut item: Value, uid: &Value) {
        item["apiVersion"] = json!(format!("{GROUP}/v1"));
        item["kind"] = json!(kind);
        item["metadata"] =
            json!({"name": name, "namespace": self.place(), "uid": uid, "resourceVersion": self.version()});
        std::fs::write(self.file(kind, name), item.to_string()).unwrap();
    }

    fn version(&self) -> String {
        self.versions.fetch_add(1, Ordering::Relaxed).to_string()
    }

    fn failure(&self, call: &str) -> Option<Fails> {
        (self.hook.lock().unwrap())(call)
    }

    fn log(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    /// Why a write would be refused now, if it would.
    fn refusal(&self, target: Target<'_>, write: &Write) -> Option<u16> {
        let live = self.read(&target.kind.kind, target.name);
        let is = |uid: &Value, version: &Value| {
            live.as_ref()
                .is_some_and(|live| live["metadata"]["uid"] == *uid && live["metadata"]["resourceVersion"] == *version)
        };
        let is_it = |Precondition { uid, resource_version }: &Precondition| is(&json!(uid), &json!(resource_version));
        let stands = match write {
            Write::Create(_) => live.is_none(),
            Write::Update(body) => is(&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
            Write::Recreate(precondition, _) | Write::Delete(precondition) => is_it(precondition),
        };
        (!stands).then_some(409)
    }

    fn write(&self, target: Target<'_>, write: &Write) -> Option<String> {
        let (kind, name) = (target.kind.kind.as_str(), target.name);
        let uid = match write {
            Write::Create(_) | Write::Recreate(..) => json!(format!("uid-{}", self.version())),
            Write::Update(body) => body["metadata"]["uid"].clone(),
            Write::Delete(_) => {
                self.remove(kind, name);
                return None;
            }
        };
        let (Write::Create(body) | Write::Update(body) | Write::Recreate(_, body)) = write else { return None };
        self.store(kind, name, json!({"spec": body["spec"]}), &uid);
        uid.as_str().map(str::to_owned)
    }
}

pub fn kind(kind: &str) -> ServedKind {
    let plural = format!("{}s", kind.to_lowercase());
    ServedKind { group: GROUP.to_owned(), version: "v1".to_owned(), kind: kind.to_owned(), plural }
}

fn refused(code: u16) -> Fault {
    Fault::Refused { code, reason: "Refused".to_owned(), message: "the folder says no".to_owned() }
}

fn broken() -> Fault {
    Fault::Unanswered("the folder is gone".to_owned())
}

impl Provider for Folder {
    fn catalog(&self) -> BoxFuture<'_, Result<Catalog, Fault>> {
        Box::pin(ready(Ok(Catalog { kinds: ["Board", "Note"].map(kind).into(), ..Catalog::default() })))
    }

    fn list<'a>(&'a self, kind: &ServedKind, selection: &'a ListSelection) -> Box<dyn Listing + 'a> {
        let kind = kind.kind.clone();
        let fails = self.failure(&format!("list {kind}"));
        self.log(format!("list {kind}"));
        let mut names: VecDeque<String> = self.names(&kind).into();
        names.retain(|name| selection.name.as_ref().is_none_or(|only| only == name));
        match &fails {
            Some(Fails::Disorder) => names.make_contiguous().reverse(),
            Some(Fails::Loses(lost)) => names.retain(|name| name != lost),
            Some(Fails::Twice) => names = names.into_iter().flat_map(|name| [name.clone(), name]).collect(),
            _ => {}
        }
        Box::new(Files { folder: self, kind, names, given: 0, fails })
    }

    fn session(&self, _: Readers) -> Box<dyn Session + '_> {
        Box::new(Files { folder: self, kind: String::new(), names: VecDeque::new(), given: 0, fails: None })
    }

    fn guard(&self, _: &Initiator) -> Box<dyn Guard + '_> {
        Box::new(Files { folder: self, kind: String::new(), names: VecDeque::new(), given: 0, fails: None })
    }

    fn account(&self, name: &str) -> Initiator {
        Initiator { username: name.to_owned(), uid: None, groups: Vec::new() }
    }

    fn place(&self) -> &str {
        crate::worker::api::NAMESPACE
    }

    fn may<'a>(
        &'a self,
        _: &'a Initiator,
        verb: Verb,
        kind: &'a ServedKind,
    ) -> BoxFuture<'a, Result<bool, CallFailed>> {
        let denied = self.failure(&format!("may {} {}", verb.as_str(), kind.kind)).is_some();
        Box::pin(ready(Ok(!denied)))
    }

    fn readers<'a>(&'a self, catalog: &'a Catalog) -> BoxFuture<'a, Result<Readers, CallFailed>> {
        Box::pin(ready(Ok(Readers::of(catalog.kinds.iter().map(ServedKind::group_kind)))))
    }

    fn repository_secrets(&self) -> BoxFuture<'_, Result<BTreeSet<String>, CallFailed>> {
        Box::pin(ready(Ok(BTreeSet::new())))
    }
}

/// A list of files, and reads and writes of single ones.
struct Files<'a> {
    folder: &'a Folder,
    kind: String,
    names: VecDeque<String>,
    given: usize,
    fails: Option<Fails>,
}

impl Listing for Files<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Listed>, Fault>> {
        Box::pin(async {
            match self.fails {
                Some(Fails::Hangs) => pending().await,
                Some(Fails::Refused(code)) => return Err(refused(code)),
                Some(Fails::Breaks) => return Err(broken()),
                Some(Fails::BreaksAfter(elements)) if self.given >= elements => return Err(broken()),
                _ => {}
            }
            self.given += 1;
            let Some(name) = self.names.pop_front() else { return Ok(None) };
            let item = self.folder.read(&self.kind, &name).unwrap();
            Ok(Some(Ok(Object { name, json: item.as_object().cloned().unwrap() })))
        })
    }

    fn remaining(&self) -> u64 {
        self.names.len() as u64
    }

    fn fail_at_once(&mut self) {}
}

impl Session for Files<'_> {
    fn get<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(ready(Ok(self.folder.read(&target.kind.kind, target.name))))
    }

    fn get_cluster_wide<'a>(&'a self, _: &'a ServedKind, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, Fault>> {
        Box::pin(ready(Ok(None)))
    }

    fn rehearse<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Tried, CallFailed>> {
        Box::pin(async move {
            let call = format!("rehearse {}/{}", target.kind.kind, target.name);
            let code = match self.folder.failure(&call) {
                Some(Fails::Refused(code)) => Some(code),
                Some(Fails::Breaks | Fails::LosesAnswer) => return Err(CallFailed::new(call, broken())),
                Some(Fails::Hangs) => pending().await,
                _ => self.folder.refusal(target, proposal.write()),
            };
            self.folder.log(call);
            let message = "the folder says no".to_owned();
            Ok(Tried::plain(match (code, proposal.write()) {
                (Some(code), _) => Verdict::Refused { code, reason: "Refused".to_owned(), message },
                (None, Write::Update(body)) => Verdict::Accepted(Some(body.clone())),
                (None, _) => Verdict::Accepted(None),
            }))
        })
    }

    fn apply<'a>(&'a self, target: Target<'a>, proposal: &'a Proposal) -> BoxFuture<'a, Result<Performed, CallFailed>> {
        Box::pin(async move {
            let verb = match proposal.write() {
                Write::Create(_) => "create",
                Write::Update(_) => "update",
                Write::Recreate(..) => "recreate",
                Write::Delete(_) => "delete",
            };
            let call = format!("{verb} {}/{}", target.kind.kind, target.name);
            let fails = self.folder.failure(&call);
            match fails {
                Some(Fails::Refused(code)) => {
                    return Ok(Performed::Refused { code, message: "the folder says no".to_owned() });
                }
                Some(Fails::Breaks) => return Err(CallFailed::new(call, broken())),
                Some(Fails::Hangs) => pending().await,
                _ => {}
            }
            if self.folder.refusal(target, proposal.write()).is_some() {
                return Ok(Performed::Moved);
            }
            self.folder.log(call.clone());
            let uid = self.folder.write(target, proposal.write());
            match fails {
                Some(Fails::LosesAnswer) => Err(CallFailed::new(call, broken())),
                _ => Ok(Performed::Done { uid, remark: None }),
            }
        })
    }
}

impl Guard for Files<'_> {
    fn refuses<'a>(
        &'a self,
        _: &'a Proposal,
        _: Option<&'a PlannedRoles>,
    ) -> BoxFuture<'a, Result<Option<(Action, Remark)>, CallFailed>> {
        Box::pin(ready(Ok(None)))
    }
}
