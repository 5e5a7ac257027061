//! Plans that are made and carried out on a model of a namespace.

use super::{
    decide::{Decision, Live, Planner, Stored, Verb},
    dependents::Dependents,
    excluded::ExclusionRules,
    owners::{Family, owners},
    plan::{Action, How, Moved, Plan, PlannedItem, Remark, Terms, moved},
    proposal::{Precondition, Proposal, Verdict, Write},
    readers::Readers,
    sanitize::sanitize,
    semantic::{DigestKey, Status},
    transform::Transforms,
};
use crate::api::reason::item as reason;
use crate::api::{
    item::{GroupKind, ItemId},
    restore_run::{ExistingResourcePolicy, RestoreRunSpec},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KINDS: [(&str, &str); 6] = [
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("example.com/v1", "Widget"),
];

type Objects = BTreeMap<ItemId, Value>;

fn item_of(object: &Value) -> ItemId {
    let api_version = object["apiVersion"].as_str().expect("an apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    ItemId::new(GroupKind::new(group, text(&object["kind"])), text(&object["metadata"]["name"]))
}

fn objects(list: &[Value]) -> Objects {
    list.iter().map(|object| (item_of(object), object.clone())).collect()
}

/// A backup set: objects, the items it lists as absent, and whether it covers the whole tenant.
#[derive(Clone, Debug, Default)]
struct Set {
    objects: Objects,
    absent: Vec<ItemId>,
    full: bool,
}

fn terms(change: impl FnOnce(&mut RestoreRunSpec)) -> Terms {
    let mut spec: RestoreRunSpec =
        serde_json::from_value(json!({"backupSet": {"name": "nightly"}, "existingResourcePolicy": "update"}))
            .expect("a spec");
    change(&mut spec);
    Terms::new(&spec, None, "0".repeat(64))
}

fn planner(terms: Terms) -> Planner {
    let kind = |(api_version, kind): &(&str, &str)| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        (GroupKind::new(group, *kind), BTreeSet::from([version.to_owned()]))
    };
    Planner {
        transforms: Transforms::new(&terms.transforms).expect("transforms"),
        terms,
        namespace: "acme".to_owned(),
        key: DigestKey::new(*b"0123456789abcdef"),
        exclusions: ExclusionRules::default(),
        family: Family::of(KINDS.iter().map(|of| kind(of).0)),
        status_is_data: BTreeSet::new(),
        served: KINDS.iter().map(kind).collect(),
        refused: BTreeMap::new(),
        dependents: Dependents::default(),
        dependents_unknown: None,
        unlisted: BTreeMap::new(),
        readers: Readers::of(KINDS.iter().map(|of| kind(of).0)),
    }
}

/// What a namespace does with writes, as far as a restore can observe.
#[derive(Clone, Debug, Default)]
struct Namespace {
    objects: Objects,
    counter: u32,
    writes: usize,
}

impl Namespace {
    fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    fn of(list: &[Value]) -> Self {
        let mut namespace = Self { counter: 1000, ..Self::default() };
        for object in list {
            namespace.create(object.clone());
        }
        namespace
    }

    fn create(&mut self, mut object: Value) {
        let number = self.next();
        let item = item_of(&object);
        assert!(!self.objects.contains_key(&item), "{item} is there already");
        assert!(object["metadata"]["uid"].is_null() && object["metadata"]["resourceVersion"].is_null());
        object["metadata"]["uid"] = json!(format!("uid-{number}"));
        object["metadata"]["resourceVersion"] = json!(number.to_string());
        object["metadata"]["namespace"] = json!("acme");
        object["status"] = json!({"seen": number});
        if item.kind.kind == "Service" {
            object["spec"]["clusterIP"] = json!(format!("10.0.0.{number}"));
        }
        if item.kind.kind == "PersistentVolumeClaim" {
            object["spec"]["volumeName"] = json!(format!("pv-{number}"));
            object["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"] = json!("yes");
            object["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
        }
        self.objects.insert(item, object);
    }

    /// The object that results from a PUT of a body.
    fn put(&self, body: &Value) -> Value {
        let live = &self.objects[&item_of(body)];
        for field in ["uid", "resourceVersion"] {
            assert_eq!(body["metadata"][field], live["metadata"][field], "a PUT without its precondition");
        }
        assert_eq!(body["spec"]["volumeName"], live["spec"]["volumeName"], "immutable");
        assert_eq!(body["metadata"]["finalizers"], live["metadata"]["finalizers"], "a restore touches no finalizers");
        let mut object = body.clone();
        object["status"] = live["status"].clone();
        if item_of(body).kind.kind == "Service" {
            object["spec"]["clusterIP"] = live["spec"]["clusterIP"].clone();
        }
        object
    }

    fn delete(&mut self, item: &ItemId, precondition: &Precondition) {
        let live = self.objects.remove(item).expect("there");
        assert_eq!(live["metadata"]["uid"], precondition.uid);
        assert_eq!(live["metadata"]["resourceVersion"], precondition.resource_version);
    }

    fn write(&mut self, item: &ItemId, write: &Write) {
        self.writes += 1;
        match write {
            Write::Create(body) => self.create(body.clone()),
            Write::Update(body) => {
                let mut object = self.put(body);
                object["metadata"]["resourceVersion"] = json!(self.next().to_string());
                self.objects.insert(item.clone(), object);
            }
            Write::Recreate(precondition, body) => {
                self.delete(item, precondition);
                self.create(body.clone());
            }
            Write::Delete(precondition) => self.delete(item, precondition),
        }
    }

    /// Objects that the garbage collector would delete: they have owners, and none of these exists.
    fn orphans(&self) -> Vec<&ItemId> {
        let uids: BTreeSet<&str> =
            self.objects.values().filter_map(|object| object["metadata"]["uid"].as_str()).collect();
        let orphan = |object: &Value| {
            let references = object["metadata"]["ownerReferences"].as_array();
            references.is_some_and(|references| {
                references.iter().all(|owner| !uids.contains(owner["uid"].as_str().unwrap_or("")))
            })
        };
        self.objects.iter().filter(|(_, object)| orphan(object)).map(|(item, _)| item).collect()
    }

    /// All objects, as users see them.
    fn seen(&self) -> Objects {
        let seen = |(item, object): (&ItemId, &Value)| {
            let mut object = object.clone();
            sanitize(&mut object, Status::Observed);
            for owner in object["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
                owner["uid"] = Value::Null;
            }
            if object["metadata"]["ownerReferences"].is_null() {
                object["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
            }
            (item.clone(), object)
        };
        self.objects.iter().map(seen).collect()
    }
}

/// The items to decide about: deletions first, so that deleted objects own nothing.
fn candidates(set: &Set, namespace: &Namespace) -> Vec<(ItemId, Stored)> {
    let mut candidates: Vec<(ItemId, Stored)> = Vec::new();
    if set.full {
        let others = namespace.objects.keys().filter(|item| !set.objects.contains_key(*item));
        candidates.extend(others.map(|item| (item.clone(), Stored::NotHeld)));
    }
    candidates.extend(set.absent.iter().map(|item| (item.clone(), Stored::Absent)));
    let parents: BTreeMap<ItemId, Vec<ItemId>> =
        set.objects.iter().map(|(item, object)| (item.clone(), owners(object))).collect();
    let items: Vec<(&ItemId, &[ItemId])> = parents.iter().map(|(item, owners)| (item, owners.as_slice())).collect();
    let ordered = super::order::in_order(&items).into_iter().map(|place| items[place].0);
    candidates.extend(ordered.map(|item| (item.clone(), Stored::Object(set.objects[item].clone()))));
    candidates
}

fn live_of(namespace: &Namespace, item: &ItemId) -> Option<Live> {
    namespace.objects.get(item).map(|object| Live { object: object.clone(), left_out: None })
}

fn family(set: &Set, namespace: &Namespace) -> Family {
    let groups = KINDS
        .map(|(api_version, kind)| GroupKind::new(api_version.split_once('/').map_or("", |(group, _)| group), kind));
    let mut family = Family::of(groups);
    for item in set.objects.keys() {
        family.add_restored(item.clone());
    }
    for (item, object) in &namespace.objects {
        family.add_live(item.clone(), object["metadata"]["uid"].as_str().expect("a uid"));
    }
    family
}

fn api_version(item: &ItemId) -> &'static str {
    KINDS.iter().find(|(_, kind)| *kind == item.kind.kind).expect("a kind").0
}

/// Plans as a preview does: with the API server's verdicts.
fn plan(planner: &mut Planner, set: &Set, namespace: &Namespace) -> Plan {
    planner.family = family(set, namespace);
    let (mut items, mut gone) = (Vec::new(), BTreeSet::new());
    for (item, stored) in candidates(set, namespace) {
        let live = live_of(namespace, &item);
        let decision = planner.decide(&item, api_version(&item), stored, live.as_ref());
        items.push(match decision {
            Decision::Settled(planned) => (planned, Vec::new()),
            Decision::Proposed(proposal) => {
                let owners = proposal.owners();
                let verdict = Verdict::Accepted(match proposal.write() {
                    Write::Update(body) => Some(namespace.put(body)),
                    _ => None,
                });
                (proposal.settle(&verdict), owners)
            }
        });
        match items.last().map(|(planned, _)| planned.action) {
            Some(Action::Delete) => {
                gone.insert(item);
                planner.family.set_gone(gone.clone());
            }
            Some(Action::Recreate) => planner.family.add_renewed(item),
            _ => {}
        }
    }
    Plan::new(planner.terms.clone(), items)
}

/// Carries out a plan, item by item.
fn carry_out(planner: &mut Planner, plan: &Plan, set: &Set, namespace: &mut Namespace) {
    planner.family = family(set, namespace);
    let deleted = plan.items().iter().filter(|planned| planned.action == Action::Delete);
    planner.family.set_gone(deleted.map(|planned| planned.item.clone()).collect());
    for planned in plan.items().iter().filter(|planned| planned.action.writes()) {
        let item = &planned.item;
        let stored = set.objects.get(item).map_or_else(
            || if set.full { Stored::NotHeld } else { Stored::Absent },
            |object| Stored::Object(object.clone()),
        );
        let live = live_of(namespace, item);
        match planner.decide(item, &planned.api_version, stored, live.as_ref()) {
            Decision::Proposed(proposal) => {
                assert_eq!(proposal.planned().action, planned.action, "{item}");
                namespace.write(item, proposal.write());
            }
            Decision::Settled(settled) => panic!("{item} was to be written: {settled:?}"),
        }
        if let Some(object) = namespace.objects.get(item) {
            planner.family.add_live(item.clone(), object["metadata"]["uid"].as_str().expect("a uid"));
        }
    }
}

fn object(kind: usize, name: &str, value: u8, owner: Option<&str>) -> Value {
    let (api_version, kind) = KINDS[kind];
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "acme"}, "spec": {"value": value}});
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": owner, "uid": "of-old"}]);
    }
    object
}

fn map(name: &str, value: u8) -> Value {
    object(0, name, value, None)
}

fn full(list: &[Value]) -> Set {
    Set { objects: objects(list), absent: Vec::new(), full: true }
}

/// Decides about one ConfigMap, or another object of the model.
fn decided(planner: &Planner, stored: Stored, live: Option<Value>) -> Decision {
    let named = match (&stored, &live) {
        (Stored::Object(object), _) => item_of(object),
        (_, Some(live)) => item_of(live),
        _ => item_of(&map("a", 0)),
    };
    let live = live.map(|object| Live { object, left_out: None });
    planner.decide(&named, api_version(&named), stored, live.as_ref())
}

fn settled(decision: Decision) -> PlannedItem {
    match decision {
        Decision::Settled(planned) => planned,
        Decision::Proposed(proposal) => panic!("proposed: {proposal:?}"),
    }
}

fn proposed(decision: Decision) -> Proposal {
    match decision {
        Decision::Settled(planned) => panic!("settled: {planned:?}"),
        Decision::Proposed(proposal) => proposal,
    }
}

fn outcome(planned: &PlannedItem) -> (Action, &str) {
    (planned.action, planned.reason.as_ref().map_or("", |reason| reason.code.as_str()))
}

fn live(object: Value) -> Value {
    Namespace::of(&[object]).objects.into_values().next().expect("one")
}

#[test]
fn a_policy_decides_about_what_is_there_and_differs_and_about_nothing_else() {
    for (policy, expected) in [
        (ExistingResourcePolicy::None, None),
        (ExistingResourcePolicy::Update, Some(Action::Update)),
        (ExistingResourcePolicy::Recreate, Some(Action::Recreate)),
    ] {
        let planner = planner(terms(|spec| spec.existing_resource_policy = policy));
        let stored = Stored::Object(map("a", 1));
        match expected {
            None => {
                let proposal = proposed(decided(&planner, stored.clone(), Some(live(map("a", 2)))));
                assert_eq!(outcome(proposal.planned()), (Action::Skip, reason::EXISTS));
                let refused = proposal.clone().settle(&refused(422, "Invalid", "immutable"));
                assert_eq!(outcome(&refused), (Action::Skip, reason::EXISTS), "nobody wants it written");
                let same = proposal.settle(&Verdict::Accepted(Some(live(map("a", 2)))));
                assert_eq!(outcome(&same), (Action::Unchanged, ""), "the server finds that nothing differs");
            }
            Some(action) => assert_eq!(
                proposed(decided(&planner, stored.clone(), Some(live(map("a", 2))))).planned().action,
                action
            ),
        }
        assert_eq!(proposed(decided(&planner, stored.clone(), None)).planned().action, Action::Create);
        assert_eq!(outcome(&settled(decided(&planner, stored, Some(live(map("a", 1)))))), (Action::Unchanged, ""));
    }
}

#[test]
fn only_the_missing_or_only_the_different_can_be_asked_for() {
    let stored = || Stored::Object(map("a", 1));
    let missing = planner(terms(|spec| spec.only = Some(crate::api::restore_run::Only::Missing)));
    assert_eq!(proposed(decided(&missing, stored(), None)).planned().action, Action::Create);
    let left = proposed(decided(&missing, stored(), Some(live(map("a", 2)))));
    assert_eq!(outcome(left.planned()), (Action::Skip, reason::EXISTS));
    let different = planner(terms(|spec| spec.only = Some(crate::api::restore_run::Only::Different)));
    assert_eq!(outcome(&settled(decided(&different, stored(), None))), (Action::Skip, reason::NOT_THERE));
    assert_eq!(proposed(decided(&different, stored(), Some(live(map("a", 2))))).planned().action, Action::Update);
}

#[test]
fn what_cannot_be_written_says_why() {
    let mut planner = planner(terms(|_| {}));
    let unreadable = Stored::Unreadable("it is not JSON".to_owned());
    assert_eq!(outcome(&settled(decided(&planner, unreadable, None))), (Action::Invalid, reason::UNREADABLE));
    let mut old = map("a", 1);
    old["apiVersion"] = json!("v1beta1");
    assert_eq!(
        outcome(&settled(decided(&planner, Stored::Object(old), None))),
        (Action::Invalid, reason::VERSION_NOT_SERVED)
    );
    let mut going = live(map("a", 2));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        outcome(&settled(decided(&planner, Stored::Object(map("a", 1)), Some(going)))),
        (Action::Conflict, reason::BEING_DELETED)
    );
    planner.served.remove(&GroupKind::new("", "ConfigMap"));
    assert_eq!(
        outcome(&settled(decided(&planner, Stored::Object(map("a", 1)), None))),
        (Action::Invalid, reason::KIND_NOT_SERVED)
    );
}

#[test]
fn a_transform_that_does_not_apply_fails_its_item() {
    let transforms = json!([{"select": {"name": "a"}, "patch": [{"op": "test", "path": "/spec/value", "value": 9}]}]);
    let planner = planner(terms(|spec| spec.transforms = serde_json::from_value(transforms).expect("transforms")));
    let planned = settled(decided(&planner, Stored::Object(map("a", 1)), None));
    assert_eq!(outcome(&planned), (Action::Invalid, reason::TRANSFORM_FAILED));
    assert!(
        planned
            .reason
            .expect("a reason")
            .message
            .contains("core/ConfigMap/a: transforms[0].patch[0] at \"/spec/value\"")
    );
    assert_eq!(proposed(decided(&planner, Stored::Object(map("b", 1)), None)).planned().action, Action::Create);
}

#[test]
fn who_may_not_write_is_forbidden_and_who_need_not_is_not() {
    for (verb, forbidden) in [
        (Verb::Create, [true, false, true, false]),
        (Verb::Update, [false, true, false, false]),
        (Verb::Delete, [false, false, true, true]),
    ] {
        let kind = GroupKind::new("", "ConfigMap");
        let with = |change: fn(&mut RestoreRunSpec)| {
            let mut planner = planner(terms(change));
            planner.refused.insert((kind.clone(), verb), "ada may not".to_owned());
            planner
        };
        let stored = || Stored::Object(map("a", 1));
        let decisions = [
            decided(&with(|_| {}), stored(), None),
            decided(&with(|_| {}), stored(), Some(live(map("a", 2)))),
            decided(
                &with(|spec| spec.existing_resource_policy = ExistingResourcePolicy::Recreate),
                stored(),
                Some(live(map("a", 2))),
            ),
            decided(&with(|spec| spec.prune = true), Stored::NotHeld, Some(live(map("a", 2)))),
        ];
        for (decision, forbidden) in decisions.into_iter().zip(forbidden) {
            let is_forbidden = matches!(&decision, Decision::Settled(planned) if outcome(planned) == (Action::Forbidden, reason::FORBIDDEN));
            assert_eq!(is_forbidden, forbidden, "{verb:?} refused: {decision:?}");
        }
        assert_eq!(settled(decided(&with(|_| {}), stored(), Some(live(map("a", 1))))).action, Action::Unchanged);
    }
}

#[test]
fn data_is_lost_only_where_that_is_allowed_and_what_is_lost_is_said() {
    let mut guarded = live(object(5, "db", 2, None));
    guarded["metadata"]["finalizers"] = json!(["example.com/delete-database"]);
    let claim = live(object(3, "data", 2, None));
    let owner = live(object(4, "web", 2, None));
    for (live, says) in
        [(guarded, "example.com/delete-database"), (claim, "pv-1001"), (owner, "core/PersistentVolumeClaim/data-web-0")]
    {
        for allowed in [false, true] {
            let mut planner = planner(terms(|spec| {
                spec.existing_resource_policy = ExistingResourcePolicy::Recreate;
                (spec.prune, spec.allow_data_loss) = (true, allowed);
            }));
            let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "uid-1001"});
            let owned = json!({"metadata": {"ownerReferences": [owner]}});
            planner.dependents.add(item_of(&object(3, "data-web-0", 1, None)), "v1", true, &owned);
            let mut stored = live.clone();
            stored["spec"]["value"] = json!(1);
            for stored in [Stored::Object(stored), Stored::NotHeld] {
                let decision = decided(&planner, stored, Some(live.clone()));
                let planned = if allowed { proposed(decision).planned().clone() } else { settled(decision) };
                let remark = if allowed {
                    assert!(planned.action.writes());
                    planned.warnings.first().cloned()
                } else {
                    assert_eq!(outcome(&planned), (Action::Conflict, reason::DATA_LOSS));
                    planned.reason.clone()
                };
                assert!(remark.as_ref().is_some_and(|remark| remark.message.contains(says)), "{says}: {remark:?}");
            }
        }
    }
}

#[test]
fn prune_deletes_what_a_full_set_does_not_hold_and_spares_what_no_backup_holds() {
    let planner = planner(terms(|spec| spec.prune = true));
    let extra = live(map("extra", 1));
    assert_eq!(proposed(decided(&planner, Stored::NotHeld, Some(extra.clone()))).planned().action, Action::Delete);
    let item = item_of(&extra);
    let spared = Live { object: extra.clone(), left_out: Some(("RepositorySecret", "a BackupRepository names it")) };
    let planned = settled(planner.decide(&item, "v1", Stored::NotHeld, Some(&spared)));
    assert_eq!(outcome(&planned), (Action::Skip, "RepositorySecret"));
    let mut owned = extra.clone();
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "u", "controller": true}]);
    assert_eq!(
        outcome(&settled(decided(&planner, Stored::NotHeld, Some(owned.clone())))),
        (Action::Skip, reason::LEFT_TO_OWNER)
    );
    assert_eq!(
        proposed(decided(&planner, Stored::Absent, Some(owned))).planned().action,
        Action::Delete,
        "what a restore made, its undo removes"
    );
    assert_eq!(outcome(&settled(decided(&planner, Stored::Absent, None))), (Action::Unchanged, reason::ABSENT));
}

#[test]
fn without_prune_nothing_is_deleted() {
    let planner = planner(terms(|_| {}));
    for stored in [Stored::Absent, Stored::NotHeld] {
        assert_eq!(
            outcome(&settled(decided(&planner, stored, Some(live(map("a", 1)))))),
            (Action::Skip, reason::NOT_PRUNED)
        );
    }
}

#[test]
fn what_controllers_and_the_operator_keep_is_not_replaced() {
    let planner = planner(terms(|_| {}));
    let stored = map("a", 1);
    let item = item_of(&stored);
    let with = |code| Live { object: live(map("a", 2)), left_out: Some((code, "because")) };
    let planned = settled(planner.decide(&item, "v1", Stored::Object(stored.clone()), Some(&with("OperatorManaged"))));
    assert_eq!(outcome(&planned), (Action::Skip, "OperatorManaged"));
    // A label that excludes an object from backups does not prevent replacing the object.
    let decision = planner.decide(&item, "v1", Stored::Object(stored), Some(&with("ExcludedByLabel")));
    assert_eq!(proposed(decision).planned().action, Action::Update);
}

#[test]
fn a_child_of_a_restored_controller_is_left_to_it() {
    let mut planner = planner(terms(|_| {}));
    let mut child = object(0, "child", 1, Some("w"));
    child["metadata"]["ownerReferences"][0]["controller"] = json!(true);
    let planned = proposed(decided(&planner, Stored::Object(child.clone()), None)).planned().clone();
    assert_eq!(
        planned.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(),
        [reason::OWNER_MISSING]
    );
    planner.family.add_restored(item_of(&object(5, "w", 1, None)));
    let kept = proposed(decided(&planner, Stored::Object(child.clone()), None));
    assert!(kept.is_pending(), "nobody knows whether its controller makes it: {kept:?}");
    assert_eq!(pending_of(kept.before_owners().write()), 0);
    child["kind"] = json!("Pod");
    planner.served.insert(GroupKind::new("", "Pod"), BTreeSet::from(["v1".to_owned()]));
    let pod = ItemId::new(GroupKind::new("", "Pod"), "child");
    let planned = settled(planner.decide(&pod, "v1", Stored::Object(child), None));
    assert_eq!(outcome(&planned), (Action::Skip, reason::LEFT_TO_OWNER));
}

fn pending_of(write: &Write) -> usize {
    match write {
        Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => super::owners::pending(body).len(),
        Write::Delete(_) => 0,
    }
}

#[test]
fn what_was_written_before_its_owner_gets_it_afterwards_whatever_the_policy_and_nothing_else_is_touched() {
    let mut planner = planner(terms(|spec| spec.existing_resource_policy = ExistingResourcePolicy::None));
    let owner = object(5, "w", 1, None);
    planner.family.add_restored(item_of(&owner));
    let stored = || Stored::Object(object(1, "child", 1, Some("w")));
    let create = proposed(decided(&planner, stored(), None));
    let planned = create.planned().clone();
    let Write::Create(body) = create.before_owners().write().clone() else { panic!("a creation") };
    let made = |body: &Value| Live { object: live(body.clone()), left_out: None };
    let waiting = planner.reclaim(&planned, &stored(), Some(&made(&body))).expect("its owner is to come");
    assert!(waiting.is_pending());
    planner.family.add_live(item_of(&owner), "new");
    let given = planner.reclaim(&planned, &stored(), Some(&made(&body))).expect("its owner is there");
    let Write::Update(given) = given.write() else { panic!("an update") };
    assert_eq!(given["metadata"]["ownerReferences"][0]["uid"], "new");
    assert_eq!(planner.reclaim(&planned, &stored(), Some(&made(&without_uid(given)))), None, "it has it");
    let mut other = body;
    other["spec"]["value"] = json!(7);
    assert_eq!(planner.reclaim(&planned, &stored(), Some(&made(&other))), None, "it is somebody else's");
    assert_eq!(planner.reclaim(&planned, &stored(), None), None);
}

fn without_uid(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.remove("uid");
    metadata.remove("resourceVersion");
    object
}

#[test]
fn a_secret_that_goes_with_its_owner_is_a_loss_unless_the_restore_makes_it_again() {
    let owner = live(object(5, "w", 2, None));
    let secret = item_of(&object(1, "made-up", 1, None));
    let planned = |policy, restored: bool, allowed: bool| {
        let mut planner = planner(terms(|spec| {
            spec.existing_resource_policy = policy;
            (spec.prune, spec.allow_data_loss) = (true, allowed);
        }));
        planner.dependents.add(secret.clone(), "v1", true, &object(1, "made-up", 1, Some("w")));
        if restored {
            planner.family.add_restored(secret.clone());
        }
        let stored = match policy {
            ExistingResourcePolicy::Recreate => Stored::Object(object(5, "w", 1, None)),
            _ => Stored::Absent,
        };
        match decided(&planner, stored, Some(owner.clone())) {
            Decision::Settled(planned) => planned,
            Decision::Proposed(proposal) => proposal.planned().clone(),
        }
    };
    let (none, update, recreate) =
        (ExistingResourcePolicy::None, ExistingResourcePolicy::Update, ExistingResourcePolicy::Recreate);
    let conflict = planned(recreate, false, false);
    assert_eq!(outcome(&conflict), (Action::Conflict, reason::DATA_LOSS));
    assert!(conflict.reason.is_some_and(|reason| reason.message.contains("core/Secret/made-up")));
    assert_eq!(planned(recreate, true, false).action, Action::Recreate);
    assert_eq!(planned(recreate, false, true).action, Action::Recreate);
    assert_eq!(planned(update, true, false).action, Action::Delete, "it is taken away from its owner before");
    assert_eq!(planned(none, true, false).action, Action::Conflict, "it would be left, and go");
}

#[test]
fn a_secret_that_an_undo_deletes_by_its_own_name_is_no_loss_of_its_owner_s_deletion() {
    let mut planner = planner(terms(|spec| spec.prune = true));
    let secret = item_of(&object(1, "made-up", 1, None));
    planner.dependents.add(secret.clone(), "v1", true, &object(1, "made-up", 1, Some("w")));
    let owner = || Some(live(object(5, "w", 2, None)));
    let Decision::Settled(kept) = decided(&planner, Stored::Absent, owner()) else { panic!("its Secret would go") };
    assert_eq!(outcome(&kept), (Action::Conflict, reason::DATA_LOSS));
    planner.dependents.add_named(secret);
    assert_eq!(proposed(decided(&planner, Stored::Absent, owner())).planned().action, Action::Delete);
}

fn refused(code: u16, reason: &str, message: &str) -> Verdict {
    Verdict::Refused { code, reason: reason.to_owned(), message: message.to_owned() }
}

#[test]
fn the_server_s_verdict_settles_a_proposal() {
    let update = || proposed(decided(&planner(terms(|_| {})), Stored::Object(map("a", 1)), Some(live(map("a", 2)))));
    for (verdict, action, code) in [
        (
            refused(422, "Invalid", "spec.selector: Invalid value: field is immutable"),
            Action::Conflict,
            reason::IMMUTABLE_FIELD,
        ),
        (
            refused(422, "Invalid", "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            Action::Invalid,
            reason::INVALID,
        ),
        (
            refused(
                403,
                "Forbidden",
                "configmaps \"a\" is forbidden: User \"system:serviceaccount:acme:x\" cannot update",
            ),
            Action::Forbidden,
            reason::FORBIDDEN,
        ),
        (
            refused(
                403,
                "Forbidden",
                "roles \"a\" is forbidden: user \"x\" is attempting to grant RBAC permissions not currently held",
            ),
            Action::Forbidden,
            reason::FORBIDDEN,
        ),
        (
            refused(403, "Forbidden", "pods \"a\" is forbidden: exceeded quota: small, requested: pods=1"),
            Action::Conflict,
            reason::QUOTA_EXCEEDED,
        ),
        (
            refused(403, "Forbidden", "pods \"a\" is forbidden: violates PodSecurity \"restricted\""),
            Action::Invalid,
            reason::ADMISSION_REFUSED,
        ),
        (
            refused(400, "", "admission webhook \"x.example.com\" denied the request"),
            Action::Invalid,
            reason::ADMISSION_REFUSED,
        ),
        (refused(409, "Conflict", "the object has been modified"), Action::Conflict, reason::MOVED),
        (
            refused(500, "InternalError", "failed calling webhook \"x.example.com\": connection refused"),
            Action::Conflict,
            reason::WEBHOOK_UNAVAILABLE,
        ),
        (refused(500, "InternalError", "etcdserver: request timed out"), Action::Conflict, reason::SERVER_FAILED),
    ] {
        let planned = update().settle(&verdict);
        assert_eq!(outcome(&planned), (action, code), "{verdict:?}");
        assert!(planned.action.fails());
    }
    let planned = update().settle(&Verdict::NotAsked("the kind is not there yet".to_owned()));
    assert_eq!((planned.action, planned.warnings[0].code.as_str()), (Action::Update, reason::NOT_TRIED));
}

#[test]
fn an_update_that_the_server_finds_to_make_no_difference_is_none() {
    let there = live(map("a", 2));
    let update = || proposed(decided(&planner(terms(|_| {})), Stored::Object(map("a", 1)), Some(there.clone())));
    assert_eq!(update().settle(&Verdict::Accepted(Some(there.clone()))).action, Action::Unchanged);
    let mut other = there.clone();
    other["spec"]["value"] = json!(1);
    assert_eq!(update().settle(&Verdict::Accepted(Some(other))).action, Action::Update);
}

#[test]
fn nothing_is_deleted_that_cannot_be_made_anew_or_makes_no_difference() {
    let planner = planner(terms(|spec| spec.existing_resource_policy = ExistingResourcePolicy::Recreate));
    let recreate = || proposed(decided(&planner, Stored::Object(map("a", 1)), Some(live(map("a", 2)))));
    assert_eq!(recreate().settle(&Verdict::Accepted(None)).action, Action::Recreate);
    assert_eq!(recreate().settle(&Verdict::AsItIs).action, Action::Unchanged);
    assert_eq!(outcome(&recreate().settle(&refused(422, "Invalid", "bad"))), (Action::Invalid, reason::INVALID));
    let proposal = recreate();
    assert_eq!(proposal.again().expect("what was there")["spec"]["value"], 2, "what is put back");
    assert_eq!(proposal.in_place().expect("an update")["spec"]["value"], 1);
}

#[test]
fn what_the_api_server_would_not_take_again_is_deleted_only_if_data_may_be_lost() {
    let verdict = Verdict::Final { code: 403, message: "attempting to grant RBAC permissions".to_owned() };
    for (allowed, expected) in [(false, (Action::Conflict, reason::DATA_LOSS)), (true, (Action::Delete, ""))] {
        let planner = planner(terms(|spec| (spec.prune, spec.allow_data_loss) = (true, allowed)));
        let proposal = proposed(decided(&planner, Stored::NotHeld, Some(live(map("a", 1)))));
        assert_eq!(proposal.may_lose(), allowed);
        let planned = proposal.settle(&verdict);
        assert_eq!(outcome(&planned), expected);
        let warned = planned.warnings.iter().any(|warning| warning.code == reason::DATA_LOST);
        assert_eq!(warned, allowed, "{planned:?}");
    }
}

#[test]
fn a_status_that_is_data_is_compared_shown_and_written() {
    let mut planner = planner(terms(|_| {}));
    let stored = || {
        let mut stored = object(5, "app", 1, None);
        stored["status"] = json!({"seen": 7});
        Stored::Object(stored)
    };
    let there = live(object(5, "app", 1, None));
    assert_eq!(settled(decided(&planner, stored(), Some(there.clone()))).action, Action::Unchanged);
    planner.status_is_data.insert(GroupKind::new("example.com", "Widget"));
    let proposal = proposed(decided(&planner, stored(), Some(there)));
    let Write::Update(body) = proposal.write() else { panic!("an update: {proposal:?}") };
    assert_eq!(body["status"], json!({"seen": 7}));
    let diff = proposal.diff(&Verdict::NotAsked(String::new()), &planner.key, 1000);
    assert_eq!(diff.changes, ["~ status.seen: 1001 -> 7"]);
    let made = proposed(decided(&planner, stored(), None));
    assert!(matches!(made.write(), Write::Create(body) if body["status"]["seen"] == 7), "{made:?}");
}

#[test]
fn a_service_that_lost_its_address_must_be_made_anew() {
    let with = |policy| planner(terms(|spec| spec.existing_resource_policy = policy));
    let mut stored = live(object(2, "web", 1, None));
    stored["spec"]["clusterIP"] = json!("10.0.0.9");
    let mut headless = live(object(2, "web", 1, None));
    headless["spec"]["clusterIP"] = json!("None");
    let decide = |policy| decided(&with(policy), Stored::Object(stored.clone()), Some(headless.clone()));
    let update = settled(decide(ExistingResourcePolicy::Update));
    assert_eq!(outcome(&update), (Action::Conflict, reason::IMMUTABLE_FIELD));
    assert_eq!(outcome(&settled(decide(ExistingResourcePolicy::None))), (Action::Skip, reason::EXISTS));
    let recreate = proposed(decide(ExistingResourcePolicy::Recreate));
    assert_eq!((recreate.planned().action, recreate.in_place()), (Action::Recreate, None));
}

#[test]
fn a_job_under_way_is_said_to_run_again_and_finalizers_that_are_left_are_named() {
    let mut planner = planner(terms(|_| {}));
    planner.served.insert(GroupKind::new("batch", "Job"), BTreeSet::from(["v1".to_owned()]));
    let warnings = |status: Value, finalizers: Value, live: Option<Value>| {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "finalizers": finalizers}, "spec": {}, "status": status});
        let live = live.map(|object| Live { object, left_out: None });
        let item = ItemId::new(GroupKind::new("batch", "Job"), "a");
        let planned = match planner.decide(&item, "batch/v1", Stored::Object(job), live.as_ref()) {
            Decision::Settled(planned) => planned,
            Decision::Proposed(proposal) => proposal.planned().clone(),
        };
        planned.warnings.into_iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    assert_eq!(warnings(started.clone(), json!([]), None), [reason::RUNS_AGAIN]);
    assert_eq!(warnings(json!({}), json!(["argoproj.io/x"]), None), [reason::FINALIZERS_LEFT]);
    assert_eq!(warnings(json!({}), json!(["foregroundDeletion", "batch.kubernetes.io/job-tracking"]), None), [""; 0]);
    let there = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "finalizers": ["argoproj.io/x"]}, "spec": {}});
    assert_eq!(warnings(started, json!(["argoproj.io/x"]), Some(there)), [""; 0], "nothing is written");
}

#[test]
fn a_claim_that_was_never_bound_has_nothing_to_lose() {
    let planner = planner(terms(|spec| spec.prune = true));
    let mut claim = live(object(3, "data", 1, None));
    assert_eq!(
        outcome(&settled(decided(&planner, Stored::Absent, Some(claim.clone())))),
        (Action::Conflict, reason::DATA_LOSS)
    );
    claim["spec"].as_object_mut().expect("a spec").remove("volumeName");
    assert_eq!(proposed(decided(&planner, Stored::Absent, Some(claim))).planned().action, Action::Delete);
}

#[test]
fn a_diff_shows_what_the_update_changes_and_nothing_the_server_owns() {
    let key = DigestKey::new(*b"0123456789abcdef");
    let proposal = proposed(decided(
        &planner(terms(|_| {})),
        Stored::Object(object(2, "web", 1, None)),
        Some(live(object(2, "web", 2, None))),
    ));
    let diff = proposal.diff(&Verdict::NotAsked(String::new()), &key, 1000);
    assert_eq!(diff.changes, ["~ spec.value: 2 -> 1"]);
}

#[test]
fn a_plan_is_bound_to_what_it_was_made_from() {
    let namespace = Namespace::of(&[map("a", 1), map("b", 2)]);
    let set = full(&[map("a", 1), map("b", 1), map("c", 1)]);
    let first = plan(&mut planner(terms(|_| {})), &set, &namespace);
    let again = |change: &dyn Fn(&mut Namespace)| {
        let mut namespace = namespace.clone();
        change(&mut namespace);
        plan(&mut planner(terms(|_| {})), &set, &namespace)
    };
    let b = item_of(&map("b", 1));
    let quiet = again(&|namespace| {
        let object = namespace.objects.get_mut(&b).expect("there");
        object["status"] = json!({"ready": true});
        object["metadata"]["resourceVersion"] = json!("9999");
        object["metadata"]["generation"] = json!(7);
        object["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    });
    assert_eq!((quiet.digest(), moved(&first, &quiet)), (first.digest(), Vec::new()));
    for (change, item, how) in [
        (
            &(|namespace: &mut Namespace| {
                namespace.objects.get_mut(&item_of(&map("b", 1))).expect("there")["spec"]["value"] = json!(3);
            }) as &dyn Fn(&mut Namespace),
            "b",
            How::Changed,
        ),
        (
            &(|namespace: &mut Namespace| {
                namespace.objects.get_mut(&item_of(&map("a", 1))).expect("there")["metadata"]["uid"] = json!("u");
            }),
            "a",
            How::Changed,
        ),
        (&(|namespace: &mut Namespace| drop(namespace.objects.remove(&item_of(&map("a", 1))))), "a", How::Vanished),
        (&(|namespace: &mut Namespace| namespace.create(map("c", 1))), "c", How::Appeared),
    ] {
        let new = again(change);
        assert_ne!(new.digest(), first.digest());
        assert_eq!(moved(&first, &new), [Moved { item: item_of(&map(item, 0)), how }]);
    }
    for other in [
        terms(|spec| spec.prune = true),
        terms(|spec| spec.allow_data_loss = true),
        terms(|spec| spec.items = vec![crate::api::restore_run::ItemSelector::default()]),
        Terms { snapshot: "1".repeat(64), ..terms(|_| {}) },
    ] {
        assert_ne!(Plan::stored(other, first.items().to_vec()).digest(), first.digest());
    }
}

#[test]
fn what_goes_with_its_owner_has_moved_only_if_it_is_another_by_now() {
    let item = |action, live: &str, wanted: Option<&str>| PlannedItem {
        item: item_of(&map("a", 1)),
        api_version: "v1".to_owned(),
        action,
        reason: (action == Action::Delete).then(|| Remark::new(reason::GARBAGE_COLLECTED, "with its owner")),
        warnings: Vec::new(),
        live: Some(live.to_owned()),
        wanted: wanted.map(str::to_owned),
    };
    let plan = |item| Plan::stored(terms(|_| {}), vec![item]);
    let previewed = plan(item(Action::Delete, "as it was", None));
    // The plan made for comparison asks the API server nothing, so it recreates the object.
    let again = |live| plan(item(Action::Recreate, live, Some("as it is wanted")));
    assert_eq!(moved(&previewed, &again("as it was")), []);
    let changed = Moved { item: item_of(&map("a", 1)), how: How::Changed };
    assert_eq!(moved(&previewed, &again("as it is now")), [changed]);
}

#[test]
fn a_plan_that_was_stored_reads_back() {
    let namespace = Namespace::of(&[map("b", 2)]);
    let first = plan(&mut planner(terms(|_| {})), &full(&[map("a", 1), map("b", 1)]), &namespace);
    let item = |planned: &PlannedItem| {
        let text = serde_json::to_string(&planned.to_report(None)).expect("JSON");
        let told = serde_json::from_str(&text).expect("a report");
        PlannedItem::from_report(told, planned.live.clone(), planned.wanted.clone()).expect("an item")
    };
    let read = Plan::stored(first.terms().clone(), first.items().iter().map(item).collect());
    assert_eq!((&read, read.digest()), (&first, first.digest()));
}

/// Anybody with the plan and a JSON tool can compute the digest.
#[test]
fn a_plans_digest_is_that_of_its_canonical_json() {
    let whole = |plan: &Plan| {
        let items: Vec<_> = plan
            .items()
            .iter()
            .map(|planned| {
                json!({"item": planned.item.to_string(), "apiVersion": planned.api_version, "action": planned.action,
                       "live": planned.live, "wanted": planned.wanted})
            })
            .collect();
        crate::api::canonical::digest(&json!({"items": items, "terms": plan.terms()}))
    };
    let namespace = Namespace::of(&[map("b", 2)]);
    let plan = plan(&mut planner(terms(|_| {})), &full(&[map("a", 1), map("b", 1)]), &namespace);
    let empty = Plan::stored(plan.terms().clone(), Vec::new());
    let one = Plan::stored(plan.terms().clone(), plan.items()[..1].to_vec());
    for plan in [plan, empty, one] {
        assert_eq!(plan.digest(), whole(&plan));
    }
}

#[test]
fn deletions_go_last_and_ways_in_are_closed_before_what_they_lead_to() {
    let namespace = Namespace::of(&[map("old", 1), object(4, "old", 1, None), object(5, "old", 1, None)]);
    let plan = plan(
        &mut planner(terms(|spec| spec.prune = true)),
        &full(&[map("new", 1), object(4, "new", 1, None)]),
        &namespace,
    );
    let order: Vec<String> =
        plan.items().iter().map(|planned| format!("{:?} {}", planned.action, planned.item.kind.kind)).collect();
    assert_eq!(
        order,
        ["Create ConfigMap", "Create Deployment", "Delete Widget", "Delete Deployment", "Delete ConfigMap"]
    );
}

/// Objects by kind and name, each with a value and possibly a Widget that owns it.
fn any_objects() -> impl Strategy<Value = Vec<Value>> {
    let one = (
        0..KINDS.len(),
        prop::sample::select(vec!["a", "b", "c"]),
        0_u8..3,
        prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
    );
    prop::collection::vec(one, 0..14).prop_map(|list| {
        let list: Vec<Value> = list
            .into_iter()
            // Widgets own others and have no owners.
            .map(|(kind, name, value, owner)| object(kind, name, value, owner.filter(|_| kind != 5)))
            .collect();
        objects(&list).into_values().collect()
    })
}

/// A namespace in which all owners exist, as the garbage collector ensures.
fn any_namespace() -> impl Strategy<Value = Namespace> {
    any_objects().prop_map(|list| {
        let (widgets, others): (Vec<Value>, Vec<Value>) =
            list.into_iter().partition(|object| object["kind"] == "Widget");
        let mut namespace = Namespace::of(&widgets);
        let live = family(&Set::default(), &namespace);
        for mut object in others {
            live.adopt(&mut object, None);
            namespace.create(object);
        }
        namespace
    })
}

fn writes(plan: &Plan) -> usize {
    plan.items().iter().filter(|planned| planned.action.writes()).count()
}

proptest! {
    #[test]
    fn a_plan_once_carried_out_leaves_nothing_to_do(list in any_objects(), namespace in any_namespace(), recreate in any::<bool>(), prune in any::<bool>()) {
        let mut namespace = namespace;
        let before = namespace.seen();
        let set = full(&list);
        let terms = || terms(|spec| {
            spec.existing_resource_policy = if recreate { ExistingResourcePolicy::Recreate } else { ExistingResourcePolicy::Update };
            (spec.prune, spec.allow_data_loss) = (prune, true);
        });
        let first = plan(&mut planner(terms()), &set, &namespace);
        carry_out(&mut planner(terms()), &first, &set, &mut namespace);
        prop_assert_eq!(namespace.writes, writes(&first));
        for item in namespace.orphans() {
            // An object that the set does not hold and that is not pruned may lose its owner to a
            // recreation.
            prop_assert!(!set.objects.contains_key(item), "{item} would be collected");
        }
        for item in set.objects.keys() {
            prop_assert!(namespace.objects.contains_key(item), "{item} is missing");
        }
        if prune {
            prop_assert_eq!(namespace.objects.len(), set.objects.len());
        } else {
            let after = namespace.seen();
            for (item, seen) in before.iter().filter(|(item, _)| !set.objects.contains_key(*item)) {
                prop_assert_eq!(after.get(item), Some(seen), "{} was touched", item);
            }
        }
        let second = plan(&mut planner(terms()), &set, &namespace);
        prop_assert_eq!(writes(&second), 0, "{:?}", second);
        let failing = second.items().iter().filter(|planned| planned.action.fails()).count();
        prop_assert_eq!(failing, 0);
    }

    #[test]
    fn a_plan_is_the_same_in_whichever_order_items_are_decided(list in any_objects(), namespace in any_namespace()) {
        let set = full(&list);
        let planner = &mut planner(terms(|spec| spec.prune = true));
        let first = plan(planner, &set, &namespace);
        let with_owners = |planned: &PlannedItem| (planned.clone(), set.objects.get(&planned.item).map(owners).unwrap_or_default());
        let items: Vec<_> = first.items().iter().map(with_owners).collect();
        let mut reversed = items.clone();
        reversed.reverse();
        let (one, other) = (Plan::new(first.terms().clone(), items), Plan::new(first.terms().clone(), reversed));
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn undoing_a_restore_gives_the_original_back_and_touches_nothing_else(list in any_objects(), namespace in any_namespace(), prune in any::<bool>()) {
        let original = namespace.clone();
        let mut namespace = namespace;
        let set = full(&list);
        let there = || terms(|spec| (spec.prune, spec.allow_data_loss) = (prune, true));
        let restore = plan(&mut planner(there()), &set, &namespace);
        let undo = restore.undo();
        let undo_set = Set {
            objects: undo.keep.iter().map(|item| ((*item).clone(), original.objects[*item].clone())).collect(),
            absent: undo.absent.iter().map(|item| (*item).clone()).collect(),
            full: false,
        };
        carry_out(&mut planner(there()), &restore, &set, &mut namespace);
        // Another user keeps working meanwhile.
        namespace.create(map("meanwhile", 7));
        let versions = |namespace: &Namespace| -> BTreeMap<ItemId, Value> {
            namespace.objects.iter().map(|(item, object)| (item.clone(), object["metadata"]["resourceVersion"].clone())).collect()
        };
        let before = versions(&namespace);
        let back = || terms(|spec| (spec.prune, spec.allow_data_loss) = (true, true));
        let undoing = plan(&mut planner(back()), &undo_set, &namespace);
        carry_out(&mut planner(back()), &undoing, &undo_set, &mut namespace);
        let mut expected = original;
        expected.create(map("meanwhile", 7));
        prop_assert_eq!(namespace.seen(), expected.seen());
        prop_assert_eq!(namespace.orphans(), Vec::<&ItemId>::new());
        let after = versions(&namespace);
        for (item, version) in &before {
            if !undo_set.objects.contains_key(item) && !undo_set.absent.contains(item) {
                prop_assert_eq!(after.get(item), Some(version), "{} was touched", item);
            }
        }
    }

    #[test]
    fn a_restore_of_what_is_there_writes_nothing(namespace in any_namespace()) {
        let set = Set { objects: namespace.objects.clone(), absent: Vec::new(), full: true };
        for policy in [ExistingResourcePolicy::Update, ExistingResourcePolicy::Recreate] {
            let plan = plan(&mut planner(terms(|spec| (spec.existing_resource_policy, spec.prune) = (policy, true))), &set, &namespace);
            let unchanged = plan.items().iter().filter(|planned| planned.action == Action::Unchanged).count();
            prop_assert_eq!(unchanged, namespace.objects.len(), "{:?}", plan);
        }
    }
}

#[test]
fn a_proposal_says_what_it_would_write_over_what_and_for_whom() {
    let mut planner = planner(terms(|spec| spec.existing_resource_policy = ExistingResourcePolicy::Recreate));
    let mut wanted = map("a", 1);
    wanted["metadata"]["managedFields"] =
        json!([{"manager": "kubectl", "operation": "Apply"}, {"manager": "controller", "operation": "Update"}]);
    let there = live(map("a", 2));
    let stored = || Stored::Object(wanted.clone());
    let recreate = proposed(decided(&planner, stored(), Some(there.clone())));
    assert_eq!((recreate.item(), &recreate.planned().item), (&item_of(&wanted), &item_of(&wanted)));
    assert!(matches!(recreate.write(), Write::Recreate(..)));
    assert_eq!(recreate.live(), Some(&there));
    assert!(recreate.is_shown() && !recreate.may_lose() && !recreate.is_pending());
    let applied = wanted["metadata"]["managedFields"].as_array().expect("managers");
    assert_eq!(recreate.managers(), &applied[..1], "what was applied is to be said again, and nothing else");
    assert!(recreate.owners().is_empty());
    let refused = recreate.clone().refused(Action::Forbidden, Remark::new("No", "why"));
    assert_eq!(
        (refused.action, refused.reason, &refused.item),
        (Action::Forbidden, Some(Remark::new("No", "why")), recreate.item())
    );
    assert_eq!(recreate.before_owners().in_place(), None, "an update would bear the owners");
    planner.readers = Readers::of([]);
    let hidden = proposed(decided(&planner, stored(), Some(there.clone())));
    assert!(!hidden.is_shown());
    let create = proposed(decided(&planner, stored(), None));
    assert_eq!((create.live(), create.again(), create.in_place()), (None, None, None));
}

#[test]
fn the_owners_of_a_deletion_are_those_of_what_is_there() {
    let planner = planner(terms(|spec| spec.prune = true));
    let mut there = live(map("a", 2));
    there["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "u"}]);
    let delete = proposed(decided(&planner, Stored::Absent, Some(there.clone())));
    assert_eq!((delete.owners(), delete.is_pending()), (owners(&there), false));
    assert_eq!(delete.live(), Some(&there));
    assert!(matches!(delete.before_owners().write(), Write::Delete(_)));
}

#[test]
fn of_a_kind_that_who_asked_may_not_read_nothing_is_decided_from_its_content() {
    assert_eq!(
        [Verb::Get, Verb::List, Verb::Create, Verb::Update, Verb::Delete].map(Verb::as_str),
        ["get", "list", "create", "update", "delete"]
    );
    let mut planner = planner(terms(|_| {}));
    planner.refused.insert((GroupKind::new("", "ConfigMap"), Verb::Get), "ada may not get".to_owned());
    assert_eq!(planner.hides(&GroupKind::new("", "ConfigMap")), Some("ada may not get"));
    assert_eq!(planner.hides(&GroupKind::new("", "Secret")), None);
    let planned = settled(decided(&planner, Stored::Object(map("a", 1)), Some(live(map("a", 2)))));
    assert_eq!(outcome(&planned), (Action::Forbidden, reason::FORBIDDEN));
    assert_eq!((planned.live, planned.wanted), (None, None), "not even a hash");
}

#[test]
fn only_what_this_restore_made_and_what_stays_gets_its_owners_afterwards() {
    let mut planner = planner(terms(|_| {}));
    planner.family.add_restored(item_of(&object(5, "w", 1, None)));
    let mut child = object(1, "child", 1, Some("w"));
    child["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply"}]);
    let stored = Stored::Object(child.clone());
    let create = proposed(decided(&planner, stored.clone(), None));
    let planned = create.planned().clone();
    let Write::Create(body) = create.before_owners().write().clone() else { panic!("a creation") };
    let made = Live { object: live(body), left_out: None };
    let given = planner.reclaim(&planned, &stored, Some(&made)).expect("its owner is to come");
    assert_eq!(given.managers(), child["metadata"]["managedFields"].as_array().expect("managers").as_slice());
    let mut going = made.clone();
    going.object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(planner.reclaim(&planned, &stored, Some(&going)), None, "it is being deleted");
    let updated = PlannedItem { action: Action::Update, ..planned };
    assert_eq!(planner.reclaim(&updated, &stored, Some(&made)), None, "it was there before");
}

#[test]
fn of_many_objects_that_would_go_ten_are_named_and_only_those_that_hold_data() {
    let why = |secrets: usize| {
        let mut planner = planner(terms(|spec| spec.prune = true));
        for number in 0..secrets {
            let secret = object(1, &format!("s{number:02}"), 1, Some("w"));
            planner.dependents.add(item_of(&secret), "v1", true, &secret);
        }
        let deployment = object(4, "web", 1, Some("w"));
        planner.dependents.add(item_of(&deployment), "apps/v1", true, &deployment);
        let planned = settled(decided(&planner, Stored::Absent, Some(live(object(5, "w", 2, None)))));
        assert_eq!(outcome(&planned), (Action::Conflict, reason::DATA_LOSS));
        planned.reason.expect("a reason").message
    };
    assert!(why(1).contains("what it owns: core/Secret/s00. No backup"), "{}", why(1));
    assert!(why(10).contains("core/Secret/s09. No backup"), "{}", why(10));
    assert!(why(12).contains("core/Secret/s09 and 2 more. No backup"), "{}", why(12));
}

#[test]
fn what_could_not_be_looked_at_has_not_moved_and_what_is_built_in_another_way_has() {
    let item = |action, code: &str, live: Option<&str>, wanted: Option<&str>| {
        let planned = PlannedItem {
            item: item_of(&map("a", 1)),
            api_version: "v1".to_owned(),
            action,
            reason: Some(Remark::new(code, "")),
            warnings: Vec::new(),
            live: live.map(str::to_owned),
            wanted: wanted.map(str::to_owned),
        };
        Plan::stored(terms(|_| {}), vec![planned])
    };
    let seen = item(Action::Update, "", Some("l"), Some("w"));
    for code in [reason::FORBIDDEN, reason::SERVER_FAILED, reason::WEBHOOK_UNAVAILABLE] {
        let unseen = item(Action::Forbidden, code, None, None);
        assert_eq!((moved(&seen, &unseen), moved(&unseen, &seen)), (vec![], vec![]), "{code}");
    }
    let gone = item(Action::Invalid, reason::INVALID, None, None);
    assert_eq!(moved(&seen, &gone)[0].how, How::Vanished, "it was looked at, and is not there");
    let otherwise = moved(&seen, &item(Action::Update, "", Some("l"), Some("another")));
    assert_eq!(otherwise[0].how, How::Differently);
    assert!(otherwise[0].to_string().ends_with("would be written differently by this version of the operator"));
}

#[test]
fn a_verdict_counts_for_the_write_that_it_is_about() {
    let taken = || refused(409, "AlreadyExists", "configmaps \"a\" already exists");
    let planner = planner(terms(|spec| {
        (spec.existing_resource_policy, spec.prune) = (ExistingResourcePolicy::Recreate, true);
    }));
    let (stored, there) = (|| Stored::Object(map("a", 1)), live(map("a", 2)));
    let recreate = || proposed(decided(&planner, stored(), Some(there.clone())));
    let create = || proposed(decided(&planner, stored(), None));
    let delete = || proposed(decided(&planner, Stored::NotHeld, Some(there.clone())));
    assert_eq!(recreate().settle(&taken()).action, Action::Recreate, "what is there is deleted before");
    assert_eq!(outcome(&create().settle(&taken())), (Action::Conflict, reason::MOVED));
    let conflict = refused(409, "Conflict", "the object has been modified");
    assert_eq!(outcome(&recreate().settle(&conflict)), (Action::Conflict, reason::MOVED));
    let gone = refused(404, "NotFound", "not found");
    assert_eq!(outcome(&delete().settle(&gone)), (Action::Unchanged, reason::ABSENT));
    assert_eq!(outcome(&create().settle(&gone)), (Action::Invalid, reason::INVALID));
}

#[test]
fn a_diff_is_what_the_server_would_make_of_an_update_and_nothing_for_what_is_left() {
    let key = DigestKey::new(*b"0123456789abcdef");
    let there = live(map("a", 2));
    let of = |policy| {
        let planner = planner(terms(|spec| spec.existing_resource_policy = policy));
        proposed(decided(&planner, Stored::Object(map("a", 1)), Some(there.clone())))
    };
    let mut would_be = there.clone();
    would_be["spec"] = json!({"value": 1, "default": true});
    let accepted = Verdict::Accepted(Some(would_be));
    let update = of(ExistingResourcePolicy::Update).diff(&accepted, &key, 1000);
    assert_eq!(update.changes, ["+ spec.default: true", "~ spec.value: 2 -> 1"]);
    assert!(of(ExistingResourcePolicy::None).diff(&accepted, &key, 1000).is_empty(), "it stays as it is");
}
