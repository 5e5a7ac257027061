//! The order of writes: dependencies first, owners before what they own, and what lets traffic in
//! last.
//!
//! The same items always have the same order. Deletions come last and in reverse order (`plan.rs`):
//! until then nothing is lost.
//!
//! Two positions differ from other tools. A ResourceQuota comes last: the API server refuses
//! everything that a quota counts until a controller has counted it for the first time. A
//! NetworkPolicy comes before the Pods it isolates.

use crate::api::item::{GroupKind, ItemId};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

/// Kinds by rank, from first to last; kinds of the same rank are ordered by name. `*`: all kinds of
/// the group.
const RANKS: [(u8, &str, &str); 25] = [
    (0, "", "ServiceAccount"),
    (1, "rbac.authorization.k8s.io", "Role"),
    (2, "rbac.authorization.k8s.io", "RoleBinding"),
    (3, "", "LimitRange"),
    (4, "networking.k8s.io", "NetworkPolicy"),
    (5, "", "Secret"),
    (5, "", "ConfigMap"),
    (6, "snapshot.storage.k8s.io", "VolumeSnapshot"),
    (7, "", "PersistentVolumeClaim"),
    (8, "", "PodTemplate"),
    (9, "", "Service"),
    (10, "", "Endpoints"),
    (10, "discovery.k8s.io", "EndpointSlice"),
    (11, "apps", "*"),
    (11, "", "ReplicationController"),
    (12, "", "Pod"),
    (13, "batch", "*"),
    (14, "policy", "PodDisruptionBudget"),
    (14, "autoscaling", "*"),
    // 20: every kind not listed here, custom resources above all.
    (30, "networking.k8s.io", "Ingress"),
    (30, "gateway.networking.k8s.io", "*"),
    (30, "networking.istio.io", "*"),
    (30, "route.openshift.io", "*"),
    (30, "traefik.io", "*"),
    (40, "", "ResourceQuota"),
];

/// Rank of kinds that are not listed: after workloads and their config, before what lets traffic
/// in.
const OTHERS: u8 = 20;

/// The rank of a kind: lower comes first.
#[must_use]
pub fn rank(kind: &GroupKind) -> u8 {
    let named = |(_, group, name): &&(u8, &str, &str)| *group == kind.group && (*name == "*" || *name == kind.kind);
    RANKS.iter().find(named).map_or(OTHERS, |(rank, _, _)| *rank)
}

/// Returns the indices of items in the order of writing: by rank and name, but never before an
/// owner that is among the items.
///
/// `items` holds each item once, with its owners, in ascending order. If items own each other in a
/// cycle, rank and name decide.
#[must_use]
pub fn in_order(items: &[(&ItemId, &[ItemId])]) -> Vec<usize> {
    let place_of = |item: &ItemId| items.binary_search_by(|(other, _)| (*other).cmp(item)).ok();
    // The turn of each item if nothing had an owner.
    let mut by_turn: Vec<usize> = (0..items.len()).collect();
    by_turn.sort_by_key(|place| rank(&items[*place].0.kind));
    let mut turns = vec![0; items.len()];
    for (turn, place) in by_turn.iter().enumerate() {
        turns[*place] = turn;
    }
    let mut waits = vec![0_usize; items.len()];
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, (_, owners)) in items.iter().enumerate() {
        let among: BTreeSet<usize> = owners.iter().filter_map(place_of).filter(|owner| *owner != place).collect();
        waits[place] = among.len();
        for owner in among {
            children.entry(owner).or_default().push(place);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        by_turn.iter().enumerate().filter(|(_, place)| waits[**place] == 0).map(|(turn, _)| Reverse(turn)).collect();
    let (mut done, mut first_left) = (vec![false; items.len()], 0);
    let mut ordered = Vec::with_capacity(items.len());
    while ordered.len() < items.len() {
        // In a cycle nothing is ready: the first remaining item is next.
        let turn = ready.pop().map_or_else(
            || {
                while done[first_left] {
                    first_left += 1;
                }
                first_left
            },
            |Reverse(turn)| turn,
        );
        if std::mem::replace(&mut done[turn], true) {
            continue;
        }
        let place = by_turn[turn];
        for child in children.get(&place).into_iter().flatten() {
            waits[*child] = waits[*child].saturating_sub(1);
            if waits[*child] == 0 {
                ready.push(Reverse(turns[*child]));
            }
        }
        ordered.push(place);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(kind: &str, name: &str) -> ItemId {
        ItemId::new(kind.parse().expect("a kind"), name)
    }

    fn in_order(owners: &BTreeMap<ItemId, Vec<ItemId>>) -> Vec<ItemId> {
        let items: Vec<(&ItemId, &[ItemId])> = owners.iter().map(|(item, owners)| (item, owners.as_slice())).collect();
        super::in_order(&items).into_iter().map(|place| items[place].0.clone()).collect()
    }

    fn ordered(items: &[ItemId]) -> Vec<String> {
        let owners = items.iter().map(|item| (item.clone(), Vec::new())).collect();
        in_order(&owners).iter().map(|item| item.kind.kind.clone()).collect()
    }

    #[test]
    fn config_goes_before_workloads_custom_resources_after_and_ways_in_last() {
        let items = [
            "ResourceQuota",
            "Ingress.networking.k8s.io",
            "Certificate.cert-manager.io",
            "Deployment.apps",
            "Service",
            "PersistentVolumeClaim",
            "ConfigMap",
            "NetworkPolicy.networking.k8s.io",
            "RoleBinding.rbac.authorization.k8s.io",
            "Role.rbac.authorization.k8s.io",
            "ServiceAccount",
        ];
        let mut expected: Vec<String> =
            items.iter().map(|kind| kind.split('.').next().unwrap_or_default().to_owned()).collect();
        expected.reverse();
        assert_eq!(ordered(&items.map(|kind| item(kind, "a"))), expected);
    }

    #[test]
    fn an_owner_goes_before_what_it_owns_whatever_its_kind() {
        let (secret, widget, other) = (item("Secret", "s"), item("Widget.example.com", "w"), item("Secret", "t"));
        let owners = BTreeMap::from([
            (secret.clone(), vec![widget.clone()]),
            (widget.clone(), Vec::new()),
            (other.clone(), vec![item("Widget.example.com", "elsewhere")]),
        ]);
        assert_eq!(in_order(&owners), [other, widget, secret]);
    }

    proptest! {
        #[test]
        fn every_item_is_in_the_order_once_and_behind_its_owners(edges in prop::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
            let kinds = ["Secret", "Deployment.apps", "Widget.example.com"];
            let items: Vec<ItemId> = (0..12).map(|number| item(kinds[number % 3], &number.to_string())).collect();
            let mut owners: BTreeMap<ItemId, Vec<ItemId>> = items.iter().map(|item| (item.clone(), Vec::new())).collect();
            for (one, other) in &edges {
                owners.entry(items[*one].clone()).or_default().push(items[*other].clone());
            }
            let ordered = in_order(&owners);
            prop_assert_eq!(&ordered, &in_order(&owners));
            prop_assert_eq!(ordered.iter().collect::<BTreeSet<_>>().len(), 12);
            prop_assert_eq!(ordered.len(), 12);
            // Without a cycle, every owner comes first.
            let acyclic = edges.iter().all(|(one, other)| one > other);
            if acyclic {
                let place = |item: &ItemId| ordered.iter().position(|other| other == item);
                for (one, other) in &edges {
                    prop_assert!(place(&items[*other]) < place(&items[*one]));
                }
            }
        }
    }
}
